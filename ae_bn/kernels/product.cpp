// out = x W, columns or rows divided among the threads.

// A matrix as BLAS takes it: rows or columns contiguous, anything else copied.
struct Operand {
    PyArrayObject* array;
    const real* data;
    char transposed;
    int stride;
    npy_intp rows, columns, row_step, column_step;
    explicit Operand(PyArrayObject* given) {
        const npy_intp size = sizeof(real);
        rows = PyArray_DIM(given, 0), columns = PyArray_DIM(given, 1);
        const npy_intp down = PyArray_STRIDE(given, 0), right = PyArray_STRIDE(given, 1);
        const bool by_row = right == size && down >= size * columns && down % size == 0;
        const bool by_column = down == size && right >= size * rows && right % size == 0;
        if (by_row || by_column) {
            array = given;
            Py_INCREF(given);
        } else if (!(array = (PyArrayObject*)PyArray_NewCopy(given, NPY_CORDER))) {
            throw std::bad_alloc();
        }
        data = (const real*)PyArray_DATA(array);
        transposed = by_column && !by_row ? 'T' : 'N';
        row_step = by_row || by_column ? down / size : columns;
        column_step = by_row || by_column ? right / size : 1;
        stride = std::max<npy_intp>(1, transposed == 'T' ? column_step : row_step);
    }
    ~Operand() { Py_DECREF(array); }
};

static void kernel(PyArrayObject* x_, PyArrayObject* W_, PyArrayObject** out_) {
    Operand x(x_), W(W_);
    require(x.columns == W.rows, "x must have as many columns as W has rows");
    real* out = output<real>(out_, {x.rows, W.columns});
    if (!x.rows || !W.columns) return;
    if (!x.columns) {
        std::fill(out, out + x.rows * W.columns, real(0));
        return;
    }
    OneBlasThread one_thread;
    const bool by_column = W.columns >= x.rows;
#pragma omp parallel
    {
        FlushDenormals flush;
        const Share share(by_column ? W.columns : x.rows, 16);
        int n = by_column ? x.rows : share.end - share.begin, k = x.columns;
        int m = by_column ? share.end - share.begin : W.columns, ldc = W.columns;
        const npy_intp row = by_column ? 0 : share.begin, column = by_column ? share.begin : 0;
        real one = 1, zero = 0;
        // BLAS stores by columns, and so sees out^T = W^T x^T.
        if (n && m)
            gemm(&W.transposed, &x.transposed, &m, &n, &k, &one,
                 (real*)W.data + column * W.column_step, &W.stride,
                 (real*)x.data + row * x.row_step, &x.stride, &zero, out + row * W.columns + column,
                 &ldc);
    }
}
