"""``ae-bn inspect`` and what it shows, on documents whose words tell their topic."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from test_model_file import model as model
from test_model_file import run as run

from ae_bn.commands import inspect
from ae_bn.errors import UserError
from ae_bn.reporting.inspection import Unit, describe_units, distinct, most_missed
from ae_bn.study.plan import corpus_of


def test_units(run, model):
    corpus = corpus_of(run)
    codes = model.autoencoder.encode(corpus.test)
    units = describe_units(model, corpus, n_words=3)
    assert len(units) == 5
    for unit in units:
        values = codes[:, unit.number]
        assert unit.dead == (np.ptp(values) == 0) and unit.active == np.mean(values > 0)
        assert unit.saturated is None
        assert unit.dead or values[unit.examples[0]] == values.max()
        present = (corpus.test.toarray() > 0).astype(float)
        if not unit.dead:
            correlations = [
                np.corrcoef(column, values)[0, 1] if np.ptp(column) else 0 for column in present.T
            ]
            chosen = [correlations[model.words.index(word)] for word in unit.words]
            highest = sorted((c for c in correlations if c > 0), reverse=True)[:3]
            np.testing.assert_allclose(chosen, highest, atol=1e-6)


def test_a_dead_unit_is_told(run, model):
    state = model.autoencoder.get_state()
    try:
        b = state["layer1.b"].copy()
        b[2] = -1e3
        model.autoencoder.set_state({**state, "layer1.b": b})
        unit = describe_units(model, corpus_of(run))[2]
        assert unit.dead and unit.active == 0 and unit.words == []
    finally:
        model.autoencoder.set_state(state)


def test_units_with_the_same_words_are_shown_once():
    def unit(number, words):
        return Unit(number, not words, 0.5, None, words.split(), [0])

    units = [unit(0, "a b c d"), unit(1, "a b c x"), unit(2, "a b x y"), unit(3, ""), unit(4, "z")]
    assert [unit.number for unit in distinct(units)] == [0, 2, 4]


def test_most_missed(run, model):
    X = corpus_of(run).test[0]
    out = model.autoencoder.reconstruct(X)[0]
    missed, added = most_missed(model, X, 4)
    row = dict(zip(model.words, X.toarray()[0]))
    assert all(row[miss.word] > 0 for miss in missed) and all(row[m.word] == 0 for m in added)
    present = X.toarray()[0] > 0
    assert missed[0].reconstructed == out[present].min()
    assert added[0].reconstructed == out[~present].max()


def test_the_program(run, model, tmp_path, capsys):
    inspect.main([str(run.directory), "--out", str(tmp_path), "--document", "3"])
    shown = capsys.readouterr().out
    units = re.findall(r"^unit \d: .*\n  test document \d+ topic\d: ", shown, re.M)
    repeated = int(re.search(r"(\d) repeat words of those above", shown)[1])
    assert len(units) + repeated + int(re.search(r"(\d) of 5 units are dead", shown)[1]) == 5
    assert "\ntest document 3 topic" in shown and "missed most: " in shown
    assert len(re.findall(r"^  -?[01]\.\d{3} training document ", shown, re.M)) == 5
    assert list(pd.read_csv(tmp_path / "units.csv")["number"]) == list(range(5))
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    text = tmp_path / "letter.txt"
    text.write_text("common\nwords")
    arguments = ["--out", str(tmp_path), "--document"]
    inspect.main([str(run.directory), *arguments, str(text)])
    shown = capsys.readouterr().out
    assert "\n1: common\n" in shown and "\n2: words\n" in shown  # as ``ae-bn encode`` reads it
    text.write_text("common\n" * 7 + "?\n")
    inspect.main([str(run.directory), *arguments, str(text)])
    assert "holds 3 more documents, which are not shown" in capsys.readouterr().out
    text.write_text("?")
    inspect.main([str(run.directory), *arguments, str(text)])
    assert "no word of the vocabulary, so nothing is similar" in capsys.readouterr().out
    for document, words in (("24", "rows 0 to 23"), ("nowhere", "nowhere")):
        with pytest.raises(UserError, match=words):
            inspect.main([str(run.directory), *arguments, document])
