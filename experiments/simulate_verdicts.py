"""Measure by simulation how often intervals cover the truth and verdicts name a wrong direction.

    python experiments/simulate_verdicts.py

New seeds are drawn from the published ones: each is a random Gaussian combination of the deviations
of the real seeds from their mean, so all analyses of all effects and metrics keep the variances and
correlations that they have.  Three truths are simulated: no effect in any analysis, an effect as
large as the margin in every analysis, and the effects as published.  The same code judges them that
judges the real runs.  It writes OUT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ae_bn.commands.command_line import OneLineParser, check_positive, run_program
from ae_bn.files import atomic_write
from ae_bn.reporting.estimands import (
    CHOICES,
    MARGINS,
    all_effects,
    analyses,
    judge,
    read_blocks,
)
from ae_bn.reporting.tables import Table, markdown
from ae_bn.study.record import Record

ANALYSIS = ["effect", "metric", *CHOICES]


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder")
    parser.add_argument("--draws", type=int, default=200, help="number of simulated experiments")
    parser.add_argument(
        "--out", type=Path, default=Path("results/verdicts.md"), help="the file to write"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def draw(effects: pd.DataFrame, truth: pd.Series, generator: np.random.Generator) -> pd.DataFrame:
    """Return one simulated experiment with the variances and correlations of the real one.

    Parameters
    ----------
    effects : DataFrame
        See `ae_bn.reporting.estimands.all_effects`.
    truth : Series, by `ANALYSIS`
        The effect of every analysis.
    generator : numpy Generator
        The source of the Gaussian weights.
    """
    parts = []
    for _, block in effects.groupby(["setting", "loss"], sort=False):
        table = block.pivot(index="seed", columns=ANALYSIS, values="value")
        n, deviations = len(table), (table - table.mean()).to_numpy()
        weights = generator.normal(size=(n, n)) / np.sqrt(n - 1)
        values = weights @ deviations + truth[table.columns].to_numpy()
        drawn = pd.DataFrame(values, index=table.index, columns=table.columns)
        parts.append(drawn.melt(ignore_index=False).reset_index())
    return pd.concat(parts, ignore_index=True)


def rates_of(effects: pd.DataFrame, truth: pd.Series, draws: int) -> list[float]:
    """Return how often, over simulated experiments, each of these is the case.

    Parameters
    ----------
    effects : DataFrame
        See `ae_bn.reporting.estimands.all_effects`.
    truth : Series, by `ANALYSIS`
        The effect of every analysis.
    draws : int
        The number of experiments.

    Returns
    -------
    list of float
        An analysis's interval covers its truth; a summary's interval covers the mean truth; a
        verdict has a direction; it has a wrong one; it says equivalent.
    """
    generator, found = np.random.default_rng(0), []
    blocks = truth.groupby(["effect", "metric", "setting", "loss"]).mean()
    means = blocks.groupby(["effect", "metric", "loss"]).mean()
    for _ in tqdm(range(draws), leave=False):
        simulated = draw(effects, truth, generator)
        each = analyses(simulated).set_index(ANALYSIS)
        target = truth[each.index]
        verdicts = judge(simulated, ["loss"])
        true = [means[v.effect, v.metric, v.group] for v in verdicts]
        named = [v.verdict in ("higher", "lower") for v in verdicts]
        right = [v.verdict == ("higher" if m > 0 else "lower") for v, m in zip(verdicts, true)]
        wrong = [name and not (ok and m) for name, ok, m in zip(named, right, true)]
        found.append(
            [
                ((each["low"] <= target) & (target <= each["high"])).mean(),
                np.mean([v.low <= m <= v.high for v, m in zip(verdicts, true)]),
                np.mean(named),
                np.mean(wrong),
                np.mean([v.verdict == "equivalent" for v in verdicts]),
            ]
        )
    return list(np.mean(found, axis=0))


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_arguments(arguments)
    check_positive(options, "draws")
    runs = read_blocks(options.results, Record(options.results / "record"))
    effects = all_effects(runs[runs["pooled"]])
    published = analyses(effects).set_index(ANALYSIS)["mean"]
    margins = published.index.get_level_values("metric").map(MARGINS)
    truths = {
        "no effect": 0 * published,
        "the margin everywhere": pd.Series(margins, published.index),
        "the published effects": published,
    }
    rows = [
        [name, *(f"{rate:.3f}" for rate in rates_of(effects, truth, options.draws))]
        for name, truth in truths.items()
    ]
    header = [
        "truth",
        "analyses whose interval covers it",
        "summaries whose interval covers it",
        "verdicts with a direction",
        "verdicts with a wrong direction",
        "verdicts of equivalence",
    ]
    text = (
        f"# How often verdicts are wrong\n\n{options.draws} simulated experiments for each truth, "
        "with the variances and correlations of the published seeds. Nominal coverage is .95. "
        f"Verdicts are those for each loss.\n\n{markdown(Table('', header, rows))}\n"
    )
    with atomic_write(options.out) as file:
        file.write(text)
    print(text)
    return 0


if __name__ == "__main__":
    run_program(main, "nothing was written; the same command starts again")
