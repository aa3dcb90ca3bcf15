"""Statistics in cases worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ae_bn.config import ContrastConfig
from ae_bn.reporting.statistics import (
    compare,
    mean_interval,
    paired_differences,
    sign_flip_test,
    summarize,
    verdict,
)

GAIN = ContrastConfig(plus=["on / some"], minus=["on / none"])
INTERACTION = ContrastConfig(plus=["on / some", "off / none"], minus=["on / none", "off / some"])


def results(metric="accuracy", **values):
    """Return a row per run from lists of one value per seed, by arm."""
    rows = [
        {"arm": arm.replace("_", " / "), "seed": seed, metric: value}
        for arm, numbers in values.items()
        for seed, value in enumerate(numbers, start=1)
        if value is not None
    ]
    return pd.DataFrame(rows)


def test_sign_flips_by_enumeration():
    """Four seeds: all 16 ways to flip, counted here."""
    differences = np.array([0.3, -0.1, 0.4, 0.2])
    means = [np.mean(differences * signs) for signs in product([1, -1], repeat=4)]
    extreme = sum(abs(mean) >= differences.mean() - 1e-12 for mean in means)
    assert extreme == 4  # nothing, or the -.1, flipped; and both mirrored
    assert sign_flip_test(differences) == extreme / 16


@pytest.mark.parametrize("n", [1, 5, 9])
def test_smallest_p_is_known(n):
    assert sign_flip_test(np.arange(1, n + 1)) == min(1, 2 / 2**n)


def test_p_of_many_seeds_is_random_but_repeatable():
    differences = np.random.default_rng(1).normal(0.3, 1, size=14)
    p = sign_flip_test(differences)
    assert p == sign_flip_test(differences)
    means = np.array(list(product([1, -1], repeat=14))) @ differences / 14
    exact = np.mean(np.abs(means) >= differences.mean() - 1e-12)
    assert p != exact and p == pytest.approx(exact, abs=4 * np.sqrt(exact / 9999))


def test_infinite_differences_are_tested_by_rank():
    differences = [1.0, 2.0, np.inf, 3.0, -0.5, 4.0]
    assert sign_flip_test(differences) == stats.wilcoxon([1, 2, 9, 3, -0.5, 4]).pvalue
    assert sign_flip_test([0.0, 0.0, 0.0]) == 1
    assert np.isnan(sign_flip_test([]))


def test_interquartile_mean():
    # of 8 the lowest and highest 2 are left out, of 5 one each, of 3 none
    assert summarize([100, 1, 2, 3, 4, 5, 6, -9]).iqm == (2 + 3 + 4 + 5) / 4
    assert summarize([9, 1, 2, 4, np.inf]).iqm == 5
    assert summarize([1, 2, 6]).iqm == 3


def test_summary_with_infinite_and_missing_values():
    summary = summarize([3, np.inf, np.nan, 1, 2])
    assert (summary.n, summary.infinite, summary.mean, summary.median) == (4, 1, np.inf, 2.5)
    assert np.isnan(summary.low) and np.isnan(summary.high)
    assert summarize([np.nan]).n == 0


def test_interval_of_equal_values_is_a_point():
    assert mean_interval([0.25] * 4) == (0.25, 0.25, 0.25)
    mean, low, high = mean_interval([4.0])
    assert mean == 4 and np.isnan(low) and np.isnan(high)


def test_interval_is_students():
    values = [0.1, 0.4, 0.2, 0.9]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    np.testing.assert_allclose(mean_interval(values)[1:], expected)


def test_intervals_of_columns_are_those_of_each():
    values = np.random.default_rng(0).exponential(size=(7, 3))
    values[2, 1] = np.inf
    mean, low, high = mean_interval(values)
    for column in (0, 2):
        alone = mean_interval(values[:, column])
        np.testing.assert_allclose([mean[column], low[column], high[column]], alone)
    assert mean[1] == np.inf and np.isnan(low[1]) and np.isnan(high[1])


def test_interval_of_differences_is_paired():
    """Seeds differ by 100, arms by .1 in each: unpaired, the interval would be 100 wide."""
    seeds = np.array([0.0, 100, 50, 70, 20])
    table = results(**{"on_none": seeds, "on_some": seeds + [0.1, 0.12, 0.08, 0.1, 0.1]})
    gain = compare(table, {"gain": GAIN}, "accuracy", None)["gain"]
    assert gain.summary.mean == pytest.approx(0.1)
    assert 0.08 <= gain.summary.low < 0.1 < gain.summary.high <= 0.12
    assert (gain.summary.n, gain.above, gain.p) == (5, 5, 2 / 32)


def test_interaction_by_hand():
    table = results(
        on_some=[0.9, 0.8], on_none=[0.5, 0.6], off_some=[0.4, 0.3], off_none=[0.3, 0.1]
    ).sample(frac=1, random_state=0)
    # (.9 - .5) - (.4 - .3) and (.8 - .6) - (.3 - .1)
    difference = paired_differences(table, INTERACTION, "accuracy").sort_index()
    np.testing.assert_allclose(difference, [0.3, 0.0], atol=1e-12)


def test_only_seeds_that_all_arms_have():
    """An arm that was skipped leaves its contrasts out; one without common seeds has no data."""
    table = results(on_some=[0.9, 0.8, 0.7], on_none=[0.5, None, 0.6], off_none=[None, 0.1])
    assert list(paired_differences(table, GAIN, "accuracy").index) == [1, 3]
    apart = ContrastConfig(plus=["on / none"], minus=["off / none"])
    contrasts = {"there": GAIN, "skipped": INTERACTION, "apart": apart}
    compared = compare(table, contrasts, "accuracy", 0.1)
    assert set(compared) == {"there", "apart"}
    assert compared["apart"].verdict == "no data" and np.isnan(compared["apart"].p_holm)
    assert compared["there"].p_holm == compared["there"].p == 0.5


def test_seeds_infinite_on_both_sides_are_counted():
    table = results(on_some=[np.inf, np.inf, 3, 5], on_none=[np.inf, 2, np.inf, 1])
    gain = compare(table, {"gain": GAIN}, "accuracy", None)["gain"]
    assert (gain.summary.n, gain.summary.infinite, gain.undefined, gain.above) == (3, 2, 1, 2)
    assert gain.summary.median == 4 and gain.verdict == "undecided"


def test_holm_of_known_p():
    """.03125, .0625 and .5 times 3, 2 and 1, never falling."""
    seeds = np.zeros(6)
    table = results(
        a=seeds,
        b=seeds + [1, 2, 3, 4, 5, 6],  # 2 of 64
        c=seeds + [-1, 2, 3, 4, 5, 6],  # 4 of 64
        d=seeds + [1, -2, 4, -8, 16, 0],
    )
    contrasts = {name: ContrastConfig(plus=[name], minus=["a"]) for name in "bcd"}
    compared = compare(table, contrasts, "accuracy", None)
    p = [comparison.p for comparison in compared.values()]
    assert p[:2] == [2 / 64, 4 / 64]
    expected = [3 * p[0], max(2 * p[1], 3 * p[0]), max(p[2], 2 * p[1])]
    np.testing.assert_allclose([c.p_holm for c in compared.values()], expected)


@pytest.mark.parametrize(
    "values, p, margin, words",
    [
        ([0.02, 0.021], 0.01, 0.005, "higher"),
        ([-0.02, -0.021], 0.01, 0.005, "lower"),
        ([0.02, 0.021], 0.05, 0.005, "undecided"),
        ([0.002, 0.0021], 0.01, 0.005, "higher, within the margin"),
        ([-0.002, -0.0021], 0.01, 0.005, "lower, within the margin"),
        ([-0.0001, 0.0003], 0.5, 0.005, "equivalent"),
        ([-0.002, 0.006], 0.5, 0.005, "undecided"),
        ([-0.0001, 0.0003], 0.5, None, "undecided"),
        ([np.inf, 3, 3], 0.01, 5, "higher"),
        ([np.inf, 3, 3], 0.5, 5, "undecided"),
        ([], np.nan, 5, "no data"),
    ],
)
def test_verdicts(values, p, margin, words):
    assert verdict(summarize(values), p, margin) == words
