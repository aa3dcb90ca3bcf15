"""`ae_bn.reporting.answers` and the interactive page: what is shown is what the runs say."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from reporting_runs import block
from scipy import stats

from ae_bn.reporting import answers
from ae_bn.reporting.estimands import Verdict, all_effects, analyses


def better_at(bn, masking, rate):
    """Hidden BN with masking .5 at .002 is the best."""
    return 0.5 + 0.1 * (bn == "hidden") + 0.1 * (masking != "none") - abs(rate - 0.002)


@pytest.fixture(scope="module")
def runs():
    both = [block(better_at, setting=name, noise=1e-4) for name in ("first", "second")]
    table = pd.concat(both, ignore_index=True)
    return table.assign(test_loss=np.exp(table["log_loss"] / 100), valid_precision=0.1)


def test_a_mean_path_goes_as_far_as_all_runs():
    paths = [{"epoch": [1, 2], "x": [1.0, 5.0]}, {"epoch": [1, 2, 3], "x": [3.0, 5.0, 7.0]}]
    table = answers.mean_path(paths)
    assert table[["epoch", "x", "x_low", "x_high"]].values.tolist() == [[1, 2, 1, 3], [2, 5, 5, 5]]


def test_all_seeds_together_choose_the_rate(runs):
    of = runs[runs["snapshot"] == "accuracy"]
    chosen = answers.chosen_rate(of, "valid_accuracy")
    assert set(chosen["learning_rate"]) == {0.002}
    assert len(chosen) == 2 * 4 * 2 * 3  # corpora, placements, maskings, seeds


def test_the_recipe_is_the_best_by_validation_with_references_beside_it(runs):
    references = pd.DataFrame(
        {"setting": "first", "arm": "SVD", "seed": [1, 2], "probe_accuracy": [0.4, 0.6]}
    ).assign(centred_precision=0.2)
    recipe = answers.recommend(runs, references)[0]
    assert recipe[:6] == (
        "classification", "cross-entropy", "hidden", "masking .5", 0.002, "accuracy",
    )  # fmt: skip
    ours = recipe.scores.loc["first", "this recipe"]
    assert ours["n"] == 3 and ours["mean"] == pytest.approx(0.7, abs=1e-3)
    svd = recipe.scores.loc["first", "SVD"]
    low, high = stats.t.interval(0.95, 1, 0.5, stats.sem([0.4, 0.6]))
    assert (svd["low"], svd["high"]) == (pytest.approx(low), pytest.approx(high))


def test_every_placement_has_its_line(runs):
    first = runs[runs["setting"] == "first"]
    masking = ["none", "masking .5"]
    figures = answers.draw_paths(first, masking), answers.draw_rates(first, masking)
    for figure in (*figures, answers.draw_codes(runs)):
        axis = figure.axes[0]
        labelled = {line.get_label() for line in axis.lines if line.get_label()[0] != "_"}
        assert labelled == {"none", "hidden", "output", "hidden + output"}
        answers.plt.close(figure)


def test_specifications_are_sorted_and_the_first_published_one_is_marked(runs):
    each = analyses(all_effects(runs))
    each = each[(each["effect"] == "hidden BN") & (each["metric"] == "probe_accuracy")]
    figure = answers.draw_specifications(each, "hidden BN")
    means, old = (
        np.asarray(points.get_offsets())[:, 1] for points in figure.axes[0].collections[-2:]
    )
    assert len(means) == len(each) and (np.diff(means) >= 0).all()
    assert len(old) == 2 * 2  # corpora and maskings
    answers.plt.close(figure)


def test_a_verdict_says_in_how_many_analyses_it_holds():
    verdict = Verdict(
        "interaction", "log_loss", "cross-entropy", -1.26, -2.0, -0.5, "3 + 3", 72, 2, 70, 1, 60,
        0.001, 1.0, "undecided",
    )  # fmt: skip
    assert answers.estimate(verdict) == "-1.3 % [-2.0, -0.5]"
    assert answers.outcome(verdict) == "lower in 70 of 72"
    assert answers.mostly(verdict, "lower") and not answers.mostly(verdict, "higher")
    assert not answers.mostly(verdict._replace(above=4), "lower")  # more than one in twenty
    sure = verdict._replace(higher=0, above=0, lower=70)
    assert answers.mostly(sure, "lower") and answers.agreement(sure) == "lower in 70 of 72"
    clear = verdict._replace(higher=0, lower=72, verdict="lower")
    assert answers.outcome(clear) == "**lower in all 72**"
    depends = verdict._replace(higher=40, lower=30, verdict="depends on the loss")
    assert answers.outcome(depends) == "higher in 40 of 72; depends on the loss"


def test_the_interactive_page_is_whole_and_its_figures_are_valid(runs):
    vl_convert = pytest.importorskip("vl_convert")
    from ae_bn.reporting.interactive import page

    html = page(runs, analyses(all_effects(runs)))
    assert not re.search(r"<(script|link)[^>]*(src|href)=", html)
    specification = json.loads(re.search(r'vegaEmbed\("#answers", (\{.*\}), \{"actions"', html)[1])
    options = {p["name"]: p["bind"]["options"] for p in specification["params"] if "bind" in p}
    assert options["setting"] == ["first", "second"]
    assert options["epoch"] == ["loss", "accuracy", "precision", "last"]
    assert set(options) == {"setting", "loss", "metric", "epoch", "rate", "effect"}
    assert vl_convert.vegalite_to_vega(specification)["marks"]
