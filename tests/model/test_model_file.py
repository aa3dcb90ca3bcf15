"""A trained model passed on as a file, and ``ae-bn encode``, which uses it on raw text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from conftest import SMALL

from ae_bn import Encoder, encoder
from ae_bn.commands import encode
from ae_bn.config import load_config
from ae_bn.data.words import LETTERS_ONLY, TOKEN_PATTERN
from ae_bn.errors import UserError
from ae_bn.files import write_arrays
from ae_bn.model import model_file
from ae_bn.model.model_file import read_model
from ae_bn.study.perform import perform
from ae_bn.study.plan import corpus_of, plan_runs

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder):
    """Return a finished run: ReLU with Batch Normalization, no dropout."""
    directory = tmp_path_factory.mktemp("model")
    path = directory / "small.yaml"
    path.write_text(f"data: {{source: folder, folder: {folder}, validation_fraction: .2}}\n{SMALL}")
    run = next(
        run for run in plan_runs(load_config(path), [1], directory) if run.arm == "on / none"
    )
    perform(run)
    return run


@pytest.fixture(scope="module")
def model(run):
    return read_model(run.directory)


@pytest.fixture
def damaged(run, tmp_path):
    """Return a function that writes the run's model with other facts or arrays."""
    state = safetensors.numpy.load_file(run.directory / "model.safetensors")
    metadata = json.loads(header(run.directory / "model.safetensors")["__metadata__"]["facts"])

    def write(facts=None, **arrays):
        path = tmp_path / "model.safetensors"
        write_arrays(path, {**state, **arrays}, {**metadata, **(facts or {})})
        return path

    return write


def header(path) -> dict:
    """Return the JSON at the start of a safetensors file, read by hand."""
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_a_file_alone_is_the_model(run, model, tmp_path):
    corpus = corpus_of(run)
    expected = run.read_metrics()["snapshots"]["loss"]["test_loss"]
    assert model.autoencoder.evaluate(corpus.test) == pytest.approx(expected, rel=1e-6)
    (tmp_path / "alone").write_bytes((run.directory / "model.safetensors").read_bytes())
    alone = read_model(tmp_path / "alone")
    assert alone.words == corpus.words and alone.fingerprint == corpus.fingerprint
    np.testing.assert_array_equal(alone.idf, corpus.idf)
    expected = model.autoencoder.encode(corpus.test)
    np.testing.assert_array_equal(alone.autoencoder.encode(corpus.test), expected)


def test_the_documented_reader_needs_numpy_and_safetensors_only(run, model, folder):
    text = (folder / "topic1" / "3.txt").read_text() + " Unknown, words-COM\u00adMON"
    code = re.search(r"( {4}import json.+?)\n\"\"\"", Path(model_file.__file__).read_text(), re.S)
    program = re.sub("(?m)^ {4}", "", code[1])
    assert len(program.splitlines()) <= 15 and "ae_bn" not in program
    program = f"import sys\ntext = sys.argv[1]\n{program}\nprint(*code)\n"
    program += "assert not {'ae_bn', 'theano'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, text],
        cwd=run.directory,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = model.autoencoder.encode(model.vectorise([text]))[0]
    np.testing.assert_allclose([float(v) for v in done.stdout.split()], expected, atol=1e-5)
    assert expected.any()


def test_text_becomes_the_rows_it_was_trained_on(run, model, folder):
    corpus = corpus_of(run)
    X = model.vectorise([path.read_text() for path in sorted(folder.glob("*/*.txt"))])
    rows = {tuple(row) for row in corpus.train.toarray()} | {
        tuple(row) for row in corpus.test.toarray()
    }
    assert {tuple(row) for row in X.toarray()} == rows


def test_the_encoder_gives_the_codes_of_the_kernels(run, model, folder):
    texts = [path.read_text() for path in sorted(folder.glob("*/*.txt"))]
    expected = model.autoencoder.encode(model.vectorise(texts))
    codes = Encoder.load(run.directory).transform(texts)
    assert codes.dtype == expected.dtype and codes.any()
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=1e-6)


def test_another_precision_is_told(damaged):
    path = damaged()
    double = {name: v.astype(np.float64) for name, v in read_model(path).arrays.items()}
    with pytest.raises(UserError, match="a model in float64: set THEANO_FLAGS=floatX=float64"):
        read_model(damaged(**double)).autoencoder  # noqa: B018


