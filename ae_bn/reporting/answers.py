"""What the answers rest on: the effects over all settings, the recipes, and three figures.

- `draw_first`: the codes with a dropout off and on, with BN and without: the figure of the README;
- `draw_codes`: the codes over the masking, for each corpus and loss;
- `draw_settings`: effects in every setting, and their mean.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ae_bn.files import atomic_write
from ae_bn.reporting.effects import (
    JUDGED_BY,
    OWN_EPOCH,
    all_effects,
    as_used,
    at_chosen_rates,
)
from ae_bn.reporting.estimates import estimate, mean_interval, title
from ae_bn.reporting.figures import BN_COLORS, save
from ae_bn.reporting.predictions import FRESH, Prediction, predictions
from ae_bn.reporting.selection import best_rate, rate_scores, signed
from ae_bn.reporting.settings import BLOCKS, MASKING, read_blocks, read_references
from ae_bn.study.record import Record

# The levels of masking, and the probability that a word is masked.
MASKINGS = {"none": 0.0, "masking .3": 0.3, "masking .5": 0.5, "masking .7": 0.7, "masking .9": 0.9}
# What codes are for: the metric, and the kept epoch.
PURPOSES = {
    "classification": ("probe_accuracy", "accuracy"),
    "retrieval": ("centred_precision", "precision"),
}
OF_SETTING = ["corpus", "loss", "pooled"]  # what a setting decides


class Recipe(NamedTuple):
    """What to use for one purpose, and what it scores."""

    purpose: str
    loss: str
    bn: str
    dropout: str
    learning_rate: float
    epoch: str  # the snapshot
    scores: pd.DataFrame  # by corpus and arm, the references included: n, mean, low, high


class Answers:
    """Everything that the report says about the settings of the answers.

    Parameters
    ----------
    tables : dict of str to DataFrame
        The runs of every experiment, see `ae_bn.study.results.recorded_table`.
    record : Record
        The record of their runs.
    results : Path
        The folder of all results, for the figures.

    Attributes
    ----------
    runs, effects : DataFrame
        See `ae_bn.reporting.settings.read_blocks` and `ae_bn.reporting.effects.all_effects`.
    used, chosen, every : DataFrame
        The effects as one would use the codes (`ae_bn.reporting.effects.as_used`), and their means
        over the analyses at chosen learning rates and over all: a row per effect, metric, setting,
        dropout and seed.
    recipes : dict of str to Recipe
        By purpose.
    """

    def __init__(self, tables: dict[str, pd.DataFrame], record: Record, results: Path):
        self.tables = tables
        self.results = results
        self.runs = read_blocks(tables, record)
        self.effects = all_effects(self.runs)
        self.used = over_analyses(as_used(self.effects))
        self.chosen = over_analyses(at_chosen_rates(self.effects))
        self.every = over_analyses(self.effects)
        self.recipes = recommend(self.runs, read_references(tables))

    @cached_property
    def predictions(self) -> list[Prediction]:
        """The predictions for fresh seeds and what these gave; none before they ran."""
        if FRESH not in self.tables:
            return []
        written = self.results / FRESH / "predictions.csv"
        return predictions(written, self.tables[FRESH])

    def write_figures(self, titles: dict[tuple[str, str], str], shown: list) -> None:
        """Draw the figures into the folder ``answers`` of the results.

        Parameters
        ----------
        titles : dict
            See `draw_first`.
        shown : list of (effect, metric)
            The effects of `draw_settings`.
        """
        corpora = [BLOCKS[name].name for name in ("core", "core_other_copy", "core_reuters")]
        masked = (self.runs["about"] == MASKING) & self.runs["name"].isin(corpora)
        figures = {
            "first": draw_first(self.used, titles),
            "codes": draw_codes(self.runs[masked]),
            "settings": draw_settings(self.used[self.used["pooled"]], shown),
        }
        if "closed_form" in self.tables:
            figures["closed_form"] = draw_closed_form(self.runs, self.tables["closed_form"])
        for name, figure in figures.items():
            with atomic_write(self.results / "answers" / f"{name}.png", "wb") as file:
                save(figure, file, dpi=200 if name == "first" else 100)
            plt.close(figure)


def over_analyses(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the means of effects over their analyses, seed by seed."""
    by = ["effect", "metric", "setting", "dropout", "seed", *OF_SETTING]
    return effects.groupby(by, sort=False)[["value", "plus", "minus"]].mean().reset_index()


def find(effects: pd.DataFrame, effect: str, metric: str, where: dict) -> pd.DataFrame:
    """Return the rows of an effect on a metric, with the levels that are asked for."""
    found = effects[(effects["effect"] == effect) & (effects["metric"] == metric)]
    if "setting" not in where and "pooled" in found:
        found = found[found["pooled"]]
    for column, level in where.items():
        found = found[found[column] == level]
    return found


