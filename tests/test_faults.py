"""Whatever dies, stops or is damaged: the same numbers in the end, or one line that says why not.

Processes here compute with Theano's Python mode and one thread: nothing to compile, and equal
bits whoever does a run.  The long part (`make test_long`) kills more, and on a real cluster too.
"""

from __future__ import annotations

import errno
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from filelock import FileLock

from ae_bn import files
from ae_bn.commands import run
from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.files import fingerprint, read_json
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.randomness import streams
from ae_bn.study.plan import plan_runs
from ae_bn.study.results import results_table
from ae_bn.study.sweep import attempt, sweep
from ae_bn.training import Checkpoint, fit

REPOSITORY = Path(__file__).resolve().parent.parent
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ENVIRONMENT = {**os.environ, **ALONE, "PYTHONPATH": str(REPOSITORY)}
ENVIRONMENT["THEANO_FLAGS"] = "mode=FAST_COMPILE"
NO_FIGURES = "  report: {figures: []}\n"  # to draw them takes longer than the runs
SLOWER = ["training.epochs=20", "training.patience=20", "training.checkpoint_epochs=2"]


def start(*arguments, **options):
    """Start `experiments/run.py` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "experiments" / "run.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        **options,
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def workers(process) -> list[psutil.Process]:
    """Return the worker processes of a sweep, of loky or of Dask."""
    found = []
    try:
        for child in psutil.Process(process.pid).children(recursive=True):
            command = " ".join(child.cmdline())
            if "popen_loky" in command or "spawn_main" in command:
                found.append(child)
    except psutil.NoSuchProcess:
        pass
    return found


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def results(out) -> bytes:
    """Return results.csv without its column of time."""
    table = pd.read_csv(out / "small" / "results.csv", dtype=str, keep_default_na=False)
    return table.drop(columns="seconds").to_csv(index=False).encode()


@pytest.fixture(autouse=True)
def alike(runs_in_numpy, monkeypatch):
    """Compute in this process and in its workers as the processes of `start` do."""
    for name in [*ALONE, "THEANO_FLAGS"]:
        monkeypatch.setenv(name, ENVIRONMENT[name])


@pytest.fixture(scope="session")
def small(tmp_path_factory, folder):
    """Return a config file of eight runs."""
    from conftest import SMALL

    path = tmp_path_factory.mktemp("small") / "small.yaml"
    settings = f"data: {{source: folder, folder: {folder}, validation_fraction: .2}}\n{SMALL}"
    settings = settings.replace("seeds: 3", "seeds: 2").split("    dropout:")[0]  # fewer runs
    path.write_text(f"{settings}{NO_FIGURES}")
    return path


@pytest.fixture(scope="session")
def expected(small):
    """Return the results of its sweep, `SLOWER`, that nothing disturbed."""
    out = small.parent / "out"
    finish(start("--config", small, "--jobs", 2, "--out", out, "--set", *SLOWER))
    return results(out)


@pytest.fixture
def config_file(config_file):
    with config_file.open("a") as file:
        file.write(NO_FIGURES)
    return config_file


@pytest.fixture
def one(config_file, tmp_path):
    """Return one planned run."""
    return plan_runs(load_config(config_file), [1], tmp_path)[-1]


# Checkpoints.


@pytest.mark.parametrize("optimizer", ["adam", "nesterov"])
def test_training_goes_on_to_the_same_bits(optimizer, tmp_path, documents, monkeypatch):
    """Interrupted at any minibatch, any number of times, by either signal."""
    settings = ["model.layers=[4]", "training.batch_size=10", "training.epochs=5"]
    settings += ["model.dropout={input: .2, hidden: .2}", f"training.optimizer={optimizer}"]
    config = load_config(None, [*settings, "training.checkpoint_epochs=2"])
    autoencoder = Autoencoder(config.model, optimizer, 12, "symbolic")
    train, path = autoencoder.train, tmp_path / "checkpoint.safetensors"

    def fitted(checkpoint):
        stream = streams(1)
        autoencoder.initialize(documents, stream, 0.05, config.model.dropout)
        data = documents, documents, config.training, stream.order
        result = fit(autoencoder, *data, checkpoint=Checkpoint(checkpoint, "this"))
        return [epoch[:3] for epoch in result.history], autoencoder.get_state(training=True)

    expected = fitted(None)
    steps = iter(range(1000))

    def interrupted(X):
        if next(steps) in (2, 9, 10):
            signal.raise_signal(signal.SIGINT)
        return train(X)

    monkeypatch.setitem(autoencoder.__dict__, "train", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            fitted(path)
    history, state = fitted(path)
    assert history == expected[0] and next(steps) == 5 * 4
    for name, value in expected[1].items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


def damage_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_byte, cut, empty])
def test_a_damaged_checkpoint_is_not_used(damage, one, tmp_path, capsys, monkeypatch):
    attempt(one)
    expected = metrics(one)
    again = replace(one, directory=tmp_path / "again")
    checkpoint = again.directory / "checkpoint.safetensors"

    def stop(*content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("ae_bn.study.perform.write_model", stop)
        attempt(again)
    damage(checkpoint)
    attempt(again)
    lines = [line for line in capsys.readouterr().out.splitlines() if str(checkpoint) in line]
    assert len(lines) == 1 and "from the start" in lines[0]
    assert metrics(again) == expected and not checkpoint.exists()


def test_a_checkpoint_of_another_run_is_not_used(one, tmp_path, capsys):
    other = replace(one, identity="other", directory=tmp_path / "other")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        attempt(other)
    (other.directory / "checkpoint.safetensors").rename(tmp_path / "checkpoint.safetensors")
    one.directory.mkdir(parents=True)
    (tmp_path / "checkpoint.safetensors").rename(one.directory / "checkpoint.safetensors")
    attempt(one)
    assert "of another run" in capsys.readouterr().out and one.finished


def metrics(run):
    """Return results without their times."""
    return {k: v for k, v in run.read_metrics().items() if k not in ("seconds", "files")}


# Files.


@pytest.mark.parametrize("damage", [damage_byte, cut, empty, Path.unlink])
@pytest.mark.parametrize("name", ["metrics.json", "model-last.safetensors", "model.safetensors"])
def test_damaged_results_are_told_and_made_again(name, damage, one, capsys):
    attempt(one)
    expected = metrics(one)
    damage(one.directory / name)
    assert not one.finished
    if (name, damage) != ("metrics.json", Path.unlink):
        with pytest.raises(UserError, match=name):
            results_table([one])
    assert attempt(one) == "done"
    assert metrics(one) == expected


def test_a_full_disk_fails_the_run_and_loses_nothing(one, monkeypatch):
    """Full at one file, the run fails and says so; where that cannot be written, the sweep ends."""
    replace_file = os.replace

    def full(names):
        def refuse(source, target):
            if Path(target).name in names:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace_file(source, target)

        return refuse

    names = ["run.json", "checkpoint.safetensors", "model.safetensors"]
    for name in [*names, "metrics.json"]:
        monkeypatch.setattr(files.os, "replace", full([name]))
        assert attempt(one) == "done" and not one.finished
        row = results_table([one]).iloc[0]
        assert row["status"] == "failed"
        assert name in row["reason"] and "No space left" in row["reason"]
    monkeypatch.setattr(files.os, "replace", full(["metrics.json", "failure.json"]))
    with pytest.raises(UserError, match="failure.json: No space left"):
        attempt(one)
    monkeypatch.setattr(files.os, "replace", replace_file)
    attempt(one)
    assert one.finished and not list(one.directory.glob("failure*"))
    assert not list(one.directory.glob(".*.tmp"))


def test_leftovers_of_killed_processes_go(one):
    one.directory.mkdir(parents=True)
    (one.directory / ".metrics.json.0.tmp").write_text("half a fil")
    attempt(one)
    assert not list(one.directory.glob(".*.tmp"))


def test_a_clock_that_runs_backwards_changes_nothing(one, monkeypatch):
    now = iter(range(10**6, 0, -100))
    monkeypatch.setattr(time, "time", lambda: next(now))
    attempt(one)
    assert one.read_metrics()["seconds"] > 0


def test_a_corpus_is_prepared_again_where_it_is_missing_and_must_be_the_same(one, tmp_path):
    attempt(one)
    expected = metrics(one)
    moved = replace(one, corpus=tmp_path / "gone.safetensors", directory=tmp_path / "moved")
    attempt(moved)
    assert metrics(moved) == expected
    other = replace(moved, data_fingerprint="0" * 64, directory=tmp_path / "other")
    attempt(other)
    assert "another corpus" in results_table([other]).iloc[0]["reason"]


def test_a_failing_run_does_not_stop_the_others(small, tmp_path, capsys):
    """What stands in one run's way: a folder where its metrics should be."""
    out = tmp_path / "out"
    runs = plan_runs(load_config(small), [1, 2], out)
    blocked = runs[-1].directory / "metrics.json"
    (blocked / "x").mkdir(parents=True)
    command = ["--config", str(small), "--seeds", "2", "--jobs", "1", "--out", str(out)]
    assert run.main(command) == 1
    output = "".join(capsys.readouterr())
    assert "1 of 8 runs failed" in output and "Traceback" not in output
    table = pd.read_csv(out / "small" / "results.csv")
    assert list(table["status"]).count("failed") == 1
    assert "1, 1 failed" in (out / "small" / "table.md").read_text()
    assert "metrics.json" in (out / "small" / "table.md").read_text()
    (blocked / "x").rmdir()
    blocked.rmdir()
    assert run.main(command) == 0
    assert "7 of 8 runs are finished already" in capsys.readouterr().out
    assert "failed" not in (out / "small" / "table.md").read_text()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_where_nothing_can_be_locked_no_run_waits(number, one, monkeypatch):
    """One that another process holds does wait."""
    one.directory.mkdir(parents=True)
    with FileLock(one.directory / "lock"):
        assert attempt(one) == "held"

    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match=f"cannot lock .*{one.directory}"):
        attempt(one)
    assert not one.finished


