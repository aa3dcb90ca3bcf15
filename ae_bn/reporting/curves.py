"""Curves of an experiment, over epochs or steps, as means over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ae_bn.config import FigureConfig
from ae_bn.study.record import Record


def curves_table(
    rows: pd.DataFrame, record: Record, figures: list[FigureConfig] | None = None
) -> pd.DataFrame:
    """Return curves of recorded runs, means over seeds point by point.

    They are the columns of the history over the epoch and of the observations over the step, and
    the ``spectra``: {name: {"x": [...], "y": [...]}}.

    Parameters
    ----------
    rows : DataFrame
        The ``arm`` of each ``run``, see `ae_bn.study.results.results_table`.  A run may have
        several rows.  A run that failed is not recorded and has no curves.
    record : Record
        The record.
    figures : list of FigureConfig, optional
        The figures whose curves are wanted; without it, all curves are.

    Returns
    -------
    DataFrame
        A row per point: ``arm``, ``curve``, ``x`` (mean), ``n`` (seeds that go so far), ``mean``,
        and the range over seeds, ``low`` and ``high``.
    """
    wanted = None if figures is None else {name for f in figures for name in f.all_curves}
    seeds = {}  # (arm, curve): a list of (x, y), one per seed
    for arm, run in rows[["arm", "run"]].drop_duplicates().itertuples(index=False):
        for curve, xy in _curves(record.results(run) or {}).items():
            if wanted is not None and curve not in wanted:
                continue
            seeds.setdefault((arm, curve), []).append(np.array(xy, dtype=float))
    parts = []
    for (arm, curve), pairs in seeds.items():
        start = 0
        for stop in sorted({pair.shape[1] for pair in pairs}):
            reaching = np.array([pair[:, start:stop] for pair in pairs if pair.shape[1] >= stop])
            x, y = reaching[:, 0], reaching[:, 1]
            points = {"x": x.mean(axis=0), "n": len(reaching), "mean": y.mean(axis=0)}
            points.update(low=y.min(axis=0), high=y.max(axis=0))
            parts.append(pd.DataFrame({"arm": arm, "curve": curve, **points}))
            start = stop
    columns = ["arm", "curve", "x", "n", "mean", "low", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _curves(results: dict) -> dict[str, tuple]:
    """Return x and y of each curve of a run."""
    curves = {}
    for name in ("history", "observations"):
        x, *columns = results.get(name) or [None]
        curves.update((column, (results[name][x], results[name][column])) for column in columns)
    for name, spectrum in results.get("spectra", {}).items():
        curves[name] = (spectrum["x"], spectrum["y"])
    return curves
