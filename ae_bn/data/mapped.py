"""Corpora larger than memory: documents in a folder, mapped into memory and read row by row.

`write_documents` writes blocks of documents as they come; `open_documents` returns all of them
as a csr_matrix whose arrays are maps of the files: nothing is read before its rows are taken, and
`ae_bn.training.fit` takes some minibatches at a time.  A document is a few pages of the disk, in
the random order of training scattered ones: what does not fit into memory wants an SSD.

The blocks come from `vectorise`, which reads text twice and keeps the vocabulary only, or from
`planted_documents`, which makes corpora of any size up.
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

BLOCK = 10_000  # documents made at a time
MOST = 2**31 - 1  # non-zeros: SciPy and Theano count them in int32
ARRAYS = {"data": np.float32, "indices": np.int32, "indptr": np.int32}


def write_documents(folder: Path, blocks: Iterable[csr_matrix]) -> None:
    """Write documents to a folder, which appears once it is complete.

    Parameters
    ----------
    folder : Path
        Must not be there yet.
    blocks : iterable of csr_matrix, (any number of documents, n_words)

    Raises
    ------
    UserError
        If the folder is there, cannot be written, or would hold more than `MOST` non-zeros; if
        there is no document, or a block has another number of words than the first or a value
        that is not finite.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} is there already: remove it or name another")
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
                        raise UserError(f"{folder}: more than {MOST} non-zeros; write two folders")
                    for array in ("data", "indices"):
                        files[array].write(getattr(X, array)[: X.nnz].astype(ARRAYS[array]).data)
                    files["indptr"].write((X.indptr[1:] + size).astype(np.int32).data)
                    n_documents, n_words, size = n_documents + X.shape[0], X.shape[1], size + X.nnz
                if not n_documents:
                    raise UserError(f"{folder}: there is no document to write; give some blocks")
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

    Only where documents begin and end is read and checked here; the words of a document are
    checked by whatever kernel they come to.

    Returns
    -------
    csr_matrix of float32, (n_documents, n_words)

    Raises
    ------
    UserError
        If the folder cannot be read, or its files do not fit together.
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
            raise ValueError("documents begin where none ends")
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
        raise ValueError(f"{path.name} is not of its size")
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

    The first pass is made at once and counts words; the second as the blocks are asked for.

    Parameters
    ----------
    texts : callable
        Returns the texts from the first on, every time it is called; an open file or a generator
        would be at its end.
    vocabulary_size : int
        So many of the most frequent words are kept; of equals the first by alphabet.
    kind : {"tfidf", "binary", "log_count", "as_is"}
        As ``data.input``.
    stop_words : {"english", "smart", "none", None}
        ``"english"`` leaves them out.

    Returns
    -------
    words : list of str
        The vocabulary in column order.
    blocks : iterator of csr_matrix of float32, (up to `BLOCK` documents, n_words)

    Raises
    ------
    UserError
        If there is no word in the texts, or an argument is of another kind or value than these;
        from the blocks, if the second pass has other texts than the first.
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
        raise UserError("no vocabulary: the texts must hold words of two or more letters")
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
                f"texts() gave {second.n} documents after {n}, or other ones: return all texts "
                "from the first on every time, such as `lambda: open(path)`"
            )

    return words, blocks()


class _Digest:
    """The number and a checksum of the texts that went by."""

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
    """Make up binary documents whose words follow Zipf's law, with topics planted in them.

    A document has one topic and about ``length`` tokens.  Half of them are drawn from all words
    with probabilities proportional to 1 / rank; the other half in the same way, but with the
    topic's own ranking, which starts at another word.  Every seed has the same topics.

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
