"""The topic model as an estimator: scikit-learn's own checks, and what they do not look at."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import theano
import topic_words
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from ae_bn import Encoder, TopicAutoencoder, save_model
from ae_bn.config import load_config
from ae_bn.data.corpus import split_validation
from ae_bn.data.words import split_words
from ae_bn.errors import UserError
from ae_bn.evaluation.topics import in_documents, npmi, perplexity
from ae_bn.model.model_file import read_model
from ae_bn.randomness import streams
from ae_bn.study.compiled import compiled
from ae_bn.training import fit

SUBJECTS = ["gull ship tide sail reef", "oak fern moss deer owl", "pan stove knife salt flour"]


@pytest.fixture(scope="module")
def texts():
    """Return 300 texts about the sea, the forest or the kitchen."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(SUBJECTS[i % 3].split(), 12)) for i in range(300)]


@pytest.fixture(scope="module")
def fitted(texts):
    vectoriser = CountVectorizer()
    X = vectoriser.fit_transform(texts)
    model = TopicAutoencoder(
        3, layers=[8], learning_rate=0.02, alpha=0.1, batch_size=30, epochs=60, random_state=1
    )
    return model.fit(X), X, vectoriser.get_feature_names_out()


@parametrize_with_checks([TopicAutoencoder(3, layers=[8], epochs=5)])
def test_check_estimator(float32, estimator, check):
    check(estimator)


def test_topics_of_texts(fitted):
    """Each topic is one of the three subjects, and each text is about its own."""
    model, X, words = fitted
    theta = model.transform(X)
    assert theta.shape == (300, 3) and theta.dtype == np.float64
    np.testing.assert_allclose(theta.sum(axis=1), 1, rtol=1e-5)
    tops = model.top_words(3, words)
    for number, subject in enumerate(SUBJECTS):
        (topic,) = [k for k, top in enumerate(tops) if set(top) <= set(subject.split())]
        assert (theta[number::3].argmax(axis=1) == topic).mean() > 0.95
    assert model.get_feature_names_out().tolist() == [f"topicautoencoder{k}" for k in range(3)]
    assert model.top_words(2) == [[list(words).index(w) for w in top[:2]] for top in tops]
    series = pd.Series(words, index=range(len(words))[::-1])  # by place, not by its index
    assert model.top_words(3, series) == tops
    with pytest.raises(UserError, match="not a mapping"):
        model.top_words(3, dict(enumerate(words)))
    top = np.array(model.top_words(3))
    assert npmi(in_documents(X, top), top).min() > 0.3


def test_the_words_of_every_label_are_those_of_its_texts(fitted, monkeypatch):
    model, X, words = fitted
    monkeypatch.setattr(topic_words, "WORDS", 3)
    labels = np.arange(300) % 3
    corpus = SimpleNamespace(train=X, train_labels=labels, label_names=[*"abc"], words=list(words))
    for top, subject in zip(topic_words.words_by_label(model, corpus), SUBJECTS):
        assert set(top.split()) <= set(subject.split())


def test_bn_of_the_decoder_can_fade(fitted):
    """In the last epoch its statistics are those that change nothing: mean 0 and std 1."""
    model, X, _ = fitted
    settings = dict(top_batch_norm="annealed", monitor="last", epochs=8)
    states = clone(model).set_params(**settings).fit(X).parameters_
    (mean, variance) = (states[f"layer4.{name}"] for name in ("mean", "variance"))
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    np.testing.assert_allclose(variance, 1, atol=1e-2)
    for whole in (True, False):
        states = clone(model).set_params(**{**settings, "top_batch_norm": whole}).fit(X).parameters_
        assert ("layer4.mean" in states) == whole


def test_the_kept_epoch_is_a_choice(fitted):
    """The last one, whatever the held-out loss says, or the one with the lowest."""
    model, X, _ = fitted
    last = clone(model).set_params(monitor="last", epochs=30).fit(X)
    best = clone(model).set_params(monitor="loss", epochs=30, learning_rate=0.2).fit(X)
    losses = [epoch.valid_loss for epoch in best.history_]
    assert last.best_epoch_ == last.n_iter_ == 30
    assert best.best_epoch_ == 1 + int(np.argmin(losses)) < 30
    with pytest.raises(UserError, match="monitor='f1': choose one of loss"):
        clone(model).set_params(monitor="f1").fit(X)


