// mean_j = sum_i g_ij / n, variance_j = sum_i (g_ij - mean_j)^2 / n.
#include "block.h"

static void kernel(PyArrayObject* g_, PyArrayObject** mean_, PyArrayObject** variance_) {
    Input<real> g(g_);
    const npy_intp n = g.rows, m = g.columns;
    real *mean = output<real>(mean_, {m}), *variance = output<real>(variance_, {m});
    const std::vector<real> zeros(m, 0);
    Scratch scratch(n, 1);
#pragma omp parallel
    {
        FlushDenormals flush;
        Block block(n, m, 0, 0, zeros.data(), zeros.data(), scratch.mine());
        const Share share(m, WIDTH);
        for (npy_intp first = share.begin; first < share.end; first += WIDTH) {
            block.standardise(g.data, first);
            std::copy(block.mu, block.mu + block.width, mean + first);
            std::copy(block.squares, block.squares + block.width, variance + first);
        }
    }
}
