// dW = upper 2 / n (W H^T H + b 1^T H - X^T H).
#include "weight_gradient.h"

static void kernel(PyArrayObject* upper, PyArrayObject* H_, PyArrayObject* W_, PyArrayObject* b_,
                   PyArrayObject* data, PyArrayObject* indices, PyArrayObject* indptr,
                   PyArrayObject** dW_) {
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