def recommend(runs: pd.DataFrame, references: pd.DataFrame) -> dict[str, Recipe]:
    """Return the recipe for each of `PURPOSES`, chosen by validation on the first corpus.

    The arm with the best mean is taken, and of its learning rates within one standard error of the
    best the smallest.

    Parameters
    ----------
    runs : DataFrame
        See `ae_bn.reporting.settings.read_blocks`.
    references : DataFrame
        ``name``, ``arm``, ``seed`` and the metrics of the references.
    """
    recipes, of_recipe = {}, ["loss", "bn", "dropout", "learning_rate"]
    runs = runs[runs["about"] == MASKING]
    for purpose, (metric, epoch) in PURPOSES.items():
        rows = runs[runs["snapshot"] == epoch]
        first = rows[rows["name"] == rows["name"].iloc[0]]
        score = signed(first, JUDGED_BY[epoch])
        best = score.groupby([first[key] for key in of_recipe]).mean().idxmax()
        loss, bn, dropout = arm = list(best)[:3]
        of_arm = first[(first[of_recipe[:3]] == arm).all(axis=1)].assign(arm=purpose)
        rate, _ = best_rate(rate_scores(of_arm, JUDGED_BY[epoch])[purpose])
        ours = rows[(rows[of_recipe] == [*arm, rate]).all(axis=1)].assign(arm="this recipe")
        ours = ours[ours["name"].isin(references["name"])]
        together = pd.concat([ours, references[references["name"].isin(ours["name"])]])
        scores = {
            key: [of[metric].count(), *mean_interval(of[metric].dropna())]
            for key, of in together.groupby(["name", "arm"], sort=False)
        }
        table = pd.DataFrame.from_dict(scores, orient="index", columns=["n", "mean", "low", "high"])
        table.index = pd.MultiIndex.from_tuples(table.index, names=["corpus", "arm"])
        recipes[purpose] = Recipe(purpose, loss, bn, dropout, rate, epoch, table)
    return recipes


