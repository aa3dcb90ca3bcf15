"""`ae_bn.study.arms`: arms and contrasts from factors, and errors of one line."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest

from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.study.arms import check_effective, contrasts, expand_arms, is_planned
from ae_bn.study.plan import plan_runs
from ae_bn.study.record import Record
from ae_bn.study.results import recorded_table

ROOT = Path(__file__).resolve().parent.parent.parent


def write(tmp_path, text) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


EXPERIMENT = """
experiment:
  factors:
    noise: {"0": {}, "1": {model.dropout.input: .5}}
    width: {small: {model.layers: [4]}, large: {model.layers: [9], training.epochs: 2}}
  skip: [{noise: "1", width: small}]
"""


def test_arms_are_all_combinations_less_the_skipped(tmp_path):
    expanded = expand_arms(load_config(write(tmp_path, EXPERIMENT)))
    assert expanded[0].levels == {"noise": "0", "width": "small"}
    arms = {arm.name: arm.config for arm in expanded}
    assert list(arms) == ["0 / small", "0 / large", "1 / large"]
    assert arms["1 / large"].model.dropout.input == 0.5
    assert arms["1 / large"].model.layers == [9]
    assert arms["1 / large"].training.epochs == 2
    assert arms["0 / small"].model.layers == [4]


def test_without_factors_there_is_one_arm():
    assert [(arm.name, arm.levels) for arm in expand_arms(load_config())] == [("run", {})]


@pytest.mark.parametrize(
    "setting, words",
    [
        ("experiment.skip=[{nois: '1'}]", ["skip", "nois", "'noise'"]),
        ("experiment.skip=[{noise: '2'}]", ["skip.noise", "'2'"]),
        ("experiment.include=[{noise: ['1', '2']}]", ["include.noise", "'2'"]),
        ("experiment.skip=[{noise: 1}]", ["skip.noise", "1.0", "quote"]),
        ("experiment.skip=[{seed: first}]", ["skip.seed", "'first'", "number"]),
        ("experiment.skip=[{seeds: 1}]", ["skip", "'seeds'", "'seed'"]),
        ("experiment.include=[{learning_rate: 0.3}]", ["include.learning_rate", "0.3", "grid"]),
    ],
)
def test_bad_arms_are_named(tmp_path, setting, words):
    config = load_config(write(tmp_path, EXPERIMENT), [setting])
    with pytest.raises(UserError) as error:
        expand_arms(config)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_two_arms_of_one_name_are_refused():
    factors = {"one": {"a": {}, "a / b": {"training.epochs": 2}}, "two": {"b / c": {}, "c": {}}}
    config = load_config().replace({"experiment.factors": factors})
    with pytest.raises(UserError, match="two arms are called 'a / b / c': rename a level"):
        expand_arms(config)
    skip = [{"one": "a / b", "two": "c"}]
    assert len(expand_arms(config.replace({"experiment.skip": skip}))) == 3


def test_a_bad_setting_in_a_level_names_the_arm():
    config = load_config(None, ["experiment.factors={a: {b: {model.layer: [3]}}}"])
    with pytest.raises(UserError, match="arm b: unknown key 'model.layer'.*'model.layers'"):
        expand_arms(config)


def test_arms_share_their_seeds():
    for setting in ("training.seed: 3", "experiment.rate_grid: [0.1]", "experiment.seeds: 3"):
        config = load_config(None, [f"experiment.factors={{a: {{b: {{{setting}}}}}}}"])
        with pytest.raises(UserError, match=f"arm b: {setting.split(':')[0]}.* for all arms"):
            expand_arms(config)


def test_a_setting_that_no_arm_uses_is_named(tmp_path):
    path = write(tmp_path, EXPERIMENT + "  rate_grid: [0.1]\n")
    check_effective(load_config(path), ["model.dropout.input", "training.epochs"])
    with pytest.raises(UserError, match="model.layers has no effect: every level of .* width"):
        check_effective(load_config(path), ["training.epochs", "model.layers"])
    with pytest.raises(UserError, match="training.learning_rate has no effect: .*rate_grid"):
        check_effective(load_config(path), ["training.learning_rate"])
    check_effective(load_config(path, ["experiment.rate_grid=[]"]), ["training.learning_rate"])


def test_included_arms_match_an_entry_and_skipped_ones_do_too(tmp_path):
    include = "experiment.include=[{noise: '1'}, {noise: ['0', '1'], width: small}]"
    config = load_config(write(tmp_path, EXPERIMENT), [include])
    assert [arm.name for arm in expand_arms(config)] == ["0 / small", "1 / large"]


def test_entries_name_learning_rates_that_levels_set():
    factors = {"rate": {str(rate): {"training.learning_rate": rate} for rate in (0.1, 0.2)}}
    skip = {"experiment.factors": factors, "experiment.skip": [{"learning_rate": 0.1}]}
    config = load_config().replace(skip)
    assert not is_planned(config.experiment, {"rate": "0.1"}, learning_rate=0.1, seed=1)
    assert is_planned(config.experiment, {"rate": "0.2"}, learning_rate=0.2, seed=1)
    assert len(expand_arms(config)) == 2


def test_entries_name_learning_rates_and_seeds_of_runs(tmp_path):
    include = "experiment.include=[{noise: '0', seed: 1}, {noise: '1', learning_rate: [0.1, 0.2]}]"
    changes = [include, "experiment.skip=[{width: small, learning_rate: 0.1}]"]
    rates = "experiment.rate_grid=[0.1, 0.2, 0.3]"
    config = load_config(write(tmp_path, EXPERIMENT), [rates, *changes])
    assert len(expand_arms(config)) == 4  # each has a run
    planned = {
        (noise, width, rate, seed)
        for noise, width, rate, seed in itertools.product(
            "01", ["small", "large"], [0.1, 0.2, 0.3], [1, 2]
        )
        if is_planned(
            config.experiment, {"noise": noise, "width": width}, learning_rate=rate, seed=seed
        )
    }
    assert planned == {
        *itertools.product("0", ["large"], [0.1, 0.2, 0.3], [1]),
        *itertools.product("0", ["small"], [0.2, 0.3], [1]),
        *itertools.product("1", ["large"], [0.1, 0.2], [1, 2]),
        *itertools.product("1", ["small"], [0.2], [1, 2]),
    }


FACTORS = """
experiment:
  factors:
    bn: [none, hidden]
    noise: {"0": {}, "1": {model.dropout.input: .5}}
    depth: {set: model.layers, values: {1: [4], 2: [8, 4]}}
  compare:
