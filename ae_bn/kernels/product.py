"""x W for dense matrices."""

from __future__ import annotations

import hashlib

import theano
import theano.tensor as T
from theano.tensor.blas import ldflags
from theano.tensor.blas_headers import blas_header_text

from ae_bn.kernels.kernel import Kernel, read_source


class BlasKernel(Kernel):
    """A kernel whose source also uses BLAS: ``gemm`` see ``blas.h``.

    The kernels run on OpenMP's threads.  If BLAS had threads of its own, the two pools would wait
    for each other's cores, so OpenBLAS is limited to one thread while an ``OneBlasThread`` lives.
    """

    def c_support_code(self, **kwargs):
        weak = "__attribute__((weak))"
        return (
            blas_header_text()
            + f'extern "C" void openblas_set_num_threads(int) {weak};\n'
            + f'extern "C" int openblas_get_num_threads() {weak};\n'
            + super().c_support_code(**kwargs)
            + read_source("blas.h")
        )

    def c_libraries(self, **kwargs):
        return ldflags()

    def c_lib_dirs(self, **kwargs):
        return ldflags(libs=False, libs_dir=True)

    def c_compile_args(self, **kwargs):
        return [*super().c_compile_args(**kwargs), *ldflags(libs=False, flags=True)]

    def c_header_dirs(self, **kwargs):
        return ldflags(libs=False, include_dir=True)

    def c_code_cache_version(self):
        blas = (
            hashlib.sha256(read_source("blas.h").encode()).hexdigest(),
            theano.config.blas__ldflags,
        )
        return (*super().c_code_cache_version(), *blas)


class Product(BlasKernel):
    r"""out = x W, with columns or rows divided among the OpenMP threads.

    The twin is `ae_bn.model.stages.g` of dense x.

    Inputs
        x (n, k), W (k, m); transposed views are not copied
    Outputs
        out (n, m)
    """

    file = "product.cpp"
    signature = "(n,k),(k,m)->(n,m)"

    def L_op(self, inputs, outputs, gradients):
        x, W = inputs
        (delta,) = gradients
        if W.owner and isinstance(W.owner.op, T.elemwise.DimShuffle):  # W.T, so transpose dW too
            return [self(delta, W.T), self(delta.T, x).T]
        return [self(delta, W.T), self(x.T, delta)]
