"""The figures and tables of the answers, from the runs of the core blocks.

Four figures, of which ``make report`` puts the last three into an interactive page, too:

- `draw_codes`: the quality of the codes over the masking, for each corpus and loss;
- `draw_paths`: the codes over the validation loss, epoch by epoch;
- `draw_rates`: the metrics over the learning rate;
- `draw_specifications`: one effect in all its analyses, sorted.
"""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Iterable, NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ae_bn.files import atomic_write
from ae_bn.reporting.estimands import (
    BLOCKS,
    CHOICES,
    JUDGED_BY,
    MARGINS,
    OLD,
    PATH_METRICS,
    Verdict,
    across_settings,
    all_effects,
    analyses,
    at_chosen_rates,
    judge,
    read_blocks,
    read_references,
    student_intervals,
)
from ae_bn.reporting.figures import MARKED
from ae_bn.reporting.selection import CRITERIA
from ae_bn.reporting.tables import Table
from ae_bn.study.record import Record

TITLES = {
    "log_loss": "held-out loss",
    "probe_accuracy": "linear-probe accuracy",
    "centred_precision": "centred precision",
    "raw_precision": "raw precision",
}
DIGITS = {"log_loss": 1}  # of effects; the others have 3
# Their namesakes along the path.
PATH_TITLES = {path: TITLES[name] for name, path in PATH_METRICS.items() if path}
# Okabe and Ito's colours, which colour-blind readers tell apart.
COLORS = {"none": "#000000", "hidden": "#0072B2", "output": "#E69F00", "hidden + output": "#D55E00"}
# The levels of masking, and the probability that a word is masked.
MASKINGS = {"none": 0.0, "masking .3": 0.3, "masking .5": 0.5, "masking .7": 0.7, "masking .9": 0.9}
WORST = 1.25  # a path is shown from the epoch at which the loss is this many times the lowest
# The epoch at which a metric is shown: the best one by its own criterion.
OWN_EPOCH = {
    "test_loss": "loss",
    "probe_accuracy": "accuracy",
    "centred_precision": "precision",
    "raw_precision": "precision",
}
# What codes are for: the epoch, the criterion that chooses the recipe, and the metric.
PURPOSES = {
    "classification": ("accuracy", "valid_accuracy", "probe_accuracy"),
    "retrieval": ("precision", "valid_centred_precision", "centred_precision"),
}
ACROSS, ABOVE, BELOW = "0.6", "#009E73", "#D55E00"  # colours of intervals around 0, above, below


def chosen_rate(runs: pd.DataFrame, criterion: str) -> pd.DataFrame:
    """Return the runs of every arm at the learning rate that all seeds together choose.

    Parameters
    ----------
    runs : DataFrame
        Rows of `ae_bn.reporting.estimands.read_blocks`, of one snapshot.
    criterion : str
        A key of `ae_bn.reporting.selection.CRITERIA`.
    """
    sign = 1 if CRITERIA[criterion] else -1
    arm = ["setting", "loss", "bn", "masking"]
    means = (sign * runs[criterion]).groupby([runs[key] for key in [*arm, "learning_rate"]]).mean()
    best = means.groupby(arm).idxmax()
    return (
        runs.set_index([*arm, "learning_rate"], drop=False).loc[list(best)].reset_index(drop=True)
    )


