"""`experiments/left_out_words.py`: documents without a word, and the loss of that word."""

from __future__ import annotations

import left_out_words
import numpy as np
import pytest
from left_out_words import without_each_word, word_loss
from scipy.sparse import csr_matrix

DENSE = np.array([[0.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 4.0, 5.0]])


def test_each_row_lacks_its_word():
    X = csr_matrix(DENSE)
    expected = DENSE[[0, 0, 2, 2, 2]]
    expected[np.arange(5), X.indices] = 0
    copies = without_each_word(X)
    assert np.array_equal(copies.toarray(), expected) and copies.nnz == 8
    assert np.array_equal(X.toarray(), DENSE)  # the documents themselves stay


@pytest.mark.parametrize("block", [1, 2, 100])
def test_the_loss_is_that_of_the_words(monkeypatch, block):
    monkeypatch.setattr(left_out_words, "BLOCK", block)
    X = csr_matrix(DENSE)
    rows = X[[0, 0, 2, 2, 2]]

    def tenth(rows):
        return rows.toarray() / 10

    p = X.data / 10
    found = word_loss(tenth, rows, X.indices, X.data, "cross-entropy")
    assert found == pytest.approx(-np.log(p).mean())
    assert word_loss(tenth, rows, X.indices, X.data, "squared error") == pytest.approx(0.9**2)


def test_a_network_that_copies_loses_what_is_left_out():
    X = csr_matrix(DENSE)

    def copy(rows):
        return rows.toarray()

    lost = word_loss(copy, without_each_word(X), X.indices, X.data, "squared error")
    assert lost == pytest.approx(1)
    lost = word_loss(copy, without_each_word(X), X.indices, X.data, "cross-entropy")
    assert np.isfinite(lost) and lost > 80
