"""The encoder in NumPy beside Theano's, for every kind of model, and without Theano."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import in_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from ae_bn import Encoder, choices, neighbours, save_model
from ae_bn.config import BatchNormConfig, ModelConfig, load_config
from ae_bn.data.corpus import Corpus
from ae_bn.data.words import count_words, weigh
from ae_bn.errors import UserError
from ae_bn.files import read_facts, read_header, write_arrays
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.layers import array_shapes
from ae_bn.model.model_file import read_model, write_model
from ae_bn.model.topics import kind

WORDS = ["gull", "heron", "ship", "tide", "sail", "reef"]
PICKLE = b"cae_bn.estimator\nBatchNormAutoencoder\n."  # refers to the estimator
TEXTS = ["gull heron gull", "", "ship, tide & SAIL", "reef reef reef unknown", "gull ship tide"]
# Every value of every setting of a model; a new setting has to be added, and to the encoder.
MODELS = {
    "layers": st.lists(st.integers(1, 5), min_size=1, max_size=3),
    "tied": st.booleans(),
    "hidden_activation": st.sampled_from(["relu", "sigmoid", "tanh", "linear"]),
    "output_activation": st.sampled_from(["relu", "sigmoid", "tanh", "linear"]),
    "output_start": st.sampled_from(["data", "plain"]),
    "loss": st.sampled_from(["squared_error", "cross_entropy", "multinomial"]),
    "competition": st.sampled_from([None, {"k": 1, "alpha": 2.0}]),
    "sampling": st.sampled_from([None, 2]),
    "topics": st.sampled_from(
        [None] * 5
        + [{"number": 3, "alpha": 0.1, "heads": h} for h in (None, "shift", "scale_and_shift")]
    ),
}
BATCH_NORMS = {
    "hidden": st.booleans(),
    "top": st.booleans(),
    "center": st.booleans(),
    "normalize": st.booleans(),
    "scale": st.booleans(),
    "shift": st.booleans(),
    "over": st.sampled_from([None, "units"]),
    "gradient": st.sampled_from(["full", "constant", "rate_per_unit"]),
    "epsilon": st.sampled_from([1e-5, 0.5]),
}
INPUTS = st.sampled_from(["binary", "tfidf", "sublinear_tfidf", "log_count", "as_is"])


@st.composite
def configs(draw):
    """Draw the config of any model that can be written."""
    changes = {f"model.{name}": draw(values) for name, values in MODELS.items()}
    changes.update({f"model.batch_norm.{name}": draw(v) for name, v in BATCH_NORMS.items()})
    if changes["model.topics"]:
        changes.update({"model.loss": "multinomial", "model.tied": False})
        changes.update({"model.competition": None, "model.batch_norm.over": None})
    if changes["model.loss"] == "cross_entropy":
        changes["model.output_activation"] = "sigmoid"
    if changes["model.loss"] == "multinomial":
        changes.update({"model.output_activation": "softmax", "model.sampling": None})
    if changes["model.batch_norm.over"]:
        changes.update({"model.batch_norm.gradient": "full", "model.sampling": None})
    if changes["model.competition"]:
        changes["model.hidden_activation"] = "tanh"
    return load_config().replace({**changes, "data.input": draw(INPUTS)})


def trained(config, seed=0) -> Autoencoder:
    """Return an autoencoder whose arrays are drawn at random, in place of training."""
    rng = np.random.default_rng(seed)
    autoencoder = kind(config.model)(config.model, "sgd", len(WORDS), "symbolic")
    state = {
        name: rng.uniform(0.1, 2, array.shape)
        if "variance" in name
        else rng.normal(size=array.shape)
        for name, array in autoencoder.get_state().items()
    }
    dtype = autoencoder.get_state()["layer1.W"].dtype
    autoencoder.set_state({name: array.astype(dtype) for name, array in state.items()})
    return autoencoder


def write(path, autoencoder, config):
    corpus = Corpus(
        None, None, None, None, [], WORDS, np.linspace(1, 2, len(WORDS)), "made up", "0"
    )
    write_model(path, autoencoder.get_state(), config, corpus)
    return path


@pytest.fixture
def file(float32, tmp_path):
    """Return the file of a model with Batch Normalization."""
    config = load_config(None, ["model.layers=[4, 3]"])
    return write(tmp_path / "model.safetensors", trained(config), config)


def test_every_setting_of_a_model_is_tried():
    start = {"denoiser_start"}  # which changes values, and no graph
    assert {*MODELS, *start, "batch_norm", "dropout"} == set(ModelConfig.model_fields)
    assert set(BATCH_NORMS) == set(BatchNormConfig.model_fields)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(configs())
def test_codes_are_those_of_theano(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    with in_numpy("float32"):
        autoencoder = trained(config)
        state = autoencoder.get_state()
        assert {name: a.shape for name, a in state.items()} == array_shapes(
            config.model, len(WORDS)
        )
        write(path, autoencoder, config)
        X = weigh(count_words(TEXTS, WORDS), config.data.input, np.linspace(1, 2, len(WORDS)))
        expected = autoencoder.encode(X)
    codes = Encoder.load(path).transform(TEXTS)
    assert codes.dtype == np.float32 and codes.shape == (len(TEXTS), config.model.code_units)
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)


def test_double_precision_stays(float64, tmp_path):
    config = load_config(None, ["model.layers=[4, 3]"])
    autoencoder = trained(config)
    path = write(tmp_path / "model.safetensors", autoencoder, config)
    X = weigh(count_words(TEXTS, WORDS), "binary", np.ones(len(WORDS)))
    codes = Encoder.load(path).transform(TEXTS)
    assert codes.dtype == np.float64
    np.testing.assert_allclose(codes, autoencoder.encode(X), rtol=1e-12)


def test_no_theano_and_no_scikit_learn(file):
    """What is not installed with the encoder alone is kept away."""
    program = f"""
