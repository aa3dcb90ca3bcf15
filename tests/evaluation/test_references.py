"""References against NumPy, and the linear denoiser against its definition and a minimiser."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from ae_bn.config import load_config
from ae_bn.evaluation.references import REFERENCES, linear_denoiser, reference_codes
from ae_bn.study.run import _identity, perform, plan_runs

MASKING = 0.3
X = csr_matrix(np.random.default_rng(0).random((20, 6)) ** 3)


def codes(kind, train=X[:15], test=X[15:], n_units=3, seed=0):
    return reference_codes(kind, train, test, n_units, seed, MASKING)


def test_tfidf_is_itself():
    train, test = codes("tfidf")
    assert train.shape == (15, 6) and test.shape == (5, 6)


def test_svd_is_the_one_of_numpy():
    _, _, components = np.linalg.svd(X[:15].toarray(), full_matrices=False)
    _, test = codes("svd")
    np.testing.assert_allclose(np.abs(test), np.abs(X[15:] @ components[:3].T), rtol=1e-6)


def test_nmf_finds_topics_that_share_no_word():
    """Two topics of three words each, documents of one topic: two units, one for each."""
    topics = np.array([[3.0, 2, 1, 0, 0, 0], [0, 0, 0, 1, 2, 3]])
    shares = np.random.default_rng(0).random(20) + 0.5
    documents = csr_matrix(topics[np.arange(20) % 2] * shares[:, None])
    train, test = codes("nmf", documents[:15], documents[15:], n_units=2)
    found = np.concatenate([train, test])
    assert found.min() >= 0
    own = found[np.arange(20), (np.arange(20) + found[0].argmax()) % 2]
    np.testing.assert_allclose(found.sum(axis=1), own, rtol=1e-3)  # the other unit is 0
    for topic in range(2):
        ratio = (own / shares)[topic::2]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_seed_repeats(kind):
    for first, second in zip(codes(kind), codes(kind)):
        assert abs(first - second).max() == 0


@pytest.mark.parametrize("kind", ["svd", "nmf", "denoiser"])
@pytest.mark.parametrize("n_words", [1, 4, 6])
def test_the_width_is_that_of_the_code_or_of_the_vocabulary(kind, n_words):
    train, test = codes(kind, X[:15, :n_words], X[15:, :n_words], n_units=128)
    assert train.shape == (15, n_words) and test.shape == (5, n_words)


def masked(train):
    """Return (M * X) and X under each of the 2^n_words masks, a row times the root of its share.

    ||X - (M * X) B||^2 of these is the expected loss as it is defined.
    """
    noisy, clean = [], []
    for kept in itertools.product([0, 1], repeat=train.shape[1]):
        root = np.sqrt(np.prod(np.where(kept, 1 - MASKING, MASKING)))
        noisy.append(root * train * kept / (1 - MASKING))
        clean.append(root * train)
    return np.concatenate(noisy), np.concatenate(clean)


@pytest.mark.parametrize("n_units", [1, 2, 6])
def test_no_linear_autoencoder_denoises_better(n_units):
    train = X[:15].toarray()
    encoder = linear_denoiser(X[:15], n_units, MASKING)
    assert encoder.shape == (6, n_units)
    # V, from encoder = B0 V and B0 = C^-1 G by the definition of G and C.
    G = train.T @ train
    C = G + np.diag(np.diag(G)) * MASKING / (1 - MASKING)
    V = np.linalg.solve(G, C @ encoder)
    np.testing.assert_allclose(V.T @ V, np.eye(n_units), atol=1e-9)
    noisy, clean = masked(train)
    best = np.sum((clean - noisy @ encoder @ V.T) ** 2)
    np.testing.assert_allclose(
        best, np.trace(G) - 2 * np.sum(G * (encoder @ V.T)) + np.sum(C @ encoder * encoder)
    )
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3):
        start = rng.normal(size=2 * 6 * n_units) / 3

        def loss(parameters):
            U, D = parameters.reshape(2, 6, n_units)
            return np.sum((clean - noisy @ U @ D.T) ** 2)

        found.append(minimize(loss, start, options={"gtol": 1e-7}).fun)
    assert min(found) == pytest.approx(best, rel=1e-6)  # reached
    assert min(found) > best * (1 - 1e-9)  # and never below


def test_masking_averages_to_the_closed_form():
    """Monte Carlo, with another mask for every document, as in training."""
    train = X[:15].toarray()
    encoder = linear_denoiser(X[:15], 2, MASKING)
    decoder = np.linalg.lstsq(train @ encoder, train, rcond=None)[0]
    kept = np.random.default_rng(0).random((20_000, *train.shape)) >= MASKING
    noisy = train * kept / (1 - MASKING)
    losses = np.sum((train - noisy @ encoder @ decoder) ** 2, axis=(1, 2))
    error = losses.std() / np.sqrt(len(losses))
    noisy, clean = masked(train)
    expected = np.sum((clean - noisy @ encoder @ decoder) ** 2)
    assert losses.mean() == pytest.approx(expected, abs=4 * error)


def test_without_noise_the_denoiser_is_the_svd():
    encoder = linear_denoiser(X[:15], 3, 1e-9)
    _, _, components = np.linalg.svd(X[:15].toarray(), full_matrices=False)
    np.testing.assert_allclose(np.abs(encoder), np.abs(components[:3].T), atol=1e-6)


def test_a_word_that_no_training_document_has_changes_nothing():
    with_it = csr_matrix(np.insert(X.toarray(), 2, 0, axis=1))
    encoder = linear_denoiser(with_it, 3, MASKING)
    np.testing.assert_allclose(encoder[2], 0)
    expected = linear_denoiser(X, 3, MASKING)
    np.testing.assert_allclose(np.abs(np.delete(encoder, 2, axis=0)), np.abs(expected), atol=1e-9)


@pytest.mark.parametrize("n_words", [1, 2000])
def test_every_reference_is_a_row_of_an_experiment(config_file, tmp_path, n_words):
    settings = [f"experiment.references=[{','.join(REFERENCES)}]"]
    config = load_config(config_file, [*settings, f"data.vocabulary_size={n_words}"])
    runs = [run for run in plan_runs(config, [1], tmp_path) if run.reference]
    assert [run.arm for run in runs] == list(REFERENCES.values())
    for run in runs:
        perform(run)
        metrics = run.read_metrics()["snapshots"][""]
        assert metrics["saturated"] is None and 0 < metrics["probe_accuracy"] <= 1


def test_only_the_denoiser_is_another_with_another_masking():
    configs = [load_config(None, [f"experiment.reference_masking={p}"]) for p in (0.2, 0.6)]
    for kind in REFERENCES:
        same = len({_identity(config, kind, "data") for config in configs}) == 1
        assert same == (kind != "denoiser")
