"""The training loop: epochs of minibatches, early stopping, population statistics, checkpoints.

The loss and the codes are best at different epochs, so a run keeps four snapshots, see `SNAPSHOTS`.
They are the weights after four epochs: the one with the lowest validation loss, the one with the
highest validation accuracy of a linear probe, the one with the highest validation precision of
centred codes, and the last one.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from ae_bn.config import ModelConfig, TrainingConfig
from ae_bn.data.corpus import shuffled_batches
from ae_bn.errors import UserError
from ae_bn.evaluation.observations import observe
from ae_bn.files import kinds, read_arrays, read_facts, write_arrays
from ae_bn.model.autoencoder import CHUNK, Autoencoder
from ae_bn.model.layers import standardises_minibatches

# Each snapshot keeps the epoch with the largest value of its function (the first of equals).
SNAPSHOTS: dict[str, Callable[[Epoch], float | None]] = {
    "loss": lambda epoch: -epoch.valid_loss,
    "accuracy": lambda epoch: epoch.metrics.get("valid_accuracy"),
    "precision": lambda epoch: epoch.metrics.get("valid_centred_precision"),
    "last": lambda epoch: epoch.epoch,
}

# A function that is called after every epoch; it returns metrics, plain values, or None.
Observer = Callable[[Autoencoder, "Epoch"], "dict | None"]


class Epoch(NamedTuple):
    """One row of a run's history; losses are means per document."""

    epoch: int  # from 1
    train_loss: float  # of the minibatches, noise on, while the weights moved
    valid_loss: float  # population statistics, nothing dropped
    seconds: float  # trained so far, validation included, observers and checkpoints left out
    metrics: dict  # what the observers returned after this epoch

    @property
    def finite(self) -> bool:
        return bool(np.isfinite([self.train_loss, self.valid_loss]).all())


class Snapshot(NamedTuple):
    """An autoencoder as it was after an epoch."""

    epoch: int
    state: dict  # see `Autoencoder.get_state`


@dataclass
class Progress:
    """How training went so far.  With the autoencoder's state it decides how training continues."""

    order: dict  # state of the stream of orders before this epoch's permutation
    losses: list = field(default_factory=list)  # of this epoch's minibatches so far
    history: list = field(default_factory=list)  # of Epoch
    observations: list = field(default_factory=list)  # of dict, see `observe`, with their step
    snapshots: dict = field(
        default_factory=dict
    )  # of Snapshot; empty if no epoch had finite losses
    seconds: float = 0.0  # trained so far

    @property
    def diverged(self) -> bool:
        """Whether the loss stopped being a finite number."""
        return bool(self.history) and not self.history[-1].finite

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss; 0 if none was finite."""
        return self.snapshots["loss"].epoch if "loss" in self.snapshots else 0

    def ended(self, config: TrainingConfig) -> bool:
        epochs = len(self.history)
        patient = epochs - self.best_epoch < config.patience
        return self.diverged or epochs == config.epochs or not patient

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds inside the ``with`` block to those of training."""
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def end_epoch(self, valid_loss: float, order: np.random.Generator) -> Epoch:
        """Add an epoch to the history and return it; go on to the next one's order."""
        number, train_loss = len(self.history) + 1, float(np.mean(self.losses))
        self.history.append(Epoch(number, train_loss, valid_loss, self.seconds, {}))
        self.order, self.losses = dict(order.bit_generator.state), []
        return self.history[-1]

    def keep_best(self, autoencoder: Autoencoder, names: Iterable[str]) -> None:
        """Keep the autoencoder's state as every named snapshot for which the last epoch is best."""
        last = self.history[-1]
        for name in names if last.finite else ():
            value, best = SNAPSHOTS[name](last), self.snapshots.get(name)
            highest = best and SNAPSHOTS[name](self.history[best.epoch - 1])
            if value is not None and (highest is None or value > highest):
                self.snapshots[name] = Snapshot(last.epoch, autoencoder.get_state())


