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
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

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
    "accuracy": lambda epoch: epoch.codes.get("valid_accuracy"),
    "precision": lambda epoch: epoch.codes.get("valid_centred_precision"),
    "last": lambda epoch: epoch.epoch,
}


class Epoch(NamedTuple):
    """One row of a run's history; losses are means per document."""

    epoch: int  # from 1
    train_loss: float  # of the minibatches, noise on, while the weights moved
    valid_loss: float  # population statistics, nothing dropped
    seconds: float  # since training began, validation included, metrics of codes left out
    codes: dict = {}  # what ``measure_codes`` returned after this epoch

    @property
    def finite(self) -> bool:
        return bool(np.isfinite([self.train_loss, self.valid_loss]).all())


class Snapshot(NamedTuple):
    """An autoencoder as it was after an epoch."""

    epoch: int
    state: dict  # see `Autoencoder.get_state`


class Result(NamedTuple):
    """What `fit` returns."""

    history: list  # of Epoch
    observations: list  # of dict, see `ae_bn.evaluation.observations`, with their step
    measurements: list  # what ``measure`` returned, from epoch 0
    snapshots: dict  # of Snapshot, by name; empty if no epoch had finite losses
    diverged: bool  # the loss stopped being a finite number

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss; 0 if none was finite."""
        return self.snapshots["loss"].epoch if self.snapshots else 0


@dataclass
class Progress:
    """The progress of training.  With the autoencoder's state it decides how training continues."""

    order: dict  # state of the stream of orders before this epoch's permutation
    losses: list = field(default_factory=list)  # of this epoch's minibatches so far
    history: list = field(default_factory=list)  # of Epoch
    observations: list = field(default_factory=list)  # of dict
    measurements: list = field(default_factory=list)  # one per epoch, from 0
    best_epochs: dict = field(default_factory=dict)  # of int, by snapshot
    seconds: float = 0.0  # trained so far

    @property
    def diverged(self) -> bool:
        return bool(self.history) and not self.history[-1].finite

    def ended(self, config: TrainingConfig) -> bool:
        epochs, best = len(self.history), self.best_epochs.get("loss", 0)
        return self.diverged or epochs == config.epochs or epochs - best >= config.patience

    def end_epoch(self, epoch: Epoch, order: np.random.Generator) -> None:
        """Add an epoch to the history, and go on to the next one's order."""
        self.history.append(epoch)
        self.order, self.losses = dict(order.bit_generator.state), []

    def improved(self, snapshots) -> list[str]:
        """Return the names of the snapshots whose best epoch is now the last one; record this."""
        last, better = self.history[-1], []
        if not last.finite:
            return []
        for name in snapshots:
            value, best = SNAPSHOTS[name](last), self.best_epochs.get(name)
            highest = None if best is None else SNAPSHOTS[name](self.history[best - 1])
            if value is not None and (highest is None or value > highest):
                self.best_epochs[name] = last.epoch
                better.append(name)
        return better


class Clock:
    """A clock of the seconds of training, which continues from an earlier process.

    Parameters
    ----------
    seconds : float
        The seconds of training in earlier processes.
    """

    def __init__(self, seconds: float):
        self._began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """The seconds trained so far."""
        return time.perf_counter() - self._began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what is inside the ``with`` block."""
        start = time.perf_counter()
        yield
        self._began += time.perf_counter() - start


class Checkpoint:
    """A file with the state of training; resumed training gives the same numbers.

    Parameters
    ----------
    path : Path or None
        The file.  If it is None, nothing is saved.
    identity : str
        A string that identifies the run.  A checkpoint with another identity is not used.
    autoencoder : Autoencoder
        The autoencoder that is trained.
    """

    def __init__(self, path: Path | None, identity: str, autoencoder: Autoencoder):
        self.path, self.identity, self.autoencoder = path, identity, autoencoder

    def save(self, progress: Progress, states: dict[str, dict]) -> None:
        """Write the progress, the autoencoder's state, and the states of the snapshots by name."""
        if self.path is None:
            return
        arrays = self.autoencoder.get_state(training=True)
        for snapshot, state in states.items():
            arrays.update((f"{snapshot}.{name}", value) for name, value in state.items())
        write_arrays(self.path, arrays, {"identity": self.identity, **asdict(progress)})

    def resume(
        self, order: np.random.Generator, config: TrainingConfig
    ) -> tuple[Progress, dict[str, dict]]:
        """Load the checkpoint into the autoencoder; return the progress and the snapshots' states.

        If there is no usable checkpoint, the autoencoder is unchanged and training starts from the
        beginning.

        Parameters
        ----------
        order : numpy Generator
            The generator of the order of the documents; its state is loaded too.
        config : TrainingConfig
            The settings of the training.
        """
        start = Progress(dict(order.bit_generator.state))
        if self.path is None or not self.path.exists():
            return start, {}
        try:
            return self._read(self.path, order, config)
        except UserError as error:
            print(f"training from the start, because {error}", flush=True)
            return start, {}

    def _read(self, path, order, config):
        """Return progress and snapshots, and change the autoencoder if all of the file is good."""
        facts = read_facts(path)
        if facts.pop("identity", None) != self.identity:
            raise UserError(f"{path} is of another run or of other versions")
        try:
            progress = Progress(**facts)
            progress.history = [Epoch(*epoch) for epoch in progress.history]
            order.bit_generator.state = progress.order
            progress.ended(config)
            epochs = progress.best_epochs
            if not set(epochs) <= set(SNAPSHOTS):
                raise ValueError("unknown snapshots")
            for epoch in epochs.values():
                progress.history[epoch - 1]
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error})") from None
        whole, state = self.autoencoder.get_state(training=True), self.autoencoder.get_state()
        expected = {**whole, **{f"{s}.{name}": v for s in epochs for name, v in state.items()}}
        arrays, _ = read_arrays(path, kinds(expected))
        self.autoencoder.set_state({name: arrays[name] for name in whole}, training=True)
        return progress, {s: {name: arrays[f"{s}.{name}"] for name in state} for s in epochs}


