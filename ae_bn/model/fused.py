"""The stages' names, in front of the kernels.

Everything here is called as its symbolic namesake in `ae_bn.model.stages`, `ae_bn.model.losses` and
`ae_bn.model.optimizers`, and means the same.  Neighbours merge while the graph is built: an
activation or a loss that is given the output of a Batch Normalization takes over its inputs,
and the Op in between, which nothing uses then, is never compiled.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Callable, NamedTuple

import numpy as np
import theano
import theano.sparse as sparse
import theano.tensor as T
from theano.gradient import disconnected_grad

from ae_bn.kernels import rewrites  # noqa: F401, registers what compiling needs
from ae_bn.kernels.competition import Compete
from ae_bn.kernels.kernel import openmp_flags
from ae_bn.kernels.losses import Loss, Multinomial
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
from ae_bn.kernels.updates import STATE, ProjectionUpdate, RowsUpdate, Update
from ae_bn.model import losses, optimizers, stages


class Stages(NamedTuple):
    """What an autoencoder is built from."""

    Projection: type
    BatchNormalization: type
    LayerNormalization: type
    activations: dict[str, Callable]
    losses: dict[str, Callable]
    optimizers: dict[str, Callable]
    batch_statistics: Callable
    dropout_mask: Callable
    compete: Callable


class Projection(stages.Projection):
    """`ae_bn.model.stages.Projection`, by a kernel."""

    def __call__(self, x):
        """Return g(x), (n, n_out), of x, (n, n_in)."""
        if isinstance(x.type, sparse.SparseType):
            data, indices, indptr, _ = sparse.csm_properties(x)
            return Project()(data, indices, indptr, self.W)
        W = self.W.T if self.transposed else self.W
        return Product()(x, W) if _has_blas() else super().__call__(x)

    def rows(self, numbers):
        """Return this projection with some rows of W only."""
        return Projection(TakeRows()(self.W, numbers), self.transposed)


class BatchNormalization(stages.BatchNormalization):
    """`ae_bn.model.stages.BatchNormalization`, by a kernel."""

    def __call__(self, g, population=False):
        """Return a * h(g) + b, (n, n_units)."""
        mean, variance, center, normalize = self.mean, self.variance, self.center, self.normalize
        if self.gradient != "full" and not population:
            mean, variance = (disconnected_grad(statistic) for statistic in Statistics()(g))
            if self.gradient == "only" and normalize:
                g = stages.divide_gradient(g, T.sqrt(variance + self.epsilon))
            population = True  # given from outside, as constants
        if self.gradient == "only":
            center = normalize = False
        how = Standardisation(bool(center), bool(normalize), self.epsilon, population)
        a = _constant(1, self.mean) if self.a is None else self.a
        b = _constant(0, self.mean) if self.b is None else self.b
        return Normalize(how, "linear")(g, a, b, mean, variance)


class LayerNormalization(stages.LayerNormalization):
    """`ae_bn.model.stages.LayerNormalization`, by a kernel; its gradient is the full one."""

    def __call__(self, g, population=False):
        """Return a * h(g) + b, (n, n_units)."""
        how = Standardisation(bool(self.center), bool(self.normalize), self.epsilon, False)
        a = _constant(1, self.mean) if self.a is None else self.a
        b = _constant(0, self.mean) if self.b is None else self.b
        if not self.center and not self.normalize:
            return Normalize(how, "linear")(g, a, b, self.mean, self.variance)
        return LayerNormalize(how, "linear")(g, a, b)


def _constant(value, like):
    """Return a vector of one value, as long as another; known now if that is shared."""
    if isinstance(like, theano.compile.SharedVariable):
        return np.full_like(like.get_value(borrow=True), value)
    return T.alloc(np.asarray(value, like.dtype), like.shape[0])


class Activation:
    """One of `ae_bn.model.stages.ACTIVATIONS`, merged into the Batch Normalization before it.

    The softmax has no kernel.
    """

    def __init__(self, name):
        self.name = name

    def __call__(self, z):
        op = z.owner and z.owner.op
        if self.name not in ACTIVATIONS:
            return stages.ACTIVATIONS[self.name](z)
        if isinstance(op, (Normalize, LayerNormalize)) and op.activation == "linear":
            return op.activated(self.name)(*z.owner.inputs)
        warnings.warn(f"no kernel for {self.name} of {z}: symbolic instead", stacklevel=2)
        return stages.ACTIVATIONS[self.name](z)


def _loss(name):
    """Return one of `ae_bn.model.losses.LOSSES`, merged with its neighbours on both sides."""

    def loss(z, target, activation, variance=None, weights=None):
        op, dense = z.owner and z.owner.op, target.owner and target.owner.op
        if isinstance(op, LayerNormalize):  # it needs all words first: the loss takes it as it is
            one, zero = (_constant(value, z.owner.inputs[1]) for value in (1, 0))
            as_it_is = Standardisation(False, False, op.standardisation.epsilon, False)
            z = Normalize(as_it_is, "linear")(z, one, zero, zero, one)
            op = z.owner.op
        if isinstance(op, Normalize) and isinstance(dense, sparse.DenseFromSparse):
            csr = sparse.csm_properties(target.owner.inputs[0])[:3]
            each = np.ones(1, z.dtype) if weights is None else weights
            return Loss(op.standardisation, activation.name, name)(*z.owner.inputs, *csr, each)[0]
        warnings.warn(f"no kernel for {name} of {z}: symbolic instead", stacklevel=2)
        return losses.LOSSES[name](z, target, activation, variance, weights)

    return loss


def _multinomial(z, target, activation, variance=None, weights=None):
    """`ae_bn.model.losses.multinomial`, by a kernel that takes any z."""
    dense = target.owner and target.owner.op
    if weights is None and isinstance(dense, sparse.DenseFromSparse):
        return Multinomial()(z, *sparse.csm_properties(target.owner.inputs[0])[:3])[0]
    warnings.warn(f"no kernel for multinomial of {z}: symbolic instead", stacklevel=2)
    return losses.multinomial(z, target, activation, variance, weights)


def _optimizer(rule):
    """Return one of `ae_bn.model.optimizers.OPTIMIZERS`, with the same hyperparameters.

    A gradient x^T delta is merged into the update of its W.
    """
    signature = inspect.signature(optimizers.OPTIMIZERS[rule]).parameters.values()
    hyperparameters = tuple(
        (p.name, p.default) for p in signature if p.default is not inspect.Parameter.empty
    )

    def updates(parameters, gradients, learning_rate):
        t = theano.shared(np.zeros((), theano.config.floatX), name="t")
        t_new = t + 1
        pairs = [(t, t_new)] if rule == "adam" else []
        for some, d in zip(parameters, gradients):
            p, rows = optimizers.rows_of(some)
            variables = [p, *(optimizers._zeros_like(p) for _ in STATE[rule])]
            update, gradient = Update(rule, hyperparameters), [d]
            if rows is not None:
                update, gradient = RowsUpdate(rule, hyperparameters), [rows, d]
            elif d.owner and isinstance(d.owner.op, ProjectTransposed):
                update, gradient = ProjectionUpdate(rule, hyperparameters), d.owner.inputs[:4]
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


def missing(loss: str | None = None) -> list[str]:
    """Return what kernels cannot do, here or at all; then the symbolic stage stands in."""
    notes = []
    if loss == "standardised_error":
        notes.append("loss: symbolic, it has no kernel")
    if loss == "multinomial":
        notes.append("softmax: symbolic, it has no kernel; the loss has one")
    if not _has_blas():
        notes.append("product: symbolic, there is no BLAS to link to")
    if not openmp_flags():
        notes.append("all: one thread, the compiler has no OpenMP")
    return notes


def _has_blas():
    return bool(theano.config.blas__ldflags)


STAGES = {
    "symbolic": Stages(
        stages.Projection,
        stages.BatchNormalization,
        stages.LayerNormalization,
        stages.ACTIVATIONS,
        losses.LOSSES,
        optimizers.OPTIMIZERS,
        stages.batch_statistics,
        stages.dropout_mask,
        stages.compete,
    ),
    "fused": Stages(
        Projection,
        BatchNormalization,
        LayerNormalization,
        {name: Activation(name) for name in stages.ACTIVATIONS},
        {
            **losses.LOSSES,
            **{name: _loss(name) for name in ("cross_entropy", "squared_error")},
            "multinomial": _multinomial,
        },
        {rule: _optimizer(rule) for rule in optimizers.OPTIMIZERS},
        Statistics(),
        dropout_mask,
        compete,
    ),
}
