"""Compare the speed of training with PyTorch's, and with the limit that matrix products set.

    python experiments/benchmarks/benchmark.py
    python experiments/benchmarks/benchmark.py --full
    python experiments/benchmarks/benchmark.py --shapes 2000,256,128 --threads 2 --rounds 3

Every case (shape, model, optimiser, threads) has three contestants (`contestants.py`):
this project's autoencoder; the fastest variant of the same model in PyTorch, after a check that it
makes the same first step; and only the matrix products that every step needs, through Theano's
BLAS.  Finding the fastest variant takes most of the time, so it is done only for the first case of
each shape.  ``--full`` does it for every case, and has more cases.

Each contestant has a process of its own, and they take turns.  In a round all three work on the
same minibatches of 20 Newsgroups.  The time includes slicing minibatches out of the corpus and
reading every loss.  Ratios are taken within a round, so that a slow moment of the machine affects
both sides.  The table has their medians and ranges.  No other program should run: threads that
wait for each other lose far more than their share to other programs.

The table is printed and goes to ``results/benchmark.md``.  Exit code 2: PyTorch is missing or an
argument is wrong, and one line says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import contestants
from contestants import MODELS, OPTIMIZERS, Case
from tabulate import tabulate

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.errors import UserError
from ae_bn.files import atomic_write

SHORT = {
    "shapes": ["2000,128,100", "10000,128,100", "10000,512,128"],
    "models": ["binary-all"],
    "optimizers": ["adam"],
}
FULL = {
    "shapes": ["2000,256,128", "2000,128,100", "10000,128,100", "10000,512,128"],
    "models": list(MODELS),
    "optimizers": list(OPTIMIZERS),
}
THREADS = [1, 2]
ROUND_SECONDS = 1.0  # duration of a round for PyTorch; the others make the same number of steps
QUIET = 0.3  # largest load average of an idle machine
REPORT = Path("results", "benchmark.md")


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds per case")
    parser.add_argument(
        "--full",
        action="store_true",
        help="run all shapes, models and optimizers where none are given, and find the fastest "
        "variant in PyTorch for every case instead of once per shape",
    )
    parser.add_argument(
        "--shapes", nargs="+", metavar="V,H,B", help="words, hidden units, documents in a minibatch"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS)
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS)
    parser.add_argument("--threads", nargs="+", type=int, default=THREADS, metavar="N")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the rows to this file"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    parser.set_defaults(**SHORT)
    if parser.parse_args(arguments).full:
        parser.set_defaults(**FULL)
    options = parser.parse_args(arguments)
    options.shapes = [parse_shape(text) for text in options.shapes]
    for name, least in (("rounds", options.rounds), ("threads", min(options.threads))):
        if least < 1:
            raise UserError(f"--{name} {least}: give 1 or more")
    return options


def parse_shape(text: str) -> tuple:
    """Return the numbers of words, hidden units and documents in ``V,H,B``."""
    try:
        n_words, n_hidden, batch_size = map(int, text.split(","))
    except ValueError:
        n_words = 0
    if n_words < 1 or n_hidden < 1 or batch_size < 2:
        raise UserError(f"--shapes {text}: give V,H,B such as 2000,128,100, B 2 or more")
    return n_words, n_hidden, batch_size


def worker() -> ProcessPoolExecutor:
    """Return a process that waits for work and ends at once at an interruption."""
    return ProcessPoolExecutor(
        1, get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)
    )


def ask(process: ProcessPoolExecutor, function, *arguments):
    """Call a function in the worker and return its result."""
    return process.submit(function, *arguments).result()


def set_threads(threads: int) -> None:
    """Set the number of threads of all processes that start later."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def measure(case: Case, corpus: Path, rounds: int, variant: str | None = None) -> dict:
    """Let the contestants of a case take turns.

    Parameters
    ----------
    case : Case
        The case to measure.
    corpus : Path
        The file of the vectorised documents in the cache.
    rounds : int
        The number of rounds.
    variant : str, optional
        The variant in PyTorch, a key of `torch_peer.VARIANTS`.  By default the fastest is found.

    Returns
    -------
    dict
        The row of the case, see `summarize`.
    """
    set_threads(case.threads)
    left_out = []
    with worker() as ours, worker() as torch, worker() as limit:
        with tempfile.TemporaryDirectory() as name:
            first_step = Path(name, "first_step")
            memory = [ask(ours, contestants.start_theano, case, corpus)]
            ask(ours, contestants.write_first_step, case, corpus, first_step)
            if variant is None:
                with worker() as trial:
                    variant, left_out = ask(
                        trial, contestants.find_fastest_variant, case, corpus, first_step
                    )
            memory += [ask(torch, contestants.start_torch, case, corpus, first_step, variant)]
        ask(limit, contestants.start_products, case)
        speed = ask(torch, contestants.work, contestants.WARM_UP)
        steps = contestants.steps_in(ROUND_SECONDS, speed, case)
        speeds = [
            [ask(process, contestants.work, steps) for process in (ours, torch, limit)]
            for _ in range(rounds)
        ]
    return summarize(case, speeds, memory, variant, left_out)