class Answers:
    """Everything that the report says about the core blocks.

    Parameters
    ----------
    results : Path
        The folder of all results; its core blocks and its record are read.

    Attributes
    ----------
    runs, each : DataFrame
        See `ae_bn.reporting.estimands.read_blocks` and `ae_bn.reporting.estimands.analyses`.
    effects : DataFrame
        See `ae_bn.reporting.estimands.all_effects`.
    verdicts, chosen : dict of (effect, metric, group) to Verdict
        Over all analyses, and over those at chosen learning rates.  Over the settings that are
        pooled a group is `ALL`, a loss, or a loss with a masking, such as "cross-entropy, none".
        Every setting is a group, such as "Reuters R52", and every block, such as "Reuters R52,
        squared error".
    recipes : list of Recipe
    """

    def __init__(self, results: Path):
        self.results = results
        self.runs = read_blocks(results, Record(results / "record"))
        gc.freeze()  # Holm's correction collects garbage at every call, and the paths are large
        self.effects = effects = all_effects(self.runs)
        self.each = analyses(effects)
        self.pooled = set(self.runs.loc[self.runs["pooled"], "setting"])
        of_pooled = effects[effects["setting"].isin(self.pooled)]
        groups = [(of_pooled, of) for of in ([], ["loss"], ["loss", "masking"])]
        groups += [(effects, of) for of in (["setting"], ["setting", "loss"])]
        self.verdicts, self.chosen = (
            {(v.effect, v.metric, v.group): v for rows, of in groups for v in judge(take(rows), of)}
            for take in (lambda rows: rows, at_chosen_rates)
        )
        self.recipes = recommend(self.runs, read_references(results))

    def row(self, effect: str, metric: str, group: str) -> list[str]:
        """Return effect and metric, then mean and agreement at chosen and at all rates."""
        chosen, every = self.chosen[effect, metric, group], self.verdicts[effect, metric, group]
        cells = [estimate(chosen), outcome(chosen), estimate(every), outcome(every)]
        return [effect, TITLES[metric], *cells]

    def settings_table(self, keys: list[tuple[str, str]]) -> Table:
        """Return each (effect, metric) at chosen rates in every setting, and across settings."""
        chosen = at_chosen_rates(self.effects)
        cells = {key: f"{estimate(v)}, {agreement(v)}" for key, v in self.chosen.items()}
        blocks = self.effects[["setting", "loss"]].drop_duplicates().agg(", ".join, axis=1)
        rows = [[block, *(cells[(*key, block)] for key in keys)] for block in blocks]
        last = []
        for effect, metric in keys:
            of = chosen[chosen["setting"].isin(self.pooled) & (chosen["effect"] == effect)]
            found = across_settings(of[of["metric"] == metric])
            text = interval(found.mean, found.low, found.high, metric)
            last.append(f"{text}; spread {found.spread:.{DIGITS.get(metric, 3)}f}")
        header = ["setting", *(f"{effect}: {TITLES[metric]}" for effect, metric in keys)]
        return Table("", header, [*rows, ["**mixed model**", *last]])

    def write_figures(self, headline: Iterable[tuple[str, str]]) -> list[str]:
        """Draw the figures into the folder ``answers`` of the results, and return their names.

        Paths and rates are those of the first setting.

        Parameters
        ----------
        headline : iterable of (effect, metric)
            The effects whose specification curves are drawn.
        """
        corpora = [BLOCKS[name].setting for name in ("core", "core_other_copy", "core_reuters")]
        figures = {"codes": draw_codes(self.runs[self.runs["setting"].isin(corpora)])}
        first = self.runs[self.runs["setting"] == self.runs["setting"].iloc[0]]
        for (setting, loss), block in first.groupby(["setting", "loss"], sort=False):
            levels = [level for level in MASKINGS if level in set(block["masking"])]
            of = _file_name(setting, loss)
            figures[f"paths_{of}"] = draw_paths(block, levels)
            figures[f"rates_{of}"] = draw_rates(block, levels)
        for effect, metric in headline:
            each = self.each.query("effect == @effect and metric == @metric")
            each = each[each["setting"].isin(self.pooled)]
            title = f"{effect}: effect on {TITLES[metric]}"
            figures[f"analyses_{_file_name(effect, metric)}"] = draw_specifications(each, title)
        for name, figure in figures.items():
            with atomic_write(self.results / "answers" / f"{name}.png", "wb") as file:
                figure.savefig(file, format="png", dpi=100)
            plt.close(figure)
        return list(figures)


