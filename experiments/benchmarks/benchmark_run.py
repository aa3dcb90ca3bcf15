"""Measure the time of a run (epochs, path, snapshots), and compare it with an older commit.

    make bench_run
    make bench_run BENCH="--against 9beab6a --epochs 60 --rounds 3"

The path is the metrics of the codes after every epoch.  One process with one thread trains, like a
worker of a sweep, with 2,000 words, 128 units and minibatches of 100.  With --against, this commit
and an older one take turns with the same epochs.  A commit that cannot measure a path trains
without it.  The table goes to results/benchmark_run.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ae_bn.commands.command_line import OneLineParser, check_positive, run_program
from ae_bn.errors import UserError
from ae_bn.files import atomic_write

REPOSITORY = Path(__file__).resolve().parents[2]
PLACEMENTS = {"hidden": [], "hidden + output": ["model.batch_norm.top=true"]}

# This runs in this checkout and in older ones, so it uses only what all of them have.
TIMED = """
import inspect, json, sys, time
import numpy as np
from ae_bn.config import load_config
try:
    from ae_bn.data.corpus import load_corpus, split_validation
    from ae_bn.study.compiled import compiled
except ImportError:  # before these were packages
    from ae_bn.data import load_corpus, split_validation
    from ae_bn.experiment import compiled_autoencoder as compiled
from ae_bn.randomness import streams
from ae_bn import training

epochs, *settings = sys.argv[1:]
settings += [f"training.epochs={epochs}", f"training.patience={epochs}"]
config = load_config(None, ["model.dropout.input=0.3", *settings])
corpus = load_corpus(config.data, progress=lambda line: None)
stream = streams(1)
fit_rows, valid_rows = split_validation(corpus.train.shape[0], 0.1, stream.split)
X_train, X_valid = corpus.train[fit_rows], corpus.train[valid_rows]
autoencoder = compiled(config, corpus.train.shape[1])
if hasattr(autoencoder, "__enter__"):
    autoencoder = autoencoder.__enter__()
more, path = {}, []
known = inspect.signature(training.fit).parameters
if "observers" in known or "measure_codes" in known:
    from ae_bn.evaluation.codes import PathMeter, snapshot_metrics
    from ae_bn.evaluation.probes import Split

    meter = PathMeter(corpus.train_labels[fit_rows], corpus.train_labels[valid_rows], "relu")

    def measured(*codes):
        start = time.perf_counter()
        metrics = meter(*codes)
        path.append(time.perf_counter() - start)
        return metrics

    if "observers" in known:
        more["observers"] = [training.codes_observer(measured, X_train, X_valid)]
        more["snapshots"] = training.SNAPSHOTS
    else:
        more["measure_codes"] = measured

def train(config):
    autoencoder.initialize(X_train, streams(1), 0.001, config.model.dropout)
    start = time.perf_counter()
    result = training.fit(autoencoder, X_train, X_valid, config.training, streams(1).order, **more)
    return time.perf_counter() - start, result

train(config.replace({"training.epochs": 1}))  # compiles
path.clear()
whole, result = train(config)
seconds = {"whole": whole, "epochs": result.history[-1].seconds}
if path:
    start = time.perf_counter()
    for part in (X_train, X_valid) * len(path):
        autoencoder.encode(part)
    seconds["path"] = sum(path) + time.perf_counter() - start
    train_codes, test_codes = autoencoder.encode(corpus.train), autoencoder.encode(corpus.test)
    splits = Split(train_codes, corpus.train_labels), Split(test_codes, corpus.test_labels)
    start = time.perf_counter()
    autoencoder.evaluate(corpus.test), autoencoder.encode(corpus.train)
    autoencoder.encode(corpus.test), snapshot_metrics(*splits, fit_rows, valid_rows)
    seconds["snapshot"] = time.perf_counter() - start
print(json.dumps(seconds))
"""


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--against", metavar="COMMIT", help="an older commit that trains in turns")
    parser.add_argument("--epochs", type=int, default=60, help="number of epochs")
    parser.add_argument("--rounds", type=int, default=3, help="number of runs of each")
    parser.add_argument(
        "--out", type=Path, default=Path("results/benchmark_run.md"), help="file of the table"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def timed(checkout: Path, epochs: int, settings: list[str]) -> dict:
    """Return the seconds of one run of a checkout, in a process of its own on one thread."""
    threads = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
    environment = {**os.environ, **threads, "PYTHONPATH": str(checkout)}
    environment.pop("THEANO_FLAGS", None)  # the flags here name this checkout
    done = subprocess.run(
        [sys.executable, "-c", TIMED, str(epochs), *settings],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(
            f"training in {checkout} failed: {done.stderr.strip().splitlines()[-1]:.200}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def rows(checkouts: dict[str, Path], epochs: int, rounds: int) -> list[list[str]]:
    """Return a row of medians for each placement of BN."""
    table = []
    for placement, settings in PLACEMENTS.items():
        seconds: dict[str, list] = {name: [] for name in checkouts}
        for _ in range(rounds):
            for name, checkout in checkouts.items():
                seconds[name].append(timed(checkout, epochs, settings))
        ours = seconds["now"]
        row = [placement, f"{np.median([s['whole'] for s in ours]):.1f} s"]
        share = [s["path"] / s["epochs"] for s in ours]
        row += [f"{np.median(share):.0%}", f"{np.median([s['snapshot'] for s in ours]):.2f} s"]
        if len(checkouts) > 1:
            ratios = [s["whole"] / o["whole"] for s, o in zip(seconds["before"], ours)]
            row.append(f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        table.append(row)
    return table


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_arguments(arguments)
    check_positive(options, "epochs", "rounds")
    header = ["BN", f"{options.epochs} epochs with their path", "path, of an epoch", "one snapshot"]
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {"now": REPOSITORY}
        if options.against:
            header.append(f"times as fast as {options.against:.7} without a path")
            checkouts["before"] = Path(folder, "before")
            clone = ["git", "clone", "--quiet", str(REPOSITORY), str(checkouts["before"])]
            switch = ["git", "-C", str(checkouts["before"]), "checkout", "-q", options.against]
            for command in (clone, switch):
                if subprocess.run(command).returncode:
                    raise UserError(f"--against {options.against}: no such commit: see git log")
        table = rows(checkouts, options.epochs, options.rounds)
    text = tabulate(table, header, "pipe")
    with atomic_write(options.out) as file:
        file.write(
            f"# A run\n\nMedians of {options.rounds} rounds in turns, one thread.\n\n{text}\n"
        )
    print(text)
    return 0


if __name__ == "__main__":
    run_program(main, "nothing was written")
