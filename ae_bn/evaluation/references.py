"""References: codes of well-known methods, from the same documents as an autoencoder's.

Every reference takes TF-IDF rows, learns only from the documents that an autoencoder is trained on,
and gives the same codes for the same seed.  Its settings may have several candidates, such as
widths: validation documents choose among them, for each criterion by itself, as they choose the
epoch of an autoencoder.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Iterator, NamedTuple

import numpy as np
from sklearn.decomposition import NMF, TruncatedSVD

from ae_bn.config import ReferenceConfig
from ae_bn.data.corpus import Corpus
from ae_bn.data.words import weigh
from ae_bn.denoiser import LinearDenoiser

# At 11,314 x 2,000 and width 128 this gives 44 iterations, and a squared error 0.1 % above that of
# 200 iterations.
NMF_TOLERANCE = 0.01

REFERENCES = {
    "tfidf": "raw TF-IDF",
    "svd": "truncated SVD",
    "nmf": "NMF",
    "denoiser": "linear denoiser",
}

# The validation metrics that choose among candidates, and what they choose for.
CRITERIA = {
    "valid_accuracy": "accuracy",
    "valid_centred_precision": "centred precision",
    "valid_scaled_precision": "scaled precision",
}
CHOSEN_BY = dict.fromkeys(["probe_accuracy", "softmax_accuracy"], "valid_accuracy")
CHOSEN_BY["scaled_precision"] = "valid_scaled_precision"
OTHERWISE = "valid_centred_precision"  # chooses for all other metrics


class Candidate(NamedTuple):
    """One combination of a reference's settings; None where its kind lacks the setting."""

    input: str
    width: int | None = None
    masking: float | None = None
    whitened: bool | None = None


class Found(NamedTuple):
    """A candidate and its codes."""

    candidate: Candidate
    codes: tuple  # of the training and of the test part: csr_matrix or ndarray, (n, width)
    denoiser: LinearDenoiser | None  # the fitted one, where this is the kind


def candidates(reference: ReferenceConfig, width: int) -> list[Candidate]:
    """Return the candidates of a reference.

    Parameters
    ----------
    reference : ReferenceConfig
        The reference.
    width : int
        The width of the codes if the reference names none.
    """
    kind, none = reference.kind, [None]
    settings: tuple = (
        reference.input,
        none if kind == "tfidf" else reference.width or [width],
        reference.masking or [LinearDenoiser().masking] if kind == "denoiser" else none,
        reference.whitened or [False] if kind == "svd" else none,
    )
    return [Candidate(*values) for values in itertools.product(*settings)]


def describe_choice(chosen: dict[str, Candidate]) -> str:
    """Return which candidate each criterion chose, in words.

    Parameters
    ----------
    chosen : dict of Candidate
        The candidates by criterion, a key of `CRITERIA`.
    """
    parts = []
    for criterion, candidate in chosen.items():
        settings = [f"{name} {v}" for name, v in candidate._asdict().items() if v is not None]
        parts.append(f"{CRITERIA[criterion]}: {', '.join(settings)}")
    return "; ".join(parts)


def reference_codes(
    kind: str, choices: list[Candidate], corpus: Corpus, fit_rows, seed: int
) -> Iterator[Found]:
    """Yield the codes of every candidate.

    Parameters
    ----------
    kind : str
        The kind of reference, a key of `REFERENCES`: the TF-IDF rows themselves, their truncated
        SVD (latent semantic analysis; *whitened* codes are divided by their singular values),
        their non-negative matrix factorisation, or the linear denoiser.
    choices : list of Candidate
        The candidates.  A width is limited by the numbers of words and of fit documents.
    corpus : Corpus
        The corpus as counts (``data.input`` is ``as_is``).
    fit_rows : ndarray of int
        The rows of the training part that a method learns from.
    seed : int
        The seed of the randomised SVD, which is also the start of NMF.  Other kinds use no chance.

    Yields
    ------
    Found
        The codes are sparse for ``tfidf``, (n, n_words).
    """
    for kind_of_input, of_input in itertools.groupby(choices, lambda c: c.input):
        train, test = (
            weigh(counts, kind_of_input, corpus.idf) for counts in (corpus.train, corpus.test)
        )
        by_fit: dict = {}  # the candidates that share a fit
        for c in of_input:
            nested = kind in ("svd", "denoiser")  # units of a narrow code are the first of a wide
            by_fit.setdefault((c.masking, None if nested else c.width), []).append(c)
        for same in by_fit.values():
            for c, transform, denoiser in _fitted(kind, same, train[fit_rows], seed):
                yield Found(c, (transform(train), transform(test)), denoiser)


def _fitted(kind, same, X, seed):
    """Yield candidates that share a fit, the function to codes, and the denoiser if it is one."""
    if kind == "tfidf" or (X.shape[1] == 1 and kind != "denoiser"):  # of one word it is the word
        for c in same:
            yield c, lambda rows: rows, None
        return
    limit = min(X.shape)
    widest = min(limit, max(c.width for c in same))
    if kind == "nmf":
        method = NMF(widest, init="nndsvda", tol=NMF_TOLERANCE, random_state=seed).fit(X)
        for c in same:
            yield c, method.transform, None
        return
    if kind == "svd":
        svd = TruncatedSVD(widest, random_state=seed).fit(X)
        for c in same:
            V = svd.components_[: min(c.width, limit)].T
            if c.whitened:
                deviations = svd.singular_values_[: V.shape[1]]
                V = np.divide(V, deviations, out=np.zeros_like(V), where=deviations > 0)
            yield c, partial(_project, V), None
        return
    denoiser = LinearDenoiser(widest, masking=same[0].masking).fit(X.astype(np.float64))
    for c in same:
        narrow = denoiser.narrowed(min(c.width, limit))
        yield c, partial(_project, narrow.encoder_), narrow


def _project(W, rows):
    return rows @ W
