"""Figures of an experiment, drawn from its results and curves alone.

``experiment.report.figures`` lists them as ``{kind: ..., name: ...}``.  A figure is written to
``NAME.png``, or to ``KIND.png`` if it has no name.  These are the kinds:

- ``metrics``: a point and an interval for every arm.  The key ``metrics`` chooses the metrics.
- ``response``: metrics against the numbers of the levels of factor ``x``.  The key ``metrics``
  chooses the metrics.
- ``curves``: curves against their x.  The key ``curves: {name: label, ...}`` chooses them, by name.
- ``paths``: curves over epochs, which ``curves`` chooses, against the validation loss instead of
  the epoch.  So arms are compared at equal loss.  The epochs in `MARKED` have a marker.
- ``bands``: the median as a line in a band from the 15th to the 85th percentile.  ``curves`` names
  them without their endings ``_p15``, ``_p50`` and ``_p85``.

All but ``metrics`` have a line for every combination of the factors in ``lines``, and a panel for
every combination of the other factors.  One function, `paint`, draws them, and figures of the
answers as well.  Without ``lines`` the first
factor (other than x) makes the panels.  ``only: {factor: [level, ...]}`` keeps only these levels,
``log: [x, y]`` makes scales logarithmic, and ``x_label`` names the x axis.

The number of a level is the value of the one setting that it changes; a level that changes nothing,
such as ``none``, is 0.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple, Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ae_bn.config import BAND, ExperimentConfig, FigureConfig, check_name
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.files import atomic_write
from ae_bn.reporting.estimates import summarize

# Okabe and Ito's colours, told apart by colour-blind readers; without their yellow, pale on white.
BN_COLORS = {"none": "#000000", "hidden": "#0072B2", "output": "#E69F00",
             "hidden + output": "#D55E00"}  # fmt: skip
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
STYLES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
GREY = "0.55"
SHOWN_DECADES = 6  # of a logarithmic y
MARKED = [1, 2, 3, 5, 10, 20, 50, 100]  # epochs of a path
LINEAR = 0.1  # a logarithmic x of both signs is linear between plus and minus this


class Panel(NamedTuple):
    """A panel of a figure."""

    title: str
    y_label: str
    # (points, look): x, mean, low and high, and how the line looks.  Points with a column of bools,
    # marked, are a curve in a band, with markers there; others are means with bars.
    lines: list[tuple[pd.DataFrame, dict]]


def draw_figures(
    results: pd.DataFrame, curves: pd.DataFrame, experiment: ExperimentConfig, directory: Path
) -> list[str]:
    """Draw every figure that the config asks for; a figure that fails does not affect the others.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    curves : DataFrame
        One row per point, see `ae_bn.reporting.curves.curves_table`.
    experiment : ExperimentConfig
        The experiment, whose report lists the figures.
    directory : Path
        The folder that the figures are written to.

    Returns
    -------
    list of str
        A reason for each figure that could not be drawn: it needs a curve that no run has, a level
        has no number, or drawing failed.
    """
    results = results[results["status"] != "failed"]
    trained = results[results["learning_rate"].notna()]
    if trained.empty:
        return []  # only references: nothing to draw
    references = results[results["learning_rate"].isna()]
    problems = []
    for config in experiment.report.figures:
        path = directory / config.file_name
        try:
            figure = _draw(trained, references, curves, experiment, config)
            with atomic_write(path, "wb") as file:
                save(figure, file)
        except Exception as error:  # whatever it is, the tables and other figures are worth more
            path.unlink(missing_ok=True)  # of other results
            problem = f"experiment.report.figures, {config.file_name}: {error!r:.200}"
            problems.append(str(error) if isinstance(error, UserError) else problem)
        plt.close("all")
    return problems


def save(figure, file, dpi: int = 100) -> None:
    """Write a figure as PNG with 128 colours, which needs a third of the bytes.

    Parameters
    ----------
    figure : matplotlib Figure
    file : binary file
    dpi : int, optional
        Dots per inch.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    Image.open(buffer).convert("RGB").quantize(128).save(file, "png", optimize=True)


