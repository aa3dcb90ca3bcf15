"""One new activation, normalisation, loss and optimiser, added as CONTRIBUTING says."""

from __future__ import annotations

import numpy as np
import pytest
import theano.tensor as T
from test_encoder import TEXTS, WORDS, write

from ae_bn import Encoder, choices
from ae_bn.config import load_config
from ae_bn.data.words import count_words, weigh
from ae_bn.errors import UserError
from ae_bn.model import losses, optimizers, stages
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.fused import KERNELS
from ae_bn.randomness import streams


@stages.word
def Softplus(z):
    return T.nnet.softplus(z)


class RootMeanSquare(stages.LayerNormalization):
    def statistics(self, g, population=False):
        return 0, T.sqr(g).mean(axis=1, keepdims=True)


def absolute_error(z, out, target, weights=None):
    terms = abs(out - target)
    return (terms if weights is None else terms * weights).sum(axis=1).mean()


def sign_descent(parameters, gradients, learning_rate):
    return [(p, p - learning_rate * T.sgn(d)) for p, d in zip(parameters, gradients)]


@pytest.fixture
def added(monkeypatch):
    """Add one of each, and return the settings that choose them."""
    softplus = choices.Activation(
        lambda z: np.logaddexp(0, z), lambda mean, n: np.log(np.expm1(mean + 1 / n))
    )
    monkeypatch.setitem(choices.ACTIVATIONS, "softplus", softplus)
    monkeypatch.setitem(stages.ACTIVATIONS, "softplus", Softplus)
    root_mean_square = lambda g: (0, (g**2).mean(axis=1, keepdims=True))  # noqa: E731
    monkeypatch.setitem(choices.NORMALIZATIONS, "units_about_0", root_mean_square)
    monkeypatch.setitem(stages.NORMALIZATIONS, "units_about_0", RootMeanSquare)
    monkeypatch.setattr(choices, "LOSSES", [*choices.LOSSES, "absolute_error"])
    monkeypatch.setitem(losses.LOSSES, "absolute_error", absolute_error)
    monkeypatch.setattr(choices, "OPTIMIZERS", [*choices.OPTIMIZERS, "sign_descent"])
    monkeypatch.setitem(optimizers.OPTIMIZERS, "sign_descent", sign_descent)
    return {
        "activation": ["model.hidden_activation=softplus"],
        "output": ["model.output_activation=softplus", "model.loss=squared_error"],
        "normalisation": ["model.batch_norm.over=units_about_0", "model.batch_norm.top=true"],
        "loss": ["model.loss=absolute_error"],
        "optimiser": ["training.optimizer=sign_descent"],
        "optimiser of some rows": ["training.optimizer=sign_descent", "model.sampling=2"],
    }


NOTES = {
    "activation": ["softplus: symbolic, it has no kernel"],
    "output": ["loss: symbolic, it has no kernel", "softplus: symbolic, it has no kernel"],
    "normalisation": ["RootMeanSquare: symbolic, it has no kernel"],
    "loss": ["loss: symbolic, it has no kernel"],
    "optimiser": ["sign_descent: symbolic, it has no kernel"],
    "optimiser of some rows": ["sign_descent: symbolic, it has no kernel"],
}


@pytest.mark.parametrize("kind", NOTES)
def test_an_addition_works_at_once(float64, added, tmp_path, kind):
    """With either kernels, to the same numbers, and in the encoder without Theano."""
    config = load_config(None, ["model.layers=[4, 3]", *added[kind]])
    X = weigh(count_words(TEXTS, WORDS), "binary", np.ones(len(WORDS))).astype("float64")
    runs = []
    for kernels in KERNELS:
        run = Autoencoder(config.model, config.training.optimizer, len(WORDS), kernels)
        run.initialize(X, streams(1), 0.01, config.model.dropout)
        runs.append((run, [float(run.train(X)) for _ in range(3)]))
    (symbolic, expected), (fused, values) = runs
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    assert values[-1] != values[0]
    assert symbolic.kernels == ["symbolic"]
    machine = {"product: symbolic, there is no BLAS to link to",
               "all: one thread, the compiler has no OpenMP"}  # fmt: skip
    assert [note for note in fused.kernels if note not in machine] == ["fused", *NOTES[kind]]
    fused.update_population_statistics(X)
    codes = Encoder.load(write(tmp_path / "model.safetensors", fused, config)).transform(TEXTS)
    np.testing.assert_allclose(codes, fused.encode(X), rtol=1e-6)


def test_an_output_without_an_inverse_does_not_start_from_the_data(monkeypatch):
    monkeypatch.setitem(choices.ACTIVATIONS, "cube", choices.Activation(lambda z: z**3))
    settings = ["model.output_activation=cube", "model.loss=squared_error"]
    with pytest.raises(UserError, match="cube has no inverse .*set output_start to plain"):
        load_config(None, settings)
    load_config(None, [*settings, "model.output_start=plain"])


def test_every_choice_has_its_symbolic_twin():
    assert set(choices.ACTIVATIONS) == set(stages.ACTIVATIONS)
    assert {None, *choices.NORMALIZATIONS} == set(stages.NORMALIZATIONS)