import sys
absent = "theano sklearn pandas matplotlib statsmodels joblib tqdm jinja2 filelock".split()
sys.modules.update(dict.fromkeys(absent))
import json, os, pickle
import ae_bn
encoder = ae_bn.Encoder.load({str(file)!r})
print(json.dumps(encoder.transform({TEXTS!r}).tolist()))
encoder.store({TEXTS!r})
assert encoder.similar({TEXTS!r})[0][0].name == "1"
assert not {{"THEANO_FLAGS", "OPENBLAS_CORETYPE", "GOMP_SPINCOUNT"}} & set(os.environ)
try:
    ae_bn.BatchNormAutoencoder
except ae_bn.errors.UserError as error:
    assert "training needs Theano" in str(error)
else:
    raise AssertionError("it trains")
try:
    pickle.loads({PICKLE!r})
except ae_bn.errors.UserError as error:
    assert "ae_bn.Encoder is enough" in str(error)
else:
    raise AssertionError("it trains")
"""
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        np.float32(json.loads(done.stdout)), Encoder.load(file).transform(TEXTS)
    )


def test_a_file_holds_the_stop_words_that_sequences_need(tmp_path):
    """Without scikit-learn there is no other list."""
    texts = [f"{text} the reef of tide" for text in TEXTS] * 3
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), stop_words="english")
    pipeline = make_pipeline(vectoriser, TruncatedSVD(2, random_state=0)).fit(texts)
    path = tmp_path / "model.safetensors"
    save_model(pipeline, path)
    program = f"""
