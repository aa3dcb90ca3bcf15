r"""activation(a h(g) + b), where h is the standardisation, and its gradient.

The kernels have the four switches (center, normalize, scale, shift), and use the statistics of the
minibatch or of the population.  They go through a minibatch in blocks of columns that fit into the
processor's cache, so memory is read once and written once.  Layer Normalization goes row by row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.special
import theano.tensor as T
from theano.gradient import DisconnectedType, grad_undefined
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel

ACTIVATIONS = ["linear", "relu", "sigmoid", "tanh"]


class Standardisation(NamedTuple):
    """The settings of h."""

    center: bool  # subtract the mean
    normalize: bool  # divide by the standard deviation
    epsilon: float  # added to the variance
    population: bool  # use given statistics instead of those of the minibatch

    def constants(self):
        """Return the settings as C++ constants."""
        return (
            f"static const bool center = {int(self.center)}, normalize = {int(self.normalize)}, "
            f"population = {int(self.population)};\n"
            f"static const double epsilon = {self.epsilon!r};"
        )

    def apply(self, g, statistics):
        """Return h(g) and 1 / std, in NumPy."""
        mean, variance = statistics if self.population else (g.mean(axis=0), g.var(axis=0))
        scale = 1 / np.sqrt(variance + self.epsilon) if self.normalize else np.ones(g.shape[1])
        return (g - mean if self.center else g) * scale, scale

    def adjoint(self, delta, h, scale):
        """Return the gradient of g from that of h, in NumPy."""
        if not self.population:
            # Without center the variance is still taken about the mean, so the part of the gradient
            # that goes through it acts on g - mean.
            centred = h - h.mean(axis=0)
            through_std = centred * (delta * h).mean(axis=0) if self.normalize else 0
            delta = delta - (delta.mean(axis=0) if self.center else 0) - through_std
        return delta * scale


ACTIVATE = r"""
enum Activation { linear, relu, sigmoid, tanh_ };

// e^x for x <= 0, off by at most 4 units in the last place, in arithmetic that needs no call and
// so stays in vectors: 2^n e^r with |r| <= log(2) / 2, and the best polynomial of degree 5.
inline float exponential(float x) {
    x = x < -87 ? -87 : x;  // so that NaN stays NaN
    // 1.5 * 2^23 + 127: what is added to it is rounded to an integer, n, and its last 8 bits are
    // those of the exponent of 2^n.
    const float shift = 12583039, sum = x * 1.44269504f + shift, n = sum - shift;
    const float r = x - n * 0.69314718f, r2 = r * r;
    const float high = 0.0082976476f * r + 0.041915431f, middle = 0.16667575f * r + 0.49998894f,
                low = 0.99999969f * r + 1.00000007f;
    int bits;
    std::memcpy(&bits, &sum, 4);
    bits <<= 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return ((high * r2 + middle) * r2 + low) * power;
}
inline double exponential(double x) { return std::exp(x); }

template <Activation f> inline real activate(real z) {
    if (f == relu) return z < 0 ? real(0) : z;  // so that NaN stays NaN
    if (f == sigmoid) {
        const real e = exponential(-std::abs(z));
        return (z < 0 ? e : real(1)) / (1 + e);
    }
    if (f == tanh_) return std::tanh(z);
    return z;
}

// The derivative of the activation, from its z and its value.
template <Activation f> inline real slope(real z, real value) {
    if (f == relu) return z > 0 ? real(1) : z <= 0 ? real(0) : z;
    if (f == sigmoid) return value * (1 - value);
    if (f == tanh_) return 1 - value * value;
    return 1;
}
"""

# Blocks of columns of g, standardised in place, and the way back.  The losses use `Block` too.
BLOCK = (
    ACTIVATE
    + r"""
// Columns are passed WIDTH at a time, filled up with zeros at the right end.
static const int WIDTH = 64;
typedef real Row[WIDTH];
#define EACH_COLUMN _Pragma("omp simd") for (int j = 0; j < WIDTH; j++)