@dataclass(frozen=True)
class Checkpoint:
    """A file with the state of training; resumed training gives the same numbers.

    Attributes
    ----------
    path : Path or None
        The file.  If it is None, nothing is saved.
    identity : str
        A string that identifies the run.  A checkpoint with another identity is not used.
    """

    path: Path | None = None
    identity: str = ""

    def save(self, autoencoder: Autoencoder, progress: Progress) -> None:
        """Write the state of the autoencoder, and the progress with the states of its snapshots."""
        if self.path is None:
            return
        arrays = autoencoder.get_state(training=True)
        facts = {**vars(progress), "identity": self.identity, "snapshots": {}}
        for name, (epoch, state) in progress.snapshots.items():
            facts["snapshots"][name] = epoch
            arrays.update((f"{name}.{key}", value) for key, value in state.items())
        write_arrays(self.path, arrays, facts)

    def resume(
        self, autoencoder: Autoencoder, order: np.random.Generator, config: TrainingConfig
    ) -> Progress:
        """Load the checkpoint into the autoencoder, and return the progress.

        If there is no usable checkpoint, the autoencoder is unchanged and training starts from the
        beginning.

        Parameters
        ----------
        autoencoder : Autoencoder
            The autoencoder, initialised.
        order : numpy Generator
            The generator of the order of the documents; its state is loaded too.
        config : TrainingConfig
            The settings of the training.
        """
        start = Progress(dict(order.bit_generator.state))
        if self.path is None or not self.path.exists():
            return start
        try:
            return self._read(self.path, autoencoder, order, config)
        except UserError as error:
            print(f"training from the start, because {error}", flush=True)
            return start

    def _read(self, path, autoencoder, order, config):
        """Return the progress, and change the autoencoder if all of the file is good."""
        facts, state = read_facts(path), autoencoder.get_state()
        if facts.pop("identity", None) != self.identity:
            raise UserError(f"{path} is of another run or of other versions")
        try:
            epochs = facts.pop("snapshots")
            if not set(epochs) <= set(SNAPSHOTS):
                raise ValueError("unknown snapshots")
            progress = Progress(**facts)
            progress.history = [Epoch(*epoch) for epoch in progress.history]
            for epoch in epochs.values():
                progress.history[epoch - 1]
            order.bit_generator.state = progress.order
            progress.ended(config)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error})") from None
        whole = autoencoder.get_state(training=True)
        expected = {**whole, **{f"{s}.{name}": v for s in epochs for name, v in state.items()}}
        arrays, _ = read_arrays(path, kinds(expected))
        autoencoder.set_state({name: arrays[name] for name in whole}, training=True)
        for s, epoch in epochs.items():
            progress.snapshots[s] = Snapshot(epoch, {name: arrays[f"{s}.{name}"] for name in state})
        return progress


def fit(
    autoencoder: Autoencoder,
    X_train: csr_matrix,
    X_valid: csr_matrix,
    config: TrainingConfig,
    order: np.random.Generator,
    observers: Iterable[Observer] = (),
    snapshots: Iterable[str] = ("loss",),
    checkpoint: Checkpoint = Checkpoint(),
) -> Progress:
    """Train an initialised autoencoder; leave it as it was after the epoch of the lowest loss.

    Every epoch visits the training documents in a new random order.  A remainder that does not
    fill a minibatch is left out, so batch statistics are always of ``batch_size`` documents.  After
    every epoch the population statistics are recomputed over all training documents (exactly, not
    as running averages), and the validation loss is computed with them.  Training ends after
    ``epochs``, or ``patience`` epochs after the one with the lowest validation loss, or as soon as
    a loss is not finite.  With ``plateau`` the learning rate is lowered when the validation loss
    stops falling, see `learning_rate`.

    With ``observe_steps``, `observe` measures the first 1,000 training documents before every step
    whose number is a multiple of it.

    If the checkpoint exists, training resumes from it and gives the same numbers as without the
    interruption.  The checkpoint is written every ``checkpoint_epochs``, at the end, and when
    SIGINT or SIGTERM arrives.  The signal takes effect after the checkpoint is written.

    Parameters
    ----------
    autoencoder : Autoencoder
        The autoencoder, after its ``initialize``.  Training also sets its population statistics.
    X_train, X_valid : csr_matrix, (n_train, n_words) and (n_valid, n_words), floatX
        The documents to train on and to validate with.
    config : TrainingConfig
        The settings of the training.
    order : numpy Generator
        The generator that draws the order of the documents.
    observers : iterable of function
        The functions that are called with the autoencoder and the `Epoch` after every epoch that
        this call trains.  What they return is added to ``metrics`` of the epoch.
    snapshots : iterable of str
        The names of the snapshots to keep, from `SNAPSHOTS`.
    checkpoint : Checkpoint
        The checkpoint.  Without one, nothing is saved.

    Returns
    -------
    Progress

    Raises
    ------
    UserError
        If there are fewer training documents than ``batch_size``, or if Batch Normalization has
        minibatches of one document.
    """
    check_batch_size(X_train.shape[0], config.batch_size, autoencoder.config)
    progress = checkpoint.resume(autoencoder, order, config)
    with held_back(signal.SIGINT, signal.SIGTERM) as arrived:
        while not progress.ended(config):
            with progress.timed():
                _train_epoch(autoencoder, X_train, config, order, progress, arrived)
            if arrived:
                checkpoint.save(autoencoder, progress)
                raise KeyboardInterrupt
            with progress.timed():
                autoencoder.update_population_statistics(X_train)
                valid_loss = autoencoder.evaluate(X_valid)
            epoch = progress.end_epoch(valid_loss, order)
            for observer in observers:
                epoch.metrics.update(observer(autoencoder, epoch) or {})
            progress.keep_best(autoencoder, snapshots)
            if epoch.epoch % config.checkpoint_epochs == 0 or progress.ended(config):
                checkpoint.save(autoencoder, progress)
    if progress.snapshots:
        autoencoder.set_state(progress.snapshots["loss"].state)
    return progress


