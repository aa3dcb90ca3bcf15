r"""activation(a h(g) + b), where h is the standardisation, and its gradient.

The kernels have the four switches (center, normalize, scale, shift), and use the statistics of the
minibatch or of the population.  They go through a minibatch in blocks of columns that fit into the
processor's cache, so memory is read once and written once.  Layer Normalization goes row by row.
"""

from __future__ import annotations

from typing import NamedTuple

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
    """A kernel of g, (n, m), of a and b, (m,), with a standardisation h and an activation."""

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


class BatchKernel(NormalizingKernel):
    """A kernel with h over the documents, whose inputs are g, a, b, mean and variance first.

    It uses the last two only if they are the population's (``standardisation.population``).
    """

    def connection_pattern(self, node):
        pattern = super().connection_pattern(node)
        if not self.standardisation.population:
            pattern[3:5] = [[False] * len(node.outputs)] * 2
        return pattern


class Normalize(BatchKernel):
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
    signature = "(n,m),(m),(m),(m),(m)->(n,m)"

    def L_op(self, inputs, outputs, gradients):
        gradient = NormalizeGradient(self.standardisation, self.activation)
        return self.filled(outputs, dict(enumerate(gradient(*inputs, *gradients))))


class NormalizeGradient(BatchKernel):
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
    file = "normalize_gradient.cpp"
    signature = "(n,m),(m),(m),(m),(m),(n,m)->(n,m),(m),(m)"

    def __init__(self, standardisation, activation, inplace=False):
        super().__init__(standardisation, activation)
        self.inplace = inplace
        if inplace:
            self.destroy_map = {0: [0]}


class LayerNormalize(NormalizingKernel):
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

    file = "layer_normalize.cpp"
    signature = "(n,m),(m),(m)->(n,m)"

    def L_op(self, inputs, outputs, gradients):
        gradient = LayerNormalizeGradient(self.standardisation, self.activation)
        return gradient(*inputs, *gradients, return_list=True)


class LayerNormalizeGradient(NormalizingKernel):
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
    signature = "(n,m),(m),(m),(n,m)->(n,m),(m),(m)"


class Statistics(Kernel):
    """The mean and the biased variance of every column of g.

    The twin is `ae_bn.model.stages.batch_statistics`.

    Inputs
        g (n, m)
    Outputs
        mean, variance (m,)
    """

    file = "statistics.cpp"
    signature = "(n,m)->(m),(m)"

    def constants(self):
        return Standardisation(True, True, 0.0, False).constants()
