"""Theano's set-up (`ae_bn.theano_setup`), ``python -m ae_bn info`` and the Makefile's guards."""

from __future__ import annotations

import _ctypes
import errno
import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import COMPILER
from theano import config, function, tensor
from theano.link.c import cmodule
from theano.tensor.blas_headers import blas_header_text

from ae_bn import theano_setup
from ae_bn.commands import info
from ae_bn.errors import UserError

ROOT = Path(__file__).parents[1]


def run_python(*arguments, **environment):
    """Run Python as a user would, with no flags but those given."""
    inherited = {name: value for name, value in os.environ.items() if name != "THEANO_FLAGS"}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def shown(code, **environment):
    result = run_python("-c", code, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.split("\n")[:-1]


def assert_one_line_and_exit_code_2(result, words):
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


# ----------------------------------------------------------------------------------- flags

PRINT_FLAGS = (
    "import ae_bn, theano; c = theano.config;"
    "print(c.floatX, c.optimizer_excluding, c.blas__ldflags, c.base_compiledir, sep='\\n')"
)


def test_the_projects_flags_hold_by_default(tmp_path):
    folder = tmp_path / "with space, comma"
    float_type, excluded, blas, compiled = shown(PRINT_FLAGS, AE_BN_CACHE=str(folder))
    assert (float_type, excluded) == ("float32", "local_dot22_to_dot22scalar")
    assert compiled.startswith(str(folder / "theano"))


def test_the_users_flags_win():
    flags = "floatX=float64,blas__ldflags='-lm -lm',optimizer_excluding=fusion"
    assert shown(PRINT_FLAGS, THEANO_FLAGS=flags)[:3] == ["float64", "fusion", "-lm -lm"]


def test_configuring_again_in_a_child_process_changes_nothing():
    code = "import ae_bn, os; print(os.environ['THEANO_FLAGS'])"
    (once,) = shown(code, THEANO_FLAGS="floatX=float64")
    assert once.endswith(",floatX=float64")
    assert shown(code, THEANO_FLAGS=once) == [once]


def test_importing_is_cheap():
    code = "import ae_bn, sys; print({'numpy', 'scipy', 'theano'} & set(sys.modules))"
    assert shown(code) == ["set()"]


def test_theano_imported_before_is_warned_about():
    code = "import theano; import ae_bn"
    late = run_python("-c", code, THEANO_FLAGS="blas__ldflags=-lm")
    assert late.returncode == 0
    assert "theano was imported before ae_bn and keeps floatX=float64" in late.stderr
    users_choice = run_python("-c", code, THEANO_FLAGS="blas__ldflags=-lm,floatX=float64")
    assert (users_choice.returncode, users_choice.stderr) == (0, "")


LOOP = (  # Theano's own, which does not compile with OpenMP
    "from ae_bn.theano_setup import require_compiler, require_theano;"
    "require_theano(); require_compiler();"
    "import numpy, theano.tensor as T; from theano import function; x = T.fmatrix();"
    "print(function([x], 1 + T.exp(x) * x)(numpy.zeros((1, 2), 'f4')))"
)


@pytest.mark.parametrize("entry", ["openmp=True", "device=gpu0", "device = cpu  # a comment"])
def test_entries_of_theanorc_that_cannot_work_are_overruled(entry, tmp_path):
    (tmp_path / "theanorc").write_text(f"[global]\n{entry}\n")
    environment = {"THEANORC": str(tmp_path / "theanorc"), "THEANO_FLAGS": COMPILER}
    result = run_python("-W", "ignore", "-c", LOOP, **environment)
    assert (result.returncode, result.stdout) == (0, "[[1. 1.]]\n"), result.stderr


@pytest.mark.parametrize(
    "theanorc, flags, words",
    [
        ("[global]\nmode = FAST_RUN  # a comment\n", "", "FAST_RUN  # a comment"),
        ("no section = 1\n", "", "no section"),
        ("", "device=gpu0", "GPU back-end"),
        ("", "floatX=float99", "float99"),
        ("", "openmp=True", "openmp=True"),
    ],
)
def test_flags_that_cannot_work_are_told_in_one_line(theanorc, flags, words, tmp_path):
    (tmp_path / "theanorc").write_text(theanorc)
    code = (
        "from ae_bn.commands.command_line import run_program;"
        "from ae_bn.theano_setup import require_theano;"
        "run_program(lambda arguments: require_theano(), '')"
    )
    environment = {"THEANORC": str(tmp_path / "theanorc"), "THEANO_FLAGS": flags}
    result = run_python("-W", "ignore", "-c", code, **environment)
    assert_one_line_and_exit_code_2(result, words)
    assert "THEANO_FLAGS" in result.stderr


NOBODY = (  # what a user sees who is in no list of users
    "import os, pwd; os.environ.pop('HOME', None);"
    "pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid));"
)
COMMAND = (
    "from ae_bn.commands.command_line import run_program;"
    "from ae_bn.theano_setup import require_theano;"
    "run_program(lambda arguments: require_theano(), '')"
)


def test_a_user_without_a_home_directory(tmp_path):
    """Names a folder for the cache, or is asked to; nothing is made here."""
    here = set(os.listdir(ROOT))
    result = run_python("-W", "ignore", "-c", NOBODY + COMMAND)
    assert_one_line_and_exit_code_2(result, "set the environment variable AE_BN_CACHE")
    result = run_python("-W", "ignore", "-c", NOBODY + COMMAND, AE_BN_CACHE=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert set(os.listdir(ROOT)) == here


def test_strict_warnings_do_not_keep_theano_away():
    result = run_python("-c", COMMAND, PYTHONWARNINGS="error")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("LOKY_MAX_CPU_COUNT", "two", "LOKY_MAX_CPU_COUNT=two"),
        ("THEANO_FLAGS", "floatX=float16", "floatX=float16: .* give float32 or float64"),
        (
            "THEANO_FLAGS",
            "blas__ldflags=-lnothing",
            "blas__ldflags=-lnothing: there is no such BLAS",
        ),
        (
            "THEANO_FLAGS",
            "blas__ldflags='-L/my folder -lblas'",
            "blas__ldflags=-L/my folder -lblas: Theano splits this at every blank",
        ),
    ],
)
def test_a_variable_that_cannot_work_is_named(name, value, words):
    code = (
        "from ae_bn.commands.command_line import run_program;"
        "from ae_bn.theano_setup import cpu_count, require_compiler;"
        "run_program(lambda arguments: (cpu_count(), require_compiler()) and None, '')"
    )
    result = run_python("-W", "ignore", "-c", code, **{name: value})
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert re.search(words, result.stderr)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(number, tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    theano_setup.check_locks(tmp_path)
    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match=f"cannot lock files in {tmp_path} .*AE_BN_CACHE"):
        theano_setup.check_locks(tmp_path)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- compiler