def summarize(case, speeds, memory, variant, left_out) -> dict:
    """Return the row of a case.

    Parameters
    ----------
    case : Case
        The case that was measured.
    speeds : list of (float, float, float)
        The documents per second of this project, of PyTorch and of the products alone, for each
        round.
    memory : (float, float)
        The peak memory in MiB of this project and of PyTorch.
    variant : str
        The fastest variant in PyTorch.
    left_out : list of str
        The variants that do not work on this machine.

    Returns
    -------
    dict
        Medians over the rounds.  A key ``..._range`` has the smallest and the largest value.
    """
    ours, torch, limit = zip(*speeds)
    ratios = [a / b for a, b in zip(ours, torch)]
    shares = [a / b for a, b in zip(ours, limit)]
    return {
        **case._asdict(),
        "docs_per_second": median(ours),
        "pytorch_docs_per_second": median(torch),
        "limit_docs_per_second": median(limit),
        "ratio_to_pytorch": median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "share_of_limit": median(shares),
        "share_range": [min(shares), max(shares)],
        "peak_mib": memory[0],
        "pytorch_peak_mib": memory[1],
        "pytorch_variant": variant,
        "pytorch_left_out": left_out,
    }


def markdown_table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table."""

    def spread(row, name, range_name):
        least, most = row[range_name]
        return f"{row[name]:.2f} ({least:.2f}-{most:.2f})"

    columns = [
        {
            "V,H,B": ",".join(map(str, row["shape"])),
            "model": row["model"],
            "optimizer": row["optimizer"],
            "threads": row["threads"],
            "documents/s": f"{row['docs_per_second']:.0f}",
            "PyTorch's": f"{row['pytorch_docs_per_second']:.0f}",
            "ratio": spread(row, "ratio_to_pytorch", "ratio_range"),
            "limit's": f"{row['limit_docs_per_second']:.0f}",
            "share": spread(row, "share_of_limit", "share_range"),
            "peak MiB": f"{row['peak_mib']:.0f}",
            "PyTorch's peak": f"{row['pytorch_peak_mib']:.0f}",
            "PyTorch's fastest": row["pytorch_variant"],
        }
        for row in rows
    ]
    return tabulate(columns, headers="keys", tablefmt="github", disable_numparse=True)


def markdown_report(rows: list[dict], machine: dict, rounds: int) -> str:
    """Return the text of ``results/benchmark.md``."""
    left_out = sorted({variant for row in rows for variant in row["pytorch_left_out"]})
    parts = [
        "# Speed of training",
        f"Medians of {rounds} interleaved rounds, with the smallest and the largest value in "
        "brackets. ratio: documents per second, divided by those of the fastest variant in PyTorch "
        "(found for every row with the option --full, otherwise for the first row of a shape). "
        "share: documents per second, divided by those of a step's three matrix products "
        "alone. Text: 20 Newsgroups, with dropout of 0.2 on the input. Models: binary is a sigmoid "
        "output and cross-entropy, tfidf is a linear output and squared error; the second word "
        "names the layers with Batch Normalization. Peak memory is that of the process.",
        markdown_table(rows),
    ]
    if left_out:
        parts.append(f"Not working here in PyTorch: {'; '.join(left_out)}.")
    parts.append(tabulate(machine.items(), headers=["made with", ""], tablefmt="github"))
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "PyTorch is missing: `make bench` installs it, or "
            "pip install -c constraints.txt -e '.[bench]'"
        )
    cases = list(
        itertools.starmap(
            Case,
            itertools.product(options.shapes, options.models, options.optimizers, options.threads),
        )
    )
    load = os.getloadavg()[0]
    if load > QUIET:
        print(
            f"warning: other programs are running or have just run (load {load:.1f}): ratios from "
            "a busy machine are unreliable, especially with several threads, which wait for each "
            "other",
            file=sys.stderr,
        )
    with worker() as process:
        corpora, machine = ask(process, contestants.prepare, cases)
    machine.update({"PyTorch": version("torch"), "load before": f"{load:.1f}"})
    rows, fastest = [], {}
    for number, case in enumerate(cases, start=1):
        variant = None if options.full else fastest.get(case.shape)
        corpus = corpora[contestants.corpus_key(case)]
        rows.append(measure(case, corpus, options.rounds, variant))
        fastest[case.shape] = rows[-1]["pytorch_variant"]
        ratio = rows[-1]["ratio_to_pytorch"]
        print(f"{number} of {len(cases)}: {case}, {ratio:.2f} times PyTorch", flush=True)
        with atomic_write(REPORT) as file:
            file.write(markdown_report(rows, machine, options.rounds))
        if options.json:
            with atomic_write(options.json) as file:
                file.write("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    print(f"\n{markdown_table(rows)}\n\nThis table is in {REPORT}")


if __name__ == "__main__":
    run_program(main, f"the rows measured so far are in {REPORT}")
