// value = -sum_j target_j log softmax(z)_j, mean over documents.  With t = sum_j target_j, this is
//
//     t (top + log(s)) - sum_j target_j z_j, top = max z, s = sum_j exp(z_j - top),
//     its derivative by z: t softmax(z) - target

static void kernel(PyArrayObject* z_, PyArrayObject* data, PyArrayObject* indices,
                   PyArrayObject* indptr, PyArrayObject** value_, PyArrayObject** dz_ = 0) {
    Input<real> z(z_);
    const npy_intp n = z.rows, m = z.columns;
    Csr<real> target(data, indices, indptr, m);
    require(target.rows == n, "z and the target must have the same number of rows");
    real *out = output<real>(value_, {}), *dz = 0;
    if (gradients) dz = inplace ? overwrite<real>(z_, dz_) : output<real>(dz_, {n, m});
    std::vector<double> values(n);  // added up in one order, whatever the threads
#pragma omp parallel
    {
        FlushDenormals flush;
        const Share share(n);
        for (npy_intp r = share.begin; r < share.end; r++) {
            const real* row = z.data + r * m;
            const int begin = target.indptr.data[r], end = target.indptr.data[r + 1];
            const real* weight = target.data.data;
            const int* word = target.indices.data;
            double total = 0, product = 0;
            for (int k = begin; k < end; k++) {
                total += weight[k];
                product += double(weight[k]) * row[word[k]];
            }
            real top = m ? row[0] : 0, sum = 0;
#pragma omp simd reduction(max : top)
            for (npy_intp j = 0; j < m; j++) top = row[j] > top ? row[j] : top;
            if (gradients) {
                real* d = dz + r * m;
#pragma omp simd reduction(+ : sum)
                for (npy_intp j = 0; j < m; j++) {
                    const real e = std::exp(row[j] - top);
                    sum += e;
                    d[j] = e;
                }
                const real factor = total / (double(sum) * n);
#pragma omp simd
                for (npy_intp j = 0; j < m; j++) d[j] *= factor;
                for (int k = begin; k < end; k++) d[word[k]] -= weight[k] / n;
            } else {
#pragma omp simd reduction(+ : sum)
                for (npy_intp j = 0; j < m; j++) sum += std::exp(row[j] - top);
            }
            values[r] = total * (top + std::log(double(sum))) - product;
        }
    }
    double value = 0;
    for (npy_intp r = 0; r < n; r++) value += values[r];
    *out = value / n;
}
