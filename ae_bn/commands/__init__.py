"""The program ``ae-bn``: one module per command, and `main`, which chooses the command.

In a checkout the scripts ``run.py``, ``encode.py`` and ``inspect_model.py`` in ``experiments/`` run
the same commands.
"""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

import ae_bn
from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.theano_setup import require_theano


class Command(NamedTuple):
    """Facts about a command that are needed before its module is imported."""

    about: str  # for the help text
    if_interrupted: str  # what the user sees if the command is interrupted
    needs_theano: bool = True


COMMANDS = {
    "run": Command(
        "train every arm of an experiment, and write its tables",
        "finished work is kept; the same command resumes from there",
    ),
    "fit": Command(
        "choose an encoder for your own text, by comparing a few",
        "finished candidates are kept; the same command resumes from there",
    ),
    "topics": Command(
        "find the topics of your own text", "the same command begins again, in the same folder"
    ),
    "encode": Command("turn raw text into codes", "nothing was written", needs_theano=False),
    "inspect": Command(
        "show what a trained model has learned",
        "units.csv and the pictures written so far are complete",
    ),
    "info": Command(
        "show versions, compiler and BLAS, and measure their speed", "nothing was written"
    ),
}


def main() -> None:
    """Run the command that the first argument of the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        sys.argv[:2] = [f"ae-bn {name}"]  # usage lines show it
        start(name)
    else:
        run_program(_choose, "nothing was written")


def start(name: str) -> None:
    """Run a command with the arguments of the command line, and exit.

    Parameters
    ----------
    name : str
        The name of the command, a key of `COMMANDS`.
    """

    def command(arguments):
        if COMMANDS[name].needs_theano:
            require_theano()
        return importlib.import_module(f"ae_bn.commands.{name}").main(arguments)

    run_program(command, COMMANDS[name].if_interrupted)


def _choose(arguments):
    """Show help or version, or raise a UserError for an unknown command."""
    parser = OneLineParser(
        prog="ae-bn",
        usage="ae-bn COMMAND ...",
        description=ae_bn.__doc__.split("\n\n")[0],
        epilog="ae-bn COMMAND --help shows the options of a command.",
    )
    parser.add_argument("--version", action="version", version=ae_bn.__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.about, add_help=False)
    parser.parse_args(arguments)
