"""Show versions, compiler, flags and BLAS, and measure their speed.

From the command line::

    ae-bn info
    python -m ae_bn info

Exit code 2: there is no compiler or no cache directory, and one line says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from functools import lru_cache

from ae_bn.commands.command_line import OneLineParser
from ae_bn.files import cache_directory
from ae_bn.theano_setup import (
    OPENBLAS_NAMES,
    cpu_count,
    cpu_name,
    require_compiler,
    theano_flags,
)


def main(arguments: list[str]) -> None:
    """Print the description as a table."""
    parser = OneLineParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    parser.parse_args(arguments)
    lines = describe()
    shown = ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in measure_product().items())
    lines["product of 1000x1000"] = shown
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")


def describe() -> dict[str, str]:
    """Describe the machine's software: versions, compiler, flags and the BLAS really in use.

    Returns
    -------
    dict of str to str
        Names and values in the order in which to show them.

    Raises
    ------
    UserError
        If there is no compiler or no cache directory, see `require_compiler`.
    """
    compiler = require_compiler()
    import numpy
    import scipy
    import theano

    from ae_bn.model.fused import missing_here

    cache = cache_directory()
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    library = _linked_blas()
    flags = {name: str(getattr(theano.config, name)) for name in theano_flags()}
    return {
        "Python": f"{platform.python_version()} ({sys.executable})",
        "Theano": theano.__version__,
        "NumPy": numpy.__version__,
        "SciPy": scipy.__version__,
        "processor": f"{cpu_name()}, {os.cpu_count()} cores",
        "compiler": f"{compiler} ({theano.config.cxx})",
        **flags,
        "BLAS": library,
        "kernels": "; ".join(["fused", *missing_here()]),
        "threads": os.environ.get("OMP_NUM_THREADS") or f"{cpu_count()}, all cores",
        "cache": f"{cache} ({size / 1e6:.0f} MB)",
    }


def measure_product(size: int = 1000) -> dict[str, float]:
    """Time a product of two square matrices of floatX.

    Parameters
    ----------
    size : int
        The number of rows and columns of the matrices.

    Returns
    -------
    dict of str to float
        The best of ten speeds in GFLOP/s, for Theano and for NumPy.

    Raises
    ------
    UserError
        If there is no compiler or no cache directory, see `require_compiler`.
    """
    import numpy
    import theano

    matrix = numpy.random.RandomState(0).rand(size, size).astype(theano.config.floatX)
    products = {"Theano": _compiled_product(), "NumPy": numpy.dot}
    return {name: _gflops(product, matrix) for name, product in products.items()}


def _gflops(product, matrix) -> float:
    product(matrix, matrix)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(matrix, matrix)
        seconds.append(time.perf_counter() - start)
    return 2 * len(matrix) ** 3 / min(seconds) / 1e9


@lru_cache(maxsize=None)
def _compiled_product():
    """Return a compiled Theano function that multiplies two matrices."""
    require_compiler()
    import theano
    from theano import tensor

    left, right = tensor.matrices("left", "right")
    return theano.function([left, right], tensor.dot(left, right))


def _linked_blas() -> str:
    """Return the path and version of the BLAS that compiled products really call."""
    import theano
    from theano.link.c.basic import get_module_cache
    from threadpoolctl import threadpool_info

    _compiled_product()
    symbol = "sgemm_" if theano.config.floatX == "float32" else "dgemm_"
    if OPENBLAS_NAMES.name in theano.config.blas__ldflags:
        symbol = f"scipy_{symbol}"
    modules = get_module_cache().module_from_name.values()
    found = filter(None, (_library_of(symbol, module.__file__) for module in modules))
    path = next(found, None)
    if path is None:
        return "NumPy's, through its C interface"
    for pool in threadpool_info():
        if os.path.realpath(pool["filepath"]) == path:
            return f"{path} (version {pool['version']}, kernels for {pool['architecture']})"
    return path


def _library_of(symbol: str, module: str) -> str | None:
    """Return the file of the shared library in which ``module`` finds ``symbol``."""

    class Found(ctypes.Structure):
        _fields_ = [
            ("file", ctypes.c_char_p),
            ("base", ctypes.c_void_p),
            ("symbol", ctypes.c_char_p),
            ("address", ctypes.c_void_p),
        ]

    found = Found()
    try:
        function = getattr(ctypes.CDLL(module), symbol)
    except AttributeError:
        return None
    ctypes.CDLL(None).dladdr(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(found))
    return os.path.realpath(os.fsdecode(found.file))
