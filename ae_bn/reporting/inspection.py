"""What a trained model has learned: its units, what it misses, and its map.

Everything takes an `ae_bn.model.model_file.Model`, or plain codes; ``ae-bn inspect`` shows it.
"""

from __future__ import annotations

from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize

from ae_bn.data.corpus import Corpus
from ae_bn.errors import UserError
from ae_bn.evaluation.probes import saturated
from ae_bn.model.model_file import Model

MAPPED = 2000  # documents in a map, at most
PERPLEXITY = 30
EXAMPLES = 3  # documents of a unit


class Unit(NamedTuple):
    """A unit of the code layer, seen over documents."""

    number: int
    dead: bool  # the same value for every document
    active: float  # share of documents with a value above 0
    saturated: float | None  # share of values near a bound; None without bounds
    words: list  # of str: the words that correlate most with its value, the strongest first
    examples: list  # of int: the test documents with its highest values, the highest first


class Miss(NamedTuple):
    """A word of a document, or not of it, that its reconstruction gets wrong."""

    word: str
    given: float
    reconstructed: float


def describe_units(model: Model, corpus: Corpus, n_words: int = 8) -> list[Unit]:
    """Return what every code unit responds to, over the test documents.

    A unit's words are those whose presence in a document has the highest Pearson correlation with
    the unit's value.  Unlike weights, correlations work for encoders of any depth, and they do not
    favour rare words, whose large initial weights training hardly changes.

    Parameters
    ----------
    model : Model
        The trained model.
    corpus : Corpus
        The corpus whose test documents are encoded.
    n_words : int
        The largest number of words of a unit.
    """
    codes = model.autoencoder.encode(corpus.test)
    found = typical_words(codes, corpus.test, model.words, n_words)
    units = []
    for number, (values, words) in enumerate(zip(codes.T, found)):
        share_saturated = saturated(values, model.config.model.hidden_activation)
        dead = bool(np.ptp(values) == 0)
        highest = [] if dead else np.argsort(-values, kind="stable")[:EXAMPLES].tolist()
        active = float(np.mean(values > 0))
        units.append(Unit(number, dead, active, share_saturated, words, highest))
    return units


def distinct(units: list[Unit]) -> list[Unit]:
    """Return the units whose words are new: at most half of them belong to an earlier unit."""
    chosen, known = [], set()
    for unit in units:
        if len(known.intersection(unit.words)) <= len(unit.words) / 2 and not unit.dead:
            chosen.append(unit)
            known.update(unit.words)
    return chosen


def typical_words(codes: np.ndarray, X, words: list[str], number: int) -> list[list[str]]:
    """Return the words of every unit whose presence correlates most with its value.

    Parameters
    ----------
    codes : ndarray, (n, n_units)
        The codes of documents.
    X : csr_matrix, (n, n_words)
        The documents.
    words : list of str
        The vocabulary.
    number : int
        The largest number of words of a unit.

    Returns
    -------
    list of list of str
        The words with a positive Pearson correlation, the highest first.
    """
    codes = codes.astype(np.float64)
    present = csr_matrix(X > 0, dtype=np.float64)
    n, centred = len(codes), codes - codes.mean(axis=0)
    share = np.asarray(present.mean(axis=0)).ravel()
    deviation = np.sqrt(share * (1 - share))[:, None] * centred.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num((present.T @ centred) / n / deviation)  # (n_words, n_units)
    correlation[:, np.ptp(codes, axis=0) == 0] = 0
    found = []
    for column in correlation.T:
        best = np.argsort(-column, kind="stable")[:number]
        found.append([words[i] for i in best if column[i] > 0])
    return found


def most_missed(model: Model, X: csr_matrix, number: int) -> tuple[list[Miss], list[Miss]]:
    """Return the words of one document that its reconstruction lacks most, and adds most.

    Parameters
    ----------
    model : Model
        The trained model.
    X : csr_matrix, (1, n_words)
        The document, as the network's input.
    number : int
        The largest number of words in each list.

    Returns
    -------
    missed, added : list of Miss
        The words, with the largest difference first.
    """
    given, reconstructed = X.toarray().ravel(), model.autoencoder.reconstruct(X).ravel()
    difference = given - reconstructed
    order = np.argsort(-difference, kind="stable")

    def misses(columns):
        return [
            Miss(model.words[i], float(given[i]), float(reconstructed[i])) for i in columns[:number]
        ]

    missed = [i for i in order if given[i] > 0 and difference[i] > 0]
    added = [i for i in order[::-1] if given[i] == 0 and difference[i] < 0]
    return misses(missed), misses(added)


def project(codes: np.ndarray, seed: int) -> np.ndarray:
    """Return places in two dimensions, (n, 2), by t-SNE of the cosines of codes, (n, n_units)."""
    codes = normalize(codes.astype(np.float64))
    if codes.shape[1] > 50:  # t-SNE's authors advise to keep 50 principal components
        codes = PCA(min(50, len(codes)), random_state=seed).fit_transform(codes)
    # For rows of length 1, squared Euclidean distances are 2 - 2 cosines.
    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    method = TSNE(init="random", learning_rate="auto", perplexity=perplexity, random_state=seed)
    return method.fit_transform(codes)


def draw_map(model: Model, corpus: Corpus, seed: int = 0):
    """Return a figure: the test codes in two dimensions (t-SNE on cosines), coloured by label.

    Parameters
    ----------
    model : Model
        The trained model.
    corpus : Corpus
        The corpus.  At most `MAPPED` of its test documents are shown, drawn at random.
    seed : int
        The seed of the draw and of t-SNE.

    Returns
    -------
    matplotlib Figure
    """
    n = corpus.test.shape[0]
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:MAPPED])
    if len(rows) < 4:
        raise UserError(f"a map of {len(rows)} test documents shows nothing: take a larger corpus")
    codes, labels = model.autoencoder.encode(corpus.test[rows]), corpus.test_labels[rows]
    places = project(codes, seed)
    figure, axis = plt.subplots(figsize=(10, 7), layout="constrained")
    colors = plt.get_cmap("tab20")
    for number, name in enumerate(corpus.label_names or ["documents"]):
        chosen = places[labels == number] if corpus.label_names else places
        axis.scatter(*chosen.T, s=8, color=colors(number % 20), label=name)
    if len(corpus.label_names) > 1:
        figure.legend(loc="outside right upper", fontsize="small", markerscale=2)
    axis.set(xticks=[], yticks=[], title=f"Codes of {len(rows)} test documents (t-SNE)")
    return figure
