"""Make all tables, figures and the report again, from the results in the repository alone.

    python experiments/report.py

Every experiment in ``configs/`` with ``results/NAME/results.csv`` and ``curves.csv`` gets its
``table.md``, ``table.tex`` and figures there, and a section of the report: its question, and the
text in ``experiments/report/NAME.md.j2``, a fragment whose prose is written by hand and whose
numbers are computed (`Numbers`).  Without a fragment the section has the experiment's figures and
tables.  ``experiments/report.md.j2``, the frame, puts the sections together as
``results/REPORT.md``, and ``results/report.html`` is the same as one file with the figures inside.

Exit code 2: a file is missing or damaged, a fragment names something that does not exist, or the
numbers contradict a sentence.  One line says which.
"""

from __future__ import annotations

import argparse
import base64
import operator
import re
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jinja2
import pandas as pd
from markdown import Markdown

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.config import ExperimentConfig, FigureConfig, check_name, load_config
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.files import atomic_write
from ae_bn.reporting.answers import Answers, agreement, estimate, mostly, spoken
from ae_bn.reporting.interactive import page as interactive
from ae_bn.reporting.selection import select
from ae_bn.reporting.statistics import Summary, compare, paired_differences, summarize
from ae_bn.reporting.tables import (
    Table,
    arms_table,
    check_report,
    difference_tables,
    markdown,
    notes,
    read_tables,
    show,
    table_rows,
    with_censored,
    without_labels,
    write_report,
)
from ae_bn.study.arms import contrasts, expand_arms
from ae_bn.training import SNAPSHOTS

HERE = Path(__file__).resolve().parent
FRAME = "report.md.j2"
EXPECTED = ("higher", "lower", "equivalent", "undecided")  # what a sentence can say of a difference
PLACE = "<!-- interactive -->"  # where the interactive figures go
MORE = "<!-- more -->"  # ends the first screen
BEGIN, END = "<!-- answers -->", "<!-- /answers -->"  # around the first screen in README.md
MOSTLY = {"mostly higher": "higher", "mostly lower": "lower"}
HEADLINE = [  # the specification curves
    ("substitution", "probe_accuracy"),
    ("substitution", "centred_precision"),
    ("interaction", "probe_accuracy"),
    ("output BN with hidden BN", "probe_accuracy"),
    ("output BN with hidden BN", "centred_precision"),
    ("output BN with hidden BN", "raw_precision"),
]
MARK = "\0"  # around the number of a sentence whose expectation is not met


class Experiment(NamedTuple):
    """An experiment that has been run."""

    config: ExperimentConfig
    results: pd.DataFrame  # the rows that tables show
    directory: Path
    table: pd.DataFrame  # results.csv: the rows of all snapshots and learning rates


class Section(NamedTuple):
    """What the frame shows of an experiment."""

    name: str
    title: str
    question: str
    text: str
    claims: list  # of dict: question, answer, effect, verdict
    tuned: bool  # whether each arm was trained at one learning rate, its own


class Places(NamedTuple):
    """One comparison at all places of its ``within`` and at all epochs."""

    summary: Summary  # of the mean over places and epochs, seed by seed
    analyses: int  # places times epochs
    higher: int  # of them, with a mean difference above 0
    lower: int  # and below 0


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def rebuild(results: Path) -> dict[str, Experiment]:
    """Write tables and figures of all experiments that have results, and return them by name."""
    experiments = {}
    for path in sorted(HERE.parent.glob("configs/*.yaml")):
        directory = results / path.stem
        if not (directory / "results.csv").exists() or not (directory / "curves.csv").exists():
            continue
        config = load_config(path)
        expand_arms(config)  # which checks their names
        check_report(config.experiment)
        table, curves = read_tables(directory, config.experiment)
        write_report(table, curves, config.experiment, directory)
        rows = table_rows(table, config.experiment)
        experiments[path.stem] = Experiment(
            without_labels(config.experiment, rows), rows, directory, table
        )
        print(f"{directory}: {len(rows)} runs")
    return experiments


class Sentences:
    """A check that the numbers agree with the sentences.

    A sentence can state the result that it expects.  Expectations that are not met are listed in
    `unmet` and marked in the text, so `check` can find their sentences.
    """

    where = ""  # the fragment

    def __init__(self):
        self.unmet: list[str] = []  # what each is about

    def _mark(self, reason):
        self.unmet.append(reason)
        return f"{MARK}{len(self.unmet) - 1}{MARK}"

    def check(self, sentences: list[str]) -> None:
        """Raise a UserError that names the first sentence whose expectation is not met."""
        if not self.unmet:
            return
        number, sentence = next(
            (int(match[1]), re.sub(f"{MARK}\\d+{MARK}", "", sentence))
            for sentence in sentences
            for match in re.finditer(f"{MARK}(\\d+){MARK}", sentence)
        )
        more = len(self.unmet) - 1
        raise UserError(
            f"{self.where}: the numbers do not say {' '.join(sentence.split())!r} "
            f"[{self.unmet[number]}]" + (f" (and {more} more)" if more else "")
        )


