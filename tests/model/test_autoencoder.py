"""The graph as a whole: modes, noise, weights, start of the output, population statistics."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import theano
import theano.sparse as sparse
import theano.tensor as T
from scipy.sparse import csr_matrix, vstack

from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.evaluation.observations import observe
from ae_bn.model import initialization
from ae_bn.model.autoencoder import CHUNK, Autoencoder, forward
from ae_bn.model.building import build_layers
from ae_bn.randomness import streams


def model(*settings, layers="[4]"):
    return load_config(None, [f"model.layers={layers}", *(f"model.{s}" for s in settings)]).model


def started(config, X, seed=1, optimizer="adam", learning_rate=0.01, kernels="fused"):
    autoencoder = Autoencoder(config, optimizer, X.shape[1], kernels)
    autoencoder.initialize(X, streams(seed), learning_rate, config.dropout)
    return autoencoder


def randomize(autoencoder):
    """Give all parameters and statistics values that nothing is special about."""
    rng = np.random.default_rng(7)
    state = {
        name: rng.uniform(0.5, 1.5, value.shape).astype(value.dtype) * (-1 if "b" in name else 1)
        for name, value in autoencoder.get_state().items()
    }
    autoencoder.set_state(state)
    return state


ALL_BN = ["batch_norm.hidden=true", "batch_norm.top=true"]
COMPETITION = ["competition={k: 3, alpha: 6.26}", "hidden_activation=tanh"]
OVER_UNITS = ["batch_norm.over=units"]
MULTINOMIAL = ["loss=multinomial", "output_activation=softmax"]


# Loss and gradients computed once with PyTorch 2.13.0 in float64 (functional.batch_norm with
# eps=1e-5 in training mode, relu, binary_cross_entropy_with_logits summed over words).
X_FIXED = np.array([[1.0, 0, 1, 0, 0], [0, 1, 1, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]])
FIXED = {
    "layer1.W": np.sin(np.arange(15.0)).reshape(5, 3),
    "layer1.a": [1.0, 0.5, 2.0],
    "layer1.b": [0.1, -0.2, 0.3],
    "layer2.W": np.cos(np.arange(15.0)).reshape(3, 5),
    "layer2.a": [1.0, 0.5, 2.0, 1.5, 0.8],
    "layer2.b": [0.1, -0.2, 0.3, 0.0, 0.5],
}
FIXED_LOSS = 3.623852671143
FIXED_GRADIENTS = {
    "layer1.W": [
        [-1.204931286283, -0.003005107137, 0.313829172998],
        [-1.502227916778, 0.014204404978, -0.308990371872],
        [-0.619316805117, 0.009652900498, -0.183432298262],
        [1.663238004089, -0.010426099170, 0.089296748569],
        [1.204931286283, 0.003005107137, -0.313829172998],
    ],
    "layer1.a": [-0.262510818440, -0.169586170895, 0.156555659982],
    "layer1.b": [0.150295357264, -0.101126713972, -0.003515935237],
    "layer2.W": [
        [-0.097073709899, -0.224041810519, 0.065480797911, 0.062731428428, -0.091787026531],
        [-0.043945977798, 0.124053130244, 0.029392504043, 0.001621818429, 0.211975354872],
        [-0.130550055117, 0.440271267545, 0.006031421240, 0.068700727372, 0.973658134049],
    ],
    "layer2.a": [0.284803000572, 0.178160427056, -0.099116473967, 0.442780982985, -0.105870914366],
    "layer2.b": [0.024560621430, -0.046444739653, -0.004419037533, 0.236389020466, 0.110920772100],
}


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
def test_loss_and_gradients_against_pytorch(float64, kernels):
    """One step of gradient descent moves every parameter by PyTorch's gradient."""
    X = csr_matrix(X_FIXED)
    config = model(*ALL_BN, layers="[3]")
    autoencoder = started(config, X, optimizer="sgd", learning_rate=1, kernels=kernels)
    state = autoencoder.get_state()
    state.update((name, np.array(value)) for name, value in FIXED.items())
    autoencoder.set_state(state)
    np.testing.assert_allclose(autoencoder.train(X), FIXED_LOSS, rtol=1e-11)
    after = autoencoder.get_state()
    for name, gradient in FIXED_GRADIENTS.items():
        np.testing.assert_allclose(FIXED[name] - after[name], gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
@pytest.mark.parametrize("tied", ["false", "true"])
@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        "squared_error",
        "multinomial & output_activation=softmax",
        "cross_entropy & batch_norm.over=units",
        "cross_entropy & competition={k: 2, alpha: 6.26}",
    ],
)
def test_gradients_against_finite_differences(float64, documents, tied, loss, kernels):
    """Along a random direction, through two hidden layers and BN everywhere; no kinks in tanh."""
    documents = documents.astype("float64")
    settings = [f"tied={tied}", *f"loss={loss}".split(" & "), "hidden_activation=tanh", *ALL_BN]
    config = model(*settings, layers="[5, 3]")
    autoencoder = started(config, documents, optimizer="sgd", kernels=kernels)
    randomize(autoencoder)
    before = autoencoder.get_state()
    autoencoder.learning_rate.set_value(1.0)
    autoencoder.train(documents)
    gradient = {name: before[name] - value for name, value in autoencoder.get_state().items()}
    rng, step = np.random.default_rng(3), 1e-5
    direction = {name: rng.normal(size=value.shape) for name, value in before.items()}
    autoencoder.learning_rate.set_value(0.0)

    def loss_at(distance):
        autoencoder.set_state({n: v + distance * direction[n] for n, v in before.items()})
        return autoencoder.train(documents)

    slope = sum((gradient[name] * direction[name]).sum() for name in before)
    assert loss_at(step) != loss_at(-step)
    np.testing.assert_allclose(slope, (loss_at(step) - loss_at(-step)) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        ["batch_norm.gradient=constant"],
        ["batch_norm.gradient=rate_per_unit", "batch_norm.scale=false"],
        MULTINOMIAL,
        [*MULTINOMIAL, "batch_norm.top=true"],
        [*MULTINOMIAL, "batch_norm.hidden=false"],
        [*MULTINOMIAL, "batch_norm.hidden=false", "batch_norm.top=true"],
        [*COMPETITION, "dropout.input=.3", "dropout.hidden=.2"],
        [*COMPETITION, "layers=[5, 4]", "batch_norm.hidden=false", "tied=true"],
        [*OVER_UNITS],
        [*OVER_UNITS, "layers=[5, 4]", "hidden_activation=tanh"],
        [*OVER_UNITS, "batch_norm.top=true"],
        [*OVER_UNITS, "batch_norm.top=true", "batch_norm.hidden=false", *MULTINOMIAL],
        [*OVER_UNITS, "batch_norm.top=true", "loss=squared_error", "output_activation=linear"],
        ["batch_norm.top=true", "batch_norm.scale=false"],
        ["batch_norm.top=true", "batch_norm.shift=false", "output_start=plain"],
        ["hidden_activation=sigmoid", "dropout.input=.3", "dropout.hidden=.2"],
    ],
    ids=" ".join,
)
def test_symbolic_and_fused_agree(float64, documents, settings):
    """In training, evaluation, observation, and what is kept."""
    documents, results = documents.astype("float64"), []
    for kernels in ("symbolic", "fused"):
        config = model("batch_norm.hidden=true", *settings)
        autoencoder = started(config, documents, optimizer="nesterov", kernels=kernels)
        losses = [float(autoencoder.train(documents[i : i + 20])) for i in (0, 20, 0)]
        autoencoder.update_population_statistics(documents)
        results.append([losses, autoencoder.evaluate(documents)])
        results[-1] += [*observe(autoencoder, documents).values()]
        results[-1] += [*autoencoder.get_state(training=True).values()]
    for symbolic, fused in zip(*results):
        np.testing.assert_allclose(symbolic, fused, rtol=1e-4, atol=1e-5)


