"""The k-competitive layer, row by row."""

from __future__ import annotations

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
    signature = "(n,m)->(n,m)"

    def __init__(self, k, alpha):
        self.k, self.alpha = k, alpha

    def constants(self):
        return f"static const int k = {self.k};\nstatic const double alpha = {self.alpha!r};"

    def L_op(self, inputs, outputs, gradients):
        return [CompeteGradient(self.k, self.alpha)(*inputs, *outputs, *gradients)]


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
    signature = "(n,m),(n,m),(n,m)->(n,m)"
    L_op = Kernel.L_op
