"""From text to word counts, and from counts to the network's input.

Training and encoding both read text with these functions, so a document always gets the same row.
They need only NumPy and SciPy, because `ae_bn.encoder` must run without anything else.

A word is made of letters of any script with their marks (vowel signs, points, accents).  Composed
and decomposed accents are the same, and soft hyphens inside words are ignored.  Ligatures and other
forms of letters are the letters themselves.  Numbers that are no digits, such as the mark of a
footnote, separate words.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from array import array
from functools import lru_cache
from typing import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix, diags

from ae_bn.errors import UserError

INPUTS = ("tfidf", "sublinear_tfidf", "binary", "log_count", "as_is")

# The characters of Unicode's category M and the letters between them, without the marks that turn
# symbols into emoji.  Python's regular expressions have no name for this category.
MARKS = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1-\u05c2\u05c4-\u05c5\u05c7\u0610-\u061a"
    r"\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711-\u07b0\u07eb-\u07f3\u07fd"
    r"\u0816-\u082d\u0859-\u085b\u0898-\u08e1\u08e3-\u0963\u0981-\u09e3\u09fe-\u0a51\u0a70-\u0a75"
    r"\u0a81-\u0ae3\u0afa-\u0b63\u0b82-\u0bd7\u0c00-\u0c63\u0c81-\u0c83\u0cbc-\u0ce3\u0d00-\u0d4d"
    r"\u0d57\u0d62-\u0d63\u0d81-\u0ddf\u0df2-\u0df3\u0e31-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ecd"
    r"\u0f18-\u0f19\u0f35\u0f37\u0f39\u0f3e-\u0f84\u0f86-\u0fbc\u0fc6\u102b-\u103e\u1056-\u108f"
    r"\u109a-\u109d\u135d-\u135f\u1712-\u1734\u1752-\u17d3\u17dd\u180b-\u180d\u180f\u1885-\u193b"
    r"\u1a17-\u1a1b\u1a55-\u1a7f\u1ab0-\u1b44\u1b6b-\u1b73\u1b80-\u1bad\u1be6-\u1bf3\u1c24-\u1c37"
    r"\u1cd0-\u1cd2\u1cd4-\u1dff\u2cef-\u2cf1\u2d7f-\u2dff\u302a-\u302f\u3099-\u309a\ua66f-\ua672"
    r"\ua674-\ua67d\ua69e-\ua69f\ua6f0-\ua6f1\ua802-\ua827\ua82c\ua880-\ua8c5\ua8e0-\ua8f1\ua8ff"
    r"\ua926-\ua92d\ua947-\ua953\ua980-\ua9c0\ua9e5\uaa29-\uaa4d\uaa7b-\uaac1\uaaeb-\uaaef"
    r"\uaaf5-\uaaf6\uabe3-\uabea\uabec-\uabed\ufb1e\ufe20-\ufe2f\U000101fd-\U000102e0"
    r"\U00010376-\U0001037a\U00010a01-\U00010a3f\U00010ae5-\U00010ae6\U00010d24-\U00010d27"
    r"\U00010eab-\U00010eac\U00010f46-\U00010f50\U00010f82-\U00010f85\U00011000-\U00011046"
    r"\U00011070-\U000110ba\U000110c2\U00011100-\U00011134\U00011145-\U00011173"
    r"\U00011180-\U000111c0\U000111c9-\U000111cc\U000111ce-\U000111cf\U0001122c-\U00011237"
    r"\U0001123e\U000112df-\U000112ea\U00011300-\U00011446\U0001145e-\U000114c3"
    r"\U000115af-\U000115c0\U000115dc-\U00011640\U000116ab-\U000116b7\U0001171d-\U0001172b"
    r"\U0001182c-\U0001183a\U00011930-\U00011943\U000119d1-\U000119e0\U000119e4-\U00011a3e"
    r"\U00011a47-\U00011a99\U00011c2f-\U00011c3f\U00011c92-\U00011d47\U00011d8a-\U00011d97"
    r"\U00011ef3-\U00011ef6\U00016af0-\U00016af4\U00016b30-\U00016b36\U00016f4f-\U00016f92"
    r"\U00016fe4-\U00016ff1\U0001bc9d-\U0001bc9e\U0001cf00-\U0001cf46\U0001d165-\U0001d169"
    r"\U0001d16d-\U0001d172\U0001d17b-\U0001d182\U0001d185-\U0001d18b\U0001d1aa-\U0001d1ad"
    r"\U0001d242-\U0001d244\U0001da00-\U0001da36\U0001da3b-\U0001da6c\U0001da75\U0001da84"
    r"\U0001da9b-\U0001e136\U0001e2ae-\U0001e2ef\U0001e8d0-\U0001e94a"
)
LETTER = r"[^\W\d_]"
JOINER = rf"[\u200c\u200d](?={LETTER})"  # zero width, inside words of Persian or Malayalam

# Two or more letters and marks, a letter first, with no digit or underscore beside them.
TOKEN_PATTERN = (
    rf"\b(?<![{MARKS}])(?={LETTER}(?:[\w{MARKS}]|{JOINER}))"
    rf"{LETTER}+(?:(?:(?!\w)[{MARKS}]|{JOINER}){LETTER}*)*(?![\w{MARKS}])"
)
# Not between two single letters: there it is a letter in another encoding.
SOFT_HYPHEN = r"(?<=\S\S)\u00ad|\u00ad(?=\S\S)"
# Blocks of ligatures, of Arabic, halfwidth and fullwidth forms, and of letters in other fonts.
FORMS = [(0xFB00, 0xFDFF), (0xFE70, 0xFFEF), (0x1D400, 0x1D7FF)]
# Not after a small letter with an accent: there it is half of a letter in another encoding.
LATIN_NUMBER = r"(?<![\xdf-\xf6\xf8-\xff])[\xb2\xb3\xb9\xbc-\xbe]"
LETTERS_ONLY = r"(?u)\b[^\W\d_]{2,}\b"  # gives the same words of ASCII text, and is faster


def split_words(text: str, token_pattern: str = TOKEN_PATTERN) -> list[str]:
    """Return the words of a text in lower case and in their order, with repetitions.

    Parameters
    ----------
    text : str
        The text to split.
    token_pattern : str
        The pattern of a word.  Any other than `TOKEN_PATTERN` finds words in the lower-case text,
        as that of a `TfidfVectorizer` does.
    """
    if token_pattern != TOKEN_PATTERN:
        return re.findall(token_pattern, text.lower())
    if text.isascii():
        return re.findall(LETTERS_ONLY, text.lower())
    text = unicodedata.normalize("NFC", text.translate(_plain).lower())
    return re.findall(TOKEN_PATTERN, re.sub(SOFT_HYPHEN, "", re.sub(LATIN_NUMBER, " ", text)))


class _Plain(dict):
    """What each character stands for: itself, its letters if it is one of `FORMS`, or a blank."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if any(first <= code <= last for first, last in FORMS):
            character = unicodedata.normalize("NFKC", character)
        elif code > 0xFF and unicodedata.category(character) == "No":
            character = " "
        self[code] = character
        return character


