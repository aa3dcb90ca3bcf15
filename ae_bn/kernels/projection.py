"""x W for sparse documents x, and the gradient of W."""

from __future__ import annotations

import theano.tensor as T

from ae_bn.kernels.kernel import Kernel


class Project(Kernel):
    r"""out = x W, for a CSR matrix x.

    The twin is `ae_bn.model.stages.g` of sparse x.

    Inputs
        data (number of non-zeros,), indices (the same,), indptr (n + 1,): x, (n, n_in);
        W (n_in, n_out)
    Outputs
        out (n, n_out)
    """

    file = "project.cpp"
    signature = "(z),(z),(r),(v,m)->(n,m)"

    def L_op(self, inputs, outputs, gradients):
        *x, W = inputs
        return self.filled(outputs, {3: ProjectTransposed()(*x, *gradients, W.shape[0])})

    def infer_shape(self, fgraph, node, shapes):
        _, _, (n,), (_, n_out) = shapes
        return [(n - 1, n_out)]


class ProjectTransposed(Kernel):
    r"""out = x^T delta, dense, for a CSR matrix x: the gradient of W in x W.

    The words are divided among the threads, and each row of the result is written once.

    Inputs
        data, indices, indptr: x, (n, n_words), as for `Project`; delta (n, m); n_words (scalar)
    Outputs
        out (n_words, m)
    """

    file = "project_transposed.cpp"
    signature = "(z),(z),(r),(n,m),()->(v,m)"

    def make_node(self, *given):
        *arrays, n_words = given
        return super().make_node(*arrays, T.cast(n_words, "int64"))

    def infer_shape(self, fgraph, node, shapes):
        return [(node.inputs[-1], shapes[3][1])]
