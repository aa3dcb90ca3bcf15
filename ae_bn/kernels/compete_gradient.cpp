// The gradient of the k-competitive layer: a winner has its own, a loser alpha times the sum of its
// winners'.

static void kernel(PyArrayObject* out_, PyArrayObject* after_, PyArrayObject* delta_,
                   PyArrayObject** before_) {
    Input<real> out(out_), after(after_), delta(delta_);
    const npy_intp n = out.rows, m = out.columns;
    require(after.rows == n && after.columns == m && delta.rows == n && delta.columns == m,
            "after and delta must have the shape of out");
    real* before = output<real>(before_, {n, m});
#pragma omp parallel
    {
        FlushDenormals flush;
        const Share share(n);
        for (npy_intp r = share.begin; r < share.end; r++) {
            const real *row = out.data + r * m, *won = after.data + r * m, *d = delta.data + r * m;
            real *to = before + r * m, positive = 0, negative = 0;  // the winners' sums
#pragma omp simd reduction(+ : positive, negative)
            for (npy_intp j = 0; j < m; j++) {
                positive += won[j] > 0 ? d[j] : real(0);
                negative += won[j] < 0 ? d[j] : real(0);
            }
            positive *= alpha, negative *= alpha;
#pragma omp simd
            for (npy_intp j = 0; j < m; j++) {
                const real loser = row[j] > 0 ? positive : row[j] < 0 ? negative : real(0);
                to[j] = won[j] != 0 ? d[j] : loser;
            }
        }
    }
}