def test_a_damaged_module_is_compiled_again(tmp_path):
    modules = {}
    for name in ("whole", "cut", "empty", "text", "unfinished"):
        folder = tmp_path / name
        folder.mkdir()
        modules[name] = folder / "m0.so"
        shutil.copy(_ctypes.__file__, modules[name])
        if name != "unfinished":  # another process is writing it
            (folder / "key.pkl").touch()
    content = modules["whole"].read_bytes()
    modules["cut"].write_bytes(content[:-1])
    modules["unfinished"].write_bytes(content[:2000])
    modules["empty"].write_bytes(b"")
    modules["text"].write_bytes(b"no library" * 100)
    theano_setup._drop_damaged_modules(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "unfinished"}


def test_a_key_is_whole_at_every_moment(tmp_path):
    """Theano deletes a module whose key is cut, even if another process is just writing it."""
    theano_setup.require_compiler()
    path = tmp_path / "key.pkl"
    key = cmodule.KeyData({"a key"}, "hash", str(path), str(tmp_path / "m.so"))
    key.save_pkl()
    read = []

    class SeenWhileWritten:
        def __reduce__(self):
            read.append(pickle.loads(path.read_bytes()).keys)
            return str, ("another key",)

    key.keys = [SeenWhileWritten()]
    key.save_pkl()
    assert read == [{"a key"}] and pickle.loads(path.read_bytes()).keys == ["another key"]


