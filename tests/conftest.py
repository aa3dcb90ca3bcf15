"""Shared by all tests."""

from __future__ import annotations

import ae_bn  # noqa: F401, sets Theano's flags before any test imports Theano

# isort: split

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import theano
from scipy.sparse import csr_matrix
from theano.compile import mode
from theano.link.c.cmodule import GCC_compiler, dlimport, std_include_dirs

from ae_bn.reporting.curves import curves_table
from ae_bn.study import compiled
from ae_bn.study.record import Record
from ae_bn.study.results import record_lines

SMALL = """
model: {layers: [5]}
training: {batch_size: 10, epochs: 3, learning_rate: .01}
experiment:
  name: small
  seeds: 3
  factors:
    bn: {"off": {model.batch_norm.hidden: false}, "on": {}}
    dropout: {none: {}, input: {model.dropout.input: .3}}
  compare:
    gain: {bn: "on", dropout: [none, input]}
"""

# What Theano and the kernels include; to read it takes most of the time of a compilation.
HEADERS = """
#include <Python.h>
#include <iostream>
#include "theano_mod_helper.h"
#include <math.h>
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
#endif
#ifdef __SSE__
#include <immintrin.h>
#endif
"""

# Flags that Theano adds for most of its modules, for our kernels, for the trial of OpenMP, and for
# the rest.  Headers that were compiled with other flags than a module are of no use to it.
VARIANTS = [["-fno-math-errno"], ["-fno-math-errno", "-fopenmp"], ["-fopenmp"], []]

# A shell that starts the tests in the background has them ignore Ctrl-C, which they are about.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("COV_CORE_SOURCE", None)  # coverage is of the tests' own processes


def compiler_flags() -> str:
    """Return the users' flags with two that make g++ four times as fast.

    It optimises little (`optimized` is for tests of the machine's code), and reads `HEADERS`
    compiled, which is done here first for `VARIANTS`: g++ takes what suits a module.
    """
    flags, folder = theano.config.gcc__cxxflags, Path(theano.config.base_compiledir, "headers")
    if sys.platform != "linux" or not theano.config.cxx or " -include " in flags:
        return flags
    if " " in str(folder):  # Theano splits the flags at spaces
        return flags
    command = [theano.config.cxx, "-g", *GCC_compiler.compile_args(), "-fvisibility=hidden"]
    command += [f"-I{include}" for include in std_include_dirs()]
    compiler = subprocess.run([command[0], "--version"], capture_output=True, check=True).stdout
    key = hashlib.sha256(compiler + repr((command, VARIANTS, HEADERS)).encode()).hexdigest()[:8]
    header = folder / f"{key}.h"
    compiled = header.with_suffix(".h.gch")  # a folder: g++ tries each file
    compiled.mkdir(parents=True, exist_ok=True)
    header.write_text(HEADERS)
    for number, more in enumerate(VARIANTS):
        if not (compiled / str(number)).exists():
            made = compiled.with_name(f"{number}-{os.getpid()}")
            subprocess.run(
                [*command, *more, "-x", "c++-header", "-o", made, header],
                stderr=subprocess.DEVNULL,
                check=True,
            )
            made.replace(compiled / str(number))
    linker = "-fuse-ld=gold " if shutil.which("ld.gold") else ""  # quicker than the default
    return f"{flags} -Og {linker}-include {header}"


theano.config.gcc__cxxflags = compiler_flags()
COMPILER = f"gcc__cxxflags={shlex.quote(theano.config.gcc__cxxflags)}"  # in other environments
# g++ takes compiled headers only in front of others, so BLAS's header moves behind them.
blas, _, header = theano.config.blas__ldflags.partition(" -include")
if header and " -include " in theano.config.gcc__cxxflags:
    theano.config.blas__ldflags = blas
    theano.config.gcc__cxxflags += f" -include {header}"
for name in ("gcc__cxxflags", "blas__ldflags"):
    os.environ["THEANO_FLAGS"] += f",{name}={shlex.quote(getattr(theano.config, name))}"


@pytest.fixture
def optimized():
    """Compile as for users."""
    flags = theano.config.gcc__cxxflags.replace(" -Og", "")
    with theano.config.change_flags(gcc__cxxflags=flags):
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs):
    """Give every process of tests its own folder of compiled code: they wait for its lock.

    What one of them compiles, the others copy, see `compile_once`.
    """
    for number, spec in enumerate(specs):
        folder = shlex.quote(os.path.join(theano.config.base_compiledir, f"tests{number}"))
        spec.env["THEANO_FLAGS"] = f"{os.environ['THEANO_FLAGS']},base_compiledir={folder}"
        spec.env["COMPILED_MODULES"] = os.path.join(theano.config.base_compiledir, "modules")


def compile_once(module_name, src_code, location=None, **settings):
    """Compile a module as Theano does, or copy it from a process of tests that has done so."""
    key = hashlib.sha256(repr((src_code, settings, theano.config.cxx)).encode()).hexdigest()
    kept = Path(os.environ["COMPILED_MODULES"], key)
    if kept.exists():
        shutil.copytree(kept, location, dirs_exist_ok=True)
        return dlimport(str(Path(location, f"{module_name}.so")))
    module = compile_module(module_name, src_code, location, **settings)
    made = kept.with_name(f"{key}-{os.getpid()}")
    shutil.copytree(location, made)
    try:
        made.rename(kept)
    except OSError:  # the other process was faster
        shutil.rmtree(made)
    return module


compile_module = GCC_compiler.compile_str
if sys.platform == "linux" and "COMPILED_MODULES" in os.environ:
    GCC_compiler.compile_str = staticmethod(compile_once)


@contextmanager
def in_numpy(floatX):
    """Build graphs in a precision, and run all but kernels in NumPy: little to compile, so faster.

    Theano keeps the first default mode it makes and looks no further at the flag, so what it
    keeps is put aside meanwhile.
    """
    kept, mode.instantiated_default_mode = mode.instantiated_default_mode, None
    try:
        with theano.config.change_flags(floatX=floatX, mode="FAST_COMPILE"):
            yield
    finally:
        mode.instantiated_default_mode = kept


@pytest.fixture(autouse=True)
def symbolic_in_numpy(request):
    """Run the definition in NumPy where the parameter ``kernels`` asks for it.

    `test_kernels` and `test_choices` compile the definition, too.
    """
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if parameters.get("kernels") != "symbolic":
        yield
        return
    with in_numpy("float32"):
        yield


@contextmanager
def own_models():
    """Do runs in NumPy, with models that no other test is given, and without kernels."""
    make = compiled._autoencoder.__wrapped__

    def symbolic(model, optimizer, kernels, many_documents, n_words):
        return make(model, optimizer, "symbolic", many_documents, n_words)

    with pytest.MonkeyPatch.context() as patched, in_numpy("float32"):
        patched.setattr(compiled, "_autoencoder", lru_cache(symbolic))
        patched.setattr(compiled, "_hessian", lru_cache(compiled._hessian.__wrapped__))
        yield


@pytest.fixture(scope="module")
def runs_in_numpy():
    """Do the runs of a module in NumPy."""
    with own_models():
        yield


@pytest.fixture
def run_in_numpy():
    """Do the runs of a test in NumPy."""
    with own_models():
        yield


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


def recorded_curves(runs, folder):
    """Return the curves of some finished runs, recorded in a folder."""
    record = Record(folder / "record")
    record.add(record_lines(runs, record), "small")
    rows = pd.DataFrame([{"arm": run.arm, "run": run.identity} for run in runs])
    return curves_table(rows, record)
