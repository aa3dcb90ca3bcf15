"""Optimisers, each a few equations: parameters and gradients in, Theano updates out.

Every function takes the parameters (shared variables), their gradients and the learning rate
(a shared scalar), and returns a list of (shared variable, new value) pairs.  The state of an
optimiser, such as a momentum, is in shared variables that start at zero; the list has them too.

A parameter may be some rows of a shared variable, W[rows], with a gradient of that shape.  Then
only these rows, and the same rows of the optimiser's state, are updated.
"""

from __future__ import annotations

from typing import Callable

import numpy as np
import theano
import theano.tensor as T

from ae_bn import choices


def sgd(parameters, gradients, learning_rate):
    """Stochastic gradient descent: p <- p - learning_rate * gradient."""
    return [(p, p - learning_rate * d) for p, d in zip(parameters, gradients)]


def nesterov(parameters, gradients, learning_rate, momentum=0.9):
    """Nesterov's momentum, as rewritten by Bengio et al. 2012 (arXiv 1212.0901, equation 7).

    v <- momentum * v - learning_rate * gradient
    p <- p + momentum * v - learning_rate * gradient
    """
    updates = []
    for p, d in zip(parameters, gradients):
        v = _zeros_like(p)
        v_new = momentum * v - learning_rate * d
        updates += [(v, v_new), (p, p + momentum * v_new - learning_rate * d)]
    return updates


def adam(parameters, gradients, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1).

    m <- beta1 * m + (1 - beta1) * gradient
    v <- beta2 * v + (1 - beta2) * gradient^2
    p <- p - learning_rate / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + epsilon)
    """
    t = theano.shared(np.zeros((), theano.config.floatX), name="t")
    t_new = t + 1
    rate = learning_rate / (1 - beta1**t_new)
    updates = [(t, t_new)]
    for p, d in zip(parameters, gradients):
        m, v = _zeros_like(p), _zeros_like(p)
        m_new = beta1 * m + (1 - beta1) * d
        v_new = beta2 * v + (1 - beta2) * T.sqr(d)
        root = T.sqrt(v_new / (1 - beta2**t_new)) + epsilon
        updates += [(m, m_new), (v, v_new), (p, p - rate * m_new / root)]
    return updates


def rows_of(parameter):
    """Return the shared variable behind a parameter, and which of its rows it is (None: all).

    Parameters
    ----------
    parameter : theano shared variable, or some rows of one, W[rows]
        The parameter that an optimiser is given.
    """
    if isinstance(parameter, theano.compile.SharedVariable):
        return parameter, None
    return parameter.owner.inputs


def whole(updates):
    """Return updates of shared variables, where some are given for some rows only, W[rows].

    Parameters
    ----------
    updates : list of (theano variable, new value)
        The updates that an optimiser returned.
    """
    return [
        (variable, new if rows is None else T.set_subtensor(variable[rows], new))
        for some, new in updates
        for variable, rows in [rows_of(some)]
    ]


def _zeros_like(p):
    variable, rows = rows_of(p)
    zeros = np.zeros(variable.get_value(borrow=True).shape, variable.dtype)
    state = theano.shared(zeros, name=f"state of {variable.name}", borrow=True)
    return state if rows is None else state[rows]


OPTIMIZERS: dict[str, Callable] = {name: globals()[name] for name in choices.OPTIMIZERS}
