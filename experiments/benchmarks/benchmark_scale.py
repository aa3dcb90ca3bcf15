"""Measure how training scales with the vocabulary and with the number of documents.

    python experiments/benchmarks/benchmark_scale.py
    python experiments/benchmarks/benchmark_scale.py --vocabularies 2000 10000 --epochs 1

There are two series: 20 Newsgroups with a growing number of words, and a growing number of
generated documents (`planted_documents`), mapped from the disk.  Each is trained with the whole
loss (dense) and with sampled reconstruction.  Every row has a process of its own.
The model has one hidden layer with Batch Normalization and a fifth of the words dropped, and is
trained by Adam.  At the largest vocabulary, dense training, sampled training and the fastest
variant of the same model in PyTorch (`contestants.py`) then take turns.

Seconds per epoch are those of the steps, with slicing minibatches out of the documents and reading
every loss.  Training ends after ``--seconds`` at the latest; seconds per epoch are then the steps
per epoch times the mean time of a step.  An epoch also has the exact evaluation on held-out
documents and the population statistics, which are timed separately.  The table is printed and goes
to ``results/benchmark_scale.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Iterable, Iterator

import contestants
import numpy as np
from benchmark import ask, set_threads, worker
from contestants import Case
from scipy.sparse import csr_matrix
from tabulate import tabulate

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.data.corpus import prepare_corpus, read_corpus, shuffled_batches, split_validation
from ae_bn.errors import UserError
from ae_bn.files import atomic_write, cache_directory
from ae_bn.randomness import streams

VOCABULARIES = [2000, 10_000, 30_000, 1_000_000]  # the last number means all words
DOCUMENTS = [10_000, 30_000, 100_000, 300_000, 1_000_000]
BLOCK = 10_000  # number of documents generated at a time
ARRAYS = {"data": np.float32, "indices": np.int32, "indptr": np.int32}  # of a csr_matrix
HELD_OUT = 1000  # number of generated documents that are held out
TURNS, TURN_SECONDS = 5, 3  # at the largest vocabulary
REPORT = Path("results", "benchmark_scale.md")
COLUMNS = {
    "series": "series",
    "vocabulary": "words",
    "documents": "documents",
    "non_zeros": "non-zeros",
    "path": "path",
    "seconds_per_epoch": "seconds per epoch",
    "epochs": "epochs",
    "heldout_loss": "held-out loss",
    "evaluation_seconds": "evaluation",
    "peak_mib": "peak MiB",
    "state_mib": "state MiB",
}


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--vocabularies",
        nargs="*",
        type=int,
        default=VOCABULARIES,
        metavar="V",
        help="words of 20 Newsgroups",
    )
    add(
        "--documents",
        nargs="*",
        type=int,
        default=DOCUMENTS,
        metavar="N",
        help="documents to generate",
    )
    add("--words", type=int, default=30_000, help="words of generated documents")
    add("--units", type=int, default=128, help="units of the hidden layer")
    add("--batch", type=int, default=100, help="documents in a minibatch")
    add("--sampling", type=int, default=500, help="absent words drawn for a step")
    add("--learning-rate", type=float, default=0.003, help="learning rate of Adam")
    add("--epochs", type=int, default=3, help="epochs of every row")
    add("--seconds", type=float, default=25, help="longest training of a row")
    add("--threads", type=int, default=os.cpu_count(), help="threads of every process")
    add("--no-torch", action="store_true", help="leave out the turns with PyTorch")
    add("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    add("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    numbers = dict(vars(options), **{"vocabularies": min(options.vocabularies, default=1)})
    numbers["documents"] = min(options.documents, default=options.batch)
    for name in ("vocabularies", "words", "units", "sampling", "epochs", "seconds", "threads"):
        if numbers[name] <= 0:
            raise UserError(f"--{name} {numbers[name]}: give more than 0")
    if not 2 <= options.batch <= numbers["documents"]:
        raise UserError(f"--batch {options.batch}: give 2 or more, and at most --documents")
    if not options.vocabularies and not options.documents:
        raise UserError("--vocabularies and --documents are both empty: give a number to one")
    return options


def make_case(options, n_words: int) -> Case:
    """Return the case for `contestants`."""
    return Case((n_words, options.units, options.batch), "binary-hidden", "adam", options.threads)


# Called in the workers.


def newsgroups(data):
    """Return the training and the held-out documents of 20 Newsgroups."""
    X = read_corpus(prepare_corpus(data, lambda line: None)).train
    rows, held_out = split_validation(X.shape[0], data.validation_fraction, streams(1).split)
    return X[rows], X[held_out]


def generated(n_documents: int, n_words: int):
    """Return generated documents, mapped from the cache directory, and held-out ones."""
    folder = cache_directory("generated") / f"{n_documents}-{n_words}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            part = Path(name, "part")
            part.mkdir()
            write_blocks(part, (X for X, _ in planted_documents(n_documents, n_words)))
            os.replace(part, folder)
    X = csr_matrix((n_documents, n_words), dtype=np.float32)
    for array, dtype in ARRAYS.items():
        setattr(X, array, np.asarray(np.memmap(folder / f"{array}.bin", dtype, "r")))
    X.has_sorted_indices = X.has_canonical_format = True  # else SciPy would read everything
    X_valid, _ = next(planted_documents(HELD_OUT, n_words, seed=1))
    return X, X_valid


def write_blocks(folder: Path, blocks: Iterable[csr_matrix]) -> None:
    """Write the arrays of one csr_matrix to a folder, of which one block is in memory at a time."""
    starts = [np.zeros(1, np.int32)]
    with open(folder / "data.bin", "wb") as data, open(folder / "indices.bin", "wb") as indices:
        for X in blocks:
            data.write(X.data.data)
            indices.write(X.indices.data)
            starts.append(X.indptr[1:] + starts[-1][-1])
    np.concatenate(starts).astype(np.int32).tofile(folder / "indptr.bin")


def planted_documents(
    n_documents: int, n_words: int, n_topics: int = 20, length: int = 100, seed: int = 0
) -> Iterator[tuple[csr_matrix, np.ndarray]]:
    """Generate binary documents with planted topics, whose words follow Zipf's law.

    A document has one topic and about ``length`` tokens.  Half of them are drawn from all words
    with probabilities proportional to 1 / rank.  The other half is drawn in the same way, but with
    the ranking of the topic, which starts at another word.  All seeds have the same topics.

    Parameters
    ----------
    n_documents, n_words, n_topics : int
        The numbers of documents, of words in the vocabulary and of topics.
    length : int
        The mean number of tokens of a document.
    seed : int
        The seed of the documents.

    Yields
    ------
    X : csr_matrix of float32, (up to `BLOCK` documents, n_words)
    topics : ndarray of int64, (documents of X,)
    """
    random = np.random.default_rng(seed)
    cumulative = np.cumsum(1 / np.arange(1, n_words + 1))
    cumulative /= cumulative[-1]
    offsets = np.arange(1, n_topics + 1) * n_words // (n_topics + 1)
    for start in range(0, n_documents, BLOCK):
        topics = random.integers(n_topics, size=min(BLOCK, n_documents - start))
        lengths = random.poisson(length, len(topics))
        rows = np.repeat(np.arange(len(topics)), lengths)
        ranks = np.searchsorted(cumulative, random.random(len(rows)))
        own = random.random(len(rows)) < 0.5
        words = np.where(own, (ranks + offsets[topics[rows]]) % n_words, ranks)
        X = csr_matrix((np.ones(len(rows), np.float32), (rows, words)), (len(topics), n_words))
        X.sum_duplicates()
        X.data[:] = 1
        yield X, topics


def measure(options, series: str, size: int, path: str) -> dict:
    """Train and return a row.

    Parameters
    ----------
    options : Namespace
        The arguments of the program.
    series : {"vocabulary", "documents"}
        The series that the row belongs to.
    size : int
        The number of words or of documents.
    path : {"dense", "sampled"}
        The kind of loss.
    """
    config = make_case(options, size if series == "vocabulary" else options.words).config
    config = config.replace(
        {
            "training.learning_rate": options.learning_rate,
            "model.sampling": options.sampling if path == "sampled" else None,
        }
    )
    if series == "vocabulary":
        X, X_valid = newsgroups(config.data)
    else:
        X, X_valid = generated(size, options.words)
    autoencoder = contestants.new_autoencoder(config, X)
    for batch in itertools.islice(shuffled_batches(X, np.arange(X.shape[0]), options.batch), 3):
        autoencoder.train(batch)
    contestants.initialize(autoencoder, config, X, config.model.dropout)
    seconds, steps, order = 0.0, 0, streams(1).order
    per_epoch = X.shape[0] // options.batch
    while steps < options.epochs * per_epoch and seconds < options.seconds:
        began = time.perf_counter()
        for batch in shuffled_batches(X, order.permutation(X.shape[0]), options.batch):
            loss = float(autoencoder.train(batch))
            steps += 1
            if seconds + time.perf_counter() - began > options.seconds:
                break
        seconds += time.perf_counter() - began
        if not np.isfinite(loss):
            raise FloatingPointError("the loss is not finite, so its time means nothing")
    autoencoder.update_population_statistics(X[: options.batch])
    autoencoder.evaluate(X_valid[:2])  # both are compiled now
    began = time.perf_counter()
    autoencoder.update_population_statistics(X)
    heldout_loss = autoencoder.evaluate(X_valid)
    evaluation_seconds, peak = time.perf_counter() - began, contestants.peak_memory()
    arrays = autoencoder.get_state(training=True).values()
    return {
        "series": series,
        "vocabulary": X.shape[1],
        "documents": X.shape[0],
        "non_zeros": int(X.nnz),
        "path": path,
        "seconds_per_epoch": seconds / steps * per_epoch,
        "epochs": steps / per_epoch,
        "heldout_loss": heldout_loss,
        "evaluation_seconds": evaluation_seconds,
        "peak_mib": peak,
        "state_mib": sum(array.nbytes for array in arrays) / 2**20,
    }


def measure_in_turns(options, n_words: int, facts: dict) -> list[dict]:
    """Let both losses and the fastest variant in PyTorch take turns; return their rows.

    Parameters
    ----------
    options : Namespace
        The arguments of the program.
    n_words : int
        The largest vocabulary that was asked for.
    facts : dict
        The ``vocabulary``, ``documents`` and ``non_zeros`` of the corpus.
    """
    case, speeds, rows = make_case(options, n_words), {}, []
    with worker() as dense, worker() as sampled, worker() as torch, worker() as trial:
        corpora, _ = ask(trial, contestants.prepare, [case])
        corpus = corpora[contestants.corpus_key(case)]
        with tempfile.TemporaryDirectory() as name:
            file = Path(name, "first_step")
            ask(dense, contestants.start_theano, case, corpus)
            ask(dense, contestants.write_first_step, case, corpus, file)
            ask(sampled, contestants.start_theano, case, corpus, options.sampling)
            variant, _ = ask(trial, contestants.find_fastest_variant, case, corpus, file)
            ask(torch, contestants.start_torch, case, corpus, file, variant)
        trial.shutdown()
        contenders = {"dense": dense, "sampled": sampled, f"PyTorch ({variant})": torch}
        for path, process in list(contenders.items()) * (1 + TURNS):
            speed = speeds[path][-1] if path in speeds else ask(process, contestants.work, 5)
            steps = contestants.steps_in(TURN_SECONDS, speed, case)
            speeds.setdefault(path, []).append(ask(process, contestants.work, steps))
        for path, process in contenders.items():
            rows.append({**dict.fromkeys(COLUMNS), **facts, "series": "in turns", "path": path})
            documents = facts["documents"] // options.batch * options.batch
            rows[-1]["seconds_per_epoch"] = documents / median(speeds[path])
            rows[-1]["peak_mib"] = ask(process, contestants.peak_memory)
    return rows


def exponent(rows: list[dict], x: str, y: str) -> float:
    """Return b of the least-squares fit y = a x^b to rows with at least two values of x."""
    return float(np.polyfit(np.log([r[x] for r in rows]), np.log([r[y] for r in rows]), 1)[0])


def findings(rows: list[dict]) -> list[str]:
    """Return sentences on the rows: growth exponents, and dense and PyTorch beside sampled."""
    lines = []
    for series, path in itertools.product(("vocabulary", "documents"), ("dense", "sampled")):
        some = [row for row in rows if row["series"] == series and row["path"] == path]
        columns = ["vocabulary"] if series == "vocabulary" else ["documents", "non_zeros"]
        for x in columns:
            if len({row[x] for row in some}) > 1:
                seconds, memory = (exponent(some, x, y) for y in ("seconds_per_epoch", "peak_mib"))
                lines.append(
                    f"{path}: seconds per epoch grow as {x.replace('_', '-')}^{seconds:.2f}, peak "
                    f"memory as ^{memory:.2f}"
                )
        if series == "vocabulary" and len({row["state_mib"] for row in some}) > 1:
            state, peak = ([row[name] for row in some] for name in ("state_mib", "peak_mib"))
            slope, rest = np.polyfit(state, peak, 1)
            lines.append(f"{path}: peak memory is {rest:.0f} MiB and {slope:.2f} times the state")
    sampled = {
        (r["series"], r["vocabulary"], r["documents"]): r for r in rows if r["path"] == "sampled"
    }
    for row in rows:
        ours = sampled.get((row["series"], row["vocabulary"], row["documents"]))
        if row["path"] != "sampled" and ours:
            lines.append(comparison(row, ours))
    return lines


def comparison(row: dict, sampled: dict) -> str:
    """Return a sentence on how much faster and better or worse the sampled row is than another."""
    ratio = row["seconds_per_epoch"] / sampled["seconds_per_epoch"]
    line = (
        f"{row['series']}, {row['vocabulary']} words, {row['documents']} documents: sampled "
        f"{ratio:.1f} times as fast as {row['path']}"
    )
    if row["evaluation_seconds"]:
        whole = [r["seconds_per_epoch"] + r["evaluation_seconds"] for r in (row, sampled)]
        line += f" ({whole[0] / whole[1]:.1f} with the evaluation)"
    if row["heldout_loss"]:
        change = sampled["heldout_loss"] / row["heldout_loss"] - 1
        line += f", held-out loss {change:+.2%}"
        if row["epochs"] != sampled["epochs"]:
            line += f", after {sampled['epochs']:.2f} epochs and {row['epochs']:.2f}"
    return line


def markdown_table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table."""
    digits = dict.fromkeys(["seconds_per_epoch", "epochs", "heldout_loss", "evaluation_seconds"], 2)
    cells = [
        {
            title: "" if row[name] is None
            else f"{row[name]:.2f} (extrapolated)"
            if name == "seconds_per_epoch" and (row["epochs"] or 1) < 1
            else f"{row[name]:.{digits.get(name, 0)}f}" if isinstance(row[name], float)
            else row[name]
            for name, title in COLUMNS.items()
        }
        for row in rows
    ]  # fmt: skip
    return tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)


