"""The Hessian: its products, its coordinates, its spectrum, and what a run says of it."""

from __future__ import annotations

import numpy as np
import pytest
import theano
import theano.tensor as T
from safetensors.numpy import load_file
from scipy.sparse.linalg import aslinearoperator

from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.evaluation import curvature
from ae_bn.evaluation.curvature import GRID, POINTS, Hessian, density, lanczos, top_eigenvalues
from ae_bn.files import read_json
from ae_bn.randomness import streams
from ae_bn.study.perform import perform
from ae_bn.study.plan import plan_runs

ARMS = {
    "off": ["batch_norm.hidden=false"],
    "hidden": ["batch_norm.hidden=true"],
    "all": ["batch_norm.hidden=true", "batch_norm.top=true"],
}
BATCH = 10


def started(arm, X, epsilon=1e-5):
    """Return a Hessian at parameters that nothing is special about."""
    settings = [*ARMS[arm], "layers=[4]", f"batch_norm.epsilon={epsilon}"]
    config = load_config(None, [f"model.{setting}" for setting in settings]).model
    hessian, rng = Hessian(config, X.shape[1]), np.random.default_rng(7)
    twin = hessian.twin
    twin.initialize(X, streams(1), 0.01, config.dropout)
    for parameter in twin.parameters:
        values = parameter.get_value()
        parameter.set_value(values + rng.normal(size=values.shape))
    twin.update_population_statistics(X)
    return hessian


def flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


def parameters(hessian):
    return flat(parameter.get_value() for parameter in hessian.twin.parameters)


def loss_and_gradient(hessian, X, kind):
    """Return a function that gives the mean loss over minibatches and its gradient, at theta."""
    twin = hessian.twin
    loss, inputs = twin.clean_loss(kind == "population")
    function = theano.function(inputs, [loss, *T.grad(loss, twin.parameters)])

    def at(theta):
        for parameter in twin.parameters:
            shape = parameter.get_value().shape
            parameter.set_value(theta[: np.prod(shape)].reshape(shape))
            theta = theta[np.prod(shape) :]
        values = []
        for start in range(0, X.shape[0], BATCH):
            batch = X[start : start + BATCH]
            loss, *gradient = function(batch.data, batch.indices, batch.indptr)
            values.append((loss, flat(gradient)))
        losses, gradients = zip(*values)
        return np.mean(losses), np.mean(gradients, axis=0)

    return at


@pytest.mark.parametrize("kind", curvature.KINDS)
@pytest.mark.parametrize("arm", ARMS)
def test_products_are_symmetric_and_equal_finite_differences(float64, documents, arm, kind):
    X = documents.astype("float64")
    hessian, rng = started(arm, X), np.random.default_rng(3)
    theta = parameters(hessian)
    u, v = rng.normal(size=(2, len(theta)))
    operator = hessian.operator(X, BATCH, kind, np.ones(len(theta)))
    Hu, Hv = operator @ u, operator @ v
    np.testing.assert_allclose(u @ Hv, v @ Hu, rtol=1e-9)
    at, step = loss_and_gradient(hessian, X, kind), 1e-6
    differences = (at(theta + step * v)[1] - at(theta - step * v)[1]) / (2 * step)
    np.testing.assert_allclose(Hv, differences, rtol=1e-5, atol=1e-6 * np.abs(Hv).max())
    d = rng.uniform(0.5, 2, len(theta))
    at(theta)  # puts the parameters back
    scaled = hessian.operator(X, BATCH, kind, d)
    np.testing.assert_allclose(scaled @ v, d * (operator @ (d * v)), rtol=1e-9)


def test_kinds_of_statistics_differ_only_with_batch_norm(float64, documents):
    X = documents.astype("float64")
    for arm in ARMS:
        hessian = started(arm, X)
        d = hessian.scales(relative=True)
        batch, population = (hessian.operator(X, BATCH, k, d) @ d for k in curvature.KINDS)
        assert np.allclose(batch, population) == (arm == "off") == (not hessian.uses_statistics)


