"""Show versions, compiler, flags and BLAS, and measure their speed.

From the command line::

    ae-bn info
    python -m ae_bn info

Exit code 2: there is no compiler or no cache directory, and one line says so.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path

from ae_bn.commands.command_line import command_parser
from ae_bn.files import cache_directory
from ae_bn.theano_setup import cpu_count, cpu_name, require_compiler, theano_flags


def main(arguments: list[str]) -> None:
    """Print the description as a table."""
    command_parser(__doc__).parse_args(arguments)
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
    flags = {name: str(getattr(theano.config, name)) for name in theano_flags()}
    return {
        "Python": f"{platform.python_version()} ({sys.executable})",
        "Theano": theano.__version__,
        "NumPy": numpy.__version__,
        "SciPy": scipy.__version__,
        "processor": f"{cpu_name()}, {os.cpu_count()} cores",
        "compiler": f"{compiler} ({theano.config.cxx})",
        **flags,
        "BLAS": _linked_blas(),
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


def _compiled_product():
    """Return a compiled Theano function that multiplies two matrices."""
    require_compiler()
    import theano
    from theano import tensor

    left, right = tensor.matrices("left", "right")
    return theano.function([left, right], tensor.dot(left, right))


def _linked_blas() -> str:
    """Return the path and version of the BLAS that compiled products call."""
    import theano
    from threadpoolctl import threadpool_info

    flags = theano.config.blas__ldflags
    if not flags:
        return "NumPy's, through its C interface"
    _compiled_product()  # loads it
    names = tuple(f"lib{name}." for name in re.findall(r"-l:?(?:lib)?([^\s.]+)", flags))
    for pool in threadpool_info():
        if Path(pool["filepath"]).name.startswith(names):
            version, kernels = pool["version"], pool.get("architecture", "unknown")
            return f"{pool['filepath']} (version {version}, kernels for {kernels})"
    return flags
