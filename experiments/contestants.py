"""What `experiments/benchmark.py` times, each in a process of its own.

Three contestants: this project's autoencoder, its peer in PyTorch, and the bare products of
matrices.  The functions below `Products` are what the benchmark calls in its worker processes,
where the contestant stays between the calls.  Theano and PyTorch are imported only in the
workers that use them, and only plain values go back to the benchmark's own process: on Linux the
peak memory of a process counts from that of the process that started it.
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

OPTIMIZERS = {"nesterov": 0.001, "adam": 0.001}  # with their learning rates
WARM_UP = 5  # steps
TRIALS, TRIAL_SECONDS = 3, 0.2  # of every variant in PyTorch, to find the fastest
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
    """What one row of the table measures."""

    shape: tuple  # numbers of words, of hidden units, of documents in a batch
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
    """A model, and the documents that it is trained on.

    Parameters
    ----------
    model : object with a method ``train``
    X : csr_matrix, (n_train, n_words)
    batch_size : int
    """

    def __init__(self, model, X, batch_size):
        self.model = model
        self._batch_size = batch_size
        self._batches = endless_batches(X, batch_size)
        self.round(WARM_UP)

    def round(self, steps: int) -> float:
        """Make so many steps and return the documents per second."""
        began = time.perf_counter()
        losses = [float(self.model.train(next(self._batches))) for _ in range(steps)]
        seconds = time.perf_counter() - began
        if not np.isfinite(losses).all():
            raise FloatingPointError("the loss is not finite: the speed would mean nothing")
        return steps * self._batch_size / seconds


class Products:
    """The three products of a step that no sparsity avoids, through Theano's BLAS.

    Parameters
    ----------
    shape : tuple of int
        Numbers of words, of hidden units, of documents in a batch.
    """

    def __init__(self, shape):
        import theano
        from theano.tensor.blas import gemm_no_inplace  # in place once compiled

        def matrix(*size):
            return theano.shared(random.normal(size=size).astype(theano.config.floatX))

        random = np.random.default_rng(0)
        n_words, n_hidden, self._batch_size = shape
        hidden, W = matrix(self._batch_size, n_hidden), matrix(n_hidden, n_words)
        z = matrix(self._batch_size, n_words)  # stands for its gradient, too
        d_hidden, d_W = matrix(self._batch_size, n_hidden), matrix(n_hidden, n_words)
        zero, one = np.zeros((), theano.config.floatX), np.ones((), theano.config.floatX)
        self._multiply = [
            theano.function([], [], updates=[(out, gemm_no_inplace(out, one, left, right, zero))])
            for out, left, right in [(z, hidden, W), (d_hidden, z, W.T), (d_W, hidden.T, z)]
        ]
        self.round(WARM_UP)

    def round(self, steps: int) -> float:
        """Do the products of so many steps and return the documents per second."""
        began = time.perf_counter()
        for _ in range(steps):
            for multiply in self._multiply:
                multiply()
        return steps * self._batch_size / (time.perf_counter() - began)


def endless_batches(X, size):
    """Yield minibatches without end, the same ones in every process."""
    if X.shape[0] < size:
        raise UserError(f"--shapes: a batch of {size} is more than {X.shape[0]} documents")
    random = np.random.default_rng(0)
    while True:
        yield from batches(X[random.permutation(X.shape[0])], size)


# Called in the workers.

contestant = None  # of this process


def work(steps: int) -> float:
    """Let this process's contestant work; return the documents per second."""
    return contestant.round(steps)


def prepare(cases: list[Case]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the files of the corpora by `corpus_key`, and what computes here."""
    data = {corpus_key(case): case.config.data for case in cases}
    machine = describe()
    # Folders say nothing about speed, and are nobody's business.
    shown = {name: re.sub(r"/\S*/", "", machine[name]) for name in SHOWN}
    return {key: prepare_corpus(settings) for key, settings in data.items()}, shown


def corpus_key(case: Case) -> str:
    """Return what names a case's corpus: cases that share it differ elsewhere."""
    return case.config.data.model_dump_json()


def start_theano(case: Case, corpus: Path, sampling: int | None = None) -> float:
    """Make this project's autoencoder the contestant; return its peak memory in MiB."""
    global contestant
    X, config = read_corpus(corpus).train, case.config.replace({"model.sampling": sampling})
    contestant = Trainer(new_autoencoder(config, X), X, case.shape[-1])
    return peak_memory()


def write_first_step(case: Case, corpus: Path, file: Path) -> None:
    """Write the first step of this project's autoencoder, then start its run anew."""
    X, autoencoder = read_corpus(corpus).train, contestant.model
    joblib.dump(first_step(autoencoder, case.config, X), file)
    initialize(autoencoder, case.config, X, case.config.model.dropout)


def start_torch(case: Case, corpus: Path, file: Path, variant: str) -> float:
    """Make a variant of the peer the contestant; return its peak memory in MiB.

    Its first step is checked before.
    """
    global contestant
    X, expected = read_corpus(corpus).train, joblib.load(file)
    peer = new_peer(case.config, expected.before, variant)
    check_first_step(peer, case.config, X, expected)
    peer.dropout = case.config.model.dropout.input
    contestant = Trainer(peer, X, case.shape[-1])
    return peak_memory()


def start_products(case: Case) -> None:
    """Make the bare products the contestant."""
    global contestant
    contestant = Products(case.shape)


def find_fastest_variant(case: Case, corpus: Path, file: Path) -> tuple:
    """Check the first step of every variant of the peer, then time them in turns.

    Returns
    -------
    variant : str
        The fastest one, a key of `torch_peer.VARIANTS`.
    left_out : list of str
        Variants that `torch.compile` cannot make here, and why.
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
    """What a step did, with nothing dropped."""

    before: dict  # of ndarray, the parameters by name
    loss: float
    after: dict


def first_step(autoencoder, config: Config, X) -> Step:
    """Return the first step of this project's autoencoder on documents X, (n_train, n_words)."""
    initialize(autoencoder, config, X, DropoutConfig(input=0.0, hidden=0.0))
    before = autoencoder.get_state()
    loss = float(autoencoder.train(next(endless_batches(X, config.training.batch_size))))
    return Step(before, loss, autoencoder.get_state())


def check_first_step(peer, config: Config, X, expected: Step) -> None:
    """Raise an AssertionError unless the peer's first step is the expected one.

    Losses have to agree to float32.  A parameter may end up 1 % of its step elsewhere (where a
    gradient is nearly 0, Adam amplifies its rounding) and a rounding error of its size.
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
    """Return how many steps fit, at least one."""
    return max(1, round(seconds * documents_per_second / case.shape[-1]))


def new_autoencoder(config: Config, X):
    """Return this project's autoencoder, initialised for documents X, (n_train, n_words)."""
    from ae_bn.model.autoencoder import Autoencoder

    autoencoder = Autoencoder(
        config.model, config.training.optimizer, X.shape[1], config.theano.kernels
    )
    initialize(autoencoder, config, X, config.model.dropout)
    return autoencoder


def initialize(autoencoder, config: Config, X, dropout: DropoutConfig) -> None:
    """Start a new run, always with the same parameters."""
    autoencoder.initialize(X, streams(0), config.training.learning_rate, dropout)


def new_peer(config: Config, state: dict, variant: str):
    """Return a variant of the peer in PyTorch that starts from parameters of this project."""
    from torch_peer import VARIANTS, Peer

    optimizer, learning_rate = config.training.optimizer, config.training.learning_rate
    return Peer(config.model, optimizer, learning_rate, state, VARIANTS[variant])


def peak_memory() -> float:
    """Return the most memory this process ever had, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