@pytest.mark.parametrize("arm", ["hidden", "all"])
def test_a_normalised_units_weights_have_no_curvature_of_their_own(float64, documents, arm):
    """L(c w_j) = L(w_j): w_j^T g_j = 0, and, with g(c w_j) = g(w_j) / c for w_j's part of g,
    H (0 .. w_j .. 0) = -(0 .. g_j .. 0)."""
    X = documents.astype("float64")
    hessian = started(arm, X, epsilon=1e-14)
    theta = parameters(hessian)
    _, gradient = loss_and_gradient(hessian, X, "batch")(theta)
    operator = hessian.operator(X, BATCH, "batch", np.ones(len(theta)))
    start = 0
    for parameter in hessian.twin.parameters:
        size = parameter.get_value().size
        if parameter.name in (["W1", "W2"] if arm == "all" else ["W1"]):
            own = np.zeros(parameter.get_value().shape)
            own[:, 2] = 1  # the weights of unit 2
            here = np.zeros(len(theta))
            here[start : start + size] = own.ravel()
            assert np.abs(here * gradient).max() > 1e-3
            np.testing.assert_allclose((here * theta) @ gradient, 0, atol=1e-10)
            np.testing.assert_allclose(operator @ (here * theta), -here * gradient, atol=1e-8)
        start += size


@pytest.mark.parametrize("kind", curvature.KINDS)
@pytest.mark.parametrize("arm", ["hidden", "all"])
def test_rescaled_weights_have_the_same_loss_and_scaled_curvature(float64, documents, arm, kind):
    """Equation (2) of the module: columns divided by s, the population's statistics too."""
    X = documents.astype("float64")
    hessian = started(arm, X, epsilon=1e-14)

    def seen():
        theta = parameters(hessian)
        loss, _ = loss_and_gradient(hessian, X, kind)(theta)
        scales = [np.ones(len(theta)), hessian.scales(False), hessian.scales(True)]
        v = np.random.default_rng(3).normal(size=len(theta))
        return loss, [hessian.operator(X, BATCH, kind, d) @ v for d in scales]

    before, (as_they_are, *scaled) = seen()
    for number in [1, 2] if arm == "all" else [1]:
        layer = hessian.twin.layers[number - 1]
        W, bn = layer.projection.W, layer.batch_normalization
        s = np.random.default_rng(number).uniform(2, 5, W.get_value().shape[1])
        W.set_value(W.get_value() / s)
        bn.mean.set_value(bn.mean.get_value() / s)
        bn.variance.set_value(bn.variance.get_value() / s**2)
    after, (as_they_are_after, *scaled_after) = seen()
    np.testing.assert_allclose(after, before, rtol=1e-9)
    np.testing.assert_allclose(scaled_after, scaled, rtol=1e-6, atol=1e-8)
    assert np.linalg.norm(as_they_are_after) > 1.5 * np.linalg.norm(as_they_are)


def test_without_batch_norm_weights_are_taken_as_they_are(float64, documents):
    hessian = started("off", documents.astype("float64"))
    assert (hessian.scales(relative=False) == 1).all()
    W = hessian.twin.parameters[0].get_value()
    relative = hessian.scales(relative=True)[: W.size].reshape(W.shape)
    np.testing.assert_allclose(relative[3], np.linalg.norm(W, axis=0))
    hidden = started("hidden", documents.astype("float64")).scales(relative=False)
    assert (hidden[: W.size] != 1).all() and (hidden[W.size :] == 1).all()


def test_largest_eigenvalues_against_a_dense_solver():
    rng = np.random.default_rng(0)
    values = np.concatenate([[50, 30, -80], rng.normal(size=297)])
    basis, _ = np.linalg.qr(rng.normal(size=(300, 300)))
    A = (basis * values) @ basis.T
    found = top_eigenvalues(aslinearoperator(A), 2)
    np.testing.assert_allclose(found, [50, 30], rtol=1e-3)


def test_lanczos_to_the_end_is_a_similar_matrix():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30, 30))
    A = A + A.T
    diagonal, off_diagonal = lanczos(aslinearoperator(A), rng.normal(size=30), 100)
    B = np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
    np.testing.assert_allclose(np.linalg.eigvalsh(B), np.linalg.eigvalsh(A), atol=1e-10)