def test_rows_are_a_choice(fitted):
    model, X, words = fitted
    raw = model.components_
    centred, softmax = (clone(model).set_params(rows=rows) for rows in ("centred", "softmax"))
    for other in (centred, softmax):
        other.__dict__.update({k: v for k, v in vars(model).items() if k.endswith("_")})
        other._fitted = model._fitted
    np.testing.assert_allclose(centred.components_, raw - raw.mean(axis=0), atol=1e-6)
    theta = np.eye(3)
    np.testing.assert_allclose(softmax.components_, model.inverse_transform(theta), rtol=1e-4)


def test_score_and_perplexity(fitted):
    """Each of five words is as likely: perplexity is a little above 5."""
    model, X, _ = fitted
    score = model.score(X)
    assert model.perplexity(X) == pytest.approx(perplexity(-score * 300, X.sum()))
    assert 5 < model.perplexity(X) < 8
    with pytest.raises(UserError, match="without words"):
        model.perplexity(csr_matrix((2, 15)))


def test_pickles_pipelines_and_partial_fit(fitted, texts):
    model, X, _ = fitted
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.components_, model.components_)
    before = again.score(X)
    again.partial_fit(X)
    assert again.n_iter_ == model.n_iter_ + 1 and again.score(X) != before
    pipeline = Pipeline([("count", CountVectorizer()), ("topics", clone(model))]).fit(texts)
    np.testing.assert_array_equal(pipeline.transform(texts), model.transform(X))


def test_the_file_of_a_pipeline(fitted, texts, tmp_path):
    """`Encoder` finds the topics of new texts, and the graph of the file those of its counts."""
    counts = CountVectorizer(lowercase=False, tokenizer=split_words, token_pattern=None)
    pipeline = Pipeline([("count", counts), ("topics", clone(fitted[0]))]).fit(texts)
    save_model(pipeline, tmp_path / "model.safetensors")
    new = ["gull gull Ship unknown", "", "oak " * 5000, "salt and flour"]
    expected = pipeline.transform(new)
    encoder = Encoder.load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(encoder.transform(new), expected, rtol=1e-4)
    model = read_model(tmp_path / "model.safetensors")
    np.testing.assert_allclose(model.autoencoder.encode(model.vectorise(new)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"n_topics": 1}, "model.topics.number"),
        ({"alpha": 0}, "model.topics.alpha"),
        ({"top_batch_norm": "fading"}, "annealed, True or False"),
        ({"rows": "row"}, "choose one of raw, centred, softmax"),
        ({"settings": {"model.topics.number": 7}}, "also given as n_topics"),
        ({"settings": {"model.tied": True}}, "topics needs tied false"),
        ({"dropout": 1.0}, "model.dropout.hidden"),
    ],
)
def test_faults_of_parameters(fitted, parameters, message):
    model, X, _ = fitted
    with pytest.raises(UserError, match=message):
        clone(model).set_params(**parameters).fit(X)


def test_faults_of_documents(fitted):
    model, X, words = fitted
    with pytest.raises(UserError, match="Negative values in X"):
        clone(model).fit(-X)
    with pytest.raises(UserError, match="Negative values in X"):
        model.transform(-X)
    for n in (0, 16, 2.5, "all"):
        with pytest.raises(UserError, match="whole number from 1 to 15"):
            model.top_words(n)
    with pytest.raises(UserError, match="one for each of 15 columns"):
        model.top_words(3, words[1:])


def test_it_is_the_same_training_as_a_run(fitted):
    """The defaults are an arm of `configs/topics.yaml`: heads' BN, output BN that fades."""
    model, X, _ = fitted
    X = csr_matrix(X, dtype=theano.config.floatX)
    settings = ["model.batch_norm.top=true", "model.layers=[8]", "training.learning_rate=0.02"]
    settings += ["model.topics={number: 3, alpha: 0.1, heads: shift, output: annealed}"]
    settings += ["training.batch_size=30", "training.epochs=60"]
    config = load_config("configs/topics.yaml", settings)
    stream = streams(1)
    rows, valid_rows = split_validation(300, config.data.validation_fraction, stream.split)
    with compiled(config, 15) as topics:
        topics.initialize(X[rows], stream, 0.02, config.model.dropout)
        result = fit(topics, X[rows], X[valid_rows], config.training, stream.order)
        losses = [epoch.valid_loss for epoch in result.history[: model.n_iter_]]
        assert [epoch.valid_loss for epoch in model.history_] == losses
