"""The k-competitive layer, row by row."""

from __future__ import annotations

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

    def L_op(self, inputs, outputs, gradients):
        return [CompeteGradient(self.k, self.alpha)(*inputs, *outputs, *gradients)]

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class CompeteGradient(Compete):
    """The gradient of `Compete`, `theano.grad` of `ae_bn.model.stages.compete`.

    A winner has its own gradient, and a loser alpha times the sum of the gradients of the winners
    of its sign::

        winner: delta
        loser:  alpha * (sum of the winners' delta)
        zero:   0

    Inputs
        out (n, m); after (n, m), the output of `Compete`, where losers are 0; delta (n, m), the
        gradient of after
    Outputs
        the gradient of out (n, m)
    """

    file = "compete_gradient.cpp"

    def L_op(self, inputs, outputs, gradients):
        raise NotImplementedError("second derivatives: use the symbolic kernels")
