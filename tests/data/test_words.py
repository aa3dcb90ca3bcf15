"""From text to the network's input, beside scikit-learn's vectorisers."""

from __future__ import annotations

import re
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from ae_bn.data.words import (
    LETTERS_ONLY,
    TOKEN_PATTERN,
    count_words,
    split_words,
    unreachable,
    weigh,
    word_splitter,
)
from ae_bn.errors import UserError

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


# Words of any script.

WHOLE = "हिन्दी किताब ภาษาไทย مُحَمَّد العربية می\u200cخواهم שָׁלוֹם தமிழ் മലയാളം বাংলা မြန်မာဘာသာ ភាសាខ្មែរ"
WHOLE += " i\u0307stanbul naïve 한국어 ქართული 日本語 𞤀𞤣𞤤𞤢𞤥"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_words_of_any_script_stay_whole(form):
    words = WHOLE.split()
    text = unicodedata.normalize(form, ", ".join(words))
    assert split_words(text) == [unicodedata.normalize("NFC", w).lower() for w in words]


def test_words_among_other_characters():
    text = "don't abc123 snake_case 10वीं कक्षा10 10क्षा हि_न्दी x é e\u0301 \u0301 a❤\ufe0fyou"
    text += " auf\u00adga\u00adbe a\u00adber क\u00adमल \xc3\u00ad\xc3"
    assert split_words(text) == ["don", "you", "aufgabe", "aber", "कमल"]
    assert split_words("می\u200c رود \u200cآب") == ["می", "رود", "آب"]


def test_other_forms_of_letters_and_numbers_that_are_no_digits():
    assert (
        split_words("ﬁsh ﬂour oﬀer ｇｕｌｌ 𝐁𝐨𝐥𝐝 ﻻ ｶﾞｲ")
        == "fish flour offer gull bold لا ガイ".split()
    )
    assert split_words("word¹ note² m² ①② ½¾ ²³ ten½ x₂ab ৴৵ 10th¹") == [
        "word",
        "note",
        "ten",
        "ab",
    ]
    # Thai's vowel am stays one letter, and so do ordinals, and halves of letters in UTF-8.
    assert split_words("น้ำใจ nº Ã½a deluxeÃ½") == ["น้ำใจ", "nº", "ã½a", "deluxeã½"]
    assert split_words("ﬁsh word¹", LETTERS_ONLY) == ["ﬁsh", "word¹"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text())
def test_a_text_has_only_words_that_text_can_have(text):
    assert unreachable(split_words(text)) == []


def test_words_that_no_text_has():
    assert unreachable(["gull", "x2", "Gull", "a", "new york", "ﬁsh", "don't", "כלב"]) == [
        "x2",
        "Gull",
        "a",
        "new york",
        "ﬁsh",
        "don't",
    ]


def test_marks_are_those_of_unicode():
    """A mark between letters stays with them, but for those of symbols and emoji."""
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "M"]
    for_symbols = re.compile("[\u20d0-\u20ff\ufe00-\ufe0f\U000e0100-\U000e01ef]")
    cut = []
    for mark in marks:
        whole = split_words(f"क{mark}ख") == [unicodedata.normalize("NFC", f"क{mark}ख")]
        assert not (whole and for_symbols.match(mark)), hex(ord(mark))
        if not whole and not for_symbols.match(mark):
            cut.append(hex(ord(mark)))
    assert len(cut) < 0.03 * len(marks), cut  # a newer Unicode than 14 has some more
    assert cut == [] or unicodedata.unidata_version >= "15"


def test_long_words_take_no_longer_than_long():
    for text in ("a" * 10**5 + "1", "कि" * 10**5 + "1", "क" * 10**5 + "1"):
        assert split_words(text) == []


def test_a_model_of_before_cuts_words_at_their_marks():
    """Stop words and stems are those of these words, too."""
    text = "The a\u0301bc gulls"
    assert word_splitter("english", "porter")(text) == ["\xe1bc", "gull"]
    assert word_splitter("english", "porter", LETTERS_ONLY)(text) == ["bc", "gull"]


def test_weigh_refuses_another_kind():
    with pytest.raises(UserError, match="'counts': choose one of"):
        weigh(csr_matrix((2, 3), dtype="f4"), "counts", np.ones(3))
