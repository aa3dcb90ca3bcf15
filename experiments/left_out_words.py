"""Does a network with BN copy the words of a document, or infer them from the others?

    python experiments/left_out_words.py
    python experiments/left_out_words.py --seeds 1

The program trains a network for each loss, without masking and with masking .5, without BN and with
hidden BN.  With cross-entropy, where BN alone costs accuracy, it also trains hidden layers with a
part of BN: centring or division by std.  At the lowest validation loss it measures the loss of the
validation documents' words twice: while the word is in the document (``in_document``), and after
that one word is left out (``left_out``), which costs a network that copies words.  Cross-entropy is
in nats a word, squared error is divided by the words' squares.

It writes ``results/left_out_words/results.csv``.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from code_dimensions import DROPOUT, parse_arguments, trained, write_results
from same_weights import RATES
from scipy.sparse import csr_matrix

from ae_bn.commands.command_line import run_program

FOLDER = Path("results", "left_out_words")
BLOCK = 2000  # rows that are reconstructed together
LEVELS = Path("configs", "decomposition_cross_entropy.yaml")  # of BN
BN = {
    "cross-entropy": ["none", "hidden centring", "hidden division", "hidden"],
    "squared error": ["none", "hidden"],
}


def without_each_word(X: csr_matrix) -> csr_matrix:
    """Return each document once for each of its words, without that word.

    Parameters
    ----------
    X : csr_matrix, (n, n_words)
        Documents, with ``X.nnz`` entries.

    Returns
    -------
    csr_matrix, (X.nnz, n_words)
        Row i lacks the word of entry i.
    """
    documents = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    copies = X[documents]
    entries = np.arange(X.nnz) - X.indptr[documents]  # where the word is in its document
    copies.data[copies.indptr[:-1] + entries] = 0
    copies.eliminate_zeros()
    return copies


def word_loss(reconstruct, rows: csr_matrix, words, values, loss: str) -> float:
    """Return the loss of one word in each row.

    Parameters
    ----------
    reconstruct : callable
        From rows to their reconstruction, dense and of the same shape.
    rows : csr_matrix, (n, n_words)
    words : ndarray of int, (n,)
        The column of each row's word.
    values : ndarray, (n,)
        The word's value in the document.
    loss : str
        One of `same_weights.RATES`.

    Returns
    -------
    float
        Mean cross-entropy in nats, or the summed squared error over the summed squares.
    """
    starts = range(0, len(words), BLOCK)
    blocks = (reconstruct(rows[start : start + BLOCK]) for start in starts)
    parts = (words[start : start + BLOCK] for start in starts)
    chosen = [block[np.arange(len(part)), part] for block, part in zip(blocks, parts)]
    found = np.concatenate(chosen)
    if loss == "cross-entropy":
        return float(-np.log(np.maximum(found, np.finfo(np.float32).tiny)).mean())
    return float(((values - found) ** 2).sum() / (values**2).sum())


def measure(loss: str, seed: int, bn: str, masking: str) -> dict:
    """Return both losses of words and the metrics of codes of one arm."""
    from ae_bn.config import load_config

    settings = {**load_config(LEVELS).experiment.factors["bn"][bn], **DROPOUT[masking]}
    with trained(loss, seed, settings) as (autoencoder, prepared):
        X = prepared.X_valid
        words = X.indices, X.data, loss
        documents = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        in_document = word_loss(autoencoder.reconstruct, X[documents], *words)
        left_out = word_loss(autoencoder.reconstruct, without_each_word(X), *words)
        metrics = prepared.meter(autoencoder.encode(prepared.X), autoencoder.encode(X))
    arm = {"loss": loss, "seed": seed, "bn": bn, "masking": masking}
    return {**arm, "in_document": in_document, "left_out": left_out, **metrics}


def main(arguments: list[str]) -> None:
    seeds = range(1, parse_arguments(arguments, __doc__ or "").seeds + 1)
    arms = (
        (loss, seed, bn, masking)
        for loss, seed in itertools.product(RATES, seeds)
        for bn, masking in itertools.product(BN[loss], ["none", "masking .5"])
    )
    write_results(FOLDER, measure, arms)


if __name__ == "__main__":
    run_program(main, f"the runs that are done are in {FOLDER}/results.csv")
