"""The stages by kernels: subclasses that compute the same as their symbolic parents, faster.

Each class and function has the name, the arguments and the meaning of its counterpart in
`ae_bn.model.stages`.  If a part has no kernel, its symbolic parent computes it, and `missing` lists
it.  `KERNELS` has everything that an autoencoder is built from, fused or symbolic.
"""

from __future__ import annotations

import inspect
from typing import Callable, NamedTuple

import numpy as np
import theano
import theano.sparse as sparse
import theano.tensor as T
from theano.gradient import disconnected_grad

from ae_bn.kernels import rewrites  # noqa: F401, registers what compiling needs
from ae_bn.kernels.competition import Compete
from ae_bn.kernels.kernel import openmp_flags
from ae_bn.kernels.losses import LOSSES, Loss, Multinomial
from ae_bn.kernels.masks import Mask
from ae_bn.kernels.normalization import (
    ACTIVATIONS,
    LayerNormalize,
    Normalize,
    Standardisation,
    Statistics,
)
from ae_bn.kernels.product import Product
from ae_bn.kernels.projection import Project, ProjectTransposed
from ae_bn.kernels.rows import TakeRows
from ae_bn.kernels.squared_error import SquaredError, SquaredErrorGradient, SquaredErrorUpdate
from ae_bn.kernels.updates import STATE, ProjectionUpdate, RowsUpdate, Update
from ae_bn.model import losses, optimizers, stages
from ae_bn.model.layers import LayerPlan

# The names of the kernels' activations and losses, by the symbolic functions that they compute.
ACTIVATION_NAMES = {stages.ACTIVATIONS[name]: name for name in ACTIVATIONS}
LOSS_NAMES = {losses.LOSSES[name]: name for name in LOSSES}


class Projection(stages.Projection):
    """`ae_bn.model.stages.Projection`, by a kernel."""

    def __call__(self, x):
        """Return g(x), (n, n_out), of x, (n, n_in)."""
        if isinstance(x.type, sparse.SparseType):
            data, indices, indptr, _ = sparse.csm_properties(x)
            return Project()(data, indices, indptr, self.W)
        return Product()(x, self.turned(self.W)) if _has_blas() else super().__call__(x)

    def rows(self, numbers):
        """Return this projection with some rows of W only."""
        return Projection(TakeRows()(self.W, numbers), self.transposed)


class BatchNormalization(stages.BatchNormalization):
    """`ae_bn.model.stages.BatchNormalization`, by a kernel."""

    def __or__(self, projection):
        """Return the `FusedLayer` of a projection and this."""
        return FusedLayer(projection, self)

    def __call__(self, g, population=False):
        """Return z = a * h(g) + b, (n, n_units)."""
        return self.activated(g, population, stages.Linear)

    def activated(self, g, population, activation):
        """Return activation(z), (n, n_units), in one pass over g."""
        how, inputs = self.standardisation(g, population)
        return Normalize(how, ACTIVATION_NAMES[activation])(*inputs)

    def standardisation(self, g, population):
        """Return how a kernel standardises g, and the inputs g, a, b, mean and variance."""
        mean, variance, center, normalize = self.mean, self.variance, self.center, self.normalize
        if self.gradient != "full" and not population:
            mean, variance = (disconnected_grad(statistic) for statistic in Statistics()(g))
            if self.gradient == "rate_per_unit" and normalize:
                g = stages.divide_gradient(g, T.sqrt(variance + self.epsilon))
            population = True  # given from outside, as constants
        if self.gradient == "rate_per_unit":
            center = normalize = False
        how = Standardisation(bool(center), bool(normalize), self.epsilon, population)
        return how, (g, *_scale_and_shift(self), mean, variance)

    def batch_statistics(self, g):
        """Return mean and biased variance per unit, (n_units,) each, of g, (n, n_units)."""
        return Statistics()(g)


class LayerNormalization(stages.LayerNormalization):
    """`ae_bn.model.stages.LayerNormalization`, by a kernel; its gradient is the full one."""

    __or__ = BatchNormalization.__or__
    __call__ = BatchNormalization.__call__
    batch_statistics = BatchNormalization.batch_statistics

    def activated(self, g, population, activation):
        """Return activation(z), (n, n_units), in one pass over g."""
        how = Standardisation(bool(self.center), bool(self.normalize), self.epsilon, False)
        return LayerNormalize(how, ACTIVATION_NAMES[activation])(g, *_scale_and_shift(self))


