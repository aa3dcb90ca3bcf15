"""`ae_bn.reporting.effects` and `settings`: effects that are known, recovered in every analysis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reporting_runs import block

from ae_bn.config import load_config
from ae_bn.reporting.effects import BOTH, EFFECTS, all_effects, as_used, at_chosen_rates, compared
from ae_bn.reporting.estimates import estimate
from ae_bn.reporting.settings import BLOCKS, HIDDEN, MASKING, NONE, RATES, complete
from ae_bn.reporting.tables import table_rows


def additive(bn, dropout, rate):
    hidden, output, dropped = "hidden" in bn, "output" in bn, dropout != "none"
    return 0.5 - 0.02 * hidden + 0.01 * output + 0.03 * dropped + 0.015 * hidden * dropped


def accuracy_of(effects, effect, **where):
    rows = effects[(effects["effect"] == effect) & (effects["metric"] == "probe_accuracy")]
    for column, level in where.items():
        rows = rows[rows[column] == level]
    return rows


def test_every_analysis_recovers_known_effects():
    effects = all_effects(block(additive))
    expected = {
        ("BN instead of masking", ""): -0.05,  # hidden without masking, less none with masking
        ("hidden BN", "none"): -0.02,
        ("hidden BN", "masking .5"): -0.005,
        ("masking without BN", ""): 0.03,
        ("masking with hidden BN", ""): 0.045,
        ("interaction of BN and masking", ""): 0.015,
        ("output BN alone", "none"): 0.01,
        ("output BN with hidden BN", "masking .5"): 0.01,
    }
    for (effect, dropout), value in expected.items():
        rows = accuracy_of(effects, effect, dropout=dropout)
        # Four epochs times five equal rates, three chosen ones and one expected, and equal losses.
        assert len(rows) == (4 * 9 + 3) * 3, effect
        np.testing.assert_allclose(rows["value"], value, atol=1e-12, err_msg=effect)
        np.testing.assert_allclose(rows["plus"] - rows["minus"], value, atol=1e-12)
    # The best placement without masking is output BN, the only masking is .5.
    searched = accuracy_of(effects, "BN instead of masking, both searched", rate="valid_accuracy")
    np.testing.assert_allclose(searched["value"], 0.51 - 0.53)
    assert set(effects["effect"]) == {n for n, effect in EFFECTS.items() if effect.about == MASKING}


def test_effects_of_hidden_dropout_are_pooled_over_the_settings_that_exist():
    """Invented results of hidden dropout on three corpora; one of them has both dropouts."""

    def accuracy(bn, dropout, rate):
        size = {NONE: 0.0, MASKING: 0.02, "hidden .3": 0.01, HIDDEN: 0.04, BOTH: 0.05}[dropout]
        return 0.5 + size * (0.5 if bn == "hidden" else 1)

    some, all_levels = [NONE, HIDDEN], [NONE, MASKING, "hidden .3", HIDDEN, BOTH]
    runs = [
        block(accuracy, name=name, about=HIDDEN, dropouts=levels, rates=RATES[:3], noise=1e-4)
        for name, levels in (("A", some), ("B", some), ("C", all_levels))
    ]
    effects = all_effects(pd.concat([block(additive), *runs], ignore_index=True))
    found = estimate(accuracy_of(at_chosen_rates(effects), "interaction of BN and hidden dropout"))
    assert found.mean == pytest.approx(-0.02, abs=1e-3) and found.below == len(found.each) == 3
    beside = accuracy_of(effects, "hidden dropout beside masking, without BN")
    assert set(beside["setting"]) == {"C, cross-entropy"}
    np.testing.assert_allclose(beside["value"].mean(), 0.03, atol=1e-3)
    assert set(accuracy_of(effects, "masking without BN")["setting"]) == {"A, cross-entropy"}
    assert {BLOCKS[f"core_hidden_dropout{of}"].about for of in ("", "_other_copy", "_reuters")} == {
        HIDDEN
    }


def test_a_chosen_rate_is_each_arms_own():
    """Hidden BN is best at .008, no BN at .0005: at chosen rates the effect is 0, at equal not."""

    def accuracy(bn, dropout, rate):
        return 0.5 - abs(RATES.index(rate) - 4 * ("hidden" in bn)) / 100

    of = accuracy_of(all_effects(block(accuracy)), "hidden BN", dropout="none")
    by_rate = of[of["epoch"] == "accuracy"].groupby("rate")["value"].first()
    assert by_rate["valid_accuracy"] == 0
    np.testing.assert_allclose(by_rate[["0.0005", "0.002", "0.008"]], [-0.04, 0, 0.04], atol=1e-12)
    # Expected best of three of five rates, by ranks: the same for both.
    assert by_rate["best of 3"] == pytest.approx(0)


def test_each_metric_is_read_at_its_own_rate_and_epoch():
    """BN alone gains accuracy at accuracy's own best epoch and rate; elsewhere it loses."""

    def accuracy(bn, dropout, rate):
        return 0.5 - abs(RATES.index(rate) - 4 * ("hidden" in bn)) / 100

    runs = block(accuracy)
    own = (runs["snapshot"] == "accuracy") & (runs["bn"] == "hidden")
    runs.loc[own, "probe_accuracy"] += 0.1
    found = as_used(accuracy_of(all_effects(runs), "hidden BN", dropout="none"))
    assert set(zip(found["rate"], found["epoch"])) == {("valid_accuracy", "accuracy")}
    assert len(found) == 3 and found["value"].tolist() == pytest.approx([0.1] * 3)
    every = as_used(all_effects(runs))
    read = {of.metric: (of.rate, of.epoch) for of in every.itertuples()}
    assert read == {
        "log_loss": ("valid_loss", "loss"),
        "probe_accuracy": ("valid_accuracy", "accuracy"),
        "centred_precision": ("valid_centred_precision", "precision"),
        "raw_precision": ("valid_centred_precision", "precision"),
    }


