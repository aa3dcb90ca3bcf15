"""The numbers in the sentences of the report, and the check that both agree.

A sentence is written by hand in a fragment, ``experiments/report/NAME.md.j2``, and calls functions
for its numbers: the methods of `ExperimentNumbers` for an experiment, and of `AnswerNumbers` for
the answers.  `Sentences.check` finds the first sentence that says more than its numbers do:

- a sentence can state the result that it expects, ``expect="higher"``;
- a sentence with a word of direction (higher, improves, harms, ...) must not have a number whose
  interval includes 0, unless it states that it expects that: ``expect="undecided"``.
"""

from __future__ import annotations

import operator
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ae_bn.config import ExperimentConfig, FigureConfig, check_name
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.reporting.answers import Answers, find
from ae_bn.reporting.effects import EFFECTS, compared
from ae_bn.reporting.estimates import (
    CONFIDENCE,
    MARGINS,
    Estimate,
    agreement,
    estimate,
    number,
    summarize,
    text,
    title,
    verdict,
)
from ae_bn.reporting.predictions import Prediction
from ae_bn.reporting.real_vocabulary import real_vocabulary
from ae_bn.reporting.settings import BLOCKS, HIDDEN
from ae_bn.reporting.tables import (
    Table,
    arms_table,
    differences_table,
    markdown,
    notes,
    show,
    table_rows,
)

EXPECTED = ("higher", "lower", "equivalent", "undecided")  # what a sentence can say of an effect
NORMAL = stats.norm.ppf((1 + CONFIDENCE) / 2)
MARK = "\0"  # around the number of a statement
DIRECTION = re.compile(
    r"\b(higher|lower|rais|improv|wors|better|harm|help|reduc|fall|gain|cost|los[et]|"
    r"increas|decreas|halv)", re.IGNORECASE,
)  # fmt: skip


class Experiment(NamedTuple):
    """An experiment that has been run."""

    config: ExperimentConfig
    table: pd.DataFrame  # a row per run and snapshot, at all learning rates
    directory: Path


class Statement(NamedTuple):
    """What a sentence says of an effect."""

    problem: str  # why the numbers do not say this; empty if they do
    undirected: str  # why no direction may be asserted; empty if it may


class Sentences:
    """A check that the numbers agree with the sentences.

    Every number is marked in the text, so `check` finds the sentence that it stands in.

    Parameters
    ----------
    where : str
        The fragment, for messages.
    """

    def __init__(self, where: str):
        self.where = where
        self.stated: list[Statement] = []

    def state(self, shown: str, problem: str = "", undirected: str = "") -> str:
        """Return a text with a mark that leads to what it states."""
        self.stated.append(Statement(problem, undirected))
        return f"{shown}{MARK}{len(self.stated) - 1}{MARK}"

    def say(
        self, found: Estimate, metric: str, about: str, expect: str | None, shown: str = ""
    ) -> str:
        """Return an estimate as text, or another text about it, with what the sentence expects."""
        full, says = text(found, metric), verdict(found, MARGINS.get(metric))
        if expect is not None:
            check_name(expect, EXPECTED, f"{self.where}, expect")
            met = says == expect or (expect, says) == ("undecided", "equivalent")
            problem = "" if met else f"{about}: expected {expect}, but it is {full}"
            return self.state(shown or full, problem)
        includes = says in ("equivalent", "undecided")
        return self.state(
            shown or full, "", f"the interval of {about} includes 0: {full}" if includes else ""
        )

    def check(self, rendered: str) -> str:
        """Return a text without its marks.

        Raises
        ------
        UserError
            If the numbers do not say what a sentence says; it names the first one.
        """
        for sentence in split_sentences(rendered):
            plain = re.sub(f"{MARK}\\d+{MARK}", "", sentence)
            in_table = plain.lstrip().startswith("|")
            for match in re.finditer(f"{MARK}(\\d+){MARK}", sentence):
                problem, undirected = self.stated[int(match[1])]
                if undirected and not in_table and DIRECTION.search(plain):
                    problem = f"{undirected}; name no direction, or expect 'undecided'"
                if problem:
                    raise UserError(
                        f"{self.where}: the numbers do not say {' '.join(plain.split())!r} "
                        f"[{problem}]"
                    )
        return re.sub(f"{MARK}\\d+{MARK}", "", rendered)

    def names(self) -> dict:
        """Return the functions that a fragment can call, by name."""
        return {name: getattr(self, name) for name in self.functions}

    functions: tuple = ()


