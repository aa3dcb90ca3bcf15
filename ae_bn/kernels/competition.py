"""The k-competitive layer, row by row."""

from __future__ import annotations

import numpy as np
import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel

# The winners of one row.  Of equal values the later one is the larger, as in a stable sort.
WINNERS = r"""
class Winners {
    typedef std::pair<real, npy_intp> Unit;
    std::vector<Unit> units;
    Unit least_positive, last_negative;
  public:
    explicit Winners(npy_intp m) : units(m) {}

    // Returns false if a value is not a number: then nobody wins.
    bool choose(const real* out) {
        const npy_intp m = units.size();
        const npy_intp positive = std::min(m, npy_intp((k + 1) / 2)),
                       negative = std::min(m, npy_intp(k / 2));
        bool numbers = true;
        for (npy_intp j = 0; j < m; j++) {
            numbers &= out[j] == out[j];
            units[j] = Unit(out[j], j);
        }
        if (!numbers) return false;
        const auto first = units.begin();
        std::nth_element(first, units.end() - positive, units.end());
        least_positive = *(units.end() - positive);
        last_negative = Unit(-std::numeric_limits<real>::infinity(), -1);
        if (negative) {
            std::nth_element(first, first + negative - 1, units.end());
            last_negative = *(first + negative - 1);
        }
        return true;
    }
    bool wins(real value, npy_intp j) const {
        if (value > 0) return !(Unit(value, j) < least_positive);
        return value < 0 && !(last_negative < Unit(value, j));
    }
};
"""


class Compete(Kernel):
    """`ae_bn.stages.compete`.

    Inputs
        out (n, m)
    Outputs
        out after the competition (n, m)

    Parameters
    ----------
    k : int
    alpha : float
    """

    __props__ = ("k", "alpha")
    source = (
        WINNERS
        + r"""
    static void kernel(PyArrayObject* out_, PyArrayObject** after_) {
        Input<real> out(out_);
        const npy_intp n = out.rows, m = out.columns;
        real* after = output<real>(after_, {n, m});
        if (!m) return;
        #pragma omp parallel
        {
            FlushDenormals flush;
            Winners winners(m);
            const Share share(n);
            for (npy_intp r = share.begin; r < share.end; r++) {
                const real* row = out.data + r * m;
                real *to = after + r * m, positive = 0, negative = 0;  // the losers' energies
                if (!winners.choose(row)) {
                    std::fill(to, to + m, std::numeric_limits<real>::quiet_NaN());
                    continue;
                }
                for (npy_intp j = 0; j < m; j++)
                    if (!winners.wins(row[j], j)) (row[j] > 0 ? positive : negative) += row[j];
                for (npy_intp j = 0; j < m; j++) {
                    const real energy = row[j] > 0 ? positive : negative;
                    to[j] = winners.wins(row[j], j) ? row[j] + real(alpha) * energy : real(0);
                }
            }
        }
    }
    """
    )

    def __init__(self, k, alpha):
        self.k, self.alpha = k, alpha

    def constants(self):
        return f"static const int k = {self.k};\nstatic const double alpha = {self.alpha!r};"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[0].dtype)])

    def perform(self, node, inputs, outputs):
        (out,) = inputs
        after = np.zeros_like(out)
        for own, wins in self._sides(out):
            energy = (out * (own & ~wins)).sum(axis=1, keepdims=True)
            after += wins * (out + self.alpha * energy)
        outputs[0][0] = after.astype(out.dtype, copy=False)

    def _sides(self, out):
        """Return who is positive and wins, then who is negative and wins, (n, m) each."""
        rank = out.argsort(axis=1, kind="stable").argsort(axis=1)
        positive, negative = out > 0, out < 0
        largest = rank >= out.shape[1] - (self.k + 1) // 2
        return [(positive, positive & largest), (negative, negative & (rank < self.k // 2))]

    def L_op(self, inputs, outputs, gradients):
        return [CompeteGradient(self.k, self.alpha)(*inputs, *gradients)]

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class CompeteGradient(Compete):
    """The gradient of `Compete`: a winner's own, and for a loser alpha times its winners' sum.

    Inputs
        out (n, m); delta (n, m), the gradient of out after the competition
    Outputs
        the gradient of out (n, m)
    """

    source = (
        WINNERS
        + r"""
    static void kernel(PyArrayObject* out_, PyArrayObject* delta_, PyArrayObject** before_) {
        Input<real> out(out_), delta(delta_);
        const npy_intp n = out.rows, m = out.columns;
        require(delta.rows == n && delta.columns == m, "delta must have the shape of out");
        real* before = output<real>(before_, {n, m});
        if (!m) return;
        #pragma omp parallel
        {
            FlushDenormals flush;
            Winners winners(m);
            const Share share(n);
            for (npy_intp r = share.begin; r < share.end; r++) {
                const real *row = out.data + r * m, *d = delta.data + r * m;
                real *to = before + r * m, positive = 0, negative = 0;  // the winners' sums
                if (!winners.choose(row)) {
                    std::fill(to, to + m, std::numeric_limits<real>::quiet_NaN());
                    continue;
                }
                for (npy_intp j = 0; j < m; j++)
                    if (winners.wins(row[j], j)) (row[j] > 0 ? positive : negative) += d[j];
                for (npy_intp j = 0; j < m; j++) {
                    const real sum = row[j] > 0 ? positive : row[j] < 0 ? negative : real(0);
                    to[j] = winners.wins(row[j], j) ? d[j] : real(alpha) * sum;
                }
            }
        }
    }
    """
    )

    def perform(self, node, inputs, outputs):
        out, delta = inputs
        if out.shape != delta.shape:
            raise ValueError("delta must have the shape of out")
        before = np.where(np.isnan(out).any(axis=1, keepdims=True), np.nan, np.zeros_like(out))
        for own, wins in self._sides(out):
            winners = (delta * wins).sum(axis=1, keepdims=True)
            before += np.where(wins, delta, (own & ~wins) * self.alpha * winners)
        outputs[0][0] = before.astype(out.dtype, copy=False)

    def L_op(self, inputs, outputs, gradients):
        raise NotImplementedError("second derivatives: use the symbolic kernels")
