"""Corpora larger than memory: documents in a folder, mapped into memory and read row by row.

`write_documents` writes documents block by block.  `open_documents` returns all of them as a
csr_matrix whose arrays are maps of the files, so a row is read only when it is used.
`ae_bn.training.fit` reads some minibatches at a time.  Training reads documents in random order, a
few pages of the disk for each, so a corpus larger than memory should be on an SSD.

The blocks come from `vectorise`, which reads the text twice and keeps only the vocabulary in
memory, or from `planted_documents`, which generates corpora of any size.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable, Iterator

import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

from ae_bn.data.words import INPUTS, count_words, weigh, word_splitter
from ae_bn.errors import UserError
from ae_bn.files import read_json, write_json

BLOCK = 10_000  # number of documents in a block
MOST = 2**31 - 1  # largest number of non-zeros, because SciPy and Theano count them in int32
ARRAYS = {"data": np.float32, "indices": np.int32, "indptr": np.int32}


def write_documents(folder: Path, blocks: Iterable[csr_matrix]) -> None:
    """Write documents to a folder, which appears only when it is complete.

    Parameters
    ----------
    folder : Path
        The folder to make.  It must not exist.
    blocks : iterable of csr_matrix, (any number of documents, n_words)
        The documents.  All blocks have the same words.

    Raises
    ------
    UserError
        If the folder exists, cannot be written, or would hold more than `MOST` non-zeros; if
        there are no documents; if a block has another number of words than the first, or a value
        that is not finite.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already: remove it or name another folder")
    n_documents = n_words = size = 0
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
            part = Path(name, "part")
            part.mkdir()
            files = {array: open(part / f"{array}.bin", "wb") for array in ARRAYS}
            try:
                files["indptr"].write(np.zeros(1, np.int32).tobytes())
                for block in blocks:
                    X = csr_matrix(block, dtype=np.float32)
                    _check_block(X, n_documents, n_words, folder)
                    X.sum_duplicates()  # also sorts
                    if size + X.nnz > MOST:
                        raise UserError(f"{folder}: more than {MOST} non-zeros: write two folders")
                    for array in ("data", "indices"):
                        files[array].write(getattr(X, array)[: X.nnz].astype(ARRAYS[array]).data)
                    files["indptr"].write((X.indptr[1:] + size).astype(np.int32).data)
                    n_documents, n_words, size = n_documents + X.shape[0], X.shape[1], size + X.nnz
                if not n_documents:
                    raise UserError(f"{folder}: no documents to write: give at least one")
                for file in files.values():
                    file.flush()
                    os.fsync(file.fileno())
            finally:
                for file in files.values():
                    file.close()
            shape = {"documents": n_documents, "words": n_words, "non_zeros": size}
            write_json(part / "shape.json", shape)
            os.replace(part, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error


def _check_block(X: csr_matrix, n_documents: int, n_words: int, folder: Path) -> None:
    place = f"{folder}: the block from document {n_documents} on"
    if n_documents and X.shape[1] != n_words:
        raise UserError(
            f"{place} has {X.shape[1]} words, those before have {n_words}: use one vocabulary"
        )
    if not np.isfinite(X.data).all():
        raise UserError(f"{place} holds values that are not finite: remove them")


def open_documents(folder: Path) -> csr_matrix:
    """Return the documents that `write_documents` wrote, mapped into memory.

    This reads and checks only where documents begin and end.  The kernel that uses a document
    checks its words.

    Parameters
    ----------
    folder : Path
        The folder that `write_documents` made.

    Returns
    -------
    csr_matrix of float32, (n_documents, n_words)

    Raises
    ------
    UserError
        If the folder cannot be read, or its files do not match each other.
    """
    folder = Path(folder)
    shape = read_json(folder / "shape.json")
    try:
        n_documents, n_words, size = (shape[k] for k in ("documents", "words", "non_zeros"))
        lengths = {"data": size, "indices": size, "indptr": n_documents + 1}
        arrays = {
            array: _mapped(folder / f"{array}.bin", dtype, lengths[array])
            for array, dtype in ARRAYS.items()
        }
        indptr = arrays["indptr"]
        if indptr[0] != 0 or indptr[-1] != size or (np.diff(indptr) < 0).any():
            raise ValueError("the starts of the documents do not follow each other")
        X = csr_matrix((n_documents, n_words), dtype=np.float32)
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror or error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): write it again") from None
    X.data, X.indices, X.indptr = arrays["data"], arrays["indices"], indptr
    X.has_sorted_indices = X.has_canonical_format = True  # else SciPy would read everything
    return X


def _mapped(path, dtype, length):
    if path.stat().st_size != length * np.dtype(dtype).itemsize:
        raise ValueError(f"{path.name} does not have the size that shape.json gives")
    if length == 0:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, "r", shape=(length,)))


