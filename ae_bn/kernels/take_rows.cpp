// out = W[rows].

static void kernel(PyArrayObject* W_, PyArrayObject* rows_, PyArrayObject** out_) {
    Input<real> W(W_);
    Input<int> rows(rows_);
    const npy_intp k = rows.columns, m = W.columns;
    bool in_range = true;
    for (npy_intp i = 0; i < k; i++) in_range &= rows.data[i] >= 0 && rows.data[i] < W.rows;
    require(in_range, "row out of range");
    real* out = output<real>(out_, {k, m});
#pragma omp parallel if (k * m > 10000)
    {
        const Share share(k);
        for (npy_intp i = share.begin; i < share.end; i++)
            std::copy_n(W.data + rows.data[i] * m, m, out + i * m);
    }
}
