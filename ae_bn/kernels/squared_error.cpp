// loss = |H W^T + 1 b^T - X|^2 / n without an array of documents x words.  With P = W^T W and
// s = W^T b:
//
//     n loss = tr(H P H^T) - 2 tr(H (X W)^T) + |X|^2 + 2 1^T H s - 2 1^T X b + n b^T b
//     dH = 2 / n (H P + 1 s^T - X W)
//     db = 2 / n (W H^T 1 + n b - X^T 1)
#include "squared_error.h"

static void kernel(PyArrayObject* H_, PyArrayObject* W_, PyArrayObject* b_, PyArrayObject* data,
                   PyArrayObject* indices, PyArrayObject* indptr, PyArrayObject** value_,
                   PyArrayObject** dH_ = 0, PyArrayObject** db_ = 0) {
    Input<real> H(H_), W(W_), b(b_);
    Csr<real> x(data, indices, indptr, W.rows);
    check(H, W, b, x);
    const npy_intp n = H.rows, m = W.rows, d = W.columns;
    real *out = output<real>(value_, {}), *dH = 0, *db = 0;
    const real factor = n ? real(2) / n : 0;
    const std::vector<real> sum = sum_of_rows(H);
    if (gradients) {
        dH = output<real>(dH_, {n, d});
        db = output<real>(db_, {m});
        std::fill(db, db + m, real(0));
        for (int k = 0; k < x.indices.columns; k++)
            db[x.indices.data[k]] -= factor * x.data.data[k];
    }
    // P = W^T W and s = W^T b, by threads.
    std::vector<std::vector<real>> P(most_threads()), s(most_threads());
    std::vector<double> values(n + most_threads(), 0.);  // added up in one order
    OneBlasThread one_thread;
#pragma omp parallel
    {
        FlushDenormals flush;
        std::vector<real> my_P(d * d, real(0)), my_s(d, real(0));
        const Share share(m, 16);
        for (npy_intp first = share.begin; first < share.end; first += BLOCK) {
            const npy_intp last = std::min(share.end, first + BLOCK);
            add_outer_products(W.data + first * d, last - first, d, my_P.data());
            for (npy_intp word = first; word < last; word++) {
                const real *w = W.data + word * d, shift = b.data[word];
                real product = 0;
                real* to = my_s.data();
#pragma omp simd reduction(+ : product)
                for (npy_intp k = 0; k < d; k++) {
                    product += w[k] * sum[k];
                    to[k] += shift * w[k];
                }
                if (gradients) db[word] += factor * (product + n * shift);
                values[n + thread()] += double(n) * shift * shift;
            }
        }
        P[thread()].swap(my_P);
        s[thread()].swap(my_s);
    }
    for (int t = 1; t < most_threads(); t++) {
        for (npy_intp i = 0; i < (npy_intp)P[t].size(); i++) P[0][i] += P[t][i];
        for (npy_intp k = 0; k < (npy_intp)s[t].size(); k++) s[0][k] += s[t][k];
    }
    fill_other_half(P[0].data(), d);
#pragma omp parallel
    {
        FlushDenormals flush;
        std::vector<real> HP(BLOCK * d), XW(d);
        const Share share(n);
        for (npy_intp first = share.begin; first < share.end; first += BLOCK) {
            const npy_intp last = std::min(share.end, first + BLOCK);
            times_symmetric(H.data + first * d, last - first, d, 1, P[0].data(), HP.data());
            for (npy_intp r = first; r < last; r++) {
                const real *hp = HP.data() + (r - first) * d, *own = H.data + r * d;
                const real* shift = s[0].data();
                const int start = x.indptr.data[r], count = x.indptr.data[r + 1] - start;
                const int* words = x.indices.data + start;
                const real* weight = x.data.data + start;
                real* xw = XW.data();
                combine(
                    count, weight, [&](int k) { return W.data + words[k] * d; }, d, xw);
                double value = 0;
                for (int k = 0; k < count; k++)
                    value += double(weight[k]) * (weight[k] - 2 * b.data[words[k]]);
#pragma omp simd reduction(+ : value)
                for (npy_intp k = 0; k < d; k++)
                    value += double(own[k]) * (hp[k] + 2 * (double(shift[k]) - xw[k]));
                values[r] = value;
                if (gradients) {
                    real* to = dH + r * d;
#pragma omp simd
                    for (npy_intp k = 0; k < d; k++) to[k] = factor * (hp[k] + shift[k] - xw[k]);
                }
            }
        }
    }
    double value = 0;
    for (double part : values) value += part;
    *out = value / n;
}
