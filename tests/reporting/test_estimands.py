"""`ae_bn.reporting.estimands`: effects that are known, recovered in every analysis."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reporting_runs import block
from scipy import stats

from ae_bn.reporting import estimands
from ae_bn.reporting.estimands import (
    EFFECTS,
    RATES,
    across_settings,
    all_effects,
    analyses,
    complete,
    deciding_choice,
    judge,
)


def additive(bn, masking, rate):
    hidden, output, masked = "hidden" in bn, "output" in bn, masking != "none"
    return 0.5 - 0.02 * hidden + 0.01 * output + 0.03 * masked + 0.015 * hidden * masked


def test_every_analysis_recovers_known_effects():
    effects = all_effects(block(additive))
    accuracy = effects[effects["metric"] == "probe_accuracy"]
    expected = {
        ("substitution", ""): -0.05,  # hidden without masking, less none with masking
        ("hidden BN", "none"): -0.02,
        ("hidden BN", "masking .5"): -0.005,
        ("masking without BN", ""): 0.03,
        ("masking with hidden BN", ""): 0.045,
        ("interaction", ""): 0.015,
        ("output BN alone", "none"): 0.01,
        ("output BN with hidden BN", "masking .5"): 0.01,
    }
    for (effect, masking), value in expected.items():
        rows = accuracy[(accuracy["effect"] == effect) & (accuracy["masking"] == masking)]
        # Four epochs times five equal rates, three chosen ones and one expected, and equal losses.
        assert len(rows) == (4 * 9 + 3) * 3, effect
        np.testing.assert_allclose(rows["value"], value, atol=1e-12, err_msg=effect)
    assert set(accuracy["effect"]) == set(EFFECTS)


def test_a_chosen_rate_is_each_arms_own():
    """Hidden BN is best at .008, no BN at .0005: at chosen rates the effect is 0, at equal not."""

    def accuracy(bn, masking, rate):
        return 0.5 - abs(RATES.index(rate) - 4 * ("hidden" in bn)) / 100

    effects = all_effects(block(accuracy))
    of = effects.query("metric == 'probe_accuracy' and effect == 'hidden BN' and masking == 'none'")
    by_rate = of[of["epoch"] == "accuracy"].groupby("rate")["value"].first()
    assert by_rate["valid_accuracy"] == 0
    np.testing.assert_allclose(by_rate[["0.0005", "0.002", "0.008"]], [-0.04, 0, 0.04], atol=1e-12)
    # Expected best of three of five rates, by ranks: the same for both.
    assert by_rate["best of 3"] == pytest.approx(0)
    verdict = next(
        v for v in judge(effects, []) if (v.effect, v.metric) == ("hidden BN", "probe_accuracy")
    )
    assert verdict.verdict == "depends on the learning rate"


def test_at_equal_loss_the_earlier_epoch_of_the_faster_arm_counts():
    runs = block(additive)
    for path, bn in zip(runs["path"], runs["bn"]):
        path["valid_loss"] = [60.0, 55.0, 50.0] if bn == "none" else [90.0, 70.0, 60.0]
    effects = all_effects(runs)
    of = effects.query("epoch == 'equal loss' and effect == 'hidden BN' and masking == 'none'")
    values = of[of["metric"] == "probe_accuracy"]["value"]
    np.testing.assert_allclose(values, -0.02 + 0.2)  # epoch 3 of hidden, epoch 1 of none
    assert set(of["metric"]) == {"probe_accuracy", "centred_precision", "raw_precision"}


def test_intervals_are_students():
    effects = all_effects(block(additive, seeds=4, noise=0.01))
    wanted = (
        "effect == 'interaction' and metric == 'probe_accuracy' and rate == '0.002' "
        "and epoch == 'last'"
    )
    one = analyses(effects).query(wanted).iloc[0]
    values = effects.query(wanted)["value"]
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (one.n, one.low, one.high) == (4, pytest.approx(low), pytest.approx(high))


def test_the_summary_averages_blocks_and_counts_seeds():
    """With equal variances in two blocks of n seeds there are 2 (n - 1) degrees of freedom."""
    means = {"A": [1.0, 2.0, 3.0], "B": [11.0, 12.0, 13.0]}
    rows = [
        {"setting": setting, "loss": "L", "seed": seed, "value": value + shift}
        for setting, values in means.items()
        for seed, value in enumerate(values)
        for shift in (-1, 1)  # two analyses
    ]
    summary = estimands._summary(pd.DataFrame(rows), margin=1)
    assert summary["mean"] == 7 and summary["n"] == "3 + 3"
    half = stats.t.ppf(0.975, 4) * np.sqrt((1 / 3 + 1 / 3) / 4)
    assert summary["high"] - 7 == pytest.approx(half)


def test_verdicts():
    def verdicts(*blocks):
        found = judge(all_effects(pd.concat(blocks, ignore_index=True)), [])
        return {v.effect: v for v in found if v.metric == "probe_accuracy"}

    clear = verdicts(block(additive, noise=0.001), block(additive, setting="B", noise=0.001))
    assert clear["masking without BN"].verdict == "higher"
    assert clear["substitution"].verdict == "lower"
    assert clear["masking without BN"].higher == clear["masking without BN"].analyses == 2 * 39
    mixed = verdicts(
        block(lambda bn, m, r: 0.5 + 0.05 * ("hidden" in bn), noise=0.001),
        block(lambda bn, m, r: 0.5 - 0.05 * ("hidden" in bn), setting="B", noise=0.001),
    )
    assert mixed["hidden BN"].verdict == "depends on the setting"
    nothing = verdicts(
        block(lambda bn, m, r: 0.5 + 0.001 * ("hidden" in bn), noise=0.0005),
        block(lambda bn, m, r: 0.5 - 0.001 * ("hidden" in bn), setting="B", noise=0.0005),
    )
    assert nothing["hidden BN"].verdict == "equivalent"
    noisy = verdicts(block(lambda *_: 0.5, noise=0.05))
    assert noisy["interaction"].verdict == "undecided"


def test_the_deciding_choice_is_the_one_whose_levels_differ():
    each = analyses(all_effects(block(lambda bn, m, r: r * ("hidden" in bn))))
    of = each.query("effect == 'hidden BN' and metric == 'probe_accuracy'")
    assert deciding_choice(of) == "rate"


def test_incomplete_seeds_and_candidates_are_left_out(capsys):
    runs = block(additive, rates=[*RATES, 0.016])
    runs = runs[~((runs["seed"] == 2) & (runs["learning_rate"] == 0.002) & (runs["bn"] == "none"))]
    runs = runs[~((runs["seed"] == 0) & (runs["learning_rate"] == 0.016))]
    kept = complete(runs, RATES, "A")
    assert set(kept["seed"]) == {0, 1} and 0.016 not in set(kept["learning_rate"])
    assert "A: 2 of 3 seeds are complete" in capsys.readouterr().out
    assert complete(block(additive), RATES, "A").shape == block(additive).shape


def test_across_settings_with_equal_blocks_is_the_test_of_their_means():
    """With as many seeds in each block the mixed model is Student's t of the blocks' means."""
    draw = np.random.default_rng(0)
    means = draw.normal(0.05, 0.03, 6)
    rows = [
        {"setting": name, "loss": "L", "seed": seed, "value": mean + 0.002 * draw.normal()}
        for name, mean in zip("ABCDEF", means)
        for seed in range(3)
    ]
    found = across_settings(pd.DataFrame(rows))
    of_blocks = pd.DataFrame(rows).groupby("setting")["value"].mean()
    low, high = stats.t.interval(0.95, 5, of_blocks.mean(), stats.sem(of_blocks))
    assert found.mean == pytest.approx(of_blocks.mean())
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))
    assert found.spread == pytest.approx(of_blocks.std(), rel=0.05)


def test_fewer_rates_are_analysed_where_a_block_has_fewer():
    fewer = block(additive, setting="B", rates=RATES[:3])
    effects = all_effects(pd.concat([block(additive), fewer], ignore_index=True))
    rates = effects.groupby("setting")["rate"].agg(set)
    assert rates["A"] - rates["B"] == {"0.004", "0.008"} and "0.002" in rates["B"]