"""


def generated(tmp_path, comparison):
    """Return the contrasts of one entry of experiment.compare, as (plus, minus) by name."""
    found = contrasts(load_config(write(tmp_path, FACTORS + f"    BN: {comparison}")).experiment)
    return {name: (contrast.plus, contrast.minus) for name, contrast in found.items()}


def test_an_effect_within_a_factor(tmp_path):
    assert generated(tmp_path, "{bn: [none, hidden], noise: '1', within: depth}") == {
        "BN, depth 1": (["hidden / 1 / 1"], ["none / 1 / 1"]),
        "BN, depth 2": (["hidden / 1 / 2"], ["none / 1 / 2"]),
    }


def test_effects_within_several_factors_and_some_of_their_levels(tmp_path):
    every = generated(tmp_path, "{bn: [none, hidden], within: [noise, depth]}")
    assert list(every) == [f"BN, noise {n}, depth {d}" for n in "01" for d in "12"]
    some = generated(tmp_path, "{bn: [none, hidden], within: {depth: ['2'], noise: ['0']}}")
    assert some == {"BN, depth 2, noise 0": (["hidden / 0 / 2"], ["none / 0 / 2"])}


def test_an_interaction_is_the_difference_of_two_effects(tmp_path):
    found = generated(tmp_path, "{bn: [none, hidden], noise: ['0', '1'], depth: '1'}")
    plus, minus = found["BN"]
    assert set(plus) == {"hidden / 1 / 1", "none / 0 / 1"}
    assert set(minus) == {"none / 1 / 1", "hidden / 0 / 1"}


@pytest.mark.parametrize(
    "comparison, words",
    [
        ("{bm: [none, hidden], within: [noise, depth]}", ["compare.BN", "'bm'", "'bn'"]),
        ("{bn: [none, hiden], within: [noise, depth]}", ["compare.BN.bn", "'hiden'", "'hidden'"]),
        ("{bn: [none, hidden], within: nois}", ["compare.BN", "'nois'", "'noise'"]),
        ("{bn: [none, hidden], within: {depth: ['3']}}", ["compare.BN.depth", "'3'"]),
        ("{bn: [none, hidden], within: depth}", ["compare.BN", "name noise, too"]),
        ("{bn: none, within: [noise, depth]}", ["compare.BN", "two levels"]),
        ("{bn: [none, none], within: [noise, depth]}", ["compare.BN.bn", "two levels"]),
        ("{bn: [none, hidden], noise: '0', within: [noise, depth]}", ["BN.noise", "within"]),
    ],
)
def test_bad_comparisons_are_named(tmp_path, comparison, words):
    config = load_config(write(tmp_path, FACTORS + f"    BN: {comparison}"))
    with pytest.raises(UserError) as error:
        expand_arms(config)
    for word in words:
        assert word in str(error.value)


CONFIGS = sorted(ROOT.glob("configs/*.yaml"))
RESULTS = [path for path in CONFIGS if (ROOT / "results" / path.stem).is_dir()]


@pytest.fixture(scope="module")
def record():
    return Record(ROOT / "results" / "record")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_run_of_a_config_is_published(path, record):
    assert [run.arm for run in planned(path, record) if run.identity not in record.lines] == []


def test_every_recorded_run_is_of_a_config(record):
    asked = {run.identity for path in CONFIGS for run in planned(path, record)}
    assert [line["config"] for run, line in record.lines.items() if run not in asked] == []


def planned(path, record) -> list:
    """Return all runs that a config asks for."""
    config = load_config(path)
    first = config.training.seed
    seeds = range(first, first + config.experiment.seeds)
    return plan_runs(config, seeds, ROOT / "results", record, reading=False)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_committed_results_are_those_of_the_config_and_the_record(path, record):
    """A config still describes the runs that were made with it."""
    written = io.StringIO()
    recorded_table(load_config(path), record).to_csv(written, index=False)
    committed = (ROOT / "results" / path.stem / "results.csv").read_text(encoding="utf-8")
    assert committed == written.getvalue()
