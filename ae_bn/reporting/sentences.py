"""The numbers in the sentences of the report, and the check that both agree.

A sentence is written by hand in a fragment, ``experiments/report/NAME.md.j2``, and calls functions
for its numbers: the methods of `ExperimentNumbers` for an experiment, and of `AnswerNumbers` for
the answers.  `Sentences.check` finds the first sentence that says more than its numbers do:

- a sentence can state the result that it expects, ``expect="higher"``;
- a sentence with a word of direction (higher, improves, harms, ...) must not have a number whose
  interval includes 0, unless it states that it expects that: ``expect="undecided"``.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ae_bn.config import ExperimentConfig, FigureConfig, check_name
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.reporting.answers import Answers
from ae_bn.reporting.effects import EFFECTS, PLACEMENT_NAMES, compared, find
from ae_bn.reporting.estimates import (
    CONFIDENCE,
    MARGINS,
    Estimate,
    Summary,
    agreement,
    estimate,
    number,
    show,
    summarize,
    text,
    title,
    verdict,
)
from ae_bn.reporting.real_vocabulary import real_vocabulary
from ae_bn.reporting.settings import BLOCKS, HIDDEN
from ae_bn.reporting.tables import arms_table, differences_table, markdown, notes, table_rows

EXPECTED = ("higher", "lower", "equivalent", "undecided")  # what a sentence can say of an effect
NORMAL = stats.norm.ppf((1 + CONFIDENCE) / 2)
MARK = "\0"  # around the number of a statement
DIRECTION = re.compile(
    r"\b(higher|lower|rais|improv|wors|better|harm|help|reduc|fall|gain|cost|los[et]|"
    r"increas|decreas|halv|hurt|beat|smaller|larger|(more|less) accurate|faster|slower)",
    re.IGNORECASE,
)  # fmt: skip


class Statement(NamedTuple):
    """What a sentence says of an effect."""

    problem: str  # why the numbers do not say this; empty if they do
    undirected: str  # why no direction may be asserted; empty if it may


class Sentences:
    """Effects in sentences, and a check that both agree.

    Every number is marked in the text, so `check` finds the sentence that it stands in.

    Parameters
    ----------
    where : str
        The fragment, for messages.
    effects : DataFrame
        The effects that the fragment can name: ``effect``, ``metric``, ``setting``, ``seed`` and
        ``value``, and columns whose levels it can ask for.
    """

    def __init__(self, where: str, effects: pd.DataFrame):
        self.where = where
        self.effects = effects
        self.stated: list[Statement] = []

    def state(self, shown: str, problem: str = "", undirected: str = "") -> str:
        """Return a text with a mark that leads to what it states."""
        self.stated.append(Statement(problem, undirected))
        return f"{shown}{MARK}{len(self.stated) - 1}{MARK}"

    def check(self, rendered: str) -> str:
        """Return a text without its marks.

        Raises
        ------
        UserError
            If the numbers do not say what a sentence says; it names the first one.
        """
        for sentence in split_sentences(rendered):
            plain = " ".join(re.sub(f"{MARK}\\d+{MARK}", "", sentence).split())
            in_table = plain.startswith("|")
            for match in re.finditer(f"{MARK}(\\d+){MARK}", sentence):
                problem, undirected = self.stated[int(match[1])]
                if undirected and not in_table and DIRECTION.search(plain):
                    problem = f"{undirected}; name no direction, or expect 'undecided'"
                if problem:
                    raise UserError(f"{self.where}: the numbers do not say {plain!r} [{problem}]")
        return re.sub(f"{MARK}\\d+{MARK}", "", rendered)

    def names(self) -> dict:
        """Return what a fragment can use, by name: everything public."""
        return {name: getattr(self, name) for name in dir(self) if not name.startswith("_")}

    def effect(
        self,
        name: str,
        metric: str,
        expect: str | None = None,
        among: pd.DataFrame | None = None,
        **where: str,
    ) -> str:
        """Return an effect with its interval, as a mean over all that ``where`` does not fix.

        ``where`` keeps the rows with a level of a column, such as ``corpus="Reuters R52"``;
        ``among`` are other effects than the fragment's own.
        """
        found = estimate(self._rows(name, metric, where, among))
        return self._say(found, name, metric, expect, where)

    def _rows(self, name, metric, where, among=None) -> pd.DataFrame:
        """Return the rows of an effect, after a check that everything named exists."""
        effects = self.effects if among is None else among
        check_name(name, set(effects["effect"]), self.where)
        check_name(metric, set(effects["metric"]), self.where)
        for column, level in where.items():
            check_name(column, effects.columns, self.where)
            check_name(level, set(effects[column].dropna()), self.where)
        rows = find(effects, name, metric, where)
        if rows.empty:
            raise UserError(f"{self.where}: there are no runs for {metric}, {name!r} at {where}")
        return rows

    def _say(self, found: Estimate, name, metric, expect, where, shown: str = "") -> str:
        """Return an estimate as text, or another text about it, with what the sentence expects."""
        full, says = text(found, metric), verdict(found, MARGINS.get(metric))
        about = ", ".join([title(metric), name, *map(str, where.values())])
        problem = undirected = ""
        if expect is not None:
            check_name(expect, EXPECTED, f"{self.where}, expect")
            if says != expect and (expect, says) != ("undecided", "equivalent"):
                problem = f"{about}: expected {expect}, but it is {full}"
        elif says in ("equivalent", "undecided"):
            undirected = f"the interval of {about} includes 0: {full}"
        return self.state(shown or full, problem, undirected)


@dataclass
class Experiment:
    """An experiment that has been run."""

    config: ExperimentConfig
    table: pd.DataFrame  # a row per run and snapshot, at all learning rates
    directory: Path

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The runs that tables show, see `ae_bn.reporting.tables.table_rows`."""
        return table_rows(self.table, self.config)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """The effects of ``experiment.compare``: differences between the cells of the table."""
        return compared(self.rows, self.config)

    @cached_property
    def effects_at_equal_rates(self) -> pd.DataFrame:
        """The same at every kept epoch and every learning rate."""
        return compared(self.table, self.config, at_equal_rates=True)


