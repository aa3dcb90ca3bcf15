"""What the answers rest on: the effects over all settings, the recipes, and their figures.

- `draw_first`: the codes with a dropout off and on, with BN and without: the figure of the README;
- `draw_codes`: the codes over the masking, for each corpus and loss;
- `draw_settings`: effects in every setting, and their mean;
- `draw_closed_form`: the codes of the linear denoiser beside the network's.
"""

from __future__ import annotations

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
    find,
)
from ae_bn.reporting.estimates import Summary, estimate, summarize, title
from ae_bn.reporting.figures import BN_COLORS, GREY, Panel, draw_intervals, paint, save
from ae_bn.reporting.predictions import FRESH, Prediction, predictions
from ae_bn.reporting.selection import best_rate, rate_scores, signed
from ae_bn.reporting.settings import BLOCKS, HIDDEN, MASKING, read_blocks, read_references
from ae_bn.study.record import Record

# The levels of a dropout, and the probability that a hidden unit, or a word, is set to 0.
HIDDENS = {"none": 0.0, "hidden .1": 0.1, "hidden .3": 0.3, "hidden .5": 0.5}
MASKINGS = {"none": 0.0, "masking .3": 0.3, "masking .5": 0.5, "masking .7": 0.7, "masking .9": 0.9}
# What codes are for, and the metric that says how good they are.
PURPOSES = {"classification": "probe_accuracy", "retrieval": "centred_precision"}


