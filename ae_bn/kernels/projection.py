"""x W for sparse documents x, and the gradient of W."""

from __future__ import annotations

import theano.tensor as T
from scipy.sparse import csr_matrix
from theano.gradient import DisconnectedType, grad_undefined
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel

COMBINE = r"""
// o += v[0] w0 + ... + v[3] w3.  Inlined, two passes would be jammed into one that gathers.
__attribute__((noinline)) static void add_four(const real* v, const real* w0, const real* w1,
                                               const real* w2, const real* w3, npy_intp m,
                                               real* __restrict__ o) {
    const real v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];
    #pragma omp simd
    for (npy_intp j = 0; j < m; j++) o[j] += v0 * w0[j] + v1 * w1[j] + v2 * w2[j] + v3 * w3[j];
}

// o = v[0] row(0) + v[1] row(1) + ..., rows of m values: one to three, then four for each pass.
template <typename Row>
inline void combine(int count, const real* v, Row row, npy_intp m, real* __restrict__ o) {
    int k = count % 4;
    if (k == 0) {
        std::fill(o, o + m, real(0));
    } else if (k == 1) {
        const real *w0 = row(0), v0 = v[0];
        #pragma omp simd
        for (npy_intp j = 0; j < m; j++) o[j] = v0 * w0[j];
    } else if (k == 2) {
        const real *w0 = row(0), *w1 = row(1), v0 = v[0], v1 = v[1];
        #pragma omp simd
        for (npy_intp j = 0; j < m; j++) o[j] = v0 * w0[j] + v1 * w1[j];
    } else {
        const real *w0 = row(0), *w1 = row(1), *w2 = row(2), v0 = v[0], v1 = v[1], v2 = v[2];
        #pragma omp simd
        for (npy_intp j = 0; j < m; j++) o[j] = v0 * w0[j] + v1 * w1[j] + v2 * w2[j];
    }
    for (; k < count; k += 4) add_four(v + k, row(k), row(k + 1), row(k + 2), row(k + 3), m, o);
}
"""


class Project(Kernel):
    r"""out = x W, for a CSR matrix x.

    Inputs
        data (number of non-zeros,), indices (the same,), indptr (n + 1,): x, (n, n_in);
        W (n_in, n_out)
    Outputs
        out (n, n_out)
    """

    source = (
        COMBINE
        + r"""
    static void kernel(PyArrayObject* data, PyArrayObject* indices, PyArrayObject* indptr,
                       PyArrayObject* W_, PyArrayObject** out_) {
        Input<real> W(W_);
        Csr<real> x(data, indices, indptr, W.rows);
        const npy_intp m = W.columns;
        real* out = output<real>(out_, {x.rows, m});
        #pragma omp parallel
        {
            FlushDenormals flush;
            #pragma omp for schedule(dynamic, 4)
            for (npy_intp r = 0; r < x.rows; r++) {
                const int start = x.indptr.data[r], count = x.indptr.data[r + 1] - start;
                const int* words = x.indices.data + start;
                auto row = [&](int k) { return W.data + words[k] * m; };
                combine(count, x.data.data + start, row, m, out + r * m);
            }
        }
    }
    """
    )

    def make_node(self, data, indices, indptr, W):
        inputs = [T.as_tensor_variable(v) for v in (data, indices, indptr, W)]
        return Apply(self, inputs, [T.matrix(dtype=inputs[-1].dtype)])

    def perform(self, node, inputs, outputs):
        data, indices, indptr, W = inputs
        outputs[0][0] = checked_csr(data, indices, indptr, len(W)) @ W

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


# x ordered by words instead of documents; the updates use it too.
WORDS = (
    COMBINE
    + r"""
class Words {
    std::vector<int> start, document;  // of the non-zeros, sorted by word
    std::vector<real> value;
  public:
    Words(const Csr<real>& x, npy_intp n_words)  // a counting sort
        : start(n_words + 2, 0), document(x.indices.columns), value(x.indices.columns) {
        const int* column = x.indices.data;
        for (npy_intp k = 0; k < x.indices.columns; k++) start[column[k] + 2]++;
        for (npy_intp c = 0; c < n_words; c++) start[c + 2] += start[c + 1];
        for (npy_intp r = 0; r < x.rows; r++)
            for (int k = x.indptr.data[r]; k < x.indptr.data[r + 1]; k++) {
                const int to = start[column[k] + 1]++;
                document[to] = r;
                value[to] = x.data.data[k];
            }
    }

    // Puts a word's row of x^T delta into o.
    void multiply(npy_intp word, const Input<real>& delta, real* o) const {
        const int from = start[word], *documents = document.data() + from;
        auto row = [&](int k) { return delta.data + documents[k] * delta.columns; };
        combine(start[word + 1] - from, value.data() + from, row, delta.columns, o);
    }
};
"""
)


class ProjectTransposed(Kernel):
    r"""out = x^T delta, dense, for a CSR matrix x: the gradient of W in x W.

    The words are divided among the threads, and each row of the result is written once.

    Inputs
        data, indices, indptr: x, (n, n_words), as for `Project`; delta (n, m); n_words (scalar)
    Outputs
        out (n_words, m)
    """

    source = (
        WORDS
        + r"""
    static void kernel(PyArrayObject* data, PyArrayObject* indices, PyArrayObject* indptr,
                       PyArrayObject* delta_, PyArrayObject* n_words_, PyArrayObject** out_) {
        Input<real> delta(delta_);
        const npy_intp n_words = *(npy_int64*)PyArray_DATA(n_words_), m = delta.columns;
        require(n_words >= 0, "n_words must not be negative");
        Csr<real> x(data, indices, indptr, n_words);
        require(x.rows == delta.rows, "x and delta must have the same number of rows");
        real* out = output<real>(out_, {n_words, m});
        const Words x_by_word(x, n_words);
        #pragma omp parallel
        {
            FlushDenormals flush;
            #pragma omp for schedule(dynamic, 64)
            for (npy_intp word = 0; word < n_words; word++)
                x_by_word.multiply(word, delta, out + word * m);
        }
    }
    """
    )

    def make_node(self, data, indices, indptr, delta, n_words):
        inputs = [T.as_tensor_variable(v) for v in (data, indices, indptr, delta)]
        return Apply(
            self,
            [*inputs, T.cast(n_words, "int64")],
            [T.matrix(dtype=inputs[-1].dtype)],
        )

    def perform(self, node, inputs, outputs):
        data, indices, indptr, delta, n_words = inputs
        outputs[0][0] = checked_csr(data, indices, indptr, int(n_words)).T @ delta

    def infer_shape(self, fgraph, node, shapes):
        return [(node.inputs[-1], shapes[3][1])]


def checked_csr(data, indices, indptr, n_words):
    """Return the CSR matrix after the same checks as in C."""
    x = csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, n_words))
    x.check_format(full_check=True)
    if not x.has_sorted_indices:
        raise ValueError("CSR: column indices must be sorted in every row (sort_indices())")
    return x