def test_a_plain_start_is_one_and_zero(documents):
    autoencoder = started(model(*ALL_BN, "output_start=plain"), documents)
    state = autoencoder.get_state()
    assert (state["layer2.a"] == 1).all() and (state["layer2.b"] == 0).all()


def test_observation_is_of_the_batch(float64, documents):
    """Standardised pre-activations of a batch: mean 0, and percentiles to match."""
    X = documents.astype("float64")
    autoencoder = started(model("batch_norm.hidden=true"), X, kernels="symbolic")
    W = autoencoder.get_state()["layer1.W"]
    before = autoencoder.get_state(training=True)
    observed = observe(autoencoder, X)
    g = X @ W
    z = (g - g.mean(axis=0)) / np.sqrt(g.var(axis=0) + 1e-5)
    for percent in (15, 50, 85):
        assert observed[f"z1_p{percent}"] == pytest.approx(np.percentile(z, percent))
    assert "saturated1" not in observed  # ReLU has no bounds
    assert observed["gradient1"] > 0 and observed["gradient2"] > 0
    for name, value in autoencoder.get_state(training=True).items():
        np.testing.assert_array_equal(value, before[name])


def test_sparse_and_dense_input_agree(float64, documents):
    config = model(*ALL_BN)
    layers = build_layers(config, documents.shape[1], "symbolic")
    rng = np.random.default_rng(0)
    for layer in layers:
        layer.projection.W.set_value(rng.normal(size=layer.projection.W.get_value().shape))
    x, s = T.matrix(), sparse.csr_matrix(dtype="float64")
    from_dense = theano.function([x], forward(x, layers)[-1].out)(documents.toarray())
    from_sparse = theano.function([s], forward(s, layers)[-1].out)(documents.astype("float64"))
    np.testing.assert_allclose(from_sparse, from_dense, rtol=1e-10)


