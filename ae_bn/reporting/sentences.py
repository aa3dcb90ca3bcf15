"""The numbers in the sentences of the report, and the check that both agree.

A sentence is written by hand in a fragment, ``experiments/report/NAME.md.j2``, and calls functions
for its numbers: the methods of `Numbers` for an experiment, and of `AnswerNumbers` for the answers.
It can state the result that it expects, and `Sentences.check` finds those that are not met.
"""

from __future__ import annotations

import operator
import re
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ae_bn.config import ExperimentConfig, FigureConfig, check_name
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.reporting.answers import Answers, agreement, estimate, mostly, spoken
from ae_bn.reporting.selection import select
from ae_bn.reporting.statistics import Summary, compare, paired_differences, summarize
from ae_bn.reporting.tables import (
    Table,
    arms_table,
    difference_tables,
    markdown,
    notes,
    show,
    with_all_metrics,
)
from ae_bn.study.arms import contrasts
from ae_bn.training import SNAPSHOTS

EXPECTED = ("higher", "lower", "equivalent", "undecided")  # what a sentence can say of a difference
MOSTLY = {"mostly higher": "higher", "mostly lower": "lower"}
MARK = "\0"  # around the number of a sentence whose expectation is not met


class Experiment(NamedTuple):
    """An experiment that has been run."""

    config: ExperimentConfig
    results: pd.DataFrame  # the rows that tables show
    directory: Path
    table: pd.DataFrame  # results.csv: the rows of all snapshots and learning rates


class Places(NamedTuple):
    """One comparison at all places of its ``within`` and at all epochs."""

    summary: Summary  # of the mean over places and epochs, seed by seed
    analyses: int  # places times epochs
    higher: int  # of them, with a mean difference above 0
    lower: int  # and below 0


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
        self.measured = with_all_metrics(self.results)
        self.claims: list[dict] = []
        self._comparisons = lru_cache(maxsize=None)(self._compare)
        self._places = lru_cache(maxsize=None)(self._over_places)

    def names(self) -> dict:
        """Return the functions that a fragment can call, by name."""
        functions = (
            self.effect, self.verdict, self.score, self.claim, self.table, self.figure
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
        self,
        answer: str,
        contrast: str,
        metric: str,
        expect: str | None,
        question: str = "",
        at: str = "",
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
        compared = self.config.compare
        return bool(compared) and not any(map(self._is_single, compared))

    def _comparisons_table(self):
        metrics = self.config.report.metrics
        rows = [[title, *(self.effect(title, m) for m in metrics)] for title in self.config.compare]
        return markdown(Table("", ["difference", *(METRICS[m].title for m in metrics)], rows))

    def _is_single(self, contrast):
        return contrast not in self.config.compare or contrast in contrasts(self.config)

    @cached_property
    def _by_epoch(self):
        """The results at each kept epoch."""
        rate = self.config.report.rate
        return [with_all_metrics(select(self.all_epochs, kept, rate)) for kept in SNAPSHOTS]

    def _over_places(self, title, metric, at=""):
        check_name(metric, METRICS, self.where)
        named = {
            name: contrast
            for name, contrast in contrasts(self.config).items()
            if name.startswith(f"{title}, ") and at in name
        }
        differences = [
            paired_differences(rows, contrast, metric)
            for rows in self._by_epoch
            for contrast in named.values()
        ]
        each = [values for values in differences if len(values)]
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
        return summary.median if summary.infinite else summary.mean

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
        arm: dict[str, object] = {"setting": setting, "loss": loss, "bn": bn, "masking": masking}
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


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text in Markdown."""
    return re.split(r"(?:(?<=[.!?])\s+|\n\s*\n)(?:- )?|\n- ", text)
