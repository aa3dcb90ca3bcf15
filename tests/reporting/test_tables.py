"""Tables and figures from results worked out by hand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from ae_bn.config import FigureConfig, load_config
from ae_bn.errors import UserError
from ae_bn.reporting import figures
from ae_bn.reporting import tables as report
from ae_bn.reporting.effects import compared
from ae_bn.reporting.figures import _draw_metrics, _numbers

SETTINGS = [
    "experiment.name=toy",
    "experiment.factors={bn: {'off': {}, 'on': {}}, "
    "noise: {none: {}, input .3: {model.dropout.input: 0.3}}}",
    "experiment.report.metrics=[test_loss, probe_accuracy]",
    "experiment.compare={gain: {noise: [none, input .3], within: bn}, "
    "inter: {bn: ['off', 'on'], noise: [none, input .3]}}",
]


@pytest.fixture
def experiment():
    return load_config(None, SETTINGS).experiment


@pytest.fixture
def results():
    """Accuracy .1 to .5 plus .1 for BN, plus .01 to .05 by seed for noise with BN."""
    rows = []
    for seed in (1, 2, 3, 4, 5):
        rows.append({"arm": "raw TF-IDF", "seed": seed, "probe_accuracy": 0.5})
        for bn in ("off", "on"):
            for noise in ("none", "input .3"):
                better = 0.1 * (bn == "on") + 0.01 * seed * (bn == "on") * (noise != "none")
                row = {"arm": f"{bn} / {noise}", "bn": bn, "noise": noise, "seed": seed}
                row.update(test_loss=100.0 + seed, probe_accuracy=0.1 * seed + better)
                rows.append({**row, "learning_rate": 0.003})
    table = pd.DataFrame(rows).assign(status="finished", snapshot="loss")
    table["source"], table["data"] = "folder x", "0123456789"
    table["run"] = [f"run{number}" for number in range(len(table))]
    return table


@pytest.fixture
def curves():
    """Losses of two epochs, percentiles, and precision, also of the reference."""
    rows = []
    for arm in ("off / none", "off / input .3", "on / none", "on / input .3"):
        for curve in ("valid_loss", "precision", "z1_p15", "z1_p50", "z1_p85"):
            rows += [(arm, curve, x, 6 - x, 3 / x, 2 / x, 4 / x) for x in (1, 2)]
    rows += [("raw TF-IDF", "precision", x, 5, 1 / x, np.nan, np.nan) for x in (1, 2)]
    return pd.DataFrame(rows, columns=["arm", "curve", "x", "n", "mean", "low", "high"])


def cells(text, first):
    """Return the cells of the first row of a Markdown table that begins so."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_arms_have_mean_and_interval(results, experiment):
    text = report.markdown_report(results, experiment)
    arm, n, rate, loss, accuracy = cells(text, "on / none")
    assert (arm, n, rate) == ("on / none", "5", "0.003")
    assert loss.startswith("103.000 [10") and accuracy.startswith("0.400 [0.2")
    assert cells(text, "raw TF-IDF")[2:] == ["", "", "0.500 [0.500, 0.500]"]
    assert "folder x (fingerprint 0123456789)" in text


def test_differences_have_intervals_over_seeds_and_places(results, experiment):
    found = compared(results, experiment)
    table = report.differences_table(found, experiment)
    names = ("gain", "gain, bn off", "gain, bn on", "inter")
    gain, off, on, inter = (cells(table, name) for name in names)
    assert gain[2].startswith("+0.015 [+0.00") and gain[2].endswith("over 5 seeds")
    assert off[:2] == ["gain, bn off", "+0.000 [+0.000, +0.000] over 5 seeds"]
    assert on[2].startswith("+0.030 [+0.01") and inter[2] == on[2]  # without BN noise does nothing
    assert "| gain, bn on " in report.markdown_report(results, experiment)


def test_diverged_runs_are_counted_and_told(results, experiment):
    one = (results["arm"] == "off / none") & (results["seed"] == 3)
    results.loc[one, ["status", "test_loss", "probe_accuracy"]] = ["diverged", np.inf, 0.05]
    text = report.markdown_report(results, experiment)
    arm = cells(text, "off / none")
    assert arm[1] == "5, 1 diverged"
    assert arm[3] == "median 104.000 (1 of 5 infinite)"  # 101, 102, 104, 105, inf
    assert arm[4].startswith("0.250")  # (.1 + .2 + .05 + .4 + .5) / 5