// Blocks of n rows for every thread.
class Scratch {
    const npy_intp n;
    std::vector<real> storage;
    Row* start;
  public:
    Scratch(npy_intp n, int blocks)
        : n(n * blocks), storage(this->n * WIDTH * most_threads() + 64 / sizeof(real), real(0)),
          start((Row*)(((size_t)storage.data() + 63) / 64 * 64)) {}
    Row* mine() { return start + n * thread(); }
};

struct Block {
    const npy_intp n, columns;  // of the whole of g
    const real *mean, *variance, *a_, *b_;
    npy_intp first;
    int width;
    Row* h;  // (n, WIDTH), room for the block
    alignas(64) Row mu, squares, scale, h_mean, a, b;  // squares: the variance, biased

    Block(npy_intp n, npy_intp columns, const real* mean, const real* variance,
          const real* a, const real* b, Row* h)
        : n(n), columns(columns), mean(mean), variance(variance), a_(a), b_(b), h(h) {}

    // Puts h(g) of the columns from `first` on into h.
    void standardise(const real* g, npy_intp first_column) {
        first = first_column;
        width = std::min<npy_intp>(WIDTH, columns - first);
        EACH_COLUMN a[j] = b[j] = h_mean[j] = 0;
        std::copy(a_ + first, a_ + first + width, a);
        std::copy(b_ + first, b_ + first + width, b);
        EACH_COLUMN scale[j] = 1;
        const bool statistics = !population && (center || normalize);
        EACH_COLUMN mu[j] = squares[j] = 0;
        for (npy_intp r = 0; r < n; r++) {
            const real* row = g + r * columns + first;
            if (width == WIDTH) {
                EACH_COLUMN h[r][j] = row[j];
            } else {
                EACH_COLUMN h[r][j] = 0;
                std::copy(row, row + width, h[r]);
            }
            if (statistics) EACH_COLUMN mu[j] += h[r][j];
        }
        if (!center && !normalize) return;
        if (statistics) {
            EACH_COLUMN mu[j] /= n;
            for (npy_intp r = 0; r < n; r++)
                EACH_COLUMN {
                    const real distance = h[r][j] - mu[j];
                    squares[j] += distance * distance;
                }
            EACH_COLUMN squares[j] /= n;
        } else {
            std::copy(mean + first, mean + first + width, mu);
            std::copy(variance + first, variance + first + width, squares);
        }
        if (normalize) EACH_COLUMN scale[j] = 1 / std::sqrt(squares[j] + real(epsilon));
        if (center) {
            for (npy_intp r = 0; r < n; r++)
                EACH_COLUMN h[r][j] = (h[r][j] - mu[j]) * scale[j];
        } else {
            EACH_COLUMN h_mean[j] = mu[j] * scale[j];
            for (npy_intp r = 0; r < n; r++) EACH_COLUMN h[r][j] *= scale[j];
        }
    }

    // From delta, the gradient of z = a h + b, to those of g, a and b.
    void adjoint(const Row* delta, real* dg, real* da, real* db) {
        alignas(64) Row sum, product;
        EACH_COLUMN sum[j] = product[j] = 0;
        for (npy_intp r = 0; r < n; r++)
            EACH_COLUMN {
                sum[j] += delta[r][j];
                product[j] += delta[r][j] * h[r][j];
            }
        std::copy(sum, sum + width, db + first);
        std::copy(product, product + width, da + first);
        alignas(64) Row factor;
        EACH_COLUMN {
            factor[j] = a[j] * scale[j];
            sum[j] = center && !population ? sum[j] / n : 0;
            product[j] = normalize && !population ? product[j] / n : 0;
        }
        const bool statistics = !population && (center || normalize);
        for (npy_intp r = 0; r < n; r++) {
            alignas(64) Row part;
            real *row = dg + r * columns + first, *out = width == WIDTH ? row : part;
            if (statistics) {
                EACH_COLUMN out[j] = factor[j] * (delta[r][j] - sum[j]
                                                  - (h[r][j] - h_mean[j]) * product[j]);
            } else {
                EACH_COLUMN out[j] = factor[j] * delta[r][j];
            }
            if (width < WIDTH) std::copy(part, part + width, row);
        }
    }
};
"""
)


# The inputs that all kernels with a `Block` share.
CHECK = r"""
        Input<real> g(g_), a(a_), b(b_), mean(mean_), variance(variance_);
        const npy_intp n = g.rows, m = g.columns;
        require(a.columns == m && b.columns == m && mean.columns == m && variance.columns == m,
                "g, a, b and the statistics must have the same number of columns");