class Numbers(Sentences):
    """What a fragment can use: the numbers, tables and figures of its experiment.

    A sentence that states a direction says what it expects of the numbers.

    Parameters
    ----------
    name : str
        The name of the experiment.
    experiment : Experiment
        Its config and results.
    """

    def __init__(self, name: str, experiment: Experiment):
        super().__init__()
        self.name, self.where = name, f"experiments/report/{name}.md.j2"
        self.config, self.results, self.directory, self.all_epochs = experiment
        self.measured = with_censored(self.results)
        self.claims: list[dict] = []
        self._comparisons = lru_cache(maxsize=None)(self._compare)

    def names(self) -> dict:
        """Return the functions that a fragment can call, by name."""
        functions = (
            self.effect, self.verdict, self.score, self.claim, self.table, self.rates, self.figure
        )  # fmt: skip
        return {function.__name__: function for function in functions}

    def effect(self, contrast: str, metric: str, expect: str | None = None, at: str = "") -> str:
        """Return a contrast's mean difference, its interval and n.

        An entry of ``experiment.compare`` that generates several contrasts is averaged over them
        and over the kept epochs, with the number of these analyses that agree.  ``at`` keeps the
        contrasts with this in their names, such as "rate 0.008".
        """
        text = self._mean(contrast, metric, at)
        if not self._is_single(contrast):
            text += f", {self.verdict(contrast, metric, at=at)} analyses"
        return text + self._check(contrast, metric, expect, at)

    def verdict(self, contrast: str, metric: str, expect: str | None = None, at: str = "") -> str:
        """Return a contrast's verdict, such as "higher", or how many analyses agree."""
        if self._is_single(contrast):
            found = self._comparison(contrast, metric).verdict
        else:
            found = agreement(self._places(contrast, metric, at))
        return found + self._check(contrast, metric, expect, at)

    def score(self, arm: str, metric: str, above: str = "", below: str = "") -> str:
        """Return an arm's mean and its interval; it should lie above or below another arm's."""
        text = show(self._summary(arm, metric), metric)
        for other, lies, word in ((above, operator.gt, "above"), (below, operator.lt, "below")):
            if other and not lies(self._centre(arm, metric), self._centre(other, metric)):
                title = METRICS[metric].title
                text += self._mark(f"{title} of {arm!r} is not {word} that of {other!r}")
        return text

    def claim(
        self, answer: str, contrast: str, metric: str, expect: str, question: str = "", at: str = ""
    ) -> str:
        """Add a row to the table of claims at the top of the report; nothing is shown here.

        Without a question it answers that of the experiment.
        """
        row = {"question": question or self.config.question, "metric": METRICS[metric].title}
        row["contrast"] = f"{contrast}, {at}" if at else contrast
        row["effect"] = self._mean(contrast, metric, at)
        row["verdict"] = self.verdict(contrast, metric, at=at)
        row["answer"] = answer + self._check(contrast, metric, expect, at)
        self.claims.append(row)
        return ""

    def table(self) -> str:
        """Return all differences, and, folded, all arms and what the columns mean.

        If each comparison is made at several places, the differences are means over them.
        """
        parts = [self._comparisons_table()] if self._at_places() else []
        if not parts:
            for differences in difference_tables(self.results, self.config):
                parts += [f"**{differences.title}**", markdown(differences)]
        parts += ['<details markdown="1"><summary>All arms, and what the columns mean</summary>']
        parts += [markdown(arms_table(self.results, self.config))]
        parts += [notes(self.results, self.config), "</details>"]
        return "\n\n".join(parts)

    def rates(self) -> str:
        """Return the validation loss of every arm at every learning rate tried, folded."""
        path = self.directory / "tuning" / "results.csv"
        if not path.exists():
            raise UserError(f"{self.where}: rates() needs {path}, which does not exist")
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

    def figure(self, name: str, caption: str) -> str:
        """Return an image with its caption."""
        known = [figure.file_name for figure in self.config.report.figures]
        check_name(f"{name}.png", known, self.where)
        return f"![{caption}]({self.name}/{name}.png)\n\n*{caption}*"

    def everything(self) -> str:
        """Return all figures that could be drawn, and the tables."""
        drawn = [
            self.figure(Path(figure.file_name).stem, caption(figure))
            for figure in self.config.report.figures
            if (self.directory / figure.file_name).exists()
        ]
        return "\n\n".join([*drawn, self.table()])

    def _at_places(self):
        compared = self.config.compare if not self.config.learning_rates else ()
        return bool(compared) and not any(map(self._is_single, compared))

    def _comparisons_table(self):
        metrics = self.config.report.metrics
        rows = [[title, *(self.effect(title, m) for m in metrics)] for title in self.config.compare]
        return markdown(Table("", ["difference", *(METRICS[m].title for m in metrics)], rows))

    def _is_single(self, contrast):
        return contrast not in self.config.compare or contrast in contrasts(self.config)

    def _places(self, title, metric, at=""):
        check_name(metric, METRICS, self.where)
        named = {
            name: contrast
            for name, contrast in contrasts(self.config).items()
            if name.startswith(f"{title}, ") and at in name
        }
        each = []
        for snapshot in SNAPSHOTS:
            rows = with_censored(select(self.all_epochs, snapshot, self.config.report.rate))
            arms = set(rows["arm"])
            for contrast in named.values():
                if arms.issuperset(contrast.plus + contrast.minus):
                    each.append(paired_differences(rows, contrast, metric))
        each = [differences for differences in each if len(differences)]
        if not each:
            raise UserError(f"{self.where}: no runs for {metric}, {title!r} at {at!r}")
        table = pd.concat(each, axis=1)  # a column per analysis
        means, summary = table.mean(), summarize(table.mean(axis=1))
        return Places(summary, len(means), int((means > 0).sum()), int((means < 0).sum()))

    def _mean(self, contrast, metric, at=""):
        """Return a mean difference with its interval."""
        if not self._is_single(contrast):
            return show(self._places(contrast, metric, at).summary, metric, "+")
        found = self._comparison(contrast, metric)
        return f"{show(found.summary, metric, '+')}, n = {found.summary.n}"

    def _compare(self, metric):
        check_name(metric, METRICS, self.where)
        margin = self.config.report.margins.get(metric)
        return compare(self.measured, contrasts(self.config), metric, margin)

    def _comparison(self, contrast, metric):
        check_name(contrast, self._comparisons(metric), self.where)
        return self._comparisons(metric)[contrast]

    def _summary(self, arm, metric):
        check_name(arm, set(self.measured["arm"]), self.where)
        check_name(metric, METRICS, self.where)
        runs = self.measured[self.measured["arm"] == arm]
        return summarize(runs.loc[runs["status"] != "failed", metric])

    def _centre(self, arm, metric):
        summary = self._summary(arm, metric)
        return summary.median if summary.infinite or METRICS[metric].censored else summary.mean

    def _check(self, contrast, metric, expect, at=""):
        """Return a mark if a difference is not as a sentence expects."""
        if expect is None:
            return ""
        if self._is_single(contrast):
            found = self._comparison(contrast, metric).verdict.split(",")[0]
            met = {verdict: verdict == found for verdict in EXPECTED}
        else:
            places = self._places(contrast, metric, at)
            met = {
                "higher": places.higher == places.analyses,
                "lower": places.lower == places.analyses,
                "mostly higher": places.higher >= 0.9 * places.analyses,
                "mostly lower": places.lower >= 0.9 * places.analyses,
            }
        check_name(expect, met, f"{self.where}, expect")
        if met[expect]:
            return ""
        verdict, mean = self.verdict(contrast, metric, at=at), self._mean(contrast, metric, at)
        return self._mark(
            f"{METRICS[metric].title}, {contrast}: expected {expect}, but it is {verdict} ({mean})"
        )


