r"""Metrics of codes that are fast enough to be taken after every epoch.

They take a closed form or one matrix product:

- `ridge_accuracy`: the accuracy of a linear probe.  Let Z be the codes standardised by the fit
  documents, and Y the labels as indicators minus their shares.  The ridge regression

      B = (Z^T Z / n + strength I)^-1 Z^T Y / n

  scores the labels, and the label with the highest score is predicted.  The strength is chosen on
  the validation documents.
- `precision_at`: the share of a query's nearest documents that have its label, by cosine of the
  codes as they are (raw), and of the codes minus the mean of the database (centred).
  `scaled_precision` scales the codes to length 1 before it centres them.
- `mean_share`: ``|mu|^2 / E|z|^2``, the share of the codes' energy in their mean mu.  With a share
  near 1 all raw codes point in nearly the same direction, and the mean decides their cosines.

`PathMeter` measures validation documents after an epoch.  `snapshot_metrics` measures test
documents at the end of a run.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Callable, NamedTuple

import numpy as np
import theano
import theano.tensor as T
from scipy.sparse import csr_matrix, issparse
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import normalize

from ae_bn.evaluation.probes import Split, measured, merged, softmax_accuracy, unit_metrics
from ae_bn.kernels.product import Product
from ae_bn.kernels.retrieval import CountRelevant
from ae_bn.theano_setup import require_compiler

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # ridge strengths, as shares of a unit's variance
FRACTION = 0.02  # share of the database that is retrieved (Larochelle and Lauly 2012)
QUERIES = 256  # number of queries scored at a time
PATH_QUERIES = 500  # largest number of validation documents that are queries after an epoch


class Precision(NamedTuple):
    """Mean precision over queries at one number of retrieved documents."""

    raw: float  # cosine of the codes as they are
    centred: float  # cosine of the codes minus the mean of the database


def ridge_accuracy(fit: Split, valid: Split, test: Split | None = None) -> float:
    """Return the accuracy of a ridge-regression probe on codes.

    Parameters
    ----------
    fit : Split
        The codes that the probe is fitted on.  All codes are standardised by their mean and
        deviation.  Sparse codes are not standardised.
    valid : Split
        The codes that choose the ridge strength: the one of `STRENGTHS` with the best accuracy, and
        the strongest among equals.
    test : Split, optional
        The codes that the accuracy is measured on; by default those of valid.

    Returns
    -------
    float
        The share of documents whose label is predicted.
    """
    label = _sparse_ridge(fit) if issparse(fit.codes) else _dense_ridge(fit)

    def accuracies(split, strengths):
        found = zip(strengths, label(split.codes, strengths))
        return {strength: float(np.mean(labels == split.labels)) for strength, labels in found}

    on_valid = accuracies(valid, sorted(STRENGTHS, reverse=True))
    strength = max(on_valid, key=on_valid.__getitem__)  # the first of equals
    return on_valid[strength] if test is None else accuracies(test, [strength])[strength]


def _dense_ridge(fit):
    """Return a function from codes and strengths to the labels that each probe predicts."""
    n = len(fit.labels)
    labels, indicator = np.unique(fit.labels, return_inverse=True)
    mean = fit.codes.mean(axis=0)
    Z = fit.codes - mean  # (n, n_units)
    deviation = np.sqrt(np.einsum("ij,ij->j", Z, Z) / n)
    deviation[deviation == 0] = 1
    Z /= deviation
    Y = csr_matrix((np.ones(n, Z.dtype), (np.arange(n), indicator)))  # (n, n_labels)
    share = np.bincount(indicator) / n
    # Z has mean 0, so the shares drop out of Z^T (Y - share).
    values, vectors = np.linalg.eigh((Z.T @ Z).astype(np.float64) / n)
    right = vectors.T @ (Y.T @ Z).T.astype(np.float64) / n  # (n_units, n_labels)

    def label(codes, strengths):
        standardised = (codes - mean) / deviation
        for strength in strengths:
            B = vectors @ (right / (values + strength)[:, None])
            scores = standardised @ B.astype(Z.dtype) + share.astype(Z.dtype)
            yield labels[scores.argmax(axis=1)]

    return label


def _sparse_ridge(fit):
    n, probes = len(fit.labels), {}

    def label(codes, strengths):
        for strength in strengths:
            if strength not in probes:
                probe = RidgeClassifier(strength * n, solver="sparse_cg", tol=1e-4)
                probes[strength] = probe.fit(fit.codes, fit.labels)
            yield probes[strength].predict(codes)

    return label


def precision_at(database: Split, queries: Split, fraction: float = FRACTION) -> Precision:
    """Return the share of relevant documents among those nearest to a query, mean over queries.

    A document is relevant if it has the query's label.  A code of zeros has cosine 0 with all
    others.  Of documents with equal cosines the first are the nearest.

    Parameters
    ----------
    database, queries : Split
        The codes that are retrieved, and the codes that they are retrieved for; dense or sparse.
    fraction : float
        The share of the database that is retrieved, in (0, 1]; at least one document.

    Returns
    -------
    Precision
        The raw and the centred precision.

    Raises
    ------
    UserError
        If there is no C++ compiler.
    """
    k = max(1, round(fraction * len(database.labels)))
    prepare = _prepared_sparse if issparse(database.codes) else _prepared
    scores, offsets, raw, centred = prepare(database.codes, queries.codes)
    labels = [split.labels.astype(np.int32) for split in (database, queries)]
    found = np.zeros(2)
    count = _counter(theano.config.floatX, issparse(database.codes))
    for start in range(0, len(labels[1]), QUERIES):
        rows = slice(start, start + QUERIES)
        found += count(
            *scores(rows), offsets[1][rows], offsets[0], raw[1][rows], raw[0],
            centred[1][rows], centred[0], labels[1][rows], labels[0], k,
        )  # fmt: skip
    return Precision(*(float(v) for v in found / (k * len(labels[1]))))


def scaled_precision(database: Split, queries: Split) -> float:
    """Return the centred precision of codes that are scaled to length 1 before they are centred.

    A code of zeros stays one.

    Parameters
    ----------
    database, queries : Split
        The codes, as `precision_at` takes them.
    """
    database, queries = (Split(normalize(z), labels) for z, labels in (database, queries))
    return precision_at(database, queries).centred


def _prepared(D, Q):
    """Return what `_counter` takes for dense codes: the queries' rows, offsets and scales.

    The product is that of centred codes, and offsets make raw ones of it:
    q d = (q - mu)(d - mu) + (q - mu) mu + (mu (d - mu) + mu mu)
    """
    D, Q = np.asarray(D), np.asarray(Q)
    mu = D.mean(axis=0, dtype=np.float64)
    raw = [_inverse_norms(codes) for codes in (D, Q)]
    mu = mu.astype(theano.config.floatX)
    D, Q = (np.asarray(codes - mu, theano.config.floatX) for codes in (D, Q))
    centred = [_inverse_norms(codes) for codes in (D, Q)]
    return (lambda rows: (Q[rows], D)), (D @ mu + mu @ mu, Q @ mu), raw, centred


def _prepared_sparse(D, Q):
    """Return the same for sparse codes, which stay sparse, with the product of raw codes.

    Offsets make centred ones of it: (q - mu)(d - mu) = q d - q mu + (mu mu - mu d)
    """
    D, Q = csr_matrix(D, dtype=np.float64), csr_matrix(Q, dtype=np.float64)
    Dt = csr_matrix(D.T)
    mu = np.asarray(D.mean(axis=0)).ravel()
    squares = [np.asarray(codes.multiply(codes).sum(axis=1)).ravel() for codes in (D, Q)]
    products = [codes @ mu for codes in (D, Q)]
    raw = [_inverse(square) for square in squares]
    # An error of rounding, not a length, is left of a code that is equal to the mean.
    left = [square - 2 * p + mu @ mu for square, p in zip(squares, products)]
    centred = [_inverse(np.where(v > 1e-12 * s, v, 0)) for v, s in zip(left, squares)]
    offsets = [
        np.asarray(offset, theano.config.floatX) for offset in (mu @ mu - products[0], -products[1])
    ]
    return (
        lambda rows: [(Q[rows] @ Dt).toarray().astype(theano.config.floatX)],
        offsets,
        raw,
        centred,
    )


def _inverse_norms(codes):
    """Return 1 / |code|, and 0 for a code of zeros, (n,) in floatX."""
    return _inverse(np.einsum("ij,ij->i", codes, codes))


def _inverse(squares):
    norms = np.sqrt(squares)
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return inverse.astype(theano.config.floatX)


@lru_cache(maxsize=None)
def _counter(floatX, sparse):  # Theano's setting, which its types follow; here, functions for each
    """Return the compiled function that sums the relevant documents of queries, by both cosines.

    It takes centred codes and the offsets of raw ones, or, where codes are sparse, scores of raw
    codes and the offsets of centred ones; see `_prepared` and `_prepared_sparse`.
    """
    require_compiler()
    offsets = T.vectors("query_offset", "document_offset")
    raw, centred = T.vectors("raw_Q", "raw_D"), T.vectors("centred_Q", "centred_D")
    labels, k = T.ivectors("query_labels", "document_labels"), T.lscalar("k")
    if sparse:
        given = [T.matrix("scores")]
        scores = given[0]
    else:
        Q, D = given = T.matrices("Q", "D")
        scores = Product()(Q, D.T) if theano.config.blas__ldflags else T.dot(Q, D.T)
    zeros = [T.zeros_like(offset) for offset in offsets]
    found = [
        CountRelevant()(scores, own, scale, offset, document_scale, *labels, k).sum()
        for own, offset, (scale, document_scale) in (
            (*(zeros if sparse else offsets), raw),
            (*(offsets if sparse else zeros), centred),
        )
    ]
    inputs = [*given, *offsets, *raw, *centred, *labels, k]
    return theano.function(inputs, found, name="count_relevant")


def mean_share(codes) -> float:
    """Return ``|mu|^2 / E|z|^2`` of codes z with mean mu, from 0 to 1; NaN if all are zero.

    Parameters
    ----------
    codes : ndarray or sparse matrix, (n, n_units)
        The codes, one document per row.
    """
    mu = np.asarray(codes.mean(axis=0), dtype=np.float64).ravel()
    squares = codes.multiply(codes).sum() if issparse(codes) else np.vdot(codes, codes)
    energy = float(squares) / codes.shape[0]
    return float(mu @ mu / energy) if energy > 0 else float("nan")


def validation_parts(fit: Split, valid: Split, queries: Split) -> dict[str, Callable[[], object]]:
    """Return functions for the metrics of validation documents, for `ae_bn.evaluation.measured`.

    Parameters
    ----------
    fit, valid : Split
        The codes of the documents that a method learned from, and of those held out.
    queries : Split
        The held-out documents that are queries; the fit documents are the database.

    Returns
    -------
    dict of functions
        ``valid_accuracy``, and ``valid_precision`` for this metric and
        ``valid_centred_precision``; none if the fit documents have fewer than two labels.
    """

    def precision():
        found = precision_at(fit, queries)
        return {"valid_precision": found.raw, "valid_centred_precision": found.centred}

    if np.ptp(fit.labels) == 0:
        return {}
    return {"valid_accuracy": lambda: ridge_accuracy(fit, valid), "valid_precision": precision}


class PathMeter:
    """Measures an epoch's codes, on validation documents only.

    Queries are at most `PATH_QUERIES` of the validation documents, evenly spaced and the same in
    every epoch.  The fit documents are the database.

    Parameters
    ----------
    fit_labels, valid_labels : ndarray of int, (n_fit,) and (n_valid,)
        The labels of the documents that train the autoencoder, and of those held out.
    activation : str
        The activation of the code units; without bounds it has no saturated share.
    """

    def __init__(self, fit_labels, valid_labels, activation: str):
        self.fit_labels, self.valid_labels = fit_labels, valid_labels
        self.activation = activation
        n = len(valid_labels)
        self.queries = np.linspace(0, n - 1, min(n, PATH_QUERIES)).round().astype(int)

    def __call__(self, fit_codes: np.ndarray, valid_codes: np.ndarray) -> dict:
        """Return the metrics of an epoch.

        Parameters
        ----------
        fit_codes, valid_codes : ndarray, (n_fit, n_units) and (n_valid, n_units)
            The codes of the documents that train the autoencoder, and of those held out.

        Returns
        -------
        dict of float
            ``valid_accuracy``, ``valid_precision`` and ``valid_centred_precision``, unless the fit
            documents have fewer than two labels; ``mean_share`` of the fit documents' codes;
            ``dead_units`` and, with a bounded activation, ``saturated`` of the validation
            documents' codes.
        """
        fit, valid = Split(fit_codes, self.fit_labels), Split(valid_codes, self.valid_labels)
        queries = Split(valid_codes[self.queries], self.valid_labels[self.queries])
        parts = validation_parts(fit, valid, queries)
        parts["mean_share"] = lambda: mean_share(fit_codes)
        metrics = merged(measured(parts), unit_metrics(valid_codes, self.activation))
        if "reason" in metrics:  # an epoch has only numbers
            warnings.warn(f"after an epoch {metrics.pop('reason')}", stacklevel=2)
        return {name: value for name, value in metrics.items() if value is not None}


def snapshot_metrics(
    train: Split, test: Split, fit_rows, valid_rows, softmax: bool = False
) -> dict:
    """Return the metrics of codes on test documents.

    Parameters
    ----------
    train, test : Split
        The codes of all training documents, which are the database, and of the test documents,
        which are the queries.
    fit_rows, valid_rows : int arrays
        The rows of train that the probe is fitted on, and those that choose its strength.
    softmax : bool
        Whether to measure the accuracy of KATE's classifier too, which takes seconds.

    Returns
    -------
    dict of float
        ``probe_accuracy``, ``raw_precision``, ``centred_precision``, ``scaled_precision`` and, with
        ``softmax``, ``softmax_accuracy``, unless the fit documents have fewer than two labels;
        ``mean_share`` of the training codes.  See `ae_bn.evaluation.probes.measured` for metrics
        that fail.
    """
    fit, valid = (Split(train.codes[rows], train.labels[rows]) for rows in (fit_rows, valid_rows))

    def precision():
        found = precision_at(train, test)
        return {"raw_precision": found.raw, "centred_precision": found.centred}

    parts: dict[str, Callable[[], object]] = {}
    if np.ptp(fit.labels) > 0:
        parts["probe_accuracy"] = lambda: ridge_accuracy(fit, valid, test)
        parts["raw_precision"] = precision
        parts["scaled_precision"] = lambda: scaled_precision(train, test)
        if softmax:
            parts["softmax_accuracy"] = lambda: softmax_accuracy(train, test)
    parts["mean_share"] = lambda: mean_share(train.codes)
    return measured(parts)
