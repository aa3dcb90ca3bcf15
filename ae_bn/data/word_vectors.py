"""Word vectors that others have trained: a text file with a word and its numbers on each line."""

from __future__ import annotations

import warnings

import numpy as np

from ae_bn.data.documents import read_text
from ae_bn.errors import UserError
from ae_bn.files import file_digest, user_path


def check_word_vectors(file: str, sha256: str) -> None:
    """Raise a UserError if a file cannot be read, or has another SHA-256."""
    digest = file_digest(user_path(file))
    if digest != sha256:
        raise UserError(
            f"{file}: its SHA-256 is {digest}, and not {sha256}: give the file that the config "
            "means, or correct the config"
        )


def read_word_vectors(file: str, sha256: str, words: list[str]) -> np.ndarray:
    """Return the vectors of the words of a corpus, (n_words, size), float32.

    The file is as GloVe and word2vec write it: a word and its numbers on each line, separated by
    spaces, in UTF-8.  A word may hold spaces.  A first line with two numbers, how many words and
    how many dimensions, is skipped.  If a word occurs twice, its first vector counts.  A warning
    says how many words have no vector; theirs is 0.

    Parameters
    ----------
    file : str
        The name of the file.
    sha256 : str
        The SHA-256 of the file's bytes, hexadecimal.
    words : list of str
        The vocabulary.

    Raises
    ------
    UserError
        If the file cannot be read, is another one, or has a line without as many numbers as the
        others; or if no word has a vector.
    """
    check_word_vectors(file, sha256)
    columns = {word: column for column, word in enumerate(words)}
    vectors: dict[int, np.ndarray] = {}
    size = None
    text = read_text(file).rstrip("\n")
    for number, line in enumerate(text.split("\n") if text else [], start=1):
        first, *rest = line.rstrip().split(" ")
        if number == 1 and len(rest) == 1:
            continue
        size = len(rest) if size is None else size
        n_of_word = max(0, len(rest) - size)  # a word with spaces has more parts than the first
        of_word, numbers = rest[:n_of_word], rest[n_of_word:]
        vector = _as_numbers(numbers)
        is_vector = 0 < len(numbers) == size and np.isfinite(vector).all()
        if not is_vector or any(np.isfinite(_as_numbers([part])) for part in of_word):
            raise UserError(f"{file}, line {number}: expected a word and {size or 'its'} numbers")
        word = " ".join([first, *of_word])
        if word in columns:
            vectors.setdefault(columns[word], vector)
    if not vectors:
        raise UserError(f"{file}: none of the {len(words)} words of the corpus has a vector")
    if len(vectors) < len(words):
        warnings.warn(
            f"{file}: {len(words) - len(vectors)} of {len(words)} words have no vector",
            stacklevel=2,
        )
    nothing = np.zeros_like(next(iter(vectors.values())))
    return np.stack([vectors.get(column, nothing) for column in range(len(words))])


def _as_numbers(parts: list[str]) -> np.ndarray:
    try:
        return np.array(parts, np.float32)
    except ValueError:
        return np.array([np.nan])
