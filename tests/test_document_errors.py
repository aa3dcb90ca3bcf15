"""`experiments/document_errors.py`: the standard error of an effect over documents."""

from __future__ import annotations

import numpy as np
from document_errors import standard_error


def test_errors_on_the_same_documents_cancel():
    random = np.random.RandomState(0)
    shared, own = random.rand(4000) < 0.5, random.rand(4, 4000) < 0.1
    arms = {name: shared ^ flips for name, flips in zip("abcd", own)}
    # In shared ^ flip, a document changes a difference of two arms if one of them alone flips.
    expected = np.sqrt(2 * 0.1 * 0.9 / 4000)
    assert np.isclose(standard_error(arms, ["a"], ["b"]), expected, rtol=0.1)
    assert np.isclose(standard_error(arms, ["a"], []), np.sqrt(0.25 / 4000), rtol=0.02)
    assert standard_error(arms, ["a", "b"], ["b", "a"]) == 0
    four = standard_error(arms, ["a", "d"], ["b", "c"])
    assert np.isclose(four, np.sqrt(2) * expected, rtol=0.1)
