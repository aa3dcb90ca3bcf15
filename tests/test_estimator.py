"""The scikit-learn estimator: scikit-learn's own checks, and what they do not look at."""

from __future__ import annotations

import io
import os
import pickle
import re
import subprocess
import sys

import joblib
import numpy as np
import pytest
import theano
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from ae_bn import BatchNormAutoencoder, LinearDenoiser
from ae_bn.config import load_config
from ae_bn.data.corpus import split_validation
from ae_bn.errors import UserError
from ae_bn.estimator import masked
from ae_bn.randomness import streams
from ae_bn.study.compiled import compiled
from ae_bn.training import fit

BINARY = {"loss": "cross_entropy", "output_activation": "sigmoid"}


@pytest.fixture
def small():
    return BatchNormAutoencoder([4], batch_size=10, epochs=3, random_state=3, **BINARY)


@parametrize_with_checks([BatchNormAutoencoder()])
def test_check_estimator(estimator, check):
    check(estimator)


def test_it_is_the_same_training_as_a_run(small, documents):
    small.fit(documents)
    settings = ["model.layers=[4]", "training.batch_size=10", "training.epochs=3"]
    settings += ["training.learning_rate=0.0005"]
    config = load_config(None, [*settings, "training.seed=3", "model.dropout.input=0.7"])
    stream = streams(3)
    with compiled(config, 12) as autoencoder:
        pass
    rows, valid_rows = split_validation(40, 0.1, stream.split)
    X_train, X_valid = documents[rows], documents[valid_rows]
    autoencoder.initialize(X_train, stream, 0.001, config.model.dropout)
    result = fit(autoencoder, X_train, X_valid, config.training, stream.order)
    assert [epoch.valid_loss for epoch in small.history_] == [e.valid_loss for e in result.history]
    np.testing.assert_array_equal(small.transform(documents), autoencoder.encode(documents))
    assert small.score(documents) == -autoencoder.evaluate(documents)
    assert (small.best_epoch_, small.n_iter_) == (result.best_epoch, 3)


def test_dense_sparse_and_dtypes(small, documents):
    codes = small.fit(documents).transform(documents)
    assert codes.dtype == np.float32 and codes.shape == (40, 4)
    for X in (documents.toarray(), documents.astype(np.float64), documents.tocsc()):
        again = clone(small).fit(X).transform(X)
        assert again.dtype == X.dtype
        np.testing.assert_allclose(again, codes, rtol=1e-6)
    unsorted = documents.copy()
    for start, end in zip(unsorted.indptr, unsorted.indptr[1:]):
        unsorted.indices[start:end] = unsorted.indices[start:end][::-1].copy()
    unsorted.has_sorted_indices = False
    before = unsorted.indices.copy()
    np.testing.assert_allclose(small.fit(documents).transform(unsorted), codes, rtol=1e-6)
    np.testing.assert_array_equal(unsorted.indices, before)  # left as it was


def test_inverse_transform_is_the_other_half(small, documents):
    codes = small.fit(documents).transform(documents)
    reconstructed = small.inverse_transform(codes)
    small.score(documents)  # loads its parameters
    with small._loaded() as autoencoder:
        expected = autoencoder.reconstruct(documents)
    np.testing.assert_allclose(reconstructed, expected, rtol=1e-5)
    with pytest.raises(UserError, match="4 units"):
        small.inverse_transform(codes[:, :2])


def test_shared_values_do_not_compile_again(small, documents, monkeypatch):
    small.fit(documents).transform(documents)
    monkeypatch.setattr(theano, "function", None)
    other = clone(small).set_params(learning_rate=0.1, input_dropout=0.5, random_state=4, epochs=2)
    assert not np.allclose(other.fit_transform(documents), small.transform(documents))


def test_two_estimators_do_not_disturb_each_other(small, documents):
    codes = small.fit(documents).transform(documents)
    clone(small).set_params(random_state=9).fit(documents)
    np.testing.assert_array_equal(small.transform(documents), codes)


def test_dump_and_load(small, documents):
    codes, file = small.fit(documents).transform(documents), io.BytesIO()
    joblib.dump(small, file)
    file.seek(0)
    with compiled(load_config(), 1):  # of another
        pass
    np.testing.assert_array_equal(joblib.load(file).transform(documents), codes)


