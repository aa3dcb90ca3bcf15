"""The package as it is installed: a wheel in an empty environment, away from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON_3_11 = """
from pathlib import Path
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel, built from a copy of the sources so that no older build is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "ae_bn", folder / "ae_bn", ignore=shutil.ignore_patterns("__pycache__"))
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), folder)
    (path,) = folder.glob("*.whl")
    return path


def pip(python, *arguments):
    """Run pip in an environment; what it says is shown with a failing test."""
    subprocess.run([python, "-m", "pip", *map(str, arguments)], check=True)


def empty_environment(folder: Path, python: str) -> str:
    """Make an environment of pip alone, and return its Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    return str(folder / "bin" / "python")


def run(python: str, program: str, folder: Path, *arguments: str) -> str:
    """Return what a program prints that sees nothing of this process's packages or folder."""
    done = subprocess.run(
        [python, "-I", "-c", program, *arguments],
        cwd=folder,
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


@pytest.mark.long
def test_a_wheel_trains_and_encodes(wheel, tmp_path):
    python = empty_environment(tmp_path / "empty", sys.executable)
    pip(python, "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    assert str(tmp_path / "empty") in run(python, PYTHON_3_11, tmp_path)
