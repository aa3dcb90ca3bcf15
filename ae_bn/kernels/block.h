// Blocks of columns of g, standardised in place, and the way back, for z = a h(g) + b:
//
//     h = (g - mean) / sqrt(variance + epsilon)
//     dg = a / sqrt(variance + epsilon) (delta - mean(delta) - h mean(delta h))
//     da = sum(delta h), db = sum(delta)
//
// where delta is the gradient of z, and means and sums are over the documents.  A switch that is
// off leaves its part out.
#include "activation.h"

// Columns are passed WIDTH at a time, filled up with zeros at the right end.
static const int WIDTH = 64;
typedef real Row[WIDTH];
#define EACH_COLUMN _Pragma("omp simd") for (int j = 0; j < WIDTH; j++)

// Blocks of n rows for every thread.
class Scratch {
    const npy_intp n;
    std::vector<real> storage;
    Row* start;

  public:
    Scratch(npy_intp n, int blocks)
        : n(n * blocks),
          storage(this->n * WIDTH * most_threads() + 64 / sizeof(real), real(0)),
          start((Row*)(((size_t)storage.data() + 63) / 64 * 64)) {}
    Row* mine() { return start + n * thread(); }
};

struct Block {
    const npy_intp n, columns;  // of the whole of g
    const real *mean, *variance, *a_, *b_;
    npy_intp first;
    int width;
    Row* h;                                            // (n, WIDTH), room for the block
    alignas(64) Row mu, squares, scale, h_mean, a, b;  // squares: the variance, biased

    Block(npy_intp n, npy_intp columns, const real* mean, const real* variance, const real* a,
          const real* b, Row* h)
        : n(n), columns(columns), mean(mean), variance(variance), a_(a), b_(b), h(h) {}

    // Puts h(g) of the columns from `first` on into h.
    void standardise(const real* g, npy_intp first_column) {
        first = first_column;
        width = std::min<npy_intp>(WIDTH, columns - first);
        EACH_COLUMN a[j] = b[j] = h_mean[j] = 0;
        std::copy(a_ + first, a_ + first + width, a);
        std::copy(b_ + first, b_ + first + width, b);
        EACH_COLUMN scale[j] = 1;
        const bool statistics = !population && (center || normalize);
        EACH_COLUMN mu[j] = squares[j] = 0;
        for (npy_intp r = 0; r < n; r++) {
            const real* row = g + r * columns + first;
            if (width == WIDTH) {
                EACH_COLUMN h[r][j] = row[j];
            } else {
                EACH_COLUMN h[r][j] = 0;
                std::copy(row, row + width, h[r]);
            }
            if (statistics) EACH_COLUMN mu[j] += h[r][j];
        }
        if (!center && !normalize) return;
        if (statistics) {
            EACH_COLUMN mu[j] /= n;
            for (npy_intp r = 0; r < n; r++) EACH_COLUMN {
                    const real distance = h[r][j] - mu[j];
                    squares[j] += distance * distance;
                }
            EACH_COLUMN squares[j] /= n;
        } else {
            std::copy(mean + first, mean + first + width, mu);
            std::copy(variance + first, variance + first + width, squares);
        }
        if (normalize) EACH_COLUMN scale[j] = 1 / std::sqrt(squares[j] + real(epsilon));
        if (center) {
            for (npy_intp r = 0; r < n; r++) EACH_COLUMN h[r][j] = (h[r][j] - mu[j]) * scale[j];
        } else {
            EACH_COLUMN h_mean[j] = mu[j] * scale[j];
            for (npy_intp r = 0; r < n; r++) EACH_COLUMN h[r][j] *= scale[j];
        }
    }

    // From delta, the gradient of z = a h + b, to those of g, a and b.
    void adjoint(const Row* delta, real* dg, real* da, real* db) {
        alignas(64) Row sum, product;
        EACH_COLUMN sum[j] = product[j] = 0;
        for (npy_intp r = 0; r < n; r++) EACH_COLUMN {
                sum[j] += delta[r][j];
                product[j] += delta[r][j] * h[r][j];
            }
        std::copy(sum, sum + width, db + first);
        std::copy(product, product + width, da + first);
        alignas(64) Row factor;
        EACH_COLUMN {
            factor[j] = a[j] * scale[j];
            sum[j] = center && !population ? sum[j] / n : 0;
            product[j] = normalize && !population ? product[j] / n : 0;
        }
        const bool statistics = !population && (center || normalize);
        for (npy_intp r = 0; r < n; r++) {
            alignas(64) Row part;
            real *row = dg + r * columns + first, *out = width == WIDTH ? row : part;
            if (statistics) {
                EACH_COLUMN out[j] =
                    factor[j] * (delta[r][j] - sum[j] - (h[r][j] - h_mean[j]) * product[j]);
            } else {
                EACH_COLUMN out[j] = factor[j] * delta[r][j];
            }
            if (width < WIDTH) std::copy(part, part + width, row);
        }
    }
};

// The inputs that all kernels with a Block share.
#define NORMALIZED_INPUTS                                                                   \
    Input<real> g(g_), a(a_), b(b_), mean(mean_), variance(variance_);                      \
    const npy_intp n = g.rows, m = g.columns;                                               \
    require(a.columns == m && b.columns == m && mean.columns == m && variance.columns == m, \
            "g, a, b and the statistics must have the same number of columns");