def test_partial_fit_goes_on(small, documents):
    small.set_params(learning_rate=0.01)
    losses = [-small.partial_fit(documents).score(documents) for _ in range(20)]
    assert losses[-1] < losses[0] and small.n_iter_ == 20
    # Cut in two by a dump, it is the same: optimiser and masks go on.
    twice = [clone(small).set_params(input_dropout=0.3) for _ in range(2)]
    for _ in range(2):
        twice[0].partial_fit(documents)
    file = io.BytesIO()
    joblib.dump(twice[1].partial_fit(documents), file)
    small.fit(documents)
    file.seek(0)
    again = joblib.load(file).partial_fit(documents)
    np.testing.assert_array_equal(again.transform(documents), twice[0].transform(documents))


@pytest.mark.parametrize("train", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"layers": [6]}, "model.layers=[4], not [6]"),
        ({"tied": True}, "model.tied=False, not True"),
        ({"hidden_activation": "tanh"}, "model.hidden_activation='relu', not 'tanh'"),
        ({"top_batch_norm": True}, "model.batch_norm.top=False, not True"),
        ({"settings": {"model.sampling": 5}}, "model.sampling=None, not 5"),
    ],
)
def test_partial_fit_goes_on_with_the_same_model_alone(small, documents, train, parameters, words):
    getattr(small, train)(documents)
    codes = small.transform(documents)
    with pytest.raises(UserError, match=re.escape(words)):
        small.set_params(**parameters).partial_fit(documents)
    np.testing.assert_array_equal(small.transform(documents), codes)
    assert len(small.get_feature_names_out()) == 4


def test_partial_fit_with_another_optimiser_starts_it_anew(small, documents):
    """The state of one optimiser means nothing to another."""
    after_fit = clone(small).set_params(optimizer="nesterov", learning_rate=0.01)
    small.partial_fit(documents)
    for name in (
        "parameters_",
        "_fitted",
        "start_",
        "_training_state",
        "n_iter_",
        "n_features_in_",
    ):
        setattr(after_fit, name, getattr(small, name))
    after_fit._training_state = None
    small.set_params(optimizer="nesterov", learning_rate=0.01)
    for model in (after_fit, small):
        model.partial_fit(documents).partial_fit(documents)
    np.testing.assert_array_equal(small.transform(documents), after_fit.transform(documents))


def test_a_pickle_holds_plain_values(small, documents):
    """So another version of the package can read it, or refuse it in one line."""
    small.fit(documents)
    pickled = pickle.dumps(small)
    assert set(re.findall(rb"ae_bn[\w.]*", pickled)) == {b"ae_bn.estimator"}
    copied = pickle.loads(pickled)
    assert copied.history_ == small.history_ and copied._fitted == small._fitted
    for fitted in (small._fitted, {"model": {"shape": 3}}, {"model": {"layers": None}}):
        with pytest.raises(UserError, match="another version of ae_bn .* fit again"):
            clone(small).__setstate__({**small.__getstate__(), "_fitted": fitted})


def test_names_of_the_codes(small, documents):
    names = small.fit(documents).get_feature_names_out()
    assert list(names) == [f"batchnormautoencoder{unit}" for unit in range(4)]


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"layers": [0]}, "model.layers.0: should be greater than 0"),
        ({"learning_rate": -1.0}, "training.learning_rate"),
        ({"batch_size": 1000}, "batch_size: 1000 is more than the 36"),
        ({"settings": {"model.batch_norms": 1}}, "model.batch_norm"),
        ({"loss": "squared_error", "output_activation": "sofmax"}, "output_activation"),
        ({"batch_size": 1}, "1 document has no variance"),
        ({"start": "svd"}, "start='svd': choose one of auto, denoiser, random"),
        ({"start": "denoiser"}, "linear denoiser needs output_activation linear"),
        ({"settings": {"model.denoiser_start": {"masking": 0.9, "offset": 1.0}}}, "denoiser_start"),
        ({"monitor": "f1"}, "monitor='f1': choose one of loss, accuracy, precision"),
        ({"settings": "model.tied"}, "give a dict"),
        ({"settings": {"training": {}}}, "'training' is no setting"),
        ({"settings": {5: 1}}, "5 is no setting"),
        ({"settings": {"model.loss": None}}, "model.loss"),
        ({"random_state": -1}, "random_state=-1: give a whole number from 0"),
        ({"settings": {"training.seed": 7}}, "'training.seed' has no effect .* random_state"),
        ({"settings": {"training.observe_steps": 1}}, "no effect"),
        ({"settings": {"training.path_epochs": 2}}, "no effect"),
        ({"settings": {"training.checkpoint_epochs": 2}}, "no effect"),
        ({"settings": {"data.input": "tfidf"}}, "no effect"),
        ({"settings": {"evaluation.softmax_probe": True}}, "no effect"),
        ({"settings": {"experiment.seeds": 3}}, "no effect"),
        ({"settings": {"training.batch_size": 20}}, "is also given as batch_size"),
        (
            {"input_dropout": 0.1, "settings": {"model.dropout": {"input": 0.0, "hidden": 0.0}}},
            "'model.dropout' is also given as input_dropout",
        ),
    ],
)
def test_mistakes_are_told(small, documents, parameters, words):
    with pytest.raises(UserError, match=words):
        small.set_params(**parameters).fit(documents)


