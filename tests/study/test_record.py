"""`ae_bn.study.record`: finished runs survive the loss of their directories."""

from __future__ import annotations

import json
import lzma
import shutil

import numpy as np
import pandas as pd
import pytest

from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.reporting.curves import curves_table
from ae_bn.study import sweep as sweep_module
from ae_bn.study.perform import perform
from ae_bn.study.plan import plan_runs
from ae_bn.study.record import Record
from ae_bn.study.results import record_lines, recorded_table, results_table
from ae_bn.study.sweep import sweep


@pytest.fixture
def runs(config_file, tmp_path):
    """Return the finished runs of one arm and one reference."""
    config = load_config(config_file, ["experiment.references=[tfidf]"])
    planned = [
        run for run in plan_runs(config, [1, 2], tmp_path) if run.arm in ("raw TF-IDF", "on / none")
    ]
    for run in planned:
        run.directory.mkdir(parents=True)
        perform(run)
    return planned


def test_tables_and_curves_are_the_same_without_the_directories(runs, tmp_path, monkeypatch):
    results = results_table(runs)
    for number in (4, 0):
        record = Record(tmp_path / "record")
        assert record.add(record_lines(runs, record), "small") == number
    curves = curves_table(results, record)
    shutil.rmtree(tmp_path / "runs")
    record = Record(tmp_path / "record")
    pd.testing.assert_frame_equal(results_table(runs, record), results)
    pd.testing.assert_frame_equal(curves_table(results, record), curves)
    losses = [record.results(run.identity)["history"]["valid_loss"] for run in runs[-2:]]
    found = curves[(curves["arm"] == "on / none") & (curves["curve"] == "valid_loss")]
    np.testing.assert_allclose(found["mean"], np.mean(losses, axis=0))
    with pytest.raises(UserError, match="not finished"):
        results_table(runs)

    def train(*arguments):
        raise AssertionError("a recorded run is trained")

    monkeypatch.setattr(sweep_module, "attempt", train)
    sweep(runs, 1, record=record)


def test_a_recorded_table_needs_neither_documents_nor_directories(
    runs, config_file, tmp_path, monkeypatch
):
    """The documents of a folder may have changed since: the record tells what the runs found."""
    record = Record(tmp_path / "record")
    record.add(record_lines(runs, record), "small")
    results = results_table(runs)
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr("ae_bn.study.corpora._prepare", None)
    config = load_config(config_file, ["experiment.references=[tfidf]"])
    table = recorded_table(config, Record(tmp_path / "record"))
    pd.testing.assert_frame_equal(table, results)
    assert recorded_table(config, Record(tmp_path / "nowhere")).empty
    other = config.replace({"data.test_fraction": 0.4})  # other documents of the same folder
    assert recorded_table(other, record).empty


def test_an_experiment_of_another_name_shares_the_runs(runs, config_file, tmp_path):
    record = Record(tmp_path / "record")
    record.add(record_lines(runs, record), "small")
    settings = ["experiment.name=other", "experiment.references=[]", "experiment.skip=[]"]
    levels = "{variant: {plain: {}}}"
    settings += [f"experiment.factors={levels}", "experiment.compare={}"]
    other = plan_runs(load_config(config_file, settings), [1], tmp_path)
    assert [run.arm for run in other] == ["plain"]
    assert record.results(other[0].identity) is not None
    assert record.add(record_lines(other, record), "other") == 0
    assert len(list((tmp_path / "record").iterdir())) == 2  # a file per seed, none of the other


def test_pandas_reads_the_record(runs, tmp_path):
    record = Record(tmp_path / "record")
    record.add(record_lines(runs, record), "small")
    table = pd.read_json(tmp_path / "record" / "small-seed1.jsonl.xz", lines=True)
    assert len(table) == 2 and set(table["seed"]) == {1}
    assert table["history"].dropna().iloc[0]["epoch"] == [1, 2, 3]
    assert table["config"].iloc[0]["training"]["batch_size"] == 10


LINE = {"run": "a", "seed": 1, "config": {"data": {"source": "x"}}, "snapshots": {"loss": {}}}
LINE["data"] = {"source": "x", "fingerprint": "b"}
CHANGES = [
    {"run": 1},
    {"config": {}},
    {"config": {"data": "x"}},
    {"data": {"source": "x"}},
    {"data": {"source": "x", "fingerprint": None}},
    {"snapshots": []},
    {"snapshots": {"loss": 1}},
]


@pytest.mark.parametrize(
    "content",
    [
        b"not xz",
        lzma.compress(b"{"),
        lzma.compress(b"[]\n"),
        *(lzma.compress(json.dumps({**LINE, **change}).encode()) for change in CHANGES),
    ],
)
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "x-seed1.jsonl.xz").write_bytes(content)
    with pytest.raises(UserError, match="x-seed1.jsonl.xz is damaged.*restore it"):
        Record(tmp_path)


def test_no_record_is_an_empty_one(tmp_path):
    assert Record(tmp_path / "nowhere").results("0" * 16) is None
