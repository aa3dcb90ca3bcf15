r"""activation(a h(g) + b), where h is the standardisation, and its gradient.

The kernels have the four switches (center, normalize, scale, shift), and use the statistics of the
minibatch or of the population.  They go through a minibatch in blocks of columns that fit into the
processor's cache, so memory is read once and written once.  Layer Normalization goes row by row.
"""

from __future__ import annotations

from typing import NamedTuple

import theano.tensor as T
from theano.gradient import DisconnectedType, grad_undefined
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel

ACTIVATIONS = ["linear", "relu", "sigmoid", "tanh"]


class Standardisation(NamedTuple):
    """The settings of h."""

    center: bool  # subtract the mean
    normalize: bool  # divide by the standard deviation
    epsilon: float  # added to the variance
    population: bool  # use given statistics instead of those of the minibatch

    def constants(self):
        """Return the settings as C++ constants."""
        return (
            f"static const bool center = {int(self.center)}, normalize = {int(self.normalize)}, "
            f"population = {int(self.population)};\n"
            f"static const double epsilon = {self.epsilon!r};"
        )


class NormalizingKernel(Kernel):
    """A kernel of g, (n, m), and of a, b and the population's mean and variance, all (m,).

    It reads the population statistics only if ``standardisation.population`` is true.
    """

    __props__: tuple = ("standardisation", "activation")
    inplace = False

    def __init__(self, standardisation, activation):
        if activation not in ACTIVATIONS:
            raise ValueError(f"no kernel for the activation {activation!r}")
        self.standardisation = standardisation
        self.activation = activation

    def constants(self):
        activation = ACTIVATIONS.index(self.activation)
        return (
            f"{self.standardisation.constants()}\n#define ACTIVATION Activation({activation})\n"
            f"static const bool inplace = {int(self.inplace)};"
        )

    def _gradients(self, inputs, dg, da, db):
        """Return the gradients of all five inputs."""
        if self.standardisation.population:
            reason = "the statistics of the population are frozen"
            rest = [grad_undefined(self, i, inputs[i], reason) for i in (3, 4)]
        else:
            rest = [DisconnectedType()(), DisconnectedType()()]
        return [dg, da, db, *rest]


class Normalize(NormalizingKernel):
    """out = activation(a h(g) + b), h over the documents.

    The twin is `ae_bn.model.stages.BatchNormalization` with an activation after it::

        h = (g - mean) * scale, scale = 1 / sqrt(variance + epsilon)

    Without center, h = g * scale, but the variance is about the mean all the same.  Without
    normalize, scale = 1.

    Inputs
        g (n, m); a, b, mean, variance (m,)
    Outputs
        out (n, m)
    """

    file = "normalize.cpp"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[0].dtype)])

    def activated(self, activation):
        """Return the same kernel with another activation."""
        return Normalize(self.standardisation, activation)

    def L_op(self, inputs, outputs, gradients):
        gradient = NormalizeGradient(self.standardisation, self.activation)
        return self._gradients(inputs, *gradient(*inputs, *gradients))

    def connection_pattern(self, node):
        return [[True]] * 3 + [[self.standardisation.population]] * 2

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class NormalizeGradient(NormalizingKernel):
    """The gradients of g, a and b in `Normalize`; it computes h again, which is cheap.

    With z = a h + b, d = delta activation'(z) and means over the documents::

        dg = a scale (d - mean(d) - (h - mean(h)) mean(d h))
        da = sum(d h), db = sum(d), over the documents

    mean(d) is there only with center, and the last term only with normalize.  Both are missing with
    the statistics of the population, which are constants.

    Inputs
        g (n, m); a, b, mean, variance (m,); delta (n, m), the gradient of out
    Outputs
        dg (n, m); da, db (m,)

    Parameters
    ----------
    standardisation : Standardisation
        The standardisation h.
    activation : str
        The name of the activation.
    inplace : bool
        Whether dg overwrites g; `ae_bn.kernels.rewrites` chooses this.
    """

    __props__ = ("standardisation", "activation", "inplace")

    def __init__(self, standardisation, activation, inplace=False):
        super().__init__(standardisation, activation)
        self.inplace = inplace
        if inplace:
            self.destroy_map = {0: [0]}

    def in_place(self, fgraph, node):
        """Return the form that overwrites g."""
        return NormalizeGradient(self.standardisation, self.activation, inplace=True)

    file = "normalize_gradient.cpp"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        dtype = inputs[0].dtype
        return Apply(
            self, inputs, [T.matrix(dtype=dtype), T.vector(dtype=dtype), T.vector(dtype=dtype)]
        )

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0], shapes[1], shapes[1]]


class LayerNormalize(Kernel):
    """out = activation(a h(g) + b), where h is taken over the units of each document.

    The twin is `ae_bn.model.stages.LayerNormalization` with an activation after it.

    Inputs
        g (n, m); a, b (m,)
    Outputs
        out (n, m)

    Parameters
    ----------
    standardisation : Standardisation
        The standardisation h; its ``population`` has no effect.
    activation : str
        The name of the activation.
    """

    __props__ = ("standardisation", "activation")
    file = "layer_normalize.cpp"

    def __init__(self, standardisation, activation):
        if activation not in ACTIVATIONS:
            raise ValueError(f"no kernel for the activation {activation!r}")
        self.standardisation, self.activation = standardisation, activation

    def constants(self):
        activation = ACTIVATIONS.index(self.activation)
        return f"{self.standardisation.constants()}\n#define ACTIVATION Activation({activation})\n"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[0].dtype)])

    def activated(self, activation):
        """Return the same kernel with another activation."""
        return LayerNormalize(self.standardisation, activation)

    def L_op(self, inputs, outputs, gradients):
        gradient = LayerNormalizeGradient(self.standardisation, self.activation)
        return gradient(*inputs, *gradients, return_list=True)

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class LayerNormalizeGradient(LayerNormalize):
    """The gradients of g, a and b in `LayerNormalize`.

    With z = a h + b, d = delta activation'(z) and means over the units of each document::

        dg = scale (a d - mean(a d) - (h - mean(h)) mean(a d h))
        da = sum(d h), db = sum(d), over the documents

    The switches act on dg as in `NormalizeGradient`.

    Inputs
        g (n, m); a, b (m,); delta (n, m), the gradient of out
    Outputs
        dg (n, m); da, db (m,)
    """

    file = "layer_normalize_gradient.cpp"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        dtype = inputs[0].dtype
        return Apply(
            self, inputs, [T.matrix(dtype=dtype), T.vector(dtype=dtype), T.vector(dtype=dtype)]
        )

    def L_op(self, inputs, outputs, gradients):
        raise NotImplementedError("second derivatives: use the symbolic kernels")

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0], shapes[1], shapes[1]]


class Statistics(Kernel):
    """The mean and the biased variance of every column of g.

    The twin is `ae_bn.model.stages.batch_statistics`.

    Inputs
        g (n, m)
    Outputs
        mean, variance (m,)
    """

    file = "statistics.cpp"

    def constants(self):
        return Standardisation(True, True, 0.0, False).constants()

    def make_node(self, g):
        g = T.as_tensor_variable(g)
        return Apply(self, [g], [T.vector(dtype=g.dtype), T.vector(dtype=g.dtype)])

    def infer_shape(self, fgraph, node, shapes):
        ((_, m),) = shapes
        return [(m,), (m,)]
