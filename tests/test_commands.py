"""The program ``ae-bn``: how a command is chosen, and that the scripts are the same."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

import pytest

import ae_bn
from ae_bn import commands, theano_setup

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"


def call(capsys, monkeypatch, *arguments, program=commands.main):
    """Return the exit code and what is printed with some arguments on the command line."""
    monkeypatch.setattr(sys, "argv", ["ae-bn", *arguments])
    with pytest.raises(SystemExit) as exit:
        program()
    return exit.value.code, *capsys.readouterr()


def test_help_names_every_command(capsys, monkeypatch):
    code, overview, _ = call(capsys, monkeypatch, "--help")
    assert code == 0
    for name, command in commands.COMMANDS.items():
        assert f"    {name} " in overview and command.about in overview
        assert importlib.import_module(f"ae_bn.commands.{name}").main.__doc__
        code, out, _ = call(capsys, monkeypatch, name, "--help")
        assert code == 0 and out.startswith(f"usage: ae-bn {name} ")
    assert call(capsys, monkeypatch, "--version")[:2] == (0, f"{ae_bn.__version__}\n")


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "COMMAND"),
        (["rnu"], "invalid choice: 'rnu' (choose from 'run'"),
        (["--config", "x.yaml"], "COMMAND"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_mistakes_are_one_line(capsys, monkeypatch, arguments, words):
    code, out, err = call(capsys, monkeypatch, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and words in err


def test_a_script_is_the_command(capsys, monkeypatch):
    arguments = ["--config", "nowhere.yaml"]
    _, _, expected = call(capsys, monkeypatch, "run", *arguments)
    script = EXPERIMENTS / "run.py"
    program = lambda: runpy.run_path(str(script), run_name="__main__")  # noqa: E731
    code, _, err = call(capsys, monkeypatch, *arguments, program=program)
    assert (code, err) == (2, expected)


def test_without_theano_training_is_refused_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(theano_setup, "has_theano", lambda: False)
    code, out, err = call(capsys, monkeypatch, "run", "--config", "nowhere.yaml")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and "training needs Theano" in err


def test_the_package_is_the_command(capsys, monkeypatch):
    program = lambda: runpy.run_module("ae_bn", run_name="__main__")  # noqa: E731
    code, out, _ = call(capsys, monkeypatch, "--version", program=program)
    assert (code, out) == (0, f"{ae_bn.__version__}\n")


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--config", "C", "--out", LONG],
        ["run", "--config", LONG],
        ["run", "--config", "C", "--set", "data.source=folder", f"data.folder={LONG}"],
        ["run", "--config", "C", "--set", "data.source=table", f"data.file={LONG}.csv"],
        ["run", "--config", "C", "--set", "data.source=matrix", f"data.file={LONG}.npz"],
        ["encode", "--model", LONG, "--text", "t", "--out", "c.csv"],
        ["encode", "--model", "m", "--text", "t", "--out", f"{LONG}.csv"],
        ["inspect", LONG],
        ["fit", LONG, "--out", "o"],
        ["fit", "t", "--out", LONG],
        ["encode", "--model", "~nobody here/m", "--text", "t", "--out", "c.csv"],
    ],
)
def test_paths_that_no_file_can_have_are_one_line(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C").write_text("model: {layers: [4]}\nexperiment: {name: c}\n")
    code, _, err = call(capsys, monkeypatch, *arguments)
    assert code == 2 and len(err.splitlines()) == 1
    assert "name too long" in err or "no home directory" in err
    assert [path.name for path in tmp_path.iterdir()] == ["C"]


def test_the_home_directory_is_meant_by_its_sign(capsys, monkeypatch, tmp_path):
    """Bash leaves ``--out=~/x`` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.csv").write_text("text\n" + "gull wren\n" * 60)
    (tmp_path / "c.yaml").write_text("training: {batch_size: 10}\nexperiment: {references: []}\n")
    table = ["--set", "data.source=table", "data.file=~/t.csv"]
    command = ["run", "--config=~/c.yaml", "--out=~/out", "--dry-run", *table]
    code, out, err = call(capsys, monkeypatch, *command)
    assert code == 0, err
    assert str(tmp_path / "out" / "runs") in out and "~/out" not in out
