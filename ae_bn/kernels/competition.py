"""The k-competitive layer, row by row."""

from __future__ import annotations

import numpy as np
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
    source = r"""
    typedef std::pair<real, npy_intp> Unit;

    // The units of one sign and one document: sign times value and number.
    static void compete(std::vector<Unit>& units, size_t winners, real sign, real* after) {
        const size_t losers = units.size() > winners ? units.size() - winners : 0;
        if (losers) std::nth_element(units.begin(), units.begin() + losers, units.end());
        real energy = 0;
        for (size_t i = 0; i < losers; i++) energy += units[i].first;
        for (size_t i = losers; i < units.size(); i++)
            after[std::abs(units[i].second)] = sign * (units[i].first + real(alpha) * energy);
    }

    static void kernel(PyArrayObject* out_, PyArrayObject** after_) {
        Input<real> out(out_);
        const npy_intp n = out.rows, m = out.columns;
        real* after = output<real>(after_, {n, m});
        #pragma omp parallel
        {
            FlushDenormals flush;
            std::vector<Unit> positive, negative;
            const Share share(n);
            for (npy_intp r = share.begin; r < share.end; r++) {
                const real* row = out.data + r * m;
                real* to = after + r * m;
                positive.clear(), negative.clear();
                bool numbers = true;
                for (npy_intp j = 0; j < m; j++) {
                    to[j] = 0;
                    numbers &= row[j] == row[j];
                    // Of equal values the later unit is the larger, of negative ones the earlier.
                    if (row[j] > 0) positive.emplace_back(row[j], j);
                    if (row[j] < 0) negative.emplace_back(-row[j], -j);
                }
                if (numbers) {
                    compete(positive, (k + 1) / 2, 1, to);
                    compete(negative, k / 2, -1, to);
                } else {
                    std::fill(to, to + m, std::numeric_limits<real>::quiet_NaN());
                }
            }
        }
    }
    """

    def __init__(self, k, alpha):
        self.k, self.alpha = k, alpha

    def constants(self):
        return f"static const int k = {self.k};\nstatic const double alpha = {self.alpha!r};"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[0].dtype)])

    def perform(self, node, inputs, outputs):
        (out,) = inputs
        rank = out.argsort(axis=1, kind="stable").argsort(axis=1)
        largest, least = rank >= out.shape[1] - (self.k + 1) // 2, rank < self.k // 2
        after = np.zeros_like(out)
        for own, chosen in ((out > 0, largest), (out < 0, least)):
            energy = (out * (own & ~chosen)).sum(axis=1, keepdims=True)
            after += (own & chosen) * (out + self.alpha * energy)
        outputs[0][0] = after.astype(out.dtype, copy=False)

    def L_op(self, inputs, outputs, gradients):
        return [CompeteGradient(self.k, self.alpha)(*inputs, *outputs, *gradients)]

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class CompeteGradient(Compete):
    """The gradient of `Compete`.

    A winner has its own gradient.  A loser has alpha times the sum of its winners' gradients.

    Inputs
        out (n, m); after (n, m), the output of `Compete`, where losers are 0; delta (n, m), the
        gradient of after
    Outputs
        the gradient of out (n, m)
    """

    source = r"""
    static void kernel(PyArrayObject* out_, PyArrayObject* after_, PyArrayObject* delta_,
                       PyArrayObject** before_) {
        Input<real> out(out_), after(after_), delta(delta_);
        const npy_intp n = out.rows, m = out.columns;
        require(after.rows == n && after.columns == m && delta.rows == n && delta.columns == m,
                "after and delta must have the shape of out");
        real* before = output<real>(before_, {n, m});
        #pragma omp parallel
        {
            FlushDenormals flush;
            const Share share(n);
            for (npy_intp r = share.begin; r < share.end; r++) {
                const real *row = out.data + r * m, *won = after.data + r * m,
                           *d = delta.data + r * m;
                real *to = before + r * m, positive = 0, negative = 0;  // the winners' sums
                #pragma omp simd reduction(+ : positive, negative)
                for (npy_intp j = 0; j < m; j++) {
                    positive += won[j] > 0 ? d[j] : real(0);
                    negative += won[j] < 0 ? d[j] : real(0);
                }
                positive *= alpha, negative *= alpha;
                #pragma omp simd
                for (npy_intp j = 0; j < m; j++) {
                    const real loser = row[j] > 0 ? positive : row[j] < 0 ? negative : real(0);
                    to[j] = won[j] != 0 ? d[j] : loser;
                }
            }
        }
    }
    """

    def perform(self, node, inputs, outputs):
        out, after, delta = inputs
        if not out.shape == after.shape == delta.shape:
            raise ValueError("after and delta must have the shape of out")
        before = delta * (after != 0)
        for own in (out > 0, out < 0):
            winners = (delta * (own & (after != 0))).sum(axis=1, keepdims=True)
            before += (own & (after == 0)) * self.alpha * winners
        outputs[0][0] = before.astype(out.dtype, copy=False)

    def L_op(self, inputs, outputs, gradients):
        raise NotImplementedError("second derivatives: use the symbolic kernels")
