"""The command ``ae-bn topics`` on small texts: its files, and one line for each mistake."""

from __future__ import annotations

import re
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, save_npz
from sklearn.feature_extraction.text import CountVectorizer

from ae_bn import Encoder, commands
from ae_bn.reporting.own_text import colors_of
from ae_bn.reporting.own_topics import describe_topics, topics_page, topics_table

SUBJECTS = {
    "sea": "gull ship tide sail reef",
    "forest": "oak fern moss deer owl",
    "kitchen": "pan stove knife salt flour",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return a table of 240 texts about three subjects, and of one without any word."""
    rng, rows = np.random.default_rng(0), []
    for number in range(240):
        label = list(SUBJECTS)[number % 3]
        words = " ".join(rng.choice(SUBJECTS[label].split(), 12))
        rows.append((f"d{number}", label, f"{words} <b>"))
    rows.append(("empty", "sea", "12 34"))
    path = tmp_path_factory.mktemp("text") / "t.csv"
    pd.DataFrame(rows, columns=["key", "label", "text"]).to_csv(path, index=False)
    return path


def topics(capsys, monkeypatch, *arguments):
    """Return the exit code and what ``ae-bn topics`` prints."""
    monkeypatch.setattr(sys, "argv", ["ae-bn", "topics", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        commands.main()
    return exit.value.code or 0, *capsys.readouterr()


def test_topics_of_a_table(capsys, monkeypatch, table, tmp_path):
    out = tmp_path / "found"
    command = table, "--out", out, "--topics", 3, "--id", "key"
    code, printed, err = topics(capsys, monkeypatch, *command)
    assert code == 0, err
    assert "241 documents, 3 labels" in err and "1 documents have no word" in err
    names = {path.name for path in out.iterdir()}
    expected = {"topics.csv", "topics.html", "topics.json", "model.safetensors"}
    assert names == {*expected, "model-codes.safetensors"}
    found = pd.read_csv(out / "topics.csv")
    assert found["share"].is_monotonic_decreasing and found["share"].sum() == pytest.approx(1)
    assert sorted(found["topic"]) == [0, 1, 2]
    assert found["coherence"].between(-1, 1).all()
    encoder = Encoder.load(out / "model.safetensors")
    texts = pd.read_csv(table).set_index("key")["text"]
    theta = encoder.transform(texts)
    for row in found.itertuples():
        assert len(row.words.split()) == 10 and row.words in printed
        shares = pd.Series(theta[:240, row.topic], texts.index[:240])
        typical = shares[row.documents.split("; ")]  # up to ties in the digits that are kept
        assert len(typical) == 3 and typical.min() > shares.nlargest(3).min() - 1e-3
    assert encoder.similar(["gull tide"])[0][0].name.startswith("d")
    page = (out / "topics.html").read_text("utf-8")
    assert page.count("<circle") == 241 and "<b>d" in page and "&lt;b&gt;" in page
    assert not re.search(r"<script|https?://", page)
    assert 'content="width=device-width' in page  # a phone shows letters of full size
    for number in range(3):  # from the map and the legend to the row of the topic
        assert page.count(f'href="#{number}"') == 2 and page.count(f'id="{number}"') == 1
    code, _, err = topics(capsys, monkeypatch, *command, "--seed", 2)
    assert code == 2 and "other text or other options" in err.splitlines()[-1]


def test_topics_of_counts(capsys, monkeypatch, table, tmp_path):
    counter = CountVectorizer()
    X = counter.fit_transform(pd.read_csv(table)["text"]).astype(float)
    save_npz(tmp_path / "m.npz", X)
    (tmp_path / "m.words.txt").write_text("\n".join(counter.get_feature_names_out()), "utf-8")
    command = tmp_path / "m.npz", "--out", tmp_path / "a", "--topics", 3, "--words", 15
    code, _, err = topics(capsys, monkeypatch, *command)
    assert code == 0, err
    encoder = Encoder.load(tmp_path / "a" / "model.safetensors")
    assert len(encoder.words) == 15
    assert encoder.vectorise(["gull gull oak"]).max() == 2  # counts, not TF-IDF
    code, _, err = topics(capsys, monkeypatch, *command, "--min-df", 2)
    assert code == 2 and "a matrix has its words already" in err


@pytest.mark.parametrize(
    "text, options, words",
    [
        ("gull ship\n" * 40, [], "40 documents: give at least 50"),
        ("12 34\n" * 60, [], "no vocabulary from these texts"),
        ("gull\n" * 60, [], "a vocabulary of 1 word"),
        ("gull tide\n" * 60, [], "documents are equal"),
        ("gull tide\n" * 60, ["--topics", 1], "--topics 1: give 2 or more"),
        ("gull tide\n" * 60, ["--words", 0], "--words 0: give 1 or more"),
        ("gull tide\n" * 60, ["--seed", -1], "--seed -1: give 0 or more"),
        ("gull tide\n" * 60, ["--topics", "few"], "invalid int value"),
    ],
    ids="few empty word equal topics words seed int".split(),
)
def test_mistakes_are_one_line(capsys, monkeypatch, tmp_path, text, options, words):
    (tmp_path / "t.txt").write_text(text)
    command = tmp_path / "t.txt", "--out", tmp_path / "new", *options
    code, out, err = topics(capsys, monkeypatch, *command)
    assert (code, out) == (2, "") and words in err.splitlines()[-1]
    assert "Traceback" not in err and not (tmp_path / "new" / "topics.csv").exists()


def test_folders_of_others_are_left_alone(capsys, monkeypatch, table, tmp_path):
    (tmp_path / "fit.json").write_text("{}")
    code, _, err = topics(capsys, monkeypatch, table, "--out", tmp_path)
    assert code == 2 and "holds other files" in err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["fit.json"]


@pytest.mark.parametrize("n", [1, 10, 11, 20, 21, 60])
def test_every_name_has_a_colour_of_its_own(n):
    colors = colors_of(list(range(n)))
    assert list(colors) == list(range(n)) and len(set(colors.values())) == n


def test_topics_by_hand():
    """Words 0 and 1 occur together and 2 alone; the last document has no word, and says nothing."""
    X = csr_matrix(np.array([[1, 1, 0], [2, 1, 0], [0, 0, 1], [0, 0, 3], [0, 0, 0]]))
    theta = np.array([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.99, 0.01]])
    rows = np.array([[5.0, 4, 1], [0, 1, 2]])
    found = describe_topics(theta, X, rows, ["gull", "tide", "oak"])
    assert [topic.number for topic in found] == [1, 0]
    np.testing.assert_allclose([topic.share for topic in found], [0.6, 0.4])
    assert [topic.words for topic in found] == [["oak", "tide", "gull"], ["gull", "tide", "oak"]]
    np.testing.assert_allclose([topic.coherence for topic in found], (1 - 1 - 1) / 3)
    assert [topic.documents.tolist() for topic in found] == [[2, 3, 1], [0, 1, 3]]
    table = topics_table(found, list("abcde"))
    assert table["documents"].tolist() == ["c; d; b", "a; b; d"]
    page = topics_page(found, theta, list("abcde"), ["<x>"] * 5, ["l&m"] * 5, 1)
    assert "&lt;x&gt;" in page and "l&amp;m" in page and "<x>" not in page
