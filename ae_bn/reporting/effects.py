"""Effects: signed sums of arms, seed by seed, in every defensible analysis.

``docs/estimands.md`` says which effects answer the post's questions, and why.  This module computes
them (`all_effects`), and those that the ``compare:`` of an experiment asks for (`compared`)::

    runs = read_blocks(tables, record)       # a row per run and snapshot, of all settings
    effects = all_effects(runs)              # a row per effect, metric, setting, analysis and seed
    estimate(effects.query("effect == 'hidden BN' and metric == 'probe_accuracy'"))

An *analysis* reads the arms at one learning rate and one epoch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ae_bn.config import ExperimentConfig
from ae_bn.evaluation.metrics import METRICS
from ae_bn.reporting.selection import CRITERIA, cross_fitted, expected_best, signed
from ae_bn.reporting.settings import HIDDEN, HIDDEN_ONLY, MASKING, NONE
from ae_bn.study.arms import contrasts

BUDGET = 3  # random learning rates, of which the best is expected
SEARCHED = "searched"  # a placement or a dropout that validation chooses
SAME = "same"  # NONE and MASKING in turn, equal on both sides
BOTH = "masking .5 + hidden .3"
PLACEMENT_NAMES = {
    "none": "without BN",
    "hidden": "with hidden BN",
    "output": "with output BN",
    "hidden + output": "with BN in both layers",
}

# The criterion that belongs to each snapshot's epoch.
JUDGED_BY = {
    "loss": "valid_loss",
    "accuracy": "valid_accuracy",
    "precision": "valid_centred_precision",
    "last": "valid_loss",
}
# The epoch at which a metric is read as one would use the codes: the best one for it.
OWN_EPOCH = {
    "log_loss": "loss",
    "probe_accuracy": "accuracy",
    "centred_precision": "precision",
    "raw_precision": "precision",
    "scaled_precision": "precision",
}
# Each metric of the test documents, and its namesake along the path of training.
PATH_METRICS = {
    "log_loss": None,
    "probe_accuracy": "valid_accuracy",
    "centred_precision": "valid_centred_precision",
    "raw_precision": "valid_precision",
}
EQUAL_LOSS = "equal loss"
EQUAL = ["learning_rate", "is_equal"]


class Effect(NamedTuple):
    """A signed sum of arms, each a placement of BN and a dropout."""

    about: str  # the dropout of the settings in which it is taken
    plus: list[tuple[str, str]]
    minus: list[tuple[str, str]]

    @property
    def levels(self) -> list[str]:
        """The dropouts that the effect is taken at; one empty name if it says them itself."""
        return [NONE, MASKING] if self.plus[0][1] == SAME else [""]

    def arms(self, level: str) -> tuple[list, list]:
        """Return the arms to add and those to subtract; a level stands for `SAME`."""
        plus, minus = (
            [(bn, level if dropout == SAME else dropout) for bn, dropout in side]
            for side in (self.plus, self.minus)
        )
        return plus, minus


def _benefits(name: str, dropout: str) -> dict[str, Effect]:
    """Return the effects of a dropout with hidden BN and without, and their difference."""
    alone, with_bn = [("none", dropout)], [("hidden", dropout)]
    none, bn = [("none", NONE)], [("hidden", NONE)]
    return {
        f"BN instead of {name}": Effect(dropout, bn, alone),
        f"{name} without BN": Effect(dropout, alone, none),
        f"{name} with hidden BN": Effect(dropout, with_bn, bn),
        f"interaction of BN and {name}": Effect(dropout, with_bn + none, bn + alone),
    }


EFFECTS = {
    **_benefits("hidden dropout", HIDDEN),
    **{
        f"hidden dropout {shown}": Effect(HIDDEN, [(bn, HIDDEN)], [(bn, NONE)])
        for bn, shown in PLACEMENT_NAMES.items()
        if bn not in HIDDEN_ONLY  # those are above
    },
    **{
        f"hidden dropout {rate} {shown}": Effect(HIDDEN, [(bn, f"hidden {rate}")], [(bn, NONE)])
        for rate in (".1", ".3")
        for bn, shown in PLACEMENT_NAMES.items()
    },
    **{
        f"hidden dropout beside masking, {shown}": Effect(HIDDEN, [(bn, BOTH)], [(bn, MASKING)])
        for bn, shown in PLACEMENT_NAMES.items()
    },
    **_benefits("masking", MASKING),
    "BN instead of masking, both searched": Effect(
        MASKING, [(SEARCHED, NONE)], [("none", SEARCHED)]
    ),
    "hidden BN": Effect(MASKING, [("hidden", SAME)], [("none", SAME)]),
    "output BN alone": Effect(MASKING, [("output", SAME)], [("none", SAME)]),
    "output BN with hidden BN": Effect(MASKING, [("hidden + output", SAME)], [("hidden", SAME)]),
}  # fmt: skip


def all_effects(runs: pd.DataFrame) -> pd.DataFrame:
    """Return every effect in every analysis, seed by seed.

    Parameters
    ----------
    runs : DataFrame
        See `ae_bn.reporting.settings.read_blocks`.

    Returns
    -------
    DataFrame
        ``effect``, ``metric``, ``setting``, ``corpus``, ``loss``, ``pooled``, ``dropout`` (the one
        that both sides share, if the effect is taken at several), ``rate``, ``epoch``, ``seed`` and
        ``value``; ``plus`` and ``minus`` are the two sides' sums.  An effect is missing where its
        arms are.
    """
    parts = []
    for (about, setting), block in runs.groupby(["about", "setting"], sort=False):
        arms = _Arms(block)
        for name, effect in EFFECTS.items():
            for level in effect.levels if effect.about == about else []:
                rows = arms.effect(*effect.arms(level))
                parts.append(rows.assign(effect=name, setting=setting, dropout=level))
    effects = pd.concat(parts, ignore_index=True)
    of_setting = runs.drop_duplicates("setting").set_index("setting")
    for name in ("corpus", "loss", "pooled"):
        effects[name] = effects["setting"].map(of_setting[name])
    return effects


class _Arms:
    """The arms of one setting in all analyses.

    A *reading* is one row of `runs` per seed: an arm at a learning rate and an epoch.
    """

    def __init__(self, runs: pd.DataFrame):
        by = ["learning_rate", "bn", "dropout", "seed"]
        self.runs = runs.sort_values(by, ignore_index=True)
        self.seeds = sorted(set(runs["seed"]))
        self.values = self.runs[list(PATH_METRICS)].to_numpy(dtype=float)
        self.signed = {c: signed(self.runs, c).to_numpy() for c in CRITERIA}
        self.known: dict[tuple, tuple[dict, dict]] = {}  # by arm

    def effect(self, plus: list, minus: list) -> pd.DataFrame:
        """Return an effect in all analyses: ``metric``, ``rate``, ``epoch``, ``seed``, values."""
        arms = [*plus, *minus]
        tables = [self._of(arm)[1] for arm in arms]
        shared = [key for key in tables[0] if all(key in table for table in tables)]
        analyses = {key: np.stack([table[key] for table in tables]) for key in shared}
        if not shared:
            return pd.DataFrame()
        readings = [self._of(arm)[0] for arm in arms]
        for criterion in CRITERIA:
            at = [of[criterion, "loss"] for of in readings]
            analyses[criterion, EQUAL_LOSS] = self._at_equal_loss(np.stack(at))
        sides = {
            name: np.array([table[part].sum(axis=0) for table in analyses.values()])
            for name, part in (("plus", slice(len(plus))), ("minus", slice(len(plus), None)))
        }  # of (analyses, seeds, metrics)
        index = pd.MultiIndex.from_tuples(
            [(rate, epoch, seed, metric) for rate, epoch in analyses for seed in self.seeds
             for metric in PATH_METRICS],
            names=["rate", "epoch", "seed", "metric"],
        )  # fmt: skip
        rows = pd.DataFrame({name: side.ravel() for name, side in sides.items()}, index)
        return rows.assign(value=rows["plus"] - rows["minus"]).dropna().reset_index()

    def _of(self, arm: tuple[str, str]) -> tuple[dict, dict]:
        """Return readings, (seeds,), and metrics, (seeds, metrics), of an arm by (rate, epoch)."""
        if arm not in self.known:
            readings, tables = {}, {}
            for epoch, judge in JUDGED_BY.items():
                at = self._candidates(arm, epoch)
                rates, is_equal = (self.runs[name].to_numpy()[at[0]] for name in EQUAL)
                for rate in sorted(set(rates[is_equal])):
                    readings[str(rate), epoch] = self._choose(at[:, rates == rate], judge)
                for criterion in CRITERIA if at.size else []:
                    readings[criterion, epoch] = self._choose(at, criterion)
                if at.size and SEARCHED not in arm:
                    tables[f"best of {BUDGET}", epoch] = expected_best(
                        self.signed[judge][at], self.values[at], BUDGET
                    )
            tables.update({key: self.values[rows] for key, rows in readings.items()})
            self.known[arm] = readings, tables
        return self.known[arm]

    def _candidates(self, arm, epoch):
        """Return the rows of an arm's candidates, (seeds, candidates), the smallest rate first."""
        bn, dropout = self.runs["bn"], self.runs["dropout"]
        is_bn = bn != "none" if arm[0] == SEARCHED else bn == arm[0]
        is_dropout = dropout != NONE if arm[1] == SEARCHED else dropout == arm[1]
        rows = np.flatnonzero(is_bn & is_dropout & (self.runs["snapshot"] == epoch))
        return rows.reshape(-1, len(self.seeds)).T  # every candidate has all seeds

    def _choose(self, at, criterion):
        best = cross_fitted(self.signed[criterion][at])
        return at[np.arange(len(at)), best]

    def _at_equal_loss(self, readings):
        """Return validation metrics where each arm first reaches a loss that all arms reach.

        The arms are those of one effect: (arms, seeds) to (arms, seeds, metrics).
        """
        paths = self.runs["path"].to_numpy()[readings]
        found = np.full((*readings.shape, len(PATH_METRICS)), np.nan)
        for seed in range(readings.shape[1]):
            losses = [np.array(path["valid_loss"], float) for path in paths[:, seed]]
            reached = max(np.nanmin(loss) for loss in losses)
            for arm, loss in enumerate(losses):
                epoch = int(np.argmax(loss <= reached))
                found[arm, seed] = [
                    np.nan if name is None else paths[arm, seed][name][epoch]
                    for name in PATH_METRICS.values()
                ]
        return found


