"""`experiments/code_dimensions.py`: the participation ratio of codes and of outputs."""

from __future__ import annotations

import numpy as np
import pytest
from code_dimensions import dimensions


def test_dimensions_are_those_of_the_eigenvalues():
    rng = np.random.default_rng(0)
    codes, W = rng.normal(size=(50, 4)), rng.normal(size=(4, 30))
    for values, found in ((codes, dimensions(codes)), (codes @ W, dimensions(codes, W))):
        eigenvalues = np.linalg.eigvalsh(np.cov(values.T))
        assert found == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def test_many_units_can_carry_one_direction():
    """Equal uncorrelated units that all write the same word have one dimension of outputs."""
    codes = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 5)))[0]
    codes -= codes.mean(axis=0)
    W = np.zeros((5, 9))
    W[:, 2] = 1
    assert dimensions(codes) > 4 and dimensions(codes, W) == pytest.approx(1)
