r"""The losses, from the output layer's g to the value and all gradients in one pass.

The target stays sparse.  The loss is a mean over the documents, so its gradient is known together
with its value.  While a block of columns is in the processor's cache, one pass goes forward through
standardisation, scale and shift of the output layer, and backward again.  The multinomial loss
couples the words of a document, so it goes row by row, and its input is z.
"""

from __future__ import annotations

from ae_bn.kernels.kernel import LossKernel
from ae_bn.kernels.normalization import BatchKernel

LOSSES = ["cross_entropy", "squared_error"]


class Loss(LossKernel, BatchKernel):
    r"""value = loss(z, target) with z = a h(g) + b, summed over words, mean over documents.

    The twins are `ae_bn.model.losses.cross_entropy` and `squared_error` of the z and out of
    `ae_bn.model.stages.BatchNormalization`.
    The part of each word is multiplied by its weight.  Without weights the parts are:

    cross_entropy, which includes the sigmoid, so that there is no activation::

        softplus(z) - target z = max(0, z) + log(1 + exp(-|z|)) - target z,
        its derivative by z: sigmoid(z) - target

    squared_error::

        (out - target)^2 with out = activation(z),
        its derivative by z: 2 (out - target) activation'(z)

    Inputs
        g (n, m); a, b, mean, variance (m,);
        data, indices, indptr: the target, CSR, (n, m);
        weights (m,), one per column, or (1,), one for all
    Outputs
        value (scalar); and its gradients dg (n, m); da, db (m,)

    Parameters
    ----------
    standardisation : Standardisation
        The standardisation h of the output layer.
    activation, loss : str
        The names of the activation and of the loss, one of `LOSSES`.
    gradients : bool
        Whether the gradients are outputs too; `ae_bn.kernels.rewrites` chooses this.
    inplace : bool
        Whether dg overwrites g; `ae_bn.kernels.rewrites` chooses this.
    """

    __props__ = ("standardisation", "activation", "loss", "gradients", "inplace")
    file = "loss.cpp"
    signature = "(n,m),(m),(m),(m),(m),(z),(z),(r),(w)->(),(n,m),(m),(m)"
    differentiated = (0, 1, 2)

    def __init__(self, standardisation, activation, loss, gradients=True, inplace=False):
        super().__init__(standardisation, activation)
        if loss not in LOSSES:
            raise ValueError(f"no kernel for the loss {loss!r}")
        self.loss, self.gradients, self.inplace = loss, gradients, inplace
        if inplace:
            self.destroy_map = {1: [0]}

    def constants(self):
        return (
            f"{super().constants()}\n#define LOSS {self.loss}\n"
            f"static const bool gradients = {int(self.gradients)};"
        )


class Multinomial(LossKernel):
    r"""value = -sum_j target_j log softmax(z)_j, mean over documents.

    The twin is `ae_bn.model.losses.multinomial`.  With the document's total t = sum_j target_j::

        t (top + log(s)) - sum_j target_j z_j, top = max z, s = sum_j exp(z_j - top),
        its derivative by z: t softmax(z) - target

    Inputs
        z (n, m); data, indices, indptr: the target, CSR, (n, m)
    Outputs
        value (scalar); and its gradient dz (n, m)

    Parameters
    ----------
    gradients : bool
        Whether dz is an output too; `ae_bn.kernels.rewrites` chooses this.
    inplace : bool
        Whether dz overwrites z; `ae_bn.kernels.rewrites` chooses this.
    """

    __props__ = ("gradients", "inplace")
    file = "multinomial.cpp"
    signature = "(n,m),(z),(z),(r)->(),(n,m)"
    differentiated = (0,)

    def __init__(self, gradients=True, inplace=False):
        self.gradients, self.inplace = gradients, inplace
        if inplace:
            self.destroy_map = {1: [0]}

    def constants(self):
        return (
            f"static const bool gradients = {int(self.gradients)}, inplace = {int(self.inplace)};"
        )
