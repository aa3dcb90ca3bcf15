"""From runs to a table: the results of each run, the lines of the record, one row per snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Iterator

import pandas as pd

from ae_bn.config import Config, load_config
from ae_bn.errors import UserError
from ae_bn.files import read_json
from ae_bn.study.plan import COLUMNS, Run, plan_runs
from ae_bn.study.record import Record


def results_of(run: Run, record: Record | None = None) -> dict | None:
    """Return what a run found, from the record or from its directory; None without either.

    Raises
    ------
    UserError
        If its directory is damaged, and the record does not have it.
    """
    recorded = None if record is None else record.results(run.identity)
    return recorded or run.read_metrics()


def outcome(run: Run, record: Record | None = None) -> dict:
    """Return a run's results, or its status and the reason if it failed.

    Raises
    ------
    UserError
        If the run is neither finished nor failed, or its results are damaged.
    """
    failure = run.directory / "failure.json"
    recorded = record is not None and record.results(run.identity) is not None
    if failure.exists() and not run.finished and not recorded:
        return {"status": "failed", "reason": read_json(failure)["reason"]}
    results = results_of(run, record)
    if results is not None:
        return results
    raise UserError(f"{run.directory}: not finished; run again")


def record_lines(runs: list[Run], record: Record) -> Iterator[dict]:
    """Yield the line of the record of every finished run that is not recorded yet.

    Parameters
    ----------
    runs : list of Run
        The runs of an experiment; unfinished and damaged ones are skipped.
    record : Record
        The record that the lines are for.
    """
    for run in runs:
        if run.identity in record.lines:
            continue
        try:
            results = run.read_metrics()
        except UserError:  # damaged, so not finished
            continue
        if results is not None:
            yield {"run": run.identity, **run.describe(), **results}


def results_table(runs: list[Run], record: Record | None = None) -> pd.DataFrame:
    """Return one row per run and snapshot: arm, factors, seed, status and metrics.

    Parameters
    ----------
    runs : list of Run
        The finished and failed runs.
    record : Record, optional
        The record, for runs whose directory was deleted.

    Raises
    ------
    UserError
        If a run is neither finished nor failed, or its results are damaged.
    """
    rows = []
    for run in runs:
        results = outcome(run, record)
        snapshots = results.get("snapshots", {"": {}})
        row = {key: value for key, value in results.items() if not isinstance(value, (dict, list))}
        row.update(arm=run.arm, seed=run.seed, source=run.source, **run.levels)
        row.update(data=run.data_fingerprint[:10], run=run.identity)
        row["learning_rate"] = None if run.reference else run.config.training.learning_rate
        rows += [{**row, "snapshot": name or None, **snapshots[name]} for name in snapshots]
    factors = list(dict.fromkeys(factor for run in runs for factor in run.levels))
    known = set().union(*rows)
    columns = ["arm", *factors, *(column for column in COLUMNS[1:] if column in known)]
    return pd.DataFrame(rows, columns=columns)


def recorded_table(config: Config, record: Record) -> pd.DataFrame:
    """Return the table of the runs of an experiment that the record has; no documents are read.

    Parameters
    ----------
    config : Config
        The experiment.
    record : Record
        The record.

    Returns
    -------
    DataFrame
        See `results_table`; without rows if nothing is recorded.
    """
    first = config.training.seed
    seeds = range(first, first + config.experiment.seeds)
    runs = plan_runs(config, seeds, record.directory.parent, record, reading=False)
    return results_table([run for run in runs if record.results(run.identity)], record)


def recorded_tables(configs: Path, names: Iterable[str], record: Record) -> dict[str, pd.DataFrame]:
    """Return the tables of several experiments by name, see `recorded_table`.

    Parameters
    ----------
    configs : Path
        The folder of the configs ``NAME.yaml``.
    names : iterable of str
        The names of the experiments.
    record : Record
        The record.
    """
    return {name: recorded_table(load_config(configs / f"{name}.yaml"), record) for name in names}
