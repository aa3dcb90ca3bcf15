"""The scikit-learn estimator: scikit-learn's own checks, and what they do not look at."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import joblib
import numpy as np
import pytest
import theano
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from ae_bn import BatchNormAutoencoder
from ae_bn.config import load_config
from ae_bn.data import split_validation
from ae_bn.errors import UserError
from ae_bn.experiment import compiled_autoencoder
from ae_bn.randomness import streams
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
    config = load_config(
        None, ["model.layers=[4]", "training.batch_size=10", "training.epochs=3", "training.seed=3"]
    )
    autoencoder, stream = compiled_autoencoder(config, 12), streams(3)
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
    autoencoder = small._loaded()
    np.testing.assert_allclose(reconstructed, autoencoder.reconstruct(documents), rtol=1e-5)
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
    compiled_autoencoder(load_config(), 1)  # of another
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


def test_names_of_the_codes(small, documents):
    names = small.fit(documents).get_feature_names_out()
    assert list(names) == [f"batchnormautoencoder{unit}" for unit in range(4)]


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"layers": [0]}, "model.layers|layers must be positive"),
        ({"learning_rate": -1.0}, "training.learning_rate"),
        ({"batch_size": 1000}, "batch_size: 1000 is more than the 36"),
        ({"settings": {"model.batch_norms": 1}}, "model.batch_norm"),
        ({"loss": "squared_error", "output_activation": "sofmax"}, "output_activation"),
    ],
)
def test_mistakes_are_told(small, documents, parameters, words):
    with pytest.raises(UserError, match=words):
        small.set_params(**parameters).fit(documents)


def test_cross_entropy_refuses_other_values(small, documents):
    with pytest.raises(UserError, match="cross_entropy"):
        small.fit(documents * 2)


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
from ae_bn import BatchNormAutoencoder
from ae_bn.experiment import one_at_a_time

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
    with one_at_a_time:
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
