"""Make all tables, figures and the report again, from the configs and the record alone.

    python experiments/report.py

Every experiment in ``configs/`` that has a folder ``results/NAME``, which its first run makes, gets
its ``results.csv``, ``table.md`` and figures there, from the runs in ``results/record``.

The report is one page per question in ``docs/report``, where no other page is kept, and all pages
as one file, ``results/report.html``, with the figures inside and interactive figures.  The texts
are in ``experiments/report``: ``answers.md.j2`` and ``effects.md.j2`` for the answers,
``index.md.j2`` for the list of questions, and ``NAME.md.j2`` for an experiment, in the frame
``experiments/report.md.j2``.  Their prose is written by hand, with links and figures from the root
of the repository, and their numbers are computed (`ae_bn.reporting.sentences`).  The first screen
of the answers also goes into README.md.

Exit code 2: a file is missing or damaged, a fragment names something that does not exist, or the
numbers contradict a sentence.  One line says which.
"""

from __future__ import annotations

import base64
import io
import posixpath
import re
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jinja2
from markdown import Markdown
from PIL import Image

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.config import Config, load_config
from ae_bn.errors import UserError
from ae_bn.files import atomic_write
from ae_bn.reporting.answers import Answers
from ae_bn.reporting.curves import curves_table
from ae_bn.reporting.interactive import page
from ae_bn.reporting.predictions import FRESH
from ae_bn.reporting.sentences import AnswerNumbers, Experiment, ExperimentNumbers
from ae_bn.reporting.settings import BLOCKS
from ae_bn.reporting.tables import check_report, table_rows, without_labels, write_report
from ae_bn.study.record import Record
from ae_bn.study.results import recorded_table

ROOT = Path(__file__).resolve().parent.parent
PAGES = "docs/report"
TITLES = {
    "answers": "Batch Normalization and dropout in autoencoders for sparse text",
    "effects": "All effects",
    "index": "Questions and answers",
}
PLACE = ("<!-- interactive -->", "<!-- /interactive -->")  # what interactive figures replace
MORE = "<!-- more -->"  # ends the first screen
BEGIN, END = "<!-- answers -->", "<!-- /answers -->"  # around the first screen in README.md
PANELS = {  # of the first figure: a title for each loss and dropout, and the effect that it states
    ("cross-entropy", "masking"): (
        "Masking helps,\nwith BN and without", "masking with hidden BN", "higher"
    ),
    ("cross-entropy", "hidden dropout"): (
        "Hidden dropout\nhelps, too", "hidden dropout with hidden BN", "higher"
    ),
    ("squared error", "masking"): (
        "Masking helps,\nwith BN and without", "masking with hidden BN", "higher"
    ),
    ("squared error", "hidden dropout"): (
        "Hidden dropout\nharms", "hidden dropout with hidden BN", "lower"
    ),
}  # fmt: skip
SETTINGS = [  # the effects that are shown in every setting
    ("BN instead of masking", "probe_accuracy"),
    ("masking with hidden BN", "probe_accuracy"),
    ("interaction of BN and masking", "probe_accuracy"),
    ("interaction of BN and hidden dropout", "centred_precision"),
    ("output BN with hidden BN", "centred_precision"),
]


class Page(NamedTuple):
    """A page of the report, in Markdown whose links are from the root of the repository."""

    title: str
    text: str

    @property
    def answer(self) -> str:
        """The first sentence of the page's answer, if it has one."""
        found = re.search(r"\*\*Answer\.\*\* (.+?[.!?])\s", self.text, re.DOTALL)
        return " ".join(found[1].split()) if found else ""

    def markdown(self) -> str:
        """Return the page as a file of `PAGES`."""
        return rewrap(linked(f"# {self.title}\n\n{self.text}", PAGES)) + "\n"


def parse_arguments(arguments):
    parser = OneLineParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def rebuild(configs: dict[str, Config], record: Record) -> dict[str, Experiment]:
    """Write tables and figures of all experiments that have results, and return them by name.

    The figures of the answers replace those of the settings other than the first.
    """
    experiments = {}
    for name, config in configs.items():
        directory = ROOT / "results" / name
        if not directory.is_dir():
            continue
        check_report(config.experiment)
        table = recorded_table(config, record)
        if table.empty:
            continue
        shown = table_rows(table, config.experiment)
        curves = curves_table(shown, record, config.experiment.report.figures)
        write_report(table, curves, config.experiment, directory, name not in list(BLOCKS)[1:])
        experiments[name] = Experiment(without_labels(config.experiment, table), table, directory)
        print(f"results/{name}: {table['run'].nunique()} runs")
    return experiments


def make_page(name: str, experiment: Experiment) -> Page:
    """Return the page of an experiment.

    Raises
    ------
    UserError
        If the fragment has a mistake, or expects something that the numbers do not say.
    """
    numbers = ExperimentNumbers(name, experiment)
    if (ROOT / "experiments/report" / f"{name}.md.j2").exists():
        text = numbers.check(render(f"report/{name}.md.j2", **numbers.names()))
    else:
        text = numbers.everything()
    title = experiment.config.question or name
    return Page(title, render("report.md.j2", name=name, text=text.strip("\n")))


def linked(text: str, directory: str) -> str:
    """Return Markdown with its links, which are from the root, from a directory instead."""
    return re.sub(
        r'(\]\(|src=")(?!\w+:|#)([^)"]+)',
        lambda match: match[1] + posixpath.relpath(match[2], directory),
        text,
    )


