"""From an experiment's factors to its arms, and to the contrasts between them.

An arm is a combination of levels, one of each factor.  A contrast adds up some arms and subtracts
others, seed by seed: `contrasts` generates effects and interactions from factors, so that no config
has to spell them out arm by arm.
"""

from __future__ import annotations

import itertools
from typing import Iterator, NamedTuple

from ae_bn.config import (
    ComparisonConfig,
    Config,
    ExperimentConfig,
    ReferenceConfig,
    check_name,
)
from ae_bn.errors import UserError
from ae_bn.evaluation.references import REFERENCES

RUN = ("learning_rate", "seed")  # what include and skip can name beside factors
RATE = "training.learning_rate"


class Contrast(NamedTuple):
    """A signed sum of arms."""

    title: str  # of the entry of experiment.compare
    plus: list[str]  # the names of the arms to add
    minus: list[str]  # and of those to subtract


class Arm(NamedTuple):
    """One combination of an experiment's factors."""

    name: str  # its levels' names in the order of the factors, such as "hidden / masking .3"
    levels: dict[str, str]  # by factor
    config: Config


def expand_arms(config: Config) -> list[Arm]:
    """Return the arms of an experiment: the combinations of its factors' levels.

    Arms that ``experiment.include`` and ``experiment.skip`` leave without a run are left out, see
    `is_planned`.

    Parameters
    ----------
    config : Config
        The experiment.

    Returns
    -------
    list of Arm

    Raises
    ------
    UserError
        For a level with an invalid setting, two arms of one name, or a name in ``include``,
        ``skip`` or ``compare`` that no factor has; arms that are left out may be named.
    """
    experiment = config.experiment
    factors = experiment.factors
    _check_entries(experiment)
    arms = []
    for levels, settings in _combinations(factors):
        name = _arm_name(levels) or experiment.name
        if not is_planned(experiment, levels):
            continue
        for key in settings:
            if key == "training.seed" or key.split(".")[0] == "experiment":
                raise UserError(f"arm {name}: {key} is the same for all arms; take it out")
        try:
            arms.append(Arm(name, levels, config.replace(settings)))
        except UserError as error:
            raise UserError(f"arm {name}: {error}") from None
    check_distinct([arm.name for arm in arms])
    contrasts(experiment)  # which checks experiment.compare
    return arms


def check_effective(config: Config, keys: list[str]) -> None:
    """Raise a UserError for a setting that no arm uses, because factors or the rates override it.

    Parameters
    ----------
    config : Config
        The experiment.
    keys : list of str
        The names of settings, such as ``model.batch_norm.hidden``.
    """
    for key in keys:
        if key == RATE and config.experiment.rate_grid and _all_use_grid(config):
            raise UserError(f"{key} has no effect: experiment.rate_grid has the rates; set that")
        for factor, levels in config.experiment.factors.items():
            if all(key in settings for settings in levels.values()):
                raise UserError(
                    f"{key} has no effect: every level of the factor {factor} sets it; set "
                    f"experiment.factors.{factor}"
                )


def _all_use_grid(config: Config) -> bool:
    return all(None not in learning_rates(config, arm) for arm in expand_arms(config))


def is_planned(experiment: ExperimentConfig, levels: dict[str, str], **run: float) -> bool:
    """Return whether ``experiment.include`` and ``experiment.skip`` ask for a run, or for an arm.

    With ``include`` these are the runs that match one of its entries; those that match an entry of
    ``skip`` are left out.  An entry names a value or a list of values for some factors, for
    ``learning_rate`` and for ``seed``.

    Parameters
    ----------
    experiment : ExperimentConfig
        The experiment.
    levels : dict of str to str
        The arm's level of each factor.
    **run : float
        ``learning_rate`` and ``seed`` of the run.  Without them, the answer is whether the arm
        may have a run.
    """
    names = {**levels, **run}

    def matches(entry: dict, unknown: bool) -> bool:
        return all(
            names[key] in _as_list(wanted) if key in names else unknown
            for key, wanted in entry.items()
        )

    if any(matches(entry, False) for entry in experiment.skip):
        return False
    return not experiment.include or any(matches(entry, True) for entry in experiment.include)


def expand_corpora(config: Config) -> list[Arm]:
    """Return the combinations of the levels that change the documents or their words.

    These are what references are fitted on.  A level that sets only ``data.input`` does not count,
    and neither do ``experiment.include`` and ``experiment.skip``, which are about arms.

    Parameters
    ----------
    config : Config
        The experiment.

    Returns
    -------
    list of Arm
        Their names are empty, and there is one without levels, if no factor changes the documents.
    """
    factors = {
        factor: levels
        for factor, levels in config.experiment.factors.items()
        if any(
            setting.startswith("data.") and setting != "data.input"
            for settings in levels.values()
            for setting in settings
        )
    }
    return [
        Arm(_arm_name(levels), levels, config.replace(settings))
        for levels, settings in _combinations(factors)
    ]


def _combinations(factors: dict) -> Iterator[tuple[dict, dict]]:
    """Yield every combination of levels, by factor, and its settings."""
    for names in itertools.product(*factors.values()):
        levels, settings = dict(zip(factors, names)), {}
        for factor, level in levels.items():
            settings.update(factors[factor][level])
        yield levels, settings


