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

import numpy as np
import theano.tensor as T
from theano.gradient import DisconnectedType, grad_undefined
from theano.graph.basic import Apply

from ae_bn.kernels.product import BlasKernel
from ae_bn.kernels.projection import WORDS, checked_csr
from ae_bn.kernels.updates import Update

HELPERS = (
    WORDS
    + r"""
static const npy_intp BLOCK = 512;  // rows of a matrix that are in the processor's cache together

inline void syrk(int* n, int* k, float* one, float* A, float* beta, float* C) {
    char lower = 'L', plain = 'N';
    ssyrk_(&lower, &plain, n, k, one, A, n, beta, C, n);
}
inline void syrk(int* n, int* k, double* one, double* A, double* beta, double* C) {
    char lower = 'L', plain = 'N';
    dsyrk_(&lower, &plain, n, k, one, A, n, beta, C, n);
}

// total += the outer products of some rows of d numbers; half of the symmetric total is written.
inline void add_outer_products(const real* rows, npy_intp count, npy_intp d, real* total) {
    int width = d, height = count;
    real one = 1;
    if (d && count) syrk(&width, &height, &one, (real*)rows, &one, total);
}

inline void fill_other_half(real* total, npy_intp d) {
    for (npy_intp i = 0; i < d; i++)
        for (npy_intp j = 0; j < i; j++) total[i * d + j] = total[j * d + i];
}

// out = factor * rows S, for rows of d numbers and a symmetric S, (d, d).
inline void times_symmetric(const real* rows, npy_intp count, npy_intp d, real factor,
                            const real* S, real* out) {
    char plain = 'N';
    int width = d, height = count;
    real zero = 0;
    if (d && count)
        gemm(&plain, &plain, &width, &height, &width, &factor, (real*)S, &width, (real*)rows,
             &width, &zero, out, &width);
}

inline void check(const Input<real>& H, const Input<real>& W, const Input<real>& b,
                  const Csr<real>& x) {
    require(H.columns == W.columns, "H and W must have the same number of columns");
    require(b.columns == W.rows, "b must have a number for each row of W");
    require(x.rows == H.rows, "H and the documents must have the same number of rows");
}

// The sum of the rows of H.
inline std::vector<real> sum_of_rows(const Input<real>& H) {
    std::vector<double> sum(H.columns, 0.);
    for (npy_intp r = 0; r < H.rows; r++)
        for (npy_intp k = 0; k < H.columns; k++) sum[k] += H.data[r * H.columns + k];
    return std::vector<real>(sum.begin(), sum.end());
}
"""
)

# The gradient of W for BLOCK of its rows at a time.
GRADIENT = r"""
class WeightGradient {
    const Input<real> &H, &W, &b;
    const Words x_by_word;
    const std::vector<real> sum;
    std::vector<real> G;
    const real factor;
  public:
    WeightGradient(const Input<real>& H, const Input<real>& W, const Input<real>& b,
                   const Csr<real>& x, real upper)
        : H(H), W(W), b(b), x_by_word(x, W.rows), sum(sum_of_rows(H)),
          G(W.columns * W.columns, real(0)), factor(H.rows ? 2 * upper / H.rows : 0) {
        add_outer_products(H.data, H.rows, H.columns, G.data());
        fill_other_half(G.data(), H.columns);
    }

    // Puts the rows from `first` to before `last` into out; `row` has room for one.
    void rows(npy_intp first, npy_intp last, real* row, real* out) const {
        const npy_intp d = W.columns;
        times_symmetric(W.data + first * d, last - first, d, factor, G.data(), out);
        for (npy_intp word = first; word < last; word++) {
            real* o = out + (word - first) * d;
            const real shift = factor * b.data[word];
            x_by_word.multiply(word, H, row);
            #pragma omp simd
            for (npy_intp k = 0; k < d; k++) o[k] += shift * sum[k] - factor * row[k];
        }
    }
};
"""


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