def draw_first(used: pd.DataFrame, titles: dict[tuple[str, str], str]) -> Figure:
    """Draw linear-probe accuracy with a dropout off and on, with BN and without, on 20 Newsgroups.

    Parameters
    ----------
    used : DataFrame
        See `Answers`.
    titles : dict of (loss, dropout) to str
        What is seen in each panel: a row for each loss, a column for each dropout.
    """
    losses = list(dict.fromkeys(loss for loss, _ in titles))
    dropouts = list(dict.fromkeys(dropout for _, dropout in titles))
    figure, axes = plt.subplots(
        len(losses), len(dropouts), figsize=(4.3, 5.2), squeeze=False, sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for (loss, dropout), axis in zip(titles, axes.flat):
        ends = {}
        for name, bn, label in (("with hidden BN", "hidden", "with BN"),
                                ("without BN", "none", "without BN")):  # fmt: skip
            where = {"setting": f"20 Newsgroups, {loss}"}
            rows = find(used, f"{dropout} {name}", "probe_accuracy", where)
            sides = rows.groupby("seed")[["minus", "plus"]].mean()
            axis.plot([0, 1], sides.mean(), "o-", color=BN_COLORS[bn])
            axis.vlines([0, 1], sides.min(), sides.max(), color=BN_COLORS[bn])
            ends[label] = (sides["plus"].mean(), BN_COLORS[bn])
        for (label, (end, color)), align in zip(sorted(ends.items(), key=lambda item: item[1]),
                                                ("top", "bottom")):  # fmt: skip
            axis.text(1.08, end, label, color=color, va=align, fontsize=8)
        axis.set_title(titles[loss, dropout], fontsize=8.5, loc="left", fontweight="bold")
        axis.set_xlim(-0.15, 1.95)
        axis.set_xticks([0, 1], ["off", "on"], fontsize=8)
        axis.tick_params(axis="y", labelsize=8)
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    for axis, dropout in zip(axes[-1], dropouts):
        axis.set_xlabel({"masking": "masking of the input"}.get(dropout, "dropout of hidden units"),
                        fontsize=8, loc="left")  # fmt: skip
    for axis, loss in zip(axes[:, 0], losses):
        axis.set_ylabel(f"{loss}:\naccuracy of codes", fontsize=8)
    return figure


def draw_codes(runs: pd.DataFrame) -> Figure:
    """Draw the codes' metrics over the masking, a line per placement of BN, a column per setting.

    Epoch and learning rate of an arm are those with the best validation value of the row's metric.

    Parameters
    ----------
    runs : DataFrame
        Rows of `ae_bn.reporting.settings.read_blocks`.
    """
    metrics = [metric for metric, _ in PURPOSES.values()]
    settings = list(runs.groupby("setting", sort=False))
    figure, axes = plt.subplots(
        len(metrics), len(settings), figsize=(2.4 * len(settings), 6), squeeze=False, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for row, metric in zip(axes, metrics):
        row[0].set_ylabel(title(metric))
        own = OWN_EPOCH[metric]
        for axis, (_, of_setting) in zip(row, settings):
            for bn, color in BN_COLORS.items():
                rows = of_setting[(of_setting["bn"] == bn) & (of_setting["snapshot"] == own)]
                scores = rate_scores(rows.assign(arm=rows["dropout"]), JUDGED_BY[own])
                rates = {dropout: best_rate(of_arm)[0] for dropout, of_arm in scores.items()}
                shown = rows[rows["learning_rate"] == rows["dropout"].map(rates)]
                points = shown.groupby(shown["dropout"].map(MASKINGS))[metric]
                points = points.agg(["mean", "min", "max"]).sort_index()
                axis.plot(points["mean"], "o-", markersize=4, color=color, label=bn)
                axis.vlines(points.index, points["min"], points["max"], color=color)
    for axis, (setting, _) in zip(axes[0], settings):
        axis.set_title(setting.replace(", ", ",\n"), fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("masking")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="BN", loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_settings(used: pd.DataFrame, shown: list[tuple[str, str]]) -> Figure:
    """Draw effects in every setting, with intervals over seeds, and their means over settings.

    Parameters
    ----------
    used : DataFrame
        Rows of `Answers.used`.
    shown : list of (effect, metric)
    """
    names = list(dict.fromkeys(used["setting"]))
    figure, axes = plt.subplots(
        1, len(shown), figsize=(2.6 * len(shown) + 2.5, 0.3 * len(names) + 1.4), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, (effect, metric) in zip(axes[0], shown):
        rows = find(used, effect, metric, {})
        points = {name: estimate(of) for name, of in rows.groupby("setting", sort=False)}
        if len(points) > 2:
            points["mean, over settings"] = estimate(rows)
        axis.axvline(0, color="0.3", linewidth=1)
        for name, found in points.items():
            height = names.index(name) if name in names else len(names)
            color = "black" if height == len(names) else BN_COLORS["hidden"]
            axis.plot([found.low, found.high], [height, height], color=color)
            axis.plot(found.mean, height, "o", color=color, markersize=5)
        means = [found.mean for found in points.values()]
        reach = 2.5 * max(map(abs, means), default=1)  # intervals from two seeds can be far wider
        axis.set_xlim(max(-reach, axis.get_xlim()[0]), min(reach, axis.get_xlim()[1]))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_title(effect.replace(" of ", "\nof ").replace(" with ", "\nwith "), fontsize=9)
        axis.set_xlabel(title(metric) + (" (%)" if metric == "log_loss" else ""))
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].set_yticks(np.arange(len(names) + 1), [*names, "mean, over settings"])
    axes[0, 0].set_ylim(len(names) + 0.6, -0.6)
    return figure


def draw_closed_form(runs: pd.DataFrame, closed_form: pd.DataFrame) -> Figure:
    """Draw codes over the masking: the linear denoiser's, and the network's with BN and without.

    The network has squared error on 20 Newsgroups and a learning rate of 0.0005, and each metric
    is read at its own best validation epoch.

    Parameters
    ----------
    runs : DataFrame
        See `ae_bn.reporting.settings.read_blocks`.
    closed_form : DataFrame
        The runs of the experiment ``closed_form``.
    """
    network = runs["setting"].eq("20 Newsgroups, squared error") & runs["about"].eq(MASKING)
    network = runs[network & runs["learning_rate"].eq(0.0005)]
    lines = {"closed form, no network": (closed_form, "arm", "0.5")}
    for bn, label in (("none", "network without BN"), ("hidden", "network with BN")):
        lines[label] = (network[network["bn"] == bn], "dropout", BN_COLORS[bn])
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, metric in zip(axes, ("probe_accuracy", "centred_precision")):
        for label, (rows, level, color) in lines.items():
            if level == "dropout":
                rows = rows[rows["snapshot"] == OWN_EPOCH[metric]]
            names = rows[level].replace("no masking", "none")
            points = rows.groupby(names.map(MASKINGS))[metric].agg(["mean", "min", "max"])
            style = "o--" if level == "arm" else "o-"
            axis.plot(points["mean"], style, markersize=4, color=color, label=label)
            axis.vlines(points.index, points["min"], points["max"], color=color)
        axis.set(xlabel="masking", ylabel=title(metric))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    return figure
