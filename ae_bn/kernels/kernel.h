// What all kernels use: checked inputs, storage of outputs, shares of threads.
// Errors are C++ exceptions, so that memory is freed; `Kernel.c_code` turns them into ValueErrors.
// No exception is thrown inside a parallel region.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
#endif
#ifdef __SSE__
#include <immintrin.h>
#endif

namespace ae_bn {

inline void require(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(message);
}

// An input as contiguous rows: itself, or a copy if it is strided.
template <typename T>
struct Input {
    PyArrayObject* array;
    const T* data;
    npy_intp rows, columns;  // a vector is one row
    explicit Input(PyArrayObject* given) : array(PyArray_GETCONTIGUOUS(given)) {
        if (!array) throw std::bad_alloc();
        const int n = PyArray_NDIM(array);
        data = (const T*)PyArray_DATA(array);
        columns = n ? PyArray_DIM(array, n - 1) : 1;
        rows = n == 2 ? PyArray_DIM(array, 0) : 1;
    }
    ~Input() { Py_XDECREF(array); }
    Input(const Input&) = delete;
};

// The storage of an output, contiguous and of the given shape: the last call's if it fits.
template <typename T>
T* output(PyArrayObject** out, std::vector<npy_intp> shape) {
    PyArrayObject* old = *out;
    bool fits = old && PyArray_NDIM(old) == (int)shape.size() && PyArray_ISCARRAY(old);
    for (size_t i = 0; fits && i < shape.size(); i++) fits = PyArray_DIM(old, i) == shape[i];
    if (!fits) {
        const int type = std::numeric_limits<T>::is_integer ? NPY_INT
                         : sizeof(T) == 4                   ? NPY_FLOAT32
                                                            : NPY_FLOAT64;
        Py_XDECREF(old);
        *out = (PyArrayObject*)PyArray_SimpleNew(shape.size(), shape.data(), type);
        if (!*out) throw std::bad_alloc();
    }
    return (T*)PyArray_DATA(*out);
}

// The storage of an output that is written where an input is.
template <typename T>
T* overwrite(PyArrayObject* in, PyArrayObject** out) {
    require(PyArray_ISCARRAY(in), "what is overwritten must be contiguous");
    Py_INCREF(in);
    Py_XDECREF(*out);
    *out = in;
    return (T*)PyArray_DATA(in);
}

// Rounds numbers below the smallest normal one to zero, in this thread while it lives:
// arithmetic with them takes a hundred times longer, and their sum is nothing.
struct FlushDenormals {
#ifdef __SSE__
    unsigned saved = _mm_getcsr();
    FlushDenormals() { _mm_setcsr(saved | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(saved); }
#else
    FlushDenormals() {}
#endif
};

#ifdef _OPENMP
// A forked child has only the thread that forked, but GNU's OpenMP would wait for the others for
// ever.  The child therefore computes with one thread.
static const int registered = pthread_atfork(nullptr, nullptr, [] { omp_set_num_threads(1); });
inline int thread() { return omp_get_thread_num(); }
inline int threads() { return omp_get_num_threads(); }
inline int most_threads() { return omp_get_max_threads(); }
#else
inline int thread() { return 0; }
inline int threads() { return 1; }
inline int most_threads() { return 1; }
#endif

// The part of 0 ... n - 1 that is this thread's, in whole units.
struct Share {
    npy_intp begin, end;
    explicit Share(npy_intp n, npy_intp unit = 1) {
        const npy_intp units = (n + unit - 1) / unit;
        begin = std::min(n, units * thread() / threads() * unit);
        end = std::min(n, units * (thread() + 1) / threads() * unit);
    }
};

// A CSR matrix, checked: column indices in range and sorted in every row.
template <typename T>
struct Csr {
    Input<T> data;
    Input<int> indices, indptr;
    npy_intp rows;
    Csr(PyArrayObject* d, PyArrayObject* i, PyArrayObject* p, npy_intp columns)
        : data(d), indices(i), indptr(p), rows(indptr.columns - 1) {
        const int *at = indptr.data, *column = indices.data;
        require(rows >= 0 && at[0] == 0, "CSR: indptr must start with 0");
        require(data.columns == indices.columns && at[rows] == indices.columns,
                "CSR: data, indices and indptr must be of one length");
        bool rising = true;
        for (npy_intp r = 0; r < rows; r++) rising &= at[r] <= at[r + 1];
        require(rising, "CSR: indptr must not fall");
        const unsigned width = columns;
        int outside = 0, falls = 0;  // from column to column; those between rows are taken off
        for (int k = 0; k < at[rows]; k++) outside += unsigned(column[k]) >= width;
        for (int k = 1; k < at[rows]; k++) falls += column[k - 1] > column[k];
        for (npy_intp r = 0; r < rows; r++)
            if (0 < at[r] && at[r] < at[r + 1]) falls -= column[at[r] - 1] > column[at[r]];
        require(!outside, "CSR: column index out of range");
        require(!falls, "CSR: column indices must be sorted in every row (sort_indices())");
    }
};

}  // namespace ae_bn
using namespace ae_bn;
