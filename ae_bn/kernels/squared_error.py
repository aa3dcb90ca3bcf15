r"""The squared error of a linear output layer, without an array of documents x words.

With the hidden outputs H, (n, d), the decoder's weights W by words, (m, d), its shift b, (m,), and
the documents X, sparse (n, m), the loss is::

    loss = |H W^T + 1 b^T - X|^2 / n,  |.| the Frobenius norm and 1 a column of ones.

The product H W^T is dense, but multiplied out it occurs only in small matrices.  With
P = W^T W, (d, d), and s = W^T b, (d,)::

    n loss = tr(H P H^T) - 2 tr(H (X W)^T) + |X|^2 + 2 1^T H s - 2 1^T X b + n b^T b

and, with G = H^T H, (d, d), half of n times each gradient is::

    of H:  H P + 1 s^T - X W
    of W:  W G + b (1^T H) - X^T H
    of b:  W H^T 1 + n b - X^T 1

Three products of 2 n d m operations each become two of d^2 m and 2 d^2 m, those for P and W G.  So
this is the faster way where a minibatch has more documents than half the number of hidden units
(`pays`).  The other terms cost a row of d numbers for each word of a document.

The loss is a small difference of larger terms where the reconstruction is nearly exact.  Its
rounding error is that of ``|X|^2``, so in float32 it is about 1e-6 of ``|X|^2 / n``, the loss of an
empty reconstruction.  Everything that is added up over documents is added in double precision.
"""

from __future__ import annotations

from ae_bn.kernels.kernel import LossKernel
from ae_bn.kernels.product import BlasKernel
from ae_bn.kernels.updates import Update


def pays(n_units: int, batch_size: int) -> bool:
    """Return whether the small matrices are faster than an array of documents x words.

    Parameters
    ----------
    n_units : int
        The number of hidden units d.
    batch_size : int
        The number of documents in a minibatch n.
    """
    return n_units <= 2 * batch_size


class SquaredError(LossKernel, BlasKernel):
    r"""``loss = |H W^T + 1 b^T - X|^2 / n``, from the equations in the module's docstring.

    The twin is `ae_bn.model.losses.squared_error` of out = H W^T + 1 b^T.

    Inputs
        H (n, d); W (m, d); b (m,); data, indices, indptr: X, CSR, (n, m)
    Outputs
        loss (scalar); and its gradients dH (n, d); db (m,)

    Parameters
    ----------
    gradients : bool
        Whether the gradients are outputs too; `ae_bn.kernels.rewrites` chooses this.
    """

    __props__ = ("gradients",)
    file = "squared_error.cpp"
    signature = "(n,d),(m,d),(m),(z),(z),(r)->(),(n,d),(m)"
    differentiated = (0, 2)

    def __init__(self, gradients=True):
        self.gradients = gradients

    def constants(self):
        return f"static const bool gradients = {int(self.gradients)};"

    def in_place(self, fgraph, node):
        """Return the form without gradients if nothing uses them."""
        return self.changed(gradients=any(fgraph.clients[v] for v in node.outputs[1:]))

    def L_op(self, inputs, outputs, gradients):
        dH, _, *others = super().L_op(inputs, outputs, gradients)
        return [dH, SquaredErrorGradient()(gradients[0], *inputs), *others]


class SquaredErrorGradient(BlasKernel):
    r"""dW = upper (2 / n) (W H^T H + b 1^T H - X^T H), the gradient of W in `SquaredError`.

    Inputs
        upper (scalar), the gradient of the loss; and the inputs of `SquaredError`
    Outputs
        dW (m, d)
    """

    file = "squared_error_gradient.cpp"
    signature = "(),(n,d),(m,d),(m),(z),(z),(r)->(m,d)"


class SquaredErrorUpdate(Update, BlasKernel):
    """`Update` of W in `SquaredError`, which uses rows of the gradient as soon as they are formed.

    Inputs
        as for `Update`, but instead of d the inputs of `SquaredErrorGradient` without W: upper, H,
        b, data, indices, indptr.  p is W
    Outputs
        the new p and the new state
    """

    file = "squared_error_update.cpp"
    gradient = ["upper", "H", "b", "data", "indices", "indptr"]
