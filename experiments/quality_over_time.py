"""Plot held-out loss and probe accuracy against training time, for the dense and sampled loss.

    python experiments/quality_over_time.py
    python experiments/quality_over_time.py --epochs 3 --set data.vocabulary_size=5000

Both train the same model on 20 Newsgroups from the same initial parameters, one after the other.
After every epoch the held-out loss is taken over every word, and a logistic regression on the codes
of the training documents predicts the newsgroups of the held-out documents.  Seconds include
training and validation, but not the regression.  The program writes
``results/quality_over_time.csv`` and ``.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from ae_bn.commands.command_line import OneLineParser, check_positive, run_program
from ae_bn.files import atomic_write

RESULTS = Path("results", "quality_over_time")
PROBE_C = 0.01  # inverse regularisation strength
SETTINGS = ["data.vocabulary_size=1000000", "training.learning_rate=0.003"]


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
    parser.add_argument("--sampling", type=int, default=500, help="absent words drawn for a step")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings to change, such as model.layers=[512]",
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    check_positive(options, "epochs", "sampling")
    return options


def train(config, corpus, path: str) -> list[dict]:
    """Return a row per epoch of one training run."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from ae_bn.data.corpus import split_validation
    from ae_bn.model.autoencoder import Autoencoder
    from ae_bn.randomness import streams
    from ae_bn.training import fit

    seed, labels = config.training.seed, corpus.train_labels
    rows, held_out = split_validation(
        corpus.train.shape[0], config.data.validation_fraction, streams(seed).split
    )
    X, X_valid = corpus.train[rows], corpus.train[held_out]
    autoencoder = Autoencoder(
        config.model, config.training.optimizer, X.shape[1], config.theano.kernels
    )

    def start():
        stream = streams(seed)
        autoencoder.initialize(X, stream, config.training.learning_rate, config.model.dropout)
        return stream

    start()
    autoencoder.train(X[: config.training.batch_size])
    autoencoder.update_population_statistics(X)
    autoencoder.evaluate(X_valid)  # all is compiled now
    stream = start()

    found = []

    def report(autoencoder, epoch):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=200))
        probe.fit(autoencoder.encode(X), labels[rows])
        accuracy = probe.score(autoencoder.encode(X_valid), labels[held_out])
        found.append(
            {
                "path": path,
                "epoch": epoch.epoch,
                "seconds": epoch.seconds,
                "heldout_loss": epoch.valid_loss,
                "accuracy": accuracy,
            }
        )
        print(", ".join(f"{name} {value}" for name, value in found[-1].items()), flush=True)

    fit(autoencoder, X, X_valid, config.training, stream.order, [report])
    return found


def draw(table: pd.DataFrame) -> None:
    """Draw both measures over seconds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    from ae_bn.reporting.figures import COLORS

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    titles = {
        "heldout_loss": "held-out loss, nats per document",
        "accuracy": "probe accuracy on held-out documents",
    }
    for axes, (column, title) in zip(figure.subplots(1, 2), titles.items()):
        for (path, rows), color, style in zip(table.groupby("path"), COLORS, ("o-", "s--")):
            axes.plot(rows["seconds"], rows[column], style, color=color, markersize=4, label=path)
        axes.set(xlabel="training time, seconds (log scale)", ylabel=title, xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
        axes.legend(title="a point is an epoch")
    with atomic_write(RESULTS.with_suffix(".png"), "wb") as file:
        figure.savefig(file, format="png", dpi=150)


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)

    from ae_bn.config import load_config
    from ae_bn.data.corpus import load_corpus

    ends = [f"training.epochs={options.epochs}", f"training.patience={options.epochs}"]
    config = load_config(None, [*SETTINGS, *options.set, *ends])
    corpus, rows = load_corpus(config.data), []
    for path, sampling in (("sampled", options.sampling), ("dense", None)):
        rows += train(config.replace({"model.sampling": sampling}), corpus, path)
        table = pd.DataFrame(rows)
        with atomic_write(RESULTS.with_suffix(".csv")) as file:
            table.to_csv(file, index=False)
        draw(table)
    print(f"\n{RESULTS}.csv and .png are written")


if __name__ == "__main__":
    run_program(main, f"the runs that are done are in {RESULTS}.csv")
