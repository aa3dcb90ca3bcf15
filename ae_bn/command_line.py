"""What the command-line programs share: mistakes are told in one line, with exit code 2."""

from __future__ import annotations

import argparse
import sys
from typing import Callable

from ae_bn.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        raise UserError(f"{message}; see --help")


def run_program(main: Callable[[list], None], if_interrupted: str) -> None:
    """Call ``main`` with the arguments of the command line.

    A `UserError` becomes one line and exit code 2 (with ``--debug`` among the arguments it keeps
    its traceback), an interruption one line and exit code 130.

    Parameters
    ----------
    main : function of a list of str
    if_interrupted : str
        What the user should know then.
    """
    try:
        main(sys.argv[1:])
    except UserError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"interrupted: {if_interrupted}", file=sys.stderr)
        sys.exit(130)
