// Weighted sums of rows.

// o += v[0] w0 + ... + v[3] w3.  Inlined, two passes would be jammed into one that gathers.
__attribute__((noinline)) static void add_four(const real* v, const real* w0, const real* w1,
                                               const real* w2, const real* w3, npy_intp m,
                                               real* __restrict__ o) {
    const real v0 = v[0], v1 = v[1], v2 = v[2], v3 = v[3];
#pragma omp simd
    for (npy_intp j = 0; j < m; j++) o[j] += v0 * w0[j] + v1 * w1[j] + v2 * w2[j] + v3 * w3[j];
}

// o = v[0] row(0) + v[1] row(1) + ..., rows of m values: one to three, then four for each pass.
template <typename Row>
inline void combine(int count, const real* v, Row row, npy_intp m, real* __restrict__ o) {
    int k = count % 4;
    if (k == 0) {
        std::fill(o, o + m, real(0));
    } else if (k == 1) {
        const real *w0 = row(0), v0 = v[0];
#pragma omp simd
        for (npy_intp j = 0; j < m; j++) o[j] = v0 * w0[j];
    } else if (k == 2) {
        const real *w0 = row(0), *w1 = row(1), v0 = v[0], v1 = v[1];
#pragma omp simd
        for (npy_intp j = 0; j < m; j++) o[j] = v0 * w0[j] + v1 * w1[j];
    } else {
        const real *w0 = row(0), *w1 = row(1), *w2 = row(2), v0 = v[0], v1 = v[1], v2 = v[2];
#pragma omp simd
        for (npy_intp j = 0; j < m; j++) o[j] = v0 * w0[j] + v1 * w1[j] + v2 * w2[j];
    }
    for (; k < count; k += 4) add_four(v + k, row(k), row(k + 1), row(k + 2), row(k + 3), m, o);
}
