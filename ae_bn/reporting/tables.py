"""Tables of an experiment, in Markdown; `ae_bn.reporting.figures` draws its figures.

Everything is made from an experiment's config, the table of its runs
(`ae_bn.study.results.results_table`) and the curves of the record
(`ae_bn.reporting.curves.curves_table`), so it can be made again without the runs' directories.
"""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from ae_bn.config import ExperimentConfig, check_name
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import LABEL_METRICS, METRICS
from ae_bn.files import atomic_write
from ae_bn.reporting.effects import compared
from ae_bn.reporting.estimates import CONFIDENCE, estimate, show, summarize, text
from ae_bn.reporting.figures import draw_figures
from ae_bn.reporting.selection import CRITERIA, best_rate, rate_scores, select

CAPPED = 0.05  # share of an arm's runs that may end at the cap before the report names the arm


def without_labels(experiment: ExperimentConfig, results: pd.DataFrame) -> ExperimentConfig:
    """Return an experiment that does not report metrics and curves of labels, if no run has any."""
    if any(results[metric].notna().any() for metric in LABEL_METRICS.intersection(results)):
        return experiment
    kept = [m for m in experiment.report.metrics if m not in LABEL_METRICS] or ["test_loss"]
    figures = [
        f for f in experiment.report.figures if not LABEL_METRICS.intersection(f.curves or ())
    ]
    report = experiment.report.model_copy(update={"metrics": kept, "figures": figures})
    return experiment.model_copy(update={"report": report})


def table_rows(results: pd.DataFrame, experiment: ExperimentConfig) -> pd.DataFrame:
    """Return the rows of a table of runs that tables show, one per arm and seed.

    They have the snapshot and the learning rate that ``experiment.report`` names, and a column for
    every metric.
    """
    results = results.reindex(columns=[*results, *(m for m in METRICS if m not in results)])
    return select(results, experiment.report.snapshot, experiment.report.rate)


def check_report(experiment: ExperimentConfig) -> None:
    """Raise a UserError if the report asks for a metric, factor or level that does not exist."""
    report = experiment.report
    for metric in report.metrics:
        check_name(metric, METRICS, "experiment.report.metrics")
    for row in report.published:
        for metric in row.model_extra or {}:
            check_name(metric, METRICS, f"experiment.report.published, {row.arm}")
    names = [figure.file_name for figure in report.figures]
    for figure in report.figures:
        where = f"experiment.report.figures, {figure.file_name}"
        if names.count(figure.file_name) > 1:
            raise UserError(f"{where}: two figures of this name; give one another name")
        for metric in figure.metrics or []:
            check_name(metric, METRICS, where)
        for factor in [*(figure.lines or []), *figure.only, *([figure.x] if figure.x else [])]:
            check_name(factor, experiment.factors, where)
        for factor, levels in figure.only.items():
            for level in levels:
                check_name(level, experiment.factors[factor], f"{where}, only.{factor}")


def write_report(
    table: pd.DataFrame,
    curves: pd.DataFrame,
    experiment: ExperimentConfig,
    directory: Path,
    figures: bool = True,
) -> str:
    """Write ``results.csv``, ``table.md`` and the figures, and return the text of ``table.md``.

    The text also names the figures that could not be drawn.

    Parameters
    ----------
    table : DataFrame
        One row per run and snapshot, see `ae_bn.study.results.results_table`.
    curves : DataFrame
        One row per point, see `ae_bn.reporting.curves.curves_table`.
    experiment : ExperimentConfig
        The experiment.
    directory : Path
        The experiment's directory.
    figures : bool, optional
        Whether the figures are drawn.
    """
    with atomic_write(directory / "results.csv") as file:
        table.to_csv(file, index=False)
    experiment = without_labels(experiment, table)
    rows = table_rows(table, experiment)
    problems = draw_figures(rows, curves, experiment, directory) if figures else []
    missing = [f"Not drawn: {html.escape(problem, quote=False)}." for problem in problems]
    text = markdown_report(table, experiment, missing)
    with atomic_write(directory / "table.md") as file:
        file.write(text)
    return text


