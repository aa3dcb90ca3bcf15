"""``python -m ae_bn``: show what computes here, and how fast."""

from __future__ import annotations

import sys

from ae_bn.backend import describe, measure_product
from ae_bn.command_line import run_program
from ae_bn.errors import UserError


def main() -> int:
    """Print the description as a table; return the exit code, 2 for a `UserError`."""
    try:
        lines = describe()
        speeds = measure_product()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    shown = ", ".join(f"{name} {speed:.0f} GFLOP/s" for name, speed in speeds.items())
    lines["product of 1000x1000"] = shown
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")
    return 0


if __name__ == "__main__":
    run_program(lambda arguments: main(), "nothing was changed")
