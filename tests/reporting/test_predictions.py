"""Predictions for fresh seeds: which runs they are compared with, and when one holds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ae_bn.reporting.predictions import predictions

ROOT = Path(__file__).resolve().parents[2]


def earlier(*seeds, **other):
    """Return effects of earlier seeds, of one setting, in one analysis."""
    arm = {"setting": "one, squared error", "effect": "BN instead of masking", "dropout": ""}
    arm.update({"metric": "probe_accuracy", "rate": "0.001", "epoch": "accuracy", **other})
    return pd.DataFrame([{**arm, "seed": seed, "value": 0.1 * seed} for seed in seeds])


def fresh(seeds):
    """Return rows in which only hidden BN without dropout differs, by 0.1 times the seed."""
    rows = []
    for seed in seeds:
        for bn in ("none", "hidden", "hidden + output"):
            for dropout in ("none", "masking .5"):
                value = 0.1 * seed * ((bn, dropout) == ("hidden", "none"))
                arm = {"bn": bn, "dropout": dropout, "seed": seed, "loss": "squared error"}
                arm["corpus"] = "one"
                arm.update(probe_accuracy=value, test_loss=np.exp(value), learning_rate=0.001)
                rows += [{**arm, "snapshot": name} for name in ("loss", "accuracy", "precision")]
    return pd.DataFrame(rows)


@pytest.fixture
def written(tmp_path):
    columns = ["corpus", "effect", "dropout", "loss", "metric", "seeds", "mean", "low", "high"]
    rows = [
        ["one", "BN instead of masking", "", "squared error", "probe_accuracy", 3, 0.4, 0.4, 0.5],
        ["one", "BN instead of masking", "", "squared error", "probe_accuracy", 3, 0.4, 0.3, 0.4],
        ["one", "output BN with hidden BN", "none", "squared error", "log_loss", 3, -45, -46, -44],
    ]
    path = tmp_path / "predictions.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def test_a_prediction_holds_if_the_mean_of_fresh_seeds_is_between_its_limits(written):
    found = predictions(written, fresh([4, 5]), earlier(1))
    np.testing.assert_allclose(found[0].fresh, [0.4, 0.5])
    np.testing.assert_allclose(found[2].fresh, [-40, -50])  # per cent, of the loss's logarithm
    assert [one.holds for one in found] == [True, False, True]


def test_each_corpus_has_its_own_predictions(written):
    more = pd.read_csv(written, keep_default_na=False).assign(corpus="other", low=0.8, high=1)
    pd.concat([pd.read_csv(written, keep_default_na=False), more]).to_csv(written, index=False)
    twice = fresh([4, 5]).assign(corpus="other")
    twice["probe_accuracy"] *= 2
    found = predictions(written, pd.concat([fresh([4, 5]), twice]), earlier(1))
    assert [one.corpus for one in found] == ["one"] * 3 + ["other"] * 3
    np.testing.assert_allclose(found[0].fresh, [0.4, 0.5])
    np.testing.assert_allclose(found[3].fresh, [0.8, 1.0])
    assert (
        len(predictions(written, fresh([4, 5]), earlier(1))) == 3
    )  # the other corpus was not trained


def test_a_seed_that_lacks_an_arm_is_left_out(written):
    rows = fresh([4, 5])
    lacks = rows["seed"].eq(5) & rows["bn"].eq("hidden + output")
    found = predictions(written, rows[~lacks], earlier(1))
    assert [len(one.fresh) for one in found] == [2, 2, 1]


def test_earlier_seeds_are_those_of_the_same_analysis(written):
    others = [{"rate": "0.002"}, {"epoch": "loss"}, {"setting": "other, squared error"},
              {"dropout": "none"}, {"metric": "log_loss"}, {"effect": "hidden BN"}]  # fmt: skip
    effects = pd.concat([earlier(1, 2), *(earlier(9, **other) for other in others)])
    found = predictions(written, fresh([4, 5]), effects)
    np.testing.assert_allclose(found[0].earlier, [0.1, 0.2])
    assert len(found[2].earlier) == 0


def test_the_predictions_are_those_of_the_page_that_was_written_before():
    page = (ROOT / "docs" / "estimands.md").read_text()
    table = pd.read_csv(ROOT / "results/fresh_seeds/predictions.csv", keep_default_na=False)
    assert list(table["corpus"].value_counts()) == [26, 26, 26]
    table = table[table["corpus"] == "20 Newsgroups"]
    for row in table.itertuples():
        digits = 1 if row.metric == "log_loss" else 3
        low, high = (f"{value:+.{digits}f}" for value in (row.low, row.high))
        unit = " %" if row.metric == "log_loss" else ""
        cells = f"| {row.mean:+.{digits}f}{unit} ({row.seeds}) | {low}{unit} to {high}{unit} |"
        effect = row.effect + f", {row.dropout}".replace("none", "no masking") * bool(row.dropout)
        assert f"| {effect} | {row.loss} |" in page
        assert cells in page, (effect, cells)
