"""Measures of topics, by cases worked by hand, and the decoder's rows beside Theano's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.evaluation import topics
from ae_bn.evaluation.metrics import METRICS
from ae_bn.evaluation.topics import (
    Decoder,
    active_topics,
    decoder,
    document_perplexity,
    in_documents,
    npmi,
    overlap,
    perplexity,
    top_words,
    topic_rows,
    unique_share,
)
from ae_bn.model.topics import kind
from ae_bn.randomness import streams

# Words 0 and 1 occur only together, 0 and 2 never, 3 everywhere, 4 nowhere, 5 by chance.
X = csr_matrix(
    np.array([[3, 1, 0, 1, 0, 1], [1, 2, 0, 1, 0, 0], [0, 0, 5, 2, 0, 1], [0, 0, 1, 1, 0, 0]])
)


def pair(i, j, X=X):
    top = np.array([[i, j]])
    return npmi(in_documents(X, top), top)[0]


def test_npmi_by_hand():
    assert pair(0, 1) == pytest.approx(1)  # p = 1/2 alone and together
    assert pair(0, 2) == -1
    assert pair(0, 5) == pytest.approx(0)  # 1/4 = 1/2 * 1/2
    assert pair(0, 3) == pytest.approx(0)  # 1/2 = 1/2 * 1
    assert pair(3, 3) == 0  # in all documents
    assert pair(0, 4) == -1  # in no document
    three = csr_matrix(np.array([[1, 1], [1, 0], [0, 1], [0, 0], [0, 0]]))  # 1/5, 2/5 and 2/5
    assert pair(0, 1, three) == pytest.approx(np.log(5 / 4) / np.log(5))


def test_coherence_is_the_mean_over_pairs_whatever_their_order():
    top = np.array([[0, 1, 2], [2, 0, 1], [5, 3, 0]])
    found = npmi(in_documents(X, top), top)
    np.testing.assert_allclose(found, [(1 - 1 - 1) / 3, -1 / 3, 0], atol=1e-12)
    more = npmi(in_documents(X, range(6)), top)
    np.testing.assert_array_equal(found, more)
    with pytest.raises(UserError, match="do not count all top words"):
        npmi(in_documents(X, [0, 1]), top)


def test_diversity_by_hand():
    same, different = np.array([[0, 1], [1, 0], [0, 1]]), np.array([[0, 1], [2, 3], [4, 5]])
    assert (unique_share(same), overlap(same)) == (2 / 6, 1)
    assert (unique_share(different), overlap(different)) == (1, 0)
    one = np.array([[0, 1], [1, 2], [3, 4]])  # one of three pairs has one of two words
    assert (unique_share(one), overlap(one)) == (5 / 6, pytest.approx(1 / 6))
    assert overlap(one[:1]) == 0


def test_active_topics_by_hand():
    means = np.array(
        [[0.0, 5, 1], [0.1, 5, -1], [0.0, 5, 1], [0.1, 5, -1]]
    )  # variances .0025, 0, 1
    assert active_topics(means) == 1


def test_perplexity_by_hand():
    """A document that is uniform over v words has perplexity v."""
    lengths = np.array([10.0, 1, 0])
    assert perplexity(lengths * np.log(7), lengths) == pytest.approx(7)
    losses = np.array([10 * np.log(2), np.log(8), 0])
    assert perplexity(losses, lengths) == pytest.approx(2 ** (13 / 11))
    assert document_perplexity(losses, lengths) == pytest.approx(4)
    assert perplexity(np.array([1e6]), np.array([1.0])) == np.inf


def test_rows_by_hand():
    rows, bias = np.array([[1.0, 5, 3], [1, 3, 4]]), np.array([9.0, 0, 0])
    model = Decoder(rows, bias)
    assert top_words(topic_rows(model), 2).tolist() == [[1, 2], [2, 1]]
    assert topic_rows(model, "centred").tolist() == [[0, 1, -0.5], [0, -1, 0.5]]
    assert top_words(topic_rows(model, "centred"), 2).tolist() == [[1, 0], [2, 0]]
    softmax = topic_rows(model, "softmax")
    np.testing.assert_allclose(softmax[0], np.exp([10, 5, 3]) / np.exp([10, 5, 3]).sum())
    assert top_words(softmax, 2).tolist() == [[0, 1], [0, 2]]
    assert top_words(np.zeros((1, 4)), 3).tolist() == [[0, 1, 2]]
    with pytest.raises(UserError, match="choose one of raw, centred, softmax"):
        topic_rows(model, "row")


TOPICS = ["model.topics={number: 3, alpha: .1, heads: shift}", "model.loss=multinomial"]
LINEAR = ["model.loss=squared_error", "model.output_activation=linear"]
MODELS = {
    "topics": [*TOPICS, "model.output_activation=softmax"],
    "topics, output BN": [*TOPICS, "model.output_activation=softmax", "model.batch_norm.top=true"],
    "centred": [*TOPICS, "model.output_activation=softmax", "model.topics.output=centred_rows"],
    "equal": [*TOPICS, "model.output_activation=softmax", "model.topics.output=equal_rows"],
    "autoencoder": LINEAR,
    "autoencoder, output BN": [*LINEAR, "model.batch_norm.top=true"],
    "no shift": [*LINEAR, "model.batch_norm.top=true", "model.batch_norm.shift=false"],
    "no centring": [*LINEAR, "model.batch_norm.top=true", "model.batch_norm.center=false"],
    "rates": [*LINEAR, "model.batch_norm.top=true", "model.batch_norm.gradient=rate_per_unit"],
    "tied": [*LINEAR, "model.tied=true"],
}


@pytest.mark.parametrize("name", MODELS)
def test_the_decoder_is_that_of_theano(float64, documents, name):
    """From any code, rows and bias give what the graph gives."""
    documents = documents.astype("float64")
    config = load_config(None, ["model.layers=[3]", *MODELS[name]]).model
    model = kind(config)(config, "sgd", 12, "symbolic")
    model.initialize(documents, streams(1), 0.1, config.dropout)
    model.train(documents)
    model.update_population_statistics(documents)
    rows, bias = decoder(config, model.get_state())
    codes = np.random.default_rng(0).random((5, 3))
    z = codes @ rows + bias
    expected = np.log(model.decode(codes)) if config.topics else model.decode(codes)
    constant = expected - z if config.topics else np.zeros((1, 1))
    np.testing.assert_allclose(z + constant[:, :1], expected, rtol=1e-9, atol=1e-12)


def test_layer_normalization_has_no_rows():
    config = load_config(None, ["model.layers=[3]", "model.batch_norm.over=units"])
    config = config.replace({"model.batch_norm.top": True})
    with pytest.raises(UserError, match="has no rows"):
        decoder(config.model, {"layer1.W": np.zeros((12, 3))})


def test_metrics_of_a_model(float32, documents):
    """Each is that of its own function, and has a title."""
    config = load_config(None, ["model.layers=[3]", *MODELS["topics, output BN"]]).model
    model = kind(config)(config, "sgd", 12, "symbolic")
    model.initialize(documents, streams(1), 0.1, config.dropout)
    model.update_population_statistics(documents)
    corpus = SimpleNamespace(train=documents[:30], test=documents[30:])
    found = topics.topic_metrics(model, corpus, np.arange(10))
    assert set(found) <= set(METRICS)
    top = top_words(topic_rows(decoder(config, model.get_state())))
    for name, X in (
        ("npmi", corpus.train),
        ("valid_npmi", documents[:10]),
        ("test_npmi", corpus.test),
    ):
        assert found[name] == pytest.approx(npmi(in_documents(X, top), top).mean())
    total = model.evaluate(corpus.test) * 10
    assert found["perplexity"] == pytest.approx(np.exp(total / corpus.test.sum()), rel=1e-5)
    assert found["unique_words"] == unique_share(top) and found["overlap"] == overlap(top)


def test_npmi_as_gensim():
    """gensim 4.3.3, c_npmi, whose documents are windows of texts; here these repeat no word."""
    rng = np.random.default_rng(0)
    texts = [rng.permutation(60)[:n] for n in rng.integers(3, 60, 400)]
    expected = {20: [-0.0097010864, -0.0279327658, -0.0282210591]}
    expected[5] = [-0.0503482540, -0.0592578692, -0.0306415125]
    top = np.arange(12).reshape(3, 4)
    for width, values in expected.items():
        starts = ((t, i) for t in texts for i in range(max(1, len(t) - width + 1)))
        X = csr_matrix([np.bincount(t[i : i + width], minlength=60) for t, i in starts])
        np.testing.assert_allclose(npmi(in_documents(X, top), top), values, atol=1e-9)
