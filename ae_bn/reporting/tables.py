"""Tables of an experiment, in Markdown and LaTeX; `ae_bn.reporting.figures` draws its figures.

Everything is made from an experiment's config and the two tables that `experiments/run.py` writes,
``results.csv`` (`ae_bn.study.run.results_table`) and ``curves.csv``
(`ae_bn.reporting.curves.curves_table`), so it can be made again without the runs.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from ae_bn.config import ExperimentConfig, check_name
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import LABEL_METRICS, METRICS
from ae_bn.files import atomic_write
from ae_bn.reporting.figures import draw_figures
from ae_bn.reporting.selection import CRITERIA, best_rates, select
from ae_bn.reporting.statistics import CONFIDENCE, Summary, compare, summarize
from ae_bn.study.arms import contrasts

CAPPED = 0.05  # share of an arm's runs that may end at the cap before the report names the arm


class Table(NamedTuple):
    """A table as it is shown: all cells are text."""

    title: str
    header: list
    rows: list


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
    """Return the rows of ``results.csv`` that tables show: one per arm and seed.

    They are of the snapshot and at the learning rate that ``experiment.report`` names.
    """
    if "snapshot" not in results:  # of a version that kept one epoch only
        return results
    return select(results, experiment.report.snapshot, experiment.report.rate)


def check_report(experiment: ExperimentConfig) -> None:
    """Raise a UserError if the report asks for a metric, factor or level that does not exist."""
    report = experiment.report
    for metric in report.metrics:
        check_name(metric, METRICS, "experiment.report.metrics")
    for metric in report.margins:
        check_name(metric, METRICS, "experiment.report.margins")
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


def read_tables(directory: Path, experiment: ExperimentConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return ``results.csv`` and ``curves.csv`` of an experiment's directory.

    Raises
    ------
    UserError
        If one cannot be read or lacks a column.
    """
    tables = []
    for name, words, numbers in (
        ("results.csv", ["arm", "status", "source", "data", "run"], ["seed", "learning_rate"]),
        ("curves.csv", ["arm", "curve"], ["x", "n", "mean", "low", "high"]),
    ):
        types = {**dict.fromkeys(words, str), **dict.fromkeys(numbers, float)}
        if name == "results.csv":
            types.update(dict.fromkeys(experiment.factors, str))
            types.update(dict.fromkeys(METRICS, float), reason=str, snapshot=str, chosen=str)
        path = directory / name
        try:  # a level may be called None or NA
            table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); restore it or run again") from None
        needed = words + numbers + (list(experiment.factors) if name == "results.csv" else [])
        for column in needed:
            if column not in table:
                raise UserError(f"{path} has no column {column!r}; restore it or run again")
        tables.append(table)
    return tables[0], tables[1]


def write_report(
    results: pd.DataFrame, curves: pd.DataFrame, experiment: ExperimentConfig, directory: Path
) -> str:
    """Write ``table.md``, ``table.tex`` and the figures, and return the text of ``table.md``.

    The text also names the figures that could not be drawn.

    Parameters
    ----------
    results : DataFrame
        One row per run and snapshot.
    curves : DataFrame
        One row per point, as in ``curves.csv``.
    experiment : ExperimentConfig
        The experiment.
    directory : Path
        The experiment's directory.
    """
    experiment = without_labels(experiment, results)
    remarks = path_remarks(results, experiment)
    results = table_rows(results, experiment)
    with atomic_write(directory / "table.tex") as file:
        file.write(latex_report(results, experiment))
    problems = draw_figures(with_censored(results), curves, experiment, directory)
    missing = [f"Not drawn: {html.escape(problem, quote=False)}." for problem in problems]
    text = markdown_report(results, experiment, "\n\n".join(filter(None, [remarks, *missing])))
    with atomic_write(directory / "table.md") as file:
        file.write(text)
    return text


def markdown_report(results: pd.DataFrame, experiment: ExperimentConfig, remarks: str = "") -> str:
    """Return ``table.md``: the arms, the differences between them, and what they mean."""
    parts = [f"# {experiment.name}"]
    tables = [arms_table(results, experiment), *difference_tables(results, experiment)]
    for table in tables:
        parts += [f"**{table.title}**", markdown(table)]
    return "\n\n".join(filter(None, [*parts, remarks, notes(results, experiment)])) + "\n"


def path_remarks(results: pd.DataFrame, experiment: ExperimentConfig) -> str:
    """Return where rows come from, which arms were cut short, and which grids should be longer.

    Parameters
    ----------
    results : DataFrame
        One row per run and snapshot.
    experiment : ExperimentConfig
    """
    if "snapshot" not in results:
        return ""
    report, parts = experiment.report, []
    of_snapshot = results[results["snapshot"] == report.snapshot]
    parts.append(
        "Epoch: "
        + {"last": "the last one"}.get(report.snapshot, f"best by validation {report.snapshot}")
        + "."
    )
    if experiment.rate_grid:
        chosen = (
            f"chosen by {METRICS[report.rate].title} on the other seeds"
            if isinstance(report.rate, str)
            else "given"
        )
        rates = ", ".join(f"{rate:g}" for rate in experiment.rate_grid)
        parts.append(f"Learning rate: {chosen}, from {rates}.")
        for criterion in CRITERIA:
            best = best_rates(of_snapshot, criterion)
            ends = best.index[best["at_end"]]
            if len(ends):
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


