"""Choosing an encoder for your own text: candidates, a criterion on held-out documents, a table.

No encoder is the best one for every text, so `choose` fits a few and compares them.  A fifth of the
documents, at most `MOST_HELD_OUT`, is held out: no candidate learns from it.  The criterion is

- with labels, the precision of retrieval: how many of the 2 % of fit documents nearest to a
  held-out document have its label (cosines of centred codes, see `ae_bn.evaluation.codes`);
- without labels, *finding the other half*.  The distinct words of every held-out document are
  divided at random into two halves, so the halves share no word.  Each first half is a query, and
  the second halves are the database.  The criterion is the share of queries whose own second half
  is among the nearest tenth (cosines of centred codes).

TF-IDF itself is in the table as a baseline, but it is not chosen, because its rows are no codes.
"""

from __future__ import annotations

import time
from collections import Counter
from numbers import Integral
from typing import Any, Iterable, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize
from tqdm import tqdm

from ae_bn.config import load_config
from ae_bn.data.sources import index_labels
from ae_bn.data.words import checked_texts, split_words, weigh
from ae_bn.denoiser import LinearDenoiser
from ae_bn.errors import UserError
from ae_bn.estimator import BatchNormAutoencoder, masked
from ae_bn.evaluation.codes import precision_at, ridge_accuracy
from ae_bn.evaluation.probes import Split
from ae_bn.randomness import streams

HELD_OUT = 0.2  # share of the documents
MOST_HELD_OUT = 2000
FEWEST_DOCUMENTS = 50
FEWEST_LABELLED = 10  # documents of each of two labels, so that every part has both
FEWEST_HALVED = 5  # held-out documents that have two words, which two halves need
NEAREST = 0.1  # share of the second halves among which a first half has to find its own
EPOCHS = 60  # of an autoencoder that starts from random weights, at most
BASELINE = "TF-IDF"
PRECISION, OTHER_HALF = "precision", "other half"  # the criterion with labels, and without


class Choice(NamedTuple):
    """What `choose` returns."""

    pipeline: Pipeline  # from texts to codes, fitted
    table: pd.DataFrame  # a row per candidate, the best first


def choose(
    texts: Iterable[str],
    labels=None,
    *,
    n_components: int = 128,
    words: int = 2000,
    token_pattern: str | None = None,
    ngram_range: tuple[int, int] = (1, 1),
    min_df: float = 1,
    seed: int = 1,
    verbose: bool = False,
) -> Choice:
    """Fit several encoders on some texts, and return the best one and a table of all.

    Parameters
    ----------
    texts : iterable of str
        The documents, at least `FEWEST_DOCUMENTS`.
    labels : sequence of str or int, optional
        The label of each document.  Labels only choose: among candidates, and among the epochs of
        an autoencoder.
    n_components : int
        The number of units of every code.  It is lowered to the number of words, or of the fit
        documents that an autoencoder trains on, where one of these is smaller.
    words : int
        The size of the vocabulary: the most frequent words, without English stop words.
    token_pattern : str, optional
        A regular expression that finds the words of lower-case text, as in a `TfidfVectorizer`.  If
        it is not given, words are two or more letters of any script without digits beside them.
    ngram_range : tuple of int
        The least and the largest number of words that are counted as one.
    min_df : int or float
        The smallest number of fit documents, or share of them, that a word is in.
    seed : int
        The seed of everything that is random.
    verbose : bool
        Whether to show a progress bar.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
        The vectoriser and the best candidate, fitted on the fit documents.  The figures in the
        table are those of this very pipeline.  `ae_bn.saving.save_model` writes it to a file.
    table : DataFrame
        A row per candidate, the best first: ``candidate``; with labels ``precision`` and
        ``accuracy`` (of a linear probe); ``other half``, the criterion without labels; and
        ``seconds``, the time of fitting.

    Raises
    ------
    UserError
        If a parameter is invalid, or there are too few documents, words or labels.
    """
    _check_whole(1, words=words)
    vectoriser = text_vectoriser(words, token_pattern, ngram_range, min_df)
    comparison = Comparison(list(checked_texts(texts)), labels, vectoriser, seed)
    candidates = comparison.candidates(n_components, seed)
    bar = tqdm(candidates.items(), unit=" candidates", disable=not verbose)
    table = ranked([comparison.fit(name, transformer) for name, transformer in bar])
    return Choice(comparison.pipeline(candidates[best(table)]), table)