def test_compiled_functions_keep_special_values(optimized):
    values = np.array([np.nan, np.inf, -np.inf, 1e-40, 0, -1, 3, 88, -200, 1e30], "float32")
    values = np.tile(values, 10)  # long enough to be computed in vectors
    x = tensor.fvector()
    for name in ("exp", "log", "tanh", "sqrt", "isnan", "isinf"):
        computed = function([x], getattr(tensor, name)(x))(values)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(computed, getattr(np, name)(values), rtol=1e-6)
    assert function([x], x * 1.5)(values)[3] > 0  # denormal numbers are not zero


def test_a_scaled_product_is_not_computed_twice():
    x, y = tensor.fmatrices("x", "y")
    product = tensor.dot(x, y)
    nodes = function([x, y], [product, 2 * product]).maker.fgraph.apply_nodes
    assert sum("Dot22" in str(node.op) for node in nodes) == 1


@pytest.mark.parametrize("environment", [{"THEANO_FLAGS": "cxx="}, {"PATH": ""}])
def test_no_compiler_is_told_in_one_line(environment):
    result = run_python("-m", "ae_bn", "info", **environment)
    assert_one_line_and_exit_code_2(result, "no working C++ compiler")


TRAIN = """
from ae_bn.config import load_config
from ae_bn.model.autoencoder import Autoencoder
Autoencoder(load_config().model, "adam", 9, "{kernels}")
"""
RETRIEVE = """
import numpy
from ae_bn.evaluation.codes import precision_at
from ae_bn.evaluation.probes import Split
precision_at(*[Split(numpy.eye(4, dtype="f4"), numpy.arange(4))] * 2)
"""


@pytest.mark.parametrize(
    "code, flags",
    [
        (TRAIN.format(kernels="fused"), "cxx=,mode=FAST_COMPILE"),
        (TRAIN.format(kernels="symbolic"), "cxx="),
        (RETRIEVE, "cxx=,mode=FAST_COMPILE"),
    ],
)
def test_nothing_is_computed_without_a_compiler(code, flags):
    """Kernels have no version in Python, and the symbolic graph would take many times longer."""
    program = (
        "from ae_bn.commands.command_line import run_program;"
        f"run_program(lambda arguments: exec({code!r}), '')"
    )
    result = run_python("-c", program, THEANO_FLAGS=flags)
    assert_one_line_and_exit_code_2(result, "no working C++ compiler")


def test_an_unusable_cache_is_told_in_one_line():
    result = run_python("-m", "ae_bn", "info", AE_BN_CACHE=os.devnull + "/cache")
    assert_one_line_and_exit_code_2(result, "AE_BN_CACHE")


# ------------------------------------------------------------------------------------ BLAS


def test_the_wheel_of_openblas_is_linked():
    if not importlib.util.find_spec("scipy_openblas32"):
        pytest.skip("no wheel of OpenBLAS for this platform")
    flags = re.fullmatch(r"-L(\S+) -lscipy_openblas -include(\S+)", theano_setup.blas_flags())
    assert Path(flags[1], "libscipy_openblas.so").is_file() and Path(flags[2]).is_file()