"""


class NormalizingKernel(Kernel):
    """A kernel of g, (n, m), and of a, b and the population's mean and variance, all (m,).

    It reads the population statistics only if ``standardisation.population`` is true.
    """

    __props__: tuple = ("standardisation", "activation")
    inplace = False

    def __init__(self, standardisation, activation):
        if activation not in ACTIVATIONS:
            raise ValueError(f"no kernel for the activation {activation!r}")
        self.standardisation = standardisation
        self.activation = activation

    def constants(self):
        activation = ACTIVATIONS.index(self.activation)
        return (
            f"{self.standardisation.constants()}\n#define ACTIVATION Activation({activation})\n"
            f"static const bool inplace = {int(self.inplace)};"
        )

    def _gradients(self, inputs, dg, da, db):
        """Return the gradients of all five inputs."""
        if self.standardisation.population:
            reason = "the statistics of the population are frozen"
            rest = [grad_undefined(self, i, inputs[i], reason) for i in (3, 4)]
        else:
            rest = [DisconnectedType()(), DisconnectedType()()]
        return [dg, da, db, *rest]


class Normalize(NormalizingKernel):
    """out = activation(a h(g) + b).

    Inputs
        g (n, m); a, b, mean, variance (m,)
    Outputs
        out (n, m)
    """

    source = (
        BLOCK
        + r"""
    static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_,
                       PyArrayObject* mean_, PyArrayObject* variance_, PyArrayObject** out_) {
"""
        + CHECK
        + r"""
        real* out = output<real>(out_, {n, m});
        Scratch scratch(n, 1);
        #pragma omp parallel
        {
            FlushDenormals flush;
            Block block(n, m, mean.data, variance.data, a.data, b.data, scratch.mine());
            const Share share(m, WIDTH);
            for (npy_intp first = share.begin; first < share.end; first += WIDTH) {
                block.standardise(g.data, first);
                for (npy_intp r = 0; r < n; r++) {
                    real* h = block.h[r];
                    EACH_COLUMN h[j] = activate<ACTIVATION>(block.a[j] * h[j] + block.b[j]);
                    std::copy(h, h + block.width, out + r * m + first);
                }
            }
        }
    }
    """
    )

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[0].dtype)])

    def perform(self, node, inputs, outputs):
        g, a, b, *statistics = inputs
        h, _ = self.standardisation.apply(g, statistics)
        out, _ = activate(self.activation, a * h + b)
        outputs[0][0] = out.astype(g.dtype, copy=False)

    def activated(self, activation):
        """Return the same kernel with another activation."""
        return Normalize(self.standardisation, activation)

    def L_op(self, inputs, outputs, gradients):
        gradient = NormalizeGradient(self.standardisation, self.activation)
        return self._gradients(inputs, *gradient(*inputs, *gradients))

    def connection_pattern(self, node):
        return [[True]] * 3 + [[self.standardisation.population]] * 2

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class NormalizeGradient(NormalizingKernel):
    """The gradients of g, a and b in `Normalize`; it computes h again, which is cheap.

    Inputs
        g (n, m); a, b, mean, variance (m,); delta (n, m), the gradient of out
    Outputs
        dg (n, m); da, db (m,)

    Parameters
    ----------
    standardisation : Standardisation
        The standardisation h.
    activation : str
        The name of the activation.
    inplace : bool
        Whether dg overwrites g; `ae_bn.kernels.rewrites` chooses this.
    """

    __props__ = ("standardisation", "activation", "inplace")

    def __init__(self, standardisation, activation, inplace=False):
        super().__init__(standardisation, activation)
        self.inplace = inplace
        if inplace:
            self.destroy_map = {0: [0]}

    def in_place(self, fgraph, node):
        """Return the form that overwrites g."""
        return NormalizeGradient(self.standardisation, self.activation, inplace=True)

    source = (
        BLOCK
        + r"""
    static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_,
                       PyArrayObject* mean_, PyArrayObject* variance_, PyArrayObject* delta_,
                       PyArrayObject** dg_, PyArrayObject** da_, PyArrayObject** db_) {
"""
        + CHECK
        + r"""
        Input<real> delta(delta_);
        require(delta.rows == n && delta.columns == m, "delta must have the shape of g");
        real *dg = inplace ? overwrite<real>(g_, dg_) : output<real>(dg_, {n, m}),
             *da = output<real>(da_, {m}), *db = output<real>(db_, {m});
        Scratch scratch(n, 2);
        #pragma omp parallel
        {
            FlushDenormals flush;
            Row* d = scratch.mine() + n;
            Block block(n, m, mean.data, variance.data, a.data, b.data, scratch.mine());
            const Share share(m, WIDTH);
            for (npy_intp first = share.begin; first < share.end; first += WIDTH) {
                block.standardise(g.data, first);
                for (npy_intp r = 0; r < n; r++) {
                    const real *h = block.h[r], *from = delta.data + r * m + first;
                    alignas(64) Row upper;
                    EACH_COLUMN upper[j] = 0;
                    std::copy(from, from + block.width, upper);
                    EACH_COLUMN {
                        const real z = block.a[j] * h[j] + block.b[j];
                        d[r][j] = upper[j] * slope<ACTIVATION>(z, activate<ACTIVATION>(z));
                    }
                }
                block.adjoint(d, dg, da, db);
            }
        }
    }
    """
    )

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        dtype = inputs[0].dtype
        return Apply(
            self, inputs, [T.matrix(dtype=dtype), T.vector(dtype=dtype), T.vector(dtype=dtype)]
        )

    def perform(self, node, inputs, outputs):
        g, a, b, *statistics, delta = inputs
        h, scale = self.standardisation.apply(g, statistics)
        delta = delta * activate(self.activation, a * h + b)[1]
        dg = self.standardisation.adjoint(delta * a, h, scale)
        results = [dg, (delta * h).sum(axis=0), delta.sum(axis=0)]
        for output, result in zip(outputs, results):
            output[0] = result.astype(g.dtype, copy=False)
        if self.inplace:
            g[...] = dg
            outputs[0][0] = g

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0], shapes[1], shapes[1]]


# One row of g, which is a document, standardised.
ROW = (
    ACTIVATE
    + r"""
