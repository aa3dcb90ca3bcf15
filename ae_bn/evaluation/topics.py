r"""How good topics are: coherence, diversity, and the fit to held-out documents.

A topic is a row of the decoder, a number for each word, and its *top words* are the words with the
largest numbers.  This holds for every model here: a plain autoencoder has a row for each code unit.

**Coherence.**  Words of a topic should occur together.  With p_i the share of documents that
contain word i, and p_ij of those that contain i and j, the normalised pointwise mutual information
is (Bouma 2009; Lau et al. 2014)::

    NPMI_ij = log(p_ij / (p_i p_j)) / -log p_ij                                 (1)

in [-1, 1]; -1 where i and j never occur together, 0 for independent words, 1 for words that occur
only together.  If both occur in all documents, it is 0.  A topic's coherence is the mean over all
pairs of its top words.

**Diversity.**  `unique_share` and `overlap` tell whether topics differ, which coherence does not:
50 copies of one good topic are coherent.

**Fit.**  `perplexity` is exp of the loss per word.  It needs population statistics.  The statistics
of a minibatch of test documents depend on its other documents, so a document would have as many
probabilities as there are minibatches, each of a model that has seen how often every test word
occurs.  In a minibatch of one document, h is 0 for every word, whatever the document says.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import softmax

from ae_bn.config import ModelConfig
from ae_bn.errors import UserError
from ae_bn.model.layers import decoder_rows, plan_layers

if TYPE_CHECKING:
    from ae_bn.data.corpus import Corpus
    from ae_bn.model.autoencoder import Autoencoder
    from ae_bn.model.topics import TopicModel

TOP = 10  # words of a topic that are read
ACTIVE = 0.01  # least variance of an active topic's mean over documents (Burda et al. 2016)


class Decoder(NamedTuple):
    """The last layer with population statistics, as z = code rows + bias."""

    rows: np.ndarray  # (n_units, n_words)
    bias: np.ndarray  # (n_words,)


def decoder(config: ModelConfig, parameters: dict) -> Decoder:
    """Return the last layer of a trained model, BN merged into W and b.

    With std from the population, a h(x W) + b = x (W a / std) + (b - a mean / std).

    Parameters
    ----------
    config : ModelConfig
        The model's settings.
    parameters : dict of str to ndarray
        The parameters, see `Autoencoder.get_state`.

    Raises
    ------
    UserError
        If the last layer has Layer Normalization, which is not linear.
    """
    plans = plan_layers(config, n_words=len(parameters["layer1.W"]))
    plan, number = plans[-1], len(plans)
    if plan.over is not None:
        raise UserError(f"batch_norm.over {plan.over}: the output is not linear, so it has no rows")
    own: dict = {name: parameters.get(f"layer{number}.{name}") for name in plan.arrays}
    W = parameters["layer1.W"].T if own["W"] is None else decoder_rows(config, own["W"])
    slope, bias = np.ones(plan.n_out), np.zeros(plan.n_out)
    if plan.scale:
        slope = slope * own["a"]
    if plan.needs_statistics and plan.normalize:
        slope = slope / np.sqrt(own["variance"] + config.batch_norm.epsilon)
    if plan.needs_statistics and plan.center:
        bias = bias - slope * own["mean"]
    if plan.shift:
        bias = bias + own["b"]
    return Decoder((W * slope).astype(W.dtype), bias.astype(W.dtype))


# What the numbers of a topic are.  Without BN on the output, and without a bias that holds how
# frequent words are, raw rows may begin with the same frequent words in every topic.
ROWS = {
    "raw": lambda rows, bias: rows,
    "centred": lambda rows, bias: rows - rows.mean(axis=0),
    "softmax": lambda rows, bias: softmax(rows + bias, axis=1),
}


def topic_rows(decoder: Decoder, kind: str = "raw") -> np.ndarray:
    """Return a number for each topic and word, (n_topics, n_words).

    Parameters
    ----------
    decoder : Decoder
        The last layer.
    kind : {"raw", "centred", "softmax"}
        The numbers: the decoder's rows; these less the mean row over all topics; or the words'
        probabilities in a document of this topic alone, which the bias enters.

    Raises
    ------
    UserError
        If the kind is unknown.
    """
    if kind not in ROWS:
        raise UserError(f"rows {kind!r:.60}: choose one of {', '.join(ROWS)}")
    return ROWS[kind](*decoder)


def top_words(rows: np.ndarray, n: int = TOP) -> np.ndarray:
    """Return the numbers of each topic's top words, (n_topics, n), the first one first.

    Of equal words, the one with the lower number comes first.

    Parameters
    ----------
    rows : ndarray, (n_topics, n_words)
        The topics.
    n : int
        The number of words, at most n_words.
    """
    return np.argsort(-rows, axis=1, kind="stable")[:, :n]


class Occurrences(NamedTuple):
    """In how many documents words occur alone and together."""

    n: int  # documents
    words: np.ndarray  # numbers of the words, rising, (m,)
    joint: np.ndarray  # documents that contain both, (m, m); on the diagonal those with the word


def in_documents(X: csr_matrix, words) -> Occurrences:
    """Count the documents with pairs of words.

    Parameters
    ----------
    X : csr_matrix, (n, n_words)
        The documents; a word is in a document where its value is not 0.
    words : array_like of int
        The numbers of the words to count, such as the top words of all topics.
    """
    words = np.unique(words)
    present = csr_matrix((X[:, words] != 0), dtype=np.int64)
    return Occurrences(X.shape[0], words, (present.T @ present).toarray())


def npmi(occurrences: Occurrences, top: np.ndarray) -> np.ndarray:
    """Return the coherence of each topic, (n_topics,): the mean of (1) over pairs of its top words.

    Parameters
    ----------
    occurrences : Occurrences
        The counts of documents, of all words in ``top``.
    top : ndarray of int, (n_topics, n)
        The numbers of the top words of each topic, at least two.
    """
    n, words, joint = occurrences
    at = np.searchsorted(words, top)
    if at.size and (at.max() == len(words) or (words[at] != top).any()):
        raise UserError("occurrences do not count all top words: give them the same words")
    p = joint / n
    alone = np.diag(p)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.log(p / np.outer(alone, alone)) / -np.log(p)
    each = np.where(joint == 0, -1.0, np.where(joint == n, 0.0, each))
    left, right = np.array(list(combinations(range(top.shape[1]), 2))).T
    return each[at[:, left], at[:, right]].mean(axis=1)


def unique_share(top: np.ndarray) -> float:
    """Return the number of different top words, over that of all top words.

    Parameters
    ----------
    top : ndarray of int, (n_topics, n)
        The numbers of the top words of each topic.
    """
    return len(np.unique(top)) / top.size


def overlap(top: np.ndarray) -> float:
    """Return the share of top words that two topics have in common, mean over all pairs of topics.

    Parameters
    ----------
    top : ndarray of int, (n_topics, n)
        The numbers of the top words of each topic.  A topic has no word twice.
    """
    n_topics, n = top.shape
    if n_topics < 2:
        return 0.0
    _, times = np.unique(top, return_counts=True)
    pairs = n_topics * (n_topics - 1) / 2
    return float((times * (times - 1) / 2).sum() / (n * pairs))


def active_topics(means: np.ndarray) -> int:
    """Return the number of topics whose mean of q tells documents apart.

    Parameters
    ----------
    means : ndarray, (n, n_topics)
        The means of q for documents, see `ae_bn.model.topics.TopicModel.posterior`.
    """
    return int((means.var(axis=0) > ACTIVE).sum())


def perplexity(losses: np.ndarray, lengths: np.ndarray) -> float:
    """Return exp of the loss per word, over all words of all documents.

    Parameters
    ----------
    losses : array_like, (n,)
        The loss of each document, reconstruction and KL; with population statistics, see the
        module's docstring.
    lengths : array_like, (n,)
        The numbers of words of the documents.
    """
    return _exp(np.sum(losses, dtype=float) / np.sum(lengths, dtype=float))


def document_perplexity(losses: np.ndarray, lengths: np.ndarray) -> float:
    """Return exp of the mean over documents of their loss per word (Miao et al. 2016).

    One document of thousands of words then counts as much as any other.  Documents without words
    are left out.

    Parameters
    ----------
    losses, lengths : ndarray, (n,)
        As for `perplexity`.
    """
    some = lengths > 0
    return _exp(np.mean(losses[some].astype(float) / lengths[some]))


def fit_metrics(losses: np.ndarray, X: csr_matrix) -> dict:
    """Return both perplexities of documents X, counts, from the loss of each document, (n,)."""
    lengths = np.asarray(X.sum(axis=1)).ravel()
    return {
        "perplexity": perplexity(losses, lengths),
        "document_perplexity": document_perplexity(losses, lengths),
    }


def topic_metrics(model: TopicModel, corpus: Corpus, valid_rows: np.ndarray) -> dict:
    """Return the metrics of a trained topic model, see `ae_bn.evaluation.metrics.METRICS`.

    Parameters
    ----------
    model : TopicModel
        The model, with population statistics.
    corpus : Corpus
        Its documents, as counts.
    valid_rows : ndarray of int
        The training documents that were held out for validation.
    """
    return {
        **fit_metrics(model.losses(corpus.test), corpus.test),
        **row_metrics(model, corpus, valid_rows),
        "active_topics": active_topics(model.posterior(corpus.test)[0]),
    }


def row_metrics(model: Autoencoder, corpus: Corpus, valid_rows: np.ndarray) -> dict:
    """Return the metrics of the top words of a trained model's decoder rows.

    Parameters
    ----------
    model : Autoencoder
        The model, with population statistics.
    corpus, valid_rows
        See `topic_metrics`.
    """
    rows_and_bias = decoder(model.config, model.get_state())
    topics = {kind: topic_rows(rows_and_bias, kind) for kind in ROWS}
    return word_metrics(topics, corpus, valid_rows)


def word_metrics(topics: dict[str, np.ndarray], corpus: Corpus, valid_rows: np.ndarray) -> dict:
    """Return the metrics of the top words of topics, see `ae_bn.evaluation.metrics.METRICS`.

    Parameters
    ----------
    topics : dict of str to ndarray, (n_topics, n_words)
        The topics, by the kind of their numbers: ``raw``, and others of `ROWS`.
    corpus, valid_rows
        See `topic_metrics`.
    """
    tops = {kind: top_words(rows) for kind, rows in topics.items()}
    words = np.concatenate(list(tops.values()))
    train, valid, test = (
        in_documents(X, words) for X in (corpus.train, corpus.train[valid_rows], corpus.test)
    )
    names = {kind: "npmi" if kind == "raw" else f"{kind}_npmi" for kind in tops}
    return {
        **{names[kind]: float(npmi(train, top).mean()) for kind, top in tops.items()},
        "valid_npmi": float(npmi(valid, tops["raw"]).mean()),
        "test_npmi": float(npmi(test, tops["raw"]).mean()),
        "unique_words": unique_share(tops["raw"]),
        "centred_unique_words": unique_share(tops["centred"]),
        "overlap": overlap(tops["raw"]),
    }


def _exp(value):
    with np.errstate(over="ignore"):
        return float(np.exp(value))
