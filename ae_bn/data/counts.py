"""A corpus as counts of words, from texts or from a ready matrix."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, load_npz

from ae_bn.data.documents import UNDECODED, printable, read_text
from ae_bn.data.sources import FEWEST_DOCUMENTS, hold_out, index_labels, one_line
from ae_bn.data.words import unreachable
from ae_bn.errors import UserError
from ae_bn.files import user_path

MOST_WORDS = 10_000_000


@dataclass(frozen=True)
class Counts:
    """Word counts, with labels as in `ae_bn.data.sources.Texts` and words in column order."""

    train: csr_matrix
    test: csr_matrix
    train_labels: list[int]
    test_labels: list[int]
    label_names: list[str]
    words: list[str]
    source: str
    remarks: tuple[str, ...] = ()

    def most_frequent(self, number: int) -> Counts:
        """Return the counts of a number of words, those most frequent in the training part.

        Of equally frequent words the first columns are kept.
        """
        if number >= len(self.words):
            return self
        total = np.asarray(self.train.sum(axis=0)).ravel()
        kept = np.sort(np.argsort(-total, kind="stable")[:number])
        words = [self.words[column] for column in kept]
        return replace(self, train=self.train[:, kept], test=self.test[:, kept], words=words)

    def digest(self) -> str:
        """Return the SHA-256 of everything but the source."""
        digest = hashlib.sha256(repr([self.label_names, self.words]).encode())
        for labels in (self.train_labels, self.test_labels):
            digest.update(np.asarray(labels, dtype=np.int64).tobytes())
        for X in (self.train, self.test):
            for array in (X.data, X.indices, X.indptr):
                digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def read_counts(config, progress) -> Counts:
    """Read a sparse matrix of counts that ``scipy.sparse.save_npz`` wrote.

    ``data.file`` is ``NAME.npz``: documents in rows, words in columns, no negative values.  Two
    files beside it are optional: ``NAME.words.txt`` with the word of each column and
    ``NAME.labels.txt`` with the label of each row, one per line, in UTF-8.  Without words the
    columns are named by their numbers.  A fixed ``test_fraction`` of the documents is held out.

    Parameters
    ----------
    config : DataConfig
        The settings; ``file`` and ``test_fraction`` are used.
    progress : callable
        The function that is called with each line of progress, a str.

    Raises
    ------
    UserError
        If a file cannot be read or does not match the others.
    """
    path = user_path(config.file).absolute()
    X, words, label_names, labels, remarks = read_matrix(path)
    train, test, train_labels, test_labels = hold_out(X, labels, config.test_fraction, progress)
    return Counts(
        train,
        test,
        train_labels.tolist(),
        test_labels.tolist(),
        label_names,
        words,
        f"matrix {printable(config.file)}",  # as the config has it, on every machine
        tuple(remarks),
    )


class Matrix(NamedTuple):
    """A matrix of counts, and what the files beside it say."""

    X: csr_matrix  # of float64, (n, n_words)
    words: list  # of str
    label_names: list  # of str; empty without labels
    labels: np.ndarray  # of int, (n,): indices of the label names
    remarks: list  # of str


def read_matrix(path: Path) -> Matrix:
    """Read a whole matrix of counts and the two files beside it, see `read_counts`.

    Parameters
    ----------
    path : Path
        The absolute path of ``NAME.npz``.

    Raises
    ------
    UserError
        If a file cannot be read or does not match the others.
    """
    X = _read_matrix(path)
    n, n_words = X.shape
    remarks = _missing_files(path)
    words = _read_lines(path.with_suffix(".words.txt"), n_words, "columns")
    if words is None:
        words = list(map(str, range(n_words)))
    for word, count in Counter(words).most_common(1):
        if count > 1:
            raise UserError(
                f"{path.with_suffix('.words.txt')}: duplicate word {word!r}: rename one"
            )
    unread = unreachable(words)
    if unread and path.with_suffix(".words.txt").exists():
        remarks.append(
            f"{len(unread)} words, such as {unread[0]!r:.40}, that `ae-bn encode` finds in no text"
        )
    named = _read_lines(path.with_suffix(".labels.txt"), n, "rows")
    return Matrix(X, words, *index_labels(named or [], n), remarks)


def _missing_files(path: Path) -> list[str]:
    """Return remarks on files beside a matrix that are missing, and on files that are not read."""
    wanted = [path.with_suffix(f".{kind}.txt").name for kind in ("words", "labels")]
    remarks = [f"no {printable(name)}" for name in wanted if not (path.parent / name).exists()]
    names = sorted(name for name in os.listdir(path.parent) if name.startswith(f"{path.stem}."))
    others = [name for name in names if name not in (path.name, *wanted)]
    if remarks and others:
        shown = ", ".join(map(printable, others[:5])) + (", ..." if len(others) > 5 else "")
        remarks.append(f"not read: {shown}")
    return remarks


def _read_matrix(path: Path) -> csr_matrix:
    if path.exists() and not path.is_file():
        raise UserError(f"data.file={path}: this is not a file: name a matrix")
    try:
        X = csr_matrix(load_npz(path))  # never unpickles
        X.check_format(full_check=True)
        if X.dtype.kind not in "biuf" or X.shape[1] > MOST_WORDS:
            raise ValueError(f"{X.dtype} of shape {X.shape}")
    except FileNotFoundError:
        raise UserError(f"data.file={path}: no such file: check the path") from None
    except Exception as error:  # damaged bytes can make the decoders raise nearly anything
        raise UserError(
            f"data.file={path} is not a sparse matrix of scipy.sparse.save_npz ({one_line(error)})"
        ) from None
    if X.shape[0] < FEWEST_DOCUMENTS or X.nnz == 0:
        raise UserError(
            f"data.file={path} holds {X.shape[0]} documents with {X.nnz} counts: give at least "
            f"{FEWEST_DOCUMENTS} rows that are not empty"
        )
    if not np.isfinite(X.data).all() or X.data.min() < 0:
        raise UserError(f"data.file={path}: counts must be finite and not negative")
    X = X.astype(np.float64)
    X.sum_duplicates()
    X.eliminate_zeros()
    return X


def _read_lines(path: Path, expected: int, of: str) -> list[str] | None:
    if not path.exists():
        return None
    if not path.is_file():
        raise UserError(f"{path}: this is not a file: replace it by a text file")
    text = read_text(str(path))
    ends = text.split("\n")[:-1] if text.endswith("\n") or not text else text.split("\n")
    lines = [unicodedata.normalize("NFC", line.strip()) for line in ends]
    if len(lines) != expected:
        raise UserError(
            f"{path} has {len(lines)} lines for {expected} {of} of the matrix: give one for each"
        )
    for number, line in enumerate(lines, start=1):
        if not line or UNDECODED in line:
            problem = "is not text in UTF-8: convert the file" if line else "is empty: name it"
            raise UserError(f"{path}: line {number} {problem}")
    return lines
