"""The contestants that `benchmark.py` times, each in a process of its own.

There are three: this project's autoencoder, its peer in PyTorch, and the matrix products alone.
The benchmark calls the functions below `Products` in its worker processes, where the contestant
stays between calls.  Theano and PyTorch are imported only in the workers that use them, and only
plain values return to the main process.  This matters because on Linux the peak memory of a process
includes that of the process that started it.
"""

from __future__ import annotations

import itertools
import re
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import joblib
import numpy as np

from ae_bn.commands.info import describe
from ae_bn.config import Config, DropoutConfig, load_config
from ae_bn.data.corpus import batches, prepare_corpus, read_corpus
from ae_bn.errors import UserError
from ae_bn.randomness import streams

OPTIMIZERS = {"nesterov": 0.001, "adam": 0.001}  # their learning rates
WARM_UP = 5  # number of steps
TRIALS, TRIAL_SECONDS = 3, 0.2  # for every variant in PyTorch, to find the fastest
SHOWN = ("processor", "Python", "Theano", "NumPy", "SciPy", "compiler", "BLAS")

INPUTS = {
    "binary": ["data.input=binary", "model.loss=cross_entropy", "model.output_activation=sigmoid"],
    "tfidf": ["data.input=tfidf", "model.loss=squared_error", "model.output_activation=linear"],
}
BATCH_NORM = {
    "off": ["model.batch_norm.hidden=false", "model.batch_norm.top=false"],
    "hidden": ["model.batch_norm.hidden=true", "model.batch_norm.top=false"],
    "all": ["model.batch_norm.hidden=true", "model.batch_norm.top=true"],
}
MODELS = {
    f"{kind}-{switch}": INPUTS[kind] + BATCH_NORM[switch]
    for kind, switch in itertools.product(INPUTS, BATCH_NORM)
}


class Case(NamedTuple):
    """The case that one row of the table measures."""

    shape: tuple  # numbers of words, of hidden units, of documents in a minibatch
    model: str  # a key of MODELS
    optimizer: str  # a key of OPTIMIZERS
    threads: int

    @property
    def config(self) -> Config:
        n_words, n_hidden, batch_size = self.shape
        sizes = [
            f"data.vocabulary_size={n_words}",
            f"model.layers=[{n_hidden}]",
            f"training.batch_size={batch_size}",
        ]
        training = [
            f"training.optimizer={self.optimizer}",
            f"training.learning_rate={OPTIMIZERS[self.optimizer]}",
            "model.dropout.input=0.2",
        ]
        return load_config(None, MODELS[self.model] + sizes + training)

    def __str__(self):
        shape = ",".join(map(str, self.shape))
        return f"{shape} {self.model} {self.optimizer}, threads: {self.threads}"


class Trainer:
    """A model and the documents that it is trained on.

    Parameters
    ----------
    model : object with a method ``train``
        The model; ``train`` takes a minibatch and returns its loss.
    X : csr_matrix, (n_train, n_words)
        The training documents.
    batch_size : int
        The number of documents in a minibatch.
    """

    def __init__(self, model, X, batch_size):
        self.model = model
        self._batch_size = batch_size
        self._batches = endless_batches(X, batch_size)
        self.round(WARM_UP)

    def round(self, steps: int) -> float:
        """Make a number of steps and return the documents per second."""
        began = time.perf_counter()
        losses = [float(self.model.train(next(self._batches))) for _ in range(steps)]
        seconds = time.perf_counter() - began
        if not np.isfinite(losses).all():
            raise FloatingPointError("the loss is not finite, so its speed means nothing")
        return steps * self._batch_size / seconds


class Products:
    """The three dense matrix products that every step needs, through Theano's BLAS.

    Parameters
    ----------
    shape : tuple of int
        The numbers of words, of hidden units and of documents in a minibatch.
    """

    def __init__(self, shape):
        import theano
        from theano.tensor.blas import gemm_no_inplace  # in place once compiled

        def matrix(*size):
            return theano.shared(random.normal(size=size).astype(theano.config.floatX))

        random = np.random.default_rng(0)
        n_words, n_hidden, self._batch_size = shape
        hidden, W = matrix(self._batch_size, n_hidden), matrix(n_hidden, n_words)
        z = matrix(self._batch_size, n_words)  # also used as its own gradient
        d_hidden, d_W = matrix(self._batch_size, n_hidden), matrix(n_hidden, n_words)
        zero, one = np.zeros((), theano.config.floatX), np.ones((), theano.config.floatX)
        self._multiply = [
            theano.function([], [], updates=[(out, gemm_no_inplace(out, one, left, right, zero))])
            for out, left, right in [(z, hidden, W), (d_hidden, z, W.T), (d_W, hidden.T, z)]
        ]
        self.round(WARM_UP)

    def round(self, steps: int) -> float:
        """Compute the products of a number of steps and return the documents per second."""
        began = time.perf_counter()
        for _ in range(steps):
            for multiply in self._multiply:
                multiply()
        return steps * self._batch_size / (time.perf_counter() - began)


def endless_batches(X, size):
    """Yield minibatches without end, the same in every process."""
    if X.shape[0] < size:
        raise UserError(
            f"--shapes: the batch size {size} is too large for {X.shape[0]} documents: lower it"
        )
    random = np.random.default_rng(0)
    while True:
        yield from batches(X[random.permutation(X.shape[0])], size)


# Called in the workers.

contestant = None  # the contestant of this process


def work(steps: int) -> float:
    """Let the contestant of this process make steps; return the documents per second."""
    return contestant.round(steps)


