"""The stages of a layer, as the post "Batch Normalization: Warm-Up" writes them.

A minibatch x holds n documents in rows, so the post's W*x reads x W::

    g(x) = x W                                                            (1)
    h(g) = (g - mean) / std                                               (2)
    f(h) = max(0, a h + b)                                                (3)

`g`, `h` and `f` are these three equations, each from expression to expression.  The post's layer
words use them, and its two lines run ::

    bn = BatchNormalization(n_units, ...) | Projection(W)
    out = ReLU(bn)

Both are a `Layer`: ``out(x)`` is f of the documents x.  The original paper (Ioffe and Szegedy
2015, arXiv 1502.03167, algorithm 1) calls a gamma and b beta.

The details of Batch Normalization, which tests check:

- Statistics are taken per unit, over the documents of the batch (axis 0).
- The variance is biased (divided by n, not n - 1), and taken about the mean even where the
  mean is not subtracted.
- std = sqrt(variance + epsilon): epsilon is inside the root.  A unit that is constant over the
  batch, or a batch of one document, therefore gives h = 0 and a zero gradient, not NaN.
- Stored as population statistics are the mean and the biased variance (without epsilon) over
  the whole training part; `ae_bn.model.population` computes them, training never reads them.
- Gradients flow through mean and std of the batch (gradient "full"; "constant" takes them as
  constants; "rate_per_unit" leaves g as it is and divides its gradient by std, which is a
  learning rate per unit).
- Four switches: center (subtract the mean), normalize (divide by std), scale (multiply by a),
  shift (add b).  A plain layer, f(x W + b), is the one with only shift switched on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import wraps
from typing import Callable, NamedTuple

import numpy as np
import theano
import theano.sparse as sparse
import theano.tensor as T
from theano.gradient import disconnected_grad

from ae_bn.model.variables import set_values, shared

MASK_STREAMS = 256  # parallel lanes of Theano's generator


def g(x, W):
    """Project: equation (1), without a bias.

    Parameters
    ----------
    x : theano matrix, dense or sparse CSR, (n, n_in)
        The documents, or the outputs of the layer below.
    W : theano matrix, (n_in, n_out)
        The weights.

    Returns
    -------
    theano matrix, (n, n_out)
    """
    return sparse.structured_dot(x, W) if isinstance(x.type, sparse.SparseType) else T.dot(x, W)


def h(g, mean, std):
    """Standardise: equation (2).

    Parameters
    ----------
    g : theano matrix, (n, n_units)
        The projected documents.
    mean, std : theano vectors, (n_units,), or numbers
        The mean and the standard deviation of every unit.

    Returns
    -------
    theano matrix, (n, n_units)
    """
    return (g - mean) / std


def f(h, a, b, activation):
    """Scale, shift and activate: equation (3), with any activation for max(0, .).

    Parameters
    ----------
    h : theano matrix, (n, n_units)
        The standardised units.
    a, b : theano vectors, (n_units,), or numbers
        The scale and the shift of every unit.
    activation : function, expression to expression
        The activation, such as `ReLU`.

    Returns
    -------
    theano matrix, (n, n_units)
    """
    return activation(a * h + b)


def word(activation):
    """Let an activation follow a layer as well as an expression: ``ReLU(bn)`` is a layer."""

    @wraps(activation)
    def either(z):
        return replace(z, activation=either) if isinstance(z, Layer) else activation(z)

    return either


@word
def ReLU(z):
    """Return max(0, z).  At z = 0, where both sides are equal, the gradient is 0."""
    return T.maximum(0, z)


@word
def Sigmoid(z):
    """Return 1 / (1 + exp(-z))."""
    return T.nnet.sigmoid(z)


@word
def Tanh(z):
    """Return tanh(z)."""
    return T.tanh(z)


@word
def Linear(z):
    """Return z."""
    return z


@word
def Softmax(z):
    """Return exp(z) divided by its sum over the units: the words' probabilities in a document.

    For the output layer only.
    """
    return T.nnet.softmax(z)


# By the name that a config gives; `ae_bn.choices` has the same equations in NumPy.
ACTIVATIONS: dict[str, Callable] = {
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "linear": Linear,
    "softmax": Softmax,
}


class Signals(NamedTuple):
    """What one layer takes, (n, n_in), and computes, each (n, n_units)."""

    x: T.TensorVariable  # the documents or the outputs of the layer below, some dropped
    g: T.TensorVariable  # projected
    z: T.TensorVariable  # a * h(g) + b
    out: T.TensorVariable  # activation(z)
    population: bool  # h took the population's statistics, not the minibatch's


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of the post, f(h(g(x))): how it computes itself, and its loss.

    ``batch_normalization | projection`` makes a layer.  An activation, called with a layer, returns
    the layer with that activation.

    Parameters
    ----------
    projection : Projection
        Equation (1).
    batch_normalization : BatchNormalization
        Equation (2), and the scale and shift of equation (3).
    activation : function, expression to expression
        The activation of equation (3), one of `ACTIVATIONS`.
    competition : function, expression to expression, optional
        The function that is applied to the outputs in training only, such as `compete`.
    """

    projection: Projection
    batch_normalization: BatchNormalization
    activation: Callable = Linear
    competition: Callable | None = None

    def __call__(self, x, population=False):
        """Return f, (n, n_units), of x, (n, n_in)."""
        return self.signals(x, population).out

    def signals(self, x, population=False):
        """Return the `Signals` of x, (n, n_in).

        Parameters
        ----------
        x : theano matrix, dense or sparse CSR, (n, n_in)
            The documents, or the outputs of the layer below.
        population : bool
            Whether the stored population statistics standardise, not those of this batch.
        """
        g = self.projection(x)
        z = self.batch_normalization(g, population)
        return Signals(x, g, z, self.activation(z), population)

    @property
    def parameters(self) -> dict:
        """What training changes, by name: W, a and b, where they exist."""
        bn = self.batch_normalization
        named = {"W": self.projection.W, "a": bn.a, "b": bn.b}
        return {name: variable for name, variable in named.items() if variable is not None}

    @property
    def variables(self) -> dict:
        """The parameters and, where they enter the output, the population statistics, by name."""
        bn = self.batch_normalization
        statistics = {"mean": bn.mean, "variance": bn.variance} if bn.needs_statistics else {}
        return {**self.parameters, **statistics}

    def loss(self, loss, signals, target, weights=None):
        """Return the loss of this layer as the output layer, a theano scalar.

        Parameters
        ----------
        loss : function
            One of `ae_bn.model.losses.LOSSES`.
        signals : Signals
            What this layer computed.
        target : theano sparse CSR matrix, (n, n_units)
            The documents.
        weights : theano vector, (n_units,), optional
            The weight of every word; 1 without it.
        """
        target = sparse.dense_from_sparse(target)
        return loss(signals.z, signals.out, target, weights)


