"""Measure by simulation how often the report's intervals cover the truth, and err in direction.

    python experiments/simulate_verdicts.py

An effect on a metric has a mean in every setting.  A simulated setting deviates from the true mean
as much as the published ones do.  Its deviation is drawn from those of all published effects, so it
has their shape.  Its own mean then varies with the seeds as much as the published one does.  The
code that judges the real settings judges the simulated ones.  It writes OUT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from ae_bn.commands.command_line import OneLineParser, check_positive, run_program
from ae_bn.files import atomic_write
from ae_bn.reporting.effects import all_effects, as_used
from ae_bn.reporting.estimates import MARGINS, Estimate, mean_interval, verdict
from ae_bn.reporting.settings import BLOCKS, read_blocks
from ae_bn.reporting.tables import markdown
from ae_bn.study.record import Record
from ae_bn.study.results import recorded_tables

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
FEWEST = 3  # settings with which an interval is printed


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--draws", type=int, default=1000, help="number of simulated experiments")
    parser.add_argument(
        "--out", type=Path, default=Path("results/verdicts.md"), help="the file to write"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def groups(effects: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return metric, and mean, deviation over seeds, n and corpus of each setting of an effect.

    There is a table for each effect on each metric, over all settings and for each loss.
    """
    found = []
    for loss in [None, *dict.fromkeys(effects["loss"])]:
        rows = effects if loss is None else effects[effects["loss"] == loss]
        for (_, metric), of in rows.groupby(["effect", "metric"], sort=False):
            per_seed = of.groupby(["corpus", "setting", "seed"], sort=False)["value"].mean()
            settings = per_seed.groupby(["corpus", "setting"], sort=False).agg(
                ["mean", "std", "count"]
            )
            if len(settings) >= FEWEST:
                found.append((metric, settings.fillna(0).reset_index()))
    return found


def shapes(found: list) -> np.ndarray:
    """Return the deviations of all published effects' settings, with variance 1."""
    most = max(len(settings) for _, settings in found)
    pool = [of["mean"] - of["mean"].mean() for _, of in found if len(of) == most]
    pool = np.concatenate([of / of.std(ddof=0) for of in pool])
    return pool / pool.std()


def simulate(settings: pd.DataFrame, truth: float, pool, corpora: bool, draws: int, generator):
    """Return the means of simulated settings, (settings, draws).

    Parameters
    ----------
    settings : DataFrame
        See `groups`.
    truth : float
        The true mean of the effect over settings.
    pool : float array
        See `shapes`.
    corpora : bool
        Whether each corpus also deviates, by as much as the two published ones do.
    draws : int
        The number of simulated experiments.
    generator : numpy Generator
        The source of randomness.
    """
    shape = (len(settings), draws)
    noise = (settings["std"] / np.sqrt(settings["count"])).to_numpy()[:, None]
    spread = settings["mean"].std(ddof=1)
    means = truth + spread * generator.choice(pool, shape) + noise * generator.normal(size=shape)
    if corpora:
        of_corpora = settings.groupby("corpus")["mean"].mean()
        apart = of_corpora.std(ddof=1) if len(of_corpora) > 1 else 0.0
        means += (apart * generator.normal(size=(len(of_corpora), draws)))[
            settings["corpus"].factorize()[0]
        ]
    return means


def rates_of(found: list, pool, truth_of, corpora: bool, draws: int) -> list[float]:
    """Return how often, over effects and experiments, each of these is the case.

    Parameters
    ----------
    found : list
        See `groups`.
    pool : float array
        See `shapes`.
    truth_of : callable
        From metric and settings to the true mean.
    corpora : bool
        See `simulate`.
    draws : int
        The number of simulated experiments.

    Returns
    -------
    list of float
        The interval covers the truth; a verdict has a direction; it has a wrong one; it has a
        direction in which all settings agree, and it is wrong.
    """
    generator, rates = np.random.default_rng(0), []
    for metric, settings in found:
        truth = truth_of(metric, settings)
        means = simulate(settings, truth, pool, corpora, draws, generator)
        mean, low, high = mean_interval(means)
        estimates = [Estimate(*numbers, (), ()) for numbers in zip(mean, low, high)]
        said = np.array([verdict(of, MARGINS[metric]) for of in estimates])
        directed = np.isin(said, ["higher", "lower"])
        wrong = directed & ((said == "higher") != (truth > 0)) | directed & (truth == 0)
        agree = (means > 0).all(axis=0) | (means < 0).all(axis=0)
        covers = (low <= truth) & (truth <= high)
        rates.append([covers.mean(), directed.mean(), wrong.mean(), (wrong & agree).mean()])
    return list(np.mean(rates, axis=0))


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_arguments(arguments)
    check_positive(options, "draws")
    record = Record(options.results / "record")
    runs = read_blocks(recorded_tables(CONFIGS, BLOCKS, record), record)
    effects = as_used(all_effects(runs[runs["pooled"]]))
    found = groups(effects)
    truths = {
        "no effect": lambda metric, settings: 0.0,
        "the margin": lambda metric, settings: MARGINS[metric],
        "the published effects": lambda metric, settings: settings["mean"].mean(),
    }
    cases = [(name, truth, False) for name, truth in truths.items()]
    cases.append(("no effect; corpora differ, too", truths["no effect"], True))
    numbers, pool = sorted({len(settings) for _, settings in found}), shapes(found)
    rows = [
        [name, str(n), *(f"{rate:.3f}" for rate in rates_of(of, pool, truth, apart, options.draws))]
        for name, truth, apart in cases
        for n in numbers
        for of in [[(metric, settings) for metric, settings in found if len(settings) == n]]
    ]
    header = [
        "true mean over settings",
        "settings",
        "intervals that cover it",
        "verdicts with a direction",
        "verdicts with a wrong direction",
        "wrong, and all settings agree",
    ]
    text = (
        f"# How often intervals miss and verdicts err\n\n{options.draws} simulated experiments for "
        f"each truth and each of {len(found)} estimates: an effect on a metric over "
        f"{' or '.join(map(str, numbers))} settings. Settings deviate as "
        "the published ones do, and vary with the seeds. Nominal coverage is .95; with no effect a "
        "direction is wrong, nominally in .05. The last row lets the corpora deviate as well, by "
        "as much as 20 Newsgroups and Reuters do: most settings share one corpus, so the intervals "
        f"say less about another corpus.\n\n{markdown(header, rows)}\n"
    )
    with atomic_write(options.out) as file:
        file.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    run_program(main, "nothing was written; the same command starts again")