def prepare(cases: list[Case]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the files of the corpora by `corpus_key`, and a description of the machine."""
    data = {corpus_key(case): case.config.data for case in cases}
    machine = describe()
    # Folders say nothing about speed, and are private.
    shown = {name: re.sub(r"/\S*/", "", machine[name]) for name in SHOWN}
    return {key: prepare_corpus(settings) for key, settings in data.items()}, shown


def corpus_key(case: Case) -> str:
    """Return a key of a case's corpus; cases with the same corpus have the same key."""
    return case.config.data.model_dump_json()


def start_theano(case: Case, corpus: Path, sampling: int | None = None) -> float:
    """Make this project's autoencoder the contestant; return its peak memory in MiB."""
    global contestant
    X, config = read_corpus(corpus).train, case.config.replace({"model.sampling": sampling})
    contestant = Trainer(new_autoencoder(config, X), X, case.shape[-1])
    return peak_memory()


def write_first_step(case: Case, corpus: Path, file: Path) -> None:
    """Write the first step of this project's autoencoder, then start its run again."""
    X, autoencoder = read_corpus(corpus).train, contestant.model
    joblib.dump(first_step(autoencoder, case.config, X), file)
    initialize(autoencoder, case.config, X, case.config.model.dropout)


def start_torch(case: Case, corpus: Path, file: Path, variant: str) -> float:
    """Make a variant of the peer the contestant; return its peak memory in MiB.

    This checks its first step beforehand.
    """
    global contestant
    X, expected = read_corpus(corpus).train, joblib.load(file)
    peer = new_peer(case.config, expected.before, variant)
    check_first_step(peer, case.config, X, expected)
    peer.dropout = case.config.model.dropout.input
    contestant = Trainer(peer, X, case.shape[-1])
    return peak_memory()


def start_products(case: Case) -> None:
    """Make the products alone the contestant."""
    global contestant
    contestant = Products(case.shape)


def find_fastest_variant(case: Case, corpus: Path, file: Path) -> tuple:
    """Check the first step of every variant of the peer, then time them in turns.

    Returns
    -------
    variant : str
        The fastest one, a key of `torch_peer.VARIANTS`.
    left_out : list of str
        The variants that `torch.compile` cannot compile on this machine, with the error.
    """
    from torch_peer import VARIANTS

    X, expected = read_corpus(corpus).train, joblib.load(file)
    trainers, left_out = {}, []
    for variant in VARIANTS:
        peer = new_peer(case.config, expected.before, variant)
        try:
            check_first_step(peer, case.config, X, expected)
        except RuntimeError as error:
            if not VARIANTS[variant].compiled:
                raise
            left_out.append(f"{variant} ({type(error).__name__})")
        else:
            peer.dropout = case.config.model.dropout.input
            trainers[variant] = Trainer(peer, X, case.shape[-1])
    speeds = {variant: [trainer.round(WARM_UP)] for variant, trainer in trainers.items()}
    for variant in list(trainers) * TRIALS:
        steps = steps_in(TRIAL_SECONDS, speeds[variant][0], case)
        speeds[variant].append(trainers[variant].round(steps))
    _, fastest = max((median(speeds[variant][1:]), variant) for variant in trainers)
    return fastest, left_out


class Step(NamedTuple):
    """The effect of a step with nothing dropped."""

    before: dict  # parameters by name, ndarray
    loss: float
    after: dict  # parameters by name, ndarray


def first_step(autoencoder, config: Config, X) -> Step:
    """Return the first step of this project's autoencoder on documents X, (n_train, n_words)."""
    initialize(autoencoder, config, X, DropoutConfig(input=0.0, hidden=0.0))
    before = autoencoder.get_state()
    loss = float(autoencoder.train(next(endless_batches(X, config.training.batch_size))))
    return Step(before, loss, autoencoder.get_state())


def check_first_step(peer, config: Config, X, expected: Step) -> None:
    """Raise an AssertionError unless the peer's first step is the expected one.

    Losses must agree to float32.  The error of a parameter may be 1 % of its step, because Adam
    amplifies rounding where a gradient is nearly 0, plus a rounding error of its size.
    """
    peer.dropout = 0.0
    loss = peer.train(next(endless_batches(X, config.training.batch_size)))
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-5)
    for name, found in peer.get_state().items():
        before, after = expected.before[name], expected.after[name]
        error, step = np.linalg.norm(found - after), np.linalg.norm(after - before)
        rounding = np.finfo(before.dtype).eps * np.linalg.norm(before)
        assert error <= 0.01 * step + rounding, f"{name} is {error} off after a step of {step}"


def steps_in(seconds: float, documents_per_second: float, case: Case) -> int:
    """Return the number of steps that fit into some seconds, at least one."""
    return max(1, round(seconds * documents_per_second / case.shape[-1]))


def new_autoencoder(config: Config, X):
    """Return this project's autoencoder, initialised for the documents X, (n_train, n_words)."""
    from ae_bn.kernels.squared_error import pays
    from ae_bn.model.autoencoder import Autoencoder

    autoencoder = Autoencoder(
        config.model,
        config.training.optimizer,
        X.shape[1],
        config.theano.kernels,
        pays(config.model.layers[0], config.training.batch_size),
    )
    initialize(autoencoder, config, X, config.model.dropout)
    return autoencoder


def initialize(autoencoder, config: Config, X, dropout: DropoutConfig) -> None:
    """Start a new run, always with the same parameters."""
    autoencoder.initialize(X, streams(0), config.training.learning_rate, dropout)


def new_peer(config: Config, state: dict, variant: str):
    """Return a variant of the peer in PyTorch that starts from this project's parameters."""
    from torch_peer import VARIANTS, Peer

    optimizer, learning_rate = config.training.optimizer, config.training.learning_rate
    return Peer(config.model, optimizer, learning_rate, state, VARIANTS[variant])


def peak_memory() -> float:
    """Return the peak memory of this process in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
