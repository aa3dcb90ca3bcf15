"""Population statistics: those of a layer's g over more documents than one minibatch.

Training standardises by the statistics of each minibatch, and everything else by those of the
population: the mean and the biased variance of g over all training documents.
"""

from __future__ import annotations

from typing import Callable, Iterable

import numpy as np
import theano
import theano.sparse as sparse

from ae_bn.model.stages import Layer, Signals
from ae_bn.model.variables import set_values

COLUMNS = 1000  # of W at a time, so that no matrix as large as W is made


class Moments:
    """Mean and biased variance of a layer's g over documents; compiled when first used.

    Parameters
    ----------
    inputs : list of theano vectors
        What a graph is a function of: ``data``, ``indices`` and ``indptr`` of the documents.
    layers : list of Layer
        The layers, lowest first.
    signals : list of Signals
        What the layers compute in that graph.
    """

    def __init__(self, inputs: list, layers: list[Layer], signals: list[Signals]):
        self.inputs, self.layers, self.signals = inputs, layers, signals
        self.compiled: dict[int, Callable] = {}  # by the layer's number

    @np.errstate(over="ignore", invalid="ignore")  # training that diverges ends elsewhere
    def __call__(self, number: int, chunks: Iterable) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and biased variance, (n_units,) each, of one layer's g.

        Chunks are combined as by Chan et al. (1983), in float64.  Where g = x W is wider than a
        dense x, the two are derived from x, in a fraction of the time: mean_j = mean(x) W_j and
        variance_j = W_j^T covariance(x) W_j.

        Parameters
        ----------
        number : int
            The number of the layer, from 0.
        chunks : iterable of (data, indices, indptr)
            The arrays of csr_matrices of documents, (n, n_words) each.
        """
        projection, x = self.layers[number].projection, self.signals[number].x
        n_in, n_out = projection.values.shape
        of_x = n_out > n_in and not isinstance(x.type, sparse.SparseType)
        compiled = self._compiled(number, of_x)
        square = (lambda v: np.outer(v, v)) if of_x else np.square
        n, mean, squares = 0, 0.0, 0.0  # squares: summed squared distance from the mean
        for arrays in chunks:
            outputs = compiled(*arrays)
            chunk_mean, chunk_variance = (
                _mean_and_covariance(outputs) if of_x else np.asarray(outputs, np.float64)
            )
            m = len(arrays[-1]) - 1
            difference = chunk_mean - mean
            mean = mean + difference * m / (n + m)
            squares = squares + chunk_variance * m + square(difference) * n * m / (n + m)
            n += m
        if of_x:
            return _projected(mean, squares / n, projection)
        return np.asarray(mean), np.asarray(squares / n)

    def _compiled(self, number, of_x):
        """Return the function from documents to x, or to mean and variance of g, of a layer."""
        if number not in self.compiled:
            bn, signals = self.layers[number].batch_normalization, self.signals[number]
            outputs = signals.x if of_x else bn.batch_statistics(signals.g)
            self.compiled[number] = theano.function(self.inputs, outputs, name="statistics")
        return self.compiled[number]


def _mean_and_covariance(x):
    """Return mean, (n_units,), and biased covariance, (n_units, n_units), of x, (n, n_units)."""
    x = x.astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    return mean, x.T @ x / len(x)


def _projected(mean, covariance, projection):
    """Return mean and variance of x W, (n_out,) each, from mean and covariance of x."""
    W = projection.values
    variance = np.empty(W.shape[1])
    for start in range(0, len(variance), COLUMNS):
        part = W[:, start : start + COLUMNS].astype(np.float64)
        variance[start : start + COLUMNS] = np.maximum(0, (part * (covariance @ part)).sum(axis=0))
    return mean @ W, variance


def update_population(layers: list[Layer], moments: Callable[[int], tuple]) -> None:
    """Recompute mean and biased variance of every layer that needs them.

    The weights are fixed and nothing is dropped.  Lower layers come first, so each layer has the
    inputs that it has in evaluation.

    Parameters
    ----------
    layers : list of Layer
        The layers, lowest first.
    moments : function
        The function that takes the number of a layer, from 0, and returns mean and variance of its
        g over the documents.
    """
    for number, layer in enumerate(layers):
        bn = layer.batch_normalization
        if bn.needs_statistics:
            mean, variance = moments(number)
            set_values(bn.mean, mean)
            set_values(bn.variance, variance)
