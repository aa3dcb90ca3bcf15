"""Corpora larger than memory: what is written is read, and damage is told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from ae_bn.config import load_config
from ae_bn.data import mapped as stored
from ae_bn.data.corpus import _vectorise, weigh
from ae_bn.data.mapped import open_documents, planted_documents, vectorise, write_documents
from ae_bn.data.sources import Texts
from ae_bn.errors import UserError
from ae_bn.model import initialization
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.randomness import streams
from ae_bn.training import fit


def blocks():
    rng = np.random.default_rng(0)
    X = rng.random((25, 30)) * (rng.random((25, 30)) < 0.2)
    X[3] = 0
    return [csr_matrix(X[:10], dtype="f4"), csr_matrix(X[10:], dtype="f8")]


def test_what_is_written_is_read(tmp_path):
    write_documents(tmp_path / "X", iter(blocks()))
    X, expected = open_documents(tmp_path / "X"), vstack(blocks()).astype("f4")
    X.check_format(full_check=True)
    assert X.dtype == np.float32 and X.shape == (25, 30)
    np.testing.assert_array_equal(X.toarray(), expected.toarray())
    rows = [7, 3, 24]
    np.testing.assert_array_equal(X[rows].toarray(), expected.toarray()[rows])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X"]
    write_documents(tmp_path / "none", iter([csr_matrix((4, 5), dtype="f4")]))
    assert open_documents(tmp_path / "none").shape == (4, 5)


def test_it_stays_on_the_disk(tmp_path):
    """The arrays are maps of the files, also after rows were taken."""
    write_documents(tmp_path / "X", blocks())
    X = open_documents(tmp_path / "X")
    X[[1, 2]], X[5:9]
    for array in (X.data, X.indices, X.indptr):
        assert isinstance(array.base, np.memmap) and not array.flags.writeable


def test_nothing_is_left_of_what_fails(tmp_path):
    def failing():
        yield blocks()[0]
        raise UserError("the texts end here")

    with pytest.raises(UserError, match="texts end"):
        write_documents(tmp_path / "X", failing())
    assert list(tmp_path.iterdir()) == []
    write_documents(tmp_path / "X", blocks())
    with pytest.raises(UserError, match="exists already"):
        write_documents(tmp_path / "X", blocks())


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("data", b"abc", "data.bin does not have the size"),
        ("indptr", b"\xff" * 26 * 4, "starts of the documents"),
        ("shape", b"{}", "checksum"),
        ("indices", None, "cannot read"),
    ],
)
def test_damage_is_told(tmp_path, name, content, message):
    write_documents(tmp_path / "X", blocks())
    path = tmp_path / "X" / (f"{name}.json" if name == "shape" else f"{name}.bin")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_documents(tmp_path / "X")


@pytest.mark.parametrize("kind", ["binary", "log_count", "tfidf", "sublinear_tfidf"])
def test_texts_in_a_stream_are_vectorised_as_those_in_memory(monkeypatch, kind):
    monkeypatch.setattr(stored, "BLOCK", 4)
    rng = np.random.default_rng(0)
    words = [letter * 3 for letter in "abcdefghij"] + ["the"]
    texts = [" ".join(rng.choice(words, size=8)) + " 12 x" for _ in range(10)]
    config = load_config(None, [f"data.input={kind}", "data.vocabulary_size=100"]).data
    expected = _vectorise(Texts(texts, texts, [0] * 10, [0] * 10, ["one"], ""), config)
    found, matrices = vectorise(lambda: iter(texts), 100, kind)
    X = vstack(list(matrices))
    assert found == expected.words
    np.testing.assert_allclose(X.toarray(), expected.train.toarray(), rtol=1e-6)
    few, _ = vectorise(lambda: iter(["bb cc cc", "aa bb dd dd dd"]), 3, kind)
    assert few == ["bb", "cc", "dd"]
    with pytest.raises(UserError, match="no vocabulary"):
        vectorise(lambda: iter(["1 2", ""]), 3, kind)


def test_the_second_pass_must_have_the_texts_of_the_first(tmp_path):
    (tmp_path / "t.txt").write_text("gull wren\n" * 5)
    texts, calls = ["gull", "wren"], []
    with open(tmp_path / "t.txt") as file:
        _, matrices = vectorise(lambda: file, 10, "binary")
        with pytest.raises(UserError, match="5 documents at first, then 0"):
            write_documents(tmp_path / "X", matrices)

    def other_words():
        calls.append(1)
        return texts if len(calls) == 1 else ["gull", "gull"]

    with pytest.raises(UserError, match="2 documents at first, then 2 or other ones"):
        list(vectorise(other_words, 10, "binary")[1])
    assert not (tmp_path / "X").exists()
    _, matrices = vectorise(lambda: open(tmp_path / "t.txt"), 10, "as_is")
    assert vstack(list(matrices)).toarray().tolist() == [[1, 1]] * 5


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"kind": "tf-idf"}, "'tf-idf': choose one of tfidf, binary"),
        ({"kind": "Binary"}, "'Binary'"),
        ({"vocabulary_size": 0}, "vocabulary_size 0"),
        ({"vocabulary_size": 2.5}, "vocabulary_size 2.5"),
        ({"stop_words": "German"}, "stop_words 'German'"),
        ({"texts": ["gull"]}, "texts is a list: give a function"),
        ({"texts": lambda: "gull wren"}, "returned one text"),
        ({"texts": lambda: ["gull", None]}, "text 1 is a NoneType"),
    ],
)
def test_arguments_that_vectorise_cannot_use(changes, words):
    arguments = {"texts": lambda: ["gull", "wren"], "vocabulary_size": 5, "kind": "binary"}
    with pytest.raises(UserError, match=words):
        vectorise(**{**arguments, **changes})


def test_weigh_refuses_another_kind():
    with pytest.raises(UserError, match="'counts': choose one of"):
        weigh(blocks()[0], "counts", np.ones(30))


@pytest.mark.parametrize(
    "made, words",
    [
        (
            [blocks()[0], blocks()[1][:, :8]],
            "from document 10 on has 8 words, those before have 30",
        ),
        ([blocks()[0], blocks()[1] * np.nan], "not finite"),
        ([], "no documents to write"),
    ],
)
def test_blocks_that_do_not_fit_are_not_written(tmp_path, made, words):
    with pytest.raises(UserError, match=words):
        write_documents(tmp_path / "X", iter(made))
    assert list(tmp_path.iterdir()) == []


def test_planted_documents_are_of_their_topics(monkeypatch):
    monkeypatch.setattr(stored, "BLOCK", 300)
    made = list(planted_documents(800, 500, n_topics=3, length=40, seed=1))
    X, topics = vstack([X for X, _ in made]), np.concatenate([topics for _, topics in made])
    assert X.shape == (800, 500) and len(topics) == 800 and set(X.data) == {1}
    X.check_format(full_check=True)
    frequency = np.asarray(X.mean(axis=0)).ravel()
    assert frequency[0] > 0.8 > 0.1 > np.median(frequency)  # Zipf: a few words nearly everywhere
    means = np.stack([np.asarray(X[topics == t].mean(axis=0)).ravel() for t in range(3)])
    nearest = (X @ (means - means.mean(axis=0)).T).argmax(axis=1)
    assert np.mean(nearest == topics) > 0.9
    other, of = next(planted_documents(800, 500, n_topics=3, length=40, seed=2))
    assert np.mean((other @ (means - means.mean(axis=0)).T).argmax(axis=1) == of) > 0.9
    again, _ = next(planted_documents(800, 500, n_topics=3, length=40, seed=1))
    assert (again != made[0][0]).nnz == 0


def test_moments_are_taken_in_parts(monkeypatch):
    """Of no more documents at a time than memory is sure to hold."""
    X, multiply, read = vstack(blocks()).tocsr(), csr_matrix.multiply, []

    def noted(part, other):
        read.append(part.shape[0])
        return multiply(part, other)

    monkeypatch.setattr(initialization, "READ", 10)
    monkeypatch.setattr(csr_matrix, "multiply", noted)
    mean, deviation = initialization.word_moments(X)
    assert read == [10, 10, 5]
    np.testing.assert_allclose(mean, X.toarray().mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, X.toarray().std(axis=0), rtol=1e-5, atol=1e-7)


def test_training_from_the_disk_is_training_from_memory(tmp_path):
    X, _ = next(planted_documents(300, 200, n_topics=3, length=20))
    write_documents(tmp_path / "X", [X])
    config = load_config(None, ["model.layers=[4]", "training.epochs=2", "model.sampling=20"])
    histories = []
    for documents in (X, open_documents(tmp_path / "X")):
        model = Autoencoder(config.model, "adam", 200, "fused")
        stream = streams(1)
        model.initialize(documents, stream, 0.01, config.model.dropout)
        result = fit(model, documents, documents, config.training, stream.order)
        histories.append([(epoch.train_loss, epoch.valid_loss) for epoch in result.history])
    assert histories[0] == histories[1]
