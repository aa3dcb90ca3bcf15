"""What seeds say about arms: means with intervals, paired differences, tests and verdicts.

Seeds are blocks: one seed fixes split, order, initialisation and noise for all arms.  So arms are
compared seed by seed, and everything here is about one number per seed, (n,): an arm's metric, or
a difference between arms (Bouthillier et al. 2021; Agarwal et al. 2021 for the interquartile mean).

- Interval of a mean: Student's t over the seeds.  For a difference it is that of the seeds'
  differences, so it is paired.
- Test of a mean difference of 0: flipping the signs of the differences, exact up to 13 seeds,
  with 9,999 random flips beyond; corrected after Holm over the contrasts of one metric.
- Verdict: `verdict`.

A run that diverged before its first finite loss has an infinite loss.  These values count.
With them, medians replace means, and the test uses signed ranks (Wilcoxon's).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ae_bn.config import ContrastConfig

CONFIDENCE = 0.95
ALPHA = 0.05  # what a corrected p has to be below
RESAMPLES = 9999


class Summary(NamedTuple):
    """One number per seed, summed up."""

    n: int
    infinite: int  # how many of the n
    mean: float
    low: float  # limits of the mean's interval; NaN for one seed or if any value is infinite
    high: float
    iqm: float  # interquartile mean
    median: float


class Comparison(NamedTuple):
    """One contrast in one metric."""

    summary: Summary  # of the seeds' differences
    undefined: int  # seeds at which both sides are infinite; not among the summary's n
    above: int  # how many of the n differences are above 0
    p: float
    p_holm: float
    verdict: str


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
    return _summarize(tuple(values[~np.isnan(values)]))


@lru_cache(maxsize=None)  # tables, figures and report ask for the same
def _summarize(values: tuple) -> Summary:
    if len(values) == 0:
        return Summary(0, 0, *[np.nan] * 5)
    infinite = int(np.isinf(values).sum())
    mean, low, high = mean_interval(values)
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        iqm, median = stats.trim_mean(values, 0.25), np.median(values)
    return Summary(len(values), infinite, float(mean), float(low), float(high), iqm, median)


def mean_interval(values) -> tuple:
    """Return means over seeds and the limits of Student's interval.

    Parameters
    ----------
    values : array_like of float, (n,) or (n, m)
        A row per seed.

    Returns
    -------
    mean, low, high : float arrays, () or (m,)
        The limits are NaN for one seed, and where a value is not finite.
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, error = values.mean(axis=0), values.std(axis=0, ddof=min(1, n - 1)) / np.sqrt(n)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error  # NaN for one seed
        return mean, mean - half, mean + half


def sign_flip_test(differences) -> float:
    """Return the two-sided p of a mean difference of 0, by flipping the differences' signs.

    Parameters
    ----------
    differences : array_like of float, (n,)
        The differences, one per seed, without NaNs.  If any is infinite, signed ranks replace them.

    Returns
    -------
    float
        At least 2 / 2**n; NaN without differences.
    """
    return _sign_flip_test(tuple(np.asarray(differences, dtype=float)))


@lru_cache(maxsize=None)
def _sign_flip_test(values: tuple) -> float:
    if len(values) < 2:  # SciPy refuses them
        return 1.0 if values else np.nan
    differences = np.array(values)
    if np.isinf(differences).any():
        differences = np.sign(differences) * stats.rankdata(np.abs(differences))
    return float(
        stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=RESAMPLES,
            random_state=np.random.default_rng(0),
        ).pvalue
    )


def paired_differences(results: pd.DataFrame, contrast: ContrastConfig, metric: str) -> pd.Series:
    """Return, for each seed, the sum of a metric over the plus arms less that over the minus.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    contrast : ContrastConfig
        The arms to add and the arms to subtract.
    metric : str
        The column of the metric.

    Returns
    -------
    Series of float, by seed
        Only seeds that all arms have; NaN where both sides are infinite.
    """
    by_seed = results.pivot(index="seed", columns="arm", values=metric)
    by_seed = by_seed.reindex(columns=[*contrast.plus, *contrast.minus]).dropna()
    return by_seed[contrast.plus].sum(axis=1) - by_seed[contrast.minus].sum(axis=1)


def compare(
    results: pd.DataFrame, contrasts: dict[str, ContrastConfig], metric: str, margin: float | None
) -> dict[str, Comparison]:
    """Return all contrasts of one metric, tested together.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    contrasts : dict of str to ContrastConfig
        The contrasts by name.
    metric : str
        The column of the metric.
    margin : float, optional
        The margin: a smaller difference does not matter.

    Returns
    -------
    dict of str to Comparison
        Without contrasts of arms that are not in the results.
    """
    arms = set(results["arm"])
    contrasts = {name: c for name, c in contrasts.items() if arms.issuperset(c.plus + c.minus)}
    differences = {name: paired_differences(results, c, metric) for name, c in contrasts.items()}
    defined = {name: values.dropna() for name, values in differences.items()}
    p = {name: sign_flip_test(values) for name, values in defined.items() if len(values)}
    p_holm = dict(zip(p, multipletests(list(p.values()), method="holm")[1])) if p else {}
    comparisons = {}
    for name, values in defined.items():
        summary = summarize(values)
        comparisons[name] = Comparison(
            summary,
            undefined=len(differences[name]) - len(values),
            above=int((values > 0).sum()),
            p=p.get(name, np.nan),
            p_holm=float(p_holm.get(name, np.nan)),
            verdict=verdict(summary, p_holm.get(name, np.nan), margin),
        )
    return comparisons


def verdict(summary: Summary, p: float, margin: float | None) -> str:
    """Return one phrase for a difference.

    Parameters
    ----------
    summary : Summary
        The summary of the seeds' differences.
    p : float
        The p-value, corrected for the number of tests.
    margin : float, optional
        The margin: a smaller difference does not matter.

    Returns
    -------
    str
        ``higher`` or ``lower`` if p is below .05; with ``, within the margin`` if the whole
        interval is inside plus or minus the margin all the same.  ``equivalent`` if only that
        holds (two one-sided tests at .025).  Else ``undecided``; ``no data`` without seeds.
    """
    if summary.n == 0:
        return "no data"
    within = margin is not None and -margin < summary.low <= summary.high < margin
    if p < ALPHA:
        centre = summary.median if summary.infinite else summary.mean
        return ("higher" if centre > 0 else "lower") + (", within the margin" if within else "")
    return "equivalent" if within else "undecided"