def test_settings_have_the_effect_of_parameters(small, documents):
    codes = small.set_params(learning_rate=0.05).fit(documents).transform(documents)
    settings = {
        "model.layers": (4,),
        "training.batch_size": np.int64(10),
        "training.learning_rate": 0.05,
        "model.competition": None,
    }
    other = clone(small).set_params(layers=None, batch_size=None, learning_rate=None)
    other.set_params(settings=settings).fit(documents)
    np.testing.assert_array_equal(other.transform(documents), codes)
    other.set_params(settings={**settings, "training.batch_size": 37})  # not lowered to 36
    with pytest.raises(UserError, match="37 is more than the 36"):
        other.fit(documents)


RANDOM = {"dropout": 0.7, "batch_size": 36, "patience": 10, "plateau": None}
DENOISER = {"dropout": 0.9, "batch_size": 36, "patience": 30, "plateau": (0.5, 8)}


@pytest.mark.parametrize(
    "parameters, start",
    [
        ({}, "denoiser"),
        ({"layers": [13]}, "random"),  # more units than words
        ({"layers": [4, 3]}, "random"),
        ({"hidden_activation": "tanh"}, "random"),
        ({"start": "random"}, "random"),
        ({"settings": {"model.denoiser_start": None}}, "random"),
        ({"settings": {"model.denoiser_start": {"masking": 0.5, "offset": 1.0}}}, "denoiser"),
        (BINARY, "random"),
    ],
)
def test_the_start_decides_what_is_not_given(documents, parameters, start):
    model = BatchNormAutoencoder(**{"layers": [4], "epochs": 1, **parameters}).fit(documents)
    training, used = model._fitted.training, model._fitted.model
    plateau = training.plateau and (training.plateau.factor, training.plateau.patience)
    found = dict(dropout=used.dropout.input, batch_size=training.batch_size)
    found.update(patience=training.patience, plateau=plateau)
    assert model.start_ == start and found == {"random": RANDOM, "denoiser": DENOISER}[start]
    assert (used.denoiser_start is None) == (start == "random")
    given = clone(model).set_params(input_dropout=0.2, patience=3).fit(documents)
    assert given._fitted.model.dropout.input == 0.2 and given._fitted.training.patience == 3


def test_masked_changes_training_and_its_start(documents):
    model = BatchNormAutoencoder([4], epochs=1, **masked(0.5)).fit(documents)
    used = model._fitted.model
    assert used.dropout.input == used.denoiser_start.masking == 0.5
    default = BatchNormAutoencoder([4], epochs=1).fit(documents)._fitted
    assert model._fitted == default.replace(
        {"model.dropout.input": 0.5, "model.denoiser_start.masking": 0.5}
    )


def test_training_starts_as_good_as_the_denoiser(documents):
    """With the offset of 50 standard deviations no unit is cut off."""
    start = {"model.denoiser_start": {"masking": 0.9, "offset": 50.0}}
    model = BatchNormAutoencoder([4], epochs=1, learning_rate=1e-9, random_state=0, settings=start)
    model.fit(documents)
    rows, _ = split_validation(40, 0.1, streams(0).split)
    expected = LinearDenoiser(4, masking=0.9).fit(documents[rows]).transform(documents)
    codes = model.transform(documents)
    shifts = (codes - expected)[0]
    np.testing.assert_allclose(codes - shifts, expected, atol=1e-3)
    # A later chunk may be smaller than the code is wide.
    model.set_params(batch_size=2).partial_fit(documents[:2])
    assert model.start_ == "denoiser"