def test_one_row_equals_a_batch(documents):
    autoencoder = started(model(*ALL_BN), documents)
    randomize(autoencoder)
    codes, outputs = autoencoder.encode(documents), autoencoder.reconstruct(documents)
    assert codes.shape == (40, 4) and outputs.shape == (40, 12)
    for row in (0, 3, 39):  # 3 is empty
        np.testing.assert_allclose(autoencoder.encode(documents[row])[0], codes[row], rtol=1e-5)
        np.testing.assert_allclose(
            autoencoder.reconstruct(documents[row])[0], outputs[row], rtol=1e-5
        )


def test_unsorted_rows_are_sorted(documents):
    autoencoder = started(model("batch_norm.hidden=false"), documents)
    X = csr_matrix((documents.data, documents.indices.copy(), documents.indptr), documents.shape)
    for start, end in zip(X.indptr, X.indptr[1:]):
        X.indices[start:end] = X.indices[start:end][::-1]
    X.has_sorted_indices = False
    np.testing.assert_array_equal(autoencoder.encode(X), autoencoder.encode(documents))


def test_long_indices_and_other_formats_are_read(documents):
    """As of a corpus with more stored words than 32 bits count; only a chunk's must fit."""
    autoencoder = started(model("batch_norm.hidden=false"), documents)
    expected, losses = autoencoder.encode(documents), autoencoder.evaluate(documents)
    X = documents.copy()
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    for given in (X, documents.tocsc(), documents.astype(np.float64)):
        np.testing.assert_array_equal(autoencoder.encode(given), expected)
        assert autoencoder.evaluate(given) == losses


def test_chunks_do_not_show(documents):
    many = vstack([documents] * 60, format="csr")
    assert many.shape[0] > 2 * CHUNK
    autoencoder = started(model(*ALL_BN), documents)
    autoencoder.update_population_statistics(many)
    np.testing.assert_allclose(
        autoencoder.encode(many)[-40:], autoencoder.encode(documents), rtol=1e-5
    )
    np.testing.assert_allclose(
        autoencoder.evaluate(many), autoencoder.evaluate(documents), rtol=1e-5
    )


