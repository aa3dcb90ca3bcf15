"""Shared by all tests."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import theano
from scipy.sparse import csr_matrix
from theano.compile import mode

import ae_bn  # noqa: F401, sets Theano's flags before any test imports Theano


@contextmanager
def double_precision():
    """Build graphs in double precision, and run them in NumPy: nothing to compile, so faster.

    Theano keeps the first default mode it makes and looks no further at the flag, so what it
    keeps is put aside meanwhile.
    """
    kept, mode.instantiated_default_mode = mode.instantiated_default_mode, None
    try:
        with theano.config.change_flags(floatX="float64", mode="FAST_COMPILE"):
            yield
    finally:
        mode.instantiated_default_mode = kept


@pytest.fixture
def float64():
    """Run a test in double precision and in NumPy."""
    with double_precision():
        yield


@pytest.fixture
def documents():
    """Return 40 binary documents over 12 words, (40, 12); document 3 is empty."""
    X = (np.random.default_rng(0).random((40, 12)) < 0.3).astype(np.float32)
    X[3] = 0
    return csr_matrix(X)
