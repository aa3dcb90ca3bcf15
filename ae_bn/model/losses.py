"""The losses, in natural units per document: summed over words, mean over documents.

All losses take the same arguments: the outputs of the output layer, and what they should be::

    z        a h + b of the output layer, (n, n_words)
    out      activation(z), the reconstruction, (n, n_words)
    target   one minibatch, dense, (n, n_words)
    weights  how much every word counts, (n_words,); None: 1

and return a theano scalar.
"""

from __future__ import annotations

from typing import Callable

import theano.tensor as T

from ae_bn import choices


def cross_entropy(z, out, target, weights=None):
    """Return the binary cross-entropy of sigmoid(z), in nats, from the logits z.

    -t log s(z) - (1 - t) log(1 - s(z)) = softplus(z) - t z, which no z can overflow.
    """
    return _total(T.nnet.softplus(z) - target * z, weights)


def squared_error(z, out, target, weights=None):
    """Return the squared distance between target and reconstruction."""
    return _total(T.sqr(out - target), weights)


def multinomial(z, out, target, weights=None):
    """Return the multinomial negative log-likelihood of softmax(z), in nats, from the logits z.

    -sum_j t_j log softmax(z)_j (Liang et al. 2018, arXiv 1802.05814, equation 2).  The target is
    taken as it is: counts, or any weights that are not negative.  A document without words has
    loss 0.
    """
    return _total(-target * T.nnet.logsoftmax(z), weights)


def _total(terms, weights):
    """Return the sum over words, the mean over documents, of terms, (n, n_words)."""
    return (terms if weights is None else terms * weights).sum(axis=1).mean()


LOSSES: dict[str, Callable] = {name: globals()[name] for name in choices.LOSSES}