class Recipe(NamedTuple):
    """What to use for one purpose, and what it scores."""

    metric: str  # of the purpose
    loss: str
    bn: str
    dropout: str
    learning_rate: float
    epoch: str  # the snapshot
    scores: dict[tuple[str, str], Summary]  # by arm and corpus, the references included


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
    used, chosen : DataFrame
        The effects as one would use the codes (`ae_bn.reporting.effects.as_used`), and at chosen
        learning rates.
    recipes : dict of str to Recipe
        By purpose.
    predictions : list of Prediction
        The predictions for fresh seeds and what these gave; none before they ran.
    """

    def __init__(self, tables: dict[str, pd.DataFrame], record: Record, results: Path):
        self.tables = tables
        self.results = results
        self.runs = read_blocks(tables, record)
        self.effects = all_effects(self.runs)
        self.used = as_used(self.effects)
        self.chosen = at_chosen_rates(self.effects)
        self.recipes = recommend(self.runs, read_references(tables))
        self.predictions: list[Prediction] = []
        if FRESH in tables:
            written = results / FRESH / "predictions.csv"
            self.predictions = predictions(written, tables[FRESH], self.effects)

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
        first = (self.runs["about"] == HIDDEN) & (self.runs["name"] == corpora[0])
        figures = {
            "first": draw_first(self.used, titles),
            "codes": draw_codes(self.runs[masked], MASKINGS, "masking"),
            "hidden": draw_codes(self.runs[first], HIDDENS, "dropout of hidden units"),
            "settings": draw_settings(self.used[self.used["pooled"]], shown),
        }
        if "closed_form" in self.tables:
            figures["closed_form"] = draw_closed_form(self.runs, self.tables["closed_form"])
        for name, figure in figures.items():
            with atomic_write(self.results / "answers" / f"{name}.png", "wb") as file:
                save(figure, file, dpi=200 if name == "first" else 100)
            plt.close(figure)


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
    for purpose, metric in PURPOSES.items():
        epoch = OWN_EPOCH[metric]
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
            (name, corpus): summarize(of[metric])
            for (corpus, name), of in together.groupby(["name", "arm"], sort=False)
        }
        recipes[purpose] = Recipe(metric, loss, bn, dropout, rate, epoch, scores)
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


def draw_codes(runs: pd.DataFrame, levels: dict[str, float], dropout: str) -> Figure:
    """Draw the codes' metrics over a dropout, a line per placement of BN, a column per setting.

    Epoch and learning rate of an arm are those with the best validation value of the row's metric.

    Parameters
    ----------
    runs : DataFrame
        Rows of `ae_bn.reporting.settings.read_blocks`.
    levels : dict of str to float
        The levels of the dropout that are shown, and their probabilities.
    dropout : str
        The name of the dropout.
    """
    grid: list[list[Panel]] = []
    runs = runs[runs["dropout"].isin(levels)]
    for metric in PURPOSES.values():
        own = OWN_EPOCH[metric]
        grid.append([])
        for setting, rows in runs[runs["snapshot"] == own].groupby("setting", sort=False):
            rows = rows.assign(arm=rows["bn"] + rows["dropout"])
            scores = rate_scores(rows, JUDGED_BY[own])
            rates = {arm: best_rate(of_arm)[0] for arm, of_arm in scores.items()}
            rows = rows[rows["learning_rate"] == rows["arm"].map(rates)]
            lines = [
                (
                    _over(levels, rows[rows["bn"] == bn], "dropout", metric),
                    _look(f"BN: {bn}", color),
                )
                for bn, color in BN_COLORS.items()
                if (runs["bn"] == bn).any()
            ]
            grid[-1].append(Panel(setting.replace(", ", ",\n"), title(metric), lines))
    return paint(grid, dropout, width=2.4, sharex=True)[0]


def _over(levels: dict[str, float], rows: pd.DataFrame, level: str, metric: str) -> pd.DataFrame:
    """Return means over seeds and ranges of a metric, by the dropout that a column names."""
    points = rows.groupby(rows[level].map(levels))[metric].agg(mean="mean", low="min", high="max")
    return points.rename_axis("x").reset_index()


def _look(label: str, color: str, style: str = "-") -> dict:
    return {"label": label, "color": color, "linestyle": style, "marker": "o", "markersize": 4}


def draw_settings(used: pd.DataFrame, shown: list[tuple[str, str]]) -> Figure:
    """Draw effects in every setting, with intervals over seeds, and their means over settings.

    Parameters
    ----------
    used : DataFrame
        Rows of `Answers.used`.
    shown : list of (effect, metric)
    """
    mean, unknown = "mean, over settings", (np.nan, np.nan, np.nan)
    names = [*used["setting"].unique(), mean]
    figure, axes = plt.subplots(
        1, len(shown), figsize=(2.6 * len(shown) + 2.5, 0.3 * len(names) + 1.1), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, (effect, metric) in zip(axes[0], shown):
        rows = find(used, effect, metric, {})
        found = {name: estimate(of)[:3] for name, of in rows.groupby("setting", sort=False)}
        if len(found) > 2:
            found[mean] = estimate(rows)[:3]
        axis.axvline(0, color="0.3", linewidth=1)
        colors = ["black" if name == mean else BN_COLORS["hidden"] for name in names]
        draw_intervals(axis, names, [found.get(name, unknown) for name in names], colors)
        # Intervals from two seeds can be far wider than the means.
        reach = 2.5 * max((abs(point[0]) for point in found.values()), default=1)
        axis.set_xlim(max(-reach, axis.get_xlim()[0]), min(reach, axis.get_xlim()[1]))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_title(effect.replace(" of ", "\nof ").replace(" with ", "\nwith "), fontsize=9)
        axis.set_xlabel(title(metric) + (" (%)" if metric == "log_loss" else ""))
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
    closed_form = closed_form.replace({"arm": {"no masking": "none"}})
    row = []
    for metric in PURPOSES.values():
        own = network[network["snapshot"] == OWN_EPOCH[metric]]
        closed = _over(MASKINGS, closed_form, "arm", metric)
        lines = [(closed, _look("closed form, no network", GREY, "--"))]
        for bn, label in (("none", "network without BN"), ("hidden", "network with BN")):
            points = _over(MASKINGS, own[own["bn"] == bn], "dropout", metric)
            lines.append((points, _look(label, BN_COLORS[bn])))
        row.append(Panel("", title(metric), lines))
    return paint([row], "masking")[0]
