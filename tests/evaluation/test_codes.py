"""`ae_bn.evaluation.codes`: probe, precisions and the share of the mean, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import theano
import theano.tensor as T
from conftest import in_numpy
from scipy.sparse import csr_matrix
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from ae_bn.evaluation import codes
from ae_bn.evaluation.probes import Split
from ae_bn.kernels.retrieval import CountRelevant


@pytest.fixture
def splits():
    """Return codes of 300, 80 and 90 documents of five labels, far from the origin."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 12))
    found = []
    for n in (300, 80, 90):
        labels = rng.integers(5, size=n)
        values = centres[labels] + 1.5 * rng.normal(size=(n, 12)) + 2
        found.append(Split(values.astype(np.float32), labels))
    return found


def test_the_ridge_probe_is_scikit_learns(splits, monkeypatch):
    fit, valid, test = splits
    scaler = StandardScaler().fit(fit.codes)
    expected = {}
    for strength in codes.STRENGTHS:
        probe = RidgeClassifier(alpha=strength * len(fit.labels))
        probe.fit(scaler.transform(fit.codes), fit.labels)
        expected[strength] = [
            probe.score(scaler.transform(split.codes), split.labels) for split in (valid, test)
        ]
    best = max(reversed(codes.STRENGTHS), key=lambda strength: expected[strength][0])
    assert codes.ridge_accuracy(fit, valid) == pytest.approx(expected[best][0])
    assert codes.ridge_accuracy(fit, valid, test) == pytest.approx(expected[best][1])
    for strength in codes.STRENGTHS:
        monkeypatch.setattr(codes, "STRENGTHS", (strength,))
        assert codes.ridge_accuracy(fit, valid, test) == pytest.approx(expected[strength][1])


def test_a_unit_that_never_changes_is_no_harm_to_the_probe(splits):
    dead = [Split(np.c_[s.codes, np.full(len(s.labels), 7, np.float32)], s.labels) for s in splits]
    assert codes.ridge_accuracy(*dead) == codes.ridge_accuracy(*splits)


def test_sparse_codes_are_probed_as_they_are(splits, monkeypatch):
    monkeypatch.setattr(codes, "STRENGTHS", (0.01,))
    fit, valid, test = (Split(csr_matrix(np.maximum(s.codes, 0)), s.labels) for s in splits)
    probe = RidgeClassifier(alpha=0.01 * len(fit.labels)).fit(fit.codes.toarray(), fit.labels)
    expected = probe.score(test.codes.toarray(), test.labels)
    assert codes.ridge_accuracy(fit, valid, test) == pytest.approx(expected, abs=0.02)


def by_hand(database, queries, fraction):
    """Return precision by ranking every document."""
    cosine = cosine_similarity(queries.codes.astype(float), database.codes.astype(float))
    k = max(1, round(fraction * len(database.labels)))
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.mean(database.labels[nearest] == queries.labels[:, None])


@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.5, 1])
def test_precision_is_that_of_the_whole_ranking(splits, fraction):
    database, _, queries = splits
    precision = codes.precision_at(database, queries, fraction)
    mu = database.codes.mean(axis=0)
    centred = [Split(s.codes - mu, s.labels) for s in (database, queries)]
    assert precision.raw == pytest.approx(by_hand(database, queries, fraction))
    assert precision.centred == pytest.approx(by_hand(*centred, fraction))
    sparse = [Split(csr_matrix(s.codes), s.labels) for s in (database, queries)]
    assert codes.precision_at(*sparse, fraction) == pytest.approx(precision)


def test_precision_is_the_same_in_both_floating_point_types(splits):
    database, _, queries = splits
    single = codes.precision_at(database, queries)
    with in_numpy("float64"):
        assert codes.precision_at(database, queries) == pytest.approx(single)
    assert codes.precision_at(database, queries) == single


def test_centred_precision_does_not_see_the_mean_and_raw_does(splits):
    database, _, queries = splits
    precision = codes.precision_at(database, queries)
    moved = [Split(s.codes + np.float32(3), s.labels) for s in (database, queries)]
    far = codes.precision_at(*moved)
    assert far.centred == pytest.approx(precision.centred, abs=1e-6)
    assert far.raw != precision.raw


def test_scaled_precision_centres_codes_of_length_1(splits):
    database, _, queries = splits
    scaled = []
    for codes_, labels in (database, queries):
        z = codes_.astype(float)
        z[:3] = 0  # documents without words
        scaled.append((z, labels))
    unit = [z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-300) for z, _ in scaled]
    mu = unit[0].mean(axis=0)
    expected = by_hand(*(Split(u - mu, s[1]) for u, s in zip(unit, scaled)), 0.02)
    given = [Split(z.astype(np.float32), labels) for z, labels in scaled]
    assert codes.scaled_precision(*given) == pytest.approx(expected)
    sparse = [Split(csr_matrix(z), labels) for z, labels in given]
    assert codes.scaled_precision(*sparse) == pytest.approx(expected)
    longer = [Split(z * 7, labels) for z, labels in given]  # lengths do not matter
    assert codes.scaled_precision(*longer) == pytest.approx(expected)


