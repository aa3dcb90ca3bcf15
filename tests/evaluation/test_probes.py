"""Metrics in cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import normalize

from ae_bn.config import load_config
from ae_bn.evaluation import probes as evaluation
from ae_bn.evaluation.probes import Split, softmax_accuracy, softmax_classifier


def test_retrieval_by_hand():
    """Four documents at 0, 30, 60 and 90 degrees, one query at 10 degrees, one at 80."""
    angles = np.radians([0, 30, 60, 90])
    database = Split(np.c_[np.cos(angles), np.sin(angles)], np.array([0, 1, 0, 1]))
    angles = np.radians([10, 80])
    # Lengths must not matter: cosine.
    queries = Split(np.c_[np.cos(angles), np.sin(angles)] * [[5], [0.1]], np.array([0, 0]))
    curve = evaluation.retrieval_curve(database, queries)
    assert curve["fraction"] == [0.25, 0.5, 0.75, 1]
    # Ranked for the first query: 0, 1, 0, 1; for the second (90 and 60 degrees first): 1, 0, 1, 0.
    np.testing.assert_allclose(curve["precision"], [1 / 2, 1 / 2, (2 / 3 + 1 / 3) / 2, 1 / 2])
    np.testing.assert_allclose(curve["recall"], [1 / 4, 1 / 2, (1 + 1 / 2) / 2, 1])


def test_retrieval_of_sparse_and_dense_codes_agrees_and_chunks_do_not_show():
    rng = np.random.default_rng(0)
    codes = rng.random((1300, 9)) * (rng.random((1300, 9)) < 0.5)
    labels = rng.integers(4, size=1300)
    parts = [slice(0, 700), slice(700, 1300)]
    assert 600 > evaluation.QUERY_CHUNK
    dense = evaluation.retrieval_curve(*(Split(codes[p], labels[p]) for p in parts))
    sparse = evaluation.retrieval_curve(*(Split(csr_matrix(codes[p]), labels[p]) for p in parts))
    for name in dense:
        np.testing.assert_allclose(sparse[name], dense[name], atol=2e-3)  # ties rank by rounding
    assert np.all(np.diff(dense["recall"]) >= 0) and dense["recall"][-1] == 1
    assert np.isclose(dense["fraction"], evaluation.FRACTION).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_retrieval_ranks_as_a_stable_sort_does(dtype):
    """Few different codes, so most documents are tied, and some are zero."""
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 3, (900, 3)).astype(dtype), rng.integers(5, size=900)
    database, queries = Split(codes[:600], labels[:600]), Split(codes[600:], labels[600:])
    curve = evaluation.retrieval_curve(database, queries)
    documents, codes = normalize(database.codes), normalize(queries.codes)
    order = np.argsort(-(codes @ documents.T), axis=1, kind="stable")
    found = np.cumsum(database.labels[order] == queries.labels[:, None], axis=1)
    ranks = np.round(np.array(curve["fraction"]) * 600).astype(int)
    np.testing.assert_allclose(curve["precision"], (found[:, ranks - 1] / ranks).mean(axis=0))
    recall = (found[:, ranks - 1] / found[:, -1:]).mean(axis=0)
    np.testing.assert_allclose(curve["recall"], recall)


def test_a_code_of_zeros_and_a_label_without_documents_are_finite():
    database = Split(np.array([[0.0, 0], [1, 0]]), np.array([0, 0]))
    queries = Split(np.array([[0.0, 0], [1, 1]]), np.array([0, 7]))
    curve = evaluation.retrieval_curve(database, queries)
    np.testing.assert_allclose(curve["precision"], [0.5, 0.5])
    np.testing.assert_allclose(curve["recall"], [0.5, 1])


def test_probe_chooses_c_on_validation():
    """Validation labels that contradict the training labels want the strongest regularisation."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(200, 3))
    labels = (codes[:, 0] > 0.8).astype(int)
    fit, test = Split(codes[:100], labels[:100]), Split(codes[100:], labels[100:])
    agreeing = Split(codes[100:], labels[100:])
    contrary = Split(codes[100:], 1 - labels[100:])
    accuracy, c = evaluation.probe_accuracy(fit, agreeing, test, [1e-6, 100])
    assert c == 100 and accuracy > 0.95
    constant = Split(codes[100:], np.zeros(100, int))
    accuracy, c = evaluation.probe_accuracy(fit, constant, test, [100, 1e-6])
    assert c == 1e-6 and accuracy == pytest.approx(np.mean(labels[100:] == 0))
    assert evaluation.probe_accuracy(fit, contrary, test, [100])[0] > 0.95


def test_probe_is_blind_to_scale_and_shift_of_dense_codes():
    rng = np.random.default_rng(1)
    codes, labels = rng.normal(size=(300, 4)), rng.integers(3, size=300)
    codes[:, 0] += labels
    splits = [Split(codes[i::3], labels[i::3]) for i in range(3)]
    moved = [Split(s.codes * [1e-3, 10, 1, 100] + 7, s.labels) for s in splits]
    cs = [0.01, 1.0]
    assert evaluation.probe_accuracy(*splits, cs) == evaluation.probe_accuracy(*moved, cs)


