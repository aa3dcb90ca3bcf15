// A step of an optimiser on p, whose gradient is d.
#include "update.h"

static void kernel(PyArrayObject* rate_, PyArrayObject* t_, PyArrayObject* d_,
                   PARAMETER_AND_STATE) {
    PREPARE
    Input<real> d(d_);
    require(PyArray_SAMESHAPE(p_, d_), "p and d must be of one shape");
    const npy_intp size = PyArray_SIZE(d_);
#pragma omp parallel if (size > 10000)
    {
        FlushDenormals flush;
        const Share share(size, 16);
#pragma omp simd
        for (npy_intp i = share.begin; i < share.end; i++) STEP(i, d.data[i])
    }
}