def test_codes_of_zeros_find_the_first_documents():
    database = Split(np.eye(4, dtype=np.float32), np.array([1, 0, 0, 0]))
    queries = Split(np.zeros((2, 4), np.float32), np.array([1, 0]))
    assert codes.precision_at(database, queries, 0.25).raw == 0.5


@pytest.mark.parametrize("n, k", [(7, 1), (7, 7), (1000, 20), (5000, 100), (5000, 4999)])
def test_the_kernel_counts_as_a_sort(n, k):
    """Ties at the k-th place included; a sorted row misleads the kernel's sample of it."""
    rng = np.random.default_rng(n + k)
    scores = rng.normal(size=(5, n)).round(1).astype(theano.config.floatX)
    scores[0] = np.sort(scores[0])
    scores[1] = 0
    scores[2, ::48] = 9
    vectors = [rng.normal(size=size).astype(scores.dtype) for size in (5, 5, n, n)]
    vectors[1:4:2] = [np.abs(v).round(1) for v in vectors[1:4:2]]
    labels = [rng.integers(3, size=size).astype(np.int32) for size in (5, n)]
    given = [scores, vectors[0] * 0, vectors[1], vectors[2] * 0, vectors[3] * 0 + 1, *labels]
    variables = [T.matrix(), *T.vectors(4), *T.ivectors(2), T.lscalar()]
    count = theano.function(variables, CountRelevant()(*variables))
    _, offset, scale, document_offset, document_scale, own, of_documents = given
    values = (scores + offset[:, None] + document_offset) * scale[:, None] * document_scale
    nearest = np.argsort(-values, axis=1, kind="stable")[:, :k]
    expected = (of_documents[nearest] == own[:, None]).sum(axis=1)
    np.testing.assert_array_equal(count(*given, k), expected)


def test_the_kernel_checks_what_it_is_given():
    variables = [T.matrix(), *T.vectors(4), *T.ivectors(2), T.lscalar()]
    count = theano.function(variables, CountRelevant()(*variables))
    floats = [np.zeros(size, theano.config.floatX) for size in ((2, 3), 2, 2, 3, 3)]
    labels = [np.zeros(size, np.int32) for size in (2, 3)]
    for k in (0, 4):
        with pytest.raises(ValueError, match="k must be"):
            count(*floats, *labels, k)
    with pytest.raises(ValueError, match="each document"):
        count(*floats, labels[0], labels[0], 1)


def test_mean_share():
    assert codes.mean_share(np.ones((4, 3))) == pytest.approx(1)
    assert codes.mean_share(np.array([[1.0, 0], [-1, 0]])) == 0
    assert codes.mean_share(np.array([[3.0], [1]])) == pytest.approx(4 / 5)
    assert codes.mean_share(csr_matrix([[3.0], [1]])) == pytest.approx(4 / 5)
    assert np.isnan(codes.mean_share(np.zeros((2, 2))))


def test_the_path_is_measured_on_validation_documents(splits):
    fit, valid, _ = splits
    metrics = codes.PathMeter(fit.labels, valid.labels, "tanh")(fit.codes, valid.codes)
    precision = codes.precision_at(fit, valid)
    assert metrics["valid_accuracy"] == codes.ridge_accuracy(fit, valid)
    assert metrics["valid_precision"] == precision.raw
    assert metrics["valid_centred_precision"] == precision.centred
    assert metrics["mean_share"] == codes.mean_share(fit.codes)
    assert metrics["dead_units"] == 0 and metrics["saturated"] > 0.5


def test_a_metric_that_fails_costs_no_other(splits, monkeypatch):
    fit, valid, test = splits
    meter = codes.PathMeter(fit.labels, valid.labels, "relu")
    expected = meter(fit.codes, valid.codes)
    train = Split(np.r_[fit.codes, valid.codes], np.r_[fit.labels, valid.labels])
    rows = np.arange(300), np.arange(300, 380)
    of_snapshot = codes.snapshot_metrics(train, test, *rows)

    def fail(*arguments):
        raise ValueError("no probe")

    monkeypatch.setattr(codes, "ridge_accuracy", fail)
    with pytest.warns(UserWarning, match="after an epoch valid_accuracy .*no probe"):
        metrics = meter(fit.codes, valid.codes)
    assert metrics == {k: v for k, v in expected.items() if k != "valid_accuracy"}
    metrics = codes.snapshot_metrics(train, test, *rows)
    assert metrics.pop("reason") == "probe_accuracy could not be measured (ValueError('no probe'))"
    assert metrics == {k: v for k, v in of_snapshot.items() if k != "probe_accuracy"}


def test_metrics_of_labels_are_left_out_where_the_fit_part_has_one(splits):
    fit, valid, test = splits
    one = np.zeros_like(fit.labels)
    assert set(codes.PathMeter(one, valid.labels, "relu")(fit.codes, valid.codes)) == {
        "mean_share",
        "dead_units",
    }
    train = Split(np.r_[fit.codes, valid.codes], np.r_[one, valid.labels])
    rows = np.arange(300), np.arange(300, 380)
    assert set(codes.snapshot_metrics(train, test, *rows)) == {"mean_share"}