class Projection:
    """The layer word for `g`.

    Parameters
    ----------
    W : theano matrix, (n_in, n_out)
        The weights: a shared variable, for tied weights the one of another projection.
    transposed : bool
        Whether W is stored as (n_out, n_in).
    """

    def __init__(self, W, transposed=False):
        self.W, self.transposed = W, transposed

    def __call__(self, x):
        """Return g(x), (n, n_out), of x, (n, n_in)."""
        return g(x, self.turned(self.W))

    def turned(self, values):
        """Return W, its values or its optimiser's state as (n_in, n_out), if stored otherwise.

        Called again, it turns them back to what is stored.

        Parameters
        ----------
        values : theano matrix or array
            What is stored, or what is (n_in, n_out).
        """
        return values.T if self.transposed else values

    @property
    def values(self):
        """The values of W, (n_in, n_out), which share its memory."""
        return self.turned(self.W.get_value(borrow=True))

    @values.setter
    def values(self, values):
        set_values(self.W, self.turned(values))

    def rows(self, numbers):
        """Return this projection with some rows of W only.

        Parameters
        ----------
        numbers : theano vector, (k,), integers
            The rows to take.
        """
        return type(self)(self.W[numbers], self.transposed)


class BatchNormalization:
    """The layer word for `h`, with the a and b of `f`; see the contract in the module's docstring.

    Parameters
    ----------
    n_units : int
        The number of units.
    center, normalize, scale, shift : bool
        The four switches.
    epsilon : float
        The number that is added to the variance, inside the root.  It has the unit of g squared.
    gradient : {"full", "constant", "rate_per_unit"}
        How gradients flow through mean and std.

    Attributes
    ----------
    a, b : theano shared vectors, (n_units,), floatX
        Scale and shift, 1 and 0 at first.  Where its switch is off, a parameter is None.
    mean, variance : theano shared vectors, (n_units,), floatX
        Population statistics; NaN until they are computed.
    """

    def __init__(self, n_units, center, normalize, scale, shift, epsilon, gradient="full"):
        self.center, self.normalize, self.epsilon = center, normalize, epsilon
        self.gradient = gradient
        self.a = shared(np.ones(n_units), "a") if scale else None
        self.b = shared(np.zeros(n_units), "b") if shift else None
        self.mean = shared(np.full(n_units, np.nan), "mean")
        self.variance = shared(np.full(n_units, np.nan), "variance")

    def __or__(self, projection):
        """Return the `Layer` of a projection and this, as the post writes it."""
        return Layer(projection, self)

    def __call__(self, g, population=False):
        """Return z = a * h(g) + b, (n, n_units).

        Parameters
        ----------
        g : theano matrix, (n, n_units)
            The projected documents.
        population : bool
            Whether the stored population statistics standardise, not those of this batch.
        """
        a = 1 if self.a is None else self.a
        b = 0 if self.b is None else self.b
        return f(self.standardise(g, population), a, b, Linear)

    def standardise(self, g, population=False):
        """Return h(g), (n, n_units)."""
        mean, variance = self.statistics(g, population)
        if self.gradient != "full":
            mean, variance = disconnected_grad(mean), disconnected_grad(variance)
        mean = mean if self.center else 0
        std = T.sqrt(variance + self.epsilon) if self.normalize else 1
        if self.gradient == "rate_per_unit":
            return g if population else divide_gradient(g, std)
        return h(g, mean, std)

    def statistics(self, g, population=False):
        """Return the mean and the biased variance that standardise g; each broadcasts to it."""
        return (self.mean, self.variance) if population else self.batch_statistics(g)

    def batch_statistics(self, g):
        """Return mean and biased variance of g, (n, n_units), per unit, (n_units,) each."""
        return batch_statistics(g)

    @property
    def needs_statistics(self):
        """Whether any statistics of a population enter the output."""
        return (self.center or self.normalize) and self.gradient != "rate_per_unit"


