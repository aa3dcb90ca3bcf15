"""The k-competitive layer, row by row."""

from __future__ import annotations

import numpy as np
import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel


class Compete(Kernel):
    """The k-competitive layer, `ae_bn.model.stages.compete`.

    Inputs
        out (n, m)
    Outputs
        out after the competition (n, m)

    Parameters
    ----------
    k : int
        The number of winners of each document.
    alpha : float
        The factor of the losers' energy that each winner gains.
    """

    __props__ = ("k", "alpha")
    file = "compete.cpp"

    def __init__(self, k, alpha):
        self.k, self.alpha = k, alpha

    def constants(self):
        return f"static const int k = {self.k};\nstatic const double alpha = {self.alpha!r};"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[0].dtype)])

    def perform(self, node, inputs, outputs):
        (out,) = inputs
        rank = out.argsort(axis=1, kind="stable").argsort(axis=1)
        largest, least = rank >= out.shape[1] - (self.k + 1) // 2, rank < self.k // 2
        after = np.zeros_like(out)
        for own, chosen in ((out > 0, largest), (out < 0, least)):
            energy = (out * (own & ~chosen)).sum(axis=1, keepdims=True)
            after += (own & chosen) * (out + self.alpha * energy)
        outputs[0][0] = after.astype(out.dtype, copy=False)

    def L_op(self, inputs, outputs, gradients):
        return [CompeteGradient(self.k, self.alpha)(*inputs, *outputs, *gradients)]

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class CompeteGradient(Compete):
    """The gradient of `Compete`.

    A winner has its own gradient.  A loser has alpha times the sum of its winners' gradients.

    Inputs
        out (n, m); after (n, m), the output of `Compete`, where losers are 0; delta (n, m), the
        gradient of after
    Outputs
        the gradient of out (n, m)
    """

    file = "compete_gradient.cpp"

    def perform(self, node, inputs, outputs):
        out, after, delta = inputs
        if not out.shape == after.shape == delta.shape:
            raise ValueError("after and delta must have the shape of out")
        before = delta * (after != 0)
        for own in (out > 0, out < 0):
            winners = (delta * (own & (after != 0))).sum(axis=1, keepdims=True)
            before += (own & (after == 0)) * self.alpha * winners
        outputs[0][0] = before.astype(out.dtype, copy=False)

    def L_op(self, inputs, outputs, gradients):
        raise NotImplementedError("second derivatives: use the symbolic kernels")