def test_a_directory_that_cannot_be_written_is_one_line(config_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "runs").write_text("not a folder")
    with pytest.raises(UserError, match="cannot"):
        run.main(["--config", str(config_file), "--out", str(tmp_path / "out")])


def test_altered_results_table_is_written_anew(tmp_path, small):
    out = tmp_path / "out"
    command = ["--config", str(small), "--seeds", "1", "--out", str(out), "--jobs", "1"]
    assert run.main(command) == 0
    written = (out / "small" / "results.csv").read_bytes()
    damage_byte(out / "small" / "results.csv")
    assert run.main(command) == 0
    assert (out / "small" / "results.csv").read_bytes() == written


# Files of others.


def test_paths_do_not_leave_the_directory(one, tmp_path):
    attempt(one)
    (tmp_path / "secret").write_text("x")
    for name in ("../../secret", str(tmp_path / "secret")):
        tree = {**read_json(one.directory / "metrics.json"), "files": {name: "0"}}
        text = json.dumps({**tree, "sha256": fingerprint(tree)})
        (one.directory / "metrics.json").write_text(text)
        with pytest.raises(UserError, match="no run has a file"):
            one.read_metrics()


# Processes.


def test_a_run_of_another_process_is_waited_for(one, monkeypatch):
    attempt(one)
    with FileLock(one.directory / "lock"):
        assert attempt(one) == "held"
    assert attempt(one) == "finished"


