"""Shared by all tests."""

from __future__ import annotations

import ae_bn  # noqa: F401, sets Theano's flags before any test imports Theano

# isort: split

import os
import shlex
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import theano
from scipy.sparse import csr_matrix
from theano.compile import mode

SMALL = """
model: {layers: [5]}
training: {batch_size: 10, epochs: 3, learning_rate: .01}
evaluation: {classifier_c: [.1, 1.0]}
experiment:
  name: small
  seeds: 3
  factors:
    bn: {"off": {model.batch_norm.hidden: false}, "on": {}}
    dropout: {none: {}, input: {model.dropout.input: .3}}
  report:
    contrasts: {gain: {plus: [on / input], minus: [on / none]}}
"""

# A shell that starts the tests in the background has them ignore Ctrl-C, which they are about.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("COV_CORE_SOURCE", None)  # coverage is of the tests' own processes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs):
    """Give every process of tests its own folder of compiled code: they wait for its lock."""
    for number, spec in enumerate(specs):
        folder = shlex.quote(os.path.join(theano.config.base_compiledir, f"tests{number}"))
        spec.env["THEANO_FLAGS"] = f"{os.environ['THEANO_FLAGS']},base_compiledir={folder}"


@contextmanager
def in_numpy(floatX):
    """Build graphs in a precision, and run them in NumPy: nothing to compile, so faster.

    Theano keeps the first default mode it makes and looks no further at the flag, so what it
    keeps is put aside meanwhile.
    """
    kept, mode.instantiated_default_mode = mode.instantiated_default_mode, None
    try:
        with theano.config.change_flags(floatX=floatX, mode="FAST_COMPILE"):
            yield
    finally:
        mode.instantiated_default_mode = kept


@pytest.fixture
def float32():
    """Run a test in NumPy."""
    with in_numpy("float32"):
        yield


@pytest.fixture
def float64():
    """Run a test in double precision and in NumPy."""
    with in_numpy("float64"):
        yield


@pytest.fixture
def documents():
    """Return 40 binary documents over 12 words, (40, 12); document 3 is empty."""
    X = (np.random.default_rng(0).random((40, 12)) < 0.3).astype(np.float32)
    X[3] = 0
    return csr_matrix(X)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Return a folder of 120 documents in three categories, each with words of its own."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("documents")
    for category in range(3):
        (root / f"topic{category}").mkdir()
        words = [f"{letter}{'xyz'[category]}" for letter in "abcdefghijkl"] + ["common", "words"]
        for number in range(40):
            text = " ".join(rng.choice(words, size=12))
            (root / f"topic{category}" / f"{number}.txt").write_text(text)
    return root


@pytest.fixture
def config_file(tmp_path, folder):
    path = tmp_path / "small.yaml"
    path.write_text(f"data: {{source: folder, folder: {folder}, validation_fraction: .2}}\n{SMALL}")
    return path
