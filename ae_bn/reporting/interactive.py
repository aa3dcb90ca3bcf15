"""Three figures of the answers in one page, in which a reader chooses what to see.

Vega-Lite draws them in the browser from the frames and in the colours of the static figures; the
page needs no network.  They show the chosen metric over the learning rate, the same metric over the
epochs, and an effect in every setting.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from ae_bn.reporting.answers import HIDDENS, MASKINGS, Answers
from ae_bn.reporting.effects import BOTH, PATH_METRICS, as_used, at_chosen_rates
from ae_bn.reporting.estimates import MARGINS, estimate, title
from ae_bn.reporting.figures import BN_COLORS

# The epochs that are shown of a path, and the last one.
EPOCHS = [1, 3, 8, 21, 55]
TICKS = [1, 3, 10, 30, 100]
EPOCH_TITLES = {
    "loss": "lowest validation loss",
    "accuracy": "best validation accuracy",
    "precision": "best validation precision",
    "last": "last epoch",
}
TITLES = {metric: title(metric) for metric in MARGINS}
NO_DROPOUT = "no dropout"
LEVELS = [NO_DROPOUT, *list(MASKINGS)[1:], *list(HIDDENS)[1:], BOTH]
# On a narrow screen panels stand below each other.
SCRIPT = """
const room = document.getElementById("figures").clientWidth;
const narrow = room < 700;
for (const view of figures.vconcat) {
  const panel = view.spec || view;
  if (view.facet) view.columns = narrow ? 1 : 3;
  panel.width = narrow ? room - 80 : view.facet ? room / 3 - 55 : room - 80;
}
vegaEmbed("#figures", figures, {actions: false, renderer: "svg"});
"""


def page(answers: Answers) -> str:
    """Return the interactive figures as HTML: scripts and elements, to be put into a page.

    Parameters
    ----------
    answers : Answers
        The answers from the results.
    """
    import vl_convert  # of the extra "report"; nothing else needs it

    library = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    specification = json.dumps(figures(answers), separators=(",", ":")).replace("</", "<\\/")
    return (
        '<div id="choices"></div>\n<div id="figures"></div>\n'
        f'<script type="module">\n{library}\nconst figures = {specification};\n{SCRIPT}</script>'
    )


def figures(answers: Answers) -> dict:
    """Return the figures as a specification of Vega-Lite.

    Parameters
    ----------
    answers : Answers
        The answers from the results.
    """
    runs, effects = answers.runs, answers.effects
    settings = list(dict.fromkeys(runs["setting"]))
    choices = [
        _choice("setting", "Setting ", settings, "20 Newsgroups, squared error"),
        _choice("metric", "Metric ", list(TITLES.values()), TITLES["centred_precision"]),
        _choice("epoch", "Epoch ", list(EPOCH_TITLES.values())),
        _choice("rate", "Learning rate ", sorted(map(float, set(runs["learning_rate"]))), 0.0005),
        _choice("effect", "Effect ", list(dict.fromkeys(effects["effect"]))),
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "padding": 8,
        "params": choices,
        "vconcat": [_rates(runs), _paths(runs), _effects(effects[effects["pooled"]])],
        "resolve": {"scale": {"color": "independent", "x": "independent", "y": "independent"}},
        "config": {
            "axis": {"labelLimit": 300},
            "title": {"anchor": "start", "fontSize": 13},
            "lineBreak": "\n",
        },
    }


def _choice(name, label, options, first=None):
    value = first if first in options else options[0]
    bind = {"input": "select", "options": options, "name": label, "element": "#choices"}
    return {"name": name, "value": value, "bind": bind}


def _data(table: pd.DataFrame) -> tuple[dict, list]:
    """Return a table as data of Vega-Lite, and the transforms that restore its words.

    It is CSV in which numbers stand for words, and for learning rates: a quarter of the bytes of
    JSON.
    """
    restore = []
    for column in table:
        if table[column].dtype.kind not in "if" or column == "learning_rate":
            codes, names = pd.factorize(table[column])
            table = table.assign(**{column: codes})
            restore.append(
                {"calculate": f"{json.dumps(list(names))}[datum.{column}]", "as": column}
            )
    values = table.to_csv(index=False, float_format="%.3g")
    return {"values": values, "format": {"type": "csv", "parse": "auto"}}, restore


def _panels(table: pd.DataFrame, x: dict, keep: list, heading: str) -> dict:
    """A panel for every dropout, a line for every placement of BN."""
    color = {
        "field": "bn",
        "type": "nominal",
        "scale": {"domain": list(BN_COLORS), "range": list(BN_COLORS.values())},
        "legend": {"orient": "top", "columns": 2, "title": "Batch Normalization in",
                   "symbolOpacity": 1},
    }  # fmt: skip
    shown = ["bn", x["field"], "mean", "min", "max"]
    base = {"x": x, "color": color, "tooltip": [{"field": name} for name in shown]}
    y = {"field": "mean", "type": "quantitative", "title": None, "scale": {"zero": False}}
    area = {"y": {**y, "field": "min"}, "y2": {"field": "max"}}
    data, restore = _data(table.replace({"dropout": {"none": NO_DROPOUT}}))
    return {
        "title": {"text": {"expr": heading}},
        "data": data,
        "transform": [*restore, {"filter": "datum.setting == setting && datum.metric == metric"},
                      *keep],
        "facet": {"field": "dropout", "type": "nominal", "title": None, "sort": LEVELS},
        "columns": 3,
        "spec": {
            "width": 220,
            "height": 180,
            "encoding": base,
            "layer": [
                {"mark": {"type": "area", "opacity": 0.15}, "encoding": area},
                {"mark": {"type": "line", "point": True}, "encoding": {"y": y}},
            ],
        },
    }  # fmt: skip


def _rates(runs: pd.DataFrame) -> dict:
    """The chosen metric of the test documents over the learning rate."""
    keys = ["setting", "bn", "dropout", "learning_rate", "snapshot"]
    runs = runs.drop_duplicates(["run", "snapshot"]).rename(columns=TITLES)
    runs = runs.assign(**{TITLES["log_loss"]: runs["test_loss"]})
    long = runs.melt(keys, list(TITLES.values()), var_name="metric")
    values = long.groupby([*keys, "metric"], sort=False)["value"]
    table = values.agg(["mean", "min", "max"]).reset_index()
    table["snapshot"] = table["snapshot"].map(EPOCH_TITLES)
    x = {"field": "learning_rate", "type": "ordinal", "title": "learning rate"}
    heading = "metric + ' of test documents\\nover the learning rate'"
    return _panels(table, x, [{"filter": "datum.snapshot == epoch"}], heading)


def _paths(runs: pd.DataFrame) -> dict:
    """The chosen metric of the validation documents, epoch by epoch, at the chosen rate."""
    keys, parts = ["setting", "bn", "dropout", "learning_rate"], []
    names = {TITLES[name]: path or "valid_loss" for name, path in PATH_METRICS.items()}
    rows = runs[runs["snapshot"] == "last"].drop_duplicates("run")
    for levels, arm in rows.groupby(keys, sort=False):
        length = min(len(path["epoch"]) for path in arm["path"])
        at = np.array([epoch for epoch in EPOCHS if epoch < length] + [length])
        for metric, name in names.items():
            values = np.array([path[name][:length] for path in arm["path"]], float)[:, at - 1]
            part = {"epoch": at, "mean": values.mean(axis=0), "min": values.min(axis=0)}
            part.update(max=values.max(axis=0), metric=metric, **dict(zip(keys, levels)))
            parts.append(pd.DataFrame(part))
    nearest = [
        {"calculate": "abs(log(datum.learning_rate / rate))", "as": "far"},
        {"joinaggregate": [{"op": "min", "field": "far", "as": "least"}]},
        {"filter": "datum.far == datum.least"},
    ]
    x = {"field": "epoch", "type": "quantitative", "title": "epoch",
         "scale": {"type": "log", "nice": False}, "axis": {"values": TICKS}}  # fmt: skip
    heading = (
        "metric + ' of validation documents\\nduring training, at the rate nearest to ' + rate"
    )
    return _panels(pd.concat(parts, ignore_index=True), x, nearest, heading)


def _effects(effects: pd.DataFrame) -> dict:
    """The chosen effect on the chosen metric, in every setting: as used, and analyses."""
    by = ["effect", "metric", "setting"]
    rows = []
    for keys, of in as_used(effects).groupby(by, sort=False):
        found = estimate(of)
        rows.append([*keys, "mean", found.mean, found.low, found.high])
    chosen = at_chosen_rates(effects)
    each = chosen.groupby([*by, "dropout", "rate", "epoch"], sort=False)["value"].mean()
    table = each.reset_index(name="mean")[[*by, "mean"]].assign(kind="analysis")
    summary = pd.DataFrame(rows, columns=[*by, "kind", "mean", "low", "high"])
    table = pd.concat([table, summary], ignore_index=True)
    table["metric"] = table["metric"].map(TITLES)
    names = list(dict.fromkeys(table["setting"]))
    x = {"type": "quantitative", "title": "effect (dot: as used; one tick for each other analysis)"}
    is_mean = {"filter": "datum.kind == 'mean'"}
    # Intervals from two seeds can be very wide; they are cut at three times the largest mean.
    reach = [{"joinaggregate": [{"op": "max", "field": "size", "as": "reach"}]},
             {"calculate": "max(datum.low, -3 * datum.reach)", "as": "low"},
             {"calculate": "min(datum.high, 3 * datum.reach)", "as": "high"}]  # fmt: skip
    data, restore = _data(table)
    return {
        "title": {"text": {"expr": "effect + ':\\neffect on ' + metric + ', in every setting'"}},
        "data": data,
        "transform": [
            *restore,
            {"filter": "datum.metric == metric && datum.effect == effect"},
            {"calculate": "abs(datum.mean)", "as": "size"},
        ],
        "width": 500,
        "height": {"step": 36},
        "encoding": {
            "y": {"field": "setting", "type": "nominal", "sort": names, "axis": None},
            "tooltip": [{"field": name} for name in ("setting", "mean", "low", "high")],
        },
        "layer": [
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "color": "#444444"},
                "encoding": {
                    "x": {"datum": 0, "type": "quantitative"},
                    "y": {"value": 0},
                    "y2": {"value": "height"},
                    "tooltip": None,
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dy": -13},
                "transform": [is_mean],
                "encoding": {"x": {"value": 4}, "text": {"field": "setting"}},
            },
            {
                "mark": {"type": "tick", "opacity": 0.35},
                "transform": [{"filter": "datum.kind == 'analysis'"}],
                "encoding": {"x": {**x, "field": "mean"}},
            },
            {
                "mark": {"type": "rule", "color": BN_COLORS["hidden"], "strokeWidth": 2},
                "transform": [is_mean, *reach],
                "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1,
                         "color": BN_COLORS["hidden"]},
                "transform": [is_mean],
                "encoding": {"x": {**x, "field": "mean"}},
            },
        ],
    }  # fmt: skip