class ExperimentNumbers(Sentences):
    """What a fragment can use: the numbers, tables and figures of its experiment.

    Parameters
    ----------
    name : str
        The name of the experiment.
    experiment : Experiment
        Its config and results.
    """

    def __init__(self, name: str, experiment: Experiment):
        super().__init__(f"experiments/report/{name}.md.j2", experiment.effects)
        self.name = name
        self.config, self.directory = experiment.config, experiment.directory
        self.rows = experiment.rows
        self._experiment = experiment

    def at_equal_rates(self, name: str, metric: str, expect: str | None = None, **where) -> str:
        """Return an `effect`, but as a mean over learning rates and kept epochs.

        ``learning_rate`` and ``snapshot`` keep one of these.
        """
        among = self._experiment.effects_at_equal_rates
        return self.effect(name, metric, expect, among, **where)

    def score(self, arm: str, metric: str, above: str = "", below: str = "") -> str:
        """Return an arm's mean and its interval; it should lie above or below another arm's."""
        found, problem = self._summary(arm, metric), ""
        if above and not found.median > self._summary(above, metric).median:
            problem = f"{title(metric)} of {arm!r} is not above that of {above!r}"
        if below and not found.median < self._summary(below, metric).median:
            problem = f"{title(metric)} of {arm!r} is not below that of {below!r}"
        return self.state(show(found, metric), problem)

    def _summary(self, arm, metric):
        check_name(arm, set(self.rows["arm"]), self.where)
        check_name(metric, METRICS, self.where)
        runs = self.rows[(self.rows["arm"] == arm) & (self.rows["status"] != "failed")]
        return summarize(runs[metric])

    def table(self) -> str:
        """Return the differences, all arms, and what the columns mean, folded."""
        parts = ['<details markdown="1"><summary>All differences and arms</summary>']
        differences = differences_table(self.effects, self.config)
        if differences:
            parts += ["**Differences**", differences]
        parts += ["**Arms**", arms_table(self.rows, self.config)]
        return "\n\n".join([*parts, notes(self.rows, self.config), "</details>"])

    def figure(self, name: str, caption: str) -> str:
        """Return an image with its caption."""
        known = [figure.file_name for figure in self.config.report.figures]
        check_name(f"{name}.png", known, self.where)
        return _image(f"results/{self.name}/{name}.png", caption)

    def everything(self) -> str:
        """Return all figures that could be drawn, and the tables."""
        drawn = [
            self.figure(Path(figure.file_name).stem, _caption(figure))
            for figure in self.config.report.figures
            if (self.directory / figure.file_name).exists()
        ]
        return "\n\n".join([*drawn, self.table()])


