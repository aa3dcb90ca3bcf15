"""Metrics in cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from ae_bn.config import load_config
from ae_bn.evaluation import probes as evaluation
from ae_bn.evaluation.codes import precision_at
from ae_bn.evaluation.probes import Split, softmax_accuracy, softmax_classifier


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
    noise = precision_at(
        Split(rng.normal(size=(3000, 5)), train), Split(rng.normal(size=(1000, 5)), test), 1.0
    )
    assert chance["raw_precision"] == chance["centred_precision"]
    assert chance["raw_precision"] == pytest.approx(noise.raw, abs=1e-6)
    assert chance["probe_accuracy"] == chance["softmax_accuracy"] == np.mean(test == 0)
    assert chance["test_loss"] == np.inf


def test_a_metric_that_fails_costs_no_other():
    def fail():
        raise np.linalg.LinAlgError("SVD did not\nconverge")

    metrics = evaluation.measured({"a": fail, "b": lambda: 1.0, "c": lambda: {"d": 2.0}})
    reason = metrics.pop("reason")
    assert reason == r"a could not be measured (LinAlgError('SVD did not\nconverge'))"
    assert metrics == {"b": 1.0, "d": 2.0}
    both = evaluation.merged(metrics, {"reason": "x"}, {"test_loss": 1.0, "reason": "y"}, {})
    assert both == {**metrics, "test_loss": 1.0, "reason": "x; y"}


def test_a_full_disk_fails_the_run():
    def fail():
        raise OSError("File too large")

    with pytest.raises(OSError, match="too large"):
        evaluation.measured({"a": fail})


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
