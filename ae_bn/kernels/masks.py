"""Dropout masks, with the numbers of Theano's own generator."""

from __future__ import annotations

import theano.tensor as T
from theano.gradient import DisconnectedType
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel


class Mask(Kernel):
    r"""mask = (draw >= rate) / (1 - rate), a draw in (0, 1) for every value.

    The twin is `ae_bn.model.stages.dropout_mask`.

    The draws equal those of ``MRG_RandomStream.uniform``, the generator MRG31k3p (L'Ecuyer and
    Touzin 2000).  It has lanes that advance in parallel, and lane i mod n_lanes draws value i.  The
    state of a lane is x1, x2, x3, y1, y2, y3, and a step is

        x1, x2, x3 <- (2^22 x2 + (2^7 + 1) x3) mod (2^31 - 1), x1, x2
        y1, y2, y3 <- (2^15 y1 + (2^15 + 1) y3) mod (2^31 - 21069), y1, y2
        draw = ((x1 - y1) mod (2^31 - 1)) / 2^31, a difference of 0 counting as 2^31 - 1

    Inputs
        state (n_lanes, 6), int32; rate (scalar); values, an array whose shape the mask has
    Outputs
        mask, with the shape of values; the new state
    """

    file = "mask.cpp"

    def make_node(self, state, rate, values):
        state, rate, values = (T.as_tensor_variable(v) for v in (state, rate, values))
        return Apply(self, [state, rate, values], [values.type(), state.type()])

    def connection_pattern(self, node):
        return [[False, False]] * 3

    def L_op(self, inputs, outputs, gradients):
        return [DisconnectedType()() for _ in inputs]

    def infer_shape(self, fgraph, node, shapes):
        state, _, values = shapes
        return [values, state]
