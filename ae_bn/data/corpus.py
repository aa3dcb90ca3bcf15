"""From text to the matrices an autoencoder trains on.

Reading order for newcomers:

- `Corpus`: what the rest of the code sees, two sparse matrices with labels and words;
- `load_corpus` = `prepare_corpus` (find the text, vectorise it, keep the matrices in the cache
  directory) + `read_corpus` (read and verify these matrices, without the text);
- `split_validation`: hold out a part of the training documents;
- `batches`, `shuffled_batches`: cut documents into minibatches.

`ae_bn.data.sources` finds the text, and `ae_bn.data.counts` reads a ready matrix of counts.
`ae_bn.data.words` turns text into counts, and counts into the network's input.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from ae_bn.data.counts import Counts, read_counts
from ae_bn.data.sources import Texts, find_texts, one_line
from ae_bn.data.words import (
    FORMS,
    LATIN_NUMBER,
    TOKEN_PATTERN,
    count_words,
    weigh,
    word_splitter,
)
from ae_bn.errors import UserError
from ae_bn.files import cache_directory, fingerprint, read_arrays, read_header, write_arrays

CACHE_FORMAT = 1  # increase it when the same text and settings would give other matrices
# The settings that decide the matrices of a text.
DECISIVE = "stop_words stem token_pattern ngram_range min_df vocabulary_size input".split()
LARGEST_COUNT = float(np.finfo(np.float32).max)
MAIN = 6  # main words of a document
GATHERED = 100  # number of minibatches whose documents are copied together


@dataclass(frozen=True)
class Corpus:
    """A vectorised corpus.

    Attributes
    ----------
    train, test : csr_matrix of float32, shapes (n_train, n_words) and (n_test, n_words)
        One document per row, column indices sorted; documents without a word of the
        vocabulary are empty rows.
    train_labels, test_labels : ndarray of int64, shapes (n_train,) and (n_test,)
        Indices into ``label_names``; all -1 without labels.
    label_names : list of str
        Empty without labels.
    words : list of str
        The vocabulary in column order.
    idf : ndarray of float64, shape (n_words,)
        Inverse document frequencies of the training part, for every kind of input.
    source : str
        Where the text came from, e.g. ``"sklearn cache"`` or ``"folder /path"``.
    fingerprint : str
        SHA-256 (hexadecimal) over everything above except ``source``.
    """

    train: csr_matrix
    test: csr_matrix
    train_labels: np.ndarray
    test_labels: np.ndarray
    label_names: list[str]
    words: list[str]
    idf: np.ndarray
    source: str
    fingerprint: str = ""

    def name_of(self, part: str, row: int) -> str:
        """Return number and label of a document of a part, "training" or "test"."""
        label = self._part(part)[1][row]
        return f"{part} document {row}" + (f" {self.label_names[label]}" if label >= 0 else "")

    def main_words(self, part: str, row: int) -> str:
        """Return the words of most weight of a document (idf decides between equals)."""
        X = self._part(part)[0]
        columns = slice(X.indptr[row], X.indptr[row + 1])
        indices, weights = X.indices[columns], X.data[columns]
        best = indices[np.lexsort((-self.idf[indices], -weights))][:MAIN]
        return " ".join(self.words[i] for i in best) or "(empty)"

    def _part(self, part: str) -> tuple:
        of = {"training": (self.train, self.train_labels), "test": (self.test, self.test_labels)}
        return of[part]


def load_corpus(config, progress: Callable[[str], object] = print) -> Corpus:
    """Find the text, vectorise it (or read the cache) and return the corpus.

    `prepare_corpus` describes the parameters and the errors.
    """
    return read_corpus(prepare_corpus(config, progress))


def prepare_corpus(config, progress: Callable[[str], object] = print) -> Path:
    """Make sure that the vectorised corpus is in the cache directory.

    The name of the cached file is a hash of the raw texts, the labels and the settings of the
    vectoriser.  A damaged file is made again.

    Parameters
    ----------
    config : DataConfig
        The settings.  ``ae_bn/defaults.yaml`` explains each, and docs/corpora.md the sources.
    progress : callable
        The function that is called with each line of progress, a str.

    Returns
    -------
    Path
        The cached corpus.  `read_corpus` reads it in this or any other process.

    Raises
    ------
    UserError
        If the text cannot be found or used, or the cache directory cannot be written to.
    """
    directory = cache_directory("corpora")
    find = read_counts if config.source == "matrix" else find_texts
    texts = find(config, progress)
    if isinstance(texts, Counts):
        largest = max(texts.train.max(), texts.test.max())
        if largest > LARGEST_COUNT:
            raise UserError(
                f"{texts.source}: the count {largest:g} is too large for float32: scale the counts"
            )
    path = directory / f"{_cache_key(texts, config)}.safetensors"
    try:
        corpus = read_corpus(path)
    except UserError as error:
        if path.exists():
            progress(f"making a corpus again, because {error}")
        corpus = _vectorise(texts, config)
        _write_corpus(corpus, path)
    _report(corpus, texts.remarks, config, progress)
    return path


def read_corpus(path: str | os.PathLike) -> Corpus:
    """Read and verify a corpus written by `prepare_corpus`.

    Parameters
    ----------
    path : path-like
        The file that `prepare_corpus` returned.

    Returns
    -------
    Corpus

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no corpus file {path}: prepare the corpus again")
    try:
        arrays, facts = read_arrays(path, read_header(path))
    except UserError as error:
        raise UserError(f"a damaged corpus ({error}): prepare the corpus again") from None
    for part in ("train", "test"):
        content = [arrays.pop(f"{part}_{name}") for name in ("data", "indices", "indptr")]
        shape = len(arrays[f"{part}_labels"]), len(facts["words"])
        arrays[part] = csr_matrix(tuple(content), shape)
    return Corpus(**arrays, **facts)


