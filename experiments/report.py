"""Make all tables, figures and the report again, from the configs and the record alone.

    python experiments/report.py

Every experiment in ``configs/`` that has a folder ``results/NAME``, which its first run makes, gets
its ``results.csv``, ``table.md`` and figures there, from the runs in ``results/record``.
``experiments/report/answers.md.j2`` is the text of the answers,
and ``experiments/report/NAME.md.j2`` that of an experiment: fragments whose prose is written by
hand and whose numbers are computed (`ae_bn.reporting.sentences`).  ``experiments/report.md.j2``,
the frame, puts them together as ``results/REPORT.md``.  ``results/report.html`` is the same as one
file with the figures inside, and interactive figures.  The first screen also goes into README.md.

Exit code 2: a file is missing or damaged, a fragment names something that does not exist, or the
numbers contradict a sentence.  One line says which.
"""

from __future__ import annotations

import argparse
import base64
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import jinja2
from markdown import Markdown

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.files import atomic_write
from ae_bn.reporting.answers import Answers
from ae_bn.reporting.curves import curves_table
from ae_bn.reporting.interactive import page
from ae_bn.reporting.predictions import FRESH
from ae_bn.reporting.sentences import AnswerNumbers, Experiment, ExperimentNumbers
from ae_bn.reporting.settings import BLOCKS
from ae_bn.reporting.tables import (
    check_report,
    table_rows,
    without_labels,
    write_report,
)
from ae_bn.study.record import Record
from ae_bn.study.results import recorded_table

HERE = Path(__file__).resolve().parent
FRAME = "report.md.j2"
FIRST = next(iter(BLOCKS))
PLACE = ("<!-- interactive -->", "<!-- /interactive -->")  # what interactive figures replace
MORE = "<!-- more -->"  # ends the first screen
BEGIN, END = "<!-- answers -->", "<!-- /answers -->"  # around the first screen in README.md
PANELS = {  # of the first figure: a title for each loss and dropout, and the effect that it states
    ("cross-entropy", "masking"): (
        "Masking helps,\nmore with BN", "interaction of BN and masking", "higher"
    ),
    ("cross-entropy", "hidden dropout"): (
        "Hidden dropout helps\nless with BN", "interaction of BN and hidden dropout", "lower"
    ),
    ("squared error", "masking"): (
        "Masking helps,\nmore with BN", "interaction of BN and masking", "higher"
    ),
    ("squared error", "hidden dropout"): (
        "No use of hidden\ndropout with BN", "hidden dropout with hidden BN", "undecided"
    ),
}  # fmt: skip
SETTINGS = [  # the effects that are shown in every setting
    ("BN instead of masking", "probe_accuracy"),
    ("masking with hidden BN", "probe_accuracy"),
    ("interaction of BN and masking", "probe_accuracy"),
    ("interaction of BN and hidden dropout", "centred_precision"),
    ("output BN with hidden BN", "centred_precision"),
]


class Section(NamedTuple):
    """What the frame shows of an experiment."""

    name: str
    title: str
    question: str
    text: str


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def rebuild(results: Path, record: Record) -> dict[str, Experiment]:
    """Write tables and figures of all experiments that have results, and return them by name.

    The figures of the answers replace those of the settings other than the first.
    """
    experiments = {}
    for path in sorted(HERE.parent.glob("configs/*.yaml")):
        directory = results / path.stem
        if not directory.is_dir():
            continue
        config = load_config(path)
        check_report(config.experiment)
        table = recorded_table(config, record)
        if table.empty:
            continue
        shown = table_rows(table, config.experiment)
        curves = curves_table(shown, record, config.experiment.report.figures)
        figures = path.stem == FIRST or path.stem not in BLOCKS
        write_report(table, curves, config.experiment, directory, figures)
        experiment = without_labels(config.experiment, table)
        experiments[path.stem] = Experiment(experiment, table, directory)
        print(f"{directory}: {table['run'].nunique()} runs")
    return experiments


def make_section(name: str, experiment: Experiment) -> Section:
    """Return the section of an experiment.

    Raises
    ------
    UserError
        If the fragment has a mistake, or expects something that the numbers do not say.
    """
    numbers = ExperimentNumbers(name, experiment)
    if (HERE / "report" / f"{name}.md.j2").exists():
        text = numbers.check(render(f"report/{name}.md.j2", **numbers.names()))
    else:
        text = numbers.everything()
    title = name.replace("_", " ").capitalize()
    return Section(name, title, experiment.config.question or title, text.strip("\n"))