class ExperimentNumbers(Sentences):
    """What a fragment can use: the numbers, tables and figures of its experiment.

    Parameters
    ----------
    name : str
        The name of the experiment.
    experiment : Experiment
        Its config and results.
    """

    functions = ("effect", "score", "table", "figure")

    def __init__(self, name: str, experiment: Experiment):
        super().__init__(f"experiments/report/{name}.md.j2")
        self.name = name
        self.config, self.table_of_runs, self.directory = experiment
        self.rows = table_rows(self.table_of_runs, self.config)
        self.effects = compared(self.table_of_runs, self.config)

    def effect(self, name: str, metric: str, expect: str | None = None, **where: str) -> str:
        """Return an effect of ``experiment.compare`` with its interval over seeds.

        It is a mean over the places of the comparison and the kept epochs; ``where`` keeps the
        places with a level of a factor, such as ``rate="0.008"``, or one epoch, such as
        ``snapshot="last"``.
        """
        check_name(name, set(self.effects["effect"]), self.where)
        check_name(metric, METRICS, self.where)
        for factor, level in where.items():
            levels = {"snapshot": set(self.effects["snapshot"]), **self.config.factors}
            check_name(factor, levels, self.where)
            check_name(level, levels[factor], self.where)
        rows = find(self.effects, name, metric, where)
        if rows.empty:
            raise UserError(f"{self.where}: no runs for {metric}, {name!r} at {where}")
        at = ", ".join([name, *where.values()])
        return self.say(estimate(rows), metric, f"{METRICS[metric].title}, {at}", expect)

    def score(self, arm: str, metric: str, above: str = "", below: str = "") -> str:
        """Return an arm's mean and its interval; it should lie above or below another arm's."""
        shown, problem = show(self._summary(arm, metric), metric), ""
        for other, lies, word in ((above, operator.gt, "above"), (below, operator.lt, "below")):
            if other and not lies(*(self._summary(a, metric).median for a in (arm, other))):
                problem = f"{METRICS[metric].title} of {arm!r} is not {word} that of {other!r}"
        return self.state(shown, problem)

    def _summary(self, arm, metric):
        check_name(arm, set(self.rows["arm"]), self.where)
        check_name(metric, METRICS, self.where)
        runs = self.rows[(self.rows["arm"] == arm) & (self.rows["status"] != "failed")]
        return summarize(runs[metric])

    def table(self) -> str:
        """Return the differences, all arms, and what the columns mean, folded."""
        parts = ['<details markdown="1"><summary>All differences and arms</summary>']
        differences = differences_table(self.effects, self.config)
        if differences.rows:
            parts += ["**Differences**", markdown(differences)]
        parts += ["**Arms**", markdown(arms_table(self.rows, self.config))]
        return "\n\n".join([*parts, notes(self.rows, self.config), "</details>"])

    def figure(self, name: str, caption: str) -> str:
        """Return an image with its caption."""
        known = [figure.file_name for figure in self.config.report.figures]
        check_name(f"{name}.png", known, self.where)
        return image(f"results/{self.name}/{name}.png", caption)

    def everything(self) -> str:
        """Return all figures that could be drawn, and the tables."""
        drawn = [
            self.figure(Path(figure.file_name).stem, default_caption(figure))
            for figure in self.config.report.figures
            if (self.directory / figure.file_name).exists()
        ]
        return "\n\n".join([*drawn, self.table()])


def image(path: str, caption: str) -> str:
    """Return an image with its caption in Markdown; the path is from the repository's root."""
    return f"![{caption}]({path})\n\n*{caption}*"