def test_every_function_of_blas_that_theano_declares_is_renamed():
    header = theano_setup.OPENBLAS_NAMES.read_text(encoding="utf-8")
    renamed = re.findall(r"^#define (\w+) scipy_\1$", header, re.MULTILINE)
    declared = set(re.findall(r"\b(\w+_)\s*\(", blas_header_text()))
    assert len(declared) > 100
    wrappers = {name for name in declared if name.endswith("_sub_")}  # in no library
    threads = {"openblas_get_num_threads", "openblas_set_num_threads"}
    assert set(renamed) == declared - wrappers | threads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_matrices_and_vectors_equal_numpys(dtype):
    random = np.random.RandomState(0)
    values = [random.randn(*shape).astype(dtype) for shape in ((5, 7), (7, 6), (5, 6), (7,), (5,))]
    A, B, C, v, w = (tensor.TensorType(dtype, [False] * value.ndim)() for value in values)

    def products(dot, outer, A, B, C, v, w):
        matrices = [dot(A, B), C - 2 * dot(A * A, B), A + outer(w, v)]
        return [*matrices, dot(A, v), w - 2 * dot(A * A, v), dot(v, v)]

    compiled = function([A, B, C, v, w], products(tensor.dot, tensor.outer, A, B, C, v, w))
    ops = " ".join(str(node.op) for node in compiled.maker.fgraph.apply_nodes)
    for name in ("Dot22", "Gemm", "CGemv", "CGer"):
        assert name in ops
    for found, expected in zip(compiled(*values), products(np.dot, np.outer, *values)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "flags, core",
    [
        ("sse2", None),
        ("avx2 fma sse2", "Haswell"),
        ("avx2 fma avx512f", "Haswell"),
        ("avx2 fma avx512f avx512dq avx512bw avx512vl amx_tile", "SkylakeX"),
    ],
)
def test_openblas_is_told_the_processor(flags, core, monkeypatch):
    monkeypatch.setattr(theano_setup, "_cpu_fields", lambda: {"flags": flags})
    assert theano_setup.openblas_core() == core


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_linked_blas_is_the_one_in_use():
    library = re.search(r"-l(\S*openblas\S*)", config.blas__ldflags)
    if not library:
        pytest.skip("no OpenBLAS to link to")
    used = info.describe()["BLAS"]
    assert f"lib{library.group(1)}.so" in used
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    compiled = [Path(file) for file in loaded if file.startswith(config.compiledir)]
    assert any(library.group(1).encode() in file.read_bytes() for file in compiled)


def test_the_report_names_what_is_in_force():
    result = run_python("-m", "ae_bn", "info")
    assert (result.returncode, result.stderr) == (0, "")
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines())
    assert rows["floatX"] == "float32"
    assert rows["Python"].startswith("3.")
    assert re.fullmatch(r"Theano \d+ GFLOP/s, NumPy \d+ GFLOP/s", rows["product of 1000x1000"])
    without = run_python("-m", "ae_bn", "info", THEANO_FLAGS="blas__ldflags=")
    assert re.search("^BLAS +NumPy's", without.stdout, re.MULTILINE)


# -------------------------------------------------------------------------------- Makefile


@pytest.fixture
def make(tmp_path):
    """Return a function that runs make in a checkout without .venv."""
    if not shutil.which("make"):
        pytest.skip("no make")
    for name in ("Makefile", "make_venv.sh", "setup.py", "constraints.txt"):
        shutil.copy(str(ROOT / name), str(tmp_path))
    shutil.copytree(str(ROOT / "configs"), str(tmp_path / "configs"))

    def run(*arguments):
        environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        return subprocess.run(
            ["make", *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
        )

    return run


@pytest.fixture
def python_of(tmp_path):
    """Return a function that makes a Python which claims to be of a version."""

    def write(version):
        path = tmp_path / "python"
        claim = f"import sys; sys.version_info = {version}; exec(sys.argv[2])"
        path.write_text(
            f'#!/bin/sh\nif [ "$1" = -m ]; then echo makes: "$@"; exit 3; fi\n'
            f"exec '{sys.executable}' -c '{claim}' \"$@\"\n"
        )
        path.chmod(0o755)
        return f"PYTHON={path}"

    return write


def test_make_without_a_target_lists_every_target(make):
    targets = re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"help", "setup", "test", "reproduce"} <= set(targets)
    assert re.findall(r"^make (\S+) +\S", make().stdout, re.MULTILINE) == targets


