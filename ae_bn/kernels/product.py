"""x W for dense matrices."""

from __future__ import annotations

import hashlib

import numpy as np
import theano
import theano.tensor as T
from theano.graph.basic import Apply
from theano.tensor.blas import ldflags
from theano.tensor.blas_headers import blas_header_text

from ae_bn.kernels.kernel import Kernel

GEMM = r"""
inline void gemm(char* a, char* b, int* m, int* n, int* k, float* one, float* A, int* lda,
                 float* B, int* ldb, float* zero, float* C, int* ldc) {
    sgemm_(a, b, m, n, k, one, A, lda, B, ldb, zero, C, ldc);
}
inline void gemm(char* a, char* b, int* m, int* n, int* k, double* one, double* A, int* lda,
                 double* B, int* ldb, double* zero, double* C, int* ldc) {
    dgemm_(a, b, m, n, k, one, A, lda, B, ldb, zero, C, ldc);
}

struct OneBlasThread {
    int saved = openblas_get_num_threads ? openblas_get_num_threads() : 0;
    OneBlasThread() { if (saved > 1) openblas_set_num_threads(1); }
    ~OneBlasThread() { if (saved > 1) openblas_set_num_threads(saved); }
};
"""


class BlasKernel(Kernel):
    """A kernel whose source also uses BLAS: ``gemm`` and, with one thread for each, `GEMM`.

    The kernels run on OpenMP's threads.  If BLAS had threads of its own, the two pools would wait
    for each other's cores, so OpenBLAS is limited to one thread while an ``OneBlasThread`` lives.
    """

    def c_support_code(self, **kwargs):
        weak = "__attribute__((weak))"
        return (
            blas_header_text()
            + f'extern "C" void openblas_set_num_threads(int) {weak};\n'
            + f'extern "C" int openblas_get_num_threads() {weak};\n'
            + super().c_support_code(**kwargs)
            + GEMM
        )

    def c_libraries(self, **kwargs):
        return ldflags()

    def c_lib_dirs(self, **kwargs):
        return ldflags(libs=False, libs_dir=True)

    def c_compile_args(self, **kwargs):
        return [*super().c_compile_args(**kwargs), *ldflags(libs=False, flags=True)]

    def c_header_dirs(self, **kwargs):
        return ldflags(libs=False, include_dir=True)

    def c_code_cache_version(self):
        blas = hashlib.sha256(GEMM.encode()).hexdigest(), theano.config.blas__ldflags
        return (*super().c_code_cache_version(), *blas)


class Product(BlasKernel):
    r"""out = x W, with columns or rows divided among the OpenMP threads.

    Inputs
        x (n, k), W (k, m); transposed views are not copied
    Outputs
        out (n, m)
    """

    source = r"""
    // A matrix as BLAS takes it: rows or columns contiguous, anything else copied.
    struct Operand {
        PyArrayObject* array;
        const real* data;
        char transposed;
        int stride;
        npy_intp rows, columns, row_step, column_step;
        explicit Operand(PyArrayObject* given) {
            const npy_intp size = sizeof(real);
            rows = PyArray_DIM(given, 0), columns = PyArray_DIM(given, 1);
            const npy_intp down = PyArray_STRIDE(given, 0), right = PyArray_STRIDE(given, 1);
            const bool by_row = right == size && down >= size * columns && down % size == 0;
            const bool by_column = down == size && right >= size * rows && right % size == 0;
            if (by_row || by_column) {
                array = given;
                Py_INCREF(given);
            } else if (!(array = (PyArrayObject*)PyArray_NewCopy(given, NPY_CORDER))) {
                throw std::bad_alloc();
            }
            data = (const real*)PyArray_DATA(array);
            transposed = by_column && !by_row ? 'T' : 'N';
            row_step = by_row || by_column ? down / size : columns;
            column_step = by_row || by_column ? right / size : 1;
            stride = std::max<npy_intp>(1, transposed == 'T' ? column_step : row_step);
        }
        ~Operand() { Py_DECREF(array); }
    };

    static void kernel(PyArrayObject* x_, PyArrayObject* W_, PyArrayObject** out_) {
        Operand x(x_), W(W_);
        require(x.columns == W.rows, "x must have as many columns as W has rows");
        real* out = output<real>(out_, {x.rows, W.columns});
        if (!x.rows || !W.columns) return;
        if (!x.columns) {
            std::fill(out, out + x.rows * W.columns, real(0));
            return;
        }
        OneBlasThread one_thread;
        const bool by_column = W.columns >= x.rows;
        #pragma omp parallel
        {
            FlushDenormals flush;
            const Share share(by_column ? W.columns : x.rows, 16);
            int n = by_column ? x.rows : share.end - share.begin, k = x.columns;
            int m = by_column ? share.end - share.begin : W.columns, ldc = W.columns;
            const npy_intp row = by_column ? 0 : share.begin, column = by_column ? share.begin : 0;
            real one = 1, zero = 0;
            // BLAS stores by columns, and so sees out^T = W^T x^T.
            if (n && m)
                gemm(&W.transposed, &x.transposed, &m, &n, &k, &one,
                     (real*)W.data + column * W.column_step, &W.stride,
                     (real*)x.data + row * x.row_step, &x.stride, &zero,
                     out + row * W.columns + column, &ldc);
        }
    }
    """

    def make_node(self, x, W):
        x, W = T.as_tensor_variable(x), T.as_tensor_variable(W)
        return Apply(self, [x, W], [T.matrix(dtype=W.dtype)])

    def perform(self, node, inputs, outputs):
        x, W = inputs
        outputs[0][0] = np.dot(x, W)

    def L_op(self, inputs, outputs, gradients):
        x, W = inputs
        (delta,) = gradients
        if W.owner and isinstance(W.owner.op, T.elemwise.DimShuffle):  # W.T, so transpose dW too
            return [self(delta, W.T), self(delta.T, x).T]
        return [self(delta, W.T), self(x.T, delta)]

    def infer_shape(self, fgraph, node, shapes):
        return [(shapes[0][0], shapes[1][1])]
