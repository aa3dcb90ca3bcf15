"""Made-up runs of the core experiment, whose effects are known."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from ae_bn.reporting.estimands import RATES

PLACEMENTS = ["none", "hidden", "output", "hidden + output"]
MASKINGS = ["none", "masking .5"]


def block(accuracy, seeds=3, setting="A", loss="cross-entropy", noise=0.0, rates=RATES):
    """Return runs of which ``accuracy(bn, masking, rate)`` is the accuracy, plus noise."""
    draw = np.random.default_rng(0)
    rows = []
    for seed, bn, masking, rate in itertools.product(range(seeds), PLACEMENTS, MASKINGS, rates):
        value = accuracy(bn, masking, rate) + noise * draw.normal()
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
                    "bn": bn, "masking": masking, "learning_rate": rate, "seed": seed,
                    "snapshot": snapshot, "run": f"{seed}{bn}{masking}{rate}", "path": path,
                    "setting": setting, "pooled": True, "is_equal": rate in RATES,
                    "loss": loss, "log_loss": 100 * np.log(70 - 1000 * rate),
                    "probe_accuracy": value, "centred_precision": 0.2, "raw_precision": 0.1,
                    "valid_loss": 70 - 1000 * rate, "valid_accuracy": value,
                    "valid_centred_precision": 0.2,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
