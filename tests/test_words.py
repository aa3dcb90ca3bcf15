"""From text to the network's input, beside scikit-learn's vectorisers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from ae_bn.words import TOKEN_PATTERN, count_words, weigh

TEXTS = ["Gull, gull and HERON", "", "the ÉTÉ of x2 heron_gull, don't!", "gull " * 300, "nothing"]
WORDS = ["heron", "été", "gull", "don"]  # in no order


def test_counts_are_those_of_scikit_learn():
    expected = CountVectorizer(token_pattern=TOKEN_PATTERN, vocabulary=WORDS).transform(TEXTS)
    counts = count_words(TEXTS, WORDS)
    assert counts.dtype == expected.dtype and counts.has_canonical_format
    np.testing.assert_array_equal(counts.toarray(), expected.toarray())
    assert count_words(iter([]), WORDS).shape == (0, 4)


def test_tfidf_is_that_of_scikit_learn():
    vectoriser = TfidfVectorizer(token_pattern=TOKEN_PATTERN).fit(TEXTS)
    words = vectoriser.get_feature_names_out().tolist()
    weights = weigh(count_words(TEXTS, words), "tfidf", vectoriser.idf_)
    expected = vectoriser.transform(TEXTS).astype(np.float32)
    np.testing.assert_array_equal(weights.toarray(), expected.toarray())


def test_log_count_is_divided_by_its_largest():
    counts = count_words(TEXTS, WORDS)
    weights = weigh(counts, "log_count", np.ones(4))
    expected = normalize(counts.log1p(), norm="max").astype(np.float32)
    np.testing.assert_array_equal(weights.toarray(), expected.toarray())


@pytest.mark.parametrize("kind", ["tfidf", "log_count", "binary", "as_is"])
def test_weights_are_ready_for_the_network(kind):
    weights = weigh(count_words(TEXTS, WORDS), kind, np.ones(4))
    assert weights.dtype == np.float32 and weights.has_canonical_format
    assert np.diff(weights.indptr).tolist() == [2, 0, 2, 1, 0]
    assert np.isfinite(weights.data).all()
