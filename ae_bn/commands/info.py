"""Show what computes here: versions, compiler, flags and BLAS, and their speed.

From the command line::

    ae-bn info
    python -m ae_bn

Exit code 2: there is no compiler or no cache directory, and one line says so.
"""

from __future__ import annotations

from ae_bn.backend import describe, measure_product
from ae_bn.command_line import OneLineParser


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