def reference_arm(reference: ReferenceConfig, corpus: Arm) -> Arm:
    """Return a reference as an arm: its name, and its data as counts.

    Parameters
    ----------
    reference : ReferenceConfig
        The settings of the reference.
    corpus : Arm
        The data, one of those that `expand_corpora` returns.
    """
    settings: dict = {"data.input": "as_is"}
    if reference.vocabulary_size is not None:
        settings["data.vocabulary_size"] = reference.vocabulary_size
    name = " / ".join([reference.name or REFERENCES[reference.kind], *corpus.levels.values()])
    return Arm(name, corpus.levels, corpus.config.replace(settings))


def learning_rates(config: Config, arm: Arm) -> list:
    """Return the learning rates that an arm is run at; None is the one of its config.

    Parameters
    ----------
    config : Config
        The experiment.
    arm : Arm
        One of its arms; a level that sets a learning rate is its only one.
    """
    factors = config.experiment.factors
    fixed = any(RATE in factors[factor][level] for factor, level in arm.levels.items())
    return [None] if fixed else list(config.experiment.rate_grid) or [None]


def check_distinct(arms: list[str]) -> None:
    """Raise a UserError if two arms have the same name: tables and contrasts would mix them."""
    for number, name in enumerate(arms):
        if name in arms[:number]:
            raise UserError(f"two arms are called {name!r}: rename a level of experiment.factors")


def contrasts(experiment: ExperimentConfig) -> dict[str, Contrast]:
    """Return the contrasts that ``experiment.compare`` generates, by name.

    With factors bn (none, hidden) and depth (1, 2),

    - ``hidden BN: {bn: [none, hidden], within: depth}`` generates two effects, "hidden BN, depth 1"
      and "hidden BN, depth 2": at each depth the arm with hidden BN less the arm without;
    - ``interaction: {bn: [none, hidden], depth: [1, 2]}`` generates the interaction of the two
      factors: the effect of hidden BN at depth 2 less its effect at depth 1;
    - ``hidden BN: {bn: [none, hidden], depth: 1}`` generates one effect, at depth 1 alone.

    ``within`` is a factor, a list of factors, or {factor: [level, ...]} for some of their levels.

    Raises
    ------
    UserError
        If an entry of ``experiment.compare`` names a factor or a level that does not exist, or
        leaves a factor out.
    """
    found: dict[str, Contrast] = {}
    for title, comparison in experiment.compare.items():
        found.update(_generate(title, comparison, experiment))
    return found


def _generate(title: str, comparison: ComparisonConfig, experiment) -> dict[str, Contrast]:
    """Return the contrasts of one entry of ``experiment.compare``."""
    where, factors = f"experiment.compare.{title}", experiment.factors
    chosen = {f: _as_list(levels) for f, levels in (comparison.model_extra or {}).items()}
    within = comparison.within
    if not isinstance(within, dict):
        within = {factor: list(factors.get(factor, ())) for factor in _as_list(within)}
    for factor, names in [*chosen.items(), *within.items()]:
        _check_levels(factor, names, experiment, where)
    for factor, names in chosen.items():
        if not 1 <= len(set(names)) == len(names) <= 2 or factor in within:
            raise UserError(
                f"{where}.{factor}: name two levels to compare, or one to keep, or name the factor "
                "in within"
            )
    for factor in factors:
        if factor not in chosen and factor not in within:
            raise UserError(f"{where}: name {factor}, too, or add it to within")
    if not any(len(names) == 2 for names in chosen.values()):
        raise UserError(f"{where}: name two levels of a factor to compare")
    generated = {}
    for place in itertools.product(*within.values()):
        plus: list[str] = []
        minus: list[str] = []
        for levels in itertools.product(*chosen.values()):
            arm = {**dict(zip(within, place)), **dict(zip(chosen, levels))}
            first = sum(pair[-1] != level for pair, level in zip(chosen.values(), levels))
            side = minus if first % 2 else plus  # each first level of a pair turns the sign
            side.append(_arm_name({factor: arm[factor] for factor in factors}))
        at = [f"{factor.replace('_', ' ')} {level}" for factor, level in zip(within, place)]
        generated[", ".join([title, *at])] = Contrast(title, plus, minus)
    return generated


def _check_entries(experiment: ExperimentConfig) -> None:
    """Raise a UserError if ``include`` or ``skip`` names what the experiment has not."""
    levels = [settings for factor in experiment.factors.values() for settings in factor.values()]
    rates = [*experiment.rate_grid, *(settings.get(RATE) for settings in levels)]
    for key in ("include", "skip"):
        for entry in getattr(experiment, key):
            for factor, wanted in entry.items():
                where, values = f"experiment.{key}", _as_list(wanted)
                check_name(factor, [*experiment.factors, *RUN], where)
                for value in values:
                    if isinstance(value, str) == (factor in RUN):
                        kind = "a number" if factor in RUN else "text, so quote it"
                        raise UserError(f"{where}.{factor}: {value!r:.40} must be {kind}")
                    if factor == "learning_rate" and value not in rates:
                        raise UserError(
                            f"{where}.{factor}: {value:g} is not in rate_grid, and no level sets it"
                        )
                if factor not in RUN:
                    _check_levels(factor, values, experiment, where)


def _check_levels(factor: str, levels: list[str], experiment: ExperimentConfig, where: str) -> None:
    """Raise a UserError if there is no such factor, or if it has not all of these levels."""
    check_name(factor, experiment.factors, where)
    for level in levels:
        check_name(level, experiment.factors[factor], f"{where}.{factor}")


def _arm_name(levels: dict[str, str]) -> str:
    return " / ".join(levels.values())


def _as_list(values) -> list:
    return list(values) if isinstance(values, (list, tuple)) else [values]