def _scale_and_shift(bn):
    """Return a and b, or vectors of 1 and of 0 where a switch is off."""
    a = _constant(1, bn.mean) if bn.a is None else bn.a
    b = _constant(0, bn.mean) if bn.b is None else bn.b
    return a, b


def _constant(value, like):
    """Return a vector of one value, as long as another; known now if that is shared."""
    if isinstance(like, theano.compile.SharedVariable):
        return np.full_like(like.get_value(borrow=True), value)
    return T.alloc(np.asarray(value, like.dtype), like.shape[0])


class FusedLayer(stages.Layer):
    """`ae_bn.model.stages.Layer`: one kernel from g to out, and one for loss and gradients.

    The squared error of a linear layer without BN starts from the inputs of the layer instead,
    without g, if W is stored by rows of words, see `ae_bn.kernels.squared_error`.
    """

    batch_normalization: BatchNormalization | LayerNormalization

    def signals(self, x, population=False):
        """Return the `Signals` of x, (n, n_in)."""
        signals = super().signals(x, population)
        if self.activation not in ACTIVATION_NAMES:
            return signals
        bn = self.batch_normalization
        return signals._replace(out=bn.activated(signals.g, population, self.activation))

    def loss(self, loss, signals, target, weights=None):
        """Return the loss of this layer as the output layer, a theano scalar."""
        csr = sparse.csm_properties(target)[:3]
        if loss is losses.multinomial and weights is None:
            return Multinomial()(signals.z, *csr)[0]
        if not has_kernel(loss, self.activation):
            return super().loss(loss, signals, target, weights)
        bn = self.batch_normalization
        is_plain = bn.a is None and not (bn.center or bn.normalize)
        is_affine = is_plain and self.activation is stages.Linear
        is_whole = loss is losses.squared_error and is_affine and weights is None
        if is_whole and self.projection.transposed and _has_blas():  # W has a row for each word
            W, (_, b) = self.projection.W, _scale_and_shift(bn)
            return SquaredError()(signals.x, W, b, *csr)[0]
        if isinstance(bn, BatchNormalization):
            how, inputs = bn.standardisation(signals.g, signals.population)
        else:  # it needs all words first: the loss takes its z as it is
            one, zero = (_constant(value, bn.mean) for value in (1, 0))
            how = Standardisation(False, False, bn.epsilon, False)
            inputs = (signals.z, one, zero, zero, one)
        each = np.ones(1, signals.z.dtype) if weights is None else weights
        names = ACTIVATION_NAMES[self.activation], LOSS_NAMES[loss]
        return Loss(how, *names)(*inputs, *csr, each)[0]


def has_kernel(loss, activation) -> bool:
    """Whether there is a kernel for a loss of an output with this activation."""
    is_fused = loss in LOSS_NAMES and activation in ACTIVATION_NAMES
    return is_fused or loss is losses.multinomial


def _optimizer(name):
    """Return one of `ae_bn.model.optimizers.OPTIMIZERS`, with the same hyperparameters.

    A gradient x^T delta is merged into the update of its W.
    """
    if name not in STATE:
        return optimizers.OPTIMIZERS[name]
    signature = inspect.signature(optimizers.OPTIMIZERS[name]).parameters.values()
    hyperparameters = tuple(
        (p.name, p.default) for p in signature if p.default is not inspect.Parameter.empty
    )

    def updates(parameters, gradients, learning_rate):
        t = theano.shared(np.zeros((), theano.config.floatX), name="t")
        t_new = t + 1
        pairs = [(t, t_new)] if name == "adam" else []
        for some, d in zip(parameters, gradients):
            p, rows = optimizers.rows_of(some)
            variables = [p, *(optimizers._zeros_like(p) for _ in STATE[name])]
            update, gradient = Update(name, hyperparameters), [d]
            if rows is not None:
                update, gradient = RowsUpdate(name, hyperparameters), [rows, d]
            elif d.owner and isinstance(d.owner.op, ProjectTransposed):
                update, gradient = ProjectionUpdate(name, hyperparameters), d.owner.inputs[:4]
            elif d.owner and isinstance(d.owner.op, SquaredErrorGradient):
                upper, H, _, *others = d.owner.inputs
                update, gradient = SquaredErrorUpdate(name, hyperparameters), [upper, H, *others]
            new = update(learning_rate, t_new, *gradient, *variables, return_list=True)
            pairs += zip(variables, new)
        return pairs

    return updates


