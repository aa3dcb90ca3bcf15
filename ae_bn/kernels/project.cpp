// out = x W, x sparse.
#include "combine.h"

static void kernel(PyArrayObject* data, PyArrayObject* indices, PyArrayObject* indptr,
                   PyArrayObject* W_, PyArrayObject** out_) {
    Input<real> W(W_);
    Csr<real> x(data, indices, indptr, W.rows);
    const npy_intp m = W.columns;
    real* out = output<real>(out_, {x.rows, m});
#pragma omp parallel
    {
        FlushDenormals flush;
#pragma omp for schedule(dynamic, 4)
        for (npy_intp r = 0; r < x.rows; r++) {
            const int start = x.indptr.data[r], count = x.indptr.data[r + 1] - start;
            const int* words = x.indices.data + start;
            auto row = [&](int k) { return W.data + words[k] * m; };
            combine(count, x.data.data + start, row, m, out + r * m);
        }
    }
}
