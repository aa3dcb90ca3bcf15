// The gradients of g, a and b in out = activation(a h(g) + b), from delta, that of out: with
// z = a h + b, the gradient of z is delta activation'(z).  h is computed again, which is cheap.
#include "block.h"

static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_, PyArrayObject* mean_,
                   PyArrayObject* variance_, PyArrayObject* delta_, PyArrayObject** dg_,
                   PyArrayObject** da_, PyArrayObject** db_) {
    NORMALIZED_INPUTS
    Input<real> delta(delta_);
    require(delta.rows == n && delta.columns == m, "delta must have the shape of g");
    real *dg = inplace ? overwrite<real>(g_, dg_) : output<real>(dg_, {n, m}),
         *da = output<real>(da_, {m}), *db = output<real>(db_, {m});
    Scratch scratch(n, 2);
#pragma omp parallel
    {
        FlushDenormals flush;
        Row* d = scratch.mine() + n;
        Block block(n, m, mean.data, variance.data, a.data, b.data, scratch.mine());
        const Share share(m, WIDTH);
        for (npy_intp first = share.begin; first < share.end; first += WIDTH) {
            block.standardise(g.data, first);
            for (npy_intp r = 0; r < n; r++) {
                const real *h = block.h[r], *from = delta.data + r * m + first;
                alignas(64) Row upper;
                EACH_COLUMN upper[j] = 0;
                std::copy(from, from + block.width, upper);
                EACH_COLUMN {
                    const real z = block.a[j] * h[j] + block.b[j];
                    d[r][j] = upper[j] * slope<ACTIVATION>(z, activate<ACTIVATION>(z));
                }
            }
            block.adjoint(d, dg, da, db);
        }
    }
}