def _draw(trained, references, curves, experiment, config) -> Figure:
    for factor, levels in config.only.items():
        trained = trained[trained[factor].isin(levels)]
    if trained.empty:
        raise UserError(
            f"experiment.report.figures, {config.file_name}: no runs have these levels; change only"
        )
    return KINDS[config.kind](trained, references, curves, experiment, config)


def _draw_metrics(trained, references, curves, experiment, config):
    """A row of panels per level of the first of several factors, a column per metric."""
    metrics = config.metrics or experiment.report.metrics
    factors = list(experiment.factors)
    panels = _panels(trained, factors[:1] if len(factors) > 1 else [])
    names = [list(dict.fromkeys([*rows["arm"], *references["arm"]])) for _, rows in panels]
    longest = max(len(arm) for arms in names for arm in arms)
    figure, axes = plt.subplots(
        len(panels),
        len(metrics),
        figsize=(3 * len(metrics) + 0.08 * longest, 0.3 * sum(map(len, names)) + 1.1 * len(panels)),
        gridspec_kw={"height_ratios": [len(arms) for arms in names]},
        squeeze=False,
        layout="constrained",
    )
    for row_axes, (title, rows), arms in zip(axes, panels, names):
        shown = pd.concat([rows, references])
        for axis, metric in zip(row_axes, metrics):
            points = [_point(shown.loc[shown["arm"] == arm, metric]) for arm in arms]
            colors = [GREY if arm in set(references["arm"]) else COLORS[0] for arm in arms]
            draw_intervals(axis, [arm.split(" / ", 1)[-1] for arm in arms], points, colors)
            axis.tick_params(labelleft=axis is row_axes[0])
            axis.set_xlabel(_label(metric))
        row_axes[0].set_title(title, loc="left")
    return figure


def draw_intervals(axis, names: list[str], points: list[tuple], colors: list[str]) -> None:
    """Draw (mean, low, high) of each name in its colour, the first on top."""
    for height, ((mean, low, high), color) in enumerate(zip(points, colors)):
        axis.plot([low, high], [height, height], color=color)
        axis.plot(mean, height, "o", color=color)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="x", alpha=0.3)


def paint(
    grid: list[list[Panel]], x_label: str, log: Sequence[str] = (), width: float = 3.6, **shared
) -> tuple[Figure, np.ndarray]:
    """Return a figure of lines in a grid of panels, with one legend, and its axes.

    A title or label that a panel has in common with the one above or to the left is not repeated.

    Parameters
    ----------
    grid : list of list of Panel
        The rows.  If each is one panel, they stand side by side.
    x_label : str
        The label of all x axes.
    log : sequence of str
        The axes that are logarithmic, of x and y.
    width : float
        The width of a panel in inches.
    **shared
        Which axes panels share, see `matplotlib.pyplot.subplots`.
    """
    if all(len(row) == 1 for row in grid):
        grid = [[panel for [panel] in grid]]
    shape = len(grid), len(grid[0])
    size = (width * shape[1] + 2, 2.8 * shape[0] + 0.5)
    figure, axes = plt.subplots(
        *shape, figsize=size, squeeze=False, layout="constrained", **shared
    )  # fmt: skip
    for (row, column), axis in np.ndenumerate(axes):
        title, y_label, lines = grid[row][column]
        for points, look in lines:
            x, mean, low, high = (points[name] for name in ("x", "mean", "low", "high"))
            if "marked" in points:
                axis.plot(x, mean, markevery=np.flatnonzero(points["marked"]).tolist(), **look)
                axis.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
            elif len(points):
                bars = np.nan_to_num([mean - low, high - mean], posinf=0, neginf=0)
                axis.errorbar(x, mean, bars.clip(min=0), capsize=3, **look)  # rounding
        if row == 0 or title != grid[row - 1][column].title:
            axis.set_title(title, loc="left", fontsize="medium")
        if column == 0 or y_label != grid[row][column - 1].y_label:
            axis.set_ylabel(y_label)
        axis.grid(alpha=0.3)
        _scale(axis, log)
    for axis in axes[-1]:
        axis.set_xlabel(x_label)
    entries = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    if len(entries) > 1:
        figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize="small")
    return figure, axes


