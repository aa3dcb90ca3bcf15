"""Figures of an experiment, drawn from its results and curves alone.

``experiment.report.figures`` lists them as ``{kind: ..., name: ...}``.  A figure is written to
``NAME.png``, or to ``KIND.png`` if it has no name.  These are the kinds:

- ``metrics``: a point and an interval for every arm.  The key ``metrics`` chooses the metrics.
- ``response``: metrics against the values that the levels of factor ``x`` set.  The key ``metrics``
  chooses the metrics.
- ``curves``: curves against their x.  The key ``curves: {name: label, ...}`` chooses them, by name.
- ``paths``: curves over epochs, which ``curves`` chooses, against the validation loss instead of
  the epoch.  So arms are compared at equal loss.  The epochs in `MARKED` have a marker.
- ``bands``: percentiles, as a line and a band for each arm.  ``curves`` names them without their
  endings ``_p15``, ``_p50`` and ``_p85``.

``response``, ``curves`` and ``paths`` have a line for every combination of the factors in
``lines``, and a panel for every combination of the other factors.  Without ``lines`` the first
factor (other than x) makes the panels.  ``only: {factor: [level, ...]}`` keeps only these levels,
``log: [x, y]`` makes scales logarithmic, and ``x_label`` names the x axis.

The number of a level is the value of the setting that it changes, or the length of that value if
it is a list, such as ``model.layers``.  Levels that change different settings have panels of their
own.  A level that changes nothing, such as ``none``, is 0, in every panel.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
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
            _draw(trained, references, curves, experiment, config, path)
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


def _draw(trained, references, curves, experiment, config, path):
    for factor, levels in config.only.items():
        trained = trained[trained[factor].isin(levels)]
    if trained.empty:
        raise UserError(
            f"experiment.report.figures, {config.file_name}: no runs have these levels; change only"
        )
    figure = KINDS[config.kind](trained, references, curves, experiment, config)
    if figure is not None:
        with atomic_write(path, "wb") as file:
            save(figure, file)


def _draw_metrics(trained, references, curves, experiment, config):
    """A row of panels per level of the first of several factors, a column per metric."""
    metrics = config.metrics or experiment.report.metrics
    factors = list(experiment.factors)
    panels = _panels(trained, factors[:1] if len(factors) > 1 else [])
    names = [list(dict.fromkeys([*rows["arm"], *references["arm"]])) for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        len(metrics),
        figsize=(3 * len(metrics) + 2, 0.3 * sum(map(len, names)) + 1.1 * len(panels)),
        gridspec_kw={"height_ratios": [len(arms) for arms in names]},
        squeeze=False,
        layout="constrained",
    )
    for row_axes, (title, rows), arms in zip(axes, panels, names):
        shown = pd.concat([rows, references])
        for axis, metric in zip(row_axes, metrics):
            for height, arm in enumerate(reversed(arms)):
                centre, low, high = _point(shown.loc[shown["arm"] == arm, metric])
                reference = arm in set(references["arm"])
                color, marker = (GREY, "s") if reference else (COLORS[0], "o")
                axis.plot([low, high], [height, height], color=color, linewidth=2)
                axis.plot(centre, height, marker, color=color)
            axis.set_yticks(range(len(arms)), [_short(arm) for arm in reversed(arms)])
            axis.set_ylim(-0.6, len(arms) - 0.4)
            axis.grid(axis="x", alpha=0.3)
            axis.tick_params(labelleft=axis is row_axes[0])
            axis.set_xlabel(_label(metric))
        row_axes[0].set_title(title, loc="left")
    return figure


def _draw_response(trained, references, curves, experiment, config):
    """A column per metric, a row of panels per combination of other factors and x's setting.

    Panels are side by side if there is only one metric.
    """
    metrics = config.metrics or experiment.report.metrics
    levels = {level: experiment.factors[config.x][level] for level in trained[config.x].unique()}
    numbers = _numbers(levels, config)
    x = trained[config.x].map(lambda level: numbers[level][1])
    setting = trained[config.x].map(lambda level: numbers[level][0])
    line_factors, panel_factors = _lines_and_panels(experiment, config)
    names = list(dict.fromkeys(setting.dropna()))
    panels = [
        (
            " / ".join(filter(None, [title, name if len(names) > 1 else ""])),
            rows.assign(x=x)[setting[rows.index].isin([name, None])],
        )
        for title, rows in _panels(trained, panel_factors)
        for name in names
    ]
    lines = _line_styles(trained, line_factors)
    shape = (len(panels), len(metrics)) if len(metrics) > 1 else (1, len(panels))
    figure, axes = plt.subplots(
        *shape,
        figsize=(3.6 * shape[1] + 1, 2.5 * shape[0] + 0.6),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    ticks = sorted(x.unique())
    for panel_axes, (title, rows) in zip(axes.reshape(len(panels), -1), panels):
        for axis, metric in zip(panel_axes, metrics):
            for label, style in lines.items():
                ours = rows[_line_labels(rows, line_factors) == label]
                points = [(at, *_point(r[metric])) for at, r in ours.groupby("x")]
                finite = [point for point in points if np.isfinite(point[1])]
                at, centre, low, high = np.array(finite, dtype=float).reshape(-1, 4).T
                ends = np.nan_to_num([centre - low, high - centre], posinf=0, neginf=0)
                if len(at):
                    axis.errorbar(at, centre, ends, capsize=3, **style)
            axis.set_title(title, loc="left", fontsize="medium")
            axis.set_ylabel(_label(metric))
            axis.grid(alpha=0.3)
            _scale(axis, config)
            if "x" in config.log or len(ticks) < 7:
                axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axis.minorticks_off()
    for axis in axes[-1]:
        axis.set_xlabel(config.x_label or config.x.replace("_", " "))
    _legend(figure, axes)
    return figure


def _draw_curves(trained, references, curves, experiment, config):
    """A row per curve, a column per combination of the factors that have panels.

    Curves are side by side if each has only one panel.  Lines go as far as half of the seeds.
    """
    line_factors, panel_factors = _lines_and_panels(experiment, config)
    panels = _panels(trained, panel_factors)
    lines = _line_styles(trained, line_factors)
    shape = (len(config.curves), len(panels)) if len(panels) > 1 else (1, len(config.curves))
    figure, axes = plt.subplots(
        *shape,
        figsize=(4 * shape[1] + 2, 3.2 * shape[0] + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for curve_axes, (name, label) in zip(
        axes.reshape(len(config.curves), -1), config.curves.items()
    ):
        points = _curve(curves, name)
        for axis, (title, rows) in zip(curve_axes, panels):
            for arm, style in zip(references["arm"].unique(), STYLES[1:]):
                ours = points[points["arm"] == arm]
                if len(ours):
                    axis.plot(ours["x"], ours["mean"], ls=style, color=GREY, lw=2.5, label=arm)
            arms = rows.drop_duplicates("arm")
            for arm, line in zip(arms["arm"], _line_labels(arms, line_factors)):
                ours, look = points[points["arm"] == arm], lines[line]
                every = max(1, len(ours) // 8)
                axis.plot(ours["x"], ours["mean"], markevery=every, **look)
                axis.fill_between(
                    ours["x"], ours["low"], ours["high"], color=look["color"], alpha=0.15, lw=0
                )
            axis.set_title(title, loc="left", fontsize="medium")
            axis.set_xlabel(config.x_label or "epoch")
            axis.grid(alpha=0.3)
            _scale(axis, config)
        curve_axes[0].set_ylabel(label)
    _legend(figure, axes)
    return figure


def _draw_paths(trained, references, curves, experiment, config):
    """A row per curve, a column per combination of the factors that have panels."""
    line_factors, panel_factors = _lines_and_panels(experiment, config)
    panels, lines = _panels(trained, panel_factors), _line_styles(trained, line_factors)
    figure, axes = plt.subplots(
        len(config.curves),
        len(panels),
        figsize=(3.6 * len(panels) + 2, 2.8 * len(config.curves) + 0.5),
        squeeze=False,
        sharex="col",
        layout="constrained",
    )
    losses = _curve(curves, "valid_loss").set_index(["arm", "x"])["mean"].rename("loss")
    for row_axes, (name, label) in zip(axes, config.curves.items()):
        points = _curve(curves, name).join(losses, on=["arm", "x"], how="inner")
        for axis, (title, rows) in zip(row_axes, panels):
            arms = rows.drop_duplicates("arm")
            for arm, line in zip(arms["arm"], _line_labels(arms, line_factors)):
                ours, look = points[points["arm"] == arm], lines[line]
                marked = np.flatnonzero(ours["x"].isin(MARKED)).tolist()
                axis.plot(ours["loss"], ours["mean"], markevery=marked, **look)
                axis.fill_between(
                    ours["loss"], ours["low"], ours["high"], color=look["color"], alpha=0.15, lw=0
                )
            axis.grid(alpha=0.3)
            if "x" in config.log:
                axis.set_xscale("log")
            if axis in axes[0]:
                axis.set_title(title, loc="left", fontsize="medium")
            if axis in axes[-1]:
                axis.set_xlabel(f"validation loss\n(markers: epochs {str(MARKED)[1:-1]})")
        row_axes[0].set_ylabel(label)
    for axis in axes[0]:
        axis.invert_xaxis()  # training goes from left to right
    _legend(figure, axes)
    return figure


def _draw_bands(trained, references, curves, experiment, config):
    """A row per group of percentiles, a column per arm."""
    arms = list(dict.fromkeys(trained["arm"]))
    figure, axes = plt.subplots(
        len(config.curves),
        len(arms),
        figsize=(3 * len(arms) + 1, 2.4 * len(config.curves) + 0.5),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    for row_axes, (name, label) in zip(axes, config.curves.items()):
        points = {end: _curve(curves, name + end) for end in BAND}
        for axis, arm in zip(row_axes, arms):
            low, middle, high = (ours[ours["arm"] == arm] for ours in points.values())
            axis.fill_between(
                low["x"], low["mean"], high["mean"], color=COLORS[0], alpha=0.25, lw=0
            )
            axis.plot(middle["x"], middle["mean"], color=COLORS[0], label="median")
            for edge, entry in ((low, "15th and 85th percentile"), (high, None)):
                axis.plot(edge["x"], edge["mean"], ls="--", lw=1, color=COLORS[0], label=entry)
            axis.grid(alpha=0.3)
            _scale(axis, config)
        row_axes[0].set_ylabel(label)
    for axis, arm in zip(axes[0], arms):
        axis.set_title(arm, loc="left", fontsize="medium")
    for axis in axes[-1]:
        axis.set_xlabel(config.x_label or "epoch")
    _legend(figure, axes)
    return figure


KINDS = {
    "metrics": _draw_metrics,
    "response": _draw_response,
    "curves": _draw_curves,
    "paths": _draw_paths,
    "bands": _draw_bands,
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
    groups = rows.groupby(factors, sort=False)
    return [(_title(levels), group) for levels, group in groups]


def _line_labels(rows: pd.DataFrame, factors: list) -> pd.Series:
    """Return the name of each row's line."""
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
        for number, label in enumerate(_line_labels(rows, factors).unique())
    }


