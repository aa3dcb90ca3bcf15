"""`experiments/run.py` from end to end, on a small folder of documents and on real data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from conftest import recorded_curves

from ae_bn import Encoder
from ae_bn.commands import run as run_experiment
from ae_bn.commands.command_line import run_program
from ae_bn.commands.run import overview
from ae_bn.config import ReferenceConfig, load_config
from ae_bn.data.corpus import split_validation
from ae_bn.errors import UserError
from ae_bn.files import read_json, write_json
from ae_bn.model.model_file import read_model
from ae_bn.randomness import streams
from ae_bn.reporting.curves import curves_table
from ae_bn.reporting.tables import write_report
from ae_bn.study.perform import perform
from ae_bn.study.plan import _identity, _without_nulls, plan_runs
from ae_bn.study.record import Record
from ae_bn.study.results import results_table
from ae_bn.study.sweep import attempt

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SHARED_COPY = REPOSITORY.parent / "shared" / "scikit_learn_data"


def run(*arguments):
    """Return the finished process of `experiments/run.py` with arguments, in NumPy."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "experiments" / "run.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "THEANO_FLAGS": f"{os.environ['THEANO_FLAGS']},mode=FAST_COMPILE",
        },
    )


def listed(capsys, *arguments) -> str:
    """Return what `experiments/run.py --dry-run` prints."""
    assert run_experiment.main([*map(str, arguments), "--dry-run"]) == 0
    return capsys.readouterr().out


def metrics_of(runs):
    """Return what must be repeatable of the metrics: all but the time."""
    return results_table(runs).drop(columns=["seconds", "run"])


