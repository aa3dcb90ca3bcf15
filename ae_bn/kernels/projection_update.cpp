// A step of an optimiser on W in x W: the gradient x^T delta, row by row.
#include "words.h"
#include "update.h"

static void kernel(PyArrayObject* rate_, PyArrayObject* t_, PyArrayObject* data_,
                   PyArrayObject* indices_, PyArrayObject* indptr_, PyArrayObject* delta_,
                   PARAMETER_AND_STATE) {
    PREPARE
    Input<real> delta(delta_);
    const npy_intp n_words = p_in.rows, n_units = p_in.columns;
    const Csr<real> x(data_, indices_, indptr_, n_words);
    require(x.rows == delta.rows, "x and delta must have the same number of rows");
    require(delta.columns == n_units, "delta must have as many columns as W");
    const Words x_by_word(x, n_words);
#pragma omp parallel
    {
        FlushDenormals flush;
        std::vector<real> row(n_units);
        real* d = row.data();
#pragma omp for schedule(dynamic, 64)
        for (npy_intp word = 0; word < n_words; word++) {
            x_by_word.multiply(word, delta, d);
#pragma omp simd
            for (npy_intp j = 0; j < n_units; j++) STEP(word * n_units + j, d[j])
        }
    }
}