import sys
sys.modules.update(dict.fromkeys("theano sklearn".split()))
import json
from ae_bn import Encoder
encoder = Encoder.load({str(path)!r})
print(json.dumps([encoder.words, encoder.transform({texts!r}).tolist()]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words, codes = json.loads(done.stdout)
    assert "reef tide" in words
    np.testing.assert_allclose(codes, pipeline.transform(texts), atol=1e-5)
    facts = {**read_facts(path), "stop_words": [3]}
    write_arrays(path, read_model(path).arrays, facts)
    with pytest.raises(UserError, match="a stop word is no word"):
        Encoder.load(path)


def test_matrices_and_many_texts(file):
    loaded = Encoder.load(str(file))
    X = loaded.vectorise(TEXTS)
    codes = loaded.transform(text for text in TEXTS)
    np.testing.assert_array_equal(loaded.encode(X), codes)
    np.testing.assert_allclose(loaded.encode(X.toarray()), codes, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loaded.transform(TEXTS[:1]), codes[:1], rtol=1e-5, atol=1e-6)
    assert loaded.transform([]).shape == (0, 3)


def test_a_pickle_gives_the_same_codes(file):
    """It holds plain values, so that another version can read or refuse it."""
    encoder = Encoder.load(file)
    pickled = pickle.dumps(encoder)
    for copied in (pickle.loads(pickled), copy.deepcopy(encoder)):
        np.testing.assert_array_equal(copied.transform(TEXTS), encoder.transform(TEXTS))
    assert set(re.findall(rb"ae_bn[\w.]*", pickled)) == {b"ae_bn.encoder"}
    rebuild, (contents,), _ = encoder.__reduce__()
    for config in ({"model": {"shape": 3}}, encoder.config, None):
        with pytest.raises(UserError, match="another version .* load a model.safetensors"):
            rebuild({**contents, "config": config})


def test_similar_texts(file):
    encoder = Encoder.load(file)
    with pytest.raises(UserError, match="no codes of known documents beside .*: store some"):
        encoder.similar(TEXTS)
    assert not encoder.has_stored
    names = ["birds", "nothing", "ships\nand more", "reefs", "all"]
    long = [*TEXTS[:4], TEXTS[4] + " and" * 40]
    stored = encoder.store(long, names)
    for each in (encoder, Encoder.load(file), pickle.loads(pickle.dumps(encoder))):
        found = each.similar([*TEXTS, "unknown words"], 2)
        assert [len(similar) for similar in found] == [2, 0, 2, 2, 2, 0]  # two have no known word
        assert found[0][0].name == "birds" and found[0][0].cosine == pytest.approx(1, abs=1e-6)
        assert found[2][0][1:] == ("ships and more", TEXTS[2])
        assert found[4][0].text.endswith(" and ...") and len(found[4][0].text) < 90
        assert found[0][0].cosine >= found[0][1].cosine
    assert len(encoder.similar(["gull"], 99)[0]) == 4  # without the one that is empty
    scaled = encoder.transform([text for text in long if text])
    scaled = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    centred = scaled - scaled.mean(axis=0)
    expected = centred[0] @ centred[1] / np.linalg.norm(centred[0]) / np.linalg.norm(centred[1])
    cosines = {similar.name: similar.cosine for similar in encoder.similar(TEXTS[:1], 4)[0]}
    assert cosines["ships and more"] == pytest.approx(expected, abs=1e-5)
    for n in (0, 1.5, True):
        with pytest.raises(UserError, match="n=.*: give a whole number from 1"):
            encoder.similar(TEXTS, n)
    with pytest.raises(UserError, match="none of the 2 documents has a word"):
        encoder.store(["", "unknown"])
    with pytest.raises(UserError, match="2 names for 5 texts"):
        encoder.store(TEXTS, ["a", "b"])
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Encoder.load(file).similar(TEXTS)


def test_many_codes_take_half_the_space(file, monkeypatch):
    encoder = Encoder.load(file)
    expected = encoder.store(TEXTS) and encoder.similar(TEXTS)
    monkeypatch.setattr(neighbours, "LARGE", 1)
    monkeypatch.setattr(neighbours, "COMPARED", 1)
    stored = encoder.store(TEXTS)
    assert read_header(stored)["codes"] == ("float16", (4, 3))
    for similar, exact in zip(Encoder.load(file).similar(TEXTS), expected):
        for a, b in zip(sorted(similar, key=lambda s: s.name), sorted(exact, key=lambda s: s.name)):
            assert a.name == b.name and a.cosine == pytest.approx(b.cosine, abs=0.01)


def test_codes_of_another_model_are_refused(file, tmp_path):
    Encoder.load(file).store(TEXTS)
    config = load_config(None, ["model.layers=[4, 3]"])
    write(file, trained(config, seed=1), config)
    with pytest.raises(UserError, match="codes of another model"):
        Encoder.load(file).similar(TEXTS)
    with pytest.raises(UserError, match="not loaded from a file"):
        Encoder(read_model(file)).similar(TEXTS)


def test_mistakes_are_told(file):
    loaded = Encoder.load(file)
    with pytest.raises(UserError, match="'gull heron' is one text: give a list"):
        loaded.transform("gull heron")
    with pytest.raises(UserError, match=r"shape \(5, 2\): give one column for each of the 6 words"):
        loaded.encode(loaded.vectorise(TEXTS)[:, :2])
    for X in (TEXTS, np.array([["gull"] * 6]), [[1j] * 6], None):
        with pytest.raises(UserError, match="documents of .*: give numbers, or texts"):
            loaded.encode(X)


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        pd.Series(TEXTS, range(9, 4, -1)),
    ]
    + [pd.Categorical(TEXTS), dict.fromkeys(TEXTS).keys(), io.StringIO("\n".join(TEXTS))],
    ids=lambda texts: type(texts).__name__,
)
def test_texts_may_be_in_anything_that_has_an_order(file, texts):
    loaded = Encoder.load(file)
    np.testing.assert_array_equal(loaded.transform(texts), loaded.transform(TEXTS))