def test_dead_and_saturated_units():
    codes = np.array([[0.5, 0.0, 0.999], [0.5, 1.0, 0.5]])
    assert evaluation.dead_units(codes) == pytest.approx(1 / 3)
    assert evaluation.dead_units(csr_matrix(codes)) == pytest.approx(1 / 3)
    assert evaluation.saturated(codes, "sigmoid") == pytest.approx(3 / 6)
    assert evaluation.saturated(np.array([[-1, -0.97], [0, 0.99]]), "tanh") == pytest.approx(2 / 4)
    assert evaluation.saturated(codes, "relu") is None


def test_chance_is_what_random_codes_score():
    rng = np.random.default_rng(0)
    train, test = rng.choice(3, 3000, p=[0.5, 0.3, 0.2]), rng.choice(3, 1000, p=[0.5, 0.3, 0.2])
    config = load_config(None, ["evaluation.softmax_probe=true"]).evaluation
    chance = evaluation.chance_metrics(train, test, config)
    noise = evaluation.retrieval_curve(
        Split(rng.normal(size=(3000, 5)), train), Split(rng.normal(size=(1000, 5)), test)
    )
    assert chance["precision"] == pytest.approx(noise["precision"][-1], abs=1e-9)
    assert chance["accuracy"] == chance["softmax_accuracy"] == np.mean(test == 0)
    assert chance["test_loss"] == np.inf


def test_all_metrics_of_separable_codes():
    labels = np.arange(300) % 3
    codes = np.eye(3)[labels] + np.random.default_rng(0).normal(size=(300, 3)) * 0.01
    train, test = Split(codes[:200], labels[:200]), Split(codes[200:], labels[200:])
    config = load_config(None, ["evaluation.retrieval_queries=50"]).evaluation
    metrics = evaluation.evaluate_codes(
        train, test, np.arange(150), np.arange(150, 200), "sigmoid", config
    )
    assert metrics["accuracy"] == 1 and metrics["precision"] == 1 and metrics["dead_units"] == 0
    assert set(metrics["curve"]) == {"fraction", "precision", "recall"}


def test_a_metric_that_fails_costs_no_other(monkeypatch):
    labels = np.arange(60) % 3
    split = Split(np.eye(3)[labels], labels)
    rows = np.arange(40), np.arange(40, 60)
    config = load_config().evaluation
    whole = evaluation.evaluate_codes(split, split, *rows, "tanh", config)

    def fail(*arguments):
        raise np.linalg.LinAlgError("SVD did not\nconverge")

    monkeypatch.setattr(evaluation, "probe_accuracy", fail)
    metrics = evaluation.evaluate_codes(split, split, *rows, "tanh", config)
    reason = metrics.pop("reason")
    assert reason == r"accuracy could not be measured (LinAlgError('SVD did not\nconverge'))"
    assert metrics == {k: v for k, v in whole.items() if k not in ("accuracy", "classifier_c")}
    both = evaluation.merged(metrics, {"reason": "x"}, {"test_loss": 1.0, "reason": "y"}, {})
    assert both == {**metrics, "test_loss": 1.0, "reason": "x; y"}


def test_softmax_probe_on_separable_codes():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=6000)
    codes = (np.eye(3)[labels] * 4 + rng.normal(size=(6000, 3))).astype("f4")
    train, test = Split(codes[:5000], labels[:5000]), Split(codes[5000:], labels[5000:])
    assert softmax_accuracy(train, test) > 0.9
    assert softmax_accuracy(train, test) == softmax_accuracy(train, test)


def test_softmax_probe_stops_on_the_loss_and_keeps_the_last_weights():
    """Wide codes with noisy labels: the loss rises while the accuracy stays."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=1500)
    codes = np.eye(3, 60)[labels] + rng.normal(size=(1500, 60))
    labels[rng.random(1500) < 0.4] = 0
    found = softmax_classifier(Split(codes, labels))
    held_out = np.random.default_rng(7).choice(1500, 150, replace=False)
    fit = np.setdiff1d(np.arange(1500), held_out)
    again = MLPClassifier((), alpha=0, batch_size=100, random_state=7)
    losses, weights = [], []
    for _ in range(100):
        again.partial_fit(codes[fit], labels[fit], [0, 1, 2])
        losses.append(log_loss(labels[held_out], again.predict_proba(codes[held_out])))
        weights.append(again.coefs_[0].copy())
    losses = np.array(losses)
    last = next(
        i for i in range(5, 100) if losses[i - 4 : i + 1].min() >= losses[: i - 4].min() - 1e-5
    )
    assert last < 99
    np.testing.assert_array_equal(found.coefs_[0], weights[last])
    assert losses[last] > losses[: last + 1].min() + 1e-5  # and these are not the best


def test_softmax_probe_on_few_documents_and_a_label_of_one_document():
    codes = csr_matrix(np.eye(4))
    found = softmax_classifier(Split(codes, np.array([0, 2, 2, 5])))
    assert found.classes_.tolist() == [0, 2, 5]
    assert (
        0 <= softmax_accuracy(Split(codes, np.array([0, 2, 2, 5])), Split(codes, np.zeros(4))) <= 1
    )