@pytest.mark.long
def test_an_interrupted_sweep_stops_soon_and_goes_on(small, expected, tmp_path):
    """Once by Ctrl-C, once by SIGTERM."""
    command = ["--config", small, "--jobs", 2, "--out", tmp_path, "--set", *SLOWER]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        old = checkpoints(tmp_path)
        process = start(*command)
        wait_for(lambda old=old: checkpoints(tmp_path) - old)
        team = workers(process)
        os.killpg(process.pid, number) if code == 130 else process.send_signal(number)
        output = finish(process, code)
        assert "the same command resumes" in output and "Traceback" not in output
        wait_for(lambda team=team: not any(worker.is_running() for worker in team), seconds=5)
        assert checkpoints(tmp_path)
    finish(start(*command))
    assert results(tmp_path) == expected
    assert not checkpoints(tmp_path)


def checkpoints(out) -> set:
    """Return the checkpoints of a sweep, each with the time when it was written."""
    found = set()
    for path in out.glob("runs/*/checkpoint.safetensors"):
        with suppress(FileNotFoundError):  # its run is over
            found.add((path, path.stat().st_mtime_ns))
    return found


@pytest.mark.long
def test_two_sweeps_share_the_work(small, expected, tmp_path):
    command = ["--config", small, "--jobs", 1, "--out", tmp_path, "--set", *SLOWER]
    pair = [start(*command), start(*command)]
    outputs = [finish(process) for process in pair]
    assert results(tmp_path) == expected
    elsewhere = [
        int(line.split()[0])
        for output in outputs
        for line in output.splitlines()
        if "done by another process" in line or "finished already" in line
    ]
    assert sum(elsewhere) == 8  # each was found done by the one that did not do it


