"""Train on from the same weights with BN and without, with masking and without: what changes?

    python experiments/same_weights.py
    python experiments/same_weights.py --seeds 1 --epochs 5

With fixed statistics a layer with BN computes the functions of a layer without, since

    a (W*x - mean) / std + b = W'*x + b'    with W' = (a / std) W and b' = b - a mean / std.

So a network that was trained without BN is also one with BN, and the other way round.  For each
loss a network is trained to its lowest validation loss without masking, once without BN and once
with hidden BN.  From its weights four networks are trained on: without BN and with it, each with
masking .5 and without.  From the weights without BN there are more, without masking: BN whose mean
and std stay what they are at the start (`frozen`), and weight decay of four strengths (`decaying`).
The validation documents are measured after every epoch.  The program writes
``results/same_weights/results.csv`` and ``same_weights.png``.
"""

from __future__ import annotations

import argparse
import itertools
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from ae_bn.commands.command_line import OneLineParser, check_positive, run_program
from ae_bn.files import atomic_write

if TYPE_CHECKING:
    from ae_bn.config import Config
    from ae_bn.evaluation.codes import PathMeter

FOLDER = Path("results", "same_weights")
MASKING = 0.5
EPOCHS = 600  # at most, before training goes on from the same weights
TOLERANCE = 1e-4  # of the two networks' loss at the start, relative
RATES = {"cross-entropy": 0.001, "squared error": 0.0005}
BN = {"none": False, "hidden": True, "frozen statistics": True}
DECAYS = (0.001, 0.01, 0.1, 1.0)  # the penalty at the start, as a share of the loss there


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--epochs", type=int, default=60, help="epochs from the same weights")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    check_positive(options, "seeds", "epochs")
    return options


def converted(autoencoder, state: dict, X, has_bn: bool) -> dict:
    """Return the state of the other kind of network that computes the same function.

    Parameters
    ----------
    autoencoder : Autoencoder
        The network with hidden BN, or the one without, that has the state.
    state : dict of ndarray
        Its state, see `Autoencoder.get_state`.
    X : csr_matrix, (n_train, n_words)
        The training documents, whose statistics count.
    has_bn : bool
        Whether the state is of a network with hidden BN.
    """
    from ae_bn.model.variables import as_float

    autoencoder.set_state(state)
    mean, variance = autoencoder.moments(0, X)
    deviation = np.sqrt(variance + autoencoder.layers[0].batch_normalization.epsilon)
    W, b = state["layer1.W"], state["layer1.b"]
    others = {name: value for name, value in state.items() if name.startswith("layer2.")}
    if has_bn:
        gain = state["layer1.a"] / deviation
        first = {"W": W * gain, "b": b - gain * mean}
    else:
        first = {"W": W, "a": deviation, "b": b + mean, "mean": mean, "variance": variance}
    return {**others, **{f"layer1.{name}": as_float(value) for name, value in first.items()}}


def frozen(config: Config, n_words: int):
    """Return an untrained network whose BN has a constant mean and std: those of its state.

    Its functions, gradients and noise are those of a plain network, with W and b in other units:
    g' = (a / std) W*x + (b - a mean / std).  So it takes from BN only how far a step goes.
    """
    from ae_bn.model.autoencoder import Autoencoder, forward

    class Frozen(Autoencoder):
        def _forward(self, x, layers, population=False, noise=None):
            return forward(x, layers, True, noise)

        def update_population_statistics(self, X):
            pass

    return Frozen(config.model, config.training.optimizer, n_words, config.theano.kernels)


@lru_cache(maxsize=1)  # the strengths share a graph
def decaying(model: str, optimizer: str, kernels: str, many_documents: bool, n_words: int):
    """Return a network whose loss has ``strength`` * sum of all W^2 added.

    It is a function of what `ae_bn.study.compiled.graph` returns.
    """
    from ae_bn.config import ModelConfig
    from ae_bn.model.autoencoder import Autoencoder
    from ae_bn.model.variables import shared

    class Decaying(Autoencoder):
        def _loss(self, layers, signals, target, weights=None):
            squares = sum((layer.projection.W**2).sum() for layer in layers)
            return super()._loss(layers, signals, target, weights) + self.strength * squares

        def __init__(self, *settings):
            self.strength = shared(0, "strength")
            super().__init__(*settings)

    config = ModelConfig.model_validate_json(model)
    return Decaying(config, optimizer, n_words, kernels, many_documents)


class Prepared(NamedTuple):
    """What the networks of one loss and seed share."""

    config: Config  # of core, with the loss and its learning rate
    X: csr_matrix  # the training documents, (n_train, n_words)
    X_valid: csr_matrix  # the validation documents, (n_valid, n_words)
    meter: PathMeter  # measures the codes of both


def prepare(loss: str, seed: int) -> Prepared:
    """Return documents and settings; no run ends at the largest number of epochs."""
    from ae_bn.config import load_config
    from ae_bn.data.corpus import load_corpus, split_validation
    from ae_bn.evaluation.codes import PathMeter
    from ae_bn.randomness import streams

    core = load_config(Path("configs/core.yaml"))
    settings = {"training.learning_rate": RATES[loss], "training.epochs": EPOCHS}
    config = core.replace({**core.experiment.factors["loss"][loss], **settings})
    corpus = load_corpus(config.data)
    fraction = config.data.validation_fraction
    rows = split_validation(corpus.train.shape[0], fraction, streams(seed).split)
    labels = (corpus.train_labels[part] for part in rows)
    meter = PathMeter(*labels, config.model.hidden_activation)
    return Prepared(config, *(corpus.train[part] for part in rows), meter)


