r"""References: codes of well-known methods, from the same documents as an autoencoder's.

Every reference takes TF-IDF rows, or counts, learns only from the documents that an autoencoder is
trained on, and gives the same codes for the same seed.  Its settings may have several candidates,
such as widths: validation documents choose among them, for each criterion by itself, as they choose
the epoch of an autoencoder.

NMF and latent Dirichlet allocation (LDA; Blei, Ng and Jordan 2003) also have topics.  LDA's loss of
a document x, counts, is of the same kind as that of `ae_bn.model.topics`: minus a lower bound of
log p(x) without the multinomial coefficient, for fixed topics.  Topic k gives word j the
probability phi_kj, and theta ~ Dirichlet(alpha).  With q(theta) = Dirichlet(gamma), Jensen's
inequality gives ::

    log p(x) >= sum_j x_j log sum_k exp(E_q log theta_k) phi_kj - KL(q || p)    (1)
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, Iterator, NamedTuple

import numpy as np
from scipy.special import gammaln, psi
from sklearn.decomposition import NMF, LatentDirichletAllocation, TruncatedSVD

from ae_bn.config import ReferenceConfig
from ae_bn.data.corpus import Corpus
from ae_bn.data.words import weigh
from ae_bn.denoiser import LinearDenoiser

# At 11,314 x 2,000 and width 128 this gives 44 iterations, and a squared error 0.1 % above that of
# 200 iterations.
NMF_TOLERANCE = 0.01
# Of online variational Bayes (Hoffman et al. 2010).  At 11,314 x 2,000 and 50 topics the tenth pass
# lowers the perplexity of test documents by 0.3 %.
LDA_BATCH, LDA_PASSES = 256, 20

REFERENCES = {
    "tfidf": "raw TF-IDF",
    "svd": "truncated SVD",
    "nmf": "NMF",
    "lda": "LDA",
    "denoiser": "linear denoiser",
    "word_vectors": "word vectors",
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
    method: Any  # a fitted LinearDenoiser, NMF or LatentDirichletAllocation; None for other kinds


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
        ["as_is"] if kind == "lda" else reference.input or ["tfidf"],
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
    kind: str, choices: list[Candidate], corpus: Corpus, fit_rows, seed: int, vectors=None
) -> Iterator[Found]:
    """Yield the codes of every candidate.

    Parameters
    ----------
    kind : str
        The kind of reference, a key of `REFERENCES`: the TF-IDF rows themselves, their truncated
        SVD (latent semantic analysis; *whitened* codes are divided by their singular values),
        their non-negative matrix factorisation, or the linear denoiser; or the expected shares of
        the topics of LDA, from counts; or the sum of the vectors of a document's words, with their
        weights in its row, of which a narrow code has the first dimensions.
    choices : list of Candidate
        The candidates.  A width is limited by the numbers of words and of fit documents.
    corpus : Corpus
        The corpus as counts (``data.input`` is ``as_is``).
    fit_rows : ndarray of int
        The rows of the training part that a method learns from.
    seed : int
        The seed of the randomised SVD, which is also the start of NMF, and of the start of LDA.
        Other kinds use no chance.
    vectors : ndarray, (n_words, size), optional
        The vectors of the words, which only the kind ``word_vectors`` needs.

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
            # Units of a narrow code are the first of a wide one.
            nested = kind in ("svd", "denoiser", "word_vectors")
            by_fit.setdefault((c.masking, None if nested else c.width), []).append(c)
        for same in by_fit.values():
            for c, transform, method in _fitted(kind, same, train[fit_rows], seed, vectors):
                yield Found(c, (transform(train), transform(test)), method)


def _fitted(kind, same, X, seed, vectors):
    """Yield candidates that share a fit, the function to codes, and the method, see `Found`."""
    if kind == "word_vectors":
        for c in same:
            yield c, partial(_project, vectors[:, : c.width]), None
        return
    if kind == "tfidf" or (X.shape[1] == 1 and kind != "denoiser"):  # of one word it is the word
        for c in same:
            yield c, lambda rows: rows, None
        return
    limit = min(X.shape)
    widest = min(limit, max(c.width for c in same))
    if kind == "nmf":
        method = NMF(widest, init="nndsvda", tol=NMF_TOLERANCE, random_state=seed).fit(X)
        for c in same:
            yield c, method.transform, method
        return
    if kind == "lda":
        online = {"learning_method": "online", "batch_size": LDA_BATCH, "max_iter": LDA_PASSES}
        lda = LatentDirichletAllocation(widest, **online, random_state=seed)
        lda.fit(X.astype(np.float64))
        for c in same:
            yield c, lambda rows: lda.transform(rows.astype(np.float64)), lda
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


def reference_topics(method) -> np.ndarray | None:
    """Return the topics of a fitted method, (n_topics, n_words), or None if it has none.

    Every topic sums to 1, as the scale of a row of NMF means nothing.

    Parameters
    ----------
    method : object
        The method, see `Found`.
    """
    if not isinstance(method, (NMF, LatentDirichletAllocation)):
        return None
    return _to_sum_1(method.components_)


def lda_losses(lda: LatentDirichletAllocation, X) -> np.ndarray:
    """Return minus the bound (1) of each document, (n,), with q as scikit-learn finds it.

    scikit-learn's own ``perplexity`` also counts the divergence of the topics from their prior,
    which is no cost of a new document, so it cannot be compared with that of a topic model.

    Parameters
    ----------
    lda : LatentDirichletAllocation
        The fitted method.
    X : csr_matrix, (n, n_words)
        The documents, as counts.
    """
    X = X.astype(np.float64).tocoo()
    phi, alpha = _to_sum_1(lda.components_), lda.doc_topic_prior_
    n_topics, lengths = len(phi), np.asarray(X.sum(axis=1)).ravel()
    # gamma is alpha plus the expected number of words of each topic: it sums to K alpha + length.
    gamma = lda.transform(X.tocsr()) * (n_topics * alpha + lengths)[:, None]
    log_theta = psi(gamma) - psi(gamma.sum(axis=1, keepdims=True))  # its mean under q
    words = np.einsum("ik,ik->i", np.exp(log_theta)[X.row], phi.T[X.col])  # of the non-zeros
    likelihood = np.bincount(X.row, X.data * np.log(words), X.shape[0])
    log_normalisers = gammaln(gamma.sum(axis=1)) - gammaln(gamma).sum(axis=1)
    log_normalisers -= gammaln(n_topics * alpha) - n_topics * gammaln(alpha)
    return log_normalisers + ((gamma - alpha) * log_theta).sum(axis=1) - likelihood


def _to_sum_1(rows) -> np.ndarray:
    """Return rows divided by their sums; rows of 0 stay 0."""
    rows = rows.astype(np.float64)
    totals = rows.sum(axis=1, keepdims=True)
    return np.divide(rows, totals, out=np.zeros_like(rows), where=totals > 0)
