// One row of g, which is a document, standardised: h = (g - mean) / sqrt(variance + epsilon).
#include "activation.h"

struct Standardised {
    real mean = 0, scale = 1;
    Standardised(const real* g, npy_intp m) {
        if (!center && !normalize) return;
#pragma omp simd reduction(+ : mean)
        for (npy_intp j = 0; j < m; j++) mean += g[j];
        mean /= m;
        if (normalize) {
            real squares = 0;
#pragma omp simd reduction(+ : squares)
            for (npy_intp j = 0; j < m; j++) squares += (g[j] - mean) * (g[j] - mean);
            scale = 1 / std::sqrt(squares / m + real(epsilon));
        }
    }
    real h(real g) const { return (center ? g - mean : g) * scale; }
};
