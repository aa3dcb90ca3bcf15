"""Dropout masks, with the numbers of Theano's own generator."""

from __future__ import annotations

import numpy as np
import theano.tensor as T
from theano.gradient import DisconnectedType
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel

M1, M2 = 2**31 - 1, 2**31 - 21069


class Mask(Kernel):
    r"""mask = (draw >= rate) / (1 - rate), a draw in (0, 1) for every value.

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

    source = r"""
    static const unsigned M1 = 2147483647u, M2 = 2147462579u;

    // From [0, 2 M) to [0, M).
    static inline unsigned reduce(unsigned y, unsigned M) { return y >= M ? y - M : y; }

    static void kernel(PyArrayObject* state_, PyArrayObject* rate_, PyArrayObject* values,
                       PyArrayObject** mask_, PyArrayObject** after_) {
        require(PyArray_DIM(state_, 1) == 6, "a generator's state must have 6 columns");
        Input<int> state(state_);
        const npy_intp lanes = state.rows, size = PyArray_SIZE(values);
        require(lanes > 0, "a generator must have a state");
        const real rate = *(real*)PyArray_DATA(rate_), kept = 1 / (1 - rate);
        const real unit = real(4.656612873077392578125e-10);  // 2^-31
        real* mask = output<real>(mask_, std::vector<npy_intp>(
            PyArray_DIMS(values), PyArray_DIMS(values) + PyArray_NDIM(values)));
        std::vector<unsigned> column[6];
        for (int c = 0; c < 6; c++) {
            column[c].resize(lanes);
            for (npy_intp i = 0; i < lanes; i++) column[c][i] = state.data[6 * i + c];
        }
        unsigned *x1 = column[0].data(), *x2 = column[1].data(), *x3 = column[2].data(),
                 *y1 = column[3].data(), *y2 = column[4].data(), *y3 = column[5].data();
        for (npy_intp first = 0; first < size; first += lanes) {
            const npy_intp n = std::min(lanes, size - first);
            real* to = mask + first;
            #pragma omp simd
            for (npy_intp i = 0; i < n; i++) {
                unsigned x = reduce(((x2[i] & 511) << 22) + (x2[i] >> 9)
                                    + ((x3[i] & 16777215) << 7) + (x3[i] >> 24), M1);
                x = reduce(x + x3[i], M1);
                x3[i] = x2[i], x2[i] = x1[i], x1[i] = x;
                unsigned y = reduce(((y1[i] & 65535) << 15) + 21069 * (y1[i] >> 16), M2);
                unsigned z = reduce(((y3[i] & 65535) << 15) + 21069 * (y3[i] >> 16), M2);
                z = reduce(reduce(z + y3[i], M2) + y, M2);
                y3[i] = y2[i], y2[i] = y1[i], y1[i] = z;
                const real draw = real(int(x <= z ? x - z + M1 : x - z)) * unit;
                to[i] = draw >= rate ? kept : real(0);
            }
        }
        int* after = output<int>(after_, {lanes, 6});
        for (int c = 0; c < 6; c++)
            for (npy_intp i = 0; i < lanes; i++) after[6 * i + c] = column[c][i];
    }
    """

    def make_node(self, state, rate, values):
        state, rate, values = (T.as_tensor_variable(v) for v in (state, rate, values))
        return Apply(self, [state, rate, values], [values.type(), state.type()])

    def perform(self, node, inputs, outputs):
        state, rate, values = inputs
        lanes, rounds = state.astype(np.int64), []
        for first in range(0, values.size, len(lanes)):
            active = lanes[: values.size - first]
            x1, x2, x3, y1, y2, y3 = active.T
            x = (2**22 * x2 + (2**7 + 1) * x3) % M1
            y = (2**15 * y1 + (2**15 + 1) * y3) % M2
            active[:] = np.stack([x, x1, x2, y, y1, y2], axis=1)
            rounds.append(np.where(x <= y, x - y + M1, x - y))
        draws = np.concatenate([np.zeros(0, np.int64), *rounds]).reshape(values.shape)
        dtype = values.dtype.type
        mask = (draws.astype(dtype) * dtype(2.0**-31) >= rate) / (1 - rate)
        outputs[0][0] = np.asarray(mask, dtype=dtype)
        outputs[1][0] = lanes.astype(state.dtype)

    def connection_pattern(self, node):
        return [[False, False]] * 3

    def L_op(self, inputs, outputs, gradients):
        return [DisconnectedType()() for _ in inputs]

    def infer_shape(self, fgraph, node, shapes):
        state, _, values = shapes
        return [values, state]