def test_population_statistics_are_those_of_all_documents_lower_layers_first(documents):
    many = vstack([documents[:25]] * 70 + [documents], format="csr")  # several uneven chunks
    autoencoder = started(model(*ALL_BN, layers="[6, 4]"), many)
    autoencoder.update_population_statistics(many)
    state = autoencoder.get_state()
    out = many.toarray().astype(np.float64)
    for number in range(1, 5):
        g = out @ state[f"layer{number}.W"]
        mean, variance = g.mean(axis=0), g.var(axis=0)
        np.testing.assert_allclose(state[f"layer{number}.mean"], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state[f"layer{number}.variance"], variance, rtol=1e-4)
        h = (g - mean) / np.sqrt(variance + 1e-5)
        out = np.maximum(0, state[f"layer{number}.a"] * h + state[f"layer{number}.b"])


@pytest.mark.parametrize("tied", [False, True])
def test_population_statistics_of_outputs_follow_from_the_codes(documents, tied):
    many = vstack([documents[:25]] * 70 + [documents], format="csr")  # several uneven chunks
    autoencoder = started(model(*ALL_BN, f"tied={tied}", layers="[5]"), many)
    state = randomize(autoencoder)
    state["layer1.W"][:, 0] = 0  # one unit's code is constant
    if not tied:
        state["layer2.W"][1:, 3] = 0  # and so is what one output gets
    autoencoder.set_state(state)
    autoencoder.update_population_statistics(many)
    found = autoencoder.get_state()
    W = found["layer1.W"].T if tied else found["layer2.W"]
    g = autoencoder.encode(many).astype(np.float64) @ W
    np.testing.assert_allclose(found["layer2.mean"], g.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["layer2.variance"], g.var(axis=0), rtol=1e-6, atol=1e-14)
    assert np.isclose(g.var(axis=0), 0).sum() == (0 if tied else 1)


def test_training_ignores_population_statistics(documents):
    """They are NaN, and stay so, while training is finite."""
    autoencoder = started(model(*ALL_BN), documents)
    for _ in range(3):
        assert np.isfinite(autoencoder.train(documents))
    state = autoencoder.get_state()
    for name, value in state.items():
        statistic = name.endswith(("mean", "variance"))
        assert np.isnan(value).all() if statistic else np.isfinite(value).all(), name
    assert np.isnan(autoencoder.encode(documents)).all()


@pytest.mark.parametrize("rows", [slice(0, 1), slice(3, 4)], ids=["one row", "one empty row"])
def test_batch_of_one_trains_to_finite_weights(documents, rows):
    autoencoder = started(model(*ALL_BN), documents)
    assert np.isfinite(autoencoder.train(documents[rows]))
    for parameter in autoencoder.parameters:
        assert np.isfinite(parameter.get_value()).all()


def test_constant_words_and_empty_documents_train_to_finite_weights(documents):
    X = documents.toarray()
    X[:, 0], X[:, 1] = 1, 0
    for settings in (ALL_BN, [*ALL_BN, "loss=squared_error", "output_activation=linear"]):
        X_sparse = csr_matrix(X)
        autoencoder = started(model(*settings), X_sparse)
        for _ in range(5):
            assert np.isfinite(autoencoder.train(X_sparse))
        autoencoder.update_population_statistics(X_sparse)
        assert np.isfinite(autoencoder.reconstruct(X_sparse)).all()