_plain = _Plain()


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """Return an iterator over texts that checks each of them.

    Parameters
    ----------
    texts : iterable of str
        The texts, in their order.

    Raises
    ------
    UserError
        At once, if they are one text, or have several columns or no order; during the iteration,
        for the first that is not a str, by its number.
    """
    if isinstance(texts, (str, bytes)):
        raise UserError(f"{texts[:20]!r} is one text: give a list of texts")
    is_column = getattr(texts, "ndim", 1) == 1 and not isinstance(texts, (Mapping, set, frozenset))
    if not is_column or not isinstance(texts, Iterable):
        raise UserError(
            f"a {type(texts).__name__} is not a list of texts: give a list, or one column "
            "of a table"
        )
    return map(_checked_text, itertools.count(), texts)


def _checked_text(number: int, text) -> str:
    if not isinstance(text, str):
        raise UserError(f"texts[{number}] is {text!r:.40} and not a str: give texts alone")
    return text


def unreachable(words: Iterable[str], token_pattern: str = TOKEN_PATTERN) -> list[str]:
    """Return the words of a matrix's vocabulary that no text can give, such as "x2" or "Gull"."""
    return [word for word in words if split_words(word, token_pattern) != [word]]


def word_splitter(
    stop_words: str | Collection[str] = "none",
    stem: str | None = None,
    token_pattern: str = TOKEN_PATTERN,
    ngram_range: Sequence[int] | None = None,
) -> Callable[[str], list[str]]:
    """Return a function that splits a text into words, without stop words, and stems them.

    Stop words are left out before the other words are stemmed, as Chen and Zaki (2017) do.
    Sequences of words are taken from what is left.

    Parameters
    ----------
    stop_words : {"none", "english", "smart"} or collection of str
        The words to leave out, or their list: none, scikit-learn's list, or the list of the SMART
        system from ``python-rake``, which lacks a few words of KATE's own list, such as ``dont``.
    stem : {"porter"}, optional
        The stemmer: NLTK's Porter stemmer, which KATE used.
    token_pattern : str
        The pattern of a word, see `split_words`.
    ngram_range : sequence of two int, optional
        The least and the largest number of words in a sequence, which counts as one word with
        blanks inside.  If it is not given, words are single.

    Returns
    -------
    callable
        A function that takes a str and returns a list of str, in the order of the text.

    Raises
    ------
    UserError
        If the package with the list or the stemmer is not installed.
    """
    if isinstance(stop_words, str):
        left_out = stop_words_of(stop_words)
    else:
        left_out = frozenset(stop_words)
    stemmed = (lambda word: word) if stem is None else _stemmer()

    def split(text):
        words = split_words(text, token_pattern)
        return ngrams([stemmed(word) for word in words if word not in left_out])

    def ngrams(words):
        if ngram_range is None:
            return words
        lengths = range(ngram_range[0], ngram_range[1] + 1)
        starts = ((n, start) for n in lengths for start in range(len(words) - n + 1))
        return [" ".join(words[start : start + n]) for n, start in starts]

    return split


