"""The losses, in natural units per document: summed over words, mean over documents.

All take z, what the output layer hands to its activation, (n, n_words), the target, (n, n_words),
the dense form of one minibatch, the words' variance over the training documents, (n_words,), and
how much each word counts.
"""

from __future__ import annotations

from typing import Callable

import theano.tensor as T


def cross_entropy(z, target, activation, variance=None, weights=None):
    """Return the binary cross-entropy of sigmoid(z), in nats, from the logits z.

    -t log s(z) - (1 - t) log(1 - s(z)) = softplus(z) - t z, which no z can overflow.

    Parameters
    ----------
    z, target : theano matrices, (n, n_words); the target in [0, 1]
    activation : function
        Not applied: the formula has the sigmoid inside.
    variance
        Not used.
    weights : theano vector, (n_words,), optional
        Of the words; 1 without it.

    Returns
    -------
    theano scalar
    """
    return _total(T.nnet.softplus(z) - target * z, weights)


def squared_error(z, target, activation, variance=None, weights=None):
    """Return the squared distance between the target and activation(z).

    Parameters
    ----------
    z, target : theano matrices, (n, n_words)
    activation : function, expression to expression
    variance
        Not used.
    weights : theano vector, (n_words,), optional
        Of the words; 1 without it.

    Returns
    -------
    theano scalar
    """
    return _total(T.sqr(activation(z) - target), weights)


def standardised_error(z, target, activation, variance, weights=None):
    """Return the squared distance of target and activation(z), both standardised alike.

    As the ladder network compares a layer with its reconstruction (Rasmus et al. 2015, arXiv
    1507.02672, section 2.2): both less the mean, divided by the deviation, of the clean layer;
    here of the words over the training documents, since most words are constant, absent, in a
    minibatch.  The mean cancels:

    (f - mean) / std - (t - mean) / std = (f - t) / std

    Parameters
    ----------
    z, target : theano matrices, (n, n_words)
    activation : function, expression to expression
    variance : theano vector, (n_words,), positive
    weights : theano vector, (n_words,), optional
        Of the words; 1 without it.

    Returns
    -------
    theano scalar
    """
    return _total(T.sqr(activation(z) - target) / variance, weights)


def multinomial(z, target, activation, variance=None, weights=None):
    """Return the multinomial negative log-likelihood of softmax(z), in nats, from the logits z.

    -sum_j t_j log softmax(z)_j (Liang et al. 2018, arXiv 1802.05814, equation 2).  The target is
    taken as it is: counts, or any weights that are not negative.  A document without words has
    loss 0.

    Parameters
    ----------
    z, target : theano matrices, (n, n_words)
    activation : function
        Not applied: the formula has the softmax inside.
    variance
        Not used.
    weights : theano vector, (n_words,), optional
        Of the words; 1 without it.

    Returns
    -------
    theano scalar
    """
    return _total(-target * T.nnet.logsoftmax(z), weights)


LOSSES: dict[str, Callable] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
    "standardised_error": standardised_error,
    "multinomial": multinomial,
}


def _total(terms, weights):
    """Return the sum over words, the mean over documents, of terms, (n, n_words)."""
    return (terms if weights is None else terms * weights).sum(axis=1).mean()
