// value = loss(z, target) with z = a h(g) + b, weighted and summed over words, mean over documents:
//
//     cross_entropy: softplus(z) - target z = max(0, z) + log(1 + exp(-|z|)) - target z,
//                    its derivative by z: sigmoid(z) - target
//     squared_error: (out - target)^2 with out = activation(z),
//                    its derivative by z: 2 (out - target) activation'(z)
#include "block.h"

// The loss of the columns' block z = a h + b, and its gradient by z instead of the target.
static double cross_entropy(const Block& block, Row* target, const Row& weight) {
    alignas(64) Row sum, product, share;
    EACH_COLUMN {
        sum[j] = 0;
        product[j] = 1;
        share[j] = weight[j] / block.n;
    }
    double value = 0;
    for (npy_intp r = 0; r < block.n; r++) {
        EACH_COLUMN {
            const real z = block.a[j] * block.h[r][j] + block.b[j], t = target[r][j];
            const real e = exponential(-std::abs(z)), inverse = 1 / (1 + e);
            sum[j] += (z < 0 ? real(0) : z) - t * z;
            product[j] *= 1 + e;  // of factors up to 2: one logarithm for 64 of them
            if (gradients) target[r][j] = ((z < 0 ? e : real(1)) * inverse - t) * share[j];
        }
        if (r % 64 == 63 || r == block.n - 1) {
            EACH_COLUMN {
                sum[j] += std::log(product[j]);
                product[j] = 1;
            }
            for (int j = 0; j < block.width; j++) value += sum[j] * weight[j];
            EACH_COLUMN sum[j] = 0;
        }
    }
    return value;
}

static double squared_error(const Block& block, Row* target, const Row& weight) {
    alignas(64) Row sum, share;
    EACH_COLUMN {
        sum[j] = 0;
        share[j] = 2 * weight[j] / block.n;
    }
    for (npy_intp r = 0; r < block.n; r++) EACH_COLUMN {
            const real z = block.a[j] * block.h[r][j] + block.b[j];
            const real out = activate<ACTIVATION>(z), difference = out - target[r][j];
            sum[j] += difference * difference;
            if (gradients) target[r][j] = difference * slope<ACTIVATION>(z, out) * share[j];
        }
    double value = 0;
    for (int j = 0; j < block.width; j++) value += sum[j] * weight[j];
    return value;
}

static void kernel(PyArrayObject* g_, PyArrayObject* a_, PyArrayObject* b_, PyArrayObject* mean_,
                   PyArrayObject* variance_, PyArrayObject* data, PyArrayObject* indices,
                   PyArrayObject* indptr, PyArrayObject* weights_, PyArrayObject** value_,
                   PyArrayObject** dg_ = 0, PyArrayObject** da_ = 0, PyArrayObject** db_ = 0) {
    NORMALIZED_INPUTS
    Csr<real> target(data, indices, indptr, m);
    require(target.rows == n, "g and the target must have the same number of rows");
    Input<real> weights(weights_);
    const bool one_weight = weights.columns == 1;
    require(one_weight || weights.columns == m, "weights must be one, or one for each column");
    real *out = output<real>(value_, {}), *dg = 0, *da = 0, *db = 0;
    if (gradients) {
        dg = inplace ? overwrite<real>(g_, dg_) : output<real>(dg_, {n, m});
        da = output<real>(da_, {m});
        db = output<real>(db_, {m});
    }
    Scratch scratch(n, 2);
    std::vector<int> cursors(n * most_threads());  // the next word of each document
    double value = 0;
#pragma omp parallel reduction(+ : value)
    {
        FlushDenormals flush;
        Row* dense = scratch.mine() + n;  // target, then gradient, of one block
        int* cursor = cursors.data() + n * thread();
        Block block(n, m, mean.data, variance.data, a.data, b.data, scratch.mine());
        const Share share(m, WIDTH);
        const int *word = target.indices.data, *at = target.indptr.data;
        for (npy_intp r = 0; r < n; r++)
            cursor[r] = std::lower_bound(word + at[r], word + at[r + 1], share.begin) - word;
        for (npy_intp first = share.begin; first < share.end; first += WIDTH) {
            block.standardise(g.data, first);
            std::fill_n((real*)dense, n * WIDTH, real(0));
            for (npy_intp r = 0; r < n; r++) {
                int& k = cursor[r];
                for (; k < at[r + 1] && word[k] < first + block.width; k++)
                    dense[r][word[k] - first] += target.data.data[k];
            }
            alignas(64) Row weight;
            EACH_COLUMN weight[j] = weights.data[0];
            if (!one_weight) {
                EACH_COLUMN weight[j] = 0;
                std::copy_n(weights.data + first, block.width, weight);
            }
            value += LOSS(block, dense, weight);
            if (gradients) block.adjoint(dense, dg, da, db);
        }
    }
    *out = value / n;
}
