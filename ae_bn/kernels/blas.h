// BLAS for both types, with one thread for each of OpenMP's.

inline void gemm(char* a, char* b, int* m, int* n, int* k, float* one, float* A, int* lda, float* B,
                 int* ldb, float* zero, float* C, int* ldc) {
    sgemm_(a, b, m, n, k, one, A, lda, B, ldb, zero, C, ldc);
}
inline void gemm(char* a, char* b, int* m, int* n, int* k, double* one, double* A, int* lda,
                 double* B, int* ldb, double* zero, double* C, int* ldc) {
    dgemm_(a, b, m, n, k, one, A, lda, B, ldb, zero, C, ldc);
}

struct OneBlasThread {
    int saved = openblas_get_num_threads ? openblas_get_num_threads() : 0;
    OneBlasThread() {
        if (saved > 1) openblas_set_num_threads(1);
    }
    ~OneBlasThread() {
        if (saved > 1) openblas_set_num_threads(saved);
    }
};