def _file_name(*parts: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", " ".join(parts).lower())


def by_placement(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the runs of every placement of BN, in the order of `COLORS`."""
    groups = dict(list(runs.groupby("bn")))
    return [(bn, groups[bn]) for bn in COLORS if bn in groups]


def mean_path(paths: Iterable[dict]) -> pd.DataFrame:
    """Return the mean path of some runs, epoch by epoch, as far as all of them go.

    Parameters
    ----------
    paths : iterable of dict
        Histories of runs: a list per column.

    Returns
    -------
    DataFrame
        A row per epoch: the mean of each column, and ``NAME_low`` and ``NAME_high``, its lowest and
        highest value over the runs.
    """
    tables = [pd.DataFrame(path).astype(float) for path in paths]
    length = min(map(len, tables))
    values = np.stack([table[:length].to_numpy() for table in tables])  # (runs, epochs, columns)
    names = list(tables[0])
    parts = []
    for end, part in {"": values.mean(0), "_low": values.min(0), "_high": values.max(0)}.items():
        parts.append(pd.DataFrame(part, columns=[f"{name}{end}" for name in names]))
    return pd.concat(parts, axis=1)


def draw_codes(runs: pd.DataFrame) -> Figure:
    """Draw the codes' metrics over the masking, a line per placement of BN, a column per block.

    Epoch and learning rate of an arm are those with the best validation value of the row's metric.

    Parameters
    ----------
    runs : DataFrame
        Rows of `ae_bn.reporting.estimands.read_blocks`.
    """
    metrics = ["probe_accuracy", "centred_precision"]
    blocks = list(runs.groupby(["setting", "loss"], sort=False))
    figure, axes = plt.subplots(
        len(metrics), len(blocks), figsize=(2.4 * len(blocks), 6), squeeze=False, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for row, metric in zip(axes, metrics):
        row[0].set_ylabel(TITLES[metric])
        own = OWN_EPOCH[metric]
        for axis, (_, block) in zip(row, blocks):
            shown = chosen_rate(block[block["snapshot"] == own], JUDGED_BY[own])
            for bn, arm in by_placement(shown):
                by_masking = arm.groupby("masking")[metric].agg(["mean", "min", "max"])
                by_masking = by_masking.rename(MASKINGS).sort_index()
                axis.plot(by_masking["mean"], "o-", markersize=4, color=COLORS[bn], label=bn)
                limits = by_masking["min"], by_masking["max"]
                axis.vlines(by_masking.index, *limits, color=COLORS[bn])
    for axis, ((setting, loss), _) in zip(axes[0], blocks):
        axis.set_title(f"{setting},\n{loss}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("masking")
    _finish(figure, axes)
    return figure


def draw_paths(runs: pd.DataFrame, masking: list[str]) -> Figure:
    """Draw metrics of the codes against the validation loss, with a line per placement of BN.

    The learning rate of an arm is the one with the best validation accuracy.

    Parameters
    ----------
    runs : DataFrame
        Rows of `ae_bn.reporting.estimands.read_blocks`, of one setting and one loss.
    masking : list of str
        The masking levels to show, one per column.
    """
    metrics = PATH_TITLES
    shown = chosen_rate(runs[runs["snapshot"] == "accuracy"], "valid_accuracy")
    figure, axes = plt.subplots(
        len(metrics), len(masking), figsize=(4.2 * len(masking), 8), squeeze=False,
        sharex="col", sharey="row", layout="constrained",
    )  # fmt: skip
    for column, level in zip(axes.T, masking):
        for bn, arm in by_placement(shown[shown["masking"] == level]):
            path = mean_path(arm["path"])
            path = path[path["valid_loss"] <= WORST * path["valid_loss"].min()]
            marked = path[path["epoch"].isin(MARKED)]
            for axis, metric in zip(column, metrics):
                axis.plot(path["valid_loss"], path[metric], color=COLORS[bn], label=bn)
                limits = path[f"{metric}_low"], path[f"{metric}_high"]
                axis.fill_between(path["valid_loss"], *limits, color=COLORS[bn], alpha=0.2)
                axis.plot(marked["valid_loss"], marked[metric], ".", color=COLORS[bn])
            for epoch, x, y in marked[["epoch", "valid_loss", "valid_accuracy"]].to_numpy():
                column[0].annotate(f"{epoch:.0f}", (x, y), fontsize=6, color=COLORS[bn])
        column[0].set_title(_masking_title(level))
        column[-1].set_xlabel("validation loss per document (training goes to the left)")
    for axis, title in zip(axes[:, 0], metrics.values()):
        axis.set_ylabel(f"validation {title}")
    _finish(figure, axes)
    return figure


def draw_rates(runs: pd.DataFrame, masking: list[str]) -> Figure:
    """Draw the metrics of the test documents over the learning rate, a line per placement of BN.

    A solid line is at the best epoch by the metric's own validation criterion, a dotted one at the
    epoch of the lowest validation loss.  A ring marks the rate that the criterion chooses.

    Parameters
    ----------
    runs : DataFrame
        Rows of `ae_bn.reporting.estimands.read_blocks`, of one setting and one loss.
    masking : list of str
        The masking levels to show, one per column.
    """
    figure, axes = plt.subplots(
        len(OWN_EPOCH), len(masking), figsize=(4.2 * len(masking), 10), squeeze=False,
        sharex=True, sharey="row", layout="constrained",
    )  # fmt: skip
    for row, (metric, own) in zip(axes, OWN_EPOCH.items()):
        for snapshot, style in ((own, "-"), ("loss", ":")):
            of = runs[runs["snapshot"] == snapshot]
            chosen = chosen_rate(of, JUDGED_BY[snapshot])
            for axis, level in zip(row, masking):
                for bn, arm in by_placement(of[of["masking"] == level]):
                    by_rate = arm.groupby("learning_rate")[metric].agg(["mean", "min", "max"])
                    label = bn if style == "-" else None
                    axis.plot(by_rate["mean"], style, color=COLORS[bn], label=label)
                    if style == ":":
                        continue
                    limits = by_rate["min"], by_rate["max"]
                    axis.fill_between(by_rate.index, *limits, color=COLORS[bn], alpha=0.2)
                    best = chosen.query("bn == @bn and masking == @level")["learning_rate"].iloc[0]
                    axis.plot(best, by_rate["mean"][best], "o", mfc="white", color=COLORS[bn])
        row[0].set_ylabel(TITLES.get(metric, "held-out loss"))
    for axis, level in zip(axes[0], masking):
        axis.set_title(_masking_title(level))
    for axis in axes[-1]:
        rates = sorted(runs["learning_rate"].unique())
        axis.set_xscale("log", base=2)
        axis.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=60)
        axis.minorticks_off()
        axis.set_xlabel("learning rate")
    _finish(figure, axes)
    return figure


def draw_specifications(each: pd.DataFrame, title: str) -> Figure:
    """Draw one effect in all its analyses, sorted, with the choices of each below it.

    Parameters
    ----------
    each : DataFrame
        Rows of `ae_bn.reporting.estimands.analyses` of one effect and one metric.
    title : str
        The title of the figure.
    """
    each = each.sort_values("mean", ignore_index=True)
    metric = each["metric"].iloc[0]
    shown = {choice: levels(each[choice]) for choice in CHOICES if each[choice].nunique() > 1}
    rows = [(choice, level) for choice, of in shown.items() for level in of]
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 3 + 0.19 * len(rows)), sharex=True, layout="constrained",
        gridspec_kw={"height_ratios": [3, 0.19 * len(rows)]},
    )  # fmt: skip
    colors = np.select([each["low"] > 0, each["high"] < 0], [ABOVE, BELOW], ACROSS)
    margin = MARGINS[metric]
    top.axhspan(-margin, margin, color="0.93")
    top.axhline(0, color="0.3", linewidth=1)
    top.vlines(each.index, each["low"], each["high"], color=colors, linewidth=1)
    top.scatter(each.index, each["mean"], c=colors, s=8, zorder=3)
    old = (each[list(OLD)] == pd.Series(OLD)).all(axis=1)
    top.scatter(each.index[old], each["mean"][old], marker="D", s=28, facecolor="none",
                color="black", zorder=4, label="the analysis published at first")  # fmt: skip
    linear = 10 * margin  # intervals from two seeds can be far wider
    top.set_yscale("symlog", linthresh=linear, linscale=2)
    unit = " %" if metric == "log_loss" else ""
    top.set_ylabel(f"effect on {TITLES[metric]}\n(logarithmic beyond {linear:g}{unit})")
    top.yaxis.set_major_formatter("{x:g}" + unit)
    top.set_title(title, loc="left")
    top.legend(loc="upper left", frameon=False, fontsize=8)
    for height, (choice, level) in enumerate(rows):
        at = each.index[each[choice] == level]
        bottom.scatter(at, np.full(len(at), -height), marker="|", s=14, c=colors[at])
    bottom.set_yticks(-np.arange(len(rows)), [f"{c}: {spoken(level)}" for c, level in rows])
    bottom.tick_params(axis="y", labelsize=7)
    bottom.set_ylim(-len(rows) + 0.4, 0.6)
    bottom.set_xlabel(f"{len(each)} analyses, sorted by their effect")
    return figure


class Recipe(NamedTuple):
    """What to use for one purpose, and what it scores."""

    purpose: str
    loss: str
    bn: str
    masking: str
    learning_rate: float
    epoch: str  # the snapshot
    scores: pd.DataFrame  # by setting and arm, the references included: mean, low, high, n


def recommend(runs: pd.DataFrame, references: pd.DataFrame) -> list[Recipe]:
    """Return the recipe for each of `PURPOSES`, chosen by validation on the first setting.

    Parameters
    ----------
    runs : DataFrame
        See `ae_bn.reporting.estimands.read_blocks`.
    references : DataFrame
        ``setting``, ``arm``, ``seed`` and the metrics of the references.
    """
    recipes, of_recipe = [], ["loss", "bn", "masking", "learning_rate"]
    for purpose, (epoch, criterion, metric) in PURPOSES.items():
        rows = runs[runs["snapshot"] == epoch]
        first = rows[rows["setting"] == rows["setting"].iloc[0]]
        sign = 1 if CRITERIA[criterion] else -1
        best = (sign * first.groupby(of_recipe)[criterion].mean()).idxmax()
        ours = rows[(rows[of_recipe] == pd.Series(best, of_recipe)).all(axis=1)]
        ours = ours[ours["setting"].isin(references["setting"])]
        beside = references[references["setting"].isin(ours["setting"])]
        together = pd.concat([ours.assign(arm="this recipe"), beside])
        scores = student_intervals(together.groupby(["setting", "arm"], sort=False)[metric])
        loss, bn, masking, rate = best
        recipes.append(Recipe(purpose, loss, bn, masking, rate, epoch, scores))
    return recipes


def levels(column: pd.Series) -> list[str]:
    """Return the levels of a choice: learning rates by size, others as they come."""
    found = list(dict.fromkeys(column))
    return sorted(found, key=lambda level: (not _is_number(level), float(level) if _is_number(level)
                                            else 0))  # fmt: skip


def spoken(level: str) -> str:
    """Return a level of a choice as a reader sees it."""
    named = {
        "valid_loss": "by validation loss",
        "valid_accuracy": "by validation accuracy",
        "valid_centred_precision": "by validation precision",
        "loss": "lowest validation loss",
        "accuracy": "best validation accuracy",
        "precision": "best validation precision",
        "last": "last epoch",
        "none": "no masking",
    }
    return named.get(level, level)


def estimate(verdict: Verdict) -> str:
    """Return the mean of a verdict's analyses with its interval."""
    return interval(verdict.mean, verdict.low, verdict.high, verdict.metric)


def interval(mean: float, low: float, high: float, metric: str) -> str:
    """Return a mean effect on a metric with the limits of its interval."""
    digits, unit = DIGITS.get(metric, 3), " %" if metric == "log_loss" else ""
    return f"{mean:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}]"


def outcome(verdict: Verdict) -> str:
    """Return how many analyses agree, in bold if the verdict is a direction, and other verdicts."""
    if verdict.verdict in ("higher", "lower"):
        return f"**{agreement(verdict)}**"
    named = "" if verdict.verdict == "undecided" else f"; {verdict.verdict}"
    return agreement(verdict) + named


def mostly(verdict: Verdict, direction: str) -> bool:
    """Return whether an effect has a direction but for a few analyses.

    Nine of ten analyses have this sign, and at most one in twenty has an interval on the other side
    of 0, as many as chance allows.
    """
    with_it, against = (
        (verdict.higher, verdict.below) if direction == "higher" else (verdict.lower, verdict.above)
    )
    return with_it >= 0.9 * verdict.analyses and against <= 0.05 * verdict.analyses


def agreement(verdict) -> str:
    """Return in how many analyses an effect has the sign that most of them have.

    Parameters
    ----------
    verdict : Verdict, or anything with the numbers ``analyses``, ``higher`` and ``lower``
    """
    word, count = "higher", verdict.higher
    if verdict.lower > verdict.higher:
        word, count = "lower", verdict.lower
    of = f"{count} of {verdict.analyses}"
    if count == verdict.analyses:
        of = "both" if count == 2 else f"all {count}"
    return f"{word} in {of}"


def _is_number(level):
    return str(level).replace(".", "", 1).isdigit()


def _masking_title(level):
    return "no masking" if level == "none" else level


def _finish(figure, axes):
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="BN", loc="outside lower center", ncols=4, frameon=False)
