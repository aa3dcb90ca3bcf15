"""Statistics beyond one minibatch: population statistics, running averages, variance shift.

Training standardises by the statistics of each minibatch, and everything else by those of the
population: the mean and the biased variance of g over all training documents.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, NamedTuple

import numpy as np
import theano
import theano.sparse as sparse
import theano.tensor as T

from ae_bn.errors import UserError
from ae_bn.model.stages import Layer, Signals
from ae_bn.model.variables import as_float, set_values, shared

if TYPE_CHECKING:
    from ae_bn.model.autoencoder import Autoencoder

TINY = 1e-12  # keeps a division by a variance of 0 finite
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
        n_in, n_out = projection.shape
        of_x = n_out > n_in and not isinstance(x.type, sparse.SparseType)
        statistics = self._statistics(number, of_x)
        square = (lambda v: np.outer(v, v)) if of_x else np.square
        n, mean, squares = 0, 0.0, 0.0  # squares: summed squared distance from the mean
        for arrays in chunks:
            chunk_mean, chunk_variance = statistics(*arrays)
            m = len(arrays[-1]) - 1
            difference = chunk_mean - mean
            mean = mean + difference * m / (n + m)
            squares = squares + chunk_variance * m + square(difference) * n * m / (n + m)
            n += m
        if of_x:
            return _projected(mean, squares / n, projection)
        return np.asarray(mean), np.asarray(squares / n)

    def _statistics(self, number, of_x):
        """Return a function of documents: mean and variance of g, or mean and covariance of x."""
        layer, signals = self.layers[number], self.signals[number]
        if number not in self.compiled:
            outputs = signals.x if of_x else layer.batch_normalization.batch_statistics(signals.g)
            self.compiled[number] = theano.function(self.inputs, outputs, name="statistics")
        compiled = self.compiled[number]
        if of_x:
            return lambda *arrays: _mean_and_covariance(compiled(*arrays))
        return lambda *arrays: np.asarray(compiled(*arrays), np.float64)


def _mean_and_covariance(x):
    """Return mean, (n_units,), and biased covariance, (n_units, n_units), of x, (n, n_units)."""
    x = x.astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    return mean, x.T @ x / len(x)


def _projected(mean, covariance, projection):
    """Return mean and variance of x W, (n_out,) each, from mean and covariance of x."""
    W = projection.W.get_value(borrow=True)
    W = W.T if projection.transposed else W
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


def variance_shift(autoencoder: Autoencoder, X) -> dict[str, float]:
    """Return how far dropout shifts the variance that Batch Normalization divides by.

    The shift of a unit is max(r, 1 / r), where r is the variance of g with dropout, as in training,
    divided by the variance with nothing dropped (Li et al. 2018, arXiv 1801.05134, figure 1).

    Parameters
    ----------
    autoencoder : Autoencoder
        The autoencoder, with its present weights and population statistics.
    X : csr_matrix, (n, n_words)
        The documents.

    Returns
    -------
    dict of float
        The median over units for each layer with Batch Normalization: ``variance_shift1`` for the
        lowest layer, and so on.
    """
    shifts = {}
    for number, layer in enumerate(autoencoder.layers):
        if layer.batch_normalization.needs_statistics:
            _, noisy = autoencoder.moments(number, X, noise=True)
            _, clean = autoencoder.moments(number, X)
            ratio = (noisy + TINY) / (clean + TINY)
            shift = float(np.median(np.maximum(ratio, 1 / ratio)))
            shifts[f"variance_shift{number + 1}"] = shift
    return shifts


class RunningAverage(NamedTuple):
    """A statistic of one layer, (n_units,), averaged over the minibatches of training."""

    name: str  # in a state, such as layer1.running_mean
    first: float  # before training
    average: theano.compile.SharedVariable
    update: T.TensorVariable  # the average after a step
    population: theano.compile.SharedVariable  # the exact one that it stands in for


def running_averages(
    layers: list[Layer], signals: list[Signals], momentum: float
) -> list[RunningAverage]:
    """Return the running average of every statistic that training standardises with.

    Parameters
    ----------
    layers : list of Layer
        The layers, lowest first.
    signals : list of Signals
        What they compute of a minibatch, dropout on.
    momentum : float
        The weight of the average before a step; that of the minibatch is 1 - momentum.
    """
    averages = []
    for number, (layer, own) in enumerate(zip(layers, signals), start=1):
        bn = layer.batch_normalization
        if not bn.needs_statistics:
            continue
        batch_mean, batch_variance = bn.batch_statistics(own.g)
        for name, first, batch, population in (
            ("mean", 0.0, batch_mean, bn.mean),
            ("variance", 1.0, batch_variance, bn.variance),
        ):
            average = shared(population.get_value(), f"running {name}")
            update = as_float(momentum) * average + as_float(1 - momentum) * batch
            name = f"layer{number}.running_{name}"
            averages.append(RunningAverage(name, first, average, update, population))
    return averages


@contextmanager
def by_running_averages(autoencoder: Autoencoder) -> Iterator[None]:
    """Use the running averages instead of the population statistics inside the ``with`` block.

    Dropout makes the two differ: the averages are of signals in training, with dropout, and the
    population statistics of signals without it (Li et al. 2018, arXiv 1801.05134).  Afterwards the
    population statistics are the same as before.

    Parameters
    ----------
    autoencoder : Autoencoder
        The autoencoder, made with ``running_average``.

    Raises
    ------
    UserError
        If there are none because ``running_average`` was not given.
    """
    if autoencoder.running_average is None:
        raise UserError("evaluation.running_average is null: set it to a momentum such as .9")
    averages = autoencoder.averages
    population = [running.population.get_value() for running in averages]
    for running in averages:
        running.population.set_value(running.average.get_value())
    try:
        yield
    finally:
        for running, values in zip(averages, population):
            running.population.set_value(values)
