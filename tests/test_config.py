"""Reading configs: defaults, protocols, overrides, levels, and errors of one line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ae_bn.config import Config, _keys, complete, load_config
from ae_bn.errors import UserError
from ae_bn.study.arms import expand_arms

CONFIGS = sorted(Path(__file__).resolve().parent.parent.glob("configs/*.yaml"))


def write(tmp_path, text) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_file_over_defaults_and_overrides_over_both(tmp_path):
    path = write(tmp_path, "training: {epochs: 7, patience: 2}\nmodel: {dropout: {input: .1}}\n")
    config = load_config(path, ["training.epochs=9", "model.layers=[8, 4]"])
    assert (config.training.epochs, config.training.patience) == (9, 2)
    assert (config.model.dropout.input, config.model.dropout.hidden) == (0.1, 0.0)
    assert config.model.layers == [8, 4]
    assert config.training.learning_rate == load_config().training.learning_rate


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path):
    config = load_config(path)
    assert config.experiment.name == path.stem
    assert len(expand_arms(config)) > 1 or path.stem in ("recommended", "references", "closed_form")


def test_numbers_of_yaml_1_2():
    """Exponents without a dot are numbers, and on and off are not booleans."""
    config = load_config(None, ["training.learning_rate=1e-4"])
    assert config.training.learning_rate == 1e-4
    with pytest.raises(UserError, match="model.tied"):
        load_config(None, ["model.tied=off"])


@pytest.mark.parametrize(
    "override, words",
    [
        ("model.dropuot.input=.3", ["model.dropuot.input", "'model.dropout.input'"]),
        ("modell.tied=true", ["modell.tied", "'model.tied'"]),
        ("training.epoch=3", ["training.epoch", "'training.epochs'"]),
        ("model.batch_norm.hiden=true", ["model.batch_norm.hiden", "'model.batch_norm.hidden'"]),
        ("training.epochs=1.5", ["training.epochs", "1.5"]),
        ("training.epochs=true", ["training.epochs", "True"]),
        ("training.learning_rate=-1", ["training.learning_rate", "-1"]),
        ("training.learning_rate=.inf", ["training.learning_rate", "inf"]),
        ("model.dropout.hidden=1", ["model.dropout.hidden", "1"]),
        ("model.hidden_activation=relo", ["model.hidden_activation", "relo", "'relu'"]),
        ("model.layers=[]", ["model.layers"]),
        ("model.layers=[0]", ["layers"]),
        ("model.loss=[", ["model.loss=[", "YAML"]),
        ("model=3", ["model", "3"]),
        ("model.output_activation=relu", ["cross_entropy", "output_activation"]),
        ("model.hidden_activation=softmax", ["model.hidden_activation", "softmax"]),
        ("model.loss=multinomial", ["multinomial", "output_activation softmax"]),
        ("data.source=folder", ["folder"]),
        ("experiment.seeds=0", ["experiment.seeds", "0"]),
        ("experiment.name=../up", ["experiment.name"]),
        ("epochs", ["--set epochs", "section.key=value"]),
    ],
)
def test_a_bad_override_is_one_line_that_names_it(override, words):
    with pytest.raises(UserError) as error:
        load_config(None, [override])
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            ["batch_norm.over=units", "batch_norm.gradient=rate_per_unit"],
            ["over units", "gradient full"],
        ),
        (["batch_norm.over=units", "batch_norm.top=true", "sampling=9"], ["over units", "null"]),
        (["competition={k: 3, alpha: 1.0}"], ["competition", "hidden_activation tanh"]),
        (
            ["competition={k: 200, alpha: 1.0}", "hidden_activation=tanh"],
            ["competition.k", "128"],
        ),
        (["loss=multinomial", "output_activation=softmax", "sampling=9"], ["multinomial", "null"]),
    ],
)
def test_settings_that_exclude_each_other_are_one_line(overrides, words):
    with pytest.raises(UserError) as error:
        load_config(None, [f"model.{override}" for override in overrides])
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("trainig: {epochs: 3}", ["config.yaml", "trainig", "'training'"]),
        ("dropout: {input: .1}", ["'dropout'", "'model.dropout'"]),
        ("training: {epochs: 3, epochs: 4}", ["config.yaml", "line 1", "duplicate key"]),
        ("- a\n- b", ["config.yaml", "sections"]),
        ("a: [1\nb: 2", ["config.yaml", "YAML", "line"]),
        ("a: !!python/object/apply:os.system ['true']", ["config.yaml"]),
        ("training.epochs: 3", ["config.yaml", "'training.epochs'", "training: {epochs: ...}"]),
        ("model.dropout.input: 0", ["model: {dropout: {input: ...}}"]),
        ("model: {dropout.input: 0}", ["'dropout.input'", "write dropout: {input: ...}"]),
        ("model.batch_norm: {hidden: false}", ["model: {batch_norm: ...}"]),
        ("training.epoch: 3", ["unknown key 'training.epoch'", "'training.epochs'"]),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "training:\n#  epochs: 3\n",
        "model:\n  batch_norm:\n  dropout:\nexperiment:\n  factors:\n  report: ~\n",
        "# all of it\n",
    ],
)
def test_an_empty_section_is_the_defaults(tmp_path, text):
    assert load_config(write(tmp_path, text)) == load_config(None, ["experiment.name=config"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="latin.yaml"):
        load_config(tmp_path / "latin.yaml")


def test_the_name_of_an_experiment_is_that_of_its_file(tmp_path):
    path = write(tmp_path, "training: {epochs: 3}")
    assert load_config(path).experiment.name == "config"
    path = write(tmp_path, "experiment: {name: other}")
    assert load_config(path).experiment.name == "other"
    assert load_config(path, ["experiment.name=third"]).experiment.name == "third"


@pytest.mark.parametrize("name", ["runs", "Record", "answers", "x" * 101, "a/b", "..", ""])
def test_a_name_that_no_folder_of_results_can_have(name):
    with pytest.raises(UserError, match="experiment.name"):
        load_config(None, [f"experiment.name={name}"])


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0b", "x" * 101])
def test_a_name_that_no_level_or_factor_can_have(name, tmp_path):
    for factors in ({"noise": {name: {}, "some": {}}}, {name: {"none": {}}}):
        text = json.dumps({"experiment": {"factors": factors}})
        with pytest.raises(UserError, match="cannot be the name of a factor or level|not valid"):
            load_config(write(tmp_path, text))


def test_protocols_lie_under_the_file(tmp_path):
    config = load_config(write(tmp_path, "use: [path]\nexperiment: {seeds: 7}"))
    assert (config.experiment.seeds, config.experiment.keep_models) == (7, False)
    both = load_config(write(tmp_path, "use: [path, two losses]"))
    names = [figure.file_name for figure in both.experiment.report.figures]
    assert names == ["paths_cross_entropy.png", "paths_squared_error.png"]
    assert both.experiment.seeds == 8


@pytest.mark.parametrize(
    "text, words",
    [
        ("use: [pth]", ["config.yaml", "use", "'pth'", "'path'"]),
        ("use: path", ["config.yaml", "use", "list of names"]),
        ("use: [[path]]", ["config.yaml", "use", "list of names"]),
    ],
)
def test_bad_protocols_are_named(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    for word in words:
        assert word in str(error.value)


def factors(text):
    return load_config(None, [f"experiment.factors={text}"]).experiment.factors


def test_levels_that_experiments_share():
    both = {"model.batch_norm.hidden": True, "model.batch_norm.top": True}
    assert factors("{bn: [hidden + output]}") == {"bn": {"hidden + output": both}}
    other = {"model.tied": True}
    mixed = factors("{bn: {other: {model.tied: true}, hidden + output: }}")
    assert mixed == {"bn": {"other": other, "hidden + output": both}}


def test_levels_with_values():
    depth = factors("{depth: {set: model.layers, values: {1: [8], 2: [9, 8]}}}")["depth"]
    assert depth == {"1": {"model.layers": [8]}, "2": {"model.layers": [9, 8]}}
    rate = factors("{rate: {set: training.learning_rate, values: [0.01, 2]}}")["rate"]
    assert rate == {"0.01": {"training.learning_rate": 0.01}, "2": {"training.learning_rate": 2}}


def test_levels_written_out_are_written_out_again():
    config = load_config(
        None, ["experiment.factors={bn: [none], x: {set: model.tied, values: [true]}}"]
    )
    assert config.replace({"training.epochs": 3}).experiment.factors == config.experiment.factors


@pytest.mark.parametrize(
    "text, words",
    [
        ("{bn: [none, hiden]}", ["experiment.factors", "'hiden' of bn", "'hidden'"]),
        ("{bm: [none]}", ["experiment.factors", "'none' of bm", "no settings"]),
        ("{bn: [[none]]}", ["experiment.factors.bn"]),
        ("{x: {set: [a], values: [1]}}", ["experiment.factors.x.set"]),
        ("{bn: 3}", ["experiment.factors.bn"]),
    ],
)
def test_bad_levels_are_named(text, words):
    with pytest.raises(UserError) as error:
        factors(text)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "path", ["texts #2", "/a/b #c/d", "2024", "a: b", "[x", "~", "yes", "'quoted", "x # y = z", " "]
)
def test_paths_in_overrides_are_taken_as_they_are(path):
    config = load_config(None, ["data.source=folder", f"data.folder={path}"])
    assert config.data.folder == path
    assert load_config(None, ["data.source=table", f"data.file={path}"]).data.file == path


@pytest.mark.parametrize("nothing", ["", "null"])
def test_no_path_in_an_override(nothing):
    folder = ["data.source=folder", "data.folder=texts"]
    config = load_config(None, [*folder, f"data.folder={nothing}", "data.source=auto"])
    assert config.data.folder is None


def test_encodings():
    assert load_config(None, ["data.encoding=cp1252"]).data.encoding == "cp1252"
    for name in ("latin-99", "hex", "\0"):
        with pytest.raises(UserError, match="data.encoding: unknown encoding"):
            load_config(None, [f"data.encoding={name}"])


def test_settings_of_an_earlier_version_are_completed():
    settings = load_config().run_settings()
    del settings["data"]["encoding"]
    settings["model"]["layers"] = [3]
    config = complete(settings)
    assert config.data.encoding == "utf-8" and config.model.layers == [3]


# Whatever is written into a config, the answer is a config or one line.

KEYS = st.sampled_from(_keys(Config))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(), st.binary()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(KEYS, st.text(), st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=12,
)
BOMB = "\n".join(
    ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    + [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij")]
)
EASY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def dumped(tree) -> str:
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(tree, stream)
    return stream.getvalue()


def only_one_line(*arguments):
    try:
        expand_arms(load_config(*arguments))
    except UserError as error:
        assert len(str(error).splitlines()) <= 1 and len(str(error)) < 1000


@EASY
@given(st.text())
@example("[" * 10_000)
@example("{a: " * 5_000)
@example(BOMB)
@example("model: &m {model: *m}")
@example("training: {epochs: 0x" + "f" * 5000 + "}")
@example("training: {epochs: " + "9" * 5000 + "}")
@example('experiment: {factors: {"\\uD800": {"\\uDC00": {}}}}')
@example("? [a, {b: c}]\n: d")
@example("model: !!set {layers}")
@example("data: {folder: !!binary AAAA}")
@example("experiment: {factors: {a: {b: {training.seed: 2001-01-01}}}}")
@example("%YAML 9.9\n---\na: b")
@example("a: 1\n---\nb: 2")
@example("\x00")
def test_any_text_is_a_config_or_one_line(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    only_one_line(path)


@EASY
@given(st.dictionaries(st.one_of(KEYS, st.text()), TREES, max_size=4))
def test_any_tree_is_a_config_or_one_line(tmp_path, tree):
    path = tmp_path / "config.yaml"
    path.write_bytes(dumped(tree).encode("utf-8", "surrogatepass"))
    only_one_line(path)


@EASY
@given(st.one_of(KEYS, st.text()), st.one_of(st.text(), TREES.map(dumped)))
@example("..", "1")
@example("experiment.factors.a\nb", "1")
@example("experiment.factors", '{a: {"b\\nc": {model.x: 1}}}')
@example("model.layers", BOMB)
@example("\ud800", "\ud800")
def test_any_override_is_a_config_or_one_line(key, value):
    only_one_line(None, [f"{key}={value}"])