def test_from_config_to_table(config_file, tmp_path):
    out = tmp_path / "out"
    done = run("--config", config_file, "--seeds", "2", "--jobs", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    results = pd.read_csv(out / "small" / "results.csv")
    assert len(results) == 2 * (4 * 4 + 2)  # four snapshots of each arm
    assert set(results["status"]) == {"finished"}
    assert results["probe_accuracy"].between(0, 1).all()
    assert results.loc[results["bn"].notna(), "test_loss"].between(0, 20).all()
    table = (out / "small" / "table.md").read_text()
    assert table in done.stdout
    for arm in ("raw TF-IDF", "truncated SVD", "off / none", "on / input", "gain"):
        assert f"| {arm}" in table
    for figure in ("metrics", "learning_curves"):
        assert (out / "small" / f"{figure}.png").stat().st_size > 1000

    directory = out / "runs" / results.loc[results["arm"] == "on / input", "run"].iloc[0]
    written = json.loads((directory / "run.json").read_text())
    assert written["config"]["model"]["dropout"]["input"] == 0.3
    assert written["seed"] == written["config"]["training"]["seed"] == 1
    assert len(written["data"]["fingerprint"]) == 64
    assert written["data"]["source"].startswith("folder")
    assert written["versions"]["Theano-PyMC"] == "1.1.2"
    history = pd.DataFrame(read_json(directory / "metrics.json")["history"])
    assert list(history["epoch"]) == [1, 2, 3] and np.isfinite(history.to_numpy()).all()
    record = Record(out / "record")
    figures = load_config(config_file).experiment.report.figures
    curves = curves_table(results, record, figures).set_index(["arm", "curve"]).sort_index()
    both = results.loc[results["arm"] == "on / input", "run"].unique()
    losses = [read_json(out / "runs" / name / "metrics.json")["history"]["valid_loss"]
              for name in both]  # fmt: skip
    expected = curves.loc["on / input", "valid_loss"]
    np.testing.assert_allclose(expected["mean"], np.mean(losses, axis=0), rtol=1e-5)
    assert list(expected["x"]) == [1, 2, 3] and list(expected["n"]) == [2, 2, 2]
    assert set(curves.loc["on / input"].index) == {"valid_loss"}  # what the figures show

    model = safetensors.numpy.load_file(directory / "model.safetensors")
    assert model["layer1.W"].shape == (len(model["layer2.b"]), 5)
    assert np.isfinite(model["layer1.mean"]).all()

    # Asked again, nothing is done again; a third seed adds only its own runs.
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.json")}
    again = run("--config", config_file, "--jobs", "1", "--out", out)
    assert again.returncode == 0, again.stderr
    assert "12 of 18 runs are finished already" in again.stdout
    after = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.json")}
    assert len(after) == 18 and before.items() <= after.items()


def test_curves_of_seeds_that_stop_at_different_epochs(config_file, tmp_path):
    """n falls; a further column of the history and the spectra are curves, too."""
    config = load_config(config_file, ["experiment.references=[]", "experiment.skip=[{bn: 'on'}]"])
    config = config.replace({"experiment.compare": {}})
    runs = [run for run in plan_runs(config, [1, 2, 3], tmp_path) if run.arm == "off / none"]
    for run, epochs in zip(runs, (3, 1, 2)):
        epoch = np.arange(1, epochs + 1)
        history = {"epoch": epoch.tolist(), "z1_p50": (run.seed * epoch).tolist()}
        run.directory.mkdir(parents=True)
        spectra = {"density": {"x": [0, run.seed], "y": [1.0, 0.0]}}
        metrics = {"status": "finished", "files": {}, "history": history, "spectra": spectra}
        write_json(run.directory / "metrics.json", metrics)
    curves = recorded_curves(runs, tmp_path).set_index("curve")
    assert list(curves.loc["z1_p50", "n"]) == [3, 2, 1]
    np.testing.assert_allclose(curves.loc["z1_p50", "mean"], [2, 4, 3])
    np.testing.assert_allclose(curves.loc["density", "x"], [0, 2])
    assert set(curves.index) == {"z1_p50", "density"} and set(curves["arm"]) == {"off / none"}


def test_references_do_not_saturate(config_file, tmp_path):
    """The arms' activation is none of theirs; sparse codes have been tripped over, too."""
    config = load_config(config_file, ["model.hidden_activation=sigmoid"])
    for run in plan_runs(config, [1], tmp_path)[:2]:
        assert run.reference
        perform(run)
        metrics = run.read_metrics()["snapshots"][""]
        assert metrics["saturated"] is None
        assert 0 < metrics["probe_accuracy"] <= 1


def test_dry_run_lists_and_does_nothing(config_file, tmp_path, capsys):
    printed = listed(capsys, "--config", config_file, "--seeds", "5,9", "--out", tmp_path / "out")
    rows = [line.split() for line in printed[printed.index("to do") :].splitlines()]
    assert rows[0] == "to do done seeds learning rates arm".split() and len(rows) == 10
    assert rows[1][:4] == ["2", "0", "5,9", "-"] and rows[3][:3] == ["2", "0", "5,9"]
    assert "12 runs: 0 finished or recorded, 12 to do; none is done" in printed
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_the_time_that_is_left(config_file, tmp_path):
    config = load_config(config_file, ["experiment.rate_grid=[0.1, 0.2]"])
    runs = plan_runs(config, [1, 2, 3], tmp_path)
    trained = [run for run in runs if not run.reference]
    arm = trained[0].arm

    class Known:
        def results(self, identity):
            done = [run.identity for run in trained if run.arm == arm and run.seed < 3]
            return {"seconds": 300.0} if identity in done else None

    shown = overview(runs, Known(), 2).splitlines()
    row = next(line for line in shown if line.endswith(arm)).split()
    assert row[:5] == ["2", "4", "1-3", "0.1", "0.2"]
    left = (len(trained) - 4) * 300 / 2 / 60
    assert f"{len(runs) - 4} to do, about {left:.0f} minutes with 2 processes" in shown[-1]


def test_a_plan_needs_no_documents_that_the_record_knows(config_file, tmp_path, monkeypatch):
    settings = ["data.source=sklearn", "data.folder=null", "experiment.references=[tfidf]"]
    config = load_config(config_file, settings)
    data = {**config.data.model_dump(), "encoding": "latin-1"}
    del data["stem"]  # a file of before there was this setting
    counts = {**data, "input": "as_is"}
    record = Record(tmp_path / "none")
    for number, each in enumerate((data, counts)):
        documents = {"source": "sklearn cache", "fingerprint": "ab"[number] * 64}
        line = {"run": str(number), "seed": 1, "config": {"data": each}, "data": documents}
        record.add([line], "x")
    monkeypatch.setattr("ae_bn.study.corpora._prepare", None)
    runs = plan_runs(config, [1], tmp_path, record)
    assert [run.data_fingerprint[0] for run in runs] == ["b", *"a" * (len(runs) - 1)]
    assert runs[0].corpus is None and runs[0].source == "sklearn cache"

    # Documents that are neither recorded nor here are those of runs that are to do.
    def missing(data):
        asked.append(data)
        raise UserError("no network")

    asked: list = []
    monkeypatch.setattr("ae_bn.study.corpora._prepare", missing)
    other = config.replace({"data.vocabulary_size": 7})
    runs = plan_runs(other, [1], tmp_path, record)
    assert {(run.source, run.data_fingerprint) for run in runs} == {("unknown", "")}
    assert len(asked) == 1
    with pytest.raises(UserError, match="no network"):
        plan_runs(other, [1], tmp_path)
    for change in ({"source": "auto"}, {"vocabulary_size": 7}):
        assert record.documents(config.data.model_copy(update=change)) is None
    asked.clear()
    runs = plan_runs(other, [1], tmp_path, record, reading=False)
    assert {(run.source, run.data_fingerprint) for run in runs} == {("unknown", "")} and not asked


def test_seeds_count_up_from_the_first(config_file, tmp_path, capsys):
    settings = ["training.seed=40", "experiment.references=[]"]
    printed = listed(capsys, "--config", config_file, "--set", *settings, "--out", tmp_path)
    assert printed.count("  40-42  ") == 4


def test_a_list_may_have_one_seed(config_file, tmp_path, capsys):
    settings = ["experiment.references=[]", "--seeds", "7,"]
    printed = listed(capsys, "--config", config_file, "--out", tmp_path, "--set", *settings)
    assert printed.count("  7      ") == 4


def test_same_seed_same_numbers_alone_or_after_others(config_file, tmp_path):
    """A run's numbers do not depend on what the process did before, with compiled code reused."""
    config = load_config(config_file, ["experiment.references=[]"])
    first = plan_runs(config, [1, 2], tmp_path / "first")
    for one in first:
        perform(one)
    second = plan_runs(config, [2], tmp_path / "second")
    for one in reversed(second):
        perform(one)
    expected = metrics_of([one for one in first if one.seed == 2]).reset_index(drop=True)
    pd.testing.assert_frame_equal(metrics_of(second), expected)
    lowest = metrics_of(first).query("snapshot == 'loss'")
    assert len(lowest) == lowest["test_loss"].nunique() == 8


def test_toggling_dropout_changes_nothing_else(config_file, tmp_path):
    """Rate 0, written out, is the same run as no dropout; another rate is another run."""
    config = load_config(config_file, ["experiment.references=[]"])
    explicit = config.replace({"model.dropout.hidden": 0.0})
    other = config.replace({"model.dropout.hidden": 0.1})
    names = [
        [r.directory.name for r in plan_runs(c, [1], tmp_path)] for c in (config, explicit, other)
    ]
    assert names[0] == names[1]
    assert not set(names[0]) & set(names[2])


def test_what_decides_the_numbers_names_the_run(config_file, tmp_path):
    def names(*settings):
        config = load_config(config_file, settings)
        runs = plan_runs(config, [1], tmp_path)
        return {run.directory.name for run in runs if not run.reference}

    unrelated = ["experiment.report.metrics=[probe_accuracy]", "experiment.name=other"]
    assert names() == names(*unrelated, "training.checkpoint_epochs=1")
    for setting in (
        "training.epochs=4",
        "model.batch_norm.epsilon=1e-4",
        "data.vocabulary_size=20",
        "data.validation_fraction=.3",
        "evaluation.softmax_probe=true",
    ):
        assert not names(setting) & names(), setting


def leaves(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_every_setting_of_a_run_names_it_but_how_often_it_is_saved():
    """Data are in the identity by their fingerprint; the share held out is not in that."""
    others = {"model.hidden_activation": "relu", "training.optimizer": "sgd"}
    others.update({"model.loss": "squared_error", "theano.kernels": "symbolic"})
    others.update({"model.output_start": "plain", "model.batch_norm.gradient": "constant"})
    others.update({"training.observe_steps": 5, "model.sampling": 5})
    others["training.plateau"] = dict(factor=0.5, patience=2)
    others["model.batch_norm.over"] = "units"
    start = {"model.loss": "squared_error", "model.hidden_activation": "relu"}
    start["model.output_activation"] = "linear"
    multinomial = {"model.loss": "multinomial", "model.output_activation": "softmax"}
    needed = {  # by settings that need another model
        "model.denoiser_start": (start, dict(masking=0.9, offset=0.5)),
        "model.topics": (multinomial, dict(number=5, alpha=1.0, heads=None)),
    }
    curvature = dict(epochs=[0], documents=100, eigenvalues=1, draws=1, steps=10)
    others["evaluation.curvature"] = curvature
    others["evaluation.topic_words"] = True
    others["model.competition"] = dict(k=8, alpha=6.26)
    config = load_config(None, ["model.hidden_activation=tanh"])
    identity = _identity(config, None, "data")
    same = set()
    for key, value in leaves(config.run_settings()):
        if key in needed:
            settings, other = needed[key]
            changed = config.replace({**settings, key: other})
            assert _identity(changed, None, "data") != _identity(
                config.replace(settings), None, "data"
            )
            continue
        if key == "model.output_activation":  # needs another loss too
            changed = config.replace({key: "linear", "model.loss": "squared_error"})
            assert _identity(changed, None, "data") != _identity(
                config.replace({"model.loss": "squared_error"}), None, "data"
            )
            continue
        if key in others:
            other = others[key]
        elif isinstance(value, bool):
            other = not value
        elif isinstance(value, list) and value and not isinstance(value[0], str):
            other = [*value, value[-1]]
        elif isinstance(value, int):
            other = value + 1
        elif isinstance(value, float):
            other = value / 2 + 0.01
        else:
            assert key.startswith("data.")
            continue
        if _identity(config.replace({key: other}), None, "data") == identity:
            same.add(key)
    assert same == {"training.checkpoint_epochs", "data.vocabulary_size", "data.test_fraction"}
    assert _identity(config, None, "other data") != identity
    assert _identity(config, ReferenceConfig(kind="svd"), "data") != identity


def test_the_defaults_keep_their_hash():
    """A change of a default would change what finished runs are known by."""
    assert _identity(load_config(), None, "data").startswith("a51bac8ea0b9a3a9")


def test_an_arm_may_not_be_called_as_a_reference(config_file, tmp_path):
    factors = {"which": {"truncated SVD": {}, "other": {}}}
    config = load_config(config_file).replace(
        {"experiment.factors": factors, "experiment.compare": {}}
    )
    with pytest.raises(UserError, match="two arms are called 'truncated SVD'"):
        plan_runs(config, [1], tmp_path)
    plan_runs(config.replace({"experiment.references": []}), [1], tmp_path)


def test_a_factor_may_not_hide_a_column(config_file, tmp_path):
    config = load_config(config_file).replace(
        {"experiment.factors": {"seed": {"1": {}}}, "experiment.compare": {}}
    )
    with pytest.raises(UserError, match="experiment.factors.seed"):
        plan_runs(config, [1], tmp_path)


def test_diverged_runs_are_kept(run_in_numpy, config_file, tmp_path):
    config = load_config(
        config_file,
        [
            "experiment.factors={bn: {plain: {model.batch_norm.hidden: false}}}",
            "experiment.references=[]",
            "experiment.compare={}",
            "training.optimizer=sgd",
            "training.learning_rate=1e30",
            "model.loss=squared_error",
            "model.output_activation=linear",
        ],
    )
    runs = plan_runs(config, [1], tmp_path)
    perform(runs[0])
    row = results_table(runs).set_index("snapshot").loc["last"]
    assert row["status"] == "diverged" and row["test_loss"] == np.inf
    for metric in ("probe_accuracy", "centred_precision"):
        assert 0.2 < row[metric] < 0.5  # chance: a third
    assert runs[0].finished and not list(runs[0].directory.glob("*.safetensors"))
    with pytest.raises(UserError, match="holds no model.safetensors"):
        read_model(runs[0].directory)


def test_a_run_of_a_topic_model(float32, folder, tmp_path):
    """Its results have the measures of topics, and its file the topics of new texts."""
    settings = ["data.source=folder", f"data.folder={folder}", "model.layers=[8]"]
    settings += ["training.batch_size=20", "training.epochs=2", "training.path_epochs=1"]
    settings += ["experiment.keep_models=true", "theano.kernels=symbolic"]
    settings += ["experiment.references=[]"]
    settings += ["experiment.factors.corpus={own: {data.source: folder}}"]
    settings += ["experiment.factors.topics={few: {model.topics.number: 3}}"]
    include = {"heads": "BN", "output": "shift and scale", "dropout": "none"}
    config = load_config("configs/topics.yaml", [*settings, f"experiment.include=[{include}]"])
    runs = plan_runs(config.replace({"experiment.rate_grid": []}), [1], tmp_path)
    perform(runs[0])
    table = results_table(runs).set_index("snapshot")
    assert table.loc["last", "active_topics"] <= 3 and 0 < table.loc["last", "unique_words"] <= 1
    assert table["npmi"].between(-1, 1).all() and (table["perplexity"] > 1).all()
    theta = Encoder.load(runs[0].directory / "model.safetensors").transform(["ax bx", "kz"])
    np.testing.assert_allclose(theta.sum(axis=1), 1, rtol=1e-5)


def test_the_rows_of_an_autoencoder_are_measured_as_topics(float32, folder, tmp_path):
    settings = ["data.source=folder", f"data.folder={folder}", "model.layers=[8]"]
    settings += ["training.batch_size=20", "training.epochs=2", "theano.kernels=symbolic"]
    settings += ["experiment.include=[{bn: output, masking: none}]", "experiment.rate_grid=[]"]
    runs = plan_runs(load_config("configs/topics_plain.yaml", settings), [1], tmp_path)
    perform(runs[0])
    table = results_table(runs).set_index("snapshot")
    assert table["npmi"].between(-1, 1).all() and table["unique_words"].between(0, 1).all()
    assert "perplexity" not in table or table["perplexity"].isna().all()  # it is no topic model


@pytest.fixture
def rare(tmp_path):
    """Return a config of documents with two labels, one of a single document, and two seeds.

    With the first seed that document is held out, with the second it is trained on.
    """
    rng = np.random.default_rng(0)
    rows = [
        (
            "test" if number % 4 == 0 else "train",
            "rare" if number == 1 else "usual",
            " ".join(rng.choice(["gull", "heron", "ship", "tide", "sail", "reef"], size=9)),
        )
        for number in range(60)
    ]
    table = pd.DataFrame(rows, columns=["part", "label", "text"])
    table.to_csv(tmp_path / "rare.csv", index=False)
    settings = ["data.source=table", f"data.file={tmp_path / 'rare.csv'}", "model.layers=[4]"]
    settings += ["training.batch_size=10", "training.epochs=2", "experiment.references=[svd]"]
    config = load_config(None, settings)
    held_out = [
        0 in split_validation(45, config.data.validation_fraction, streams(seed).split)[1]
        for seed in range(1, 50)
    ]
    return config, [1 + held_out.index(True), 1 + held_out.index(False)]


def test_a_rare_label_costs_only_the_metrics_of_labels(rare, tmp_path):
    config, (without, with_both) = rare
    runs = plan_runs(config, [without, with_both], tmp_path)
    for one in runs:
        assert attempt(one) == "done"
    table = results_table(runs)
    assert set(table["status"]) == {"finished"} and "reason" not in table
    trained = table[table["learning_rate"].notna()].set_index(["seed", "snapshot"])
    assert np.isfinite(trained.loc[[(without, "loss"), (without, "last")], "test_loss"]).all()
    for metric in ("probe_accuracy", "raw_precision"):
        assert table.loc[table["seed"] == without, metric].isna().all()
        assert table.loc[table["seed"] == with_both, metric].notna().any()
    assert len(trained.loc[with_both]) == 4 and len(trained.loc[without]) == 2
    curves = recorded_curves(runs, tmp_path)
    assert "valid_loss" in set(curves["curve"])
    for snapshot in ("loss", "accuracy"):
        shown = config.replace({"experiment.report.snapshot": snapshot}).experiment
        text = write_report(table, curves, shown, tmp_path)
        assert "| run" in text and "Not drawn" not in text


def test_what_fails_after_training_costs_only_itself(
    run_in_numpy, config_file, tmp_path, monkeypatch
):
    """A probe, the curvature and a figure."""
    settings = [
        "experiment.factors={}",
        "experiment.references=[svd]",
        "experiment.compare={}",
        "evaluation.curvature={epochs: [0], documents: 20, eigenvalues: 1, draws: 1, steps: 5}",
    ]
    runs = plan_runs(load_config(config_file, settings), [1], tmp_path)

    def fail(*arguments, **options):
        raise np.linalg.LinAlgError("no convergence")

    monkeypatch.setattr("ae_bn.evaluation.codes.ridge_accuracy", fail)
    monkeypatch.setattr("ae_bn.evaluation.curvature.top_eigenvalues", fail)
    for one in runs:
        assert attempt(one) == "done"
    table = results_table(runs)
    assert set(table["status"]) == {"finished"} and "probe_accuracy" not in table
    measured = table[table["snapshot"].isna() | (table["snapshot"] == "loss")]
    for metric in ("raw_precision", "centred_precision", "mean_share"):
        assert measured[metric].notna().all()
    reference, trained = measured["reason"]
    probe = "probe_accuracy could not be measured (LinAlgError('no convergence'))"
    assert reference == probe and trained == f"{probe}; curvature{probe[len('probe_accuracy') :]}"
    assert np.isfinite(measured["test_loss"].iloc[1])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        ([], ["--config"]),
        (
            ["--config", "CONFIG", "--set", "training.epoch=1"],
            ["training.epoch", "training.epochs"],
        ),
        (["--config", "CONFIG", "--set", "data.folder=/nowhere"], ["/nowhere"]),
        (["--config", "CONFIG", "--seeds", "x"], ["--seeds x"]),
        (["--config", "CONFIG", "--seeds", "0"], ["--seeds 0"]),
        (["--config", "CONFIG", "--seeds", "2,2"], ["--seeds 2,2"]),
        (["--config", "CONFIG", "--jobs", "0"], ["--jobs 0"]),
        (["--config", "CONFIG", "--set", "training.batch_size=1000"], ["training.batch_size"]),
        (["--config", "CONFIG", "--jbos", "2"], ["--jbos"]),
        (
            ["--config", "CONFIG", "--set", "experiment.rate_grid=[.1, 1e-1]"],
            ["rate_grid", "0.1 is listed twice"],
        ),
        (
            [
                "--config",
                "CONFIG",
                "--set",
                "experiment.rate_grid=[.1]",
                "training.learning_rate=1",
            ],
            ["training.learning_rate has no effect", "rate_grid"],
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    config_file, tmp_path, arguments, words, monkeypatch, capsys
):
    arguments = [str(config_file) if argument == "CONFIG" else argument for argument in arguments]
    arguments += [] if "--jobs" in arguments else ["--jobs", "1"]
    arguments += ["--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as exit:
        run_program(run_experiment.main, "")
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert exit.value.code == 2 and len(errors) == 1
    for word in words:
        assert word in errors[0]
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--debug"])
    with pytest.raises(UserError):
        run_program(run_experiment.main, "")


def test_a_mistake_of_the_whole_program(config_file, tmp_path):
    arguments = ["--config", config_file, "--seeds", "x", "--out", tmp_path]
    done = run(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: --seeds x") and done.stderr.count("\n") == 1


def test_what_is_not_used_is_not_in_the_identity():
    config = load_config()
    assert config.training.observe_steps is None
    tree = config.model_dump(include={"model", "training", "theano"})
    del tree["training"]["observe_steps"]
    assert _without_nulls(config.model_dump(include={"model", "training", "theano"})) == (
        _without_nulls(tree)
    )


def test_observations_and_gap(run_in_numpy, config_file, tmp_path):
    config = load_config(config_file, ["training.observe_steps=4"])
    runs = [run for run in plan_runs(config, [1], tmp_path) if run.arm == "on / input"]
    perform(runs[0])
    observations = pd.DataFrame(runs[0].read_metrics()["observations"])
    assert list(observations["step"]) == [0, 4, 8, 12, 16, 20]  # 3 epochs of 7 steps
    assert np.isfinite(observations.to_numpy()).all()
    row = results_table(runs).set_index("snapshot").loc["loss"]
    assert row["gap"] == pytest.approx(row["valid_loss"] - row["train_loss"], abs=1e-4)
