"""The two losses, in natural units per document: summed over words, mean over documents.

Both take z, what the output layer hands to its activation, (n, n_words), and the target,
(n, n_words), the dense form of one minibatch.
"""

from __future__ import annotations

import theano.tensor as T


def cross_entropy(z, target, activation):
    """Return the binary cross-entropy of sigmoid(z), in nats, from the logits z.

    -t log s(z) - (1 - t) log(1 - s(z)) = softplus(z) - t z, which no z can overflow.

    Parameters
    ----------
    z, target : theano matrices, (n, n_words); the target in [0, 1]
    activation : function
        Not applied: the formula has the sigmoid inside.

    Returns
    -------
    theano scalar
    """
    return (T.nnet.softplus(z) - target * z).sum(axis=1).mean()


def squared_error(z, target, activation):
    """Return the squared distance between the target and activation(z).

    Parameters
    ----------
    z, target : theano matrices, (n, n_words)
    activation : function, expression to expression

    Returns
    -------
    theano scalar
    """
    return T.sqr(activation(z) - target).sum(axis=1).mean()


LOSSES = {"cross_entropy": cross_entropy, "squared_error": squared_error}