def rewrap(text: str) -> str:
    """Return Markdown with its paragraphs and lists wrapped again, after numbers were put in."""
    blocks = text.split("\n\n")
    for number, block in enumerate(blocks):
        if block.lstrip().startswith(("|", "!", "<", "#")):
            continue
        items = re.split(r"\n(?=(?:\d+\.|-) )", block.strip())
        marks = [re.match(r"((\d+\.|-) )?", item) for item in items]
        blocks[number] = "\n".join(
            textwrap.fill(
                " ".join(item.split()),
                118,
                subsequent_indent=" " * len(mark[0]) if mark else "",
                break_long_words=False,
                break_on_hyphens=False,
            )
            for item, mark in zip(items, marks)
        )
    return "\n\n".join(blocks)


def render(template: str, **values) -> str:
    """Return a template of this directory with its values filled in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(HERE)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    where = HERE.name + "/" + template
    try:
        return environment.get_template(template).render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{where}, line {error.lineno}: {error.message}") from None
    except jinja2.TemplateError as error:
        raise UserError(f"{where}: {error.message}") from None
    except TypeError as error:  # a function was given the wrong arguments
        raise UserError(f"{where}: {error}") from None


def make_answers(
    results: Path, record: Record, experiments: dict[str, Experiment]
) -> tuple[str, str, str]:
    """Return the answers: the first screen, the rest, and the interactive figures.

    Without results of the settings, the first screen says so.  It also has effects of other
    experiments: ``of("topics", ...)``, if they have results.
    """
    try:
        tables = {name: experiment.table for name, experiment in experiments.items()}
        answers = Answers(tables, record, results)
    except UserError as error:
        return f"*No answers yet: {error}.*", "", ""
    numbers = AnswerNumbers(answers)
    for (loss, _), (title, effect, expect) in PANELS.items():
        setting = f"20 Newsgroups, {loss}"
        shown = numbers.effect(effect, "centred_precision", expect, setting=setting)
        numbers.check(f"{title}: {shown}.")

    def of(name: str, *effect: str, **where: str) -> str:
        other = ExperimentNumbers(name, experiments[name])
        other.stated = numbers.stated  # so that one check finds the sentences of both
        return other.effect(*effect, **where)

    titles = {panel: title for panel, (title, *_) in PANELS.items()}
    answers.write_figures(titles, SETTINGS)
    text = numbers.check(
        render("report/answers.md.j2", **numbers.names(), of=of, known=experiments)
    )
    first, rest = rewrap(text).split(MORE)
    return first.strip(), rest.strip(), page(answers)


def write_readme(first: str) -> None:
    """Put the first screen between the marks of README.md."""
    path = HERE.parent / "README.md"
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    linked = re.sub(r"(\]\(|src=\")(?!http|#)", r"\1results/", first)
    linked = linked.replace("results/../", "").replace("](#", "](results/REPORT.md#")
    with atomic_write(path) as file:
        file.write(f"{before}{BEGIN}\n{rewrap(linked)}\n{END}{after}")


def to_html(text: str, directory: Path, figures: str) -> str:
    """Return Markdown as one HTML page, with a directory's images and the interactive figures."""

    def embed(match):
        image = base64.b64encode((directory / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{image}" loading="lazy"'

    if figures:
        start, end = PLACE
        text = f"{text.split(start)[0]}{start}{text.split(end)[1]}"
    markdown = Markdown(
        extensions=["tables", "md_in_html", "toc"],
        extension_configs={"toc": {"toc_depth": "2-2"}},
        output_format="html",
    )
    body = markdown.convert(text)
    body = body.replace(PLACE[0], f"<nav>{markdown.toc}</nav>\n{figures}")
    body = re.sub(r'src="([\w./-]+\.png)"', embed, body)
    title = text.split("\n", 1)[0].lstrip("# ")
    return render("report.html.j2", title=title, body=body)


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_arguments(arguments)
    if not options.results.is_dir():
        raise UserError(f"--results {options.results}: no such directory")
    record = Record(options.results / "record")
    experiments = rebuild(options.results, record)
    in_answers = {*BLOCKS, FRESH}
    sections = [make_section(*one) for one in experiments.items() if one[0] not in in_answers]
    known = sorted(path.stem for path in HERE.parent.glob("configs/*.yaml"))
    first, rest, figures = make_answers(options.results, record, experiments)
    not_run = [name for name in known if name not in experiments]
    text = render(FRAME, first=first, rest=rest, sections=sections, not_run=not_run)
    html = to_html(text, options.results, figures)
    if rest and options.results.resolve() == HERE.parent / "results":
        write_readme(first)
    for name, content in (("REPORT.md", text), ("report.html", html)):
        with atomic_write(options.results / name) as file:
            file.write(content)
        print(options.results / name)
    return 0


if __name__ == "__main__":
    run_program(main, "the same command makes everything again")