def test_output_starts_from_the_data(documents):
    X = documents.toarray().astype(np.float64)
    smoothed = (X.sum(axis=0) + 0.5) / 41
    linear = ["loss=squared_error", "output_activation=linear"]
    for settings in ([], ["batch_norm.top=true"]):
        state = started(model(*settings), documents).get_state()
        np.testing.assert_allclose(state["layer2.b"], np.log(smoothed / (1 - smoothed)), rtol=1e-5)
        state = started(model(*settings, *linear), documents).get_state()
        np.testing.assert_allclose(state["layer2.b"], X.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(state["layer2.a"], X.std(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(state["layer1.a"], np.ones(4))
    np.testing.assert_array_equal(state["layer1.b"], np.zeros(4))


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
def test_a_multinomial_output_starts_from_the_words_shares(documents, kernels):
    """Before W adds to it, a reconstruction is the share of each word of the training data."""
    X = documents.toarray().astype(np.float64)
    smoothed = X.sum(axis=0) + 0.5
    autoencoder = started(
        model(*MULTINOMIAL, "batch_norm.hidden=false"), documents, kernels=kernels
    )
    state = autoencoder.get_state()
    np.testing.assert_allclose(state["layer2.b"], np.log(smoothed / smoothed.sum()), rtol=1e-5)
    autoencoder.set_state({**state, "layer2.W": 0 * state["layer2.W"]})
    shares = np.tile(smoothed / smoothed.sum(), (40, 1))
    np.testing.assert_allclose(autoencoder.reconstruct(documents), shares, rtol=1e-5)
    expected = -(X * np.log(shares)).sum(axis=1).mean()
    assert autoencoder.evaluate(documents) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("switch", ["hidden=false", "hidden=true", "top=true"])
@pytest.mark.parametrize("size", [0.01, 1])
def test_a_linear_output_starts_no_wider_than_the_data(documents, switch, size):
    """Small documents make the output narrow without BN: it is left so, but never widened."""
    X = documents * np.float32(size)
    settings = ["loss=squared_error", "output_activation=linear", f"batch_norm.{switch}"]
    autoencoder = started(model(*settings, layers="[50]"), X)
    autoencoder.update_population_statistics(X)
    width = autoencoder.reconstruct(X).std(axis=0) / X.toarray().std(axis=0)
    assert width.max() < 1.01
    if switch == "top=true":
        np.testing.assert_allclose(width, 1, rtol=0.07)  # epsilon counts where g is narrow
    limit = np.sqrt(6 / (50 + 12))
    assert np.abs(autoencoder.get_state()["layer2.W"]).max() <= limit


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
def test_over_units_no_document_depends_on_another(documents, kernels):
    """The loss of a minibatch is the mean of its documents' own, in training and evaluation."""
    config = model(*ALL_BN, *OVER_UNITS, layers="[6, 4]")
    autoencoder = started(config, documents, learning_rate=0, kernels=kernels)
    assert not [name for name in autoencoder.get_state() if name.endswith(("mean", "variance"))]
    single = np.mean([autoencoder.train(documents[row]) for row in range(40)])
    assert autoencoder.train(documents) == pytest.approx(single, rel=1e-5)
    autoencoder.update_population_statistics(documents)
    assert autoencoder.evaluate(documents) == pytest.approx(single, rel=1e-5)
    assert autoencoder.kernels == [kernels]


def test_a_linear_output_over_units_starts_no_wider_than_the_data_on_average(documents):
    settings = ["loss=squared_error", "output_activation=linear", *ALL_BN, *OVER_UNITS]
    autoencoder = started(model(*settings, layers="[50]"), documents)
    ratio = autoencoder.reconstruct(documents).var(axis=0) / documents.toarray().var(axis=0)
    assert 0.1 < ratio.mean() < 1.01


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
@pytest.mark.parametrize(
    "settings",
    [[], ["loss=squared_error", "output_activation=linear"], MULTINOMIAL],
    ids=["cross_entropy", "squared_error", "multinomial"],
)
def test_batch_norm_of_the_output_alone(documents, settings, kernels):
    """Start, training, population statistics and evaluation, the latter against NumPy."""
    config = model(*settings, "batch_norm.hidden=false", "batch_norm.top=true")
    autoencoder = started(config, documents, kernels=kernels)
    names = sorted(autoencoder.get_state())
    top = [f"layer2.{name}" for name in ("W", "a", "b", "mean", "variance")]
    assert names == ["layer1.W", "layer1.b", *top]
    losses = [float(autoencoder.train(documents)) for _ in range(60)]
    assert losses[-1] < 0.9 * losses[0]
    autoencoder.update_population_statistics(documents)
    state, X = autoencoder.get_state(), documents.toarray().astype(float)
    code = np.maximum(0, X @ state["layer1.W"] + state["layer1.b"])
    np.testing.assert_allclose(autoencoder.encode(documents), code, rtol=1e-4, atol=1e-5)
    g = code @ state["layer2.W"]
    np.testing.assert_allclose(state["layer2.mean"], g.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["layer2.variance"], g.var(axis=0), rtol=1e-4)
    h = (g - g.mean(axis=0)) / np.sqrt(g.var(axis=0) + 1e-5)
    z = state["layer2.a"] * h + state["layer2.b"]
    expected = {
        "cross_entropy": 1 / (1 + np.exp(-z)),
        "squared_error": z,
        "multinomial": np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    }[config.loss]
    np.testing.assert_allclose(autoencoder.reconstruct(documents), expected, rtol=1e-3, atol=1e-5)
    # With all documents in one minibatch both kinds of statistics are the same.
    now = autoencoder.evaluate(documents)
    assert autoencoder.train(documents) == pytest.approx(now, rel=1e-4)


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
def test_units_compete_in_training_only(documents, kernels):
    config = model("batch_norm.hidden=false", *COMPETITION, layers="[6]")
    autoencoder = started(config, documents, kernels=kernels)
    state, X = autoencoder.get_state(), documents.toarray().astype(float)
    code = np.tanh(X @ state["layer1.W"] + state["layer1.b"])
    np.testing.assert_allclose(autoencoder.encode(documents), code, rtol=1e-4, atol=1e-6)

    def loss(codes):
        z = codes @ state["layer2.W"] + state["layer2.b"]
        return (np.logaddexp(0, z) - X * z).sum(axis=1).mean()

    competed = np.zeros_like(code)
    for row, after in zip(code, competed):
        for sign, number in ((1, 2), (-1, 1)):
            order = [j for j in np.argsort(-sign * row) if sign * row[j] > 0]
            after[order[:number]] = row[order[:number]] + 6.26 * row[order[number:]].sum()
    assert autoencoder.evaluate(documents) == pytest.approx(loss(code), rel=1e-5)
    assert autoencoder.train(documents) == pytest.approx(loss(competed), rel=1e-5)
    assert autoencoder.kernels == [kernels]


def test_a_layer_without_batch_norm_is_the_plain_layer(documents):
    autoencoder = started(model("batch_norm.hidden=false", "batch_norm.shift=false"), documents)
    state = randomize(autoencoder)
    assert sorted(state) == ["layer1.W", "layer1.b", "layer2.W", "layer2.b"]
    expected = np.maximum(0, documents @ state["layer1.W"] + state["layer1.b"])
    np.testing.assert_allclose(autoencoder.encode(documents), expected, rtol=1e-4, atol=1e-6)


def test_tied_weights_are_one_matrix(documents):
    autoencoder = started(model("tied=true"), documents)
    assert [name for name in autoencoder.get_state() if name.endswith("W")] == ["layer1.W"]
    state = randomize(autoencoder)
    code = autoencoder.encode(documents)
    logits = code @ state["layer1.W"].T + state["layer2.b"]
    np.testing.assert_allclose(
        autoencoder.reconstruct(documents), 1 / (1 + np.exp(-logits)), rtol=1e-4
    )


def test_moments_are_taken_in_parts(documents, monkeypatch):
    """Of no more documents at a time than memory is sure to hold."""
    X, multiply, read = documents, csr_matrix.multiply, []

    def noted(part, other):
        read.append(part.shape[0])
        return multiply(part, other)

    monkeypatch.setattr(initialization, "READ", 15)
    monkeypatch.setattr(csr_matrix, "multiply", noted)
    mean, deviation = initialization.word_moments(X)
    assert read == [15, 15, 10]
    np.testing.assert_allclose(mean, X.toarray().mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, X.toarray().std(axis=0), rtol=1e-5, atol=1e-7)


def test_only_needed_statistics_are_compiled(documents):
    autoencoder = started(model("batch_norm.top=true", "batch_norm.hidden=false"), documents)
    compiled = autoencoder._moments.compiled
    assert not compiled
    autoencoder.update_population_statistics(documents)
    assert list(compiled) == [1]


COUNT_COMPILED = """
import numpy, scipy.sparse
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.config import load_config
from ae_bn.randomness import streams
from theano.link.c.basic import get_module_cache
config = load_config(None, ["model.dropout.input=.5", "model.dropout.hidden=.5"]).model
autoencoder = Autoencoder(config, "adam", 12, "fused")
X = scipy.sparse.csr_matrix(numpy.eye(12, dtype="f4"))
autoencoder.initialize(X, streams(1), 0.1, config.dropout)
autoencoder.train(X)
print(get_module_cache().stats[2])  # modules compiled, not loaded
"""


def test_a_second_process_compiles_nothing():
    """Whatever salt its hashes have."""
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        compiled = subprocess.check_output(
            [sys.executable, "-c", COUNT_COMPILED], env=environment, text=True
        )
    assert int(compiled) == 0


# Dropout


def test_masking_noise_touches_stored_words_only(documents):
    autoencoder = started(model("dropout.input=0.5"), documents, kernels="symbolic")
    noisy_input = autoencoder._batch[0].g.owner.inputs[0]  # what the first projection gets
    noisy = theano.function(autoencoder._inputs, noisy_input)
    parts = documents.data, documents.indices, documents.indptr
    draws = np.array([noisy(*parts).toarray() for _ in range(200)])
    assert set(np.unique(draws)) == {0, 2}  # dropped, or kept and divided by .5
    np.testing.assert_array_equal(draws[:, documents.toarray() == 0], 0)
    kept = (draws[:, documents.toarray() > 0] > 0).mean()
    assert abs(kept - 0.5) < 0.01  # 20,000 draws: standard error .0035


def test_dropout_is_off_outside_training(documents):
    plain = started(model(), documents)
    noisy = started(model("dropout.input=0.5", "dropout.hidden=0.5"), documents)
    for autoencoder in (plain, noisy):
        autoencoder.update_population_statistics(documents)
    np.testing.assert_array_equal(noisy.encode(documents), plain.encode(documents))
    assert noisy.evaluate(documents) == plain.evaluate(documents)
    assert noisy.train(documents) != plain.train(documents)


def test_dropout_changes_no_other_stream(documents):
    plain, noisy = streams(4), streams(4)
    for setting, stream in (("0", plain), ("0.5", noisy)):
        config = model(f"dropout.input={setting}", f"dropout.hidden={setting}")
        autoencoder = Autoencoder(config, "adam", 12, "fused")
        autoencoder.initialize(documents, stream, 0.01, config.dropout)
        state = autoencoder.get_state()
        if setting == "0":
            first = state
    for name in first:
        np.testing.assert_array_equal(first[name], state[name])
    assert plain.order.random() == noisy.order.random()
    assert plain.split.random() == noisy.split.random()


def test_a_second_initialize_repeats_the_first_run(documents):
    """Parameters, optimiser state and masks all start again: nothing is left of the first run."""
    config = model("dropout.input=0.3", "dropout.hidden=0.3", *ALL_BN)
    autoencoder = Autoencoder(config, "adam", 12, "fused")
    runs = []
    for seed in (1, 2, 1):
        autoencoder.initialize(documents, streams(seed), 0.01, config.dropout)
        runs.append([float(autoencoder.train(documents)) for _ in range(5)])
    assert runs[0] == runs[2] != runs[1]


def test_nothing_of_a_diverged_run_is_left(documents):
    config = model("batch_norm.hidden=false")
    fresh = started(config, documents)
    used = started(config, documents)
    for state, _ in used._updates:
        state.set_value(state.get_value() * np.float32(np.nan))
    used.initialize(documents, streams(1), 0.01, config.dropout)
    for _ in range(3):
        assert used.train(documents) == fresh.train(documents)


def test_wrong_documents_are_named():
    autoencoder = Autoencoder(model(), "sgd", 12, "fused")
    with pytest.raises(UserError, match=r"\(2, 5\).*12 words"):
        autoencoder.encode(np.ones((2, 5)))
    with pytest.raises(UserError, match=r"\(0, 12\)"):
        autoencoder.evaluate(csr_matrix((0, 12)))