def vectorise(
    texts: Callable[[], Iterable[str]],
    vocabulary_size: int,
    kind: str,
    stop_words: str | None = "english",
) -> tuple[list[str], Iterator[csr_matrix]]:
    """Vectorise a stream of texts as `ae_bn.data.corpus` does, in two passes, with progress bars.

    The first pass counts words, before this returns.  The second pass makes the blocks, when the
    iterator is used.

    Parameters
    ----------
    texts : callable
        A function that returns all texts, from the first on, each time it is called.  It must not
        return the same open file or generator twice, because the first pass exhausts it.
    vocabulary_size : int
        The number of words to keep, the most frequent ones.  Of equally frequent words the first
        in the alphabet are kept.
    kind : {"tfidf", "sublinear_tfidf", "binary", "log_count", "as_is"}
        The values of the matrix, as for the setting ``data.input``.
    stop_words : {"english", "smart", "none", None}
        The list of words to leave out, as for the setting ``data.stop_words``; None is ``"none"``.

    Returns
    -------
    words : list of str
        The vocabulary in column order.
    blocks : iterator of csr_matrix of float32, (up to `BLOCK` documents, n_words)

    Raises
    ------
    UserError
        If the texts have no words, or an argument has another type or value than these; during
        the iteration, if the second pass has other texts than the first.
    """
    if kind not in INPUTS:
        raise UserError(f"kind {kind!r}: choose one of {', '.join(INPUTS)}")
    if stop_words not in ("english", "smart", "none", None):
        raise UserError(f"stop_words {stop_words!r}: choose 'english', 'smart' or None")
    if not isinstance(vocabulary_size, (int, np.integer)) or vocabulary_size < 1:
        raise UserError(f"vocabulary_size {vocabulary_size!r}: give a whole number, 1 or more")
    if not callable(texts):
        raise UserError(
            f"texts is a {type(texts).__name__}: give a function that returns the texts"
        )
    split = word_splitter(stop_words or "none")
    counts, documents, n, first = Counter(), Counter(), 0, _Digest()
    for text in tqdm(first.checked(texts()), desc="counting words", unit=" documents"):
        tokens = split(text)
        counts.update(tokens)
        documents.update(set(tokens))
        n += 1
    if not counts:
        raise UserError("no vocabulary: give texts with words of two or more letters")
    words = sorted(sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary_size])
    frequency = np.array([documents[word] for word in words])
    idf = np.log((1 + n) / (1 + frequency)) + 1  # as scikit-learn's TfidfTransformer

    def blocks():
        second = _Digest()
        with tqdm(total=n, desc="vectorising", unit=" documents") as bar:
            for block in _blocks(second.checked(texts())):
                yield weigh(count_words(block, words, split), kind, idf)
                bar.update(len(block))
        if second.value != first.value:
            raise UserError(
                f"texts() returned {n} documents at first, then {second.n} or other ones: return "
                "all texts from the first on each time, as `lambda: open(path)` does"
            )

    return words, blocks()


class _Digest:
    """The number and the checksum of the texts that were iterated over."""

    def __init__(self):
        self.n, self._hash = 0, hashlib.blake2b()

    def checked(self, texts: Iterable[str]) -> Iterator[str]:
        if isinstance(texts, str):
            raise UserError("texts() returned one text: return a list or an iterator of texts")
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"text {self.n} is a {type(text).__name__}: give texts as str")
            self.n += 1
            self._hash.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
            yield text

    @property
    def value(self) -> tuple[int, bytes]:
        return self.n, self._hash.digest()


def _blocks(texts):
    block = []
    for text in texts:
        block.append(text)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def planted_documents(
    n_documents: int, n_words: int, n_topics: int = 20, length: int = 100, seed: int = 0
) -> Iterator[tuple[csr_matrix, np.ndarray]]:
    """Generate binary documents with planted topics, whose words follow Zipf's law.

    A document has one topic and about ``length`` tokens.  Half of them are drawn from all words
    with probabilities proportional to 1 / rank.  The other half is drawn in the same way, but with
    the ranking of the topic, which starts at another word.  All seeds have the same topics.

    Parameters
    ----------
    n_documents, n_words, n_topics : int
        The numbers of documents, of words in the vocabulary and of topics.
    length : int
        The mean number of tokens of a document.
    seed : int
        The seed of the documents.

    Yields
    ------
    X : csr_matrix of float32, (up to `BLOCK` documents, n_words)
    topics : ndarray of int64, (documents of X,)
    """
    random = np.random.default_rng(seed)
    cumulative = np.cumsum(1 / np.arange(1, n_words + 1))
    cumulative /= cumulative[-1]
    offsets = np.arange(1, n_topics + 1) * n_words // (n_topics + 1)
    for start in range(0, n_documents, BLOCK):
        topics = random.integers(n_topics, size=min(BLOCK, n_documents - start))
        lengths = random.poisson(length, len(topics))
        rows = np.repeat(np.arange(len(topics)), lengths)
        ranks = np.searchsorted(cumulative, random.random(len(rows)))
        own = random.random(len(rows)) < 0.5
        words = np.where(own, (ranks + offsets[topics[rows]]) % n_words, ranks)
        X = csr_matrix((np.ones(len(rows), np.float32), (rows, words)), (len(topics), n_words))
        X.sum_duplicates()
        X.data[:] = 1
        yield X, topics