def at_equal_loss(runs):
    effects = accuracy_of(all_effects(runs), "hidden BN", epoch="equal loss")
    return effects[effects["dropout"] == "none"]["value"]


def test_equal_loss_is_set_by_the_arms_of_the_effect():
    """No BN reaches at epoch 1 what hidden BN has at the end; masking converges worse than both."""
    runs = block(additive)
    for path, bn, dropout in zip(runs["path"], runs["bn"], runs["dropout"]):
        path["valid_loss"] = [60.0, 55.0, 50.0] if bn == "none" else [90.0, 70.0, 60.0]
        if dropout != NONE:
            path["valid_loss"] = [99.0, 98.0, 97.0]
    found = at_equal_loss(runs)
    np.testing.assert_allclose(found, -0.02 + 0.2)  # epoch 3 of hidden, epoch 1 of none
    worse = runs["dropout"] == MASKING
    pd.testing.assert_series_equal(
        found, at_equal_loss(pd.concat([runs[~worse], runs[worse]])), check_index=False
    )


def test_incomplete_seeds_and_candidates_are_left_out(capsys):
    core = BLOCKS["core"]
    runs = block(additive, rates=[*RATES, 0.016])
    runs = runs[~((runs["seed"] == 2) & (runs["learning_rate"] == 0.002) & (runs["bn"] == "none"))]
    runs = runs[~((runs["seed"] == 0) & (runs["learning_rate"] == 0.016))]
    kept = complete(runs, core)
    assert set(kept["seed"]) == {0, 1} and 0.016 not in set(kept["learning_rate"])
    assert "A, cross-entropy (masking .5): 2 of 3 seeds are complete" in capsys.readouterr().out
    assert complete(block(additive), core).shape == block(additive).shape
    assert complete(runs[runs["bn"] != "none"], core).empty


def test_fewer_rates_are_analysed_where_a_setting_has_fewer():
    fewer = block(additive, name="B", rates=RATES[:3])
    effects = all_effects(pd.concat([block(additive), fewer], ignore_index=True))
    rates = effects.groupby("corpus")["rate"].agg(set)
    assert rates["A"] - rates["B"] == {"0.004", "0.008"} and "0.002" in rates["B"]


def test_comparisons_of_an_experiment_are_at_equal_rates():
    """Noise adds .1 at rate 1 and .3 at rate 2, in the small size; the big size lacks an arm."""
    settings = [
        "experiment.factors={noise: {none: {}, some: {}}, size: {small: {}, big: {}}}",
        "experiment.compare={gain: {noise: [none, some], within: size}}",
        "experiment.rate_grid=[1, 2]",
    ]
    rows = [
        {"arm": f"{noise} / small", "noise": noise, "size": "small", "learning_rate": rate,
         "seed": seed, "snapshot": "loss", "status": "finished",
         "probe_accuracy": 0.1 * seed + (0.2 * rate - 0.1) * (noise == "some")}
        for noise in ("none", "some") for rate in (1.0, 2.0) for seed in range(3)
    ]  # fmt: skip
    big = {**rows[0], "arm": "none / big", "size": "big"}
    table, experiment = pd.DataFrame([*rows, big]), load_config(None, settings).experiment
    found = compared(table, experiment, at_equal_rates=True)
    assert set(found["effect"]) == {"gain"} and set(found["size"]) == {"small"}
    np.testing.assert_allclose(found.groupby("learning_rate")["value"].mean(), [0.1, 0.3])
    assert estimate(found).mean == pytest.approx(0.2) and estimate(found).seeds == (3,)


def test_comparisons_of_an_experiment_are_differences_between_cells_of_its_table():
    """Each arm is at its own chosen rate: 2 with noise, which adds .3, and 1 without."""
    settings = [
        "experiment.factors={noise: {none: {}, some: {}}}",
        "experiment.compare={gain: {noise: [none, some]}}",
        "experiment.rate_grid=[1, 2]",
    ]
    table = pd.DataFrame(
        {"arm": noise, "noise": noise, "learning_rate": rate, "seed": seed, "snapshot": "loss",
         "status": "finished", "valid_loss": float(rate != best),
         "probe_accuracy": 0.1 * seed + 0.15 * rate * (noise == "some")}
        for noise, best in (("none", 1.0), ("some", 2.0)) for rate in (1.0, 2.0)
        for seed in range(3)
    )  # fmt: skip
    experiment = load_config(None, settings).experiment
    found = compared(table_rows(table, experiment), experiment)
    accuracy = found[found["metric"] == "probe_accuracy"]
    np.testing.assert_allclose(accuracy["value"], [0.3] * 3)