def markdown_report(table: pd.DataFrame, experiment: ExperimentConfig, missing=()) -> str:
    """Return ``table.md``: the arms, the differences between them, and what they mean."""
    rows = table_rows(table, experiment)
    parts = [f"# {experiment.name}", "**Arms**", arms_table(rows, experiment)]
    differences = differences_table(compared(rows, experiment), experiment)
    if differences:
        parts += ["**Differences**", differences]
    parts += [path_remarks(table, experiment), *missing, notes(rows, experiment)]
    return "\n\n".join(filter(None, parts)) + "\n"


def differences_table(effects: pd.DataFrame, experiment: ExperimentConfig) -> str:
    """Return a row per comparison, and one for each of its places: effects on the report's metrics.

    Without comparisons the table is empty.

    Parameters
    ----------
    effects : DataFrame
        See `ae_bn.reporting.effects.compared`.
    experiment : ExperimentConfig
    """
    metrics = [m for m in experiment.report.metrics if (effects["metric"] == m).any()]
    header = ["difference", *(METRICS[metric].title for metric in metrics)]
    rows = []
    for name, of_effect in effects.groupby("effect", sort=False):
        places = of_effect[[f for f in experiment.factors if f in effects]].dropna(axis=1)
        shown = {name: of_effect}
        if places.shape[1] and len(places.drop_duplicates()) > 1:
            for levels, of_place in of_effect.groupby(list(places), sort=False):
                levels = [levels] if isinstance(levels, str) else levels
                at = (f"{factor} {level}" for factor, level in zip(places, levels))
                shown[f"{name}, {', '.join(at)}"] = of_place
        for label, of in shown.items():
            found = [of[of["metric"] == metric] for metric in metrics]
            cells = [text(estimate(f), m) if len(f) else "" for f, m in zip(found, metrics)]
            rows.append([label, *cells])
    return markdown(header, rows) if rows else ""