class Comparison:
    """Documents to fit candidates on, and held-out documents to compare them on.

    Parameters
    ----------
    documents : list of str or csr_matrix
        The documents as texts, or as word counts, (n, n_columns).
    labels, seed
        See `choose`.
    vectoriser : TfidfVectorizer or CountWeights
        What turns the documents into TF-IDF rows.

    Attributes
    ----------
    vectoriser : TfidfVectorizer or CountWeights
        The vectoriser, fitted on the fit documents.
    X : csr_matrix of float32, (n_fit, n_words)
        The TF-IDF rows of the fit documents.
    """

    def __init__(self, documents, labels, vectoriser, seed: int = 1):
        _check_whole(0, seed=seed)
        n = documents.shape[0] if issparse(documents) else len(documents)
        check_number(n)
        rng = streams(int(seed)).split
        order = rng.permutation(n)
        n_held_out = min(MOST_HELD_OUT, round(HELD_OUT * n))
        held_out, fit = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
        self._labels = None
        if labels is not None:
            numbers = _label_numbers(labels, n)
            self._labels = numbers[fit], numbers[held_out]
        self.vectoriser = vectoriser
        self.X = fitted_rows(self.vectoriser, _rows(documents, fit))
        self._held_out = self.vectoriser.transform(_rows(documents, held_out))
        self._halves = split_in_halves(self._held_out, rng)
        if labels is None and self._halves[0].shape[0] < FEWEST_HALVED:
            raise UserError(
                f"{self._halves[0].shape[0]} held-out documents have two words of the vocabulary: "
                "give longer or more documents, or labels"
            )
        draws = rng.random(len(fit))
        self._probe = draws < min(0.9, draws.max())  # the others choose the strength of the probe

    def units(self, n_components: int) -> int:
        """Return the number of units of every code, see `choose`."""
        _check_whole(1, n_components=n_components)
        held_out = max(1, round(load_config().data.validation_fraction * self.X.shape[0]))
        return int(min(n_components, self.X.shape[0] - held_out, self.X.shape[1]))

    def candidates(self, n_components: int, seed: int) -> dict:
        """Return the transformers to compare, by name and not fitted.

        Parameters
        ----------
        n_components, seed
            See `choose`.
        """
        k = self.units(n_components)
        monitor = "loss" if self._labels is None else "precision"

        def autoencoder(**parameters):
            return BatchNormAutoencoder([k], monitor=monitor, random_state=int(seed), **parameters)

        from_random = {"start": "random", "epochs": EPOCHS}
        return {
            BASELINE: FunctionTransformer(accept_sparse=True),
            "SVD": TruncatedSVD(k, random_state=int(seed)),
            **{
                f"linear denoiser, masking {masking}": LinearDenoiser(k, masking=masking)
                for masking in (0.5, 0.7, 0.9)
            },
            "autoencoder, masking 0.5": autoencoder(
                batch_norm=False, input_dropout=0.5, **from_random
            ),
            "autoencoder, hidden BN, masking 0.7": autoencoder(**from_random),
            **{
                f"denoiser, then hidden BN, masking {masking}": autoencoder(**masked(masking))
                for masking in (0.5, 0.9)
            },
        }

    def fit(self, name: str, transformer) -> dict:
        """Fit a candidate, and return its row of the table."""
        started = time.perf_counter()
        transformer.fit(self.X, None if self._labels is None else self._labels[0])
        seconds = time.perf_counter() - started
        return {"candidate": name, **self.measure(transformer), "seconds": seconds}

    def pipeline(self, transformer) -> Pipeline:
        """Return the fitted pipeline of the vectoriser and a fitted candidate."""
        return make_pipeline(self.vectoriser, transformer)

    def measure(self, transformer) -> dict:
        """Return the figures of a fitted candidate: precision, accuracy (with labels), other half.

        Parameters
        ----------
        transformer : object
            Its ``transform`` takes TF-IDF rows and returns codes.
        """
        fit, held_out = (transformer.transform(X) for X in (self.X, self._held_out))
        figures = {}
        if self._labels is not None:
            of_fit, of_held_out = self._labels
            database, queries = Split(fit, of_fit), Split(held_out, of_held_out)
            probe = Split(fit[self._probe], of_fit[self._probe])
            strength = Split(fit[~self._probe], of_fit[~self._probe])
            figures[PRECISION] = precision_at(database, queries).centred
            figures["accuracy"] = ridge_accuracy(probe, strength, queries)
        figures[OTHER_HALF] = float("nan")
        if self._halves[0].shape[0] >= FEWEST_HALVED:
            first, second = (transformer.transform(half) for half in self._halves)
            mean = np.asarray(fit.mean(axis=0)).ravel()
            figures[OTHER_HALF] = other_half_found(first, second, mean)
        return figures


