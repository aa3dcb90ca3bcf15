"""Word vectors: which lines are taken, what has no vector, and files that are wrong."""

import numpy as np
import pytest

from ae_bn.data.word_vectors import read_word_vectors
from ae_bn.errors import UserError
from ae_bn.files import file_digest

WORDS = ["sea", "ship", "été"]


def read(path, text, words=WORDS):
    path.write_text(text, encoding="utf-8")
    return read_word_vectors(str(path), file_digest(path), words)


@pytest.mark.parametrize("first", ["", "4 2\n"])
def test_each_word_has_its_first_vector(tmp_path, first):
    text = f"{first}été 5 6\nland 9 9\nsea 1 -2e-1 \nsea 7 7\nship 3 4\n"
    found = read(tmp_path / "vectors.txt", text)
    np.testing.assert_array_equal(found, np.float32([[1, -0.2], [3, 4], [5, 6]]))


def test_words_without_a_vector_are_told_and_count_as_nothing(tmp_path):
    with pytest.warns(UserWarning, match="2 of 3 words have no vector"):
        found = read(tmp_path / "vectors.txt", "ship 3 4\n")
    np.testing.assert_array_equal(found, [[0, 0], [3, 4], [0, 0]])


def test_words_of_any_characters_are_words(tmp_path):
    """Such as GloVe's words with spaces, or with characters that end a line elsewhere."""
    text = "sea 1 2\n\u0085 8 8\n. . . 9 9\nat\u2028 a@b.c 7 7\nship 3 4\nété 5 6\n"
    np.testing.assert_array_equal(read(tmp_path / "v.txt", text), [[1, 2], [3, 4], [5, 6]])
    with pytest.raises(UserError, match="line 7: expected a word and 2 numbers"):
        read(tmp_path / "v.txt", text + "land 1 2 3\n")


@pytest.mark.parametrize(
    "text, words",
    [
        ("sea 1 2\nship 3\n", "line 2: expected a word and 2 numbers"),
        ("sea 1 2\nship 3 4 5\n", "line 2: expected a word and 2 numbers"),
        ("sea 1 2\nship 3 four\n", "line 2: expected a word and 2 numbers"),
        ("sea 1 nan\n", "line 1: expected a word and 2 numbers"),
        ("sea\nship\n", "line 1: expected a word"),
        ("land 1 2\n", "none of the 3 words"),
        ("", "none of the 3 words"),
        ("sea 1\0 2\n", "is not text"),
    ],
)
def test_a_wrong_file_is_told(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path / "vectors.txt", text)


def test_another_file_is_told(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("sea 1 2\n")
    with pytest.raises(UserError, match=f"SHA-256 is {file_digest(path)}, and not 00"):
        read_word_vectors(str(path), "0" * 64, WORDS)
    with pytest.raises(UserError, match="no such file|No such file"):
        read_word_vectors(str(tmp_path / "nothing"), "0" * 64, WORDS)