def path_remarks(results: pd.DataFrame, experiment: ExperimentConfig) -> str:
    """Return where rows come from, which arms were cut short, and which grids should be longer.

    Parameters
    ----------
    results : DataFrame
        One row per run and snapshot.
    experiment : ExperimentConfig
    """
    report = experiment.report
    of_snapshot = results[results["snapshot"] == report.snapshot]
    is_last = report.snapshot == "last"
    parts = [f"Epoch: {'the last one' if is_last else f'best by validation {report.snapshot}'}."]
    if experiment.rate_grid:
        chosen = (
            f"chosen by {METRICS[report.rate].title} on the other seeds (rates within one "
            "standard error of the best are ties, and the smallest is taken)"
            if isinstance(report.rate, str)
            else "given"
        )
        rates = ", ".join(f"{rate:g}" for rate in experiment.rate_grid)
        parts.append(f"Learning rate: {chosen}, from {rates}.")
        for criterion in CRITERIA:
            scores = rate_scores(of_snapshot, criterion)
            ends = [arm for arm, of_arm in scores.items() if best_rate(of_arm)[1]]
            if ends:
                parts.append(
                    f"The grid of learning rates is too short for {METRICS[criterion].title}: the "
                    f"best rate is at its end in {'; '.join(ends)}."
                )
    if "capped" in of_snapshot:
        share = of_snapshot.groupby("arm", sort=False)["capped"].mean()
        capped = [f"{arm} ({part:.0%})" for arm, part in share.items() if part > CAPPED]
        if capped:
            parts.append(
                f"More than {CAPPED:.0%} of the runs ended at training.epochs, before their loss "
                f"stopped falling: {'; '.join(capped)}."
            )
    return "\n\n".join(parts)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; characters that mean something there are escaped."""
    escaped = [
        [html.escape(cell, quote=False).replace("|", "\\|") for cell in row]
        for row in [header, *rows]
    ]
    return tabulate(escaped[1:], escaped[0], "pipe", disable_numparse=True)


def arms_table(results: pd.DataFrame, experiment: ExperimentConfig) -> str:
    """Return a row per arm: n, learning rate, and the mean of every metric with its interval."""
    metrics = experiment.report.metrics
    header = ["arm", "n", "learning rate", *(METRICS[metric].title for metric in metrics)]
    rows = []
    for row in experiment.report.published:
        cells = [row.arm, "", ""]
        for metric in metrics:
            value = (row.model_extra or {}).get(metric)
            cells.append("" if value is None else f"{value:.{METRICS[metric].digits}f}")
        rows.append(cells)
    for arm, all_runs in results.groupby("arm", sort=False):
        runs = all_runs[all_runs["status"] != "failed"]
        counts = all_runs["status"].value_counts()
        remarks = [f"{counts[kind]} {kind}" for kind in ("diverged", "failed") if kind in counts]
        cells = [arm, ", ".join([str(len(runs)), *remarks]), _rates(all_runs["learning_rate"])]
        rows.append([*cells, *(show(summarize(runs[metric]), metric) for metric in metrics)])
    return markdown(header, rows)


def notes(results: pd.DataFrame, experiment: ExperimentConfig) -> str:
    """Return what the tables' cells mean, what failed, and which data it was, in Markdown."""
    report, parts = experiment.report, []
    failed = results[results["status"] == "failed"]
    if len(failed):
        parts.append(
            f"{len(failed)} of {len(results)} runs failed and are in no cell; the same command "
            "tries them again:\n\n"
            + "\n".join(
                f"- {len(runs)} runs, such as {runs['run'].iloc[0]}: {html.escape(reason)}"
                for reason, runs in failed.groupby("reason", sort=False)
            )
        )
    if "reason" in results:
        incomplete = results[(results["status"] != "failed") & results["reason"].notna()]
        parts += [
            f"Incomplete: {len(runs)} runs, such as {runs['run'].iloc[0]}: {html.escape(reason)}."
            for reason, runs in incomplete.groupby("reason", sort=False)
        ]
    if "chosen" in results and results["chosen"].notna().any():
        parts.append(
            "Settings that validation documents chose, with the number of seeds:\n\n"
            + "\n".join(
                f"- {html.escape(arm)}: {html.escape(choice)} ({n})"
                for (arm, choice), n in results.groupby(["arm", "chosen"], sort=False)
                .size()
                .items()
            )
        )
    parts.append(
        f"A cell is the mean over n seeds with its {CONFIDENCE:.0%} interval (Student's t). Where "
        "a value is infinite, it is the median, and says how often that is so. A diverged run "
        "scores the weights of its best epoch. Without a finite epoch it scores chance and an "
        "infinite loss."
    )
    if experiment.compare:
        parts.append(
            "Differences are between the cells of the arms, seed by seed, as means over the places "
            "of the comparison. The interval is over seeds, or over corpora if there are several."
        )
    parts.append("\n".join(f"- {METRICS[m].title}: {METRICS[m].meaning}." for m in report.metrics))
    if report.published:
        parts.append(
            "Published by others, not run here:\n\n"
            + "\n".join(f"- {row.arm}: {row.source}" for row in report.published)
        )
    sources = results.groupby("source", sort=False)["data"].unique()
    data = (f"{source} (fingerprint {', '.join(data)})" for source, data in sources.items())
    parts.append(f"Data: {'; '.join(data)}.")
    return "\n\n".join(parts)


def _rates(rates: pd.Series) -> str:
    """Return the learning rates of an arm's seeds, with how many seeds if they differ."""
    counts = rates.value_counts().sort_index()
    shown = [f"{rate:g}" if len(counts) == 1 else f"{rate:g} ({n})" for rate, n in counts.items()]
    return ", ".join(shown)
