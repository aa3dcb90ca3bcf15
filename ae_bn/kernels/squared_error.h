// What the kernels of the squared error share, see `ae_bn.kernels.squared_error`.
#include "words.h"

static const npy_intp BLOCK = 512;  // rows of a matrix that are in the processor's cache together

inline void syrk(int* n, int* k, float* one, float* A, float* beta, float* C) {
    char lower = 'L', plain = 'N';
    ssyrk_(&lower, &plain, n, k, one, A, n, beta, C, n);
}
inline void syrk(int* n, int* k, double* one, double* A, double* beta, double* C) {
    char lower = 'L', plain = 'N';
    dsyrk_(&lower, &plain, n, k, one, A, n, beta, C, n);
}

// total += the outer products of some rows of d numbers; half of the symmetric total is written.
inline void add_outer_products(const real* rows, npy_intp count, npy_intp d, real* total) {
    int width = d, height = count;
    real one = 1;
    if (d && count) syrk(&width, &height, &one, (real*)rows, &one, total);
}

inline void fill_other_half(real* total, npy_intp d) {
    for (npy_intp i = 0; i < d; i++)
        for (npy_intp j = 0; j < i; j++) total[i * d + j] = total[j * d + i];
}

// out = factor * rows S, for rows of d numbers and a symmetric S, (d, d).
inline void times_symmetric(const real* rows, npy_intp count, npy_intp d, real factor,
                            const real* S, real* out) {
    char plain = 'N';
    int width = d, height = count;
    real zero = 0;
    if (d && count)
        gemm(&plain, &plain, &width, &height, &width, &factor, (real*)S, &width, (real*)rows,
             &width, &zero, out, &width);
}

inline void check(const Input<real>& H, const Input<real>& W, const Input<real>& b,
                  const Csr<real>& x) {
    require(H.columns == W.columns, "H and W must have the same number of columns");
    require(b.columns == W.rows, "b must have a number for each row of W");
    require(x.rows == H.rows, "H and the documents must have the same number of rows");
}

// The sum of the rows of H.
inline std::vector<real> sum_of_rows(const Input<real>& H) {
    std::vector<double> sum(H.columns, 0.);
    for (npy_intp r = 0; r < H.rows; r++)
        for (npy_intp k = 0; k < H.columns; k++) sum[k] += H.data[r * H.columns + k];
    return std::vector<real>(sum.begin(), sum.end());
}
