"""Make all tables, figures and the report again, from the results in the repository alone.

    python experiments/report.py

Every ``results/NAME`` that has ``results.csv`` and ``curves.csv``, and a ``configs/NAME.yaml``,
gets its ``table.md``, ``table.tex`` and figures.  Then ``experiments/report.md.j2``, whose prose is
written by hand and whose numbers are computed, becomes ``results/REPORT.md``, and that
``results/report.html``, one file with the figures inside.  Exit code 2: a file is missing or
damaged, or the template names something that does not exist, and one line says so.
"""

from __future__ import annotations

import argparse
import base64
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jinja2
import pandas as pd
from markdown import Markdown

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.config import ExperimentConfig, check_name, load_config
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.files import atomic_write
from ae_bn.reporting.statistics import compare, summarize
from ae_bn.reporting.tables import (
    Table,
    arms_table,
    check_report,
    difference_tables,
    markdown,
    notes,
    read_tables,
    show,
    with_censored,
    write_report,
)
from ae_bn.study.arms import contrasts, expand_arms

HERE = Path(__file__).resolve().parent
TEMPLATE = "report.md.j2"
NOT_RUN = "not run yet"


class Experiment(NamedTuple):
    """An experiment that has been run."""

    config: ExperimentConfig
    results: pd.DataFrame
    directory: Path


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="where they are")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def rebuild(results: Path) -> dict[str, Experiment]:
    """Write tables and figures of all experiments that have results, and return them by name."""
    experiments = {}
    for directory in sorted(path.parent for path in results.glob("*/results.csv")):
        path = HERE.parent / "configs" / f"{directory.name}.yaml"
        missing = [file for file in (directory / "curves.csv", path) if not file.exists()]
        if missing:
            print(f"{directory} is left out: there is no {missing[0]}")
            continue
        config = load_config(path)
        expand_arms(config)  # which checks their names
        check_report(config.experiment)
        table, curves = read_tables(directory, config.experiment)
        write_report(table, curves, config.experiment, directory)
        experiments[directory.name] = Experiment(config.experiment, table, directory)
        print(f"{directory}: {len(table)} runs")
    return experiments


def helpers(experiments: dict[str, Experiment]) -> dict:
    """Return the functions that the template can use, and ``metrics``.

    All take an experiment's name first, and return `NOT_RUN`, or ``figure`` nothing, if it has no
    results.  Other names have to be in its config.
    """

    def ran(name: str) -> bool:
        return name in experiments

    @lru_cache(maxsize=None)
    def comparisons(name, metric):
        config, results, _ = experiments[name]
        check_name(metric, METRICS, f"{TEMPLATE}, {name}")
        margin = config.report.margins.get(metric)
        return compare(with_censored(results), contrasts(config), metric, margin)

    def comparison(name, contrast, metric):
        check_name(contrast, contrasts(experiments[name].config), f"{TEMPLATE}, {name}")
        return comparisons(name, metric).get(contrast)

    def effect(name: str, contrast: str, metric: str) -> str:
        """The mean difference, its interval and n."""
        found = comparison(name, contrast, metric) if ran(name) else None
        if found is None or found.summary.n == 0:
            return NOT_RUN
        return f"{show(found.summary, metric, '+')}, n = {found.summary.n}"

    def verdict(name: str, contrast: str, metric: str) -> str:
        found = comparison(name, contrast, metric) if ran(name) else None
        return NOT_RUN if found is None else found.verdict

    def score(name: str, arm: str, metric: str) -> str:
        """An arm's mean and its interval."""
        if not ran(name):
            return NOT_RUN
        results = with_censored(experiments[name].results)
        check_name(arm, set(results["arm"]), f"{TEMPLATE}, {name}")
        check_name(metric, METRICS, f"{TEMPLATE}, {name}")
        runs = results[(results["arm"] == arm) & (results["status"] != "failed")]
        return show(summarize(runs[metric]), metric)

    def table(name: str) -> str:
        """All differences, and, folded, all arms and what the columns mean."""
        if not ran(name):
            return f"*{NOT_RUN.capitalize()}.*"
        config, results, _ = experiments[name]
        parts = []
        for differences in difference_tables(results, config):
            parts += [f"**{differences.title}**", markdown(differences)]
        parts += ['<details markdown="1"><summary>All arms, and what the columns mean</summary>']
        parts += [markdown(arms_table(results, config)), notes(results, config), "</details>"]
        return "\n\n".join(parts)

    def rates(name: str) -> str:
        """The validation loss of every arm at every learning rate tried, folded."""
        path = experiments[name].directory / "tuning" / "results.csv" if ran(name) else None
        if path is None or not path.exists():
            return ""
        tried = pd.read_csv(path)
        losses = tried.pivot_table("valid_loss", "arm", "learning_rate", sort=False)
        losses, digits = losses[sorted(losses)], METRICS["valid_loss"].digits
        title = f"Validation loss at fixed learning rates, {tried['seed'].nunique()} tuning seeds"
        shown = Table(
            title,
            ["arm", *(f"{rate:g}" for rate in losses)],
            [[arm, *(f"{loss:.{digits}f}" for loss in row)] for arm, row in losses.iterrows()],
        )
        head = f'<details markdown="1"><summary>{title}</summary>'
        return "\n\n".join([head, markdown(shown), "</details>"])

    def figure(name: str, file: str, caption: str) -> str:
        if not ran(name):
            return ""
        config, _, directory = experiments[name]
        known = [figure.file_name for figure in config.report.figures]
        check_name(f"{file}.png", known, f"{TEMPLATE}, {name}")
        return f"![{caption}]({name}/{file}.png)\n\n*{caption}*"

    return {
        "ran": ran,
        "effect": effect,
        "verdict": verdict,
        "score": score,
        "table": table,
        "rates": rates,
        "figure": figure,
        "metrics": METRICS,
    }


def render(template: str, **values) -> str:
    """Return a template of this directory with its values filled in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(HERE)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    try:
        return environment.get_template(template).render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{HERE / template}, line {error.lineno}: {error.message}") from None
    except jinja2.TemplateError as error:
        raise UserError(f"{HERE / template}: {error.message}") from None


def to_html(text: str, directory: Path) -> str:
    """Return Markdown as one HTML page, with the images of a directory inside it."""

    def embed(match):
        image = base64.b64encode((directory / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{image}"'

    body = Markdown(extensions=["tables", "md_in_html", "toc"], output_format="html").convert(text)
    body = re.sub(r'src="([\w./-]+\.png)"', embed, body)
    title = text.split("\n", 1)[0].lstrip("# ")
    return render("report.html.j2", title=title, body=body)


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_arguments(arguments)
    if not options.results.is_dir():
        raise UserError(f"--results {options.results}: no such directory")
    text = render(TEMPLATE, **helpers(rebuild(options.results)))
    page = to_html(text, options.results)
    for name, content in (("REPORT.md", text), ("report.html", page)):
        with atomic_write(options.results / name) as file:
            file.write(content)
        print(options.results / name)
    return 0


if __name__ == "__main__":
    run_program(main, "the same command makes everything anew")
