// A step of an optimiser on W in the squared error: its gradient, block by block.
#include "weight_gradient.h"
#include "update.h"

static void kernel(PyArrayObject* rate_, PyArrayObject* t_, PyArrayObject* upper_,
                   PyArrayObject* H_, PyArrayObject* b_, PyArrayObject* data_,
                   PyArrayObject* indices_, PyArrayObject* indptr_, PARAMETER_AND_STATE) {
    PREPARE
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
}