def _train_epoch(autoencoder, X, config, order, progress, arrived) -> None:
    """Train on the rest of this epoch's minibatches, until a signal arrives."""
    autoencoder.set_learning_rate(learning_rate(config, progress.history))
    autoencoder.anneal(len(progress.history) / config.epochs)
    order.bit_generator.state = progress.order
    shuffled = shuffled_batches(X, order.permutation(X.shape[0]), config.batch_size)
    before = len(progress.history) * (X.shape[0] // config.batch_size)  # steps of earlier epochs
    for batch in islice(shuffled, len(progress.losses), None):
        if arrived:
            return
        step = before + len(progress.losses)
        if config.observe_steps and step % config.observe_steps == 0:
            progress.observations.append({"step": step, **observe(autoencoder, X[:CHUNK])})
        progress.losses.append(float(autoencoder.train(batch)))


def codes_observer(
    measure: Callable[[np.ndarray, np.ndarray], dict],
    X_train: csr_matrix,
    X_valid: csr_matrix,
    every: int = 1,
) -> Observer:
    """Return an observer that measures the codes after every few epochs.

    Parameters
    ----------
    measure : function
        The function that is called with the codes of the training and of the validation documents.
        It returns metrics, as `ae_bn.evaluation.codes.PathMeter` does.
    X_train, X_valid : csr_matrix, (n_train, n_words) and (n_valid, n_words), floatX
        The documents.
    every : int
        The number of epochs between measurements.
    """

    def observe_codes(autoencoder, epoch):
        if not epoch.finite or epoch.epoch % every:
            return {}
        return measure(autoencoder.encode(X_train), autoencoder.encode(X_valid))

    return observe_codes


def learning_rate(config: TrainingConfig, history: list[Epoch]) -> float:
    """Return the learning rate of the epoch after those of a history.

    It is ``config.learning_rate``, times ``plateau.factor`` once for every ``plateau.patience``
    epochs in a row without a new lowest validation loss (Keras' ReduceLROnPlateau).

    Parameters
    ----------
    config : TrainingConfig
        The settings of the training.
    history : list of Epoch
        The epochs so far.
    """
    rate, best, waited = config.learning_rate, np.inf, 0
    if config.plateau is None:
        return rate
    for epoch in history:
        if epoch.valid_loss < best:
            best, waited = epoch.valid_loss, 0
        else:
            waited += 1
        if waited == config.plateau.patience:
            rate, waited = rate * config.plateau.factor, 0
    return rate


def check_batch_size(n: int, batch_size: int, model: ModelConfig) -> None:
    """Check that minibatches can be trained on.

    Parameters
    ----------
    n : int
        The number of training documents.
    batch_size : int
        The number of documents in a minibatch.
    model : ModelConfig
        The model that is trained.

    Raises
    ------
    UserError
        If the documents do not fill one minibatch, or if Batch Normalization would standardise
        minibatches of one document, which have no variance.
    """
    if n < batch_size:
        raise UserError(
            f"training.batch_size: {batch_size} is more than the {n} training documents; lower it"
        )
    if batch_size == 1 and standardises_minibatches(model):
        raise UserError(
            "training.batch_size: 1 document has no variance, which Batch Normalization divides "
            "by; give 2 or more, or switch Batch Normalization off"
        )


@contextmanager
def held_back(*signals: int) -> Iterator[list]:
    """Delay signals inside the ``with`` block: list them as they arrive, and raise the first after.

    Ignored signals stay ignored.  Outside the main thread this has no effect, because Python
    delivers signals only to the main thread.

    Parameters
    ----------
    *signals : int
        The numbers of the signals, such as ``signal.SIGTERM``.

    Yields
    ------
    list of int
        The signals that arrived.
    """
    arrived = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in signals}
    handlers = {
        n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)
    }
    for number in handlers:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield arrived
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
