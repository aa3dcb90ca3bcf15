// The gradient of W, for BLOCK of its rows at a time:
//
//     dW = factor (W H^T H + b 1^T H - X^T H), factor = upper 2 / n
#include "squared_error.h"

class WeightGradient {
    const Input<real>&H, &W, &b;
    const Words x_by_word;
    const std::vector<real> sum;
    std::vector<real> G;
    const real factor;

  public:
    WeightGradient(const Input<real>& H, const Input<real>& W, const Input<real>& b,
                   const Csr<real>& x, real upper)
        : H(H),
          W(W),
          b(b),
          x_by_word(x, W.rows),
          sum(sum_of_rows(H)),
          G(W.columns * W.columns, real(0)),
          factor(H.rows ? 2 * upper / H.rows : 0) {
        add_outer_products(H.data, H.rows, H.columns, G.data());
        fill_other_half(G.data(), H.columns);
    }

    // Puts the rows from `first` to before `last` into out; `row` has room for one.
    void rows(npy_intp first, npy_intp last, real* row, real* out) const {
        const npy_intp d = W.columns;
        times_symmetric(W.data + first * d, last - first, d, factor, G.data(), out);
        for (npy_intp word = first; word < last; word++) {
            real* o = out + (word - first) * d;
            const real shift = factor * b.data[word];
            x_by_word.multiply(word, H, row);
#pragma omp simd
            for (npy_intp k = 0; k < d; k++) o[k] += shift * sum[k] - factor * row[k];
        }
    }
};
