"""Sampled reconstruction: its draws, that it is unbiased, and what a step leaves alone."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import theano
from conftest import in_numpy
from scipy.sparse import csr_matrix

from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.optimizers import OPTIMIZERS
from ae_bn.model.sampling import DrawWords
from ae_bn.randomness import streams

V = 40


def documents(n=15, n_used=18, seed=0):
    """Return documents over V words, (n, V), that use some of them."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n, V))
    X[:, rng.permutation(V)[:n_used]] = rng.random((n, n_used)) < 0.3
    return csr_matrix(X.astype(theano.config.floatX))


def started(X, *settings, optimizer="sgd", rate=1.0, kernels="symbolic"):
    config = load_config(None, ["model.layers=[4]", *(f"model.{s}" for s in settings)]).model
    autoencoder = Autoencoder(config, optimizer, V, kernels)
    autoencoder.initialize(X, streams(1), rate, config.dropout)
    return autoencoder


# The draws.


def draw(indices, n_words, n_drawn, state=(5, 0)):
    storage = [[None] for _ in range(5)]
    op, inputs = DrawWords(n_words, n_drawn), [np.array(state), np.array(indices, np.int32)]
    op.perform(op.make_node(*inputs), inputs, storage)
    return [value for (value,) in storage]


def test_words_are_those_present_and_as_many_others():
    indices = [7, 2, 2, 9, 0, 7]
    words, columns, n_present, weights, state = draw(indices, 30, 5)
    present, drawn = words[:n_present], words[n_present:]
    assert present.tolist() == [0, 2, 7, 9] and words[columns].tolist() == indices
    assert len(drawn) == 5 and not set(drawn) & set(present)
    assert sorted(set(drawn)) == drawn.tolist() and 0 <= drawn[0] and drawn[-1] < 30
    np.testing.assert_allclose(weights, [1] * 4 + [26 / 5] * 5, rtol=1e-6)
    assert state.tolist() == [5, 1]
    assert draw(indices, 30, 5)[0].tolist() == words.tolist()
    assert draw(indices, 30, 5, state)[0].tolist() != words.tolist()


def test_all_words_are_taken_if_they_are_few():
    words, _, n_present, weights, _ = draw([3, 1], 6, 100)
    assert n_present == 2 and sorted(words) == [0, 1, 2, 3, 4, 5] and (weights == 1).all()
    assert draw([2, 1, 0], 3, 4)[0].tolist() == [0, 1, 2]
    assert draw([], 3, 3)[0].tolist() == [0, 1, 2]


def test_every_absent_word_is_drawn_equally_often():
    counts, draws = np.zeros(12), 3000
    for number in range(draws):
        words, _, n_present, _, _ = draw([0, 4, 5, 11], 12, 3, (1, number))
        counts[words[n_present:]] += 1
    absent = [1, 2, 3, 6, 7, 8, 9, 10]
    assert counts[[0, 4, 5, 11]].sum() == 0
    error = np.sqrt(draws * 3 / 8 * 5 / 8)
    assert (np.abs(counts[absent] - draws * 3 / 8) < 4 * error).all()


# Loss and gradient.


def loss_and_gradients(autoencoder):
    """Return a function of a minibatch: the loss, and the gradients of the whole parameters."""
    gradients = [variable - new for variable, new in autoencoder._updates]  # sgd with rate 1
    return theano.function(autoencoder._inputs, [autoencoder._batch_loss, *gradients])