def split_validation(
    n_train: int, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the training documents that are held out for validation.

    Parameters
    ----------
    n_train : int
        The number of documents to split.
    fraction : float
        The share of them that is held out.
    rng : numpy.random.Generator
        The generator that draws them.

    Returns
    -------
    train_index, validation_index : ndarray of int64
        Sorted; together they hold each of ``0 ... n_train - 1`` once.

    Raises
    ------
    UserError
        If one of the two parts would be empty.
    """
    n_validation = round(fraction * n_train)
    if not 0 < n_validation < n_train:
        raise UserError(
            f"data.validation_fraction={fraction} of {n_train} documents leaves "
            f"{n_validation} for validation and {n_train - n_validation} for training: "
            "choose another fraction"
        )
    order = rng.permutation(n_train)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def batches(X: csr_matrix, size: int):
    """Yield minibatches of ``size`` rows of X as views; a remainder is left out."""
    empty = csr_matrix((size, X.shape[1]), dtype=X.dtype)
    for start in range(0, X.shape[0] - size + 1, size):
        ends = X.indptr[start : start + size + 1]
        part = slice(ends[0], ends[-1])
        # This takes an eighth of the time of X[start : start + size], which copies and checks.
        batch = copy.copy(empty)
        batch.data, batch.indices, batch.indptr = X.data[part], X.indices[part], ends - ends[0]
        yield batch


def shuffled_batches(X: csr_matrix, order: np.ndarray, size: int):
    """Yield minibatches of ``size`` rows of X in the given order; a remainder is left out.

    The rows of `GATHERED` minibatches are copied together, so X may be larger than memory.
    """
    for start in range(0, len(order), GATHERED * size):
        yield from batches(X[order[start : start + GATHERED * size]], size)


def _vectorise(texts: Texts | Counts, config) -> Corpus:
    """Return the corpus of texts or of counts; both choose their words in the same way."""
    counts = texts if isinstance(texts, Counts) else _count(texts, config)
    counts = counts.most_frequent(config.vocabulary_size)
    idf = TfidfTransformer().fit(counts.train).idf_
    corpus = Corpus(
        train=weigh(counts.train, config.input, idf),
        test=weigh(counts.test, config.input, idf),
        train_labels=np.array(counts.train_labels, dtype=np.int64),
        test_labels=np.array(counts.test_labels, dtype=np.int64),
        label_names=counts.label_names,
        words=counts.words,
        idf=idf,
        source=counts.source,
    )
    return replace(corpus, fingerprint=_fingerprint(corpus))


def _count(texts: Texts, config) -> Counts:
    pattern = config.token_pattern or TOKEN_PATTERN
    split = word_splitter(config.stop_words, config.stem, pattern, config.ngram_range)
    least, most = config.min_df or 1, config.vocabulary_size
    chooser = CountVectorizer(analyzer=split, min_df=least, max_features=most)
    try:
        words = chooser.fit(texts.train).get_feature_names_out().tolist()
    except ValueError as error:
        raise UserError(
            f"no vocabulary from {texts.source} ({one_line(error)}): give training documents "
            "with words of two or more letters" + "".join(f"; {remark}" for remark in texts.remarks)
        ) from error
    return Counts(
        train=count_words(texts.train, words, split),
        test=count_words(texts.test, words, split),
        train_labels=texts.train_labels,
        test_labels=texts.test_labels,
        label_names=texts.label_names,
        words=words,
        source=texts.source,
    )


def _report(corpus: Corpus, remarks, config, progress) -> None:
    progress(
        f"corpus: {corpus.source}, {corpus.train.shape[0]} training and {corpus.test.shape[0]} "
        f"test documents, {len(corpus.label_names) or 'no'} labels, {len(corpus.words)} words"
        + "".join(f"; {remark}" for remark in remarks)
    )
    if len(corpus.words) < config.vocabulary_size:
        progress(f"corpus: fewer words than data.vocabulary_size={config.vocabulary_size}")
    empty = [int(np.sum(np.diff(part.indptr) == 0)) for part in (corpus.train, corpus.test)]
    if any(empty):
        progress(
            f"corpus: {empty[0]} training and {empty[1]} test documents hold no word of the "
            "vocabulary and stay as empty rows"
        )


# The cache: one file per corpus, without pickled objects.


def _cache_key(texts: Texts | Counts, config) -> str:
    if isinstance(texts, Counts):
        content: object = [texts.digest(), texts.source]
    else:
        content = {**vars(texts), "remarks": None}
    settings = {name: getattr(config, name) for name in DECISIVE}
    return fingerprint([CACHE_FORMAT, TOKEN_PATTERN, FORMS, LATIN_NUMBER, settings, content])


def _fingerprint(corpus: Corpus) -> str:
    digest = hashlib.sha256()
    arrays = [corpus.train_labels, corpus.test_labels]
    for matrix in (corpus.train, corpus.test):
        arrays += [matrix.data, matrix.indices, matrix.indptr]
    # Rounded, because the last bit of a logarithm differs between machines.
    arrays.append(corpus.idf.astype(np.float32))
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    digest.update(json.dumps([corpus.label_names, corpus.words]).encode())
    return digest.hexdigest()


def _write_corpus(corpus: Corpus, path: Path) -> None:
    arrays = {name: getattr(corpus, name) for name in ("train_labels", "test_labels", "idf")}
    for part in ("train", "test"):
        for name in ("data", "indices", "indptr"):
            arrays[f"{part}_{name}"] = getattr(getattr(corpus, part), name)
    facts = ("label_names", "words", "source", "fingerprint")
    write_arrays(path, arrays, {name: getattr(corpus, name) for name in facts})
