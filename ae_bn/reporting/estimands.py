r"""The effects that answer the post's questions, in every defensible analysis.

``docs/estimands.md`` says what is estimated and why.  This module computes it in three steps::

    runs = read_blocks(results)      # a row per run and snapshot, of all blocks
    effects = all_effects(runs)      # a row per effect, metric, analysis and seed
    verdicts = judge(effects, ["loss"])

An *analysis* is one combination of `CHOICES`.  An effect is a signed sum of arms, seed by seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.multitest import multipletests

from ae_bn.errors import UserError
from ae_bn.reporting.selection import CRITERIA, cross_fitted, expected_best
from ae_bn.reporting.statistics import ALPHA, CONFIDENCE
from ae_bn.study.record import Record
from ae_bn.training import SNAPSHOTS

RATES = [0.0005, 0.001, 0.002, 0.004, 0.008]  # equal for all arms of an analysis
FEWER_RATES = RATES[:3]  # those at which the codes of the first block are best
NESTEROV_RATES = [0.001, 0.004, 0.016]  # Nesterov's momentum needs higher ones than Adam
BUDGET = 3  # random learning rates, of which the best is expected
NONE, MASKED = "none", "masking .5"
BEST = "best masking"
SAME = "same masking"  # one of NONE and MASKED, equal on both sides

# The criterion that belongs to each snapshot's epoch.
JUDGED_BY = {
    "loss": "valid_loss",
    "accuracy": "valid_accuracy",
    "precision": "valid_centred_precision",
    "last": "valid_loss",
}
# Each metric of the test documents, and its namesake along the path of training.
PATH_METRICS = {
    "log_loss": None,
    "probe_accuracy": "valid_accuracy",
    "centred_precision": "valid_centred_precision",
    "raw_precision": "valid_precision",
}
MARGINS = {"log_loss": 1.0, **dict.fromkeys(list(PATH_METRICS)[1:], 0.01)}
CHOICES = ["setting", "loss", "masking", "rate", "epoch"]
EQUAL_LOSS = "equal loss"
ALL = "all blocks"
OLD = {"rate": "valid_loss", "epoch": "loss"}  # the analysis of the answers published at first


class Block(NamedTuple):
    """An experiment in which the arms of all effects are trained, in one setting."""

    setting: str  # the corpus, and what else differs from the first block
    rates: list[float] = FEWER_RATES  # equal for all arms of an analysis
    pooled: bool = True  # whether it counts in verdicts over settings: it has BN and masking
    masking: dict[str, str] = {}  # levels of its factor that stand for levels of masking


BLOCKS = {
    "core": Block("20 Newsgroups", RATES),
    "core_other_copy": Block("20 Newsgroups, other copy", RATES),
    "core_reuters": Block("Reuters R52"),
    "core_multinomial": Block("20 Newsgroups, log counts"),
    "core_sigmoid": Block("20 Newsgroups, sigmoid units"),
    "core_nesterov": Block("20 Newsgroups, Nesterov's momentum", NESTEROV_RATES),
    "core_wide": Block("20 Newsgroups, 512 units", RATES[:2]),
    "core_layer_norm": Block("20 Newsgroups, Layer Normalization for BN", pooled=False),
    "core_hidden_dropout": Block(
        "20 Newsgroups, hidden dropout for masking", pooled=False, masking={"hidden .5": MASKED}
    ),
}


class Effect(NamedTuple):
    """A signed sum of arms, each a placement of BN and a masking."""

    plus: list[tuple[str, str]]
    minus: list[tuple[str, str]]

    @property
    def maskings(self) -> list[str]:
        """The maskings that the effect is taken at; one empty name if it says them itself."""
        at_each = any(masking == SAME for _, masking in self.plus)
        return [NONE, MASKED] if at_each else [""]

    def of(self, arms: pd.DataFrame, masking: str) -> pd.Series:
        """Return the effect on one metric.

        Parameters
        ----------
        arms : DataFrame
            A column per (bn, masking).
        masking : str
            The masking that stands for `SAME`.
        """

        def side(cells):
            return sum(arms[bn, masking if at == SAME else at] for bn, at in cells)

        return side(self.plus) - side(self.minus)


EFFECTS = {
    "substitution": Effect([("hidden", NONE)], [("none", BEST)]),
    "hidden BN": Effect([("hidden", SAME)], [("none", SAME)]),
    "masking without BN": Effect([("none", MASKED)], [("none", NONE)]),
    "masking with hidden BN": Effect([("hidden", MASKED)], [("hidden", NONE)]),
    "interaction": Effect(
        [("hidden", MASKED), ("none", NONE)], [("hidden", NONE), ("none", MASKED)]
    ),
    "output BN alone": Effect([("output", SAME)], [("none", SAME)]),
    "output BN with hidden BN": Effect([("hidden + output", SAME)], [("hidden", SAME)]),
}


def read_blocks(results: Path, record: Record) -> pd.DataFrame:
    """Return the runs of all blocks that have results.

    Seeds that lack a run at one of the block's rates, and candidates (learning rates and maskings)
    that lack a seed, are left out; what is left out is printed.

    Parameters
    ----------
    results : Path
        The folder of all results.
    record : Record
        The record that holds each run's path.

    Returns
    -------
    DataFrame
        A row per run and snapshot: ``setting``, ``pooled``, ``loss``, ``bn``, ``masking``,
        ``learning_rate``, ``is_equal`` (whether the learning rate is one of the block's), ``seed``,
        ``snapshot``, ``run``, the criteria and the metrics; ``path`` is a run's history.

    Raises
    ------
    UserError
        If no block has results.
    """
    blocks = []
    for name, block in BLOCKS.items():
        path = results / name / "results.csv"
        if not path.exists():
            continue
        rows = pd.read_csv(path, keep_default_na=False, na_values=[""])
        rows = rows[rows["learning_rate"].notna() & (rows["status"] != "failed")]
        rows = rows.rename(columns={"dropout": "masking"}).replace({"masking": block.masking})
        rows = rows.assign(
            setting=block.setting,
            pooled=block.pooled,
            is_equal=rows["learning_rate"].isin(block.rates),
        )
        for loss, of_loss in rows.groupby("loss", sort=False):
            blocks.append(complete(of_loss, block.rates, f"{block.setting}, {loss}"))
    blocks = [block for block in blocks if len(block)]
    if not blocks:
        raise UserError(
            f"{results}: no seed of {' or '.join(BLOCKS)} is complete; run make core, which resumes"
        )
    runs = pd.concat(blocks, ignore_index=True)
    runs["log_loss"] = 100 * np.log(runs["test_loss"])
    runs["path"] = [record.lines[run]["history"] for run in runs["run"]]
    return runs


def read_references(results: Path) -> pd.DataFrame:
    """Return the references of all blocks: ``setting``, ``arm``, ``seed`` and the metrics.

    Parameters
    ----------
    results : Path
        The folder of all results.
    """
    parts = []
    for name, block in BLOCKS.items():
        path = results / name / "results.csv"
        if path.exists():
            rows = pd.read_csv(path)
            parts.append(rows[rows["learning_rate"].isna()].assign(setting=block.setting))
    return pd.concat(parts, ignore_index=True)


def complete(rows: pd.DataFrame, rates: list[float], block: str) -> pd.DataFrame:
    """Return the complete part of a block: all its arms and learning rates at the same seeds.

    Parameters
    ----------
    rows : DataFrame
        A row per run and snapshot.
    rates : list of float
        The learning rates that every arm needs.
    block : str
        The name that a message gives the block.
    """
    needed = [
        (bn, masking, rate)
        for bn in ("none", "hidden", "output", "hidden + output")
        for masking in (NONE, MASKED)
        for rate in rates
    ]
    there = rows.groupby("seed")[["bn", "masking", "learning_rate"]].apply(
        lambda runs: set(needed) <= set(runs.itertuples(index=False, name=None))
    )
    seeds = list(there.index[there])
    rows = rows[rows["seed"].isin(seeds)]
    per_candidate = rows.groupby(["bn", "masking", "learning_rate"])["seed"].transform("nunique")
    kept = rows[per_candidate == len(seeds)]
    if not there.all() or len(kept) < len(rows):
        print(
            f"{block}: {len(seeds)} of {len(there)} seeds are complete; "
            f"{rows['run'].nunique() - kept['run'].nunique()} of their runs are left out, because "
            "another of these seeds lacks them"
        )
    return kept


def all_effects(runs: pd.DataFrame) -> pd.DataFrame:
    """Return every effect in every analysis, seed by seed.

    Parameters
    ----------
    runs : DataFrame
        See `read_blocks`.

    Returns
    -------
    DataFrame
        ``effect``, ``metric``, `CHOICES`, ``seed`` and ``value``.
    """
    parts = []
    for (setting, loss), block in runs.groupby(["setting", "loss"], sort=False):
        arms = pd.concat(
            {(str(rate), epoch): arms for rate, epoch, arms in _analyses(block)},
            names=["rate", "epoch"],
        )
        for metric in PATH_METRICS:
            cells = arms[metric].unstack(["bn", "masking"])  # by rate, epoch and seed
            for name, effect in EFFECTS.items():
                for masking in effect.maskings:
                    values = effect.of(cells, masking).rename("value").dropna().reset_index()
                    values[["effect", "metric", "setting", "loss", "masking"]] = (
                        name, metric, setting, loss, masking
                    )  # fmt: skip
                    parts.append(values)
    return pd.concat(parts, ignore_index=True)[["effect", "metric", *CHOICES, "seed", "value"]]


def _analyses(block: pd.DataFrame) -> Iterator[tuple]:
    """Yield learning rate, epoch, and the metrics of all arms by (bn, masking, seed)."""
    metrics = list(PATH_METRICS)
    for snapshot in SNAPSHOTS:
        rows, judge = block[block["snapshot"] == snapshot], JUDGED_BY[snapshot]
        for rate in sorted(set(rows["learning_rate"][rows["is_equal"]])):
            equal = rows[rows["learning_rate"] == rate]
            yield rate, snapshot, _with_best_masking(equal, equal, ["masking"], judge)[metrics]
        for criterion in CRITERIA:
            tuned = _per_arm(rows, cross_fitted, ["learning_rate"], criterion)
            arms = _with_best_masking(tuned, rows, ["masking", "learning_rate"], criterion)
            yield criterion, snapshot, arms[metrics]
            if snapshot == "loss":
                yield criterion, EQUAL_LOSS, _at_equal_loss(arms)
        expected = _per_arm(rows, expected_best, [*metrics, judge], judge, BUDGET)
        arms = _with_best_masking(expected, expected, ["masking"], judge)
        yield f"best of {BUDGET}", snapshot, arms[metrics]


def _per_arm(rows, function, *arguments):
    return pd.concat(
        [
            function(arm, *arguments).assign(bn=bn, masking=masking)
            for (bn, masking), arm in rows.groupby(["bn", "masking"], sort=False)
        ]
    )


def _with_best_masking(arms, candidates, by, criterion):
    """Return the arms by (bn, masking, seed), with `BEST` as a further masking."""
    masked = candidates[candidates["masking"] != NONE]
    best = pd.concat(
        [cross_fitted(rows, by, criterion) for _, rows in masked.groupby("bn", sort=False)]
    )
    return pd.concat([arms, best.assign(masking=BEST)]).set_index(["bn", "masking", "seed"])


def _at_equal_loss(arms):
    """Return the validation metrics where each arm first reaches a loss that all arms reach."""
    metrics = {name: path for name, path in PATH_METRICS.items() if path}
    rows = {}
    for _, of_seed in arms.groupby("seed"):
        reached = max(np.nanmin(np.array(p["valid_loss"], float)) for p in of_seed["path"])
        for index, path in of_seed["path"].items():
            epoch = int(np.argmax(np.array(path["valid_loss"], float) <= reached))
            rows[index] = [path[name][epoch] for name in metrics.values()]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(metrics), dtype=float)
    table.index = pd.MultiIndex.from_tuples(table.index, names=arms.index.names)
    return table


def at_chosen_rates(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the analyses in which every arm has the learning rate that validation chose for it."""
    return effects[effects["rate"].isin(CRITERIA)]


def analyses(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of every analysis over its seeds, with an interval from Student's t.

    Parameters
    ----------
    effects : DataFrame
        See `all_effects`.

    Returns
    -------
    DataFrame
        ``effect``, ``metric``, `CHOICES`, ``n``, ``mean``, ``low`` and ``high``; the limits are NaN
        for one seed.
    """
    by = effects.groupby(["effect", "metric", *CHOICES], sort=False)["value"]
    return student_intervals(by).reset_index()


def student_intervals(groups) -> pd.DataFrame:
    """Return n, mean and the limits of Student's interval of every group of values.

    Parameters
    ----------
    groups : SeriesGroupBy
        One value per seed in each group.
    """
    table = groups.agg(n="count", mean="mean", deviation="std")
    half = stats.t.ppf((1 + CONFIDENCE) / 2, table["n"] - 1) * table.pop("deviation")
    half /= np.sqrt(table["n"])
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


class Verdict(NamedTuple):
    """What all analyses say together about one effect in one metric."""

    effect: str
    metric: str
    group: str  # the levels of the choices that the analyses share, such as a loss
    mean: float  # over all analyses, blocks with equal weights
    low: float  # limits of the mean's interval, from the seeds
    high: float
    n: str  # seeds of each block, such as 3 + 3
    analyses: int  # how many
    higher: int  # analyses with a mean above 0
    lower: int  # and below 0
    above: int  # analyses with an interval above 0
    below: int
    p: float  # of no effect, corrected after Holm
    p_equivalent: float  # of an effect beyond the margin, corrected after Holm
    verdict: str


def judge(effects: pd.DataFrame, group: list[str]) -> list[Verdict]:
    """Return the verdicts of all effects in all metrics, for every level of some choices.

    Parameters
    ----------
    effects : DataFrame
        See `all_effects`.
    group : list of str
        The choices, from `CHOICES`, whose levels get separate verdicts.  If it is empty, one
        verdict covers all levels.

    Returns
    -------
    list of Verdict
        Holm's correction is over the effects of one metric and one group.
    """
    verdicts = []
    effects = effects.assign(group=effects[group].agg(", ".join, axis=1) if group else ALL)
    for (name, metric), rows in effects.groupby(["group", "metric"], sort=False):
        each = analyses(rows)
        summaries = {effect: _summary(of, MARGINS[metric]) for effect, of in rows.groupby("effect")}
        p, p_equivalent = (
            multipletests([summary[key] for summary in summaries.values()], method="holm")[1]
            for key in ("p", "p_equivalent")
        )
        for (effect, summary), p_holm, p_inside in zip(summaries.items(), p, p_equivalent):
            of = each[each["effect"] == effect]
            facts = {
                "mean": summary["mean"], "low": summary["low"], "high": summary["high"],
                "n": summary["n"], "analyses": len(of),
                "higher": int((of["mean"] > 0).sum()), "lower": int((of["mean"] < 0).sum()),
                "above": int((of["low"] > 0).sum()), "below": int((of["high"] < 0).sum()),
                "p": float(p_holm), "p_equivalent": float(p_inside),
            }  # fmt: skip
            inside = bool((of["mean"].abs() < MARGINS[metric]).all())
            verdicts.append(
                Verdict(effect, metric, name, **facts, verdict=_verdict(facts, of, inside))
            )
    order = list(EFFECTS)
    return sorted(verdicts, key=lambda verdict: order.index(verdict.effect))


def _summary(rows: pd.DataFrame, margin: float) -> dict:
    """Return the mean over analyses, with what the seeds say about it; blocks are fixed."""
    per_seed = rows.groupby(["setting", "loss", "seed"])["value"].mean()
    blocks = per_seed.groupby(["setting", "loss"]).agg(["mean", "var", "count"])
    mean = blocks["mean"].mean()
    variances = blocks["var"] / blocks["count"] / len(blocks) ** 2
    error = np.sqrt(variances.sum())
    with np.errstate(divide="ignore", invalid="ignore"):  # one seed, or no variance at all
        # Welch and Satterthwaite's degrees of freedom.
        df = variances.sum() ** 2 / (variances**2 / (blocks["count"] - 1)).sum()
        half = stats.t.ppf((1 + CONFIDENCE) / 2, df) * error
        p = 2 * stats.t.sf(np.abs(mean) / error, df)
        p_equivalent = stats.t.sf((margin - np.abs(mean)) / error, df)
    return {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "n": " + ".join(str(count) for count in blocks["count"]),
        "p": np.nan_to_num(p, nan=1.0),  # nothing is known
        "p_equivalent": np.nan_to_num(p_equivalent, nan=1.0),
    }


class AcrossSettings(NamedTuple):
    """An effect whose settings are a sample of settings, as blocks of a mixed model."""

    mean: float
    low: float  # limits of the mean's 95 % interval
    high: float
    spread: float  # standard deviation between blocks


def across_settings(effects: pd.DataFrame) -> AcrossSettings:
    """Fit a mixed model of one effect: a mean, a random deviation per block, and one per seed.

    A block is a setting with a loss, and its seeds are averaged over their analyses first.  The
    limits are from Student's t with one degree of freedom less than there are blocks.

    Parameters
    ----------
    effects : DataFrame
        Rows of `all_effects`, of one effect and one metric, in two blocks or more.
    """
    values = effects.groupby(["setting", "loss", "seed"])["value"].mean()
    blocks = values.groupby(["setting", "loss"]).ngroup()
    scale = values.std()  # the fit converges best near 1
    fit = MixedLM(values.to_numpy() / scale, np.ones(len(values)), groups=blocks).fit(reml=True)
    mean, error = scale * fit.fe_params[0], scale * fit.bse_fe[0]
    half = stats.t.ppf((1 + CONFIDENCE) / 2, blocks.nunique() - 1) * error
    spread = scale * np.sqrt(np.squeeze(fit.cov_re))
    return AcrossSettings(mean, mean - half, mean + half, float(spread))


def _verdict(facts: dict, of: pd.DataFrame, inside: bool) -> str:
    if facts["analyses"] in (facts["higher"], facts["lower"]) and facts["p"] < ALPHA:
        return "higher" if facts["higher"] else "lower"
    if inside and facts["p_equivalent"] < ALPHA:
        return "equivalent"
    if facts["above"] and facts["below"]:
        choice = deciding_choice(of)
        return f"depends on the {'learning rate' if choice == 'rate' else choice}"
    return "undecided"


def deciding_choice(of: pd.DataFrame) -> str:
    """Return the choice that explains most of the variance between analyses of one effect.

    Parameters
    ----------
    of : DataFrame
        Rows of `analyses` of one effect and one metric.

    Returns
    -------
    str
        One of `CHOICES`: the one whose levels' means have the largest variance, adjusted for the
        number of levels (omega squared without its constant terms).
    """
    means = of["mean"].to_numpy()
    total, scores = ((means - means.mean()) ** 2).sum(), {}
    for choice in CHOICES:
        levels = of.groupby(choice)["mean"].agg(["mean", "count"])
        between = (levels["count"] * (levels["mean"] - means.mean()) ** 2).sum()
        k, n = len(levels), len(means)
        scores[choice] = between - (k - 1) * (total - between) / max(n - k, 1)
    return max(scores, key=lambda choice: scores[choice])