def kill_during(command, out, kills, expected, seed=0):
    """Run a sweep again and again, killing workers, or now and then the sweep itself."""
    chance, killed, round_ = random.Random(seed), 0, 0
    while killed < kills:
        round_ += 1
        directory = out / str(round_)
        while True:
            process = start(*command, "--out", directory)
            while process.poll() is None:
                time.sleep(chance.uniform(0.2, 6))
                team = workers(process)
                if killed < kills and team:
                    victim = process if chance.random() < 0.1 else chance.choice(team)
                    try:
                        victim.kill()
                    except psutil.NoSuchProcess:
                        continue
                    killed += 1
            process.communicate()
            assert process.returncode in (0, 1, -signal.SIGKILL)
            if process.returncode == 0:
                break
        assert results(directory) == expected, f"round {round_}"


@pytest.mark.long
def test_a_worker_that_always_dies_fails_its_run_only(small, expected, tmp_path, monkeypatch):
    """The runs that died with it and were done again have the same numbers."""
    runs = plan_runs(load_config(small, SLOWER), [1], tmp_path)
    poison = runs[0].directory
    monkeypatch.setattr("ae_bn.study.sweep.attempt", Poisoned(str(poison)))
    sweep(runs, 1)
    table = results_table(runs)
    assert set(table.loc[table["status"] == "failed", "run"]) == {runs[0].identity}
    assert table["run"].nunique() == 4
    assert "died 3 times" in table["reason"].iloc[0]
    table.to_csv(tmp_path / "some.csv", index=False)
    some, every = (
        pd.read_csv(file, dtype=str, keep_default_na=False).set_index(["run", "snapshot"])
        for file in (tmp_path / "some.csv", io.BytesIO(expected))
    )
    some = some[some["status"] == "finished"].drop(columns=["seconds", "reason"])
    pd.testing.assert_frame_equal(some, every.loc[some.index, some.columns])


def test_without_worker_processes_the_runs_are_done_here(small, tmp_path, monkeypatch, capsys):
    runs = plan_runs(load_config(small), [1], tmp_path)
    poisoned = Failing(str(runs[1].directory))

    def refuse():
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("ae_bn.study.sweep.multiprocessing.Lock", refuse)
    monkeypatch.setattr("ae_bn.study.sweep.attempt", poisoned)
    with pytest.raises(UserError, match="no disk"):
        sweep(runs, 2)
    assert poisoned.processes == {os.getpid()}
    monkeypatch.setattr("ae_bn.study.sweep.attempt", attempt)
    sweep(runs, 2)
    assert set(results_table(runs)["status"]) == {"finished"}
    lines = [line for line in capsys.readouterr().out.splitlines() if "/dev/shm" in line]
    assert len(lines) == 2 and "Read-only file system" in lines[0]


