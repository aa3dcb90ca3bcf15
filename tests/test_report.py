"""The report in cases worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from ae_bn import report
from ae_bn.config import ContrastConfig, load_config
from ae_bn.errors import UserError


@pytest.fixture
def experiment():
    return load_config(
        None,
        [
            "experiment.name=toy",
            "experiment.factors={bn: {'off': {}, 'on': {}}, noise: {none: {}, some: {}}}",
            "experiment.report.metrics=[test_loss, accuracy]",
            "experiment.report.contrasts={gain: {plus: [on / some], minus: [on / none]}, inter: "
            "{plus: [on / some, off / none], minus: [on / none, off / some]}}",
        ],
    ).experiment


@pytest.fixture
def results():
    """Accuracy .1, .2, .3 plus .1 for BN, plus .01, .02, .03 by seed for noise with BN."""
    rows = []
    for seed in (1, 2, 3):
        rows.append({"arm": "raw TF-IDF", "seed": seed, "accuracy": 0.5, "status": "finished"})
        for bn in ("off", "on"):
            for noise in ("none", "some"):
                better = 0.1 * (bn == "on") + 0.01 * seed * (bn == "on") * (noise == "some")
                rows.append(
                    {
                        "arm": f"{bn} / {noise}",
                        "bn": bn,
                        "noise": noise,
                        "seed": seed,
                        "status": "finished",
                        "test_loss": 100.0 + seed,
                        "accuracy": 0.1 * seed + better,
                        "learning_rate": 0.003,
                    }
                )
    table = pd.DataFrame(rows)
    table["source"], table["data"] = "folder x", "0123456789"
    table["run"] = [f"run{number}" for number in range(len(table))]
    return table


def test_interval_of_students_t():
    mean, low, high = report.mean_interval([1.0, 2.0, 3.0])
    # t(.975, 2) = 4.302653; standard error 1 / sqrt(3)
    np.testing.assert_allclose([mean, low, high], [2, 2 - 2.484138, 2 + 2.484138], rtol=1e-6)


def test_no_interval_for_one_seed_or_an_infinite_value():
    assert report.mean_interval([4.0])[0] == 4 and np.isnan(report.mean_interval([4.0])[1])
    mean, low, high = report.mean_interval([1.0, np.inf])
    assert mean == np.inf and np.isnan(low) and np.isnan(high)


def test_differences_are_paired_by_seed(results, experiment):
    difference = report.paired_difference(results, experiment.report.contrasts["gain"], "accuracy")
    np.testing.assert_allclose(difference, [0.01, 0.02, 0.03])
    assert list(difference.index) == [1, 2, 3]
    shuffled = results.sample(frac=1, random_state=0)
    again = report.paired_difference(shuffled, experiment.report.contrasts["inter"], "accuracy")
    np.testing.assert_allclose(again.sort_index(), [0.01, 0.02, 0.03])


def test_a_seed_missing_in_one_arm_is_left_out(results):
    lacking = results[~((results["arm"] == "on / some") & (results["seed"] == 2))]
    contrast = ContrastConfig(plus=["on / some"], minus=["on / none"])
    difference = report.paired_difference(lacking, contrast, "accuracy")
    assert list(difference.index) == [1, 3]


def test_table_has_mean_interval_and_n(results, experiment):
    text = report.markdown_report(results, experiment)
    row = next(line for line in text.splitlines() if line.startswith("| on / none"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["on / none", "3", "0.003", "102.000 [99.516, 104.484]", "0.300 [0.052, 0.548]"]
    row = next(line for line in text.splitlines() if line.startswith("| gain"))
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "gain",
        "3",
        "+0.000 [+0.000, +0.000]",
        "+0.020 [-0.005, +0.045]",
    ]
    row = next(line for line in text.splitlines() if line.startswith("| raw TF-IDF"))
    assert [cell.strip() for cell in row.split("|")[1:-1]][2:4] == ["", ""]
    assert "folder x (fingerprint 0123456789)" in text


def test_diverged_runs_are_counted_and_told(results, experiment):
    one = (results["arm"] == "off / none") & (results["seed"] == 3)
    results.loc[one, ["status", "test_loss", "accuracy"]] = ["diverged", np.inf, 0.05]
    text = report.markdown_report(results, experiment)
    row = next(line for line in text.splitlines() if line.startswith("| off / none"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1] == "3, 1 diverged"
    assert cells[3] == "inf"
    assert cells[4].startswith("0.117")  # (.1 + .2 + .05) / 3


def test_unknown_metric_is_named():
    experiment = load_config(None, ["experiment.report.metrics=[acuracy]"]).experiment
    with pytest.raises(UserError, match="acuracy.*'accuracy'"):
        report.check_report(experiment)


def test_figures_are_drawn(results, experiment, tmp_path):
    for run in results["run"]:
        directory = tmp_path / "runs" / run
        directory.mkdir(parents=True)
        pd.DataFrame({"epoch": [1, 2], "valid_loss": [3.0, 2.0]}).to_csv(
            directory / "history.csv", index=False
        )
        curve = {"fraction": [0.5, 1], "recall": [0.5, 1], "precision": [0.9, 0.5]}
        (directory / "metrics.json").write_text(json.dumps({"curve": curve}))
    results["test_loss"] = results["test_loss"].where(results["seed"] != 3, np.inf)
    report.draw_figures(results, experiment, tmp_path)
    for name in ("metrics", "learning_curves", "precision_recall"):
        assert imread(tmp_path / f"{name}.png").std() > 0.01
