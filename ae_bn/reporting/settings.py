"""The settings in which the answers' effects are taken, and their runs.

A *setting* is a corpus and a model with one loss, such as "20 Newsgroups, squared error".  An
experiment has one setting for each of its losses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ae_bn.errors import UserError
from ae_bn.study.record import Record

RATES = [0.0005, 0.001, 0.002, 0.004, 0.008]  # equal for all arms of an analysis
FEWER_RATES = RATES[:3]  # those at which the codes of the first setting are best
NESTEROV_RATES = [0.001, 0.004, 0.016]  # Nesterov's momentum needs higher ones than Adam
NONE, MASKING, HIDDEN = "none", "masking .5", "hidden .5"  # levels of dropout
PLACEMENTS = ["none", "hidden", "output", "hidden + output"]  # of BN
HIDDEN_ONLY = PLACEMENTS[:2]


class Block(NamedTuple):
    """An experiment in which the arms of effects are trained."""

    name: str  # the corpus, and what else differs from the first setting
    about: str = MASKING  # the dropout whose effects are taken here
    rates: list[float] = FEWER_RATES  # equal for all arms of an analysis
    placements: list[str] = PLACEMENTS  # of BN, which its effects need
    pooled: bool = True  # whether it counts in estimates over settings


BLOCKS = {
    "core": Block("20 Newsgroups", rates=RATES),
    "core_other_copy": Block("20 Newsgroups, other copy", rates=RATES),
    "core_reuters": Block("Reuters R52"),
    "core_multinomial": Block("20 Newsgroups, log counts"),
    "core_sigmoid": Block("20 Newsgroups, sigmoid units"),
    "core_nesterov": Block("20 Newsgroups, Nesterov's momentum", rates=NESTEROV_RATES),
    "core_wide": Block("20 Newsgroups, 512 units", rates=[0.001], placements=HIDDEN_ONLY),
    "core_depth": Block("20 Newsgroups, three hidden layers", placements=HIDDEN_ONLY),
    "core_deeper": Block(
        "20 Newsgroups, five hidden layers",
        rates=[0.0005],
        placements=HIDDEN_ONLY,
        pooled=False,
    ),
    "core_layer_norm": Block("20 Newsgroups, Layer Normalization for BN", pooled=False),
    "core_hidden_dropout": Block("20 Newsgroups", HIDDEN, placements=HIDDEN_ONLY),
    "core_hidden_dropout_other_copy": Block(
        "20 Newsgroups, other copy", HIDDEN, placements=HIDDEN_ONLY
    ),
    "core_hidden_dropout_reuters": Block("Reuters R52", HIDDEN, placements=HIDDEN_ONLY),
}


def read_blocks(tables: dict[str, pd.DataFrame], record: Record) -> pd.DataFrame:
    """Return the runs of all settings that have results.

    Seeds that lack a run at one of the block's rates, and candidates (learning rates and dropouts)
    that lack a seed, are left out; what is left out is printed.

    Parameters
    ----------
    tables : dict of str to DataFrame
        The runs of every experiment, see `ae_bn.study.results.recorded_table`.
    record : Record
        The record that holds each run's path.

    Returns
    -------
    DataFrame
        A row per run and snapshot: ``about``, ``name`` (of the block), ``setting``, ``corpus``,
        ``loss``, ``pooled``, ``bn``, ``dropout``, ``learning_rate``, ``is_equal`` (whether it is
        one of the block's), ``seed``, ``snapshot``, ``run``, the criteria and the metrics; ``path``
        is a run's history.

    Raises
    ------
    UserError
        If no block has results.
    """
    found = []
    for name, block in BLOCKS.items():
        if name not in tables or tables[name].empty:
            continue
        rows = tables[name]
        rows = rows[rows["learning_rate"].notna() & (rows["status"] != "failed")]
        rows = rows.rename(columns={"masking": "dropout"}).assign(
            about=block.about,
            name=block.name,
            corpus=block.name.split(",")[0],
            setting=block.name + ", " + rows["loss"],
            pooled=block.pooled,
            is_equal=rows["learning_rate"].isin(block.rates),
        )
        for _, of_loss in rows.groupby("loss", sort=False):
            found.append(complete(of_loss, block))
    found = [rows for rows in found if len(rows)]
    if not found:
        raise UserError(
            f"no seed of {' or '.join(BLOCKS)} is complete; run make core, which resumes"
        )
    runs = pd.concat(found, ignore_index=True)
    runs["log_loss"] = 100 * np.log(runs["test_loss"])
    runs["path"] = [record.lines[run]["history"] for run in runs["run"]]
    return runs


def complete(rows: pd.DataFrame, block: Block) -> pd.DataFrame:
    """Return the complete part of a setting: what its effects need, at the same seeds.

    Parameters
    ----------
    rows : DataFrame
        A row per run and snapshot.
    block : Block
        The experiment, whose learning rates and placements of BN are needed.
    """
    needed = {
        (bn, dropout, rate)
        for bn in block.placements
        for dropout in (NONE, block.about)
        for rate in block.rates
    }
    name, arm = rows["setting"].iloc[0], ["bn", "dropout", "learning_rate"]
    is_whole = rows.groupby("seed")[arm].apply(
        lambda runs: needed <= set(runs.itertuples(index=False, name=None))
    )
    seeds = list(is_whole.index[is_whole])
    rows = rows[rows["seed"].isin(seeds)]
    kept = rows[rows.groupby(arm)["seed"].transform("nunique") == len(seeds)]
    if len(seeds) < len(is_whole) or len(kept) < len(rows):
        print(
            f"{name} ({block.about}): {len(seeds)} of {len(is_whole)} seeds are complete; "
            f"{rows['run'].nunique() - kept['run'].nunique()} of their runs are left out, because "
            "another of these seeds lacks them"
        )
    return kept


def read_references(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the references of all settings: ``name`` (of the block), ``arm``, ``seed``, metrics.

    Parameters
    ----------
    tables : dict of str to DataFrame
        The runs of every experiment.
    """
    parts = [
        rows[rows["learning_rate"].isna()].assign(name=BLOCKS[experiment].name)
        for experiment, rows in tables.items()
        if experiment in BLOCKS and len(rows)
    ]
    return pd.concat(parts, ignore_index=True)
