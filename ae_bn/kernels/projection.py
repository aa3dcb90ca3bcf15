"""x W for sparse documents x, and the gradient of W."""

from __future__ import annotations

import theano.tensor as T
from theano.gradient import DisconnectedType, grad_undefined
from theano.graph.basic import Apply

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

    def make_node(self, data, indices, indptr, W):
        inputs = [T.as_tensor_variable(v) for v in (data, indices, indptr, W)]
        return Apply(self, inputs, [T.matrix(dtype=inputs[-1].dtype)])

    def L_op(self, inputs, outputs, gradients):
        data, indices, indptr, W = inputs
        (delta,) = gradients
        reason = "the documents are data"
        return [
            grad_undefined(self, 0, data, reason),
            DisconnectedType()(),
            DisconnectedType()(),
            ProjectTransposed()(data, indices, indptr, delta, W.shape[0]),
        ]

    def connection_pattern(self, node):
        return [[True], [False], [False], [True]]

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

    def make_node(self, data, indices, indptr, delta, n_words):
        inputs = [T.as_tensor_variable(v) for v in (data, indices, indptr, delta)]
        return Apply(
            self,
            [*inputs, T.cast(n_words, "int64")],
            [T.matrix(dtype=inputs[-1].dtype)],
        )

    def infer_shape(self, fgraph, node, shapes):
        return [(node.inputs[-1], shapes[3][1])]