@pytest.mark.parametrize("way", ["a parameter", "settings"])
def test_cross_entropy_refuses_other_values(small, documents, way):
    if way == "settings":
        loss = {"model.loss": "cross_entropy", "model.output_activation": "sigmoid"}
        small = BatchNormAutoencoder([4], batch_size=10, epochs=2, settings=loss)
    for train in (small.fit, small.partial_fit):
        for wrong in (documents * 2, documents * -1):
            with pytest.raises(UserError, match="cross_entropy"):
                train(wrong)
    small.fit(documents)
    for use in (small.transform, small.score):
        with pytest.raises(UserError, match="cross_entropy"):
            use(documents * 2)


def test_partial_fit_checks_as_fit(small, documents):
    small.fit(documents)
    codes = small.transform(documents)
    alike = documents[[0] * 15]
    for chunk, words in (
        (documents[:9], "10 is more than the 9 training documents"),
        (alike, "documents are equal"),
        (documents[[3] * 15], "documents are equal"),  # all empty
    ):
        with pytest.raises(UserError, match=words):
            small.partial_fit(chunk)
        np.testing.assert_array_equal(small.transform(documents), codes)
    with pytest.raises(UserError, match="documents are equal"):
        clone(small).fit(alike)
    small.set_params(batch_size=None)
    with pytest.raises(UserError, match="1 document has no variance"):
        small.partial_fit(documents[0])
    small.set_params(batch_norm=False, batch_size=None).fit(documents)
    small.partial_fit(documents[0]).partial_fit(alike)  # nothing is standardised


def test_values_that_are_too_large_are_told(small, documents):
    X = documents.astype(np.float64)
    X.data[0] = 1e39
    small.set_params(loss="squared_error", output_activation="linear")
    for train in (small.fit, small.partial_fit):
        with pytest.raises(UserError, match="float32 cannot hold"):
            train(X)
    small.fit(documents)
    for use in (small.transform, small.score):
        with pytest.raises(UserError, match="float32 cannot hold"):
            use(X)
    X.data[:] = 3e38
    for use in (small.transform, small.score):
        with pytest.raises(UserError, match="not finite: scale X"):
            use(X)
    with pytest.raises(UserError, match="not finite"):
        small.inverse_transform(np.full((2, 4), 1e39))


def test_a_model_that_is_not_finite_is_not_used(small, documents):
    codes = small.fit(documents).transform(documents)
    small.parameters_["layer2.b"][0] = np.nan
    for use in (small.transform, small.score, small.partial_fit):
        with pytest.raises(UserError, match="not finite|no finite loss"):
            use(documents)
    with pytest.raises(UserError, match="layer2.b .* not finite"):
        small.inverse_transform(codes)


def test_a_chunk_that_ruins_the_parameters_is_not_kept(documents):
    """The loss of its one minibatch is finite, what is left after the step is not."""
    model = BatchNormAutoencoder([4], batch_norm=False, optimizer="sgd", learning_rate=0.1)
    codes = model.partial_fit(documents).transform(documents)
    with pytest.raises(UserError, match="not finite"):
        model.set_params(learning_rate=1e38).partial_fit(documents * 100)
    np.testing.assert_array_equal(model.transform(documents), codes)


@pytest.fixture
def labelled(folder):
    """Return binary documents of three topics, and their topics."""
    paths = sorted(folder.glob("*/*.txt"))
    texts = [path.read_text() for path in paths]
    X = CountVectorizer(binary=True).fit_transform(texts).astype(np.float32)
    return X, np.array([path.parent.name for path in paths])


MONITORED = {"accuracy": "valid_accuracy", "precision": "valid_centred_precision"}


@pytest.mark.parametrize("monitor", MONITORED)
def test_labels_choose_the_epoch_and_nothing_else(labelled, monitor):
    X, y = labelled
    common = {"batch_size": 20, "epochs": 12, "learning_rate": 0.01, "input_dropout": 0.3}
    model = BatchNormAutoencoder(
        [5], validation_fraction=0.4, random_state=1, **common, **BINARY
    ).fit(X, y)
    other = clone(model).set_params(monitor=monitor).fit(X, y)
    assert [e[:3] for e in other.history_] == [e[:3] for e in model.history_]
    assert model.best_epoch_ == 1 + np.argmin([e.valid_loss for e in model.history_])
    values = [epoch.metrics[MONITORED[monitor]] for epoch in other.history_]
    assert other.best_epoch_ == 1 + np.argmax(values) != model.best_epoch_
    # The parameters are those that training had at the end of that epoch.
    short = clone(model).set_params(epochs=int(other.best_epoch_)).fit(X)
    assert short.best_epoch_ == short.n_iter_ == other.best_epoch_
    for name, array in short.parameters_.items():
        np.testing.assert_array_equal(other.parameters_[name], array)
    numbers = clone(other).fit(X.toarray(), list(np.unique(y, return_inverse=True)[1] * 7 - 3))
    assert numbers.best_epoch_ == other.best_epoch_
    np.testing.assert_array_equal(numbers.transform(X), other.transform(X))


