"""The linear denoiser against its definition, a minimiser, itself, and scikit-learn's checks."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, random
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from ae_bn import LinearDenoiser, denoiser
from ae_bn.denoiser import linear_denoiser
from ae_bn.errors import UserError

MASKING = 0.3
X = csr_matrix(np.random.default_rng(0).random((20, 6)) ** 3)
WAYS = DENSE, SPARSE = ["by_all_eigenvectors", "by_iterations"]


@pytest.fixture
def by_all_eigenvectors():
    """Compute all eigenvectors of dense matrices, as for few words."""


@pytest.fixture
def by_iterations(monkeypatch):
    """Compute with sparse matrices alone, as for many words."""
    monkeypatch.setattr(denoiser, "DENSE", 0)


@parametrize_with_checks([LinearDenoiser()])
def test_check_estimator(estimator, check):
    check(estimator)


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


@pytest.mark.parametrize("way, n_units", [(DENSE, 1), (DENSE, 2), (DENSE, 6), (SPARSE, 2)])
def test_no_linear_autoencoder_denoises_better(way, n_units, request):
    request.getfixturevalue(way)
    train = X[:15].toarray()
    encoder, decoder = linear_denoiser(X[:15], n_units, MASKING)
    assert encoder.shape == decoder.T.shape == (6, n_units)
    # V, from encoder = B0 V and B0 = C^-1 G by the definition of G and C.
    G = train.T @ train
    C = G + np.diag(np.diag(G)) * MASKING / (1 - MASKING)
    V = np.linalg.solve(G, C @ encoder)
    np.testing.assert_allclose(V.T @ V, np.eye(n_units), atol=1e-7)
    np.testing.assert_allclose(V.T, decoder, atol=1e-7)
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
    encoder, _ = linear_denoiser(X[:15], 2, MASKING)
    decoder = np.linalg.lstsq(train @ encoder, train, rcond=None)[0]
    kept = np.random.default_rng(0).random((20_000, *train.shape)) >= MASKING
    noisy = train * kept / (1 - MASKING)
    losses = np.sum((train - noisy @ encoder @ decoder) ** 2, axis=(1, 2))
    error = losses.std() / np.sqrt(len(losses))
    noisy, clean = masked(train)
    expected = np.sum((clean - noisy @ encoder @ decoder) ** 2)
    assert losses.mean() == pytest.approx(expected, abs=4 * error)


def test_without_noise_the_denoiser_is_the_svd():
    encoder, _ = linear_denoiser(X[:15], 3, 1e-9)
    _, _, components = np.linalg.svd(X[:15].toarray(), full_matrices=False)
    np.testing.assert_allclose(np.abs(encoder), np.abs(components[:3].T), atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_words_that_no_document_has_change_nothing(way, request):
    request.getfixturevalue(way)
    with_them = csr_matrix(np.insert(X.toarray(), [2, 2, 6], 0, axis=1))
    for found, expected in zip(
        linear_denoiser(with_them, 3, MASKING), linear_denoiser(X, 3, MASKING)
    ):
        words = 0 if found.shape[0] == 9 else 1
        np.testing.assert_allclose(found.take([2, 3, 8], axis=words), 0, atol=1e-12)
        np.testing.assert_allclose(np.delete(found, [2, 3, 8], axis=words), expected, atol=1e-8)


def sparse_documents(n, n_words, seed=0):
    return random(n, n_words, density=0.2, random_state=seed, format="csr")


@pytest.mark.parametrize("p", [0.1, 0.9, 0.99])
@pytest.mark.parametrize("n, n_words, k", [(60, 40, 5), (60, 40, 19), (20, 300, 5), (20, 300, 20)])
def test_both_ways_give_the_same_units(n, n_words, k, p, monkeypatch):
    """Signs included, with more documents than words and with fewer."""
    documents = sparse_documents(n, n_words)
    dense = linear_denoiser(documents, k, p)
    monkeypatch.setattr(denoiser, "DENSE", 0)
    for found, expected in zip(linear_denoiser(documents, k, p), dense):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_documents_space_has_the_same_solution():
    """Woodbury: B0 = D^-1 X' (I + X D^-1 X')^-1 X, computed where words outnumber documents."""
    documents = sparse_documents(15, 80).toarray()
    G = documents.T @ documents
    D = MASKING / (1 - MASKING) * np.diag(G)
    there = np.flatnonzero(D)
    inverse = np.zeros_like(D)
    inverse[there] = 1 / D[there]
    inner = np.eye(15) + documents * inverse @ documents.T
    B0 = inverse[:, None] * documents.T @ np.linalg.solve(inner, documents)
    _, V = np.linalg.eigh(G @ B0)
    encoder, decoder = linear_denoiser(csr_matrix(documents), 4, MASKING)
    signs = np.sign(np.sum(decoder.T * V[:, :-5:-1], axis=0))
    np.testing.assert_allclose(decoder.T * signs, V[:, :-5:-1], atol=1e-8)
    np.testing.assert_allclose(encoder * signs, B0 @ V[:, :-5:-1], atol=1e-8)


@pytest.mark.parametrize("way", WAYS)
def test_signs_do_not_depend_on_the_order_of_documents(way, request):
    request.getfixturevalue(way)
    documents = sparse_documents(60, 40)
    encoder, decoder = linear_denoiser(documents, 5, MASKING)
    assert (decoder.max(axis=1) == np.abs(decoder).max(axis=1)).all()
    again, _ = linear_denoiser(documents[::-1], 5, MASKING)
    np.testing.assert_allclose(again, encoder, atol=1e-7)
    np.testing.assert_array_equal(linear_denoiser(documents, 5, MASKING)[0], encoder)


@pytest.mark.parametrize("way", WAYS)
def test_units_beyond_the_rank_are_zero(way, request):
    """Of 12 documents 4 are empty and 5 occur elsewhere, so the rank is 3."""
    request.getfixturevalue(way)
    documents = np.zeros((12, 50))
    documents[:3] = sparse_documents(3, 50).toarray()
    documents[5:10] = documents[[0, 1, 2, 0, 1]]
    model = LinearDenoiser(10, masking=0.5).fit(documents)
    assert model.encoder_.shape == (50, 10)
    assert (np.abs(model.encoder_).max(axis=0) > 0).tolist() == [True] * 3 + [False] * 7
    codes = model.transform(documents)
    assert (codes[[3, 4, 10, 11]] == 0).all() and np.isfinite(codes).all()
    assert (LinearDenoiser(2).fit(documents * 0).encoder_ == 0).all()


@pytest.mark.parametrize("shape, width", [((3, 40), 3), ((40, 1), 1), ((30, 5), 5), ((1, 6), 1)])
@pytest.mark.parametrize("way", WAYS)
def test_the_width_is_limited_by_words_and_documents(way, shape, width, request):
    request.getfixturevalue(way)
    documents = np.random.default_rng(0).random(shape)
    codes = LinearDenoiser(64).fit_transform(documents)
    assert codes.shape == (shape[0], width) and np.isfinite(codes).all()


def test_reconstruction_dtypes_and_names():
    documents = sparse_documents(30, 8).astype(np.float32)
    model = LinearDenoiser(3).fit(documents)
    codes = model.transform(documents)
    assert codes.dtype == np.float32 == model.inverse_transform(codes).dtype
    expected = documents @ model.encoder_ @ model.components_
    np.testing.assert_allclose(model.inverse_transform(codes), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.transform(documents.toarray()), codes, rtol=1e-4, atol=1e-6)
    assert list(model.get_feature_names_out()) == [f"lineardenoiser{unit}" for unit in range(3)]
    narrow, smaller = model.narrowed(2), clone(model).set_params(n_components=2).fit(documents)
    np.testing.assert_allclose(narrow.transform(documents), smaller.transform(documents), atol=1e-6)
    assert model.encoder_.shape == (8, 3)
    with pytest.raises(UserError, match="codes .* 3 units"):
        model.inverse_transform(codes[:, :2])


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"n_components": 0}, "n_components=0: give a whole number from 1"),
        ({"n_components": 2.5}, "n_components=2.5"),
        ({"n_components": True}, "n_components=True"),
        ({"masking": 0}, "masking=0: give a number between 0 and 1"),
        ({"masking": 1.0}, "masking=1.0"),
        ({"masking": float("nan")}, "masking=nan"),
        ({"masking": "much"}, "masking='much'"),
    ],
)
def test_mistakes_are_told(parameters, words):
    with pytest.raises(UserError, match=words):
        LinearDenoiser(**parameters).fit(X)


def test_values_that_are_too_large_are_told():
    with pytest.raises(UserError, match="squares are not finite: scale it"):
        LinearDenoiser(2).fit(X * 1e200)


def test_a_solution_that_does_not_converge_is_told(by_iterations, monkeypatch):
    monkeypatch.setattr(denoiser, "cg", lambda A, w, **options: (w, 1))
    documents = sparse_documents(200, 150)
    with pytest.raises(UserError, match="does not converge: give masking closer to 1"):
        linear_denoiser(documents, 3, 1e-9)


def test_it_needs_no_theano():
    program = """
import sys
sys.modules["theano"] = None
import ae_bn, numpy
X = numpy.random.default_rng(0).random((20, 6))
assert ae_bn.LinearDenoiser(2).fit_transform(X).shape == (20, 2)
sys.modules.update({name: None for name in list(sys.modules) if name.startswith("sklearn")})
for name in list(sys.modules):
    if name in ("ae_bn.denoiser", "ae_bn.scikit_learn"):
        del sys.modules[name]
try:
    ae_bn.LinearDenoiser
except ae_bn.errors.UserError as error:
    assert "pip install scikit-learn" in str(error)
else:
    raise AssertionError("without scikit-learn")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
