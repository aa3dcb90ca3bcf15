"""What the command-line programs share: mistakes are told in one line, with exit code 2."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Callable

from ae_bn.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        raise UserError(f"{message}; see --help")


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Raise a UserError for the first of some whole numbers that is less than 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: give 1 or more")


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def run_program(main: Callable[[list], int | None], if_interrupted: str) -> None:
    """Call ``main`` with the arguments of the command line, and exit with what it returns.

    A `UserError` becomes one line and exit code 2 (with ``--debug`` among the arguments it keeps
    its traceback), an interruption one line and exit code 130, or 143 if it was SIGTERM.

    Parameters
    ----------
    main : function of a list of str
        Returns an exit code, or None for 0.
    if_interrupted : str
        What the user should know then.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        print(f"interrupted: {if_interrupted}", file=sys.stderr)
        sys.exit(143 if isinstance(interruption, Terminated) else 130)


def _terminate(number, frame):
    raise Terminated