def text_vectoriser(
    words: int,
    token_pattern: str | None = None,
    ngram_range: tuple[int, int] = (1, 1),
    min_df: float = 1,
    kind: str = "tfidf",
) -> CountVectorizer:
    """Return a vectoriser that makes the rows that the experiments use, and `Encoder` too.

    Parameters
    ----------
    words, token_pattern, ngram_range, min_df
        See `choose`.
    kind : {"tfidf", "as_is"}
        The rows: TF-IDF, by a `TfidfVectorizer`, or counts, by a `CountVectorizer`.
    """
    try:  # the checks of the settings of a run
        given = {"token_pattern": token_pattern, "ngram_range": list(ngram_range), "min_df": min_df}
        load_config().replace({f"data.{name}": value for name, value in given.items()})
    except TypeError:
        raise UserError(
            f"ngram_range={ngram_range!r:.60}: give two numbers, such as (1, 2)"
        ) from None
    own = {"lowercase": False, "tokenizer": split_words, "token_pattern": None}  # lower-case words
    vectoriser = TfidfVectorizer if kind == "tfidf" else CountVectorizer
    return vectoriser(
        **(own if token_pattern is None else {"token_pattern": token_pattern}),
        ngram_range=tuple(ngram_range),
        min_df=min_df,
        stop_words="english",
        max_features=words,
        dtype=np.float32,
    )


def check_number(n: int) -> None:
    """Raise a UserError if these are too few documents to learn from."""
    if n < FEWEST_DOCUMENTS:
        raise UserError(f"{n} documents: give at least {FEWEST_DOCUMENTS}")


def fitted_rows(vectoriser, documents) -> csr_matrix:
    """Fit a vectoriser, and return the rows of the documents; a UserError if no word is left."""
    try:
        return vectoriser.fit_transform(documents)
    except ValueError as error:
        raise UserError(f"no vocabulary from these texts ({error})") from None


class CountWeights(TransformerMixin, BaseEstimator):
    """Rows of a matrix of word counts, in place of a vectoriser of texts.

    Parameters
    ----------
    names : list of str
        The word of each column.
    words : int
        The size of the vocabulary: the most frequent words.
    kind : {"tfidf", "as_is"}
        The rows: TF-IDF, or the counts themselves.
    """

    def __init__(self, names, words=2000, kind="tfidf"):
        self.names = names
        self.words = words
        self.kind = kind

    def fit(self, X, y=None):
        """Choose the words of counts, csr_matrix (n, n_columns), and find their idf."""
        total = np.asarray(X.sum(axis=0)).ravel()
        self.columns_ = np.sort(np.argsort(-total, kind="stable")[: self.words])
        self.idf_ = TfidfTransformer().fit(X[:, self.columns_]).idf_
        return self

    def transform(self, X):
        """Return the rows of counts, csr_matrix (n, n_columns)."""
        return weigh(X[:, self.columns_], self.kind, self.idf_)

    def get_feature_names_out(self, input_features=None):
        """Return the words of the rows."""
        return np.array(self.names, dtype=object)[self.columns_]


