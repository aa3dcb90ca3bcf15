"""What is said of numbers from seeds and settings: means, intervals and verdicts.

This is the only place that decides whether an effect has a direction.

An *effect* is a difference between arms, taken seed by seed.  Its values in one setting are
averaged within each seed, then over seeds, then over settings with equal weights.  The interval is
Student's over the settings' means, since a reader's setting is a new one.  It is that of a
random-effects meta-analysis with equal weights (Hartung and Knapp 2001); two or three seeds are too
few to weight settings by their variances.  In one setting alone the interval is Student's over
seeds.  `experiments/simulate_verdicts.py` measures how often it covers the truth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ae_bn.evaluation.metrics import METRICS

CONFIDENCE = 0.95
TITLES = {"log_loss": "held-out loss", "centred_precision": "centred precision",
          "raw_precision": "raw precision"}  # fmt: skip
MARGIN = 0.01  # an effect on accuracy or precision that is smaller does not matter
MARGINS = {"log_loss": 1.0, **dict.fromkeys(["probe_accuracy", *list(TITLES)[1:]], MARGIN)}


class Estimate(NamedTuple):
    """An effect on one metric in some settings."""

    mean: float
    low: float  # limits of the mean's interval; NaN where there is none
    high: float
    each: tuple  # the mean of every setting
    seeds: tuple  # the number of seeds of every setting

    @property
    def above(self) -> int:
        """The number of settings with a mean above 0."""
        return sum(mean > 0 for mean in self.each)

    @property
    def below(self) -> int:
        """The number of settings with a mean below 0."""
        return sum(mean < 0 for mean in self.each)


class Summary(NamedTuple):
    """One number per seed, summed up."""

    n: int
    infinite: int  # how many of the n
    mean: float
    low: float  # limits of the mean's interval; NaN for one seed or if any value is infinite
    high: float
    median: float


def mean_interval(values) -> tuple:
    """Return means and the limits of Student's interval.

    Parameters
    ----------
    values : array_like of float, (n,) or (n, m)
        A row per seed or setting.

    Returns
    -------
    mean, low, high : float arrays, () or (m,)
        The limits are NaN for one row, and where a value is not finite.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, error = values.mean(axis=0), values.std(axis=0, ddof=min(1, n - 1)) / np.sqrt(n)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error  # NaN for one row
        return mean, mean - half, mean + half


def summarize(values) -> Summary:
    """Return the summary of one number per seed; NaNs are left out.

    Parameters
    ----------
    values : array_like of float, (n,)

    Returns
    -------
    Summary
        All NaN if there are no numbers.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return Summary(0, 0, *[np.nan] * 4)
    infinite = int(np.isinf(values).sum())
    mean, low, high = map(float, mean_interval(values))
    return Summary(len(values), infinite, mean, low, high, float(np.median(values)))


def estimate(rows: pd.DataFrame) -> Estimate:
    """Return the estimate of an effect.

    Parameters
    ----------
    rows : DataFrame
        One effect on one metric: ``setting``, ``seed`` and ``value``, a row per analysis and seed.
    """
    per_seed = rows.groupby(["setting", "seed"], sort=False)["value"].mean()
    settings = per_seed.groupby("setting", sort=False).agg(["mean", "count"])
    mean, low, high = mean_interval(settings["mean"] if len(settings) > 1 else per_seed)
    each, seeds = tuple(settings["mean"]), tuple(settings["count"])
    return Estimate(float(mean), float(low), float(high), each, seeds)


def verdict(found: Estimate, margin: float | None = None) -> str:
    """Return what an estimate says.

    Parameters
    ----------
    found : Estimate
    margin : float, optional
        An effect of this size does not matter.

    Returns
    -------
    str
        ``higher`` or ``lower`` if the interval lies above or below 0; ``equivalent`` if it contains
        0 and lies between minus and plus the margin; ``undecided`` otherwise.
    """
    if found.low > 0:
        return "higher"
    if found.high < 0:
        return "lower"
    if margin is not None and -margin < found.low <= found.high < margin:
        return "equivalent"
    return "undecided"


def agreement(found: Estimate) -> str:
    """Return in how many settings an effect has the sign that most of them have."""
    side, count = ("below", found.below) if found.below > found.above else ("above", found.above)
    return f"{side} 0 in {count} of {len(found.each)} settings"


def number(value: float, metric: str) -> str:
    """Return a difference in a metric as text; log_loss is in per cent."""
    if metric == "log_loss":
        return f"{value:+.1f} %"
    return f"{value:+.{METRICS[metric].digits}f}"


def text(found: Estimate, metric: str, counted: bool = True) -> str:
    """Return an estimate as text.

    Parameters
    ----------
    found : Estimate
    metric : str
        The metric, whose digits count.
    counted : bool, optional
        Whether the number of settings that agree is added.

    Returns
    -------
    str
        The mean and its interval.  Two settings have their two means instead of an interval, and
        one setting says how many seeds it has.
    """
    mean = number(found.mean, metric)
    if len(found.each) == 2:
        return f"{mean} ({' and '.join(number(value, metric) for value in found.each)})"
    if np.isnan(found.low):
        return f"{mean} ({found.seeds[0]} seed{'s' * (found.seeds[0] > 1)})"
    interval = f"{mean} [{', '.join(number(end, metric).rstrip(' %') for end in found[1:3])}]"
    if len(found.each) == 1:
        return f"{interval} over {found.seeds[0]} seeds" if counted else interval
    return f"{interval}, {agreement(found)}" if counted else interval


def title(metric: str) -> str:
    """Return the title of a metric of effects or tables."""
    return TITLES.get(metric) or METRICS[metric].title


def show(summary: Summary, metric: str) -> str:
    """Return a summary as text: mean and interval, or the median where there is no mean."""
    n, infinite, mean, low, high, median = summary
    digits = f".{METRICS[metric].digits}f"
    if n == 0:
        return ""
    if infinite:
        return f"median {median:{digits}} ({infinite} of {n} infinite)"
    return f"{mean:{digits}}" + ("" if n == 1 else f" [{low:{digits}}, {high:{digits}}]")
