// The gradients of g, a and b in out = activation(a h(g) + b), h over the units of each document:
// with z = a h + b and d = delta activation'(z),
//
//     dg = (a d - mean(a d) - h mean(a d h)) / sqrt(variance + epsilon), means over the units
//     da = sum(d h), db = sum(d), over the documents
#include "row.h"

static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_, PyArrayObject* delta_,
                   PyArrayObject** dg_, PyArrayObject** da_, PyArrayObject** db_) {
    Input<real> g(g_), a_in(a_), b_in(b_), delta(delta_);
    const npy_intp n = g.rows, m = g.columns;
    require(a_in.columns == m && b_in.columns == m,
            "g, a and b must have the same number of columns");
    require(delta.rows == n && delta.columns == m, "delta must have the shape of g");
    real *dg = output<real>(dg_, {n, m}), *da = output<real>(da_, {m}),
         *db = output<real>(db_, {m});
    const real *a = a_in.data, *b = b_in.data;
    std::vector<real> sums(2 * m * most_threads(), real(0));  // da and db of every thread
#pragma omp parallel
    {
        FlushDenormals flush;
        real *own_da = sums.data() + 2 * m * thread(), *own_db = own_da + m;
        const Share share(n);
        for (npy_intp r = share.begin; r < share.end; r++) {
            const real *row = g.data + r * m, *upper = delta.data + r * m;
            real *to = dg + r * m, sum = 0, product = 0;  // of the gradient of h, and its h
            const Standardised standardised(row, m);
#pragma omp simd reduction(+ : sum, product)
            for (npy_intp j = 0; j < m; j++) {
                const real h = standardised.h(row[j]), z = a[j] * h + b[j];
                const real d = upper[j] * slope<ACTIVATION>(z, activate<ACTIVATION>(z));
                own_da[j] += d * h;
                own_db[j] += d;
                to[j] = a[j] * d;
                sum += to[j];
                product += to[j] * h;
            }
            sum = center ? sum / m : 0;
            product = normalize ? product / m : 0;
            const real scale = standardised.scale, mean = standardised.mean;
#pragma omp simd
            for (npy_intp j = 0; j < m; j++)
                to[j] = scale * (to[j] - sum - (row[j] - mean) * scale * product);
        }
    }
    for (npy_intp j = 0; j < m; j++) da[j] = db[j] = 0;
    for (int t = 0; t < most_threads(); t++)
        for (npy_intp j = 0; j < m; j++) {
            da[j] += sums[2 * m * t + j];
            db[j] += sums[2 * m * t + m + j];
        }
}
