// out = activation(a h(g) + b), h over the documents.
#include "block.h"

static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_, PyArrayObject* mean_,
                   PyArrayObject* variance_, PyArrayObject** out_) {
    NORMALIZED_INPUTS
    real* out = output<real>(out_, {n, m});
    Scratch scratch(n, 1);
#pragma omp parallel
    {
        FlushDenormals flush;
        Block block(n, m, mean.data, variance.data, a.data, b.data, scratch.mine());
        const Share share(m, WIDTH);
        for (npy_intp first = share.begin; first < share.end; first += WIDTH) {
            block.standardise(g.data, first);
            for (npy_intp r = 0; r < n; r++) {
                real* h = block.h[r];
                EACH_COLUMN h[j] = activate<ACTIVATION>(block.a[j] * h[j] + block.b[j]);
                std::copy(h, h + block.width, out + r * m + first);
            }
        }
    }
}
