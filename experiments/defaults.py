"""How good are the estimator's defaults beside TF-IDF, an SVD and the linear denoiser?

    python experiments/debian.py
    python experiments/defaults.py

The corpora are both copies of 20 Newsgroups, the titles and the first 40 words of one copy, Reuters
R52, and 12,000 of Debian's descriptions of packages (`experiments/debian.py` downloads them).  All
codes are of 2,000 words and 128 units, learned from the training documents alone and without their
labels.  The table has, on test documents, the centred precision at 2 %, the same with the codes
scaled to length 1 first, and the accuracy of a ridge probe.

It writes ``results/defaults.md``.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Callable

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.datasets import fetch_20newsgroups
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import FunctionTransformer

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.config import load_config
from ae_bn.data.sources import find_texts
from ae_bn.errors import UserError
from ae_bn.files import atomic_write

OUT = Path("results", "defaults.md")
WORDS, UNITS = 2000, 128
DESCRIPTIONS, SECTIONS, TRAINING = 12_000, 20, 9_000  # of Debian, drawn at random with seed 0

Parts = tuple  # training texts, their labels, test texts, their labels


def prepared_source(name: str) -> Parts:
    """Return the parts of a source of `ae_bn.data.sources`."""
    found = find_texts(load_config(None, [f"data.source={name}"]).data, print)
    return found.train, found.train_labels, found.test, found.test_labels


def first_words() -> Parts:
    """Return the first 40 words of scikit-learn's copy of 20 Newsgroups."""
    train, train_labels, test, test_labels = prepared_source("sklearn")
    short = [[" ".join(text.split()[:40]) for text in texts] for texts in (train, test)]
    return short[0], train_labels, short[1], test_labels


def titles() -> Parts:
    """Return the subjects of 20 Newsgroups, without the "Re:" of an answer."""
    found: list = []
    for part in ("train", "test"):
        data = fetch_20newsgroups(subset=part, shuffle=False)
        lines = [re.search(r"^Subject:(.*)$", text, re.MULTILINE) for text in data.data]
        subjects = ["" if line is None else line[1] for line in lines]
        found += [[re.sub(r"(?i)^(\s*re:)+", "", subject) for subject in subjects], data.target]
    return tuple(found)


def descriptions() -> Parts:
    """Return descriptions of Debian's packages from the largest sections."""
    path = Path("data", "debian.csv")
    if not path.exists():
        raise UserError(f"{path} is missing: python experiments/debian.py downloads it")
    table = pd.read_csv(path, keep_default_na=False)
    largest = table["label"].value_counts().index[:SECTIONS]
    table = table[table["label"].isin(largest)].sample(DESCRIPTIONS, random_state=0)
    texts, labels = table["text"].tolist(), pd.factorize(table["label"])[0]
    return texts[:TRAINING], labels[:TRAINING], texts[TRAINING:], labels[TRAINING:]


CORPORA: dict[str, Callable[[], Parts]] = {
    "descriptions of packages": descriptions,
    "titles of 20 Newsgroups": titles,
    "first 40 words of 20 Newsgroups": first_words,
    "20 Newsgroups": lambda: prepared_source("sklearn"),
    "20 Newsgroups, other copy": lambda: prepared_source("orange"),
    "Reuters R52": lambda: prepared_source("reuters_r52"),
}


def encoders(seed: int) -> dict[str, BaseEstimator]:
    """Return what turns TF-IDF rows into codes, by name and not fitted."""
    from ae_bn import BatchNormAutoencoder, LinearDenoiser
    from ae_bn.estimator import masked

    return {
        "TF-IDF": FunctionTransformer(accept_sparse=True),
        "SVD": TruncatedSVD(UNITS, random_state=seed),
        "linear denoiser, masking .5": LinearDenoiser(UNITS, masking=0.5),
        "linear denoiser, masking .9": LinearDenoiser(UNITS, masking=0.9),
        "defaults": BatchNormAutoencoder([UNITS], random_state=seed),
        "defaults, masking .5": BatchNormAutoencoder([UNITS], random_state=seed, **masked(0.5)),
    }


def measure(parts: Parts, seed: int) -> list[dict]:
    """Return the figures of all encoders on a corpus."""
    from ae_bn.choosing import text_vectoriser
    from ae_bn.data.corpus import split_validation
    from ae_bn.evaluation.codes import precision_at, ridge_accuracy, scaled_precision
    from ae_bn.evaluation.probes import Split
    from ae_bn.randomness import streams

    train, train_labels, test, test_labels = parts
    y, y_test = np.asarray(train_labels), np.asarray(test_labels)
    vectoriser = text_vectoriser(WORDS)
    X, X_test = vectoriser.fit_transform(train), vectoriser.transform(test)
    # The documents that `BatchNormAutoencoder.fit` holds out choose the strength of the probe.
    fit, valid = split_validation(len(y), 0.1, streams(seed).split)
    rows = []
    for name, encoder in encoders(seed).items():
        started = time.process_time()
        encoder.fit(X)
        seconds = time.process_time() - started
        codes, queries = encoder.transform(X), Split(encoder.transform(X_test), y_test)
        database = Split(codes, y)
        probe, strength = (Split(codes[part], y[part]) for part in (fit, valid))
        rows.append(
            {
                "codes": name,
                "centred precision": f"{precision_at(database, queries).centred:.3f}",
                "scaled": f"{scaled_precision(database, queries):.3f}",
                "accuracy": f"{ridge_accuracy(probe, strength, queries):.3f}",
                "CPU seconds": f"{seconds:.0f}",
            }
        )
        print(*rows[-1].values(), sep=", ", flush=True)
    return rows


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the SVD and of training")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    found: list[dict] = []
    for name, parts in CORPORA.items():
        corpus = parts()
        sizes = f"{name}, {len(corpus[0]):,} / {len(corpus[2]):,}"
        print(sizes)
        rows = measure(corpus, options.seed)
        found += [{"corpus, training / test": sizes, **row} for row in rows]
        lines = [list(found[0]), ["---"] * len(found[0]), *(row.values() for row in found)]
        with atomic_write(OUT) as file:
            file.write("".join(f"| {' | '.join(line)} |\n" for line in lines))
    print(f"\n{OUT} is written")


if __name__ == "__main__":
    run_program(main, f"the corpora that are done are in {OUT}")
