"""Theano's set-up: its flags, its BLAS and its compiler.

`configure` runs when ``ae_bn`` is imported, before Theano is imported.  It puts the project's flags
into the environment variable ``THEANO_FLAGS``.  Flags that the user has set there stay, and each
replaces the project's flag of the same name.  ``~/.theanorc`` decides only flags that are not set
here.  `require_theano` raises an error of one line if Theano cannot be imported with these flags.
``ae-bn info`` shows the flags in force.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import pickle
import platform
import re
import shlex
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from contextlib import suppress
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from ae_bn.errors import UserError
from ae_bn.files import atomic_write, cache_directory

OPENBLAS_NAMES = Path(__file__).with_name("scipy_openblas.h")


def configure() -> None:
    """Set ``THEANO_FLAGS``; the user's own entries come last and take precedence.

    If Theano is already imported, a warning names the flags that differ.  If Theano is not
    installed, nothing is set.
    """
    if not has_theano():
        return
    if "theano" in sys.modules:
        _warn_if_too_late()
        return
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads of GNU's OpenMP wait for each other by spinning for some milliseconds.  Beside
        # other programs this made a training step ten times longer.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Theano's own code is deprecated in places, which Python hides unless it is asked to be strict.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"theano\b")
    if os.path.expanduser("~") == "~":  # Theano does not start without a home directory
        with suppress(UserError):
            os.environ["HOME"] = str(cache_directory())
    core = openblas_core()
    if core:
        os.environ.setdefault("OPENBLAS_CORETYPE", core)
    for name in ("theano.configdefaults", "theano.tensor.blas"):
        logging.getLogger(name).addFilter(_worth_telling)
    ours = ",".join(f"{name}={shlex.quote(value)}" for name, value in theano_flags().items())
    users = os.environ.get("THEANO_FLAGS", "")
    if not users.startswith(ours):  # a child process inherits the flags of its parent
        os.environ["THEANO_FLAGS"] = f"{ours},{users}".rstrip(",")


def has_theano() -> bool:
    """Return whether Theano is installed; an installation of the encoder alone lacks it."""
    return importlib.util.find_spec("theano") is not None


def require_theano() -> None:
    """Import Theano, or raise an error of one line.

    Raises
    ------
    UserError
        If Theano is not installed, if it cannot work with a flag that the user has set, or if the
        cache directory cannot be used.
    """
    if not has_theano():
        raise UserError(
            f"training needs Theano, which is not installed (this is Python "
            f"{platform.python_version()}): install ae_bn with a Python from 3.8 to 3.11; to "
            "encode text with a trained model, ae_bn.Encoder is enough"
        )
    cache_directory()
    try:
        import theano
    except Exception as error:  # a flag may be anything, and so may be what Theano raises
        reason = f"{type(error).__name__} {error}".strip()
        raise UserError(
            f"Theano cannot be imported ({reason}): correct its flags in THEANO_FLAGS or "
            "~/.theanorc, or, where it is a warning, Python's in PYTHONWARNINGS or -W"
        ) from error
    if theano.config.openmp:
        raise UserError(
            "openmp=True: Theano's own loops do not compile with it: remove it from THEANO_FLAGS "
            "(the kernels use all cores anyway)"
        )


def theano_flags() -> dict[str, str]:
    """Return the flags the project sets, by name."""
    flags = {
        "floatX": "float32",
        # Theano-PyMC 1.1.2 has no other device, and its loops do not compile with OpenMP.
        "device": "cpu",
        "openmp": "False",
        "blas__ldflags": blas_flags(),
        "gcc__cxxflags": " ".join(compiler_flags()),
        # This rewrite folds a factor into a matrix product.  If the product is used elsewhere too,
        # it is then computed twice: a step of Adam with Batch Normalization had seven instead of
        # five products.
        "optimizer_excluding": "local_dot22_to_dot22scalar",
    }
    try:
        flags["base_compiledir"] = str(compile_directory())
    except UserError:
        pass  # an import must not fail; `require_compiler` raises the error again
    return flags


def blas_flags() -> str:
    """Return the linker's flags for a BLAS, or "" to use NumPy's through its C interface.

    It is the OpenBLAS of the wheel scipy-openblas32, whose functions are called ``scipy_sgemm_``,
    ...; a header renames the calls.  Theano adds the folder to the search path of the compiled
    code.  macOS has its own BLAS.
    """
    if sys.platform == "darwin":
        return "-lblas"
    wheel = importlib.util.find_spec("scipy_openblas32")
    if wheel is None or wheel.origin is None:
        return ""
    folder = Path(wheel.origin).with_name("lib")
    return f"-L{folder} -lscipy_openblas -include{OPENBLAS_NAMES}"


def compiler_flags() -> list[str]:
    """Return the flags of the C++ compiler.

    ``-D__FAST_MATH__`` only makes the C library declare its vectorised exp, log, tanh, ... These
    are five to thirty times faster and exact up to a few units in the last place.  The option
    ``-ffast-math`` must not be used: it breaks ``isnan`` and makes the whole process round
    denormal numbers to zero.
    """
    flags = ["-O3", "-g0", "-Wno-c++11-narrowing"]  # Theano's own -g makes compiling slower
    if sys.platform == "linux" and platform.machine() == "x86_64":
        flags += ["-march=native", "-fno-trapping-math", "-D__FAST_MATH__"]
    return flags


def compile_directory() -> Path:
    """Return the folder for compiled code, which is different for each kind of processor.

    Code compiled with ``-march=native`` does not run on every machine that shares the home
    directory.  Theano itself separates the versions of Python.

    Raises
    ------
    UserError
        If the cache directory cannot be used.
    """
    fields = _cpu_fields()
    name = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
    return cache_directory("theano", f"{name}-{_digest(fields.get('flags', ''))}")


def cpu_name() -> str:
    """Return the name of the processor, or of its architecture if the name is unknown."""
    return _cpu_fields().get("model name") or platform.machine()


def cpu_count() -> int:
    """Return the number of processors that this process may use.

    Raises
    ------
    UserError
        If the environment variable ``LOKY_MAX_CPU_COUNT`` is not a number.
    """
    import joblib

    try:
        return joblib.cpu_count()
    except ValueError:
        value = os.environ.get("LOKY_MAX_CPU_COUNT")
        raise UserError(
            f"LOKY_MAX_CPU_COUNT={value}: this is not a number: correct or unset this environment "
            "variable"
        ) from None


def openblas_core() -> str | None:
    """Return OpenBLAS's name for the oldest processor with the same vector instructions.

    An OpenBLAS that is older than the processor does not know it and treats it as a Pentium 4.  A
    matrix product then took four times as long.  The OpenBLAS in NumPy's wheel is from 2022.
    """
    flags = set(_cpu_fields().get("flags", "").split())
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "SkylakeX"
    return "Haswell" if {"avx2", "fma"} <= flags else None


@lru_cache(maxsize=None)
def _cpu_fields() -> dict[str, str]:
    """Return Linux's description of the first processor; empty on other systems."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            pairs = [line.split(":", 1) for line in takewhile(str.strip, file)]
    except OSError:
        return {}
    return {pair[0].strip(): pair[-1].strip() for pair in pairs}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _worth_telling(record: logging.LogRecord) -> bool:
    """Drop two warnings of Theano.

    One says that a compiler is missing, for which `require_compiler` raises an error.  The other
    says that a BLAS is missing where the name of its file ends in a version, as those of MKL do.
    """
    unheard = ("g++ not detected", "We did not find a dynamic library in the library_dir")
    return not record.getMessage().startswith(unheard)