@pytest.mark.parametrize(
    "facts, words",
    [
        ({"format": "ae_bn model 2"}, "not a model"),
        ({"token_pattern": "(a+)+$"}, "not a model"),
        ({"config": {"model": {"layers": "many"}}}, "not a model"),
        ({"config": {"of a newer version": {}}}, "not a model .*of a newer version: Extra"),
        ({"words": ["a", "a"]}, "not a model"),
        ({"words": [["a"]]}, "not a model"),
        ({"idf": [1.0]}, "not a model"),
        ({"idf": [float("inf")]}, "not a model"),
        ({"more": 1}, "not a model"),
        ({"words": ["one"], "idf": [1.0]}, r"layer1.W' .* should be float32 of shape \(1, 5\)"),
    ],
)
def test_facts_that_do_not_fit_are_refused(damaged, facts, words):
    with pytest.raises(UserError, match=words):
        read_model(damaged(facts))


def test_a_model_from_before_a_setting_existed_is_read(run, model, damaged):
    config = run.config.run_settings()
    del config["data"]["stem"]
    assert read_model(damaged({"config": config})).config.data == model.config.data


def test_sizes_are_not_believed(run, damaged):
    settings = run.config.run_settings()
    for layers in ([10**12], [5, 10**12, 5]):
        config = {**settings, "model": {**settings["model"], "layers": layers}}
        with pytest.raises(UserError, match="layer1.W|layer2.W"):
            read_model(damaged({"config": config}))
    W = safetensors.numpy.load_file(run.directory / "model.safetensors")["layer1.W"]
    with pytest.raises(UserError, match="layer1.a' is float32 .* should be float64"):
        read_model(damaged(**{"layer1.W": W.astype(np.float64)}))


def test_altered_words_do_not_match_the_checksum(run, tmp_path):
    content, path = (run.directory / "model.safetensors").read_bytes(), tmp_path / "altered"
    path.write_bytes(content.replace(b'\\"common\\"', b'\\"kommon\\"', 1))
    assert path.read_bytes() != content
    with pytest.raises(UserError, match="checksum"):
        read_model(path)
    path.write_bytes(content[:-7])
    with pytest.raises(UserError, match="altered"):
        read_model(path)
    with pytest.raises(UserError, match="nowhere"):
        read_model(tmp_path / "nowhere")


