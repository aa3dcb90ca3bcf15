"""The training loop: epochs of minibatches, early stopping, population statistics, checkpoints."""

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

from ae_bn.autoencoder import CHUNK, Autoencoder
from ae_bn.config import TrainingConfig
from ae_bn.data import shuffled_batches
from ae_bn.errors import UserError
from ae_bn.files import kinds, read_arrays, write_arrays

BEST = "best."  # before the names of the best epoch's state in a checkpoint


class Epoch(NamedTuple):
    """One row of a run's history; losses are means per document."""

    epoch: int  # from 1
    train_loss: float  # of the minibatches, noise on, while the weights moved
    valid_loss: float  # population statistics, nothing dropped
    seconds: float  # since training began, validation included


class Result(NamedTuple):
    """What `fit` returns."""

    history: list  # of Epoch
    observations: list  # of dict, see `Autoencoder.observe`, with the step they were made at
    measurements: list  # what ``measure`` returned, from epoch 0
    best_epoch: int  # the one with the lowest validation loss; 0 if none was finite
    diverged: bool  # the loss stopped being a finite number


@dataclass
class Progress:
    """How far training is: with the autoencoder's state all that the rest of it depends on."""

    order: dict  # state of the stream of orders before this epoch's permutation
    losses: list = field(default_factory=list)  # of this epoch's minibatches so far
    history: list = field(default_factory=list)  # of Epoch
    observations: list = field(default_factory=list)  # of dict
    measurements: list = field(default_factory=list)  # one per epoch, from 0
    best_epoch: int = 0
    seconds: float = 0.0  # trained so far

    @property
    def best_loss(self) -> float:
        return self.history[self.best_epoch - 1].valid_loss if self.best_epoch else np.inf

    @property
    def diverged(self) -> bool:
        return bool(self.history) and not np.isfinite(self.history[-1][1:3]).all()

    def ended(self, config: TrainingConfig) -> bool:
        epochs = len(self.history)
        return (
            self.diverged or epochs == config.epochs or epochs - self.best_epoch >= config.patience
        )