def _draw_response(trained, references, curves, experiment, config):
    """A column per metric, a row of panels per combination of the other factors."""
    numbers = _numbers(trained[config.x].unique(), experiment, config)
    trained = trained.assign(x=trained[config.x].map(numbers))
    line_factors, panel_factors = _lines_and_panels(experiment, config)
    styles = _line_styles(trained, line_factors)
    grid = []
    for title, rows in _panels(trained, panel_factors):
        labels = _labels(rows, line_factors)
        grid.append([])
        for metric in config.metrics or experiment.report.metrics:
            lines = [
                (_response(rows[labels == label], metric), look) for label, look in styles.items()
            ]
            grid[-1].append(Panel(title, _label(metric), lines))
    x_label = config.x_label or config.x.replace("_", " ")
    figure, axes = paint(grid, x_label, config.log, sharex=True)
    ticks = sorted(trained["x"].unique())
    if "x" in config.log or len(ticks) < 7:
        for axis in axes.flat:
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
    return figure


def _response(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the finite points of a metric over x."""
    points = [(x, *_point(of[metric])) for x, of in rows.groupby("x")]
    table = pd.DataFrame(points, columns=["x", "mean", "low", "high"], dtype=float)
    return table[np.isfinite(table["mean"])]


def _draw_curves(trained, references, curves, experiment, config):
    """A row per curve, a column per combination of the factors that have panels."""
    line_factors, panel_factors = _lines_and_panels(experiment, config)
    styles = _line_styles(trained, line_factors)
    of_references = {
        arm: {"linestyle": style, "color": GREY, "linewidth": 2.5, "label": arm}
        for arm, style in zip(references["arm"].unique(), STYLES[1:])
    }
    grid = []
    for name, label in config.curves.items():
        points = dict(list(_points(curves, name, config.kind).groupby("arm")))
        grid.append([])
        for title, rows in _panels(trained, panel_factors):
            arms = rows.drop_duplicates("arm")
            looks = dict(zip(arms["arm"], _labels(arms, line_factors).map(styles)))
            looks = {**of_references, **looks}
            lines = [(points[arm], look) for arm, look in looks.items() if arm in points]
            grid[-1].append(Panel(title, label, lines))
    if config.kind != "paths":
        sharey = "row" if config.kind == "bands" else False
        return paint(grid, config.x_label or "epoch", config.log, sharey=sharey)[0]
    x_label = f"validation loss\n(markers: epochs {str(MARKED)[1:-1]})"
    figure, axes = paint(grid, x_label, config.log, sharex="col")
    for axis in axes[0]:
        axis.invert_xaxis()  # training goes from left to right
    return figure


def _points(curves: pd.DataFrame, name: str, kind: str) -> pd.DataFrame:
    """Return the points of a curve of all arms, and which of them are marked."""
    if kind == "bands":
        ends = {
            column: _curve(curves, name + end).set_index(["arm", "x"])["mean"]
            for column, end in zip(["low", "mean", "high"], BAND)
        }
        return pd.DataFrame(ends).dropna().reset_index().assign(marked=False)
    points = _curve(curves, name)
    if kind == "paths":
        losses = _curve(curves, "valid_loss").set_index(["arm", "x"])["mean"].rename("loss")
        points = points.join(losses, on=["arm", "x"], how="inner")
        return points.assign(marked=points["x"].isin(MARKED), x=points["loss"])
    of_arm = points.groupby("arm")["x"]
    every = (of_arm.transform("size") // 8).clip(lower=1)
    return points.assign(marked=of_arm.cumcount() % every == 0)


KINDS = {
    "metrics": _draw_metrics,
    "response": _draw_response,
    "curves": _draw_curves,
    "paths": _draw_curves,
    "bands": _draw_curves,
}


def _lines_and_panels(experiment: ExperimentConfig, config: FigureConfig) -> tuple[list, list]:
    """Return the factors that lines tell apart, and those that panels do."""
    factors = [factor for factor in experiment.factors if factor != config.x]
    lines = config.lines or factors[1:] or factors
    return lines, [factor for factor in factors if factor not in lines]


def _panels(rows: pd.DataFrame, factors: list) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each combination of the factors' levels."""
    if not factors:
        return [("", rows)]
    return list(rows.groupby(_labels(rows, factors), sort=False))


def _labels(rows: pd.DataFrame, factors: list) -> pd.Series:
    """Return the levels of some factors in words, row by row; without factors, the arms."""
    if not factors:
        return rows["arm"]
    return rows[factors].agg(" / ".join, axis=1)


def _line_styles(rows: pd.DataFrame, factors: list) -> dict[str, dict]:
    """Return how each line is drawn, by its name; the same in all panels."""
    return {
        label: {
            "color": BN_COLORS.get(label, COLORS[number % len(COLORS)]),
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": STYLES[number % len(STYLES)],
            "markersize": 5,
            "label": label,
        }
        for number, label in enumerate(_labels(rows, factors).unique())
    }


def _curve(curves: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the finite points of a curve of all arms, as far as half of the seeds go."""
    check_name(name, set(curves["curve"]), "experiment.report.figures: curves")
    points = curves[curves["curve"] == name]
    most = points.groupby("arm")["n"].transform("max")
    return points[(points["n"] * 2 >= most) & np.isfinite(points["mean"])]


def _numbers(names, experiment: ExperimentConfig, config: FigureConfig) -> dict[str, float]:
    """Return the number of each level of x."""
    numbers = {}
    for level in names:
        settings = list(experiment.factors[str(config.x)][level].values()) or [0]
        if len(settings) != 1 or type(settings[0]) not in (int, float):
            raise UserError(
                f"experiment.report.figures, {config.file_name}: level {level!r} of {config.x} has "
                "no number; let it set one setting to a number, or leave it out with only"
            )
        numbers[level] = float(settings[0])
    return numbers


def _point(values: pd.Series) -> tuple:
    """Return mean and limits of one number per seed, or median and NaNs where there is no mean."""
    found = summarize(values)
    return (found.median, np.nan, np.nan) if found.infinite else found[2:5]


def _scale(axis, log: Sequence[str]) -> None:
    """Make the axes logarithmic that should be.

    An x that is not always above 0 is linear around 0, and spans the points whose y is not 0.
    A linear x of whole numbers has ticks at whole numbers.
    """
    lines = [line.get_data(orig=False) for line in axis.get_lines()]
    x, y = (np.concatenate([line[i] for line in lines] or [[]]) for i in (0, 1))
    shown = np.isfinite(y)
    if y[shown].any():
        shown &= y != 0  # long starts at 0 would take decades of x
    if "y" in log and (y[shown] > 0).any():
        highest = y[shown].max()
        floor = max(y[shown & (y > 0)].min(), highest / 10**SHOWN_DECADES)
        shown &= y >= floor
        axis.set_yscale("log")
        axis.set_ylim(floor / 1.3, highest * 1.3)
    if "x" in log and shown.any():
        if x.min() > 0:
            axis.set_xscale("log")
        else:
            axis.set_xscale("symlog", linthresh=LINEAR)
            axis.set_xlim(x[shown].min(), x[shown].max())
    elif (x == np.round(x)).all():  # epochs, steps
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _label(metric: str) -> str:
    title, unit = METRICS[metric].title, METRICS[metric].unit
    return f"{title}\n({unit})" if unit else title