class LayerNormalization(BatchNormalization):
    """`BatchNormalization` the other way round: each document is standardised over the units.

    Ba et al. (2016, arXiv 1607.06450, equations 3 and 4), with the same four switches, a and b
    per unit, the biased variance and epsilon inside the root.  No document depends on another,
    so training and evaluation are alike, and the population statistics are never used.
    """

    needs_statistics = False

    def statistics(self, g, population=False):
        """Return mean and biased variance of every document over its units, (n, 1) each."""
        mean = g.mean(axis=1, keepdims=True)
        return mean, T.sqr(g - mean).mean(axis=1, keepdims=True)


# By what the config's ``batch_norm.over`` says; `ae_bn.choices` has the statistics in NumPy.
NORMALIZATIONS: dict[str | None, type] = {None: BatchNormalization, "units": LayerNormalization}


def divide_gradient(g, std):
    """Return g unchanged, but divide its gradient by std, which counts as a constant.

    Parameters
    ----------
    g : theano matrix, (n, n_units)
        The projected documents.
    std : theano vector, (n_units,)
        The divisor of each unit's gradient.
    """
    quotient = g / std
    return quotient + disconnected_grad(g - quotient)


def batch_statistics(g):
    """Return mean and biased variance per unit, (n_units,) each, of g, (n, n_units)."""
    mean = g.mean(axis=0)
    return mean, T.sqr(g - mean).mean(axis=0)


def compete(out, k, alpha):
    r"""Let the units of each document compete: the k-competitive layer of KATE, for training only.

    Chen and Zaki (2017, arXiv 1705.02033, algorithm 1): of a document's positive units the
    ceil(k / 2) largest win, of its negative ones the floor(k / 2) most negative.  A winner gains
    the energy of all losers of its sign, a loser becomes 0::

        winner: out + alpha * (sum of the losers' out)
        loser:  0

    Gradients flow to the winners and, through the energy, to the losers: the gradient of a loser is
    alpha times the sum of the gradients of the winners of its sign.  (With alpha = 0 losers have no
    gradient, as in the k-sparse autoencoder.)  The choice of the winners counts as a constant.  The
    code that its authors released differs only for odd k: there the larger half are negative units.

    Parameters
    ----------
    out : theano matrix, (n, n_units)
        The outputs of tanh.
    k : int
        The number of winners of both signs together.  If a document has fewer units of a sign than
        could win, all of them win.  Of equal values the later unit counts as the larger.
    alpha : float
        The amplification of the energy; the authors take 6.26.

    Returns
    -------
    theano matrix, (n, n_units)
    """
    order = T.argsort(disconnected_grad(out), axis=1, kind="mergesort")
    rank = T.argsort(order, axis=1, kind="mergesort")  # 0 for the least of the document
    largest, least = rank >= out.shape[1] - (k + 1) // 2, rank < k // 2
    after = 0
    for own, chosen in ((T.gt(out, 0), largest), (T.lt(out, 0), least)):
        wins, loses = T.and_(own, chosen), T.and_(own, T.invert(chosen))
        energy = (out * loses).sum(axis=1, keepdims=True)
        after += wins * (out + np.asarray(alpha, out.dtype) * energy)
    return after


def dropout_mask(values, rate, random):
    """Return 0 with probability rate, otherwise 1 / (1 - rate), for every one of the values.

    This is dropout (Srivastava et al. 2014).  Training scales the kept values up, so evaluation
    needs no scaling.

    Parameters
    ----------
    values : theano vector or matrix
        What is dropped; only its shape is used.
    rate : theano scalar in [0, 1)
        The probability that a value is dropped.
    random : MRG_RandomStream
        Theano's generator of random numbers.
    """
    draws = random.uniform(values.shape, nstreams=MASK_STREAMS, dtype=theano.config.floatX)
    return T.ge(draws, rate) / (1 - rate)


def random_state(stream):
    """Return a first state of the generator of masks, int32 (MASK_STREAMS, 6).

    Parameters
    ----------
    stream : numpy Generator
        Draws the state.
    """
    return stream.integers(1, 2**31 - 21069, (MASK_STREAMS, 6)).astype(np.int32)
