"""The three figures of the answers in one page, in which a reader chooses what to see.

Altair describes the figures, and its library draws them in the browser; the page needs no network.
"""

from __future__ import annotations

import json

import altair as alt
import pandas as pd
import vl_convert

from ae_bn.reporting.answers import (
    ABOVE,
    BELOW,
    COLORS,
    MASKINGS,
    OWN_EPOCH,
    PATH_TITLES,
    TITLES,
    WORST,
    mean_path,
    spoken,
)
from ae_bn.reporting.estimands import CHOICES, RATES
from ae_bn.reporting.figures import MARKED
from ae_bn.training import SNAPSHOTS

WIDTH, HEIGHT = 300, 220  # of a panel, pixels


def page(runs: pd.DataFrame, each: pd.DataFrame) -> str:
    """Return the interactive figures as HTML: scripts and one element, to be put into a page.

    Parameters
    ----------
    runs : DataFrame
        See `ae_bn.reporting.estimands.read_blocks`.
    each : DataFrame
        See `ae_bn.reporting.estimands.analyses`.
    """
    alt.data_transformers.disable_max_rows()
    setting = _choice("setting", list(dict.fromkeys(runs["setting"])), "Setting ")
    loss = _choice("loss", list(dict.fromkeys(runs["loss"])), "Loss ")
    epoch = _choice("epoch", list(SNAPSHOTS), "Epoch ", [spoken(name) for name in SNAPSHOTS])
    metric = _choice("metric", list(TITLES.values()), "Metric ", first=TITLES["probe_accuracy"])
    effect = _choice("effect", list(dict.fromkeys(each["effect"])), "Effect ")
    rates = sorted(runs["learning_rate"].unique())
    rate = _choice("rate", rates, "Learning rate of the paths ", first=RATES[1])
    chart = (
        alt.vconcat(
            _rates(runs).transform_filter("datum.metric == metric && datum.snapshot == epoch"),
            _paths(runs).transform_filter("datum.learning_rate == rate"),
            _specifications(each).transform_filter(
                "datum.metric == metric && datum.effect == effect"
            ),
        )
        .add_params(setting, loss, metric, epoch, rate, effect)
        .resolve_scale(color="independent", x="independent", y="independent")
        .configure_view(continuousWidth=WIDTH, continuousHeight=HEIGHT)
    )
    library = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    specification = json.dumps(chart.to_dict()).replace("</", "<\\/")
    # The controls come first, and the figures are not printed: the page has them as images, too.
    return (
        "<style>#answers { display: flex; flex-direction: column-reverse; }\n"
        "#answers form { display: flex; flex-wrap: wrap; gap: 1em; }\n"
        "@media print { #answers { display: none; } }</style>\n"
        f'<div id="answers"></div>\n<script type="module">\n{library}\n'
        f'vegaEmbed("#answers", {specification}, {{"actions": false}});\n</script>'
    )


def _choice(name, values, label, labels=None, first=None):
    values = [value.item() if hasattr(value, "item") else value for value in values]
    options = alt.binding_select(
        options=values, name=label, **({"labels": labels} if labels else {})
    )
    return alt.param(name=name, value=values[0] if first is None else first, bind=options)


def _of_block(chart):
    return chart.transform_filter("datum.setting == setting && datum.loss == loss")


def _color():
    scale = alt.Scale(domain=list(COLORS), range=list(COLORS.values()))
    return alt.Color("bn:N", title="BN", scale=scale)