@pytest.mark.parametrize(
    "settings",
    [
        ("hidden_activation=tanh",),
        ("loss=squared_error", "output_activation=linear", "batch_norm.hidden=false"),
        ("tied=true", "layers=[5, 3]", "loss=squared_error", "output_activation=relu"),
        ("batch_norm.top=true",),
        ("batch_norm.top=true", "batch_norm.shift=false", "batch_norm.center=false"),
    ],
)
def test_loss_and_gradient_are_unbiased(float64, settings):
    """Their means over many draws are those of the dense step, within the standard error."""
    X = documents()
    inputs = X.data, X.indices, X.indptr
    dense, sampled = started(X, *settings), started(X, *settings, "sampling=6")
    rng = np.random.default_rng(2)
    state = {n: v + rng.normal(0, 0.3, v.shape) for n, v in dense.get_state().items()}
    dense.set_state(state)
    sampled.set_state(state)
    expected = loss_and_gradients(dense)(*inputs)
    function, n = loss_and_gradients(sampled), 400
    draws = [[np.array(v) for v in function(*inputs)] for _ in range(n)]
    for values, value in zip(map(np.array, zip(*draws)), expected):
        value = value.T if value.shape != values.shape[1:] else value
        error = values.std(axis=0) / np.sqrt(n)
        assert error.max() > 0
        assert (np.abs(values.mean(axis=0) - value) < 5 * error + 1e-10).all()


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
@pytest.mark.parametrize("switch", ["tied=false", "tied=true", "batch_norm.top=true"])
def test_with_all_words_it_is_the_dense_step(float64, kernels, switch):
    """For every optimiser, where every word is in every minibatch."""
    X = documents(n=60, n_used=V)
    assert (np.diff(X.tocsc().indptr) > 0).all()
    for optimizer in OPTIMIZERS:
        runs = []
        for sampling in ("null", "1"):
            settings = (switch, f"sampling={sampling}", "hidden_activation=tanh")
            run = started(X, *settings, optimizer=optimizer, rate=0.01, kernels=kernels)
            runs.append((run, [float(run.train(X)) for _ in range(3)]))
        (dense, losses), (sampled, same) = runs
        np.testing.assert_allclose(same, losses, rtol=1e-9)
        assert sampled.get_state().keys() == dense.get_state().keys()
        for name, value in dense.get_state().items():
            np.testing.assert_allclose(sampled.get_state()[name], value, 1e-6, 1e-9)


@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
def test_other_rows_and_their_state_stay(float64, kernels):
    X = documents()
    autoencoder = started(X, "sampling=3", optimizer="adam", rate=0.01, kernels=kernels)
    present = np.unique(X.indices)
    for _ in range(2):
        before = autoencoder.get_state(training=True)
        autoencoder.train(X)
        after = autoencoder.get_state(training=True)
        differs = {name: after[name] != before[name] for name in before if name != "layer2.W"}
        by_word = {name: d.T if d.ndim and len(d) != V else d for name, d in differs.items()}
        changed = {
            name: np.flatnonzero(d.reshape(V, -1).any(axis=1))
            for name, d in by_word.items()
            if d.ndim and len(d) == V
        }
        assert changed.pop("layer1.W").tolist() == present.tolist()
        assert len(changed) == 2 * 2 + 2 + 1  # m and v of both W and of b, and b
        for rows in changed.values():
            assert len(rows) in (len(present), len(present) + 3)
        (columns,) = np.nonzero((after["layer2.W"] != before["layer2.W"]).any(axis=0))
        assert len(columns) == len(present) + 3 and set(present) <= set(columns)


def test_kernels_and_definition_train_alike():
    X = documents()
    for settings in [
        ("dropout.input=0.3", "dropout.hidden=0.2", "batch_norm.top=true"),
        ("tied=true", "layers=[5, 3]"),
    ]:
        losses, states = [], []
        for kernels in ("symbolic", "fused"):
            with in_numpy("float32") if kernels == "symbolic" else nullcontext():
                run = started(
                    X, *settings, "sampling=5", optimizer="nesterov", rate=0.01, kernels=kernels
                )
                losses.append([float(run.train(X)) for _ in range(20)])
                states.append(run.get_state())
        np.testing.assert_allclose(*losses, rtol=1e-4)
        for name, value in states[0].items():
            np.testing.assert_allclose(states[1][name], value, 1e-3, 1e-4)


def test_the_model_is_the_dense_one(float64):
    """It starts from the same numbers, and what it is trained to another one can use."""
    X = documents()
    dense, sampled = started(X), started(X, "sampling=5", rate=0.1)
    for name, value in dense.get_state().items():
        np.testing.assert_array_equal(sampled.get_state()[name], value)
    for _ in range(5):
        sampled.train(X)
    sampled.update_population_statistics(X)
    dense.set_state(sampled.get_state())
    np.testing.assert_allclose(sampled.evaluate(X), dense.evaluate(X), rtol=1e-12)
    np.testing.assert_allclose(sampled.reconstruct(X), dense.reconstruct(X), rtol=1e-12)


def test_training_goes_on_from_its_state(float64):
    X = documents()
    autoencoder = started(X, "sampling=5", optimizer="adam", rate=0.01)
    autoencoder.train(X)
    state = autoencoder.get_state(training=True)
    losses = [float(autoencoder.train(X)) for _ in range(3)]
    autoencoder.set_state(state, training=True)
    assert [float(autoencoder.train(X)) for _ in range(3)] == losses
    assert len(set(losses)) == 3


def test_at_least_one_word_is_drawn():
    with pytest.raises(UserError, match="model.sampling: .*greater than or equal to 1"):
        load_config(None, ["model.sampling=0"])