def _warn_if_too_late() -> None:
    import theano
    from theano.configparser import parse_config_string

    users = parse_config_string(os.environ.get("THEANO_FLAGS", ""), issue_warnings=False)
    ours = theano_flags()
    differing = [
        f"{name}={getattr(theano.config, name)}"
        for name in ("floatX", "blas__ldflags")
        if name not in users and getattr(theano.config, name) != ours[name]
    ]
    if differing:
        warnings.warn(
            f"theano was imported before ae_bn and keeps {', '.join(differing)}: "
            "import ae_bn first",
            stacklevel=4,
        )


@lru_cache(maxsize=None)
def require_compiler() -> str:
    """Return the first line of the C++ compiler's ``--version``, or raise an error.

    Code that compiles a Theano function calls this first, because without a compiler Theano would
    fall back to Python, which is many times slower.

    Raises
    ------
    UserError
        If the compiler is missing or does not run, if Python's header files or the BLAS that the
        user names are missing, if floatX is neither float32 nor float64, or if the cache directory
        cannot be used.
    """
    import theano

    if theano.config.floatX not in ("float32", "float64"):
        raise UserError(
            f"floatX={theano.config.floatX}: Theano cannot train with it: give float32 or float64 "
            "in THEANO_FLAGS or ~/.theanorc"
        )
    check_locks(compile_directory())
    _drop_damaged_modules(Path(theano.config.compiledir))
    _let_modules_be_found()
    _write_keys_atomically()
    compiler = theano.config.cxx
    try:
        run = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"no working C++ compiler ({compiler or 'g++'}), which Theano needs: install one with "
            "'apt-get install g++' (Debian, Ubuntu), 'xcode-select --install' (macOS) or "
            "'conda install gxx'"
        ) from error
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        raise UserError(
            f"no header files of Python ({header}), which Theano needs: install them with "
            f"'apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-dev' "
            "(Debian, Ubuntu) or use another Python"
        )
    _check_blas(compiler)
    return run.stdout.partition("\n")[0]