def stop_words_of(name: str) -> frozenset[str]:
    """Return the words of a list, "none", "english" or "smart", see `word_splitter`."""
    if name == "none":
        return frozenset()
    try:
        if name == "english":
            from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

            return ENGLISH_STOP_WORDS
        from RAKE import SmartStopList
    except ImportError as error:
        raise _missing(f"data.stop_words={name}", error) from None
    # Split as the texts are, so that "don't" leaves out "don".
    return frozenset(word for entry in SmartStopList() for word in split_words(entry))


@lru_cache(maxsize=None)
def _stemmer():
    try:
        from nltk.stem.porter import PorterStemmer  # here, because the import takes seconds
    except ImportError as error:
        raise _missing("data.stem=porter", error) from None
    return lru_cache(maxsize=2**18)(PorterStemmer().stem)  # texts repeat their words


def _missing(setting, error):
    packages = {"sklearn": "scikit-learn", "RAKE": "python-rake", "nltk": "nltk"}
    package = packages.get(str(error.name).split(".")[0], error.name)
    return UserError(f"{setting} needs the package {package}: pip install {package}")


def count_words(
    texts: Iterable[str], words: list[str], split: Callable[[str], list[str]] = split_words
) -> csr_matrix:
    """Count the words of a vocabulary in texts.

    Parameters
    ----------
    texts : iterable of str
        The documents.
    words : list of str
        The vocabulary in column order, every word once.
    split : callable
        The function that splits a text into words, see `word_splitter`.

    Returns
    -------
    csr_matrix of int64, (n_texts, n_words)
        Column indices sorted; words outside the vocabulary are ignored.
    """
    column = {word: number for number, word in enumerate(words)}
    found, ends = array("i"), array("q", [0])  # columns of all texts, and where each text ends
    for text in texts:
        found.extend(column[word] for word in split(text) if word in column)
        ends.append(len(found))
    ones = np.ones(len(found), dtype=np.int64)
    counts = csr_matrix((ones, np.array(found), np.array(ends)), (len(ends) - 1, len(words)))
    counts.sum_duplicates()  # also sorts
    return counts


def weigh(counts: csr_matrix, kind: str, idf: np.ndarray) -> csr_matrix:
    """Turn word counts into the network's input.

    Parameters
    ----------
    counts : csr_matrix of int, shape (n_documents, n_words)
        How often each word occurs in each document.
    kind : {"tfidf", "sublinear_tfidf", "binary", "log_count", "as_is"}
        The kind of input.
        ``tfidf``: counts times ``idf``, scaled to Euclidean length 1 per document.
        ``sublinear_tfidf``: the same with 1 + log(count) instead of a count.
        ``binary``: 1 where the word occurs.
        ``log_count``: log(1 + count) divided by its largest value in the document, in [0, 1]
        (KATE; Chen and Zaki, 2017).
        ``as_is``: the counts themselves, or whatever values a ready matrix holds.
    idf : ndarray of float, shape (n_words,)
        Inverse document frequencies of the words; used by the first two kinds only.

    Returns
    -------
    csr_matrix of float32, shape (n_documents, n_words)
        Column indices sorted; empty documents stay empty.

    Raises
    ------
    UserError
        If the kind is unknown, or ``sublinear_tfidf`` is asked for of values below 1.
    """
    if kind not in INPUTS:
        raise UserError(f"kind {kind!r}: choose one of {', '.join(INPUTS)}")
    if kind == "sublinear_tfidf":
        if counts.nnz and counts.data.min() < 1:
            raise UserError("input sublinear_tfidf is for counts from 1: take tfidf or as_is")
        counts = csr_matrix(counts, dtype=np.float64, copy=True)
        counts.data = 1 + np.log(counts.data)
    if kind in ("tfidf", "sublinear_tfidf"):
        weights = csr_matrix(counts @ diags(idf))
        weights = _divide_rows(weights, np.sqrt(weights.power(2).sum(axis=1)))
    elif kind == "log_count":
        weights = counts.log1p()
        weights = _divide_rows(weights, weights.max(axis=1).toarray())
    elif kind == "binary":
        weights = counts > 0
    else:
        weights = counts
    weights = csr_matrix(weights, dtype=np.float32)
    weights.sum_duplicates()  # also sorts
    return weights


def _divide_rows(X: csr_matrix, divisors) -> csr_matrix:
    """Divide every row of X by its divisor, (n, 1); a row whose divisor is 0 is unchanged."""
    divisors = np.ravel(divisors)
    each = np.repeat(np.where(divisors == 0, 1, divisors), np.diff(X.indptr))  # of the non-zeros
    return csr_matrix((X.data / each, X.indices, X.indptr), X.shape)