def dropout_mask(values, rate, random):
    """`ae_bn.model.stages.dropout_mask`, by a kernel with the same generator."""
    state = theano.shared(np.ones((stages.MASK_STREAMS, 6), np.int32))
    mask, state.default_update = Mask()(state, rate, values)
    random.state_updates.append((state, state.default_update, values.shape, stages.MASK_STREAMS))
    return mask


def compete(out, k, alpha):
    """`ae_bn.model.stages.compete`, by a kernel."""
    return Compete(k, alpha)(out)


def missing(layers, loss: str, optimizer: str) -> list[str]:
    """Return the parts of a model that have no kernel, on this machine or at all, as lines of text.

    Parameters
    ----------
    layers : list of Layer
        The layers, lowest first.
    loss, optimizer : str
        The keys of the two in `ae_bn.model.losses.LOSSES` and in
        `ae_bn.model.optimizers.OPTIMIZERS`.
    """
    lacking = []
    of_loss = has_kernel(losses.LOSSES[loss], layers[-1].activation)
    if not of_loss:
        lacking.append("loss: symbolic, it has no kernel")
    for layer in layers:
        bn, activation = layer.batch_normalization, layer.activation
        if not isinstance(layer, FusedLayer):
            lacking.append(f"{type(bn).__name__}: symbolic, it has no kernel")
        elif activation not in ACTIVATION_NAMES:
            note = f"{activation.__name__.lower()}: symbolic, it has no kernel"
            has_loss = layer is layers[-1] and of_loss
            lacking.append(f"{note}; the loss has one" if has_loss else note)
    if optimizer not in STATE:
        lacking.append(f"{optimizer}: symbolic, it has no kernel")
    return [*dict.fromkeys(lacking), *missing_here()]


def missing_here() -> list[str]:
    """Return what kernels cannot do on this machine."""
    lacking = []
    if not _has_blas():
        lacking.append("product: symbolic, there is no BLAS to link to")
    if not openmp_flags():
        lacking.append("all: one thread, the compiler has no OpenMP")
    return lacking


def stores_rows(plan: LayerPlan, loss: str) -> bool:
    """Return whether the W of an output layer is stored by rows of words, for the loss's kernel.

    Parameters
    ----------
    plan : LayerPlan
        The output layer.
    loss : str
        The key of the loss in `ae_bn.model.losses.LOSSES`.
    """
    is_plain = not (plan.center or plan.normalize or plan.scale)
    is_affine = is_plain and plan.activation == "linear"
    return _has_blas() and loss == "squared_error" and is_affine


def _has_blas():
    return bool(theano.config.blas__ldflags)


class Kernels(NamedTuple):
    """What an autoencoder is built from: by default, the symbolic stages."""

    Projection: type = stages.Projection
    normalization: Callable = stages.NORMALIZATIONS.__getitem__  # by ``batch_norm.over``
    optimizer: Callable = optimizers.OPTIMIZERS.__getitem__  # by its name
    dropout_mask: Callable = stages.dropout_mask
    compete: Callable = stages.compete
    stores_rows: Callable = lambda plan, loss: False  # whether the decoder's W has rows of words
    missing: Callable = lambda layers, loss, optimizer: []  # what falls back to the stages


FUSED = {None: BatchNormalization, "units": LayerNormalization}
KERNELS = {
    "symbolic": Kernels(),
    "fused": Kernels(
        Projection=Projection,
        normalization=lambda over: FUSED.get(over) or stages.NORMALIZATIONS[over],
        optimizer=_optimizer,
        dropout_mask=dropout_mask,
        compete=compete,
        stores_rows=stores_rows,
        missing=missing,
    ),
}
