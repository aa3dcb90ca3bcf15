"""Selected rows of a matrix."""

from __future__ import annotations

import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel


class TakeRows(Kernel):
    """out = W[rows].

    It has no gradient, because training updates ``out`` (`ae_bn.kernels.updates.RowsUpdate`).

    Inputs
        W (n, m); rows (k,), int32
    Outputs
        out (k, m)
    """

    file = "take_rows.cpp"

    def make_node(self, W, rows):
        inputs = [T.as_tensor_variable(W), T.as_tensor_variable(rows)]
        return Apply(self, inputs, [inputs[0].type()])

    def infer_shape(self, fgraph, node, shapes):
        (_, m), (k,) = shapes
        return [(k, m)]
