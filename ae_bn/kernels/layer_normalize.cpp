// out = activation(a h(g) + b), h over the units of each document.
#include "row.h"

static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_, PyArrayObject** out_) {
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
