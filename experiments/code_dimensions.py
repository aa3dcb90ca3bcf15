"""How many dimensions and units do codes use after masking, and after dropout of hidden units?

    python experiments/code_dimensions.py

The program trains a network for each loss, with BN and without, with no dropout, masking .5 and
hidden dropout .5.  At the lowest validation loss it measures the *dimensions* of the training
documents' codes: (sum of l)^2 / sum of l^2, of the eigenvalues l of their covariance.  It is the
number of units if they are uncorrelated with equal variance, and 1 if all are proportional.  The
same is measured of the *outputs*, before the sigmoid: many units can carry the same few directions.
A unit is *active* in a validation document if it is above 0 there; the share of active units is a
mean over units and documents.

It writes ``results/code_dimensions/results.csv``.
"""

from __future__ import annotations

import argparse
import itertools
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from same_weights import BN, RATES, prepare

from ae_bn.commands.command_line import OneLineParser, check_positive, run_program
from ae_bn.files import atomic_write

FOLDER = Path("results", "code_dimensions")
DROPOUT = {
    "none": {},
    "masking .5": {"model.dropout.input": 0.5},
    "hidden .5": {"model.dropout.hidden": 0.5},
}


def parse_arguments(arguments, description: str = __doc__ or ""):
    parser = OneLineParser(
        description=description.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    check_positive(options, "seeds")
    return options


def dimensions(codes: np.ndarray, W: np.ndarray | None = None) -> float:
    """Return the participation ratio of the covariance's eigenvalues, of codes or of codes W.

    Parameters
    ----------
    codes : ndarray, (n, n_units)
        The codes C.
    W : ndarray, (n_units, n_words), optional
        With it, the eigenvalues are those of the covariance of C W, which are those of
        cov(C) W W^T except zeros.
    """
    covariance = np.cov(codes.T.astype(np.float64))
    if W is not None:
        covariance = covariance @ (W.astype(np.float64) @ W.T)
    return float(np.trace(covariance) ** 2 / np.trace(covariance @ covariance))


@contextmanager
def trained(loss: str, seed: int, settings: dict):
    """Give a network with settings at its lowest validation loss, and its `Prepared` documents."""
    from ae_bn.randomness import streams
    from ae_bn.study.compiled import compiled
    from ae_bn.training import fit

    prepared = prepare(loss, seed)
    config = prepared.config.replace(settings)
    with compiled(config, prepared.X.shape[1]) as autoencoder:
        stream = streams(seed)
        rate, probabilities = config.training.learning_rate, config.model.dropout
        autoencoder.initialize(prepared.X, stream, rate, probabilities)
        fit(autoencoder, prepared.X, prepared.X_valid, config.training, stream.order)
        yield autoencoder, prepared


def measure(loss: str, seed: int, bn: str, dropout: str) -> dict:
    """Return dimensions, the share of active units and the metrics of one arm."""
    settings = {"model.batch_norm.hidden": BN[bn], **DROPOUT[dropout]}
    with trained(loss, seed, settings) as (autoencoder, prepared):
        codes = autoencoder.encode(prepared.X)
        W = autoencoder.get_state()["layer2.W"]
        valid_codes = autoencoder.encode(prepared.X_valid)
    metrics = prepared.meter(codes, valid_codes)
    arm = {"loss": loss, "seed": seed, "bn": bn, "dropout": dropout}
    measured = {"dimensions": dimensions(codes), "output_dimensions": dimensions(codes, W)}
    return {**arm, **measured, "active": float((valid_codes > 0).mean()), **metrics}


def write_results(folder: Path, measure, arms) -> None:
    """Measure the arms one by one, and write all that are done after each."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for arm in arms:
        found.append(measure(*arm))
        print(*found[-1].values(), sep=", ", flush=True)
        with atomic_write(folder / "results.csv") as file:
            pd.DataFrame(found).to_csv(file, index=False, float_format="%.5g")
    print(f"\n{folder}/results.csv is written")


def main(arguments: list[str]) -> None:
    seeds = range(1, parse_arguments(arguments).seeds + 1)
    arms = itertools.product(RATES, seeds, ["none", "hidden"], DROPOUT)
    write_results(FOLDER, measure, arms)


if __name__ == "__main__":
    run_program(main, f"the runs that are done are in {FOLDER}/results.csv")