@pytest.mark.parametrize(
    "texts, words",
    [
        (b"gull", "b'gull' is one text"),
        (
            pd.DataFrame({"text": TEXTS}),
            "a DataFrame is not a list of texts.* one column of a table",
        ),
        ({"text": "gull"}, "a dict is not"),
        ({"gull", "ship"}, "a set is not"),
        (np.array([TEXTS]), "a ndarray is not"),
        (np.array("gull"), "a ndarray is not"),
        (csr_matrix((2, 6)), "a csr_matrix is not"),
        (None, "a NoneType is not"),
        (["gull", b"ship"], r"texts\[1\] is b'ship' and not a str"),
        ([None], r"texts\[0\] is None"),
        (pd.Series(["gull", float("nan")]), r"texts\[1\] is nan"),
        (iter([["gull", "ship"]]), r"texts\[0\] is \['gull', 'ship'\]"),
        (["gull", 2], r"texts\[1\] is 2"),
    ],
)
def test_what_is_no_list_of_texts_is_named(file, texts, words):
    with pytest.raises(UserError, match=words):
        Encoder.load(file).transform(texts)


def test_what_it_does_not_know_is_refused_by_name(file, monkeypatch):
    monkeypatch.delitem(choices.ACTIVATIONS, "relu")
    with pytest.raises(UserError, match="not a model .*model.hidden_activation: .*'sigmoid'"):
        Encoder.load(file)


def test_a_diverged_model_is_refused(file):
    arrays, facts = read_model(file).arrays, read_facts(file)
    arrays["layer2.W"][0, 0] = np.nan
    write_arrays(file, arrays, facts)
    for read in (Encoder.load, read_model):
        with pytest.raises(UserError, match="layer2.W .* not finite.* lower .*learning_rate"):
            read(file)


def test_codes_that_are_not_finite_are_no_codes(file):
    loaded = Encoder.load(file)
    X = loaded.vectorise(TEXTS).astype(np.float64)
    assert np.isfinite(loaded.encode(X)).all()
    for value in (np.nan, 1e300):
        X.data[0] = value
        with pytest.raises(UserError, match="codes .* not finite: .* fit float32"):
            loaded.encode(X)