def _rates(runs):
    """Every metric over the learning rate, mean and range over seeds."""
    keys = ["setting", "loss", "bn", "masking", "learning_rate", "snapshot"]
    long = runs.rename(columns={m: TITLES.get(m, "held-out loss") for m in OWN_EPOCH}).melt(
        keys, list(TITLES.values()), var_name="metric", value_name="value"
    )
    by = [*keys, "metric"]
    table = long.groupby(by, sort=False)["value"].agg(["mean", "min", "max", "count"]).round(5)
    base = alt.Chart(table.reset_index(), width=WIDTH, height=HEIGHT).encode(
        alt.X("learning_rate:O", title="learning rate"),
        color=_color(),
    )
    y = alt.Y("mean:Q", title="mean and range over seeds", scale=alt.Scale(zero=False))
    tooltip = ["bn", "masking", "learning_rate", "mean", "min", "max", "count"]
    layers = alt.layer(
        base.mark_area(opacity=0.2).encode(alt.Y("min:Q", title=""), alt.Y2("max:Q")),
        base.mark_line(point=True).encode(y, tooltip=tooltip),
    )
    title = "The chosen metric of the test documents over the learning rate"
    return (
        _of_block(layers)
        .facet(alt.Column("masking:N", title=None, sort=list(MASKINGS)))
        .properties(title=title)
    )


def _paths(runs):
    """The codes over the validation loss, epoch by epoch."""
    rows = runs[runs["snapshot"] == "loss"]
    parts = []
    keys = ["setting", "loss", "bn", "masking", "learning_rate"]
    for levels, arm in rows.groupby(keys, sort=False):
        path = mean_path(arm["path"])
        path = path[path["valid_loss"] <= WORST * path["valid_loss"].min()]
        kept = path["epoch"].isin([*MARKED, *range(1, 21), *range(20, 151, 5), path["epoch"].max()])
        part = path.loc[kept, ["epoch", "valid_loss", *PATH_TITLES]].round(5)
        parts.append(part.assign(**dict(zip(keys, levels))))
    table = pd.concat(parts, ignore_index=True)
    columns = []
    for name, title in PATH_TITLES.items():
        base = alt.Chart(width=WIDTH * 2 // 3, height=HEIGHT).encode(
            alt.X("valid_loss:Q", title="validation loss", scale=alt.Scale(zero=False)),
            alt.Y(f"{name}:Q", title=None, scale=alt.Scale(zero=False)),
            color=_color(),
            order="epoch:Q",
            strokeDash=alt.StrokeDash("masking:N", title="masking", sort=list(MASKINGS)),
            tooltip=["bn", "masking", "epoch", "valid_loss", name],
        )
        points = base.mark_point(filled=True, size=18).transform_filter(
            alt.FieldOneOfPredicate("epoch", MARKED)
        )
        columns.append(alt.layer(base.mark_line(), points).properties(title=f"validation {title}"))
    panels = alt.hconcat(*columns, data=table).resolve_scale(x="shared")
    title = "The path of training, to the left; points mark epochs " + ", ".join(map(str, MARKED))
    return _of_block(panels).properties(title=title)


def _specifications(each):
    """An effect in all its analyses, sorted."""
    table = each.assign(metric=each["metric"].map(TITLES)).round(5)
    for choice in CHOICES:
        table[choice] = table[choice].map(spoken)
    base = (
        alt.Chart(table, width=2 * WIDTH, height=HEIGHT)
        .transform_window(
            rank="row_number()", sort=[alt.SortField("mean")], groupby=["metric", "effect"]
        )
        .transform_calculate(
            interval="datum.low > 0 ? 'above 0' : datum.high < 0 ? 'below 0' : 'around 0'"
        )
        .encode(
            alt.X("rank:Q", title="analyses of all corpora and losses, sorted"),
            color=alt.Color(
                "interval:N",
                scale=alt.Scale(
                    domain=["above 0", "around 0", "below 0"], range=[ABOVE, "#999999", BELOW]
                ),
            ),
            tooltip=[*CHOICES, "n", "mean", "low", "high"],
        )
    )
    zero = alt.Chart().mark_rule(color="#444444").encode(alt.YDatum(0))
    wide = alt.Scale(type="symlog", constant=0.1)  # intervals from two seeds can be very wide
    y = alt.Y("low:Q", title="effect", scale=wide)
    intervals = base.mark_rule().encode(y, alt.Y2("high:Q"))
    layers = alt.layer(intervals, base.mark_point(filled=True, size=16).encode(y="mean:Q"), zero)
    return layers.properties(title="The chosen effect on the chosen metric, in every analysis")