def rewrap(text: str) -> str:
    """Return Markdown with its paragraphs and lists wrapped again, after numbers were put in."""
    blocks = text.split("\n\n")
    for number, block in enumerate(blocks):
        if block.lstrip().startswith(("|", "!", "<", "#", "```")):
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


@lru_cache(maxsize=None)
def templates(folder: Path) -> jinja2.Environment:
    """Return what reads the templates of a folder."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(folder)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values) -> str:
    """Return a template of ``experiments`` with its values filled in."""
    where = f"experiments/{template}"
    try:
        return templates(ROOT / "experiments").get_template(template).render(**values)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{where}, line {error.lineno}: {error.message}") from None
    except jinja2.TemplateError as error:
        raise UserError(f"{where}: {error.message}") from None
    except TypeError as error:  # a function was given the wrong arguments
        raise UserError(f"{where}: {error}") from None


def make_answers(record: Record, experiments: dict[str, Experiment]) -> tuple[dict[str, Page], str]:
    """Return the pages of the answers, and the interactive figures.

    Without results of the settings, one page says so.  The first screen also has effects of other
    experiments: ``of("topics", ...)``, if they have results.
    """
    try:
        tables = {name: experiment.table for name, experiment in experiments.items()}
        answers = Answers(tables, record, ROOT / "results")
    except UserError as error:
        return {"answers": Page(TITLES["answers"], f"*No answers yet: {error}.*")}, ""
    numbers = AnswerNumbers(answers)
    for (loss, _), (title, effect, expect) in PANELS.items():
        shown = numbers.agree(effect, "probe_accuracy", expect, loss=loss)
        numbers.check(f"{title}: {shown}.")

    def of(name: str, *effect: str, **where: str) -> str:
        return numbers.effect(*effect, among=experiments[name].effects, **where)

    titles = {panel: title for panel, (title, *_) in PANELS.items()}
    answers.write_figures(titles, SETTINGS)
    pages = {}
    for name in ("answers", "effects"):
        numbers.where = f"experiments/report/{name}.md.j2"
        text = render(f"report/{name}.md.j2", **numbers.names(), of=of, known=experiments)
        pages[name] = Page(TITLES[name], numbers.check(text).strip())
    return pages, page(answers)


def write_readme(answers: Page) -> None:
    """Put the first screen between the marks of README.md."""
    path = ROOT / "README.md"
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    first = rewrap(answers.text.split(MORE)[0].strip())
    with atomic_write(path) as file:
        file.write(f"{before}{BEGIN}\n{first}\n{END}{after}")


def to_html(pages: dict[str, Page], figures: str) -> str:
    """Return all pages as one of HTML, ``results/report.html``, with the interactive figures."""

    def embed(match):
        content = io.BytesIO()  # a third smaller than PNG
        Image.open(ROOT / "results" / match[1]).save(content, "webp", lossless=True, method=6)
        image = base64.b64encode(content.getvalue()).decode()
        return f'src="data:image/webp;base64,{image}" loading="lazy"'

    parts = [f"## {page.title} {{#{name}}}\n\n{page.text}" for name, page in pages.items()]
    text = "\n\n".join(parts)[1:]  # the first page gives the title of all
    text = re.sub(rf"\]\({PAGES}/(?:(\w+)\.md|\w+\.md#([\w-]+))\)", r"](#\1\2)", text)
    text = linked(re.sub(r"```{toctree}.*?```", "", text, flags=re.DOTALL), "results")
    if figures:
        start, end = PLACE
        text = f"{text.split(start)[0]}{start}{text.split(end)[1]}"
    markdown = Markdown(
        extensions=["attr_list", "tables", "md_in_html", "toc"],
        extension_configs={"toc": {"toc_depth": "2-2"}},
        output_format="html",
    )
    body = markdown.convert(text)
    body = body.replace(PLACE[0], f"<nav>{markdown.toc}</nav>\n{figures}")
    body = re.sub(r'src="([\w./-]+\.png)"', embed, body)
    return render("report.html.j2", title=TITLES["answers"], body=body)


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    parse_arguments(arguments)
    paths = {path.stem: path for path in sorted(ROOT.glob("configs/*.yaml"))}
    for name in paths.keys() & TITLES.keys():
        raise UserError(f"configs/{name}.yaml: the report has another page {name}; rename it")
    configs = {name: load_config(path) for name, path in paths.items()}
    record = Record(ROOT / "results" / "record")
    experiments = rebuild(configs, record)
    sections = {
        name: make_page(name, experiment)
        for name, experiment in experiments.items()
        if name not in {*BLOCKS, FRESH}
    }
    pages, figures = make_answers(record, experiments)
    not_run = {
        name: config.experiment.question
        for name, config in configs.items()
        if name not in experiments
    }
    index = render("report/index.md.j2", answers=pages, sections=sections, not_run=not_run)
    pages.update(index=Page(TITLES["index"], index.strip()), **sections)
    files = {f"{PAGES}/{name}.md": page.markdown() for name, page in pages.items()}
    files["results/report.html"] = to_html(pages, figures)
    if figures:
        write_readme(pages["answers"])
    (ROOT / PAGES).mkdir(parents=True, exist_ok=True)
    for path in (ROOT / PAGES).glob("*.md"):
        if f"{PAGES}/{path.name}" not in files:  # of an experiment that is no more
            path.unlink()
    for name, content in files.items():
        with atomic_write(ROOT / name) as file:
            file.write(content)
    print(f"{PAGES}: {len(pages)} pages, and results/report.html")
    return 0


if __name__ == "__main__":
    run_program(main, "the same command makes everything again")