def markdown_report(rows: list[dict], options, machine: dict) -> str:
    """Return the text of ``results/benchmark_scale.md``."""
    parts = [
        "# Cost of an epoch as vocabulary and corpus grow",
        f"{options.units} hidden units with Batch Normalization, minibatches of {options.batch} "
        f"documents, Adam, {options.sampling} absent words drawn, {options.threads} threads. "
        "Series: 20 Newsgroups by vocabulary; generated documents by number; and medians of steps "
        "in turns. Seconds per epoch are those of its steps, extrapolated where less than an "
        "epoch was trained. Held-out loss: exact, over every word, in nats per document, after "
        "the epochs of the row. evaluation: seconds of the population statistics and of this "
        "loss, once per epoch. state: parameters, statistics and optimiser state. Peak memory is "
        "that of the process, with Python, libraries and compiled functions.",
        markdown_table(rows),
        "\n".join(f"- {line}" for line in findings(rows)),
        tabulate(machine.items(), headers=["made with", ""], tablefmt="github"),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    set_threads(options.threads)
    plan = [("vocabulary", size) for size in options.vocabularies]
    plan += [("documents", size) for size in options.documents]
    rows = []
    with worker() as process:
        cases = [make_case(options, size) for size in options.vocabularies]
        _, machine = ask(process, contestants.prepare, cases)

    def add(row):
        rows.append(row)
        print(
            f"{row['series']}, {row['vocabulary']} words, {row['documents']} documents, "
            f"{row['path']}: {row['seconds_per_epoch']:.2f} s per epoch",
            flush=True,
        )
        with atomic_write(REPORT) as file:
            file.write(markdown_report(rows, options, machine))
        if options.json:
            with atomic_write(options.json) as file:
                file.write("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")

    for series, size in plan:
        for path in ("dense", "sampled"):
            with worker() as process:
                add(ask(process, measure, options, series, size, path))
        if series == "vocabulary" and size == max(options.vocabularies) and not options.no_torch:
            facts = {name: rows[-1][name] for name in ("vocabulary", "documents", "non_zeros")}
            for row in measure_in_turns(options, size, facts):
                add(row)
    print(f"\n{markdown_table(rows)}\n\n" + "\n".join(findings(rows)) + f"\n\nAlso in {REPORT}")


if __name__ == "__main__":
    run_program(main, f"the rows measured so far are in {REPORT}")
