"""Shared by all tests."""

from __future__ import annotations

import numpy as np
import pytest
import theano
from scipy.sparse import csr_matrix

import ae_bn  # noqa: F401, sets Theano's flags before any test imports Theano


@pytest.fixture
def float64():
    """Build graphs in double precision, and run them in NumPy: nothing to compile, so faster."""
    with theano.config.change_flags(floatX="float64", mode="FAST_COMPILE"):
        yield


@pytest.fixture
def documents():
    """Return 40 binary documents over 12 words, (40, 12); document 3 is empty."""
    X = (np.random.default_rng(0).random((40, 12)) < 0.3).astype(np.float32)
    X[3] = 0
    return csr_matrix(X)
