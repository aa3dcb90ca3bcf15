"""Predictions for fresh seeds: which values they pool, and when one holds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ae_bn.reporting.predictions import EARLIER, PREDICTED, predictions
from ae_bn.reporting.settings import HIDDEN, MASKING

SNAPSHOTS = ["loss", "accuracy", "precision"]


def runs(seeds, shift=0.0):
    """Return rows in which only hidden BN without dropout differs, by 0.1 times the seed."""
    rows = []
    for seed in seeds:
        for bn in ("none", "hidden", "hidden + output"):
            for about, dropouts in ((MASKING, ["none", MASKING]), (HIDDEN, ["none", HIDDEN])):
                for dropout in dropouts:
                    alone = (bn, dropout) == ("hidden", "none")
                    value = 0.1 * seed + shift if alone else 0.0
                    arm = {"bn": bn, "dropout": dropout, "about": about, "seed": seed}
                    metrics = {"probe_accuracy": value, "centred_precision": value}
                    arm.update(metrics, test_loss=1.0, log_loss=0.0, loss="squared error")
                    rows += [{**arm, "snapshot": name} for name in SNAPSHOTS]
    return pd.DataFrame(rows).assign(name=EARLIER, learning_rate=0.0005)


def fresh(seeds, shift=0.0):
    rows = runs(seeds, shift)
    return rows.drop_duplicates(["bn", "dropout", "seed", "snapshot"]).drop(columns="log_loss")


def test_the_interval_is_that_of_a_mean_of_new_values():
    found = predictions(runs([1, 2, 3]), fresh([4, 5]))
    assert len(found) == sum(len(metrics) for *_, metrics in PREDICTED)
    one = found[0]
    assert (one.effect, one.metric) == ("BN instead of masking", "probe_accuracy")
    np.testing.assert_allclose(one.earlier, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(one.fresh, [0.4, 0.5])
    # On accuracy, three of the four effects have deviations of 0.1 and one is always 0.
    deviation, freedom = np.sqrt(3 * 0.02 / 8), 8
    half = stats.t.ppf(0.975, freedom) * deviation * np.sqrt(1 / 3 + 1 / 2)
    assert one.interval == pytest.approx((0.2 - half, 0.2 + half))
    assert not one.holds
    assert predictions(runs([1, 2, 3]), fresh([4, 5], shift=-0.25))[0].holds


def test_a_seed_that_lacks_an_arm_is_left_out():
    rows = fresh([4, 5])
    lacks = rows["seed"].eq(5) & rows["bn"].eq("hidden + output")
    found = predictions(runs([1, 2, 3]), rows[~lacks])
    assert {len(one.fresh) for one in found if "output" in one.effect} == {1}
    assert {len(one.fresh) for one in found if "output" not in one.effect} == {2}
