"""`ae_bn.reporting.estimates`: means, intervals and verdicts in cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from ae_bn.reporting.estimates import Estimate, estimate, mean_interval, summarize, text, verdict


def rows(**settings):
    """Return a row per seed from lists of one value per seed, by setting."""
    return pd.DataFrame(
        [
            {"setting": name, "seed": seed, "value": value}
            for name, values in settings.items()
            for seed, value in enumerate(values)
        ]
    )


def test_the_interval_is_over_settings():
    """Two analyses per seed are averaged, then seeds, then settings, which all count alike."""
    settings = {"a": [1.0, 2.0, 3.0], "b": [5.0, 5.0], "c": [6.0]}
    both = [rows(**{name: np.array(v) + shift for name, v in settings.items()})
            for shift in (-1, 1)]  # fmt: skip
    found = estimate(pd.concat(both))
    low, high = stats.t.interval(0.95, 2, 13 / 3, stats.sem([2, 5, 6]))
    assert found.each == (2, 5, 6) and found.seeds == (3, 2, 1) and found.above == 3
    assert found[:3] == pytest.approx((13 / 3, low, high))


def test_it_is_that_of_hartung_and_knapp_with_equal_weights():
    """With equal variances within settings all weights are equal, whatever the spread is."""
    means = np.random.default_rng(0).normal(0.05, 0.03, 6)
    library = combine_effects(means, np.full(6, 1e-5), method_re="dl").summary_frame(use_t=True)
    each = {f"s{n}": mean + np.array([-0.001, 0, 0.001]) for n, mean in enumerate(means)}
    found = estimate(rows(**each))
    assert found.mean == pytest.approx(library.loc["random effect", "eff"])
    weights = np.full(6, 1 / 6)
    variance = (weights * (means - found.mean) ** 2).sum() / 5
    half = stats.t.ppf(0.975, 5) * np.sqrt(variance)
    assert (found.high - found.low) / 2 == pytest.approx(half)


def test_one_setting_has_an_interval_over_seeds():
    found = estimate(rows(a=[0.1, 0.2, 0.3]))
    low, high = stats.t.interval(0.95, 2, 0.2, stats.sem([0.1, 0.2, 0.3]))
    assert found[:3] == pytest.approx((0.2, low, high))
    assert np.isnan(estimate(rows(a=[0.1])).low)


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.001, 0.02, "higher"),
        (-0.02, -0.001, "lower"),
        (0.0, 0.02, "undecided"),
        (-0.009, 0.009, "equivalent"),
        (-0.011, 0.009, "undecided"),
        (np.nan, np.nan, "undecided"),
    ],
)
def test_verdicts(low, high, expected):
    assert verdict(Estimate(0.005, low, high, (0.005,), (3,)), margin=0.01) == expected


def test_estimates_in_words():
    many = Estimate(-0.04, -0.0604, -0.02, (-0.1, -0.02, 0.0, 0.01), (3, 3, 2, 2))
    assert text(many, "probe_accuracy") == "-0.040 [-0.060, -0.020], below 0 in 2 of 4 settings"
    assert text(many, "probe_accuracy", counted=False) == "-0.040 [-0.060, -0.020]"
    two = Estimate(-1.25, -30, 30, (-2.0, -0.5), (3, 3))
    assert text(two, "log_loss") == "-1.2 % (-2.0 % and -0.5 %)"
    one = Estimate(-1.25, -2, -0.5, (-1.25,), (3,))
    assert text(one, "log_loss") == "-1.2 % [-2.0, -0.5] over 3 seeds"
    assert text(estimate(rows(a=[0.1])), "probe_accuracy") == "+0.100 (1 seed)"


def test_summaries_of_one_number_per_seed():
    found = summarize([1.0, np.nan, 2.0, 3.0])
    low, high = stats.t.interval(0.95, 2, 2, stats.sem([1, 2, 3]))
    assert found == (3, 0, 2, pytest.approx(low), pytest.approx(high), 2)
    infinite = summarize([1.0, 2.0, np.inf])
    assert (infinite.n, infinite.infinite, infinite.median) == (3, 1, 2)
    assert np.isnan(infinite.low) and summarize([np.nan]).n == 0


def test_intervals_of_many_columns_at_once():
    values = np.random.default_rng(0).normal(size=(4, 3))
    mean, low, high = mean_interval(values)
    for column in range(3):
        assert (mean[column], low[column], high[column]) == pytest.approx(
            mean_interval(values[:, column])
        )
