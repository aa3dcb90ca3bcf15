"""The package as it is installed: a wheel in an empty environment, away from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import COMPILER

ROOT = Path(__file__).resolve().parent.parent
FIT = """
import ae_bn
from ae_bn import BatchNormAutoencoder
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

texts = ["gulls and herons", "herons wade", "ships sail", "ships and gulls"] * 10
estimator = BatchNormAutoencoder([3], epochs=2, random_state=1)
codes = make_pipeline(TfidfVectorizer(), estimator).fit(texts).transform(texts)
assert codes.shape == (40, 3) and codes.any()
print(ae_bn.__file__)
"""
ENCODE = """
import json, sys
from importlib.util import find_spec
import numpy as np
from ae_bn import Encoder

model, text = sys.argv[1:]
codes = Encoder.load(model).transform(open(text, encoding="utf-8").readlines())
missing = [name for name in ("theano", "sklearn", "matplotlib") if find_spec(name) is None]
print(json.dumps([np.__version__, missing, codes.tolist()]))
"""
# Of this process's settings an installed package has only how the compiler is called.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
ENVIRONMENT["THEANO_FLAGS"] = COMPILER
INSTALL = ["install", "--quiet", "--no-compile"]  # little of it is imported
LINES = "ax bx common words\nay by cy\n\nunknown\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel, built from a copy of the sources so that no older build is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "ae_bn", folder / "ae_bn", ignore=shutil.ignore_patterns("__pycache__"))
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    pip(sys.executable, *build, folder)
    (path,) = folder.glob("*.whl")
    return path


def pip(python, *arguments):
    """Have this environment's pip work in another; what it says is shown with a failing test."""
    command = [sys.executable, "-m", "pip", "--python", python, *arguments]
    subprocess.run([*map(str, command)], check=True)


def empty_environment(folder: Path, python: str) -> str:
    """Make an environment with nothing in it, and return its Python."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / "bin" / "python")


def run(python: str, program: str, folder: Path, *arguments: str) -> str:
    """Return what a program prints that sees nothing of this process's packages or folder."""
    done = subprocess.run(
        [python, "-I", "-c", program, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_has_every_file_of_the_package(wheel):
    package = ROOT / "ae_bn"
    files = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == files


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the Python of an empty environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    python = empty_environment(folder / "environment", sys.executable)
    pip(python, *INSTALL, "--constraint", ROOT / "constraints.txt", wheel)
    return python


@pytest.fixture(scope="module")
def model(installed, folder, tmp_path_factory):
    """Return a folder with the results of ``ae-bn run``, and the codes of ``ae-bn encode``."""
    out = tmp_path_factory.mktemp("results")
    (out / "small.yaml").write_text(
        f"data: {{source: folder, folder: {folder}}}\nmodel: {{layers: [5]}}\n"
        "training: {batch_size: 10, epochs: 2}\nexperiment: {name: small, references: []}\n"
    )
    (out / "lines.txt").write_text(LINES)
    program = str(Path(installed).with_name("ae-bn"))
    for arguments in (
        ["run", "--config", "small.yaml", "--seeds", "1", "--out", "out"],
        ["encode", "--model", "RUN", "--text", "lines.txt", "--out", "codes.csv"],
    ):
        arguments = [next(out.glob("out/runs/*")) if a == "RUN" else a for a in arguments]
        done = subprocess.run(
            [program, *arguments], cwd=out, env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    return out


@pytest.mark.long
def test_the_estimator_fits_and_encodes(installed, tmp_path):
    assert str(Path(installed).parent.parent) in run(installed, FIT, tmp_path)


@pytest.mark.long
def test_the_program_trains_and_encodes(model):
    codes = np.loadtxt(model / "codes.csv", delimiter=",", skiprows=1)[:, 1:]
    assert codes.shape == (4, 5) and codes.any()


@pytest.mark.long
def test_a_later_python_encodes_without_theano(wheel, model, tmp_path):
    python = later_python()
    if python is None:
        pytest.skip("no Python 3.12 or later")
    python = empty_environment(tmp_path / "environment", python)
    pip(python, *INSTALL, wheel)
    file, lines = next(model.glob("out/runs/*/model.safetensors")), model / "lines.txt"
    numpy, missing, codes = json.loads(run(python, ENCODE, tmp_path, str(file), str(lines)))
    assert numpy.startswith("2.") and missing == ["theano", "sklearn", "matplotlib"]
    expected = np.loadtxt(model / "codes.csv", delimiter=",", skiprows=1)[:, 1:]
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-6)


def later_python() -> str | None:
    """Return the newest Python from 3.12 on that is on the path or among those of pyenv."""
    names = [f"python3.{minor}" for minor in (14, 13, 12)]
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python"), reverse=True)
    for name in [*names, *map(str, pyenv)]:
        try:
            subprocess.run([name, "-c", "import ensurepip, venv"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return name
    return None
