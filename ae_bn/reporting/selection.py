r"""Which learning rate counts: given, chosen by validation, or the expected best of a few.

A table of runs has a row for every arm, learning rate, seed and snapshot (the epoch that is best by
validation loss, accuracy or precision, or the last one).  A table or an effect needs one row per
arm and seed.  A chosen learning rate is *cross-fitted*: the rate for seed s has the best mean of a
validation metric over all other seeds, so no run is judged by the documents that chose its rate.

Rates within one standard error of the best are ties, and the smallest of them is taken (Breiman et
al. 1984, *Classification and Regression Trees*, section 3.4.3).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ae_bn.config import check_name

# Validation metrics that choose a rate, and whether larger is better.
CRITERIA = {"valid_loss": False, "valid_accuracy": True, "valid_centred_precision": True}
WORST = -1e300  # the score of a run whose criterion has no value; that of a missing run is lower


def signed(results: pd.DataFrame, criterion: str) -> pd.Series:
    """Return a criterion, larger being better; where it has no value, minus infinity.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    criterion : str
        A key of `CRITERIA`.
    """
    if criterion not in results:
        return pd.Series(-np.inf, results.index)
    sign = 1 if CRITERIA[criterion] else -1
    return (sign * results[criterion].astype(float)).fillna(-np.inf)


def ties(scores: np.ndarray, chosen_on: np.ndarray) -> np.ndarray:
    """Return which candidates are within one standard error of the best.

    Parameters
    ----------
    scores : float array, (seeds, candidates)
        Larger is better.  The standard error of the best candidate's mean is over all seeds, since
        one or two others give none.  It is 0 for one seed.
    chosen_on : float array, (some of the seeds, candidates)
        The scores whose means are compared.

    Returns
    -------
    bool array, (candidates,)
    """
    means = chosen_on.mean(axis=0)
    best = means.argmax()
    error = 0.0
    if len(scores) > 1 and np.isfinite(scores[:, best]).all():
        error = scores[:, best].std(ddof=1) / np.sqrt(len(scores))
    return means >= means[best] - error


def cross_fitted(scores: np.ndarray) -> np.ndarray:
    """Return the candidate of every seed, chosen on the other seeds.

    Parameters
    ----------
    scores : float array, (seeds, candidates)
        Larger is better; NaN where a seed lacks a candidate, which is then not chosen for it.

    Returns
    -------
    int array, (seeds,)
        The first of the tied candidates.  With one seed alone the choice is on that one.
    """
    known = np.maximum(np.nan_to_num(scores, nan=WORST), WORST)
    chosen = []
    for seed in range(len(scores)):
        others = np.delete(known, seed, axis=0) if len(scores) > 1 else known
        there = np.where(np.isnan(scores[seed]), -np.inf, others)
        chosen.append(ties(scores, there).argmax())
    return np.array(chosen)


def expected_best(scores: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    r"""Return the expected values of the best of k candidates that are drawn at random.

    From the R candidates of a seed, k are drawn with replacement, and the one with the best score
    is taken.  This is equation 8 of Dodge et al. (2019, arXiv 1909.03004), but the score chooses
    and the values are averaged.  Sorted from worst to best, candidate i is taken with probability

    .. math:: (i / R)^k - ((i - 1) / R)^k

    Parameters
    ----------
    scores : float array, (seeds, candidates)
        Larger is better.
    values : float array, (seeds, candidates, metrics)
        What is averaged.
    k : int
        The budget, at least 1.

    Returns
    -------
    float array, (seeds, metrics)
    """
    order = np.argsort(scores, axis=1, kind="stable")
    chances = np.diff((np.arange(scores.shape[1] + 1) / scores.shape[1]) ** k)
    return np.einsum("c,scm->sm", chances, np.take_along_axis(values, order[..., None], axis=1))


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
        The key of `CRITERIA` that chooses the learning rate (cross-fitted), or a learning rate.

    Raises
    ------
    UserError
        If the criterion does not exist.
    """
    results = results[results["snapshot"].isna() | (results["snapshot"] == snapshot)]
    if isinstance(rate, str):
        check_name(rate, CRITERIA, "experiment.report.rate")
        chosen = {
            (arm, seed): scores.columns[column]
            for arm, scores in rate_scores(results, rate).items()
            for seed, column in zip(scores.index, cross_fitted(scores.to_numpy()))
        }
        wanted = np.array([chosen.get(key) for key in zip(results["arm"], results["seed"])], float)
    else:
        wanted = np.full(len(results), rate)
    rates = results["learning_rate"].to_numpy(dtype=float)
    return results[np.isnan(rates) | np.isnan(wanted) | (rates == wanted)]


def rate_scores(results: pd.DataFrame, criterion: str) -> dict[str, pd.DataFrame]:
    """Return the signed criterion of every arm: a row per seed, a column per learning rate.

    Parameters
    ----------
    results : DataFrame
        One row per run, of one snapshot.
    criterion : str
        A key of `CRITERIA`.
    """
    trained = results[results["learning_rate"].notna()]
    trained = trained.assign(score=signed(trained, criterion))
    return {
        arm: rows.pivot(index="seed", columns="learning_rate", values="score")
        for arm, rows in trained.groupby("arm", sort=False)
    }


def best_rate(scores: pd.DataFrame) -> tuple[float, bool]:
    """Return the rate that all seeds together choose for an arm, and whether the grid is too short.

    Parameters
    ----------
    scores : DataFrame
        A row per seed, a column per learning rate; see `rate_scores`.

    Returns
    -------
    rate : float
    at_end : bool
        An end of the grid is better than all other rates by more than one standard error, so a
        better rate may lie beyond.
    """
    known = scores.fillna(-np.inf).to_numpy()
    tied = np.flatnonzero(ties(known, known))
    alone = len(tied) == 1 < known.shape[1] and tied[0] in (0, known.shape[1] - 1)
    return float(scores.columns[tied[0]]), bool(alone)