def latex_report(results: pd.DataFrame, experiment: ExperimentConfig) -> str:
    """Return ``table.tex``: the same tables for the LaTeX package booktabs."""
    tables = [arms_table(results, experiment), *difference_tables(results, experiment)]
    parts = [f"% {experiment.name}; needs \\usepackage{{booktabs}}"]
    for table in tables:
        body = tabulate(table.rows, table.header, "latex_booktabs", disable_numparse=True)
        parts.append(f"% {table.title}\n{body}")
    return "\n\n".join(parts) + "\n"


def markdown(table: Table) -> str:
    """Return a table in Markdown; characters that mean something there are escaped."""
    header, *rows = (
        [html.escape(cell, quote=False).replace("|", "\\|") for cell in row]
        for row in (table.header, *table.rows)
    )
    return tabulate(rows, header, "pipe", disable_numparse=True)


def arms_table(results: pd.DataFrame, experiment: ExperimentConfig) -> Table:
    """Return a row per arm: n, learning rate, and the mean of every metric with its interval."""
    results = with_censored(results)
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
    return Table("Arms", header, rows)


def difference_tables(results: pd.DataFrame, experiment: ExperimentConfig) -> list[Table]:
    """Return a table per metric that arms share: the contrasts, with tests and verdicts."""
    report, tables = experiment.report, []
    pairs = contrasts(experiment)
    for metric in report.metrics if pairs else []:
        margin = report.margins.get(metric)
        rows = []
        compared = compare(with_censored(results), pairs, metric, margin)
        for name, comparison in compared.items():
            n, iqm = comparison.summary.n, comparison.summary.iqm
            undefined = f", {comparison.undefined} undefined" if comparison.undefined else ""
            rows.append(
                [
                    name,
                    f"{n}{undefined}",
                    show(comparison.summary, metric, "+"),
                    "" if np.isnan(iqm) else f"{iqm:+.{METRICS[metric].digits}f}",
                    f"{comparison.above} of {n}",
                    _p(comparison.p),
                    _p(comparison.p_holm),
                    comparison.verdict,
                ]
            )
        title = f"Differences in {METRICS[metric].title}, seed by seed"
        title += "" if margin is None else f" (margin {margin:g})"
        header = ["difference", "n", "mean", "IQM", "above 0", "p", "p (Holm)", "verdict"]
        if any(comparison.summary.n for comparison in compared.values()):
            tables.append(Table(title, header, rows))
    return tables


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
        "a value is infinite or a target is not met, it is the median, and says how often that is "
        "so. A diverged run scores the weights of its best epoch. Without a finite epoch it scores "
        "chance and an infinite loss."
    )
    if contrasts(experiment):
        parts.append(
            "Differences are taken seed by seed. IQM is the mean without the highest and the "
            "lowest quarter. p comes from flipping the signs of the differences (exact up to 13 "
            "seeds), and Holm corrects it for all contrasts of the metric. The verdict is higher "
            "or lower if the corrected p is below .05; within the margin, or equivalent, if the "
            "interval lies inside plus and minus the margin; and undecided otherwise. A difference "
            "is undefined if both sides are infinite or not met."
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


def with_censored(results: pd.DataFrame) -> pd.DataFrame:
    """Return results with a column for every metric, and infinity for targets not met.

    Empty does not mean that in references and failed runs.
    """
    measured = set(results)
    results = results.reindex(columns=[*results, *(m for m in METRICS if m not in measured)])
    trained = results["learning_rate"].notna() & (results["status"] != "failed")
    for metric in measured.intersection(METRICS):
        if METRICS[metric].censored:
            results[metric] = results[metric].where(results[metric].notna() | ~trained, np.inf)
    return results


def show(summary: Summary, metric: str, sign: str = "") -> str:
    """Return a cell: mean and interval, or the median where there is no mean."""
    n, infinite, mean, low, high, _, median = summary
    number = f"{sign}.{METRICS[metric].digits}f"
    if n == 0:
        return ""
    if infinite or METRICS[metric].censored:
        kind = "not met" if METRICS[metric].censored else "infinite"
        return f"median {median:{number}}" + (f" ({infinite} of {n} {kind})" if infinite else "")
    return f"{mean:{number}}" + ("" if n == 1 else f" [{low:{number}}, {high:{number}}]")


def _rates(rates: pd.Series) -> str:
    """Return the learning rates of an arm's seeds, with how many seeds if they differ."""
    counts = rates.value_counts().sort_index()
    shown = [f"{rate:g}" if len(counts) == 1 else f"{rate:g} ({n})" for rate, n in counts.items()]
    return ", ".join(shown)


def _p(p: float) -> str:
    return "" if np.isnan(p) else "<.001" if p < 0.001 else f"{p:.3f}"