def _curve(curves: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the finite points of a curve of all arms, as far as half of the seeds go."""
    check_name(name, set(curves["curve"]), "experiment.report.figures: curves")
    points = curves[curves["curve"] == name]
    most = points.groupby("arm")["n"].transform("max")
    return points[(points["n"] * 2 >= most) & np.isfinite(points["mean"])]


def _numbers(levels: dict[str, dict], config: FigureConfig) -> dict[str, tuple]:
    """Return (setting, number) of each level; (None, 0) for one that changes nothing."""
    numbers = {level: _number(settings) for level, settings in levels.items()}
    where = f"experiment.report.figures, {config.file_name}"
    for level, (setting, number) in numbers.items():
        if number is None or (setting is None and "x" in config.log):
            raise UserError(
                f"{where}: level {level!r} of {config.x} has no number; let it set one setting to "
                "a number, or leave it out with only"
            )
    if not any(setting for setting, _ in numbers.values()):
        raise UserError(f"{where}: no level of {config.x} sets a number; take another x")
    return numbers


def _number(settings: dict) -> tuple:
    """Return the setting that a level changes, and its value as a number, or None."""
    if not settings:
        return None, 0.0
    if len(settings) > 1:
        return None, None
    [(setting, value)] = settings.items()
    if isinstance(value, list):
        return setting, float(len(value))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return setting, float(value) if number else None


def _point(values: pd.Series) -> tuple:
    """Return mean and limits of one number per seed, or median and NaNs where there is no mean."""
    found = summarize(values)
    return (found.median, np.nan, np.nan) if found.infinite else found[2:5]


def _scale(axis, config: FigureConfig) -> None:
    """Make the axes logarithmic that should be; an x of both signs is linear around 0.

    A linear x of whole numbers has ticks at whole numbers.
    """
    lines = [line.get_data(orig=False) for line in axis.get_lines()]
    x, y = (np.concatenate([line[i] for line in lines] or [[]]) for i in (0, 1))
    shown = np.isfinite(y) & (y > 0)
    if "y" in config.log and shown.any():
        highest = y[shown].max()
        floor = max(y[shown].min(), highest / 10**SHOWN_DECADES)
        shown &= y >= floor
        axis.set_yscale("log")
        axis.set_ylim(floor / 1.3, highest * 1.3)
    if "x" in config.log and shown.any():
        if x.min() > 0:
            axis.set_xscale("log")
        else:
            axis.set_xscale("symlog", linthresh=LINEAR)
            axis.set_xlim(x[shown].min(), x[shown].max())
    elif (x == np.round(x)).all():  # epochs, steps
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(figure, axes) -> None:
    """Put one legend for all panels on the right."""
    entries = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            entries.setdefault(label, handle)
    if len(entries) > 1:
        figure.legend(entries.values(), entries.keys(), loc="outside right upper", fontsize="small")


def _title(levels) -> str:
    return " / ".join(levels) if isinstance(levels, tuple) else str(levels)


def _label(metric: str) -> str:
    title, unit = METRICS[metric].title, METRICS[metric].unit
    return f"{title}\n({unit})" if unit else title


def _short(arm: str) -> str:
    """Return an arm's name without its first level, which the panel's title has."""
    return arm.split(" / ", 1)[-1]
