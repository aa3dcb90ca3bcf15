"""`ae_bn.reporting.answers`, sentences and the interactive page: what is shown is what runs say."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from reporting_runs import block
from scipy import stats

from ae_bn.errors import UserError
from ae_bn.reporting import answers
from ae_bn.reporting.effects import all_effects, as_used, at_chosen_rates
from ae_bn.reporting.predictions import Prediction
from ae_bn.reporting.sentences import AnswerNumbers, split_sentences
from ae_bn.reporting.settings import HIDDEN


def better_at(bn, dropout, rate):
    """Hidden BN with dropout at .002 is the best; dropout adds .1, output BN nothing."""
    return 0.5 + 0.1 * (bn == "hidden") + 0.1 * (dropout != "none") - abs(rate - 0.002)


@pytest.fixture(scope="module")
def found():
    """Answers from made-up runs: masking in three settings, hidden dropout in one."""
    names = ("20 Newsgroups", "Reuters R52", "20 Newsgroups, log counts")
    blocks = [block(better_at, name=name, noise=1e-4) for name in names]
    blocks.append(block(better_at, name=names[0], about=HIDDEN, noise=1e-4))
    runs = pd.concat(blocks, ignore_index=True).assign(valid_precision=0.1)
    effects = all_effects(runs)
    readings = {"used": as_used(effects), "chosen": at_chosen_rates(effects), "effects": effects}
    return SimpleNamespace(runs=runs, predictions=[], tables={}, **readings)


def test_the_recipe_is_the_best_by_validation_with_references_beside_it(found):
    name = "20 Newsgroups"
    references = pd.DataFrame(
        {"name": name, "arm": "SVD", "seed": [1, 2], "probe_accuracy": [0.4, 0.6]}
    ).assign(centred_precision=0.2)
    recipe = answers.recommend(found.runs, references)["classification"]
    assert recipe[:6] == (
        "probe_accuracy", "cross-entropy", "hidden", "masking .5", 0.002, "accuracy",
    )  # fmt: skip
    ours = recipe.scores["this recipe", name]
    assert ours.n == 3 and ours.mean == pytest.approx(0.7, abs=1e-3)
    svd = recipe.scores["SVD", name]
    low, high = stats.t.interval(0.95, 1, 0.5, stats.sem([0.4, 0.6]))
    assert (svd.low, svd.high) == (pytest.approx(low), pytest.approx(high))


def test_figures_show_the_numbers(found):
    titles = {("cross-entropy", of): "t" for of in ("masking", "hidden dropout")}
    first = answers.draw_first(found.used, titles)
    for axis in first.axes:
        assert [line.get_color() for line in axis.lines] == ["#0072B2", "#000000"]
        assert {text.get_text() for text in axis.texts} == {"with BN", "without BN"}
    masked = found.runs[found.runs["about"] != HIDDEN]
    codes = answers.draw_codes(masked, answers.MASKINGS, "masking")
    hidden = codes.axes[0].containers[1]
    assert hidden.get_label() == "BN: hidden"
    assert hidden[0].get_ydata() == pytest.approx([0.6, 0.7], abs=1e-3)
    settings = answers.draw_settings(found.used, [("masking without BN", "probe_accuracy")])
    dots = [line.get_xdata() for line in settings.axes[0].lines if line.get_marker() == "o"]
    assert len(dots) == 4 and dots[-1] == pytest.approx([0.1], abs=1e-3)
    for figure in (first, codes, settings):
        answers.plt.close(figure)


@pytest.fixture
def numbers(found):
    return AnswerNumbers(found)


def test_numbers_in_sentences(numbers):
    shown = numbers.check(numbers.effect("masking without BN", "probe_accuracy", "higher"))
    assert re.fullmatch(r"\+0.100 \[\+0.\d+, \+0.\d+\], above 0 in 3 of 3 settings", shown)
    alone = {"setting": "20 Newsgroups, cross-entropy"}
    shown = numbers.check(numbers.effect("hidden dropout without BN", "probe_accuracy", **alone))
    assert shown.startswith("+0.100 [+0.") and shown.endswith("over 3 seeds")
    alone.update(dropout="none")
    shown = numbers.check(numbers.levels("hidden BN", "probe_accuracy", "higher", **alone))
    assert re.fullmatch(r"from 0.(49|50)\d to 0.(59|60)\d", shown)
    shown = numbers.check(numbers.agree("masking without BN", "probe_accuracy", "higher"))
    assert shown.endswith(" in 3 of 3 settings") and "above" not in shown
    corpus = numbers.effect("hidden BN", "probe_accuracy", corpus="20 Newsgroups")
    assert "settings" not in corpus and "over 3 seeds" in corpus


@pytest.mark.parametrize(
    "sentence, problem",
    [
        ("Masking adds {masking, lower}.", "expected lower"),
        ("Output BN helps by {output} here.", "includes 0"),
        ("Output BN changes it by {output}.", ""),
        ("We see no gain: {output, undecided}.", ""),
        ("First. Then it is worse\nby {output}. Last.", "includes 0"),
        ("| Output BN improves | {output} |", ""),
        ("Masking helps, {masking, higher}.", ""),
    ],
)
def test_a_sentence_asserts_no_direction_against_its_interval(numbers, sentence, problem):
    effects = {"masking": "masking without BN", "output": "output BN alone"}

    def shown(match):
        name, _, expect = match[1].partition(", ")
        return numbers.effect(effects[name], "probe_accuracy", expect or None)

    text = re.sub(r"\{(.*?)\}", shown, sentence)
    if problem:
        with pytest.raises(UserError, match=problem) as error:
            numbers.check(text)
        assert "answers.md.j2: the numbers do not say" in str(error.value)
        assert "First" not in str(error.value)
    else:
        assert "\0" not in numbers.check(text)


def test_where_not_all_settings_agree_it_is_told(numbers):
    with pytest.raises(UserError, match="expected all lower"):
        numbers.check(numbers.agree("masking without BN", "probe_accuracy", "lower"))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda n: n.effect("maskin", "probe_accuracy"), "'maskin'"),
        (lambda n: n.effect("hidden BN", "accuracy"), "'accuracy'"),
        (lambda n: n.effect("hidden BN", "probe_accuracy", loss="x"), "'x'; did you mean 'cross"),
        (lambda n: n.effect("hidden BN", "probe_accuracy", los="x"), "'los'; did you mean 'loss'"),
        (
            lambda n: n.effect("hidden dropout without BN", "probe_accuracy", corpus="Reuters R52"),
            "no runs",
        ),
        (lambda n: n.effect("hidden BN", "probe_accuracy", "mostly"), "'mostly'"),
    ],
)
def test_unknown_names_are_told(numbers, call, words):
    with pytest.raises(UserError, match=words):
        call(numbers)


def test_the_sample_of_test_documents_widens_an_interval(numbers, tmp_path):
    numbers.answers.results = tmp_path
    with pytest.raises(UserError, match="document_errors.py"):
        numbers.test_documents("masking without BN")
    text = "effect,standard_error\nmasking without BN,0.01\nmasking without BN,0.02\nhidden BN,1\n"
    (tmp_path / "document_errors.csv").write_text(text)
    with pytest.raises(UserError, match="'output BN alone'"):
        numbers.test_documents("output BN alone")
    with pytest.raises(UserError, match="includes 0"):
        numbers.check(f"Hidden BN is\nmore accurate by {numbers.test_documents('hidden BN')}.")
    shown = numbers.check(numbers.test_documents("masking without BN"))
    assert re.fullmatch(r"\+0.100 \[\+0.06\d, \+0.1[34]\d\] \(standard error 0.020\)", shown)


def test_tables_of_effects(numbers):
    table = numbers.answers_table([["d", "probe_accuracy", "masking without BN", {}]])
    assert "above 0 in 3 of 3 " in table and "[+0." in table
    assert "| hidden BN " in numbers.all_effects(loss="cross-entropy")
    rows = numbers.settings_table([("hidden dropout without BN", "probe_accuracy")])
    assert len(rows.splitlines()) == 3 and "20 Newsgroups, cross-entropy" in rows


def test_sentences_and_rows_are_split():
    assert split_sentences("A b. C?\n- D\n\n| e. | f |\n| g |") == [
        "A b.", "C?", "D", "| e. | f |", "| g |",
    ]  # fmt: skip


def test_the_interactive_page_is_whole_and_its_figures_are_valid(found):
    vl_convert = pytest.importorskip("vl_convert")
    from ae_bn.reporting.interactive import figures, page

    html = page(found)
    assert not re.search(r"<(script|link)[^>]*(src|href)=", html)
    specification = json.loads(json.dumps(figures(found)))
    options = {p["name"]: p["bind"]["options"] for p in specification["params"]}
    assert options["setting"] == list(dict.fromkeys(found.runs["setting"]))
    assert set(options) == {"setting", "metric", "epoch", "rate", "effect"}
    assert vl_convert.vegalite_to_vega(specification)["marks"]
    for view in specification["vconcat"]:  # every layer with data of its own would escape a filter
        layers = view.get("spec", view)["layer"]
        own = [layer["data"] for layer in layers if "data" in layer]
        assert own in ([], [{"values": [{}]}]) and "metric" in json.dumps(view["transform"])


def test_all_seeds_must_agree_on_every_corpus_and_loss(found):
    def prediction(loss, earlier, fresh, metric="probe_accuracy"):
        seeds = {"fresh": np.array(fresh), "earlier": np.array(earlier)}
        return Prediction("Reuters R52", "hidden BN", "", loss, metric, 2, 0, 0, 0, **seeds)

    numbers = AnswerNumbers(found)
    numbers.predictions = [
        prediction("cross-entropy", [0.02, 0.03], [0.04]),
        prediction("squared error", [0.01, 0.011], [0.012]),
        prediction("squared error", [-5.0, -5.0], [-5.0], "log_loss"),
    ]
    shown = numbers.check(numbers.over_all_seeds("hidden BN", "probe_accuracy", "higher"))
    assert shown == "+0.011 to +0.030, 2 of 2 intervals above 0"
    with pytest.raises(UserError, match="0 of 2 intervals below 0"):
        numbers.check(numbers.over_all_seeds("hidden BN", "probe_accuracy", "lower"))
    numbers.predictions.append(prediction("multinomial", [0.1, -0.1], [0.0]))
    with pytest.raises(UserError, match="2 of 3 intervals above 0"):
        numbers.check(numbers.over_all_seeds("hidden BN", "probe_accuracy", "higher"))