class SquaredError(BlasKernel):
    r"""``loss = |H W^T + 1 b^T - X|^2 / n``, from the equations in the module's docstring.

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
    source = (
        HELPERS
        + r"""
    static void kernel(PyArrayObject* H_, PyArrayObject* W_, PyArrayObject* b_,
                       PyArrayObject* data, PyArrayObject* indices, PyArrayObject* indptr,
                       PyArrayObject** value_, PyArrayObject** dH_ = 0,
                       PyArrayObject** db_ = 0) {
        Input<real> H(H_), W(W_), b(b_);
        Csr<real> x(data, indices, indptr, W.rows);
        check(H, W, b, x);
        const npy_intp n = H.rows, m = W.rows, d = W.columns;
        real *out = output<real>(value_, {}), *dH = 0, *db = 0;
        const real factor = n ? real(2) / n : 0;
        const std::vector<real> sum = sum_of_rows(H);
        if (gradients) {
            dH = output<real>(dH_, {n, d});
            db = output<real>(db_, {m});
            std::fill(db, db + m, real(0));
            for (int k = 0; k < x.indices.columns; k++)
                db[x.indices.data[k]] -= factor * x.data.data[k];
        }
        // P = W^T W and s = W^T b, by threads.
        std::vector<std::vector<real>> P(most_threads()), s(most_threads());
        std::vector<double> values(n + most_threads(), 0.);  // added up in one order
        OneBlasThread one_thread;
        #pragma omp parallel
        {
            FlushDenormals flush;
            std::vector<real> my_P(d * d, real(0)), my_s(d, real(0));
            const Share share(m, 16);
            for (npy_intp first = share.begin; first < share.end; first += BLOCK) {
                const npy_intp last = std::min(share.end, first + BLOCK);
                add_outer_products(W.data + first * d, last - first, d, my_P.data());
                for (npy_intp word = first; word < last; word++) {
                    const real *w = W.data + word * d, shift = b.data[word];
                    real product = 0;
                    real* to = my_s.data();
                    #pragma omp simd reduction(+ : product)
                    for (npy_intp k = 0; k < d; k++) {
                        product += w[k] * sum[k];
                        to[k] += shift * w[k];
                    }
                    if (gradients) db[word] += factor * (product + n * shift);
                    values[n + thread()] += double(n) * shift * shift;
                }
            }
            P[thread()].swap(my_P);
            s[thread()].swap(my_s);
        }
        for (int t = 1; t < most_threads(); t++) {
            for (npy_intp i = 0; i < (npy_intp)P[t].size(); i++) P[0][i] += P[t][i];
            for (npy_intp k = 0; k < (npy_intp)s[t].size(); k++) s[0][k] += s[t][k];
        }
        fill_other_half(P[0].data(), d);
        #pragma omp parallel
        {
            FlushDenormals flush;
            std::vector<real> HP(BLOCK * d), XW(d);
            const Share share(n);
            for (npy_intp first = share.begin; first < share.end; first += BLOCK) {
                const npy_intp last = std::min(share.end, first + BLOCK);
                times_symmetric(H.data + first * d, last - first, d, 1, P[0].data(), HP.data());
                for (npy_intp r = first; r < last; r++) {
                    const real *hp = HP.data() + (r - first) * d, *own = H.data + r * d;
                    const real* shift = s[0].data();
                    const int start = x.indptr.data[r], count = x.indptr.data[r + 1] - start;
                    const int* words = x.indices.data + start;
                    const real* weight = x.data.data + start;
                    real* xw = XW.data();
                    combine(count, weight, [&](int k) { return W.data + words[k] * d; }, d, xw);
                    double value = 0;
                    for (int k = 0; k < count; k++)
                        value += double(weight[k]) * (weight[k] - 2 * b.data[words[k]]);
                    #pragma omp simd reduction(+ : value)
                    for (npy_intp k = 0; k < d; k++)
                        value += double(own[k]) * (hp[k] + 2 * (double(shift[k]) - xw[k]));
                    values[r] = value;
                    if (gradients) {
                        real* to = dH + r * d;
                        #pragma omp simd
                        for (npy_intp k = 0; k < d; k++)
                            to[k] = factor * (hp[k] + shift[k] - xw[k]);
                    }
                }
            }
        }
        double value = 0;
        for (double part : values) value += part;
        *out = value / n;
    }
    """
    )

    def __init__(self, gradients=True):
        self.gradients = gradients

    def constants(self):
        return f"static const bool gradients = {int(self.gradients)};"

    def in_place(self, fgraph, node):
        """Return the form without gradients if nothing uses them."""
        return SquaredError(any(fgraph.clients[output] for output in node.outputs[1:]))

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        dtype = inputs[0].dtype
        outputs = [T.scalar, T.matrix, T.vector][: 3 if self.gradients else 1]
        return Apply(self, inputs, [output(dtype=dtype) for output in outputs])

    def perform(self, node, inputs, outputs):
        H, W, b, data, indices, indptr = inputs
        X = checked_csr(data, indices, indptr, len(W)).toarray()
        difference = H @ W.T + b - X
        results = [(difference**2).sum() / len(H), 2 / len(H) * difference @ W]
        results += [2 / len(H) * difference.sum(axis=0)]
        for output, result in zip(outputs, results):
            output[0] = np.asarray(result, dtype=H.dtype)

    def L_op(self, inputs, outputs, gradients):
        upper, *others = gradients
        if not all(isinstance(other.type, DisconnectedType) for other in others):
            raise NotImplementedError("second derivatives: use the symbolic kernels")
        dH, db = (upper * gradient for gradient in outputs[1:])
        return [
            dH,
            SquaredErrorGradient()(upper, *inputs),
            db,
            grad_undefined(self, 3, inputs[3], "the documents are data"),
            DisconnectedType()(),
            DisconnectedType()(),
        ]

    def connection_pattern(self, node):
        return [[c] * len(node.outputs) for c in (True, True, True, True, False, False)]

    def infer_shape(self, fgraph, node, shapes):
        return [(), shapes[0], shapes[2]][: len(node.outputs)]


class SquaredErrorGradient(BlasKernel):
    r"""dW = upper (2 / n) (W H^T H + b 1^T H - X^T H), the gradient of W in `SquaredError`.

    Inputs
        upper (scalar), the gradient of the loss; and the inputs of `SquaredError`
    Outputs
        dW (m, d)
    """

    source = (
        HELPERS
        + GRADIENT
        + r"""
    static void kernel(PyArrayObject* upper, PyArrayObject* H_, PyArrayObject* W_,
                       PyArrayObject* b_, PyArrayObject* data, PyArrayObject* indices,
                       PyArrayObject* indptr, PyArrayObject** dW_) {
        Input<real> H(H_), W(W_), b(b_);
        Csr<real> x(data, indices, indptr, W.rows);
        check(H, W, b, x);
        real* dW = output<real>(dW_, {W.rows, W.columns});
        OneBlasThread one_thread;
        const WeightGradient gradient(H, W, b, x, *(real*)PyArray_DATA(upper));
        #pragma omp parallel
        {
            FlushDenormals flush;
            std::vector<real> row(W.columns);
            #pragma omp for schedule(dynamic)
            for (npy_intp first = 0; first < W.rows; first += BLOCK)
                gradient.rows(first, std::min(W.rows, first + BLOCK), row.data(),
                              dW + first * W.columns);
        }
    }
    """
    )

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [T.matrix(dtype=inputs[2].dtype)])

    def perform(self, node, inputs, outputs):
        upper, H, W, b, data, indices, indptr = inputs
        difference = H @ W.T + b - checked_csr(data, indices, indptr, len(W)).toarray()
        outputs[0][0] = (upper * 2 / len(H) * difference.T @ H).astype(W.dtype)

    def infer_shape(self, fgraph, node, shapes):
        return [shapes[2]]


class SquaredErrorUpdate(Update, BlasKernel):
    """`Update` of W in `SquaredError`, which uses rows of the gradient as soon as they are formed.

    Inputs
        as for `Update`, but instead of d the inputs of `SquaredErrorGradient` without W: upper, H,
        b, data, indices, indptr.  p is W
    Outputs
        the new p and the new state
    """

    gradient = ["upper", "H", "b", "data", "indices", "indptr"]
    loop = r"""
        Input<real> H(H_), b(b_);
        Csr<real> x(data_, indices_, indptr_, p_in.rows);
        check(H, p_in, b, x);
        const npy_intp n_words = p_in.rows, d = p_in.columns;
        OneBlasThread one_thread;
        const WeightGradient gradient(H, p_in, b, x, *(real*)PyArray_DATA(upper_));
        #pragma omp parallel
        {
            FlushDenormals flush;
            std::vector<real> row(d), block(BLOCK * d);
            #pragma omp for schedule(dynamic)
            for (npy_intp first = 0; first < n_words; first += BLOCK) {
                const npy_intp last = std::min(n_words, first + BLOCK), start = first * d;
                gradient.rows(first, last, row.data(), block.data());
                const real* of_block = block.data();
                #pragma omp simd
                for (npy_intp i = start; i < last * d; i++) STEP(i, of_block[i - start])
            }
        }
    """

    @property
    def source(self):
        return HELPERS + GRADIENT + super().source

    def perform(self, node, inputs, outputs):
        rate, t, upper, H, b, *documents, W = inputs[:9]
        d = [[None]]
        SquaredErrorGradient().perform(None, [upper, H, W, b, *documents], d)
        super().perform(node, [rate, t, d[0][0], *inputs[8:]], outputs)
