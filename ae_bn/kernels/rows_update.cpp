// A step of an optimiser on some rows of p; d has a row for each of them.
#include "update.h"

#define COPY(name) \
    if (!inplace) std::copy_n(name##_in.data, size, name);

static void kernel(PyArrayObject* rate_, PyArrayObject* t_, PyArrayObject* rows_, PyArrayObject* d_,
                   PARAMETER_AND_STATE) {
    PREPARE
    Input<int> rows(rows_);
    Input<real> d(d_);
    const npy_intp n_rows = PyArray_DIM(p_, 0), size = PyArray_SIZE(p_);
    const npy_intp width = PyArray_NDIM(p_) == 2 ? p_in.columns : 1;
    require(PyArray_NDIM(d_) == PyArray_NDIM(p_) && PyArray_DIM(d_, 0) == rows.columns &&
                PyArray_SIZE(d_) == rows.columns * width,
            "d must have a row of p for each of rows");
    bool in_range = true;
    for (npy_intp k = 0; k < rows.columns; k++)
        in_range &= rows.data[k] >= 0 && rows.data[k] < n_rows;
    require(in_range, "row out of range");
    COPY(p)
    STATE(COPY)
#pragma omp parallel if (rows.columns * width > 10000)
    {
        FlushDenormals flush;
        const Share share(rows.columns);
        for (npy_intp k = share.begin; k < share.end; k++) {
            const npy_intp to = rows.data[k] * width;
#pragma omp simd
            for (npy_intp j = 0; j < width; j++) STEP(to + j, d.data[k * width + j])
        }
    }
}
