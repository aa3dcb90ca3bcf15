"""What a config may choose by name: activations, normalisations, losses and optimisers.

Nothing here needs Theano, so a config is checked, and text is encoded, where there is none.
Activations and normalisations are equations in NumPy, which `ae_bn.encoder` computes with; their
symbolic twins are in `ae_bn.model.stages`.  A loss or an optimiser is the name of its function in
`ae_bn.model.losses` or `ae_bn.model.optimizers`.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np
import scipy.special


class Activation(NamedTuple):
    """An activation in NumPy, and its properties."""

    function: Callable  # from z to out
    # The inverse of the function: from the mean of every word over n documents, and n, to the
    # initial b of the output layer.  Without it, an output layer needs model.output_start plain.
    start: Callable | None = None
    bounds: tuple[float, float] | None = None  # where it saturates; None if it lacks a bound
    hidden: bool = True  # whether hidden layers may have it, too


def _smoothed(mean, n):
    """Count half a document more: a word in no document, or in all, has no logarithm."""
    return (mean * n + 0.5) / (n + 1)


def _log_share(mean, n):
    mean = _smoothed(mean, n)
    return np.log(mean / mean.sum())


ACTIVATIONS = {
    "relu": Activation(lambda z: np.maximum(0, z), lambda mean, n: mean),
    "sigmoid": Activation(
        scipy.special.expit, lambda mean, n: scipy.special.logit(_smoothed(mean, n)), (0, 1)
    ),
    "tanh": Activation(np.tanh, lambda mean, n: np.arctanh(mean), (-1, 1)),
    "linear": Activation(lambda z: z, lambda mean, n: mean),
    "softmax": Activation(
        lambda z: scipy.special.softmax(z, axis=1), _log_share, (0, 1), hidden=False
    ),
}

# The values of ``model.batch_norm.over`` besides null, which means the documents of the minibatch.
# Each function maps g, (n, n_units), to the mean and the biased variance that standardise it.
NORMALIZATIONS: dict[str, Callable] = {
    "units": lambda g: (g.mean(axis=1, keepdims=True), g.var(axis=1, keepdims=True)),
}


LOSSES = ["cross_entropy", "squared_error", "multinomial"]
OPTIMIZERS = ["sgd", "nesterov", "adam"]
