"""Made-up runs of the core experiment, whose effects are known."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from ae_bn.reporting.settings import MASKING, NONE, PLACEMENTS, RATES


def block(
    accuracy, seeds=3, name="A", loss="cross-entropy", noise=0.0, rates=RATES, about=MASKING,
    dropouts=None,
):  # fmt: skip
    """Return runs of which ``accuracy(bn, dropout, rate)`` is the accuracy, plus noise."""
    draw = np.random.default_rng([len(name), len(about)])
    rows, dropouts = [], dropouts or [NONE, about]
    for seed, bn, dropout, rate in itertools.product(range(seeds), PLACEMENTS, dropouts, rates):
        value = accuracy(bn, dropout, rate) + noise * draw.normal()
        path = {
            "epoch": [1, 2, 3],
            "valid_loss": [90.0, 80.0 - 1000 * rate, 70.0 - 1000 * rate],
            "valid_accuracy": [value - 0.1, value, value + 0.1],
            "valid_precision": [0.1, 0.2, 0.3],
            "valid_centred_precision": [0.1, 0.2, 0.3],
        }
        for snapshot in ("loss", "accuracy", "precision", "last"):
            rows.append(
                {
                    "bn": bn, "dropout": dropout, "learning_rate": rate, "seed": seed,
                    "snapshot": snapshot, "run": f"{name}{loss}{seed}{bn}{dropout}{rate}",
                    "path": path, "about": about, "name": name, "setting": f"{name}, {loss}",
                    "corpus": name, "pooled": True, "is_equal": rate in RATES, "loss": loss,
                    "test_loss": 70 - 1000 * rate, "log_loss": 100 * np.log(70 - 1000 * rate),
                    "probe_accuracy": value, "centred_precision": 0.2, "raw_precision": 0.1,
                    "valid_loss": 70 - 1000 * rate, "valid_accuracy": value,
                    "valid_centred_precision": 0.2,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
