"""Choosing an encoder: the criteria, what candidates may see, the model's file, ``ae-bn fit``."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, save_npz
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import NMF, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import ae_bn
from ae_bn import Encoder, LinearDenoiser, choosing, commands
from ae_bn.choosing import (
    Comparison,
    CountWeights,
    other_half_found,
    split_in_halves,
    text_vectoriser,
)
from ae_bn.errors import UserError
from ae_bn.estimator import masked
from ae_bn.saving import save_model

TOPICS = {
    "sea": "ship wave sail harbour fish captain storm anchor".split(),
    "law": "court judge trial lawyer witness verdict appeal statute".split(),
    "food": "bread cheese soup kitchen oven flour butter sugar".split(),
}
ALL = sum(TOPICS.values(), [])


MANY = {first: [f"{first}{second}zz" for second in "abcdefgh"] for first in "abcdefghijklmnop"}


def corpus(n=120, seed=0, topics=TOPICS):
    """Return texts of six words, five of them from the topic that is the label, and the labels."""
    rng, words = np.random.default_rng(seed), sum(topics.values(), [])
    labels = [list(topics)[number % len(topics)] for number in range(n)]
    texts = [" ".join([*rng.choice(topics[label], 5), rng.choice(words)]) for label in labels]
    return texts, labels


def by_topic(comparison, topics):
    """Return a transformer to the weights of every topic: by construction the best codes."""
    words = comparison.vectoriser.get_feature_names_out()
    W = np.array([[float(word in topic) for topic in topics.values()] for word in words])
    return FunctionTransformer(lambda X: X @ W, accept_sparse=True)


class Noise(TransformerMixin, BaseEstimator):
    """Codes that say nothing; it keeps what it was fitted on."""

    def fit(self, X, y=None):
        self.X_, self.y_ = X, y
        return self

    def transform(self, X):
        return np.random.default_rng(int(X.indices.sum())).normal(size=(X.shape[0], 4))


# ------------------------------------------------------------------------------ the criteria


def test_halves_share_no_word_and_lose_none():
    X = csr_matrix([[1.0, 2, 0, 3, 4], [0, 5, 0, 0, 0], [0] * 5, [6, 0, 0, 0, 7], [0, 1, 2, 3, 0]])
    first, second = (half.toarray() for half in split_in_halves(X, np.random.default_rng(0)))
    kept = X.toarray()[[0, 3, 4]]
    np.testing.assert_array_equal((first > 0) ^ (second > 0), kept > 0)
    assert [np.count_nonzero(row) for row in first] == [2, 1, 1]
    for half in (first, second):
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1)
        own = half > 0  # weights keep their ratios
        ratios = [half[row][own[row]] / kept[row][own[row]] for row in range(3)]
        assert all(np.ptp(ratio) < 1e-12 for ratio in ratios)


def test_halves_are_drawn_at_random():
    X = csr_matrix(np.ones((4000, 3)))
    first, _ = split_in_halves(X, np.random.default_rng(0))
    np.testing.assert_allclose(np.asarray((first > 0).mean(axis=0)).ravel(), 1 / 3, atol=0.03)


@pytest.mark.parametrize("wrap", [np.asarray, csr_matrix])
def test_other_half_found(wrap):
    codes, zero = np.eye(100), np.zeros(100)
    assert other_half_found(wrap(codes), wrap(codes), zero) == 1
    shifted = np.roll(codes, 1, axis=0)  # each finds the half of another document
    assert other_half_found(wrap(codes), wrap(shifted), zero) == 0
    assert other_half_found(wrap(np.ones((100, 2))), wrap(np.ones((100, 2))), np.zeros(2)) == 0
    far = codes + 1000  # the mean is subtracted
    assert other_half_found(wrap(far), wrap(far), far.mean(axis=0)) == 1


def test_the_best_by_construction_wins_with_and_without_labels():
    texts, labels = corpus(480, topics=MANY)
    for given in (labels, None):
        comparison = Comparison(texts, given, text_vectoriser(2000))
        candidates = {"noise": Noise(), "topics": by_topic(comparison, MANY)}
        table = choosing.ranked([comparison.fit(*pair) for pair in candidates.items()])
        assert choosing.best(table) == "topics"
        criterion = choosing.criterion(table)
        assert criterion == ("other half" if given is None else "precision")
        assert ("accuracy" in table) == (given is not None)
        topics, noise = table[criterion]
        chance = choosing.NEAREST if given is None else 1 / len(MANY)
        assert topics > 0.8 and abs(noise - chance) < 0.08


def test_held_out_documents_and_labels_are_not_learned_from():
    texts, labels = corpus()
    comparison, noise = Comparison(texts, labels, text_vectoriser(2000)), Noise()
    row = comparison.fit("noise", noise)
    n = len(texts)
    assert noise.X_.shape[0] == len(noise.y_) == n - round(choosing.HELD_OUT * n)
    np.testing.assert_array_equal(noise.X_.toarray(), comparison.X.toarray())
    unlabelled = Comparison(texts, None, text_vectoriser(2000))
    assert unlabelled.fit("noise", noise)["other half"] == row["other half"]
    assert noise.y_ is None
    # Vocabulary and idf come from the fit documents: a held-out document's own word is unknown.
    found = comparison.vectoriser.inverse_transform(comparison.X)
    fit_texts = {frozenset(words) for words in found}
    marked = [
        t if frozenset(t.split()) in fit_texts else t + f" only{chr(97 + i % 26)}"
        for i, t in enumerate(texts)
    ]
    assert marked != texts
    known = Comparison(marked, labels, text_vectoriser(2000)).vectoriser.vocabulary_
    assert not any(word.startswith("only") for word in known)


def test_the_baseline_is_shown_and_not_chosen():
    rows = [{"candidate": name, "other half": v} for name, v in (("SVD", 0.1), ("TF-IDF", 0.9))]
    table = choosing.ranked(rows)
    assert table["candidate"].tolist() == ["TF-IDF", "SVD"] and choosing.best(table) == "SVD"


# -------------------------------------------------------------------------------- in Python


@pytest.fixture
def only(monkeypatch):
    """Return a function that keeps some of the candidates, by the beginnings of their names."""
    of_all = Comparison.candidates

    def keep(*names):
        def candidates(self, *options):
            found = of_all(self, *options)
            return {name: found[name] for name in found if name.startswith(names)}

        monkeypatch.setattr(Comparison, "candidates", candidates)

    return keep


@pytest.mark.parametrize("labelled", [True, False])
def test_candidates(labelled):
    texts, labels = corpus()
    comparison = Comparison(texts, labels if labelled else None, text_vectoriser(2000))
    candidates = comparison.candidates(500, 3)
    assert {"TF-IDF", "SVD", "linear denoiser, masking 0.9"} <= set(candidates)
    trained = [c for c in candidates.values() if isinstance(c, ae_bn.BatchNormAutoencoder)]
    bn = [c._configured("random").model.batch_norm.hidden for c in trained]
    assert bn == [False, True, True, True]
    assert {c.monitor for c in trained} == {"precision" if labelled else "loss"}
    assert {tuple(c.layers) for c in trained} == {(24,)}  # the number of words
    from_denoiser = [c.get_params() for c in trained[2:]]
    for given, masking in zip(from_denoiser, (0.5, 0.9)):  # the estimator's defaults but for these
        own = ae_bn.BatchNormAutoencoder([24], monitor=given["monitor"], random_state=3)
        assert given == own.set_params(**masked(masking)).get_params()
    assert {c._configured("random").model.loss for c in trained} == {"squared_error"}


@pytest.mark.parametrize("n", [choosing.FEWEST_DOCUMENTS, 61])
def test_few_documents_lower_the_number_of_units(only, n):
    """No autoencoder starts from a denoiser of more units than documents that it trains on."""
    only("SVD", "denoiser")
    texts, _ = corpus(n, topics=MANY)
    pipeline, table = ae_bn.choose(texts)
    assert len(table) == 3 and table["seconds"].notna().all()
    n_fit = n - round(choosing.HELD_OUT * n)
    assert pipeline.transform(texts).shape == (n, n_fit - round(0.1 * n_fit))


def test_choose(only, monkeypatch, tmp_path):
    only("TF-IDF", "SVD", "autoencoder, hidden BN")
    monkeypatch.setattr(choosing, "EPOCHS", 2)
    texts, labels = corpus()
    pipeline, table = ae_bn.choose(texts, labels, n_components=4)
    columns = ["candidate", "precision", "accuracy", "other half", "seconds"]
    assert table.columns.tolist() == columns and len(table) == 3
    assert (table["precision"].diff().dropna() <= 0).all()
    codes = pipeline.transform(texts)
    assert codes.shape == (120, 4)
    ae_bn.save_model(pipeline, tmp_path / "model.safetensors")
    encoder = Encoder.load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(encoder.transform(texts), codes, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        TruncatedSVD(3),
        LinearDenoiser(3, masking=0.5),
        lambda: ae_bn.BatchNormAutoencoder([4], epochs=2, random_state=1),
    ],
)
@pytest.mark.parametrize(
    "vectoriser",
    [
        text_vectoriser(2000),
        text_vectoriser(2000).set_params(sublinear_tf=True, min_df=2, stop_words=None),
        text_vectoriser(2000, r"\b[a-z]\w+", (1, 2), 2),
        TfidfVectorizer(),
        TfidfVectorizer(ngram_range=(2, 3), stop_words="english"),
        CountVectorizer(),
        CountVectorizer(binary=True, token_pattern=r"(\w)\w+", stop_words=["ship"]),
    ],
)
def test_a_file_gives_the_codes_of_the_pipeline(tmp_path, model, vectoriser):
    texts, _ = corpus()
    texts = [f"{text} the x11 md5" for text in texts]
    pipeline = make_pipeline(vectoriser, model() if callable(model) else model).fit(texts)
    path = tmp_path / "model.safetensors"
    ae_bn.save_model(pipeline, path)
    some = [*texts[:5], "", "Ship SHIP the unknown, ship", "wave wave", "the X11, of MD5"]
    found, expected = Encoder.load(path).transform(some), pipeline.transform(some)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "steps, named",
    [
        ([TfidfVectorizer(tokenizer=str.split), TruncatedSVD(2)], "tokenizer="),
        ([TfidfVectorizer(lowercase=False), TruncatedSVD(2)], "lowercase=False"),
        ([CountVectorizer(analyzer="char"), TruncatedSVD(2)], "analyzer='char'"),
        (
            [TfidfVectorizer(ngram_range=(1, 2), stop_words=["ship"]), TruncatedSVD(2)],
            "stop_words of your own",
        ),
        ([text_vectoriser(9).set_params(norm="l1"), TruncatedSVD(2)], "norm='l1'"),
        ([text_vectoriser(9).set_params(binary=True), TruncatedSVD(2)], "binary=True"),
        ([text_vectoriser(9).set_params(use_idf=False), TruncatedSVD(2)], "use_idf=False"),
        ([text_vectoriser(9), NMF(2)], "NMF"),
        ([text_vectoriser(9), FunctionTransformer(accept_sparse=True), TruncatedSVD(2)], "hold"),
    ],
)
def test_a_file_cannot_hold(tmp_path, steps, named):
    pipeline = make_pipeline(*steps).fit(corpus()[0])
    with pytest.raises(UserError, match=named):
        ae_bn.save_model(pipeline, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, words",
    [
        ({"texts": "one text"}, "one text"),
        ({"texts": corpus(40)[0], "labels": None}, "40 documents: give at least 50"),
        ({"texts": [*corpus(59)[0], 7], "labels": None}, r"texts\[59\] is 7"),
        ({"texts": ["1 2 3"] * 60, "labels": None}, "no vocabulary"),
        ({"texts": ["ship"] * 60, "labels": None}, "two words"),
        ({"labels": ["sea"] * 60}, "one label"),
        ({"labels": ["sea"] * 59}, "59 labels for 60 documents"),
        ({"labels": [*["sea", "law"] * 29, "law", None]}, r"labels\[59\] is missing"),
        ({"labels": [*[1.0, 2.0] * 29, 1.0, float("nan")]}, r"labels\[59\] is missing"),
        ({"labels": list(range(60))}, "60 different ones"),
        ({"labels": [*["sea"] * 51, *["law"] * 9]}, "fewer than two of them have 10 documents"),
        ({"labels": pd.Series([*["sea", "law"] * 29, "law", None], dtype="string")}, r"labels\[59"),
        ({"words": 0}, "words=0"),
        ({"ngram_range": (2, 1)}, "ngram_range"),
        ({"ngram_range": 2}, "ngram_range=2: give two numbers"),
        ({"token_pattern": "("}, "token_pattern.*no regular expression"),
        ({"min_df": 0}, "min_df"),
        ({"min_df": 61}, "no vocabulary"),
        ({"n_components": 2.5}, "n_components=2.5"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_refused(change, words):
    texts, labels = corpus(60)
    given = {"texts": texts, "labels": labels, **change}
    with pytest.raises(UserError, match=words):
        ae_bn.choose(**given)


# -------------------------------------------------------------------------- the command line


def fit(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ae-bn", "fit", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        commands.main()
    return exit.value.code, *capsys.readouterr()


@pytest.fixture
def two(only):
    """Let the command compare only candidates that need no training."""
    only("TF-IDF", "SVD", "linear denoiser, masking 0.7")


@pytest.fixture
def folder(tmp_path):
    texts, labels = corpus()
    for number, (text, label) in enumerate(zip(texts, labels)):
        path = tmp_path / "letters" / label / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + (" <b>&" if number == 0 else ""))
    return tmp_path / "letters"


def test_command(capsys, monkeypatch, two, folder, tmp_path):
    arguments = folder, "--out", tmp_path / "chosen", "--components", 4
    code, out, err = fit(capsys, monkeypatch, *arguments)
    assert not code, err
    assert "120 documents, 3 labels" in err
    chosen = tmp_path / "chosen"
    table = pd.read_csv(chosen / "table.csv")
    assert (chosen / "table.md").read_text() in out
    best = choosing.best(table)
    assert f"chosen by precision on held-out documents: {best}" in out
    assert Encoder.load(chosen / "model.safetensors").transform(["ship"]).shape == (1, 4)
    words = (chosen / "words.md").read_text()
    assert "| 0 |" in words and any(word in words for word in ALL)
    page = (chosen / "map.html").read_text()
    assert page.count("<circle") == 120 and page.count("<title>sea: ") == 40
    assert "&lt;b&gt;&amp;" in page and "<b>" not in page

    # The same command skips what is finished, and goes on after an interruption.
    (chosen / "candidates" / "svd.json").unlink()
    fitted = []
    real = Comparison.fit
    monkeypatch.setattr(
        Comparison, "fit", lambda self, name, t: fitted.append(name) or real(self, name, t)
    )
    assert not fit(capsys, monkeypatch, *arguments)[0]
    assert fitted == ["SVD"]

    # Other input or options are refused, and nothing changes.
    before = (chosen / "table.csv").read_bytes()
    code, _, err = fit(capsys, monkeypatch, *arguments[:-1], 5)
    assert code == 2 and "other text or other options" in err
    (folder / "sea" / "0.txt").write_text("changed")
    code, _, err = fit(capsys, monkeypatch, *arguments)
    assert code == 2 and len(err.splitlines()) == 2 and "other text" in err.splitlines()[1]
    assert fitted == ["SVD"] and (chosen / "table.csv").read_bytes() == before


def test_command_reads_lines_and_tables(capsys, monkeypatch, two, tmp_path):
    texts, labels = corpus()
    (tmp_path / "lines.txt").write_text("\n".join(texts))
    code, out, err = fit(capsys, monkeypatch, tmp_path / "lines.txt", "--out", tmp_path / "a")
    assert not code and "no labels" in err and "chosen by other half" in out
    parts = ["test" if number < 30 else "train" for number in range(120)]
    frame = pd.DataFrame({"text": texts, "label": labels, "part": parts})
    frame.to_csv(tmp_path / "table.csv", index=False)
    code, out, err = fit(capsys, monkeypatch, tmp_path / "table.csv", "--out", tmp_path / "b")
    assert not code and "90 documents, 3 labels" in err and "30 documents of the test part" in err


def test_command_reads_counts(capsys, monkeypatch, two, tmp_path):
    texts, labels = corpus()
    counter = CountVectorizer()
    X, words = counter.fit_transform(texts).astype(float), counter.get_feature_names_out()
    save_npz(tmp_path / "m.npz", X)
    (tmp_path / "m.words.txt").write_text("\n".join(words), "utf-8")
    (tmp_path / "m.labels.txt").write_text("\n".join(labels))
    command = tmp_path / "m.npz", "--out", tmp_path / "of counts", "--words", 20
    code, out, err = fit(capsys, monkeypatch, *command, "--components", 4)
    assert not code and "120 documents, 3 labels" in err
    encoder = Encoder.load(tmp_path / "of counts" / "model.safetensors")
    assert len(encoder.words) == 20 and encoder.similar(texts[:1])[0][0].name == "1"
    assert (tmp_path / "of counts" / "map.html").read_text().count("<title>sea: ") == 40
    for option in (["--ngrams", 2], ["--id", "x"]):
        code, _, err = fit(capsys, monkeypatch, *command, *option)
        assert code == 2 and "a matrix has its words already" in err


def test_a_probe_always_has_documents_to_choose_its_strength():
    texts, labels = corpus(50)
    for seed in range(400):  # at some of them all 40 draws are below .9
        comparison = Comparison(texts, labels, text_vectoriser(2000), seed)
        assert 0 < comparison._probe.sum() < 40, seed


def test_labels_that_cannot_choose_are_told(capsys, monkeypatch, two, tmp_path):
    texts, _ = corpus(60)
    labels = [*["sea"] * 57, *["law"] * 3]
    pd.DataFrame({"text": texts, "label": labels}).to_csv(tmp_path / "t.csv", index=False)
    for seed in (1, 2):  # whatever part the three documents are in
        command = tmp_path / "t.csv", "--out", tmp_path / f"{seed}", "--seed", seed
        code, out, err = fit(capsys, monkeypatch, *command)
        assert not code, err
        assert "the labels do not choose: fewer than two of them have 10 documents" in err
        assert "chosen by other half" in out


def test_what_is_left_out_or_lowered_is_told(capsys, monkeypatch, two, tmp_path):
    texts, _ = corpus(60)
    (tmp_path / "t.txt").write_text("\n".join([*texts, "12 345", "678"]))
    code, _, err = fit(capsys, monkeypatch, tmp_path / "t.txt", "--out", tmp_path / "a")
    n_words = len(Encoder.load(tmp_path / "a" / "model.safetensors").words)
    units = Encoder.load(tmp_path / "a" / "model.safetensors").config.model.layers[0]
    assert not code and f"{n_words} words, codes of {units} units" in err and units < 128
    assert "2 documents have no word of the vocabulary" in err


def test_a_candidate_without_its_model_is_fitted_again(capsys, monkeypatch, two, tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(corpus(60)[0]))
    command = tmp_path / "t.txt", "--out", tmp_path / "a", "--components", 4
    assert not fit(capsys, monkeypatch, *command)[0]
    (tmp_path / "a" / "candidates" / "svd.safetensors").unlink()
    code, _, err = fit(capsys, monkeypatch, *command)
    assert not code and "2 of 3 candidates are finished" in err
    assert (tmp_path / "a" / "candidates" / "svd.safetensors").exists()


def test_a_part_that_is_neither_train_nor_test_is_refused(capsys, monkeypatch, tmp_path):
    parts = ["train"] * 60 + ["valid"] * 60
    pd.DataFrame({"text": corpus()[0], "part": parts}).to_csv(tmp_path / "t.csv", index=False)
    code, _, err = fit(capsys, monkeypatch, tmp_path / "t.csv", "--out", tmp_path / "a")
    assert code == 2 and "row 61: part is 'valid': write train or test" in err


@pytest.mark.parametrize("source", ["texts", "counts"])
def test_a_model_of_your_own_documents_names_no_corpus(monkeypatch, tmp_path, source):
    texts, _ = corpus(60)
    vectoriser = text_vectoriser(2000)
    documents: list = texts
    if source == "counts":
        counter = CountVectorizer().fit(texts)
        documents = counter.transform(texts)
        vectoriser = CountWeights([*counter.get_feature_names_out()[:-1].tolist(), "x2"])
    monkeypatch.setenv("HOME", str(tmp_path))
    save_model(make_pipeline(vectoriser, TruncatedSVD(2)).fit(documents), "~/m.safetensors")
    encoder = Encoder.load(tmp_path / "m.safetensors")
    monkeypatch.setattr("ae_bn.data.corpus.prepare_corpus", None)
    with pytest.raises(UserError, match=f"fitted on {source} of your own"):
        encoder.store_training_documents()
    assert encoder.unreachable == (["x2"] if source == "counts" else [])


def test_counts_are_weighed_as_texts_are():
    texts, _ = corpus()
    X = text_vectoriser(2000).fit(texts[:80]).transform(texts).toarray()
    counter = CountVectorizer().fit(texts)
    counts, names = counter.transform(texts), counter.get_feature_names_out().tolist()
    weights = CountWeights(names).fit(counts[:80])
    np.testing.assert_allclose(weights.transform(counts).toarray(), X, rtol=1e-6)
    few = CountWeights(names, 10).fit(counts[:80]).get_feature_names_out()
    total = dict(zip(names, counts[:80].toarray().sum(axis=0)))
    rest = max(total[name] for name in names if name not in few)
    assert len(few) == 10 and min(total[name] for name in few) >= rest


def test_command_keeps_words_with_digits(capsys, monkeypatch, two, tmp_path):
    texts, _ = corpus()
    rows = {"key": range(100, 220), "text": [f"{text} x11 md5sum" for text in texts]}
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    words = ["--token-pattern", r"\b\w\w+\b", "--ngrams", 2, "--min-df", 5, "--id", "key"]
    code, _, err = fit(capsys, monkeypatch, tmp_path / "t.csv", "--out", tmp_path / "a", *words)
    assert not code, err
    encoder = Encoder.load(tmp_path / "a" / "model.safetensors")
    assert {"x11", "x11 md5sum"} <= set(encoder.words)
    assert encoder.vectorise(["X11  MD5sum"]).nnz == 3
    assert encoder.similar(rows["text"][:1])[0][0].name == "100"


def test_command_refuses(capsys, monkeypatch, two, folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for out, words in {
        folder / "chosen": "lies in",
        folder: "lies in",
        tmp_path / "file": "this is a file",
        tmp_path / "full": "other files",
    }.items():
        code, _, err = fit(capsys, monkeypatch, folder, "--out", out)
        assert code == 2 and words in err.splitlines()[-1], err
    assert not (folder / "chosen").exists()
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    code, _, err = fit(capsys, monkeypatch, tmp_path / "nowhere.txt", "--out", tmp_path / "new")
    assert code == 2 and "nowhere.txt" in err and not (tmp_path / "new").exists()