def at_chosen_rates(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the analyses in which every arm has the learning rate that validation chose for it."""
    return effects[effects["rate"].isin(CRITERIA)]


def as_used(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the analyses that read each metric as one would use it.

    Every arm has the learning rate and the epoch with the best validation value of the metric.
    """
    epoch = effects["metric"].map(OWN_EPOCH)
    return effects[(effects["epoch"] == epoch) & (effects["rate"] == epoch.map(JUDGED_BY))]


def signed_sum(arms, plus: list, minus: list):
    """Return the sum of some arms less that of others: an effect, from its arms by name."""
    return sum(arms[arm] for arm in plus) - sum(arms[arm] for arm in minus)


def find(effects: pd.DataFrame, effect: str, metric: str, where: dict) -> pd.DataFrame:
    """Return the rows of an effect on a metric, with the levels that are asked for.

    Without a ``setting`` to keep, settings that are not pooled are left out.
    """
    found = effects[(effects["effect"] == effect) & (effects["metric"] == metric)]
    if "setting" not in where and "pooled" in found:
        found = found[found["pooled"]]
    for column, level in where.items():
        found = found[found[column] == level]
    return found


def compared(
    rows: pd.DataFrame, experiment: ExperimentConfig, at_equal_rates: bool = False
) -> pd.DataFrame:
    """Return the effects that the ``compare:`` of an experiment asks for, seed by seed.

    Parameters
    ----------
    rows : DataFrame
        The rows that tables show, one per arm and seed (`ae_bn.reporting.tables.table_rows`), so
        that an effect is the difference between their cells; or all runs and snapshots.
    experiment : ExperimentConfig
    at_equal_rates : bool, optional
        Whether ``rows`` are all runs.  Then there is an effect at every kept epoch and, with a
        ``rate_grid``, at every learning rate, equal for all arms.

    Returns
    -------
    DataFrame
        ``effect``, ``metric``, ``setting`` (the level of the factor ``corpus``, or else the
        experiment), ``seed`` and ``value``, and a column for every factor with the level that all
        arms share; at equal rates also ``snapshot`` and ``learning_rate``.  A comparison is missing
        where its arms are.
    """
    metrics = [name for name in METRICS if name in rows]
    by = ["seed"]
    if at_equal_rates:
        by += ["snapshot", *(["learning_rate"] if experiment.rate_grid else [])]
    rows = rows[rows["learning_rate"].notna() & (rows["status"] != "failed")]
    arms = dict(list(rows.set_index(by).groupby("arm", sort=False)))
    parts = []
    for contrast in contrasts(experiment).values():
        names = [*contrast.plus, *contrast.minus]
        if not arms.keys() >= set(names):
            continue
        of_arms = {arm: arms[arm][metrics] for arm in names}
        with np.errstate(invalid="ignore"):
            value = signed_sum(of_arms, contrast.plus, contrast.minus)
        levels = pd.concat([arms[arm][list(experiment.factors)] for arm in names])
        shared = {factor: levels[factor].iloc[0] for factor in levels
                  if levels[factor].nunique() == 1}  # fmt: skip
        long = value.melt(var_name="metric", ignore_index=False).dropna().reset_index()
        setting = shared.get("corpus", experiment.name)
        parts.append(long.assign(effect=contrast.title, setting=setting, **shared))
    columns = ["effect", "metric", "setting", "seed", "value"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
