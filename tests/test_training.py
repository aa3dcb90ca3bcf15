"""The training loop: early stopping, divergence, repeatability, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ae_bn.config import load_config
from ae_bn.data.corpus import batches, shuffled_batches
from ae_bn.errors import UserError
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.randomness import streams
from ae_bn.training import SNAPSHOTS, Epoch, codes_observer, fit, learning_rate


def topics(n=600, n_words=60, n_topics=6, seed=0):
    """Return binary documents, (n, n_words), each from one of a few topics of ten words."""
    rng = np.random.default_rng(seed)
    p = np.full((n_topics, n_words), 0.02)
    for topic in range(n_topics):
        p[topic, topic * 10 : topic * 10 + 10] = 0.5
    return csr_matrix((rng.random((n, n_words)) < p[rng.integers(n_topics, size=n)]), dtype="f4")


X = topics()


def train(*settings, seed=1, measure_codes=None):
    config = load_config(None, ["model.layers=[8]", "training.batch_size=50", *settings])
    autoencoder = Autoencoder(
        config.model, config.training.optimizer, X.shape[1], config.theano.kernels
    )
    stream = streams(seed)
    rate, dropout = config.training.learning_rate, config.model.dropout
    autoencoder.initialize(X[:500], stream, rate, dropout)
    data, more = (autoencoder, X[:500], X[500:], config.training, stream.order), {}
    if measure_codes is not None:
        every = config.training.path_epochs
        more["observers"] = [codes_observer(measure_codes, X[:500], X[500:], every)]
        more["snapshots"] = SNAPSHOTS
    return autoencoder, fit(*data, **more)


SETTINGS = ["training.epochs=6", "training.learning_rate=.01", "model.dropout.input=.2"]


def test_same_seed_same_numbers_other_seed_others():
    losses = []
    for seed in (1, 1, 2):
        _, result = train(*SETTINGS, seed=seed)
        losses.append([(epoch.train_loss, epoch.valid_loss) for epoch in result.history])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_it_learns_topics():
    """Every optimiser ends well below the loss of the words' frequencies alone."""
    frequency = np.asarray(X[:500].mean(axis=0)).ravel()
    alone = -(
        X[500:] @ np.log(frequency)
        + (np.ones(X[500:].shape) - X[500:].toarray()) @ np.log(1 - frequency)
    ).mean()
    rates = dict(sgd=0.1, nesterov=0.02, adam=0.02)
    for optimizer, rate in rates.items():
        settings = [f"training.optimizer={optimizer}", f"training.learning_rate={rate}"]
        _, result = train(*settings, "training.epochs=15")
        assert result.history[-1].valid_loss < 0.85 * alone, optimizer


def test_batch_norm_learns_where_deep_sigmoids_do_not():
    """The post's remark on saturation: three hidden layers of sigmoids."""
    settings = ["model.layers=[12, 12]", "model.hidden_activation=sigmoid", "training.epochs=15"]
    losses = {}
    for switch in ("true", "false"):
        _, result = train(
            *settings, f"model.batch_norm.hidden={switch}", "training.learning_rate=.01"
        )
        losses[switch] = result.history[-1].valid_loss
    assert losses["true"] < 0.95 * losses["false"]


def test_the_best_epoch_is_kept():
    """A rate far too high makes later epochs worse; what is left is the best of them."""
    autoencoder, result = train(
        "training.learning_rate=.3", "training.epochs=30", "training.patience=3"
    )
    losses = [epoch.valid_loss for epoch in result.history]
    assert result.best_epoch == 1 + int(np.argmin(losses)) < len(losses) == result.best_epoch + 3
    assert autoencoder.evaluate(X[500:]) == pytest.approx(min(losses), rel=1e-6)
    before = autoencoder.get_state()
    autoencoder.update_population_statistics(X[:500])
    for name, value in autoencoder.get_state().items():  # statistics belong to the weights
        np.testing.assert_array_equal(value, before[name])


def test_divergence_ends_training_and_is_told():
    autoencoder, result = train(
        "training.optimizer=sgd",
        "training.learning_rate=1e30",
        "model.batch_norm.hidden=false",
        "model.loss=squared_error",
        "model.output_activation=linear",
    )
    assert result.diverged and len(result.history) == 1 and result.best_epoch == 0
    assert not result.history[0].train_loss < np.inf


def test_every_epoch_is_observed_once():
    seen = []

    def observer(_, epoch):
        seen.append(epoch)
        return {"number": len(seen)}

    config = load_config(None, ["model.layers=[4]", "training.epochs=3"])
    autoencoder = Autoencoder(config.model, "adam", X.shape[1], config.theano.kernels)
    stream = streams(1)
    autoencoder.initialize(X, stream, 0.01, config.model.dropout)
    result = fit(autoencoder, X, X, config.training, stream.order, [observer])
    assert seen == result.history and [epoch.epoch for epoch in seen] == [1, 2, 3]
    assert [epoch.metrics for epoch in seen] == [{"number": n} for n in (1, 2, 3)]


