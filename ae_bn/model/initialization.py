"""Where training starts: W is drawn, a is 1 and b is 0, and the output starts from the data.

Or training starts from the linear denoiser, see `start_from_denoiser`.
"""

from __future__ import annotations

from typing import Callable

import joblib
import numpy as np
from scipy.sparse import csr_matrix

from ae_bn.choices import ACTIVATIONS
from ae_bn.denoiser import linear_denoiser
from ae_bn.model.stages import Layer
from ae_bn.model.variables import set_values

READ = 100_000  # documents read at a time
TINY = 1e-12  # keeps a division by a variance of 0 finite


def draw_parameters(layers: list[Layer], random: np.random.Generator) -> None:
    """Draw W, and set a to 1, b to 0 and the population statistics to NaN.

    W is drawn as Glorot and Bengio (2010) do, uniform in +-sqrt(6 / (n_in + n_out)).

    Parameters
    ----------
    layers : list of Layer
        The layers, lowest first; a W that two of them share is drawn for the lower one.
    random : numpy Generator
        Draws W.
    """
    drawn: list = []
    for layer in layers:
        projection, bn = layer.projection, layer.batch_normalization
        if projection.W not in drawn:
            shape = projection.values.shape
            limit = np.sqrt(6 / sum(shape))
            # Not named, so freed before the next ones: with many words this is the most memory.
            projection.values = random.uniform(-limit, limit, shape)
            drawn.append(projection.W)
        for variable, value in ((bn.a, 1), (bn.b, 0), (bn.mean, np.nan), (bn.variance, np.nan)):
            if variable is not None:
                set_values(variable, np.full(variable.get_value(borrow=True).shape, value))


def start_output(
    layers: list[Layer], activation: str, X: csr_matrix, moments: Callable[[int], tuple]
) -> None:
    """Let the output layer start from the data, in the same way in every arm.

    b is the inverse activation of each word's mean: for a sigmoid the log-odds, for a softmax the
    log of each word's share of all words.  An unbounded output (linear or ReLU) also starts with at
    most the standard deviation of the data.  If the output layer standardises, a is each word's
    standard deviation.  (With Layer Normalization the limit then holds only on average over the
    words.)  If it does not, the columns of W that give a larger deviation are scaled down.  A tied
    W is not scaled, because the encoder uses it too.

    Parameters
    ----------
    layers : list of Layer
        The layers, lowest first.
    activation : str
        The output's activation, a key of `ae_bn.choices.ACTIVATIONS`.
    X : csr_matrix, (n, n_words)
        The training documents.
    moments : function
        The function that takes the number of a layer, from 0, and returns mean and variance of its
        g over the training documents, with the parameters as they are then.
    """
    mean, deviation = word_moments(X)
    projection, bn = layers[-1].projection, layers[-1].batch_normalization
    start, bounds = ACTIVATIONS[activation].start, ACTIVATIONS[activation].bounds
    if bn.b is not None and start is not None:  # without start, output_start must be plain
        set_values(bn.b, start(mean, X.shape[0]))
    if bounds is not None:
        return
    if bn.normalize and bn.a is not None:
        set_values(bn.a, deviation)
    elif not bn.normalize and projection.W not in [layer.projection.W for layer in layers[:-1]]:
        _, variance = moments(len(layers) - 1)
        projection.values = projection.values * np.minimum(1, deviation / np.sqrt(variance + TINY))


def start_from_denoiser(
    layers: list[Layer],
    X: csr_matrix,
    masking: float,
    offset: float,
    moments: Callable[[int], tuple],
) -> None:
    """Let an autoencoder of one hidden layer start as a linear denoiser with its units cut off.

    With the denoiser's encoder E and decoder D, the mean m and the standard deviation s of its
    codes x E, and the offset c, the network starts as

        out = max(0, x E - m + c s) D + (m - c s) D.

    A unit is linear where its code is above m - c s.  So with a large offset the network is the
    denoiser.  Layers with BN start as the same function, for the statistics of all documents: in
    a * h + b, a is the standard deviation of g, and b the shift above plus the mean of g.

    Parameters
    ----------
    layers : list of Layer
        The hidden layer and the output layer.
    X : csr_matrix, (n, n_words)
        The training documents.
    masking : float
        The probability, in (0, 1), that the denoiser drops a word.
    offset : float
        The offset c, in standard deviations of each unit.
    moments : function
        As for `start_output`.
    """
    n_units = layers[0].projection.values.shape[1]
    encoder, decoder = _denoiser(X, n_units, masking)
    shift = np.zeros(n_units)
    for number, (layer, W) in enumerate(zip(layers, (encoder, decoder))):
        projection, bn = layer.projection, layer.batch_normalization
        projection.values = W
        mean, variance = moments(number)
        shift = -shift @ decoder if number else offset * np.sqrt(variance) - mean
        if bn.normalize:
            set_values(bn.a, np.sqrt(variance + bn.epsilon))
        set_values(bn.b, shift + mean if bn.center else shift)


_solutions: dict[tuple, tuple] = {}  # the last ones: runs that differ in a learning rate share one


def _denoiser(X, n_units, masking):
    """Return encoder and decoder of the linear denoiser."""
    key = joblib.hash(X), n_units, masking
    if key not in _solutions:
        if len(_solutions) == 2:
            del _solutions[next(iter(_solutions))]
        _solutions[key] = linear_denoiser(X, n_units, masking)
    return _solutions[key]


def word_moments(X) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of every word, (n_words,) each, of X, (n, n_words)."""
    n, n_words = X.shape
    total, squares = np.zeros(n_words), np.zeros(n_words)
    for start in range(0, n, READ):  # X may be larger than memory
        part = X[start : start + READ]
        total = total + np.asarray(part.sum(axis=0), dtype=np.float64).ravel()
        squares = squares + np.asarray(part.multiply(part).sum(axis=0), dtype=np.float64).ravel()
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0))
