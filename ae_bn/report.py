"""From a results table to what people read: a Markdown table and figures.

Everything here reads the table of `ae_bn.experiment.results_table`, one row per run, and (for
curves) the runs' own files.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from ae_bn.config import ContrastConfig, ExperimentConfig, check_name
from ae_bn.errors import UserError
from ae_bn.evaluation import METRICS
from ae_bn.paths import atomic_write

CONFIDENCE = 0.95
STYLES = ["-", "--", "-.", ":"]


def check_report(experiment: ExperimentConfig) -> None:
    """Raise a UserError if the report asks for a metric that does not exist."""
    for metric in experiment.report.metrics:
        check_name(metric, METRICS, "experiment.report.metrics")


def mean_interval(values) -> tuple[float, float, float]:
    """Return mean and confidence limits, by Student's t, of one value per seed.

    Parameters
    ----------
    values : array_like of float, (n,)

    Returns
    -------
    mean, low, high : float
        The limits are NaN for a single value, or where a value is not finite.
    """
    values = np.asarray(values, dtype=float)
    mean = float(np.mean(values))
    if len(values) < 2 or not np.isfinite(mean):
        return mean, np.nan, np.nan
    half = stats.sem(values) * stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return mean, mean - half, mean + half


def paired_difference(results: pd.DataFrame, contrast: ContrastConfig, metric: str) -> pd.Series:
    """Return, for each seed, the sum of a metric over the plus arms less that over the minus.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    contrast : ContrastConfig
    metric : str

    Returns
    -------
    Series of float, by seed
        Only seeds that all arms have.
    """
    by_seed = results.pivot(index="seed", columns="arm", values=metric)
    plus, minus = by_seed[contrast.plus], by_seed[contrast.minus]
    difference = plus.sum(axis=1, skipna=False) - minus.sum(axis=1, skipna=False)
    return difference.dropna()


def markdown_report(results: pd.DataFrame, experiment: ExperimentConfig) -> str:
    """Return the report: the arms' table, the contrasts' table, and what they mean.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    experiment : ExperimentConfig

    Returns
    -------
    str
        Markdown.
    """
    report = experiment.report
    results = results.reindex(columns=[*results, *set(report.metrics).difference(results)])
    failed = results[results["status"] == "failed"]
    titles = {metric: METRICS[metric].title for metric in report.metrics}
    rows = []
    for arm, all_runs in results.groupby("arm", sort=False):
        runs = all_runs[all_runs["status"] != "failed"]
        counts = all_runs["status"].value_counts()
        notes = [f"{counts[kind]} {kind}" for kind in ("diverged", "failed") if kind in counts]
        row = {"arm": arm, "n": ", ".join([str(len(runs)), *notes])}
        rate = all_runs["learning_rate"].iloc[0]
        row["learning rate"] = "" if pd.isna(rate) else f"{rate:g}"
        row.update((titles[m], _cell(runs[m], METRICS[m].digits)) for m in report.metrics)
        rows.append(row)
    parts = [
        f"# {experiment.name}",
        pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True),
    ]
    if len(failed):
        parts.append(
            f"{len(failed)} of {len(results)} runs failed and are in no cell; the same command "
            "tries them again:\n"
            + "\n".join(
                f"- {len(runs)} runs, such as {runs['run'].iloc[0]}: {reason}"
                for reason, runs in failed.groupby("reason", sort=False)
            )
        )
    if report.contrasts:
        rows = []
        for name, contrast in report.contrasts.items():
            if not set(contrast.plus + contrast.minus) <= set(results["arm"]):
                continue  # an arm is skipped
            differences = {m: paired_difference(results, contrast, m) for m in report.metrics}
            row = {"difference": name, "n": max(len(d) for d in differences.values())}
            for metric, difference in differences.items():
                row[titles[metric]] = _cell(difference, METRICS[metric].digits, "+")
            rows.append(row)
        parts += [
            "Differences between arms, seed by seed:",
            pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True),
        ]
    sources = results.groupby("source", sort=False)["data"].unique()
    parts.append(
        f"Cells: mean over n seeds [{CONFIDENCE:.0%} interval, Student's t]. A diverged run scores "
        "the weights of its best epoch; without a finite epoch, chance and an infinite loss.\n"
        + "\n".join(f"- {METRICS[m].title}: {METRICS[m].meaning}." for m in report.metrics)
        + "\n\nData: "
        + "; ".join(f"{source} (fingerprint {', '.join(data)})" for source, data in sources.items())
        + "."
    )
    return "\n\n".join(parts) + "\n"


def draw_figures(results: pd.DataFrame, experiment: ExperimentConfig, directory: Path) -> None:
    """Write ``metrics.png``, ``learning_curves.png`` and ``precision_recall.png``.

    Parameters
    ----------
    results : DataFrame
        One row per run.
    experiment : ExperimentConfig
    directory : Path
        Of the experiment; the curves are read from its folder ``runs``.

    Raises
    ------
    UserError
        If a run's name in the table leaves that folder.
    """
    for run in results["run"]:
        if Path(run).name != run or run in ("", ".", ".."):
            raise UserError(f"results name a run {run!r:.80}: not the name of a folder in runs")
    results = results[results["status"] != "failed"]
    if results["learning_rate"].isna().all():
        return  # only references: nothing to draw
    for name, draw in [
        ("metrics", _draw_metrics),
        ("learning_curves", _draw_learning_curves),
        ("precision_recall", _draw_precision_recall),
    ]:
        figure = draw(results, experiment, directory / "runs")
        with atomic_write(directory / f"{name}.png", "wb") as file:
            figure.savefig(file, format="png", dpi=120)
        plt.close(figure)


def _cell(values, digits: int, sign: str = "") -> str:
    if values.isna().all():
        return ""
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in mean_interval(values))
    return mean if low in ("nan", "+nan") else f"{mean} [{low}, {high}]"


def _panels(results: pd.DataFrame, experiment: ExperimentConfig):
    """Return (title, rows) for each level of the first factor, and the reference rows."""
    is_reference = results["learning_rate"].isna()
    trained, references = results[~is_reference], results[is_reference]
    if not experiment.factors:
        return [(experiment.name, trained)], references
    factor = next(iter(experiment.factors))
    panels = [
        (f"{factor.replace('_', ' ')}: {level}", rows)
        for level, rows in trained.groupby(factor, sort=False)
    ]
    return panels, references


def _short(arm: str) -> str:
    """Return an arm's name without its first level, which the panel's title has."""
    return arm.split(" / ", 1)[-1]


def _draw_metrics(results, experiment, runs_directory):
    """One row of panels per level of the first factor; a point and an interval per arm."""
    panels, references = _panels(results, experiment)
    metrics = experiment.report.metrics
    heights = [rows["arm"].nunique() + references["arm"].nunique() for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels),
        len(metrics),
        figsize=(3.2 * len(metrics) + 1.5, 0.3 * sum(heights) + 1.1 * len(panels)),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    for row_axes, (title, rows) in zip(axes, panels):
        shown = pd.concat([rows, references])
        arms = list(dict.fromkeys(shown["arm"]))
        for axis, metric in zip(row_axes, metrics):
            for height, arm in enumerate(reversed(arms)):
                values = shown.loc[shown["arm"] == arm, metric]
                mean, low, high = mean_interval(values)
                reference = arm in set(references["arm"])
                color, marker = ("0.45", "s") if reference else ("#0072B2", "o")
                if np.isfinite(low):
                    axis.plot([low, high], [height, height], color=color, linewidth=2)
                axis.plot(mean, height, marker, color=color)
            axis.set_yticks(range(len(arms)))
            axis.set_yticklabels([_short(arm) for arm in reversed(arms)])
            axis.set_ylim(-0.6, len(arms) - 0.4)
            axis.set_xlabel(METRICS[metric].title)
            axis.grid(axis="x", alpha=0.3)
        for axis in row_axes[1:]:
            axis.set_yticklabels([])
        row_axes[0].set_title(title, loc="left")
    return figure


def _draw_learning_curves(results, experiment, runs_directory):
    """Validation loss by epoch, mean over the seeds that are still training."""

    def curve(run):
        history = pd.read_csv(runs_directory / run / "history.csv")
        return history["epoch"], history["valid_loss"]

    panels, _ = _panels(results, experiment)
    return _draw_curves(panels, None, curve, "epoch", "validation loss per document")


def _draw_precision_recall(results, experiment, runs_directory):
    """Precision by recall, mean over seeds."""

    def curve(run):
        metrics = json.loads((runs_directory / run / "metrics.json").read_text(encoding="utf-8"))
        values = metrics.get("curve", {"recall": [], "precision": []})
        return values["recall"], values["precision"]

    panels, references = _panels(results, experiment)
    figure = _draw_curves(panels, references, curve, "recall", "precision")
    for axis in figure.axes:
        axis.set_xscale("log")
    return figure


def _draw_curves(panels, references, curve, x_label, y_label):
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(5.5 * len(panels), 4.8),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for axis, (title, rows) in zip(axes[0], panels):
        arms = list(dict.fromkeys(rows["arm"]))
        colors = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(arms)))
        for number, arm in enumerate(arms):
            x, y = _mean_curve(curve(run) for run in rows.loc[rows["arm"] == arm, "run"])
            axis.plot(x, y, STYLES[number % 4], color=colors[number], label=_short(arm))
        if references is not None:
            for style, (arm, runs) in zip(STYLES, references.groupby("arm", sort=False)):
                x, y = _mean_curve(curve(run) for run in runs["run"])
                axis.plot(x, y, style, color="0.6", linewidth=2.5, zorder=0, label=arm)
        axis.set(title=title, xlabel=x_label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    axes[0, 0].set_ylabel(y_label)
    return figure


def _mean_curve(curves):
    """Return x and mean y, point by point, over the curves that reach the point."""
    frames = [pd.DataFrame({"x": x, "y": y}) for x, y in curves]
    mean = pd.concat(frames).groupby(level=0).mean()
    return mean["x"], mean["y"]
