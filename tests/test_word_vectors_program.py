"""The program that writes word vectors: a word is the mean of its tokens."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import word_vectors
from safetensors.numpy import save

from ae_bn.data.word_vectors import read_word_vectors
from ae_bn.errors import UserError
from ae_bn.files import file_digest


class Letters:
    """A tokenizer whose tokens are letters, with the number of the letter in the alphabet."""

    def no_padding(self):
        pass

    def encode(self, word, add_special_tokens):
        assert not add_special_tokens  # they are no part of the word
        return SimpleNamespace(ids=[ord(letter) - ord("a") for letter in word if letter.isalpha()])


def test_a_word_has_the_mean_of_its_tokens(monkeypatch, tmp_path, config_file):
    vectors = np.arange(52, dtype=np.float16).reshape(26, 2)
    module = SimpleNamespace(Tokenizer=SimpleNamespace(from_str=lambda text: Letters()))
    monkeypatch.setitem(sys.modules, "tokenizers", module)
    monkeypatch.setattr(word_vectors, "download", lambda: (save({"x": vectors}), b"{}"))
    out = tmp_path / "vectors.txt"
    word_vectors.main(["--config", str(config_file), "--out", str(out)])
    found = read_word_vectors(str(out), file_digest(out), ["ax", "common"])
    expected = [np.mean([0, 23]), np.mean([2, 14, 12, 12, 14, 13])]
    np.testing.assert_allclose(found[:, 0], 2 * np.array(expected), atol=1e-4)
    np.testing.assert_allclose(found[:, 1], found[:, 0] + 1, atol=1e-4)


def test_without_the_tokenizer_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match="needs the package tokenizers: pip install it"):
        word_vectors.main([])


def test_what_cannot_be_downloaded_is_one_line(monkeypatch):
    monkeypatch.setattr(word_vectors, "WHEEL", "wordllama==nonsense")
    with pytest.raises(UserError, match="pip cannot download wordllama==nonsense: .*") as caught:
        word_vectors.download()
    assert len(str(caught.value).splitlines()) == 1