def run(seed: int, loss: str, epochs: int) -> list[dict]:
    """Return a row per start, continuation and epoch, of one seed and loss."""
    from ae_bn.model.variables import as_float
    from ae_bn.randomness import streams
    from ae_bn.study.compiled import compiled, graph
    from ae_bn.training import fit

    base, X, X_valid, meter = prepare(loss, seed)

    def train(bn, masking, state=None, decay=0.0):
        """Train from a state, or from the beginning; return the state and what was measured."""
        settings = {"model.batch_norm.hidden": BN[bn], "model.dropout.input": masking}
        if state is not None:
            settings.update({"training.epochs": epochs, "training.patience": epochs})
        arm = base.replace(settings)
        with network(arm, bn, decay) as autoencoder:
            stream = streams(seed)
            rate, dropout = arm.training.learning_rate, arm.model.dropout
            autoencoder.initialize(X, stream, rate, dropout)

            def measure(*_):
                return {
                    "train_loss": autoencoder.evaluate(X),
                    "valid_loss": autoencoder.evaluate(X_valid),
                    **meter(autoencoder.encode(X), autoencoder.encode(X_valid)),
                }

            if state is None:
                fit(autoencoder, X, X_valid, arm.training, stream.order)
                own = autoencoder.get_state()
                return own, converted(autoencoder, own, X, BN[bn])
            autoencoder.set_state(state)
            autoencoder.update_population_statistics(X)
            measured = [measure()]
            if decay:
                squares = sum((state[name] ** 2).sum() for name in ("layer1.W", "layer2.W"))
                strength = decay * measured[0]["train_loss"] / squares
                autoencoder.strength.set_value(as_float(strength))
            progress = fit(autoencoder, X, X_valid, arm.training, stream.order, [measure])
            return measured + [epoch.metrics for epoch in progress.history]

    @contextmanager
    def network(arm, bn, decay):
        if bn == "frozen statistics":
            yield frozen(arm, X.shape[1])
        elif decay:
            autoencoder = decaying(*graph(arm), X.shape[1])
            autoencoder.strength.set_value(as_float(0))  # until the loss at the start is known
            yield autoencoder
        else:
            with compiled(arm, X.shape[1]) as autoencoder:
                yield autoencoder

    found = []
    for start, other in (("none", "hidden"), ("hidden", "none")):
        states = dict(zip((start, other), train(start, 0.0)))
        continuations = [(*arm, 0.0) for arm in itertools.product(states, (0.0, MASKING))]
        if start == "none":
            states["frozen statistics"] = states["hidden"]
            continuations += [("frozen statistics", 0.0, 0.0)]
            continuations += [("none", 0.0, decay) for decay in DECAYS]
        first = set()
        for bn, masking, decay in continuations:
            measured = train(bn, masking, states[bn], decay)
            first.add(measured[0]["valid_loss"])
            arm = dict(loss=loss, seed=seed, start=start, bn=bn, masking=masking, decay=decay)
            found += [{**arm, "epoch": epoch, **row} for epoch, row in enumerate(measured)]
            names = ["valid_loss", "valid_accuracy", "valid_centred_precision"]
            ends = (f"{name} {measured[0][name]:.4f} -> {measured[-1][name]:.4f}" for name in names)
            print(*arm.values(), *ends, sep=", ", flush=True)
        assert max(first) - min(first) < TOLERANCE * max(first), "the starts differ"
    return found


def draw(table: pd.DataFrame) -> None:
    """Draw centred precision and accuracy over epochs, a line for each continuation."""
    from matplotlib.figure import Figure

    from ae_bn.reporting.figures import BN_COLORS, save

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    columns = {"valid_centred_precision": "centred precision", "valid_accuracy": "accuracy"}
    among = table["bn"].isin(["none", "hidden"]) & (table["decay"] == 0)
    rows = table[(table["start"] == "none") & among]
    for row, (column, label) in zip(axes, columns.items()):
        for panel, (_, of_loss) in zip(row, rows.groupby("loss")):
            for (bn, masking), arm in of_loss.groupby(["bn", "masking"]):
                line = arm.groupby("epoch")[column].mean()
                style = "--" if masking else "-"
                name = ("hidden BN" if bn == "hidden" else "no BN") + ", masking .5" * bool(masking)
                panel.plot(line.index, line, style, color=BN_COLORS[bn], label=name)
            panel.set_ylabel(f"validation {label}")
            panel.grid(alpha=0.3)
    for panel, (loss, _) in zip(axes[0], rows.groupby("loss")):
        panel.set_title(f"{loss}: masking leaves, BN stays", fontsize=10, loc="left")
    for panel in axes[1]:
        panel.set_xlabel("epochs from the same weights")
    axes[0, 0].legend()
    with atomic_write(FOLDER / "same_weights.png", "wb") as file:
        save(figure, file, dpi=110)


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    found: list[dict] = []
    for seed, loss in itertools.product(range(1, options.seeds + 1), RATES):
        found += run(seed, loss, options.epochs)
        table = pd.DataFrame(found)
        with atomic_write(FOLDER / "results.csv") as file:
            table.to_csv(file, index=False, float_format="%.5g")
    draw(table)
    print(f"\n{FOLDER}/results.csv and same_weights.png are written")


if __name__ == "__main__":
    run_program(main, f"the runs that are done are in {FOLDER}/results.csv")