def test_labels_that_cannot_choose_are_told(small, documents):
    small.set_params(monitor="accuracy")
    one = np.zeros(40)
    one[split_validation(40, 0.1, streams(3).split)[1]] = 1  # in the held-out documents only
    for y, words in (
        (None, r"needs labels: give fit\(X, y\)"),
        (["a"] * 40, "needs documents of two labels, and the 36"),
        (one, "needs documents of two labels, and the 36"),
        ([0, 1], "inconsistent"),
        (np.zeros((40, 2)), "1d|shape"),
        (np.linspace(0, 1, 40), "continuous"),
        (["a", None] * 20, "missing"),
        ([1.0, 2.0, np.nan, 2.0] * 10, "missing"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            small.fit(documents, y)
        assert len(str(caught.value).splitlines()) == 1
    small.set_params(monitor="loss").fit(documents, [0, 1])  # not looked at


def test_verbose_shows_losses_and_the_time_left(small, documents, capsys):
    silent = clone(small).fit(documents).partial_fit(documents)
    assert capsys.readouterr() == ("", "")
    small.set_params(verbose=True).fit(documents)
    out, err = capsys.readouterr()
    last = err.split("\r")[-1]
    assert out == "" and "3/3" in last and "<00:00" in last
    for name, loss in zip(("train", "valid"), small.history_[-1][1:3]):
        assert f"{name}={loss:.3g}" in last
    small.partial_fit(documents)
    assert "4/4" in capsys.readouterr().err
    np.testing.assert_array_equal(small.transform(documents), silent.transform(documents))


def test_divergence_is_told(documents):
    with pytest.raises(UserError, match="learning_rate"):
        estimator = BatchNormAutoencoder(
            [4], batch_norm=False, batch_size=10, optimizer="sgd", learning_rate=1e30
        )
        estimator.fit(documents)


def test_grid_search_over_a_pipeline(folder):
    texts = [path.read_text() for path in sorted(folder.glob("*/*.txt"))]
    labels = [path.parent.name for path in sorted(folder.glob("*/*.txt"))]
    pipeline = Pipeline(
        [
            ("tfidf", TfidfVectorizer()),
            ("codes", BatchNormAutoencoder([6], batch_size=20, epochs=5, random_state=1)),
            ("probe", LogisticRegression(C=100)),
        ]
    )
    grid = {"codes__learning_rate": np.array([0.01, 0.03])}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=2, error_score="raise").fit(texts, labels)
    assert search.best_score_ > 0.8  # chance is a third


FORKED = """
import multiprocessing, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import joblib, numpy as np, scipy.sparse as sp
from ae_bn import BatchNormAutoencoder, LinearDenoiser
from ae_bn.config import load_config
from ae_bn.study.compiled import compiled

X = sp.random(300, 40, density=0.3, random_state=0, format="csr")
model = BatchNormAutoencoder([4], epochs=2, random_state=0).fit(X)
codes = model.transform(X)
fork = multiprocessing.get_context("fork")

def fit():
    return BatchNormAutoencoder([4], epochs=2, random_state=0).fit(X).transform(X)

def in_a_thread():
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(fit).result()

with fork.Pool(1) as pool:
    found = [pool.apply(model.transform, [X]), pool.apply(fit), pool.apply(in_a_thread)]
with ProcessPoolExecutor(1, mp_context=fork) as pool:
    found.append(pool.submit(fit).result())
found += joblib.Parallel(2, backend="multiprocessing")(joblib.delayed(fit)() for _ in range(2))

# Another thread of the parent computes while it forks.
taken, done = threading.Event(), threading.Event()
def hold():
    with compiled(load_config(), 40):
        taken.set()
        done.wait()
threading.Thread(target=hold).start()
taken.wait()
with fork.Pool(1) as pool:
    found.append(pool.apply(model.transform, [X]))
done.set()
found.append(model.transform(X))  # the parent goes on as before
for each in found:
    np.testing.assert_allclose(each, codes, rtol=1e-4, atol=1e-5)
print(len(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_children_compute_too():
    """Children of a process whose threads have computed; of GNU's OpenMP they inherit none."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (run.returncode, run.stdout) == (0, "8\n"), run.stderr
