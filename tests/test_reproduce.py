"""`experiments/reproduce.py`: paths beside published paths."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import reproduce

PUBLISHED = {
    "valid_loss": [100.0, 90.0, 80.0, 79.0],
    "valid_accuracy": [0.3, 0.4, 0.5, 0.5],
    "valid_centred_precision": [0.2, 0.2, 0.2, 0.2],
}


def test_the_largest_difference_counts_and_that_of_the_loss_is_relative():
    path = {
        "valid_loss": [100.0, 90.9, 80.0],
        "valid_accuracy": [0.3, 0.38, 0.51],
        "valid_centred_precision": [0.2, 0.2, 0.2],
    }
    found = reproduce.differences(path, PUBLISHED)
    assert found == pytest.approx(
        {"valid_loss": 0.01, "valid_accuracy": 0.02, "valid_centred_precision": 0}
    )


def test_a_published_path_that_ends_earlier_is_not_followed():
    path = {name: [*values, values[-1]] for name, values in PUBLISHED.items()}
    assert set(reproduce.differences(path, PUBLISHED).values()) == {np.inf}


def test_only_published_runs_are_compared(monkeypatch):
    runs = [SimpleNamespace(arm=arm, seed=1, identity=arm) for arm in ("a", "b")]
    record = SimpleNamespace(results={"a": {"history": PUBLISHED}}.get)
    monkeypatch.setattr(reproduce, "results_of", lambda run: {"history": PUBLISHED})
    table = reproduce.compare_paths(runs, runs, record)
    assert table["arm"].tolist() == ["a"]
    assert (table[list(reproduce.TOLERANCE)] == 0).all(axis=None)


def test_effects_of_short_runs(monkeypatch):
    runs, paths = [], {}

    def add(value, loss, bn, **dropout):
        path = {**PUBLISHED, "valid_accuracy": [0.0, value], "valid_precision": [0.1]}
        run = SimpleNamespace(levels={"loss": loss, "bn": bn, **dropout}, seed=1, name=len(runs))
        paths[run.name] = {"history": path}
        runs.append(run)

    for loss in ("cross-entropy", "squared error"):
        for bn in ("none", "hidden", "output", "hidden + output"):
            for masking in ("none", "masking .5"):
                value = 0.4 + 0.1 * (masking != "none") + 0.02 * ("output" in bn)
                add(value, loss, bn, masking=masking)
        for bn in ("none", "hidden"):
            add(0.43 - 0.01 * (bn == "hidden"), loss, bn, dropout="hidden .5")
    monkeypatch.setattr(reproduce, "results_of", lambda run: paths[run.name])
    here = reproduce.effects_here(runs)
    assert isinstance(here, pd.Series) and len(here) == 11 * 2 * 4  # effects, losses, metrics
    assert here["masking with hidden BN", "squared error", "probe_accuracy"] == pytest.approx(0.1)
    assert here["BN instead of masking", "cross-entropy", "probe_accuracy"] == pytest.approx(-0.1)
    assert here["output BN alone", "cross-entropy", "probe_accuracy"] == pytest.approx(0.02)
    assert here["interaction of BN and masking", "cross-entropy", "log_loss"] == pytest.approx(0)
    interaction = here["interaction of BN and hidden dropout", "cross-entropy", "probe_accuracy"]
    assert interaction == pytest.approx(-0.01)


def test_the_slice_is_the_arms_of_the_first_screen(tmp_path, monkeypatch):
    """Without the corpus: what is planned, not what it is planned on."""
    asked = []

    def plan(config, seeds, out):
        asked.append((config.experiment.rate_grid, seeds, config.training.epochs))
        factor = "masking" if "masking" in config.experiment.factors else "dropout"
        arms = [
            {"bn": bn, factor: level}
            for bn in config.experiment.factors["bn"]
            for level in config.experiment.factors[factor]
        ]
        return [SimpleNamespace(levels=arm, identity=tuple(arm.values())) for arm in arms]

    monkeypatch.setattr(reproduce, "plan_runs", plan)
    runs = reproduce.slice_of(["core", "core_hidden_dropout"], tmp_path, ["training.epochs=8"])
    assert asked == [([reproduce.RATE], reproduce.SEEDS, 8)] * 2
    found = {(run.levels["bn"], reproduce.dropout_of(run)) for run in runs}
    assert len(runs) == len(found) == 10
    assert {("none", "hidden .5"), ("hidden", "hidden .5")} < found
    assert {dropout for _, dropout in found} == {"none", "masking .5", "hidden .5"}