def split_in_halves(X: csr_matrix, rng: np.random.Generator) -> tuple[csr_matrix, csr_matrix]:
    """Divide the distinct words of every document at random into two halves.

    Parameters
    ----------
    X : csr_matrix, (n, n_words)
        The documents.  Those with fewer than two words have no halves and are left out.
    rng : numpy.random.Generator
        The generator that draws the halves.

    Returns
    -------
    first, second : csr_matrix, (n_halved, n_words)
        The halves, with rows of length 1 and no word in common.  Of an odd number of words, the
        second half has one more.
    """
    X = csr_matrix(X[np.diff(X.indptr) >= 2])
    lengths = np.diff(X.indptr)
    document = np.repeat(np.arange(X.shape[0]), lengths)
    order = np.lexsort((rng.random(X.nnz), document))  # the words of each document, shuffled
    place = np.empty(X.nnz, dtype=int)
    place[order] = np.arange(X.nnz) - np.repeat(X.indptr[:-1], lengths)
    is_first = place < (lengths // 2)[document]
    halves = []
    for chosen in (is_first, ~is_first):
        half = csr_matrix((np.where(chosen, X.data, 0), X.indices, X.indptr), X.shape, copy=True)
        half.eliminate_zeros()
        halves.append(normalize(half) if X.shape[0] else half)
    return halves[0], halves[1]


def other_half_found(first, second, mean: np.ndarray) -> float:
    """Return the share of first halves that find their second half among the nearest tenth.

    Parameters
    ----------
    first, second : ndarray or csr_matrix, (n, n_units)
        The codes of the halves; row i of both belongs to document i.
    mean : ndarray, (n_units,)
        The mean code of the fit documents, which is subtracted.

    Returns
    -------
    float
        From 0 to 1.  Halves of equal cosine share their mean rank.
    """
    n = first.shape[0]
    Q, D = (
        normalize((half.toarray() if issparse(half) else half) - mean) for half in (first, second)
    )
    cosines = Q @ D.T  # (n, n)
    own = cosines.diagonal()[:, None]
    # From 1; the mean rank of equals.
    ranks = (cosines > own).sum(axis=1) + ((cosines == own).sum(axis=1) + 1) / 2
    return float(np.mean(ranks <= max(1, round(NEAREST * n))))


def criterion(table: pd.DataFrame) -> str:
    """Return the name of the column that chooses."""
    return PRECISION if PRECISION in table else OTHER_HALF


def ranked(rows: list[dict]) -> pd.DataFrame:
    """Return the table of candidates, the best first; `OTHER_HALF` decides between equals."""
    table = pd.DataFrame(rows)
    by = list(dict.fromkeys([criterion(table), OTHER_HALF]))
    return table.sort_values(by, ascending=False, ignore_index=True)


def best(table: pd.DataFrame) -> str:
    """Return the name of the best candidate with codes."""
    return table.loc[table["candidate"] != BASELINE, "candidate"].iloc[0]


def _check_whole(least: int, **values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise UserError(f"{name}={value!r:.60}: give a whole number from {least}")


def _rows(documents, rows: np.ndarray):
    """Return some documents, of a list or a matrix."""
    return documents[rows] if issparse(documents) else [documents[row] for row in rows]


def _label_numbers(labels, n: int) -> np.ndarray:
    """Return the number of each document's label."""
    labels = list(labels)
    if len(labels) != n:
        raise UserError(f"{len(labels)} labels for {n} documents: give one for each")
    for number, label in enumerate(labels):
        if label is None or label is pd.NA or label != label:
            raise UserError(f"labels[{number}] is missing: give a label for each document")
    labels = list(map(str, labels))
    problem = problem_of(labels)
    if problem:
        raise UserError(f"labels: {problem}: give others, or leave the labels out")
    return index_labels(labels, n)[1]


def problem_of(labels: list[str]) -> str:
    """Return why labels cannot choose among candidates, or an empty string if they can."""
    counts = sorted(Counter(labels).values(), reverse=True)
    if len(counts) == 1:
        return "all documents have one label"
    if len(counts) > len(labels) / 2:
        return f"{len(counts)} different ones for {len(labels)} documents"
    if counts[1] < FEWEST_LABELLED:
        return f"fewer than two of them have {FEWEST_LABELLED} documents"
    return ""