def fit(
    autoencoder: Autoencoder,
    X_train: csr_matrix,
    X_valid: csr_matrix,
    config: TrainingConfig,
    order: np.random.Generator,
    report: Callable[[Epoch], object] | None = None,
    measure: Callable[[int], object] | None = None,
    measure_codes: Callable[[np.ndarray, np.ndarray], dict] | None = None,
    checkpoint: Path | None = None,
    identity: str = "",
) -> Result:
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
    report : function, optional
        The function that is called with every `Epoch` that this call trains, after it is trained.
    measure : function, optional
        The function that is called before training with 0, and after every epoch with the epoch's
        number, once the population statistics are computed.  Its results, plain values, are kept
        in checkpoints.  Its time is not counted.
    measure_codes : function, optional
        The function that is called every ``path_epochs`` with the codes of the training and of the
        validation documents.  It returns metrics, as `ae_bn.evaluation.codes.PathMeter` does, which
        are kept in `Epoch.codes`.  Its time is not counted.  Without it, the only snapshot is that
        of the lowest loss.
    checkpoint : Path, optional
        The file of the checkpoint.  Without it, nothing is saved.
    identity : str
        A string that identifies the run.  A checkpoint with another identity is not used.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        If there are fewer training documents than ``batch_size``, or if Batch Normalization has
        minibatches of one document.
    """
    n, batch_size = X_train.shape[0], config.batch_size
    check_batch_size(n, batch_size, autoencoder.config)
    kept = Checkpoint(checkpoint, identity, autoencoder)
    progress, states = kept.resume(order, config)
    clock = Clock(progress.seconds)
    snapshots = ["loss"] if measure_codes is None else list(SNAPSHOTS)

    def save():
        progress.seconds = clock.seconds
        kept.save(progress, states)

    def observe_step():
        step = len(progress.history) * (n // batch_size) + len(progress.losses)
        if config.observe_steps and step % config.observe_steps == 0:
            observed = observe(autoencoder, X_train[:CHUNK])
            progress.observations.append({"step": step, **observed})

    def codes_of(epoch):
        if measure_codes is None or not epoch.finite or epoch.epoch % config.path_epochs:
            return {}
        return measure_codes(autoencoder.encode(X_train), autoencoder.encode(X_valid))

    def measure_epoch(number):
        if measure is not None:
            with clock.paused():
                progress.measurements.append(measure(number))

    with held_back(signal.SIGINT, signal.SIGTERM) as arrived:
        if measure is not None and not progress.measurements:
            autoencoder.update_population_statistics(X_train)
            measure_epoch(0)
        while not progress.ended(config):
            autoencoder.set_learning_rate(learning_rate(config, progress.history))
            order.bit_generator.state = progress.order
            shuffled = shuffled_batches(X_train, order.permutation(n), batch_size)
            for batch in islice(shuffled, len(progress.losses), None):
                if arrived:
                    save()
                    raise KeyboardInterrupt
                observe_step()
                progress.losses.append(float(autoencoder.train(batch)))
            autoencoder.update_population_statistics(X_train)
            valid_loss, train_loss = autoencoder.evaluate(X_valid), float(np.mean(progress.losses))
            epoch = Epoch(len(progress.history) + 1, train_loss, valid_loss, clock.seconds)
            with clock.paused():
                epoch = epoch._replace(codes=codes_of(epoch))
            progress.end_epoch(epoch, order)
            if report is not None:
                report(epoch)
            measure_epoch(epoch.epoch)
            for snapshot in progress.improved(snapshots):
                states[snapshot] = autoencoder.get_state()
            if epoch.epoch % config.checkpoint_epochs == 0 or progress.ended(config):
                save()
    if "loss" in states:
        autoencoder.set_state(states["loss"])
    return Result(
        progress.history,
        progress.observations,
        progress.measurements,
        {name: Snapshot(progress.best_epochs[name], state) for name, state in states.items()},
        progress.diverged,
    )


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
