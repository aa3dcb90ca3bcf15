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

    source = r"""
    static void kernel(PyArrayObject* W_, PyArrayObject* rows_, PyArrayObject** out_) {
        Input<real> W(W_);
        Input<int> rows(rows_);
        const npy_intp k = rows.columns, m = W.columns;
        bool in_range = true;
        for (npy_intp i = 0; i < k; i++) in_range &= rows.data[i] >= 0 && rows.data[i] < W.rows;
        require(in_range, "row out of range");
        real* out = output<real>(out_, {k, m});
        #pragma omp parallel if (k * m > 10000)
        {
            const Share share(k);
            for (npy_intp i = share.begin; i < share.end; i++)
                std::copy_n(W.data + rows.data[i] * m, m, out + i * m);
        }
    }
    """

    def make_node(self, W, rows):
        inputs = [T.as_tensor_variable(W), T.as_tensor_variable(rows)]
        return Apply(self, inputs, [inputs[0].type()])

    def perform(self, node, inputs, outputs):
        W, rows = inputs
        if not ((rows >= 0) & (rows < len(W))).all():
            raise ValueError("row out of range")
        outputs[0][0] = W[rows]

    def infer_shape(self, fgraph, node, shapes):
        (_, m), (k,) = shapes
        return [(k, m)]