def _image(path: str, caption: str) -> str:
    """Return an image with its caption in Markdown; the path is from the repository's root."""
    return f"![{caption}]({path})\n\n*{caption}*"


def _caption(figure: FigureConfig) -> str:
    """Return a caption for a figure whose fragment has none: what it shows."""
    shown = [METRICS[metric].title for metric in figure.metrics or []]
    caption = ", ".join([*shown, *(figure.curves or {}).values()]) or "the metrics of the table"
    return f"{caption[0].upper()}{caption[1:]}."


class AnswerNumbers(Sentences):
    """What the fragments of the answers can use: numbers and tables of all settings.

    Its own effects are read as one would use the codes.

    Parameters
    ----------
    answers : Answers
        The answers from the results.

    Attributes
    ----------
    at_chosen_rates, in_all_analyses : callable
        `effect`, but as a mean over the analyses at chosen learning rates, and over all.
    losses, settings, hidden_settings, placements, experiments : list of str
        The losses, the settings that estimates pool, those in which hidden units are dropped, the
        placements of BN as effects name them, and the experiments with results.
    predictions : list of Prediction
        The predictions for fresh seeds and what these gave; none before they ran.
    """

    def __init__(self, answers: Answers):
        super().__init__("experiments/report/answers.md.j2", answers.used)
        self.answers = answers
        self.at_chosen_rates = partial(self.effect, among=answers.chosen)
        self.in_all_analyses = partial(self.effect, among=answers.effects)
        self.predictions = answers.predictions
        runs = answers.runs
        self.losses = list(runs["loss"].unique())
        self.settings = list(runs.loc[runs["pooled"], "setting"].unique())
        self.hidden_settings = list(runs.loc[runs["about"] == HIDDEN, "setting"].unique())
        self.placements = list(PLACEMENT_NAMES.values())
        self.experiments = [name for name in BLOCKS if name in answers.tables]

    def agree(self, name: str, metric: str, expect: str, counted: bool = True, **where: str) -> str:
        """Return the range of an effect, "in n of n settings": all are higher, or all lower.

        Without ``counted`` the number of settings is left out, where the next number says it.
        """
        check_name(expect, ("higher", "lower"), f"{self.where}, expect")
        found = estimate(self._rows(name, metric, where))
        ends = [number(end, metric) for end in sorted(found.each, key=abs)]
        shown = " to ".join([ends[0].rstrip(" %"), ends[-1]])
        n = len(found.each)
        agreeing = found.above if expect == "higher" else found.below
        about = ", ".join([title(metric), name, *map(str, where.values())])
        problem = f"{about}: expected all {expect}, but it is {shown}, {agreement(found)}"
        of_all = f" in {n} of {n} settings" if counted else ""
        return self.state(shown + of_all, "" if agreeing == n else problem)

    def over_all_seeds(self, name: str, metric: str, expect: str) -> str:
        """Return the range of an effect over corpora and losses, each over all of its seeds.

        With each corpus and loss the interval over seeds must lie on the expected side of 0.
        """
        check_name(expect, ("higher", "lower"), f"{self.where}, expect")
        found = [
            estimate(one.all_seeds)
            for one in self.predictions
            if (one.effect, one.metric) == (name, metric)
        ]
        ends = [number(mean, metric) for mean in sorted((one.mean for one in found), key=abs)]
        side = {"higher": "above", "lower": "below"}[expect]
        n_agreeing = sum(verdict(one) == expect for one in found)
        shown = f"{ends[0]} to {ends[-1]}, {n_agreeing} of {len(found)} intervals {side} 0"
        problem = f"{title(metric)}, {name}: expected all {expect}, but it is {shown}"
        return self.state(shown, "" if n_agreeing == len(found) else problem)

    def levels(
        self,
        name: str,
        metric: str,
        expect: str | None = None,
        form: str = "from {minus} to {plus}",
        **where: str,
    ) -> str:
        """Return the two levels whose difference an effect is, in one setting."""
        rows = self._rows(name, metric, where)
        sides = rows.groupby("seed")[["minus", "plus"]].mean().mean()
        if metric == "log_loss":
            shown = {side: f"{np.exp(value / 100):.1f}" for side, value in sides.items()}
        else:
            shown = {side: f"{value:.3f}" for side, value in sides.items()}
        return self._say(estimate(rows), name, metric, expect, where, form.format(**shown))

    def test_documents(self, name: str) -> str:
        """Return an effect on accuracy as it is if other test documents count in full, too.

        The standard error over documents is the largest that ``experiments/document_errors.py``
        found in a setting.
        """
        path = self.answers.results / "document_errors.csv"
        if not path.exists():
            raise UserError(f"there is no {path}: run python experiments/document_errors.py")
        errors = pd.read_csv(path).groupby("effect")["standard_error"].max()
        check_name(name, list(errors.index), self.where)
        found = estimate(self._rows(name, "probe_accuracy", {}))
        half = np.hypot((found.high - found.low) / 2, NORMAL * errors[name])
        low, high = found.mean - half, found.mean + half
        shown = f"{found.mean:+.3f} [{low:+.3f}, {high:+.3f}] (standard error {errors[name]:.3f})"
        undirected = f"{name} with the test documents' error includes 0" if low <= 0 <= high else ""
        return self.state(shown, undirected=undirected)

    def answers_table(self, rows: list) -> str:
        """Return a table from the (difference, metric, effect, levels to keep) of each row."""
        shown = []
        for difference, metric, name, where in rows:
            found = estimate(self._rows(name, metric, where))
            of = agreement(found).replace(" settings", "")
            shown.append([difference, title(metric), text(found, metric, counted=False), of])
        return markdown(["difference", "metric", "effect", "settings"], shown)

    def all_effects(self, **where: str) -> str:
        """Return the table of all effects and metrics: as used, and means over analyses."""
        rows = []
        for name, metric in itertools.product(EFFECTS, MARGINS):
            used = _cell(self.effects, name, metric, where, counted=True)
            if used:
                others = (self.answers.chosen, self.answers.effects)
                means = [_cell(effects, name, metric, where) for effects in others]
                rows.append([name, title(metric), used, *means])
        header = ["effect", "metric", "as used", "at chosen learning rates", "in all analyses"]
        return markdown(header, rows)

    def settings_table(self, keys: list) -> str:
        """Return the table of some (effect, metric) in every setting."""
        rows = []
        for setting, of in self.effects.groupby("setting", sort=False):
            cells = [
                _cell(of, name, metric, {"setting": setting}, counted=True) for name, metric in keys
            ]
            if any(cells):
                rows.append([setting, *cells])
        header = ["setting", *(f"{name}: {title(metric)}" for name, metric in keys)]
        return markdown(header, rows)

    def predictions_table(self, corpus: str) -> str:
        """Return the table of all predictions for fresh seeds on a corpus."""
        rows = []
        for one in self.predictions:
            if one.corpus != corpus:
                continue
            dropout = one.dropout.replace("none", "no masking")
            low, high, mean = (number(v, one.metric) for v in (one.low, one.high, one.fresh.mean()))
            rows.append(
                [
                    f"{one.effect}, {dropout}" if dropout else one.effect,
                    one.loss,
                    title(one.metric),
                    f"{low} to {high}",
                    mean,
                    "yes" if one.holds else "**no**",
                    text(estimate(one.all_seeds), one.metric),
                ]
            )
        header = ["effect", "loss", "metric", "predicted", "fresh seeds", "holds", "all seeds"]
        return markdown(header, rows)

    def image(self, name: str, caption: str) -> str:
        """Return an image of the answers with its caption."""
        path = self.answers.results / "answers" / f"{name}.png"
        if not path.exists():
            raise UserError(f"{self.where}: there is no figure {path}")
        return _image(f"results/answers/{name}.png", caption)

    def recipe(self, purpose: str) -> str:
        """Return the recipe for a purpose in words."""
        found = self.answers.recipes[purpose]
        bn = {"none": "no BN", "hidden + output": "BN in the hidden and the output layer"}
        return (
            f"{found.loss}, {bn.get(found.bn, f'BN in the {found.bn} layer')}, "
            f"{found.dropout.replace('none', 'no masking')}, learning rate "
            f"{found.learning_rate:g}, the epoch with the best validation {found.epoch}"
        )

    def recipe_scores(self, purpose: str) -> str:
        """Return the scores of a recipe beside those of the references, on each corpus."""
        found = self.answers.recipes[purpose]
        return _by_corpus(found.scores, found.metric)

    def real_vocabulary(self, metric: str) -> str:
        """Return the scores of autoencoders and tuned references with 10,000 words."""
        return _by_corpus(real_vocabulary(self.answers.tables, metric), metric)

    def with_real_vocabulary(
        self, metric: str, representation: str, corpus: str = "20 Newsgroups"
    ) -> str:
        """Return one of these scores."""
        scores = real_vocabulary(self.answers.tables, metric)
        check_name((representation, corpus), scores, self.where)
        return f"{scores[representation, corpus].mean:.3f}"

    def score(
        self, metric: str, setting: str, bn: str, dropout: str, rate: float, epoch: str
    ) -> str:
        """Return the mean of an arm's metric over seeds, at a learning rate and a kept epoch."""
        arm = {"setting": setting, "bn": bn, "dropout": dropout, "learning_rate": rate,
               "snapshot": epoch}  # fmt: skip
        runs = self.answers.runs
        found = runs[(runs[list(arm)] == pd.Series(arm)).all(axis=1)].drop_duplicates("run")
        if found.empty:
            raise UserError(f"{self.where}: there are no runs of {arm}")
        return f"{found[metric].mean():.3f}"

    def has(self, name: str) -> bool:
        """Return whether the arms of an effect were trained in any setting."""
        return bool((self.effects["effect"] == name).any())

    def seeds(self) -> str:
        """Return how many seeds the settings have: the fewest and the most."""
        counts = self.answers.runs.groupby(["about", "setting"])["seed"].nunique()
        return " to ".join(str(n) for n in sorted({counts.min(), counts.max()}))


def _cell(effects, name, metric, where, counted=False) -> str:
    """Return an effect as text, or nothing where its arms were not trained."""
    rows = find(effects, name, metric, where)
    return text(estimate(rows), metric, counted) if len(rows) else ""


def _by_corpus(scores: dict[tuple[str, str], Summary], metric: str) -> str:
    """Return a table: a row per representation, a column per corpus."""
    names = list(dict.fromkeys(name for name, _ in scores))
    corpora = list(dict.fromkeys(corpus for _, corpus in scores))
    cells = {key: f"{show(found, metric)}, n = {found.n}" for key, found in scores.items()}
    rows = [[name, *(cells.get((name, corpus), "") for corpus in corpora)] for name in names]
    return markdown(["representation", *corpora], rows)


def split_sentences(rendered: str) -> list[str]:
    """Return the sentences and the rows of tables of a text in Markdown."""
    parts = []
    for place, part in enumerate(re.split(r"^(\|.*)$", rendered, flags=re.MULTILINE)):
        is_row = place % 2
        found = [part] if is_row else re.split(r"(?:(?<=[.!?])\s+|\n\s*\n)(?:- )?|\n- ", part)
        parts += [sentence for sentence in found if sentence.strip()]
    return parts
