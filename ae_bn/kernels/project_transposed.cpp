// out = x^T delta, x sparse: the gradient of W in x W.
#include "words.h"

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