def caption(figure: FigureConfig) -> str:
    """Return a caption for a figure whose fragment has none."""
    metrics = ", ".join(METRICS[metric].title for metric in figure.metrics or [])
    what = {
        "metrics": metrics or "The metrics of the table",
        "differences": f"Differences in {metrics or 'the metrics of the table'}",
        "response": f"The metrics over {figure.x_label or figure.x}",
        "paths": f"{_listed(figure)} over the validation loss, epoch by epoch",
    }
    default = f"{_listed(figure)} over {figure.x_label or 'the epoch'}"
    text = what.get(figure.kind, default)
    levels = "; ".join(f"{factor}: {', '.join(of)}" for factor, of in figure.only.items())
    return f"{text[0].upper()}{text[1:]}{f' ({levels})' if levels else ''}."


def _listed(figure):
    return ", ".join((figure.curves or {}).values())


class AnswerNumbers(Sentences):
    """What the fragment of the answers can use: numbers, tables and figures of the core blocks.

    Parameters
    ----------
    answers : Answers
        The answers from the results.
    """

    where = "experiments/report/answers.md.j2"

    def __init__(self, answers: Answers):
        super().__init__()
        self.answers = answers

    def names(self) -> dict:
        """Return the functions that the fragment can call, by name."""
        functions = (
            self.answer, self.answers_table, self.all_verdicts, self.image, self.losses,
            self.recipe, self.recipe_scores, self.score, self.scored, self.seeds,
            self.settings, self.settings_table,
        )  # fmt: skip
        return {function.__name__: function for function in functions}

    def answer(
        self, effect: str, metric: str, group: str, expect: str | None = None, every: bool = False
    ) -> str:
        """Return an effect at chosen rates, or in every analysis, with its agreement."""
        verdicts = self.answers.verdicts if every else self.answers.chosen
        check_name((effect, metric, group), verdicts, self.where)
        found = verdicts[effect, metric, group]
        text = f"{estimate(found)}, {agreement(found)} analyses"
        met = expect is None or found.verdict.startswith(expect)
        if met or (expect in MOSTLY and mostly(found, MOSTLY[expect])):
            return text
        return text + self._mark(
            f"{metric}, {effect}, {group}: expected {expect}, but it is {found.verdict} ({text})"
        )

    def answers_table(self, rows: list) -> str:
        """Return a table from the (question, difference, effect, metric, group) of each row."""
        shown = []
        for question, difference, *key in rows:
            _, metric, effect, agree, _, at_all = self.answers.row(*key)
            title = f"{metric}, {key[2]}" if key[2] in self.losses() else metric
            shown.append([question, difference, title, effect, agree, at_all])
        header = [
            "question", "difference", "metric", "effect", "analyses that agree",
            "at all learning rates",
        ]  # fmt: skip
        return markdown(Table("", header, shown))

    def all_verdicts(self, loss: str) -> str:
        """Return the table of all effects and metrics for a loss."""
        rows = [self.answers.row(*key) for key in self.answers.chosen if key[2] == loss]
        header = [
            "effect", "metric", "chosen rates: mean", "analyses that agree", "all rates: mean",
            "analyses that agree",
        ]  # fmt: skip
        return markdown(Table("", header, rows))

    def settings_table(self, keys: list) -> str:
        """Return the table of some (effect, metric) in every setting."""
        return markdown(self.answers.settings_table([tuple(key) for key in keys]))

    def image(self, name: str, caption: str) -> str:
        """Return an image of the answers with its caption."""
        path = self.answers.results / "answers" / f"{name}.png"
        if not path.exists():
            raise UserError(f"{self.where}: there is no figure {path}")
        return f"![{caption}](answers/{name}.png)\n\n*{caption}*"

    def recipe(self, purpose: str) -> str:
        """Return the recipe for a purpose in words."""
        found = self._recipe(purpose)
        bn = {"none": "no BN", "hidden + output": "BN in the hidden and the output layer"}
        masking = "no masking" if found.masking == "none" else found.masking
        words = (
            f"{found.loss}, {bn.get(found.bn, f'BN in the {found.bn} layer')}, {masking}, "
            f"learning rate {found.learning_rate:g}, the epoch with the {spoken(found.epoch)}"
        )
        return words[0].upper() + words[1:]

    def recipe_scores(self, purpose: str) -> str:
        """Return the scores of a recipe beside those of the references, on each corpus."""
        scores = self._recipe(purpose).scores.reset_index()
        corpora = list(dict.fromkeys(scores["setting"]))
        rows = []
        for arm, of in scores.groupby("arm", sort=False):
            by = of.set_index("setting")
            cells = [
                self._score(by.loc[corpus]) if corpus in by.index else "" for corpus in corpora
            ]
            rows.append([arm, *cells])
        return markdown(Table("", ["representation", *corpora], rows))

    def scored(self, purpose: str, arm: str, setting: str | None = None) -> str:
        """Return what an arm scores for a purpose in a setting; the first one if none is given."""
        scores = self._recipe(purpose).scores
        setting = setting or scores.index[0][0]
        check_name((setting, arm), list(scores.index), self.where)
        return f"{scores.loc[(setting, arm), 'mean']:.3f}"

    def score(
        self, metric: str, setting: str, loss: str, bn: str, masking: str, rate: float, epoch: str
    ) -> str:
        """Return the mean of an arm's metric over seeds, at a learning rate and a kept epoch."""
        arm = {"setting": setting, "loss": loss, "bn": bn, "masking": masking}
        arm.update(learning_rate=rate, snapshot=epoch)
        runs = self.answers.runs
        found = runs.loc[(runs[list(arm)] == pd.Series(arm)).all(axis=1), metric]
        if found.empty:
            raise UserError(f"{self.where}: there are no runs of {arm}")
        return f"{found.mean():.3f}"

    def losses(self) -> list[str]:
        """Return the names of the losses."""
        return list(dict.fromkeys(self.answers.runs["loss"]))

    def seeds(self) -> str:
        """Return how many seeds the blocks have: the fewest and the most."""
        counts = self.answers.runs.groupby(["setting", "loss"])["seed"].nunique()
        return " to ".join(str(n) for n in sorted({counts.min(), counts.max()}))

    def settings(self) -> str:
        """Return the names of the settings that verdicts pool."""
        runs = self.answers.runs
        return "; ".join(dict.fromkeys(runs.loc[runs["pooled"], "setting"]))

    @staticmethod
    def _score(row):
        interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if row["n"] > 1 else ""
        return f"{row['mean']:.3f}{interval}, n = {row['n']:.0f}"

    def _recipe(self, purpose):
        recipes = {recipe.purpose: recipe for recipe in self.answers.recipes}
        check_name(purpose, recipes, self.where)
        return recipes[purpose]


