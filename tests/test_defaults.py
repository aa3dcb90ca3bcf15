"""`experiments/defaults.py`: what its corpora hold, and the table that it writes."""

from types import SimpleNamespace

import defaults
import pandas as pd
import pytest
from sklearn.decomposition import TruncatedSVD

from ae_bn.errors import UserError

TEXTS = ["sea wave sail", "sea wave ship", "judge court law", "judge trial law"] * 10
LABELS = [0, 0, 1, 1] * 10


def test_titles_are_subjects_without_the_mark_of_an_answer(monkeypatch):
    posts = ["From: x\nSubject: Re: RE: the sea\n\nSubject: not this", "From: y\n\nno subject"]
    found = SimpleNamespace(data=posts, target=[1, 0])
    monkeypatch.setattr(defaults, "fetch_20newsgroups", lambda **options: found)
    train, labels, test, _ = defaults.titles()
    assert [text.strip() for text in train] == ["the sea", ""] and test == train
    assert labels == [1, 0]


def test_descriptions_are_of_the_largest_sections(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="debian.py downloads it"):
        defaults.descriptions()
    rows = {"text": [f"text {n}" for n in range(60)], "label": ["a"] * 30 + ["b"] * 20 + ["c"] * 10}
    (tmp_path / "data").mkdir()
    pd.DataFrame(rows).to_csv("data/debian.csv", index=False)
    for name, value in {"DESCRIPTIONS": 40, "SECTIONS": 2, "TRAINING": 30}.items():
        monkeypatch.setattr(defaults, name, value)
    train, labels, test, test_labels = defaults.descriptions()
    assert len(train) == len(labels) == 30 and len(test) == len(test_labels) == 10
    assert not set(train) & set(test) and not set(train + test) & set(rows["text"][50:])


def test_the_table(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    parts = TEXTS[:32], LABELS[:32], TEXTS[32:], LABELS[32:]
    monkeypatch.setattr(defaults, "CORPORA", {"two topics": lambda: parts})
    encoders = {name: defaults.encoders(1)[name] for name in ("TF-IDF", "SVD")}
    encoders["SVD"].set_params(n_components=2)
    assert isinstance(encoders["SVD"], TruncatedSVD)
    monkeypatch.setattr(defaults, "encoders", lambda seed: encoders)
    defaults.main([])
    head, line, *rows = (tmp_path / defaults.OUT).read_text().splitlines()
    assert [row.split(" | ")[1] for row in rows] == ["TF-IDF", "SVD"]
    assert rows[1].startswith("| two topics, 32 / 8 | SVD | 1.000 | 1.000 | 1.000 |")