def a_path(*values):
    """Return a function that gives epochs their metrics of codes, in turn."""
    rest = iter(values)

    def measure(fit_codes, valid_codes):
        assert fit_codes.shape == (500, 8) and valid_codes.shape == (100, 8)
        accuracy, precision = next(rest)
        return {"valid_accuracy": accuracy, "valid_centred_precision": precision}

    return measure


def test_snapshots_are_the_weights_of_runs_stopped_there():
    """Of equal epochs the first is the best; the metrics themselves change nothing."""
    path = a_path((0.1, 0.5), (0.3, 0.6), (0.3, 0.6), (0.2, 0.2))
    _, result = train(*SETTINGS, "training.epochs=4", measure_codes=path)
    assert set(result.snapshots) == set(SNAPSHOTS)
    assert result.snapshots["accuracy"].epoch == result.snapshots["precision"].epoch == 2
    assert result.snapshots["last"].epoch == 4
    assert [epoch.metrics["valid_accuracy"] for epoch in result.history] == [0.1, 0.3, 0.3, 0.2]
    for name in ("accuracy", "last"):
        epoch, state = result.snapshots[name]
        stopped, _ = train(*SETTINGS, f"training.epochs={epoch}", "training.patience=99")
        stopped_state = train(*SETTINGS, f"training.epochs={epoch}", measure_codes=a_path(
            *[(0, 0)] * epoch))[1].snapshots["last"].state  # fmt: skip
        for key, value in state.items():
            np.testing.assert_array_equal(value, stopped_state[key])
        if stopped.evaluate(X[500:]) == pytest.approx(result.history[epoch - 1].valid_loss):
            continue
        assert result.best_epoch < epoch  # the run stopped there was put back to an earlier epoch


def test_codes_are_measured_every_so_many_epochs():
    path = a_path((0.1, 0.1), (0.2, 0.2))
    _, result = train(*SETTINGS, "training.epochs=5", "training.path_epochs=2", measure_codes=path)
    assert [bool(epoch.metrics) for epoch in result.history] == [False, True, False, True, False]
    assert result.snapshots["accuracy"].epoch == 4 and result.snapshots["last"].epoch == 5


def test_without_a_path_only_the_lowest_loss_is_kept():
    _, result = train(*SETTINGS)
    assert set(result.snapshots) == {"loss"}


def test_the_learning_rate_is_cut_on_a_plateau():
    """Worked by hand: two epochs without a new lowest loss halve it; a new lowest starts over."""
    losses = [5, 4, 4.5, 4.2, 3, 3.5, 3.5, 3.5, 3.5, 2]
    history = [Epoch(n, 0.0, loss, 0.0, {}) for n, loss in enumerate(losses, start=1)]
    settings = ["training.learning_rate=.8", "training.plateau={factor: .5, patience: 2}"]
    config = load_config(None, settings).training
    rates = [learning_rate(config, history[:n]) for n in range(len(losses) + 1)]
    assert rates == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1]


def test_training_uses_the_cut_learning_rate():
    """With a factor of almost nothing the weights stand still after the cut."""
    plateau = "training.plateau={factor: 1e-12, patience: 1}"
    high = ["training.learning_rate=.3", "training.epochs=12", "training.patience=12"]
    autoencoder, result = train(*high, plateau)
    losses = [epoch.valid_loss for epoch in result.history]
    assert len(losses) == 12
    assert losses[-1] == pytest.approx(losses[-2], rel=1e-5)
    assert autoencoder.learning_rate.get_value() < 1e-9


def test_batches_are_the_rows_in_order():
    cut = list(batches(X[:125], 50))
    assert [batch.shape for batch in cut] == [(50, 60), (50, 60)]  # 25 are left out
    for batch, start in zip(cut, (0, 50)):
        batch.check_format(full_check=True)
        np.testing.assert_array_equal(batch.toarray(), X[start : start + 50].toarray())


def test_shuffled_batches_are_the_same_however_they_are_gathered(monkeypatch):
    order = np.random.default_rng(0).permutation(125)
    expected = list(batches(X[order], 10))
    for gathered in (1, 5, 100):
        monkeypatch.setattr("ae_bn.data.corpus.GATHERED", gathered)
        cut = list(shuffled_batches(X, order, 10))
        assert len(cut) == len(expected) == 12
        for batch, same in zip(cut, expected):
            np.testing.assert_array_equal(batch.toarray(), same.toarray())


def test_more_documents_to_a_batch_than_there_are():
    with pytest.raises(UserError, match="training.batch_size: 501 .* 500 training documents"):
        train("training.batch_size=501")