class Failing:
    """`attempt`, but one run cannot write; notes the processes."""

    def __init__(self, directory):
        self.directory, self.processes = directory, set()

    def __call__(self, run):
        self.processes.add(os.getpid())
        if str(run.directory) == self.directory:
            raise UserError("no disk")
        return attempt(run)


class Poisoned:
    """`attempt`, but one run kills its worker."""

    def __init__(self, directory):
        self.directory = directory

    def __call__(self, run):
        if str(run.directory) == self.directory:
            os.kill(os.getpid(), signal.SIGKILL)
        return attempt(run)


def test_a_cluster_that_is_not_there(config_file, tmp_path):
    command = ["--config", str(config_file), "--out", str(tmp_path), "--cluster"]
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        with pytest.raises(UserError, match=f"^--cluster {address}"):
            run.main([*command, address])


# Programs and what surrounds them.


@pytest.fixture(scope="module")
def trained(small, runs_in_numpy, tmp_path_factory):
    """Return the directory of a run that has a model."""
    run = plan_runs(load_config(small), [1], tmp_path_factory.mktemp("trained"))[-1]
    assert attempt(run) == "done" and run.finished
    return run.directory


def shell(command, *arguments, cwd, **environment):
    """Run a command of bash; $0 is Python, $1 the folder of the programs."""
    return subprocess.run(
        [
            "bash",
            "-c",
            command,
            sys.executable,
            str(REPOSITORY / "experiments"),
            *map(str, arguments),
        ],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        timeout=300,
    )


def test_a_reader_that_leaves_early(trained, tmp_path):
    (tmp_path / "lines.txt").write_text("ax bx common words\n" * 3000)
    encode = '"$0" "$1"/encode.py --model "$2" --text lines.txt'
    for command in (
        f"{encode} --out codes.npz 2>&1",
        f"{encode} --similar 3",
        f"{encode} --similar 3 2>&1",
        f"{encode} --out codes.csv 2>&1",
    ):
        done = shell(f"{command} | head -1; exit ${{PIPESTATUS[0]}}", trained, cwd=tmp_path)
        assert done.returncode == 0 and b"Error" not in done.stderr + done.stdout
    with np.load(tmp_path / "codes.npz") as arrays:
        assert arrays["codes"].shape == (3000, 5)
    assert len(pd.read_csv(tmp_path / "codes.csv")) == 3000
    inspect = '"$0" "$1"/inspect_model.py "$2" --out here | head -1'
    done = shell(f"{inspect}; exit ${{PIPESTATUS[0]}}", trained, cwd=tmp_path)
    assert done.returncode == 0 and b"Error" not in done.stderr
    assert (tmp_path / "here" / "map.png").exists()


def test_an_output_that_is_full_is_named(trained, tmp_path):
    (tmp_path / "lines.txt").write_text("ax bx common words\n" * 3000)
    command = '"$0" "$1"/encode.py --model "$2" --text lines.txt --similar 3 >/dev/full'
    done = shell(command, trained, cwd=tmp_path)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert b"error: cannot write to standard output: No space left" in done.stderr


@pytest.mark.parametrize("name", ["codes.npz", "codes.csv"])
def test_codes_that_do_not_fit_the_disk_leave_no_file(name, trained, tmp_path):
    (tmp_path / "lines.txt").write_text("".join(f"ax {'bx ' * n}\n" for n in range(900)))
    command = f'ulimit -f 1; "$0" "$1"/encode.py --model "$2" --text lines.txt --out {name}'
    done = shell(command, trained, cwd=tmp_path)
    errors = [line for line in done.stderr.decode().splitlines() if "rror" in line]
    assert done.returncode == 2 and errors == [f"error: cannot write {name}: File too large"]
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", ">&- 2>&- <&-"])
def test_closed_streams(closed, trained, tmp_path):
    (tmp_path / "lines.txt").write_text("ax bx\n")
    command = f'"$0" "$1"/encode.py --model "$2" --text lines.txt --out codes.csv {closed}'
    assert shell(command, trained, cwd=tmp_path).returncode == 0
    assert len(pd.read_csv(tmp_path / "codes.csv")) == 1