def test_density_of_known_eigenvalues():
    """A quarter of them -1, the rest 5: two Gaussians, and Lanczos ends after two steps."""
    diagonal = np.repeat([-1.0, 5.0], [5000, 15000])
    y = density(aslinearoperator(np.diag(diagonal[::100])), draws=200, steps=20)
    step = POINTS[1] - POINTS[0]
    assert y.sum() * step == pytest.approx(1, abs=1e-6)
    assert y[GRID < 0].sum() * step == pytest.approx(0.25, abs=0.01)
    assert GRID[GRID < 0][y[GRID < 0].argmax()] == pytest.approx(-1, rel=0.07)
    assert GRID[y.argmax()] == pytest.approx(5, rel=0.07)


SETTINGS = [
    "evaluation.curvature={epochs: [0, 2], documents: 30, eigenvalues: 2, draws: 1, steps: 5}"
]
SETTINGS += ["experiment.references=[]", "experiment.compare={}"]
SETTINGS += ["training.checkpoint_epochs=1", "experiment.factors={}"]


def test_an_interrupted_run_ends_with_the_same_curvature(
    runs_in_numpy, config_file, tmp_path, monkeypatch
):
    config = load_config(config_file, SETTINGS)
    (whole,) = plan_runs(config, [1], tmp_path / "whole")
    (halted,) = plan_runs(config, [1], tmp_path / "halted")
    perform(whole)
    measured, measure = [], curvature.measure

    def interrupted_after_the_first(*arguments):
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(curvature, "measure", interrupted_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        perform(halted)
    perform(halted)
    results = [read_json(run.directory / "metrics.json") for run in (whole, halted)]
    best = results[0]["snapshots"]["loss"]["epoch"]
    assert len(measured) == 4 + (best != 2)  # before training in each process
    for result in results:
        del result["seconds"], result["files"]  # the order of safetensors' metadata is by chance
    assert results[0] == results[1]
    models = [load_file(run.directory / "model.safetensors") for run in (whole, halted)]
    for name in models[0]:
        np.testing.assert_array_equal(*(model[name] for model in models))

    spectra = results[0]["spectra"]
    assert spectra["top eigenvalue, batch"]["x"] == [0, 2]
    metrics = results[0]["snapshots"]["loss"]
    assert metrics["top_eigenvalue_initial"] == spectra["top eigenvalue, batch"]["y"][0] > 0
    assert metrics["relative_eigenvalue_population"] > 0
    for kind in curvature.KINDS:
        for label in ("epoch 0", "epoch 2", "best epoch"):
            assert len(spectra[f"density, {kind}, {label}"]["y"]) == len(GRID)


def test_diverged_parameters_have_no_curvature(float64, documents):
    X = documents.astype("float64")
    hessian = started("off", X)
    state = hessian.twin.get_state()
    state["layer1.W"][0, 0] = np.inf
    settings = load_config(None, SETTINGS).evaluation.curvature
    assert curvature.measure(hessian, state, X, BATCH, settings) is None
    assert curvature.summarize({}, None)["spectra"]["top eigenvalue, batch"] == {"x": [], "y": []}


@pytest.mark.parametrize(
    "setting, words",
    [
        ("model.tied=true", "model.tied"),
        ("model.batch_norm.gradient=constant", "model.batch_norm.gradient"),
        ("model.batch_norm.over=units", "model.batch_norm.over"),
        ("evaluation.curvature.documents=9", "evaluation.curvature.documents: 9 "),
        ("evaluation.curvature.documents=100", "evaluation.curvature.documents: 100 "),
        ("evaluation.curvature.epochs=[-1]", "evaluation.curvature.*epochs"),
        ("evaluation.curvature.step=3", "evaluation.curvature.step"),
    ],
)
def test_mistakes_name_the_setting(config_file, tmp_path, setting, words):
    with pytest.raises(UserError, match=words):
        plan_runs(load_config(config_file, [*SETTINGS, setting]), [1], tmp_path)