def test_failed_runs_are_in_no_cell_and_told(results, experiment):
    one = results["run"] == "run1"
    results.loc[one, ["status", "probe_accuracy", "test_loss"]] = ["failed", np.nan, np.nan]
    results.loc[one, "reason"] = "<b>disk"
    text = report.markdown_report(results, experiment)
    assert cells(text, "off / none")[1] == "4, 1 failed"
    assert "- 1 runs, such as run1: &lt;b&gt;disk" in text


def test_what_could_not_be_measured_is_told(results, experiment):
    one = (results["arm"] == "off / none") & (results["seed"] == 3)
    results.loc[one, "reason"] = "<accuracy> could not be measured"
    results.loc[one, "probe_accuracy"] = np.nan
    text = report.markdown_report(results, experiment)
    assert "Incomplete: 1 runs, such as run" in text
    assert "&lt;accuracy&gt; could not be measured." in text
    assert cells(text, "off / none")[1] == "5" and cells(text, "off / none")[4].startswith("0.300")


def test_published_rows_have_their_source(results):
    settings = [
        "experiment.report.published=[{arm: A & B, source: Somewhere, probe_accuracy: .744}]"
    ]
    experiment = load_config(None, [*SETTINGS, *settings]).experiment
    report.check_report(experiment)
    text = report.markdown_report(results, experiment)
    assert cells(text, "A &amp; B") == ["A &amp; B", "", "", "", "0.744"]
    assert "- A & B: Somewhere" in text


def test_names_cannot_break_a_table():
    text = report.markdown(["a|b"], [["<script>"]])
    assert "a\\|b" in text and "<script>" not in text


@pytest.mark.parametrize(
    "setting, words",
    [
        ("metrics=[acuracy]", ["acuracy", "metrics"]),
        ("published=[{arm: x, source: y, acuracy: .1}]", ["published, x", "acuracy"]),
        ("figures=[{kind: metrics, metrics: [acuracy]}]", ["metrics.png", "'"]),
        ("figures=[{kind: response, x: nois}]", ["response.png", "'noise'"]),
        ("figures=[{kind: metrics, only: {noise: [non]}}]", ["only.noise", "'none'"]),
        ("figures=[{kind: metrics}, {kind: metrics}]", ["two figures"]),
    ],
)
def test_unknown_names_are_told(setting, words):
    experiment = load_config(None, [*SETTINGS, f"experiment.report.{setting}"]).experiment
    with pytest.raises(UserError) as error:
        report.check_report(experiment)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "setting, words",
    [
        ("figures=[{kind: response}]", ["figures.0", "x goes with"]),
        ("figures=[{kind: bands}]", ["curves goes with"]),
        ("figures=[{kind: metrics, x: noise}]", ["x goes with"]),
        ("figures=[{kind: pie}]", ["figures.0.kind", "pie"]),
        ("figures=[{kind: metrics, title: x}]", ["title"]),
        ("published=[{arm: x, source: y, probe_accuracy: high}]", ["published.0.probe_accuracy"]),
    ],
)
def test_bad_settings_are_told(setting, words):
    with pytest.raises(UserError) as error:
        load_config(None, [f"experiment.report.{setting}"])
    for word in words:
        assert word in str(error.value)


def test_levels_are_numbers():
    settings = [
        "experiment.factors={a: {none: {}, input .3: {model.dropout.input: .3}, "
        "'8': {training.batch_size: 100}, tied: {model.tied: true}, "
        "name: {model.loss: multinomial}, two: {model.tied: true, training.epochs: 1}}}",
        "experiment.report.figures=[{kind: response, x: a}]",
    ]
    experiment = load_config(None, settings).experiment
    [config] = experiment.report.figures
    found = _numbers(["none", "input .3", "8"], experiment, config)
    assert found == {"none": 0, "input .3": 0.3, "8": 100}
    for level in ("tied", "name", "two"):
        with pytest.raises(UserError, match=f"level '{level}' of a has no number"):
            _numbers(["none", level], experiment, config)