def fit(
    autoencoder: Autoencoder,
    X_train: csr_matrix,
    X_valid: csr_matrix,
    config: TrainingConfig,
    order: np.random.Generator,
    report: Callable[[Epoch], object] | None = None,
    measure: Callable[[int], object] | None = None,
    checkpoint: Path | None = None,
    identity: str = "",
) -> Result:
    """Train an initialised autoencoder; leave it as it was after its best epoch.

    Every epoch visits the training documents in a new random order.  The remainder that does
    not fill a minibatch is left out, so that batch statistics are always of ``batch_size``
    documents.  After every epoch the population statistics are recomputed over all training
    documents (exactly: there are no running averages) and the validation loss is taken with
    them.  Training ends after ``epochs``, or ``patience`` epochs after the best one, or as soon
    as a loss is not finite.

    With ``observe_steps``, `Autoencoder.observe` looks at the first 1,000 training documents
    every so many steps, before the step.

    With a checkpoint, training goes on from it if it is there, to the same numbers.  It is
    written every ``checkpoint_epochs``, at the end, and when SIGINT or SIGTERM arrives, which
    take effect after that.

    Parameters
    ----------
    autoencoder : Autoencoder
        Fresh from its ``initialize``; its population statistics are set in the end.
    X_train, X_valid : csr_matrix, (n_train, n_words) and (n_valid, n_words), floatX
    config : TrainingConfig
    order : numpy Generator
        Draws the order of the documents.
    report : function, optional
        Called with every `Epoch` that is trained here.
    measure : function, optional
        Called with the number of every epoch once its population statistics are there, and before
        the first with 0.  What it returns, plain values, is kept in checkpoints; its time is not
        counted.
    checkpoint : Path, optional
    identity : str
        Of the run: a checkpoint with another one is not used.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        If there are fewer training documents than ``batch_size``.
    """
    n, batch_size = X_train.shape[0], config.batch_size
    check_batch_size(n, batch_size)
    progress, best_state = Progress(dict(order.bit_generator.state)), autoencoder.get_state()
    if checkpoint is not None and checkpoint.exists():
        try:
            progress, best_state = _resume(checkpoint, identity, autoencoder, order, config)
        except UserError as error:
            print(f"training from the start, because {error}", flush=True)
    began = time.perf_counter() - progress.seconds
    observed = X_train[:CHUNK]

    def save():
        progress.seconds = time.perf_counter() - began
        if checkpoint is not None:
            arrays = autoencoder.get_state(training=True)
            arrays.update((BEST + name, value) for name, value in best_state.items())
            write_arrays(checkpoint, arrays, {"identity": identity, **asdict(progress)})

    def take_measurement(measure, epoch):
        nonlocal began
        start = time.perf_counter()
        progress.measurements.append(measure(epoch))
        began += time.perf_counter() - start

    with held_back(signal.SIGINT, signal.SIGTERM) as arrived:
        if measure is not None and not progress.measurements:
            autoencoder.update_population_statistics(X_train)
            take_measurement(measure, 0)
        while not progress.ended(config):
            order.bit_generator.state = progress.order
            shuffled = shuffled_batches(X_train, order.permutation(n), batch_size)
            for batch in islice(shuffled, len(progress.losses), None):
                if arrived:
                    save()
                    raise KeyboardInterrupt
                step = len(progress.history) * (n // batch_size) + len(progress.losses)
                if config.observe_steps and step % config.observe_steps == 0:
                    progress.observations.append({"step": step, **autoencoder.observe(observed)})
                progress.losses.append(float(autoencoder.train(batch)))
            autoencoder.update_population_statistics(X_train)
            valid_loss = autoencoder.evaluate(X_valid)
            epoch, seconds = len(progress.history) + 1, time.perf_counter() - began
            train_loss = float(np.mean(progress.losses))
            progress.history.append(Epoch(epoch, train_loss, valid_loss, seconds))
            if report is not None:
                report(progress.history[-1])
            if measure is not None:
                take_measurement(measure, epoch)
            if not progress.diverged and valid_loss < progress.best_loss:
                progress.best_epoch, best_state = epoch, autoencoder.get_state()
            progress.order, progress.losses = order.bit_generator.state, []
            if epoch % config.checkpoint_epochs == 0 or progress.ended(config):
                save()
    if progress.best_epoch > 0:
        autoencoder.set_state(best_state)
    return Result(
        progress.history,
        progress.observations,
        progress.measurements,
        progress.best_epoch,
        progress.diverged,
    )


def check_batch_size(n: int, batch_size: int) -> None:
    """Raise a UserError if n training documents do not fill one minibatch."""
    if n < batch_size:
        raise UserError(
            f"training.batch_size: {batch_size} is more than the {n} training documents; lower it"
        )


@contextmanager
def held_back(*signals: int) -> Iterator[list]:
    """Hold signals back inside the ``with`` block: they are listed as they arrive, and act after.

    Only those that are not ignored, and only in a process's main thread: Python gives no other
    one signals.

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


def _resume(checkpoint, identity, autoencoder, order, config) -> tuple[Progress, dict]:
    """Put the autoencoder back to where a checkpoint is, and return progress and best state.

    Raises
    ------
    UserError
        If the checkpoint is damaged or of something else; nothing is changed then.
    """
    state, best_state = autoencoder.get_state(training=True), autoencoder.get_state()
    expected = {**state, **{BEST + name: value for name, value in best_state.items()}}
    arrays, facts = read_arrays(checkpoint, kinds(expected))
    if facts.pop("identity", None) != identity:
        raise UserError(f"{checkpoint} is of another run or of other versions")
    try:
        progress = Progress(**facts)
        progress.history = [Epoch(*epoch) for epoch in progress.history]
        order.bit_generator.state = progress.order
        progress.best_loss, progress.ended(config)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{checkpoint} is damaged ({error})") from None
    autoencoder.set_state(arrays, training=True)
    return progress, {name: arrays[BEST + name] for name in best_state}
