r"""One number per arm and seed, from runs at many learning rates and several snapshots.

``results.csv`` has a row for every arm, learning rate, seed and snapshot.  Tables and comparisons
take one row per arm and seed, and there are several defensible ways to get it:

- the snapshot: the weights of the epoch that is best by validation loss, by validation accuracy
  or by validation precision, or of the last epoch;
- the learning rate: a given one, or the one chosen by a validation metric.  The choice is
  cross-fitted: the rate for seed s is the one with the best mean over all other seeds, so a run
  is never judged by the documents that chose its rate, and no seeds are set aside for tuning;
- or the expected best of k learning rates drawn at random (`expected_best`), the result of a
  budget of k runs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ae_bn.config import check_name

# Validation metrics that choose a rate, and whether larger is better.
CRITERIA = {"valid_loss": False, "valid_accuracy": True, "valid_centred_precision": True}


def select(results: pd.DataFrame, snapshot: str, rate: str | float) -> pd.DataFrame:
    """Return the rows of one snapshot at one learning rate per arm and seed.

    Parameters
    ----------
    results : DataFrame
        One row per run and snapshot.  Rows without a learning rate or a snapshot, which are
        references and failed runs, are kept as they are.
    snapshot : str
        A key of `ae_bn.training.SNAPSHOTS`.
    rate : str or float
        A key of `CRITERIA`, by which the rate is chosen (cross-fitted), or a learning rate.

    Returns
    -------
    DataFrame

    Raises
    ------
    UserError
        If the criterion does not exist.
    """
    of_snapshot = results["snapshot"].isna() | (results["snapshot"] == snapshot)
    results = results[of_snapshot]
    if isinstance(rate, str):
        check_name(rate, CRITERIA, "experiment.report.rate")
        chosen = chosen_rates(results, rate)
        keys = pd.MultiIndex.from_frame(results[["arm", "seed"]])
        wanted = chosen.reindex(keys).to_numpy()
    else:
        wanted = np.full(len(results), rate)
    rates = results["learning_rate"].to_numpy(dtype=float)
    return results[np.isnan(rates) | np.isnan(wanted) | (rates == wanted)]


def chosen_rates(results: pd.DataFrame, criterion: str) -> pd.Series:
    """Return the cross-fitted learning rate of every arm and seed.

    Parameters
    ----------
    results : DataFrame
        One row per run, of one snapshot.
    criterion : str
        A key of `CRITERIA`.

    Returns
    -------
    Series of float, by (arm, seed)
        See `cross_fitted`.
    """
    trained = results.dropna(subset=["learning_rate"])
    chosen = [
        cross_fitted(rows, ["learning_rate"], criterion)
        for _, rows in trained.groupby("arm", sort=False)
    ]
    empty = trained[:0]
    return pd.concat([empty, *chosen]).set_index(["arm", "seed"])["learning_rate"].astype(float)


def cross_fitted(rows: pd.DataFrame, by: list[str], criterion: str) -> pd.DataFrame:
    """Return the row of the best candidate of every seed, chosen on the other seeds.

    Parameters
    ----------
    rows : DataFrame
        One row per seed and candidate.
    by : list of str
        The columns that name a candidate, such as the learning rate.
    criterion : str
        A key of `CRITERIA`.

    Returns
    -------
    DataFrame
        The row, for every seed, of the candidate with the best mean of the criterion over all other
        seeds (the first of equals, in the order of ``by``).  With one seed alone the choice is on
        that one.  A missing value of the criterion counts as the worst, and a candidate that the
        seed lacks is not chosen.
    """
    candidates = rows[by].groupby(by, sort=True).ngroup().to_numpy()
    seeds, of_seed = np.unique(rows["seed"], return_inverse=True)
    scores = np.full((len(seeds), candidates.max() + 1), -np.inf)
    positions = np.full(scores.shape, -1)  # of the rows; -1: a seed lacks the candidate
    scores[of_seed, candidates] = _signed(rows, criterion)
    positions[of_seed, candidates] = np.arange(len(rows))
    chosen = []
    for seed in range(len(seeds)):
        others = np.delete(scores, seed, axis=0) if len(seeds) > 1 else scores
        means = np.maximum(others.mean(axis=0), np.finfo(float).min)
        chosen.append(positions[seed, np.where(positions[seed] < 0, -np.inf, means).argmax()])
    return rows.iloc[chosen]


def best_rates(results: pd.DataFrame, criterion: str) -> pd.DataFrame:
    """Return the rate that all seeds together choose for every arm, and if it ends the grid.

    Parameters
    ----------
    results : DataFrame
        One row per run, of one snapshot.
    criterion : str
        A key of `CRITERIA`.

    Returns
    -------
    DataFrame, by arm
        ``learning_rate``, and ``at_end``: it is the lowest or the highest of several, so a better
        one may lie beyond and the grid should be extended.
    """
    rows = {}
    for arm, by_seed in _scores(results, criterion).groupby("arm", sort=False):
        means = by_seed.groupby("learning_rate").mean().sort_index()
        best = means.idxmax()
        at_end = len(means) > 1 and best in (means.index[0], means.index[-1])
        rows[arm] = {"learning_rate": best, "at_end": at_end}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["learning_rate", "at_end"])


def expected_best(rows: pd.DataFrame, metrics: list[str], criterion: str, k: int) -> pd.DataFrame:
    r"""Return the expected metrics of the best of k learning rates drawn at random.

    From the R rates of a seed, k are drawn with replacement, and the one with the best criterion is
    taken.  This is equation 8 of Dodge et al. (2019, arXiv 1909.03004), but the criterion chooses
    the rate and the metrics are averaged.  Sorted from worst to best, rate i is taken with
    probability

    .. math:: (i / R)^k - ((i - 1) / R)^k

    Parameters
    ----------
    rows : DataFrame
        One row per seed and learning rate, of one arm and one snapshot.
    metrics : list of str
        The columns to average.
    criterion : str
        A key of `CRITERIA`.
    k : int
        The budget, at least 1.

    Returns
    -------
    DataFrame
        ``seed`` and the metrics, one row per seed.
    """
    check_name(criterion, CRITERIA, "criterion")
    expected = []
    ranked = rows.assign(score=_signed(rows, criterion)).sort_values(["score", "learning_rate"])
    for seed, runs in ranked.groupby("seed"):
        share = np.arange(len(runs) + 1) / len(runs)
        values = np.diff(share**k) @ runs[metrics].to_numpy(dtype=float)
        expected.append({"seed": seed, **dict(zip(metrics, values))})
    return pd.DataFrame(expected, columns=["seed", *metrics])


def _signed(results, criterion):
    """Return the criterion, larger being better; where it has no value, minus infinity."""
    if criterion not in results:
        return pd.Series(-np.inf, results.index)
    sign = 1 if CRITERIA[criterion] else -1
    return (sign * results[criterion].astype(float)).fillna(-np.inf)


def _scores(results, criterion):
    trained = results.dropna(subset=["learning_rate"])
    index = pd.MultiIndex.from_frame(trained[["arm", "seed", "learning_rate"]])
    return pd.Series(_signed(trained, criterion).to_numpy(), index=index)