def test_names_that_no_encoding_holds(small, trained, tmp_path):
    """In names of documents, of folders, and in a standard output of plain letters."""
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/d\xe9.txt", "w") as file:
        file.write("ax bx")
    command = '"$0" "$1"/encode.py --model "$2" --text $\'caf\\xe9\' '
    done = shell(f"{command} --similar 1", trained, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"d?.txt:")
    done = shell(f"{command} --out codes.csv", trained, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "codes.csv")["name"].tolist() == ["d\ufffd.txt"]
    for number in range(1, 120):
        with open(folder + b"/%d.txt" % number, "w") as file:
            file.write("ax bx common words")
    command = '"$0" "$1"/run.py --config "$2" --seeds 1 --jobs 1 --out $\'o\\xe9\' --set '
    command += "data.source=folder data.folder=$'caf\\xe9' 'experiment.compare={}'"
    done = shell(command, small, cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    table = Path(os.fsdecode(os.fsencode(tmp_path) + b"/o\xe9")) / "small" / "table.md"
    assert "caf\ufffd" in table.read_text(encoding="utf-8")


def test_without_docstrings_one_line(small, tmp_path):
    command = '"$0" -OO "$1"/run.py --config "$2" --dry-run'
    done = shell(command, small, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(b"error: Python runs with -OO")


def test_results_are_not_written_among_the_documents(small, tmp_path):
    config = ["--config", str(small), "--dry-run", "--out"]
    texts = tmp_path / "texts"
    folder = ["--set", "data.source=folder", f"data.folder={texts}"]
    for out in (texts, texts / "more" / "out"):
        with pytest.raises(UserError, match="lies in data.folder"):
            run.main([*config, str(out), *folder])
    (tmp_path / "small").mkdir()
    for table in (tmp_path / "small" / "results.csv", tmp_path / "mine.csv"):
        table.write_text("text\n" + "ax bx\n" * 20)
        file = ["--set", "data.source=table", f"data.file={table}", "data.folder=null"]
        command = [*config, str(tmp_path), *file]
        if table.parent == tmp_path:
            assert run.main(command) == 0
        else:
            with pytest.raises(UserError, match="holds data.file"):
                run.main(command)
        assert table.read_text().startswith("text\n")


# The long part.


@pytest.mark.long
@pytest.mark.parametrize("where", [[], ["--cluster", "local"]], ids=["loky", "dask"])
def test_fifty_kills(where, small, expected, tmp_path):
    command = ["--config", small, "--jobs", 2, *where, "--set", *SLOWER]
    kill_during(command, tmp_path, 50, expected, seed=1)


@pytest.mark.long
def test_a_real_cluster_that_loses_a_worker(small, expected, tmp_path):
    scheduler_file = tmp_path / "scheduler.json"

    def launch(kind, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, arguments)]
        return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)

    place = ["--host", "127.0.0.1", "--no-dashboard"]
    started = [launch("scheduler", *place, "--port", 0, "--scheduler-file", scheduler_file)]
    try:
        wait_for(scheduler_file.exists)
        for _ in range(2):
            one_thread = ["--scheduler-file", scheduler_file, "--nthreads", 1, "--no-nanny"]
            started.append(launch("worker", *one_thread, *place))
        address = json.loads(scheduler_file.read_text())["address"]
        out = tmp_path / "out"
        process = start("--config", small, "--cluster", address, "--out", out, "--set", *SLOWER)
        wait_for(lambda: len(list(out.glob("runs/*/metrics.json"))) > 7)
        started[1].kill()
        assert not (out / "small" / "results.csv").exists()
        finish(process)
        assert results(out) == expected
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.long
def test_a_disk_that_is_full_for_real(small, expected, tmp_path):
    """No file may be longer than a limit: runs that write longer ones fail, no number is wrong."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    command = ["--config", small, "--jobs", 2, "--out", tmp_path, "--set", *SLOWER]
    output = finish(start(*command, preexec_fn=limit), code=1)  # Theano itself has much to say
    assert "8 of 8 runs failed" in output and "File too large" in output
    finish(start(*command))
    assert results(tmp_path) == expected