def assert_make_says_one_thing(done, words):
    """Only make's own line stands below it."""
    assert done.returncode == 2 and done.stdout == ""
    advice, of_make = done.stderr.splitlines()
    assert words in advice and of_make.startswith("make: *** ")


def test_make_names_a_python_that_does_not_suit(make, python_of, tmp_path):
    """And leaves the environment that is there as it is."""
    (tmp_path / ".venv").mkdir()
    for python in ("PYTHON=/nonexistent", python_of((3, 12)), python_of((3, 7))):
        assert_make_says_one_thing(make("test", python), python)
    assert (tmp_path / ".venv").exists()


def test_make_takes_a_python_that_suits(make, python_of, tmp_path):
    for version in ((3, 8), (3, 11)):
        (tmp_path / ".venv").mkdir()
        assert make("test", python_of(version)).stdout == "makes: -m venv .venv\n"
        assert not (tmp_path / ".venv").exists()


@pytest.fixture
def only_python_3_13(tmp_path, monkeypatch):
    """Leave a Python that claims to be 3.13, and what make needs, on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("make", "sh", "rm"):
        (folder / name).symlink_to(shutil.which(name))
    python = folder / "python3.13"
    claim = "import sys; sys.version_info = (3, 13); exec(sys.argv[1])"
    # As `python -m venv build/uv` it makes an environment in which pip and uv work as told.
    python.write_text(
        f"""#!/bin/sh
if [ "$1" = -c ]; then exec '{sys.executable}' -c '{claim}' "$2"; fi
"{shutil.which("mkdir")}" -p build/uv/bin
echo "echo pip: \\"\\$@\\"" > build/uv/bin/python
printf 'echo uv: "$@" >&2; exit 2\n' > build/uv/bin/uv
"{shutil.which("chmod")}" +x build/uv/bin/*
"""
    )
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_make_has_a_later_python_install_uv_which_gets_one(make, only_python_3_13):
    done = make("setup")
    assert "pip: -m pip install --quiet --constraint constraints.txt uv" in done.stdout
    assert "uv: venv --quiet --seed --python 3.11 .venv" in done.stderr
    # Only when that fails, the advice.
    assert done.returncode == 2
    assert "uv could not get Python 3.11: install one (apt-get install" in done.stderr


def test_make_takes_uv_if_it_is_there(make, only_python_3_13):
    uv = only_python_3_13 / "uv"
    uv.write_text('#!/bin/sh\necho uv: "$@"; exit 2\n')
    uv.chmod(0o755)
    done = make("setup")
    assert "uv: venv --quiet --seed --python 3.11 .venv" in done.stdout
    assert "pip" not in done.stdout and "uv could not get Python 3.11" in done.stderr


def test_make_without_any_python_gives_advice(make, only_python_3_13):
    (only_python_3_13 / "python3.13").unlink()
    words = "no working Python 3.8 to 3.11 with venv found: install one"
    assert_make_says_one_thing(make("setup"), words)


def test_make_finds_a_new_experiment_by_itself(make, python_of, tmp_path):
    config = tmp_path / "configs" / "mine.yaml"
    config.write_text("experiment:\n  question: Does it matter?\n")
    assert "\n  mine                 Does it matter?\n" in make("help").stdout
    *_, command = make("-n", "mine", python_of((3, 11))).stdout.splitlines()
    assert "--config configs/mine.yaml --out results" in command
    config.unlink()
    assert "mine" not in make("help").stdout


def test_make_passes_on_only_what_the_user_set(make, python_of):
    python = python_of((3, 11))
    *_, plain = make("-n", "core", python).stdout.splitlines()
    assert "--config configs/core.yaml --out results" in plain
    assert not re.search("--seeds|--jobs|--set", plain)
    variables = ["SEEDS=1,2", "JOBS=3", "SET=a=1 b=2", "OUT=elsewhere"]
    *_, given = make("-n", "core", python, *variables).stdout.splitlines()
    assert given.endswith("--out elsewhere  --seeds 1,2 --jobs 3 --set a=1 b=2")