def _check_blas(compiler: str) -> None:
    """Raise a UserError if Theano or the compiler cannot take the flags of the BLAS."""
    import theano

    flags = theano.config.blas__ldflags
    if not all(part.startswith("-") for part in flags.split()):
        raise UserError(
            f"blas__ldflags={flags}: Theano splits this at every blank: use folders without blanks "
            "in their paths, or set THEANO_FLAGS=blas__ldflags= to compute more slowly"
        )
    if flags in ("", blas_flags()):
        return
    parts = shlex.split(flags)
    parts += [f"-Wl,-rpath,{part[2:]}" for part in parts if part.startswith("-L")]
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, "-shared", "-o", os.path.join(folder, "empty.so"), *parts]
        run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        reason = run.stderr.partition("\n")[0] or "no message"
        raise UserError(
            f"blas__ldflags={flags}: there is no such BLAS ({reason:.200}): correct it in "
            "THEANO_FLAGS or ~/.theanorc, or remove it"
        )


def check_locks(folder: Path) -> None:
    """Raise a UserError if files in a folder cannot be locked, so that nothing waits for a lock.

    On some file systems, such as NFS without its daemon of locks, a lock that cannot be had looks
    like one that another process holds.  A file that is new here is held by no other process.
    """
    from filelock import FileLock, Timeout

    try:
        with tempfile.TemporaryDirectory(prefix=".lock", dir=folder) as own:
            with FileLock(Path(own, "lock"), timeout=0):
                pass
    except (OSError, NotImplementedError, Timeout) as error:
        reason = "its file system has no locks" if isinstance(error, Timeout) else error
        raise UserError(
            f"cannot lock files in {folder} ({reason}): use a folder on another file system, with "
            "--out for results, or with the environment variable AE_BN_CACHE for compiled code"
        ) from None


def _drop_damaged_modules(compiledir: Path) -> None:
    """Delete compiled modules that are truncated; Theano then compiles them again.

    A full disk or an interrupted copy leaves such files.  Theano writes ``key.pkl`` last, so no
    other process is still writing to a folder that has it.
    """
    for key in compiledir.glob("*/key.pkl"):
        for library in key.parent.glob("*.so"):
            if _is_damaged(library):
                print(f"compiling {library} again: it is damaged", file=sys.stderr)
                shutil.rmtree(key.parent, ignore_errors=True)


def _is_damaged(library: Path) -> bool:
    """Return whether a file is not in the format ELF, or ends before its table of sections."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return False
    try:
        with open(library, "rb") as file:
            header, size = file.read(64), os.fstat(file.fileno()).st_size
    except OSError:  # another process has deleted it
        return False
    if len(header) < 64 or not header.startswith(b"\x7fELF"):
        return True
    start, entry_size, entries = struct.unpack_from("=40xQ10xHH2x", header)
    return size < start + entry_size * entries


def _let_modules_be_found() -> None:
    """Give two of Theano's Ops a constant version, so that processes share their compiled code.

    The version of one is a salted hash, and an empty ``__props__`` counts as no version.
    """
    from theano.sandbox.rng_mrg import DotModulo
    from theano.tensor.elemwise import DimShuffle

    DimShuffle.c_code_cache_version = lambda op: (1, op.params_type.c_code_cache_version())
    if hasattr(DotModulo, "__props__"):
        del DotModulo.__props__


def _write_keys_atomically() -> None:
    """Have Theano replace a module's ``key.pkl`` instead of writing into it.

    Theano reads these files without a lock, and deletes a module whose file is incomplete.  A file
    is incomplete while another process writes it, or if that process was killed.
    """
    from theano.link.c.cmodule import KeyData

    def save_pkl(key_data):
        with atomic_write(key_data.key_pkl, "wb") as file:
            pickle.dump(key_data, file, protocol=pickle.HIGHEST_PROTOCOL)

    KeyData.save_pkl = save_pkl
