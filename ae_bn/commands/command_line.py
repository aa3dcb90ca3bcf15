"""What the command-line programs share: a mistake gives one line and exit code 2.

Output never makes a program fail.  Characters that a stream cannot show are replaced.  If the
reader leaves early, as ``head`` does, the rest of the output is dropped.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Callable

from ae_bn.errors import UserError
from ae_bn.files import user_path


class _Output(io.FileIO):
    """A standard stream that drops what is written after its reader has left."""

    reader_left = False

    def write(self, data):
        try:
            if not self.reader_left:
                return super().write(data)
        except OSError as error:
            self.reader_left = True
            if not isinstance(error, BrokenPipeError):
                name = "standard output" if self.fileno() == 1 else "standard error"
                raise UserError(f"cannot write to {name}: {error.strerror}") from None
        return len(data)


def nobody_reads() -> bool:
    """Return whether the reader of standard output has left."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return getattr(raw, "reader_left", False)


def _prepare_streams() -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # it is closed, and the next file opened would take its number
            setattr(sys, name, open(os.devnull, "w"))
        elif stream is getattr(sys, f"__{name}__"):  # not a stream that a test has put there
            buffer = io.BufferedWriter(_Output(number, "w", closefd=False))
            at_once = stream.line_buffering or stream.write_through
            prepared = io.TextIOWrapper(buffer, stream.encoding, "replace", line_buffering=at_once)
            setattr(sys, name, prepared)
    os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:replace"  # for workers


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message):
        raise UserError(f"{message}; see --help")


def command_parser(about: str | None) -> OneLineParser:
    """Return the parser of a command whose module has a docstring: its summary, and ``--debug``."""
    parser = OneLineParser(
        description=(about or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser


def path(text: str) -> Path:
    """Return the path that an argument means; the ``type`` of arguments that are paths."""
    try:
        return user_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Raise a UserError for the first of the named options that is less than 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name} {getattr(options, name)}: give 1 or more")


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def run_program(main: Callable[[list], int | None], if_interrupted: str) -> None:
    """Call ``main`` with the arguments of the command line, and exit with what it returns.

    A `UserError` gives one line and exit code 2; with ``--debug`` among the arguments it keeps its
    traceback.  An interruption gives one line and exit code 130, or 143 if it was SIGTERM.

    Parameters
    ----------
    main : callable
        The program.  It takes the arguments, a list of str, and returns an exit code or None for 0.
    if_interrupted : str
        The text that the user sees if the program is interrupted.
    """
    _prepare_streams()
    signal.signal(signal.SIGTERM, _terminate)
    _tolerate_libraries()
    try:
        if sys.flags.optimize > 1:
            raise UserError(
                "Python runs with -OO (PYTHONOPTIMIZE=2), which removes docstrings that Theano "
                "needs: use -O"
            )
        code = main(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        print(f"interrupted: {if_interrupted}", file=sys.stderr)
        sys.exit(143 if isinstance(interruption, Terminated) else 130)


def _tolerate_libraries() -> None:
    """Show the warnings of libraries, which Python raises as errors if it is told to be strict."""
    if any(option.startswith("error") for option in sys.warnoptions):
        others = r"(?!ae_bn\b)"
        warnings.filterwarnings("default", module=others)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=others)


def _terminate(number, frame):
    raise Terminated