def test_encode(run, model, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(encode, "CHUNK", 50)  # more than one
    files = sorted(folder.glob("*/*.txt"))
    expected = Encoder.load(run.directory).transform([path.read_text() for path in files])

    def run_it(text, out, *more):
        encode.main(["--model", str(run.directory), "--text", str(text), "--out", str(out), *more])
        return capsys.readouterr()

    assert "120 documents, 5 units" in run_it(folder, tmp_path / "codes.npz").err
    with np.load(tmp_path / "codes.npz") as arrays:
        np.testing.assert_array_equal(arrays["codes"], expected)
        names = arrays["names"].tolist()
    assert names == [str(path.relative_to(folder)) for path in files]

    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"{path.read_text()}\n" for path in files) + "?\n")
    assert "1 documents hold no word" in run_it(lines, tmp_path / "codes.csv").err
    table = pd.read_csv(tmp_path / "codes.csv")
    np.testing.assert_array_equal(table.iloc[:120, 1:].to_numpy(np.float32), expected)

    pd.DataFrame({"text": [path.read_text() for path in files]}).to_csv(tmp_path / "t.csv")
    run_it(tmp_path / "t.csv", tmp_path / "again.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "again.csv"), table.iloc[:120])


@pytest.mark.parametrize("out", ["codes.csv", "codes.npz", "codes.parquet"])
@pytest.mark.parametrize("id_column, named", [([], ["a1", "2", "c"]), (["--id", "Key"], "xyz")])
def test_codes_keep_the_names_of_a_table(run, tmp_path, monkeypatch, out, id_column, named, capsys):
    if out.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    columns = {"ID ": ["a1", None, "c"], "key": list("xyz"), "text": ["ax bx", "words", "ax"]}
    pd.DataFrame(columns).to_csv("t.csv", index=False)
    for _ in range(2):  # the second replaces the first
        command = ["--model", str(run.directory), "--text", "t.csv", "--out", out, *id_column]
        encode.main(command)
    told = "1 rows (row 2) have no id, and are named by their numbers"
    assert (told in capsys.readouterr().err) == (not id_column)
    codes = Encoder.load(run.directory).transform(columns["text"])
    if out.endswith(".npz"):
        with np.load(out) as arrays:
            names, found = arrays["names"].tolist(), arrays["codes"]
    else:
        table = pd.read_csv(out) if out.endswith(".csv") else pd.read_parquet(out)
        names, found = table["name"].tolist(), table.iloc[:, 1:].to_numpy(np.float32)
    assert names == list(named)
    np.testing.assert_array_equal(found, codes)


def test_the_nearest_document_to_a_training_document_is_itself(
    run, model, tmp_path, capsys, monkeypatch
):
    corpus = corpus_of(run)
    row = 7
    words = " ".join(corpus.words[i] for i in corpus.train[row].indices)
    (tmp_path / "one.txt").write_text(f"{words}\n")
    arguments = ["--text", str(tmp_path / "one.txt"), "--similar", "3"]
    encode.main(["--model", str(run.directory), *arguments])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1:" and len(lines) == 4
    assert lines[1].startswith("  1.000 ") and f"training document {row} " in "".join(lines)
    assert corpus.label_names[corpus.train_labels[row]] in lines[1]
    # The codes were stored, so the next search needs no corpus.
    assert (run.directory / "model-codes.safetensors").exists()
    monkeypatch.setattr(encoder, "training_corpus", None)
    with open(tmp_path / "one.txt", "a") as file:
        file.write("?\n")
    out = tmp_path / "similar.csv"
    for _ in range(2):  # the second replaces the first
        encode.main(["--model", str(run.directory), *arguments, "--out", str(out)])
    table = pd.read_csv(out)
    assert table["rank"].tolist()[:3] == [1, 2, 3] and len(table) == 4
    assert f"training document {row} " in " ".join(table["similar"][:3])
    assert table["text"][3].startswith("no word of the vocabulary") and np.isnan(table["cosine"][3])
    assert "1 documents hold no word" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--text", "TEXT"], "nothing to do"),
        (["--text", "TEXT", "--out", "codes.txt"], "codes.txt: end its name"),
        (["--text", "nowhere", "--out", "codes.csv"], "nowhere"),
        (["--text", "EMPTY", "--out", "codes.csv"], "no documents"),
        (["--text", "EMPTY", "--out", "codes.npz"], "no documents"),
        (["--text", "TABLE", "--out", "codes.csv"], "row 1 .line 1. has no string 'text'"),
        (["--text", "TEXT", "--similar", "-1"], "--similar -1"),
        (["--text", "TEXT", "--similar", "1", "--out", "codes.npz"], "in .csv for the answers"),
        (["--text", "TEXT", "--id", "title", "--out", "codes.csv"], "only a table has a column"),
        (["--text", "named.csv", "--id", "title", "--out", "codes.csv"], "no column 'title'"),
        (["--text", "named.csv", "--id", "text", "--out", "codes.csv"], "column of their own"),
        (["--text", "", "--out", "codes.csv"], "name of the text is empty"),
        (["--text", "BINARY", "--out", "codes.csv"], "BINARY, line 2, is not text"),
        (["--text", "FOLDER", "--out", "codes.npz"], "left out: 1 binary file .wide"),
        (["--text", "long.csv", "--out", "codes.csv"], "row 1 .line 2. has 2 cells"),
        (["--text", "TEXT", "--out", "codes.csv", "--encoding", "x"], "unknown encoding 'x'"),
        (["--text", "TEXT.xlsx", "--out", "codes.csv"], "save them as .csv"),
        (["--text", "unclosed.csv", "--out", "codes.csv"], "not a csv file"),
        (["--text", "TEXT", "--out", "FOLDER/x.csv"], "this is a folder"),
        (["--text", "TEXT", "--out", "TEXT/codes.npz"], "cannot write"),
        (["--text", "TEXT", "--model", "FOLDER", "--out", "codes.csv"], "holds no model"),
    ],
)
def test_encode_tells_mistakes(run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEXT").write_text("words\n")
    (tmp_path / "EMPTY").write_text("")
    (tmp_path / "BINARY").write_bytes(b"words\n\0\n")
    (tmp_path / "FOLDER" / "x.csv").mkdir(parents=True)
    (tmp_path / "FOLDER" / "wide").write_text("words", "utf-16-le")
    (tmp_path / "long.csv").write_text("text\nwords,words\n")
    (tmp_path / "unclosed.csv").write_text('text\n"words\nwords\n')
    (tmp_path / "named.csv").write_text("text,id\nwords,a\n")
    (tmp_path / "t.jsonl").write_text('{"body": "x"}\n')
    arguments = ["t.jsonl" if argument == "TABLE" else argument for argument in arguments]
    with pytest.raises(UserError, match=words):
        encode.main(["--model", str(run.directory), *arguments])
    assert not list(tmp_path.glob("codes*"))


@pytest.mark.parametrize(
    "header, row",
    [
        ("name,unit_price,text", "Dog food,3,ax bx"),
        ("name,rank,text", "a,1,ax bx"),
        ("name,rank,cosine,similar,text", "1,1,.5,b,ax bx"),  # the answers of --similar
        ("name,unit0,unit2,text", "a,1,2,ax bx"),
    ],
)
def test_a_table_of_documents_is_not_replaced_by_its_codes(run, tmp_path, monkeypatch, header, row):
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_text(f"{header}\n{row}\n")
    Path("link.csv").symlink_to("mine.csv")
    for out in ("mine.csv", "./link.csv"):
        with pytest.raises(UserError, match="holds no codes|the file of --text"):
            encode.main(["--model", str(run.directory), "--text", "mine.csv", "--out", out])
    assert Path("mine.csv").read_text() == f"{header}\n{row}\n"


def test_words_that_no_text_has_are_counted(run, damaged, folder, tmp_path, capsys):
    settings = run.config.run_settings()
    data = {**settings["data"], "source": "matrix", "folder": None, "file": "m.npz"}
    words = Encoder.load(run.directory).words
    facts = {"config": {**settings, "data": data}, "words": ["x2", *words[1:]]}
    command = ["--text", str(folder), "--out", str(tmp_path / "codes.csv")]
    encode.main(["--model", str(damaged(facts)), *command])
    line = f"1 of {len(words)} words of the vocabulary, such as 'x2', are found in no text"
    assert line in capsys.readouterr().err


def test_a_setting_that_came_after_a_file_has_its_default(run, damaged, folder):
    """Such as those of Layer Normalization and of curvature: null, not used."""
    settings = run.config.run_settings()
    del settings["model"]["batch_norm"]["over"], settings["evaluation"]["curvature"]
    model = read_model(damaged({"config": settings}))
    assert model.config.run_settings() == run.config.run_settings()


def test_only_codes_are_replaced(run, tmp_path, monkeypatch):
    """Neither the text, under whatever name, nor any other file that is there."""
    monkeypatch.chdir(tmp_path)
    content = "text\nax bx words\n"
    Path("mine.csv").write_text(content)
    Path("link.csv").symlink_to("mine.csv")
    os.link("mine.csv", "hard.csv")
    np.savez("other.npz", codes=np.zeros(3))
    before = Path("other.npz").read_bytes()
    model = ["--model", str(run.directory)]
    for out in ["mine.csv", "./mine.csv", "link.csv", "hard.csv", "other.npz"]:
        for text in ("mine.csv", "-"):
            with pytest.raises(UserError, match="holds no codes"):
                encode.main([*model, "--text", text, "--out", out])
    assert Path("mine.csv").read_text() == content
    assert before == Path("other.npz").read_bytes()
    for out in ("codes.csv", "codes.csv", "codes.npz", "codes.npz"):
        encode.main([*model, "--text", "mine.csv", "--out", out])


def test_codes_in_the_folder_are_no_document(run, folder, tmp_path, capsys):
    texts = tmp_path / "texts"
    texts.mkdir()
    for path in folder.glob("topic0/*"):
        (texts / path.name).write_bytes(path.read_bytes())
    (texts / "latin").write_bytes("d\xe9j\xe0 ax".encode("latin-1"))
    for name in ("codes.csv", "codes.npz", "codes.csv", "more.csv"):
        out = ["--text", str(texts), "--out", str(texts / name)]
        encode.main(["--model", str(run.directory), *out])
        told = capsys.readouterr().err
        assert told.startswith("41 documents, 5 units")
        assert "1 documents (latin) have bytes that are not utf-8" in told
    assert "1 table of codes (codes.csv), 1 binary file (codes.npz)" in told
    assert len(pd.read_csv(texts / "more.csv")) == 41
    encode.main(["--model", str(run.directory), *out[:2], "--similar", "1", "--encoding", "cp1252"])
    assert "bytes" not in capsys.readouterr().err


def test_a_model_cuts_text_as_the_one_that_trained_it(damaged, model):
    text = ["a\u0301x bx"]
    assert model.token_pattern == TOKEN_PATTERN
    words = [*model.words[:-1], "x"]
    assert replace(model, words=words).vectorise(text).sum() == 1
    path = damaged({"token_pattern": LETTERS_ONLY})
    for old in (read_model(path), Encoder.load(path)):
        assert old.token_pattern == LETTERS_ONLY
        assert old.vectorise(text).sum() == 1 and old.vectorise(["ax bx"]).sum() == 2


def test_a_model_of_before_there_were_encodings(damaged, run):
    settings = run.config.run_settings()
    del settings["data"]["encoding"]
    assert read_model(damaged({"config": settings})).config.data.encoding == "utf-8"