FIGURES = """experiment.report.figures=[
  {kind: metrics}, {kind: response, x: noise, lines: [bn]},
  {kind: curves, curves: {valid_loss: loss, precision: precision}, log: [x, y]},
  {kind: bands, curves: {z1: z}},
  {kind: curves, name: some, curves: {valid_loss: loss}, only: {noise: [none]}}]"""


def test_figures_are_drawn(results, curves, tmp_path):
    experiment = load_config(None, [*SETTINGS, FIGURES]).experiment
    results["test_loss"] = results["test_loss"].where(results["seed"] != 3, np.inf)
    curves["mean"] = curves["mean"].where(curves["arm"] != "off / none", np.inf)
    report.write_report(results, curves, experiment, tmp_path)
    for name in ("metrics", "response", "curves", "bands", "some"):
        assert imread(tmp_path / f"{name}.png").std() > 0.01
    assert (tmp_path / "table.md").read_text() == report.markdown_report(results, experiment)


def test_panels_of_metrics_are_levels_of_the_first_of_several_factors(results, curves):
    config = FigureConfig(kind="metrics", metrics=["probe_accuracy"])
    one = "experiment.factors={noise: {none: {}, input .3: {}}}"
    for settings, n_panels in ((SETTINGS, 2), ([SETTINGS[0], one], 1)):
        experiment = load_config(None, settings).experiment
        trained = results[results["learning_rate"].notna()]
        figure = _draw_metrics(trained, results[:1], curves, experiment, config)
        assert len(figure.axes) == n_panels


def test_a_figure_that_fails_is_named_and_costs_no_other(results, curves, tmp_path, monkeypatch):
    setting = """experiment.report.figures=[{kind: curves, curves: {valid_los: loss}},
      {kind: metrics}, {kind: response, x: noise, lines: [bn]}]"""
    experiment = load_config(None, [*SETTINGS, setting]).experiment

    def fail(*arguments):
        raise ZeroDivisionError("<no width>")

    monkeypatch.setitem(figures.KINDS, "metrics", fail)
    (tmp_path / "metrics.png").write_text("of other results")
    text = report.write_report(results, curves, experiment, tmp_path)
    assert re.search("Not drawn: .*'valid_los'.*'valid_loss'", text)
    assert "Not drawn: experiment.report.figures, metrics.png: ZeroDivisionError('&lt;no" in text
    assert (tmp_path / "table.md").read_text() == text
    shown = {path.name for path in tmp_path.iterdir()}
    assert shown == {"results.csv", "table.md", "response.png"}


@pytest.mark.parametrize(
    ("x", "y", "log", "scales"),
    [
        ([0.5, 1.0, 2.0], [-3.0, -2.0, -1.0], ["x"], ("log", "linear")),
        ([-1.0, 0.0, 10.0], [-3.0, 2.0, -1.0], ["x"], ("symlog", "linear")),
        ([0.5, 1.0, 2.0], [-3.0, 0.0, -1.0], ["x", "y"], ("log", "linear")),
        ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0], ["x"], ("symlog", "linear")),
        ([0.5, 1.0, 2.0], [-3.0, 2.0, np.nan], ["x", "y"], ("log", "log")),
    ],
)
def test_a_logarithmic_x_does_not_depend_on_the_sign_of_y(x, y, log, scales):
    points = pd.DataFrame({"x": x, "mean": y, "low": y, "high": y})
    panel = figures.Panel("", "", [(points.assign(marked=False), {"color": "k"})])
    figure, axes = figures.paint([[panel]], "rate", log)
    [axis] = axes.flat
    assert (axis.get_xscale(), axis.get_yscale()) == scales
    low, high = axis.get_xlim()
    if "y" not in log:
        assert low <= min(x) and high >= max(x)
    figures.plt.close(figure)


def test_a_logarithmic_x_begins_where_y_leaves_0():
    y = [0.0, 0.0, 0.5, 1.0]
    points = pd.DataFrame({"x": [0.0, 1.0, 100.0, 1000.0], "mean": y, "low": y, "high": y})
    panel = figures.Panel("", "", [(points.assign(marked=False), {"color": "k"})])
    figure, axes = figures.paint([[panel]], "step", ["x"])
    assert axes[0, 0].get_xlim() == (100, 1000)
    figures.plt.close(figure)