struct Standardised {
    real mean = 0, scale = 1;
    Standardised(const real* g, npy_intp m) {
        if (!center && !normalize) return;
        #pragma omp simd reduction(+ : mean)
        for (npy_intp j = 0; j < m; j++) mean += g[j];
        mean /= m;
        if (normalize) {
            real squares = 0;
            #pragma omp simd reduction(+ : squares)
            for (npy_intp j = 0; j < m; j++) squares += (g[j] - mean) * (g[j] - mean);
            scale = 1 / std::sqrt(squares / m + real(epsilon));
        }
    }
    real h(real g) const { return (center ? g - mean : g) * scale; }
};
"""
)


class LayerNormalize(Kernel):
    """out = activation(a h(g) + b), where h is taken over the units of each document.

    Inputs
        g (n, m); a, b (m,)
    Outputs
        out (n, m)

    Parameters
    ----------
    standardisation : Standardisation
        The standardisation h; its ``population`` has no effect.
    activation : str
        The name of the activation.
    """

    __props__ = ("standardisation", "activation")
    source = (
        ROW
        + r"""
    static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_,
                       PyArrayObject** out_) {
        Input<real> g(g_), a_in(a_), b_in(b_);
        const npy_intp n = g.rows, m = g.columns;
        require(a_in.columns == m && b_in.columns == m,
                "g, a and b must have the same number of columns");
        real* out = output<real>(out_, {n, m});
        const real *a = a_in.data, *b = b_in.data;
        #pragma omp parallel
        {
            FlushDenormals flush;
            const Share share(n);
            for (npy_intp r = share.begin; r < share.end; r++) {
                const real* row = g.data + r * m;
                real* to = out + r * m;
                const Standardised standardised(row, m);
                #pragma omp simd
                for (npy_intp j = 0; j < m; j++)
                    to[j] = activate<ACTIVATION>(a[j] * standardised.h(row[j]) + b[j]);
            }
        }
    }
    """
    )

    def __init__(self, standardisation, activation):
        if activation not in ACTIVATIONS:
            raise ValueError(f"no kernel for the activation {activation!r}")
        self.standardisation, self.activation = standardisation, activation

    def constants(self):
        activation = ACTIVATIONS.index(self.activation)
        return f"{self.standardisation.constants()}\n#define ACTIVATION Activation({activation})\n"

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[0].dtype)])

    def perform(self, node, inputs, outputs):
        g, a, b = inputs
        h, _ = self.standardisation.apply(g.T, None)
        out, _ = activate(self.activation, a * h.T + b)
        outputs[0][0] = out.astype(g.dtype, copy=False)

    def activated(self, activation):
        """Return the same kernel with another activation."""
        return LayerNormalize(self.standardisation, activation)

    def L_op(self, inputs, outputs, gradients):
        gradient = LayerNormalizeGradient(self.standardisation, self.activation)
        return gradient(*inputs, *gradients, return_list=True)

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0]]


class LayerNormalizeGradient(LayerNormalize):
    """The gradients of g, a and b in `LayerNormalize`.

    Inputs
        g (n, m); a, b (m,); delta (n, m), the gradient of out
    Outputs
        dg (n, m); da, db (m,)
    """

    source = (
        ROW
        + r"""
    static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_,
                       PyArrayObject* delta_, PyArrayObject** dg_, PyArrayObject** da_,
                       PyArrayObject** db_) {
        Input<real> g(g_), a_in(a_), b_in(b_), delta(delta_);
        const npy_intp n = g.rows, m = g.columns;
        require(a_in.columns == m && b_in.columns == m,
                "g, a and b must have the same number of columns");
        require(delta.rows == n && delta.columns == m, "delta must have the shape of g");
        real *dg = output<real>(dg_, {n, m}), *da = output<real>(da_, {m}),
             *db = output<real>(db_, {m});
        const real *a = a_in.data, *b = b_in.data;
        std::vector<real> sums(2 * m * most_threads(), real(0));  // da and db of every thread
        #pragma omp parallel
        {
            FlushDenormals flush;
            real *own_da = sums.data() + 2 * m * thread(), *own_db = own_da + m;
            const Share share(n);
            for (npy_intp r = share.begin; r < share.end; r++) {
                const real *row = g.data + r * m, *upper = delta.data + r * m;
                real *to = dg + r * m, sum = 0, product = 0;  // of the gradient of h, and its h
                const Standardised standardised(row, m);
                #pragma omp simd reduction(+ : sum, product)
                for (npy_intp j = 0; j < m; j++) {
                    const real h = standardised.h(row[j]), z = a[j] * h + b[j];
                    const real d = upper[j] * slope<ACTIVATION>(z, activate<ACTIVATION>(z));
                    own_da[j] += d * h;
                    own_db[j] += d;
                    to[j] = a[j] * d;
                    sum += to[j];
                    product += to[j] * h;
                }
                sum = center ? sum / m : 0;
                product = normalize ? product / m : 0;
                const real scale = standardised.scale, mean = standardised.mean;
                #pragma omp simd
                for (npy_intp j = 0; j < m; j++)
                    to[j] = scale * (to[j] - sum - (row[j] - mean) * scale * product);
            }
        }
        for (npy_intp j = 0; j < m; j++) da[j] = db[j] = 0;
        for (int t = 0; t < most_threads(); t++)
            for (npy_intp j = 0; j < m; j++) {
                da[j] += sums[2 * m * t + j];
                db[j] += sums[2 * m * t + m + j];
            }
    }
    """
    )

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        dtype = inputs[0].dtype
        return Apply(
            self, inputs, [T.matrix(dtype=dtype), T.vector(dtype=dtype), T.vector(dtype=dtype)]
        )

    def perform(self, node, inputs, outputs):
        g, a, b, delta = inputs
        h, scale = self.standardisation.apply(g.T, None)
        h = h.T
        delta = delta * activate(self.activation, a * h + b)[1]
        dg = self.standardisation.adjoint((delta * a).T, h.T, scale).T
        results = [dg, (delta * h).sum(axis=0), delta.sum(axis=0)]
        for output, result in zip(outputs, results):
            output[0] = np.ascontiguousarray(result, dtype=g.dtype)

    def L_op(self, inputs, outputs, gradients):
        raise NotImplementedError("second derivatives: use the symbolic kernels")

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[0], shapes[1], shapes[1]]


class Statistics(Kernel):
    """The mean and the biased variance of every column of g.

    Inputs
        g (n, m)
    Outputs
        mean, variance (m,)
    """

    source = (
        BLOCK
        + r"""
    static void kernel(PyArrayObject* g_, PyArrayObject** mean_, PyArrayObject** variance_) {
        Input<real> g(g_);
        const npy_intp n = g.rows, m = g.columns;
        real *mean = output<real>(mean_, {m}), *variance = output<real>(variance_, {m});
        const std::vector<real> zeros(m, 0);
        Scratch scratch(n, 1);
        #pragma omp parallel
        {
            FlushDenormals flush;
            Block block(n, m, 0, 0, zeros.data(), zeros.data(), scratch.mine());
            const Share share(m, WIDTH);
            for (npy_intp first = share.begin; first < share.end; first += WIDTH) {
                block.standardise(g.data, first);
                std::copy(block.mu, block.mu + block.width, mean + first);
                std::copy(block.squares, block.squares + block.width, variance + first);
            }
        }
    }
    """
    )

    def constants(self):
        return Standardisation(True, True, 0.0, False).constants()

    def make_node(self, g):
        g = T.as_tensor_variable(g)
        return Apply(self, [g], [T.vector(dtype=g.dtype), T.vector(dtype=g.dtype)])

    def perform(self, node, inputs, outputs):
        (g,) = inputs
        outputs[0][0], outputs[1][0] = g.mean(axis=0), g.var(axis=0)

    def infer_shape(self, fgraph, node, shapes):
        ((_, m),) = shapes
        return [(m,), (m,)]


def activate(activation, z):
    """Return the activation of z and its derivative, in NumPy."""
    if activation == "relu":
        return np.maximum(0, z), np.where(np.isnan(z), z, z > 0)
    if activation == "sigmoid":
        out = scipy.special.expit(z)
        return out, out * (1 - out)
    if activation == "tanh":
        return np.tanh(z), 1 - np.tanh(z) ** 2
    return z, np.ones_like(z)