def default_caption(figure: FigureConfig) -> str:
    """Return a caption for a figure whose fragment has none."""
    metrics = ", ".join(METRICS[metric].title for metric in figure.metrics or [])
    curves = ", ".join((figure.curves or {}).values())
    what = {
        "metrics": metrics or "The metrics of the table",
        "response": f"The metrics over {figure.x_label or figure.x}",
        "paths": f"{curves} over the validation loss, epoch by epoch",
    }
    shown = what.get(figure.kind, f"{curves} over {figure.x_label or 'the epoch'}")
    levels = "; ".join(f"{factor}: {', '.join(of)}" for factor, of in figure.only.items())
    return f"{shown[0].upper()}{shown[1:]}{f' ({levels})' if levels else ''}."


class AnswerNumbers(Sentences):
    """What the fragment of the answers can use: numbers and tables of all settings.

    Parameters
    ----------
    answers : Answers
        The answers from the results.
    """

    functions = (
        "effect", "agree", "levels", "test_documents", "answers_table", "all_effects",
        "settings_table", "image", "experiments", "has", "predicted", "predictions_table",
        "hidden_settings", "losses", "recipe", "recipe_scores", "score", "scored", "seeds",
        "settings", "real_vocabulary", "with_real_vocabulary",
    )  # fmt: skip

    def __init__(self, answers: Answers):
        super().__init__("experiments/report/answers.md.j2")
        self.answers = answers

    def effect(
        self, name: str, metric: str, expect: str | None = None, over: str = "used", **where: str
    ) -> str:
        """Return an effect with its interval.

        ``over`` names the analyses: those of `Answers` ``used``, ``chosen`` or ``every``.
        ``where`` keeps a ``setting``, ``corpus``, ``loss`` or ``dropout``.
        """
        found = self._estimate(name, metric, where, over)
        at = ", ".join([name, *where.values()])
        return self.say(found, metric, f"{title(metric)}, {at}", expect)

    def agree(self, name: str, metric: str, expect: str, **where: str) -> str:
        """Return the range of an effect over settings; all should be higher, or all lower."""
        check_name(expect, ("higher", "lower"), f"{self.where}, expect")
        found = self._estimate(name, metric, where)
        ends = [number(end, metric) for end in sorted(found.each, key=abs)]
        shown = f"{' to '.join([ends[0].rstrip(' %'), ends[-1]])}, {agreement(found)}"
        met = len(found.each) == (found.above if expect == "higher" else found.below)
        about = ", ".join([name, *where.values()])
        problem = f"{title(metric)}, {about}: expected all {expect}, but it is {shown}"
        return self.state(shown, "" if met else problem)

    def levels(
        self,
        name: str,
        metric: str,
        expect: str | None = None,
        form: str = "from {minus} to {plus}",
        **where: str,
    ) -> str:
        """Return the two levels whose difference an effect is, in one setting."""
        found = self._estimate(name, metric, where)
        rows = find(self.answers.used, name, metric, where)
        sides = rows.groupby("seed")[["plus", "minus"]].mean().mean()
        if metric == "log_loss":
            shown = {side: f"{np.exp(value / 100):.1f}" for side, value in sides.items()}
        else:
            shown = {side: f"{value:.3f}" for side, value in sides.items()}
        at = ", ".join([name, *where.values()])
        return self.say(found, metric, f"{title(metric)}, {at}", expect, form.format(**shown))

    def test_documents(self, name: str, setting: str, documents: int) -> str:
        """Return what the sample of test documents adds to the interval of an effect on accuracy.

        The standard error of an accuracy is binomial.  That of a difference is at most the root of
        2 larger: the errors of two arms on the same documents are correlated.
        """
        found = self._estimate(name, "probe_accuracy", {})
        rows = find(self.answers.used, name, "probe_accuracy", {"setting": setting})
        share = rows["plus"].mean()
        error = np.sqrt(share * (1 - share) / documents)
        half = (found.high - found.low) / 2
        wider = np.hypot(half, NORMAL * np.sqrt(2) * error)
        return f"{error:.3f}, and the interval of {half:.3f} on either side would be {wider:.3f}"

    def answers_table(self, rows: list) -> str:
        """Return a table from the (difference, metric, effect, levels to keep) of each row."""
        shown = []
        for difference, metric, name, where in rows:
            found = self._estimate(name, metric, where)
            of = f"{agreement(found)}".replace(" settings", "")
            shown.append([difference, title(metric), text(found, metric, counted=False), of])
        return markdown(Table("", ["difference", "metric", "effect", "settings"], shown))

    def all_effects(self, **where: str) -> str:
        """Return the table of all effects and metrics: as used, and means over analyses."""
        shown = []
        for name in EFFECTS:
            for metric in MARGINS:
                cells = [
                    estimate(rows)
                    for rows in (find(of, name, metric, where)
                                 for of in (self.answers.used, self.answers.chosen,
                                            self.answers.every))
                    if len(rows)
                ]  # fmt: skip
                if cells:
                    means = [text(cell, metric, counted=cell is cells[0]) for cell in cells]
                    shown.append([name, title(metric), *means])
        header = ["effect", "metric", "as used", "at chosen learning rates", "in all analyses"]
        return markdown(Table("", header, shown))

    def settings_table(self, keys: list) -> str:
        """Return the table of some (effect, metric) in every setting."""
        used, rows = self.answers.used, []
        for setting in dict.fromkeys(used["setting"]):
            found = [find(used, name, m, {"setting": setting}) for name, m in keys]
            cells = [
                text(estimate(of), key[1], counted=False) if len(of) else ""
                for of, key in zip(found, keys)
            ]
            if any(cells):
                seeds = max(of["seed"].nunique() for of in found)
                rows.append([setting, str(seeds), *cells])
        header = ["setting", "seeds", *(f"{name}: {title(metric)}" for name, metric in keys)]
        return markdown(Table("", header, rows))

    def predicted(self) -> list[Prediction]:
        """Return the predictions for fresh seeds and what these gave; none before they ran."""
        return self.answers.predictions

    def predictions_table(self) -> str:
        """Return the table of all predictions for fresh seeds."""
        shown = []
        for one in self.predicted():
            low, high, mean = (number(v, one.metric) for v in (one.low, one.high, one.fresh.mean()))
            effect = one.effect + (
                f", {one.dropout.replace('none', 'no masking')}" * bool(one.dropout)
            )
            seeds = f"{one.seeds}, {len(one.fresh)}"
            holds = "yes" if one.holds else "**no**"
            row = [effect, one.loss, title(one.metric), f"{low} to {high}", mean, seeds, holds]
            shown.append(row)
        header = ["effect", "loss", "metric", "predicted", "fresh seeds", "n", "holds"]
        return markdown(Table("", header, shown))

    def image(self, name: str, caption: str) -> str:
        """Return an image of the answers with its caption."""
        path = self.answers.results / "answers" / f"{name}.png"
        if not path.exists():
            raise UserError(f"{self.where}: there is no figure {path}")
        return image(f"results/answers/{name}.png", caption)

    def recipe(self, purpose: str) -> str:
        """Return the recipe for a purpose in words."""
        found = self._recipe(purpose)
        bn = {"none": "no BN", "hidden + output": "BN in the hidden and the output layer"}
        words = (
            f"{found.loss}, {bn.get(found.bn, f'BN in the {found.bn} layer')}, "
            f"{found.dropout.replace('none', 'no masking')}, learning rate "
            f"{found.learning_rate:g}, the epoch with the best validation {found.epoch}"
        )
        return words[0].upper() + words[1:]

    def recipe_scores(self, purpose: str) -> str:
        """Return the scores of a recipe beside those of the references, on each corpus."""
        return _by_corpus(self._recipe(purpose).scores.swaplevel())

    def real_vocabulary(self, metric: str) -> str:
        """Return the scores of autoencoders and tuned references with 10,000 words."""
        return _by_corpus(real_vocabulary(self.answers.tables, metric))

    def with_real_vocabulary(
        self, metric: str, representation: str, corpus: str = "20 Newsgroups"
    ) -> str:
        """Return one of these scores."""
        scores = real_vocabulary(self.answers.tables, metric)
        check_name((representation, corpus), list(scores.index), self.where)
        return f"{scores.loc[(representation, corpus), 'mean']:.3f}"

    def scored(self, purpose: str, arm: str, corpus: str = "20 Newsgroups") -> str:
        """Return what an arm scores for a purpose on a corpus."""
        scores = self._recipe(purpose).scores
        check_name((corpus, arm), list(scores.index), self.where)
        return f"{scores.loc[(corpus, arm), 'mean']:.3f}"

    def score(
        self, metric: str, setting: str, bn: str, dropout: str, rate: float, epoch: str
    ) -> str:
        """Return the mean of an arm's metric over seeds, at a learning rate and a kept epoch."""
        arm: dict[str, object] = {"setting": setting, "bn": bn, "dropout": dropout}
        arm.update(learning_rate=rate, snapshot=epoch)
        runs = self.answers.runs
        found = runs[(runs[list(arm)] == pd.Series(arm)).all(axis=1)].drop_duplicates("run")
        if found.empty:
            raise UserError(f"{self.where}: there are no runs of {arm}")
        return f"{found[metric].mean():.3f}"

    def hidden_settings(self) -> list[str]:
        """Return the settings in which hidden units are dropped."""
        runs = self.answers.runs
        return list(dict.fromkeys(runs.loc[runs["about"] == HIDDEN, "setting"]))

    def experiments(self) -> list[str]:
        """Return the names of the experiments that have results."""
        return [name for name in BLOCKS if name in self.answers.tables]

    def has(self, name: str) -> bool:
        """Return whether the arms of an effect were trained in any setting."""
        return bool((self.answers.chosen["effect"] == name).any())

    def losses(self) -> list[str]:
        """Return the names of the losses."""
        return list(dict.fromkeys(self.answers.runs["loss"]))

    def seeds(self) -> str:
        """Return how many seeds the settings have: the fewest and the most."""
        counts = self.answers.runs.groupby(["about", "setting"])["seed"].nunique()
        return " to ".join(str(n) for n in sorted({counts.min(), counts.max()}))

    def settings(self) -> str:
        """Return the names of the settings that estimates pool."""
        runs = self.answers.runs
        return "; ".join(dict.fromkeys(runs.loc[runs["pooled"], "setting"]))

    def _estimate(self, name, metric, where, over="used"):
        check_name(over, ("used", "chosen", "every"), self.where)
        rows = find(getattr(self.answers, over), name, metric, where)
        self._known(rows, name, metric, where)
        return estimate(rows)

    def _known(self, rows, name, metric, where):
        check_name(name, EFFECTS, self.where)
        check_name(metric, MARGINS, self.where)
        if rows.empty:
            raise UserError(f"{self.where}: there are no runs for {name!r} at {where}")

    def _recipe(self, purpose):
        check_name(purpose, self.answers.recipes, self.where)
        return self.answers.recipes[purpose]


def _by_corpus(scores: pd.DataFrame) -> str:
    """Return a table: a row per representation, a column per corpus."""
    rows: dict[str, dict] = {}
    for (name, corpus), of in scores.iterrows():
        interval = f" [{of['low']:.3f}, {of['high']:.3f}]" if of["n"] > 1 else ""
        rows.setdefault(name, {})[corpus] = f"{of['mean']:.3f}{interval}, n = {of['n']:.0f}"
    corpora = list(dict.fromkeys(scores.index.get_level_values("corpus")))
    shown = [[name, *(cells.get(corpus, "") for corpus in corpora)] for name, cells in rows.items()]
    return markdown(Table("", ["representation", *corpora], shown))


def split_sentences(rendered: str) -> list[str]:
    """Return the sentences and the rows of tables of a text in Markdown."""
    parts = []
    for place, part in enumerate(re.split(r"^(\|.*)$", rendered, flags=re.MULTILINE)):
        is_row = place % 2
        found = [part] if is_row else re.split(r"(?:(?<=[.!?])\s+|\n\s*\n)(?:- )?|\n- ", part)
        parts += [sentence for sentence in found if sentence.strip()]
    return parts