def make_section(name: str, experiment: Experiment) -> Section:
    """Return the section of an experiment.

    Raises
    ------
    UserError
        If the fragment has a mistake, or expects something that the numbers do not say.
    """
    numbers = Numbers(name, experiment)
    if (HERE / "report" / f"{name}.md.j2").exists():
        text = render(f"report/{name}.md.j2", **numbers.names())
    else:
        text = numbers.everything()
    numbers.check([*(claim["answer"] for claim in numbers.claims), *split_sentences(text)])
    title = name.replace("_", " ").capitalize()
    question = experiment.config.question or title
    tuned = bool(experiment.config.learning_rates)
    return Section(name, title, question, text.strip("\n"), numbers.claims, tuned)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text in Markdown."""
    return re.split(r"(?:(?<=[.!?])\s+|\n\s*\n)(?:- )?|\n- ", text)


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
                110,
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


def make_answers(results: Path) -> tuple[str, str, str]:
    """Return what the core blocks say: the first screen, the rest, and the interactive figures.

    Without results of the core blocks, the first screen says so.
    """
    try:
        answers = Answers(results)
    except UserError as error:
        return f"*No answers yet: {error}.*", "", ""
    answers.write_figures(HEADLINE)
    numbers = AnswerNumbers(answers)
    text = render("report/answers.md.j2", **numbers.names())
    numbers.check(split_sentences(text))
    first, rest = rewrap(text).split(MORE)
    pooled = answers.each[answers.each["setting"].isin(answers.pooled)]
    return first.strip(), rest.strip(), interactive(answers.runs, pooled)


def write_readme(first: str) -> None:
    """Put the first screen between the marks of README.md."""
    path = HERE.parent / "README.md"
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    linked = re.sub(r"\]\((?!http|#)", "](results/", first).replace("](#", "](results/REPORT.md#")
    with atomic_write(path) as file:
        file.write(f"{before}{BEGIN}\n{linked}\n{END}{after}")


def to_html(text: str, directory: Path, figures: str) -> str:
    """Return Markdown as one HTML page, with a directory's images and the interactive figures."""

    def embed(match):
        image = base64.b64encode((directory / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{image}"'

    body = Markdown(extensions=["tables", "md_in_html", "toc"], output_format="html").convert(text)
    body = re.sub(r'src="([\w./-]+\.png)"', embed, body)
    title = text.split("\n", 1)[0].lstrip("# ")
    body = body.replace(PLACE, figures)
    return render("report.html.j2", title=title, body=body)


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_arguments(arguments)
    if not options.results.is_dir():
        raise UserError(f"--results {options.results}: no such directory")
    experiments = rebuild(options.results)
    sections = [make_section(*named) for named in experiments.items()]
    known = sorted(path.stem for path in HERE.parent.glob("configs/*.yaml"))
    first, rest, figures = make_answers(options.results)
    not_run = [name for name in known if name not in experiments]
    text = render(FRAME, first=first, rest=rest, sections=sections, not_run=not_run)
    page = to_html(text, options.results, figures)
    if rest and options.results.resolve() == HERE.parent / "results":
        write_readme(first)
    for name, content in (("REPORT.md", text), ("report.html", page)):
        with atomic_write(options.results / name) as file:
            file.write(content)
        print(options.results / name)
    return 0


if __name__ == "__main__":
    run_program(main, "the same command makes everything again")
