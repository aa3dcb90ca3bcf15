"""From text to word counts, and from counts to the network's input.

Training and encoding both read text through these functions, so a document gets the same row
wherever it is seen.  They need NumPy and SciPy only: `ae_bn.encoder` runs where nothing else is.
"""

from __future__ import annotations

import re
from array import array
from functools import lru_cache
from typing import Callable, Iterable

import numpy as np
from scipy.sparse import csr_matrix, diags

from ae_bn.errors import UserError

TOKEN_PATTERN = r"(?u)\b[^\W\d_]{2,}\b"  # two or more letters
find_words = re.compile(TOKEN_PATTERN).findall


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, in their order, repetitions included."""
    return find_words(text.lower())


def word_splitter(stop_words: str = "none", stem: str | None = None) -> Callable[[str], list[str]]:
    """Return the function that splits a text into the words that count.

    Stop words are left out first, and the others are stemmed then, as Chen and Zaki (2017) do.

    Parameters
    ----------
    stop_words : {"none", "english", "smart"}
        The words to leave out: none, scikit-learn's list, or the list of the SMART system from
        ``python-rake``, which lacks a few words of KATE's own list, such as ``dont``.
    stem : {"porter"}, optional
        The stemmer: NLTK's Porter stemmer, which KATE used.

    Returns
    -------
    callable
        It takes a str and returns a list of str, in the order of the text.

    Raises
    ------
    UserError
        If a package that has the list or the stemmer is not installed.
    """
    left_out = _stop_words(stop_words)
    stemmed = (lambda word: word) if stem is None else _stemmer()
    return lambda text: [stemmed(word) for word in split_words(text) if word not in left_out]


def _stop_words(name: str) -> frozenset[str]:
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
        from nltk.stem.porter import PorterStemmer  # takes seconds, and few need it
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
        It splits a text into its words, see `word_splitter`.

    Returns
    -------
    csr_matrix of int64, (n_texts, n_words)
        Column indices sorted; words outside the vocabulary are ignored.
    """
    column = {word: number for number, word in enumerate(words)}
    found, ends = array("i"), array("q", [0])  # columns of all texts one after another
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
    kind : {"tfidf", "binary", "log_count", "as_is"}
        ``tfidf``: counts times ``idf``, scaled to Euclidean length 1 per document.
        ``binary``: 1 where the word occurs.
        ``log_count``: log(1 + count) over its largest value in the document, in [0, 1]
        (KATE; Chen and Zaki, 2017).
        ``as_is``: the counts themselves, or whatever a ready matrix holds.
    idf : ndarray of float, shape (n_words,)

    Returns
    -------
    csr_matrix of float32, shape (n_documents, n_words)
        Column indices sorted; empty documents stay empty.
    """
    if kind == "tfidf":
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
    """Divide every row of X by its divisor, (n, 1); rows whose divisor is 0 stay as they are."""
    divisors = np.ravel(divisors)
    each = np.repeat(np.where(divisors == 0, 1, divisors), np.diff(X.indptr))  # of the non-zeros
    return csr_matrix((X.data / each, X.indices, X.indptr), X.shape)
