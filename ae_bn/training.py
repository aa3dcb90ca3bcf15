"""The training loop: epochs of minibatches, early stopping, population statistics."""

from __future__ import annotations

import time
from typing import Callable, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from ae_bn.autoencoder import Autoencoder
from ae_bn.config import TrainingConfig
from ae_bn.data import batches
from ae_bn.errors import UserError


class Epoch(NamedTuple):
    """One row of a run's history; losses are means per document."""

    epoch: int  # from 1
    train_loss: float  # of the minibatches, noise on, while the weights moved
    valid_loss: float  # population statistics, nothing dropped
    seconds: float  # since training began, validation included


class Result(NamedTuple):
    """What `fit` returns."""

    history: list  # of Epoch
    best_epoch: int  # the one with the lowest validation loss; 0 if none was finite
    diverged: bool  # the loss stopped being a finite number


def fit(
    autoencoder: Autoencoder,
    X_train: csr_matrix,
    X_valid: csr_matrix,
    config: TrainingConfig,
    order: np.random.Generator,
    report: Callable[[Epoch], object] | None = None,
) -> Result:
    """Train an initialised autoencoder; leave it as it was after its best epoch.

    Every epoch visits the training documents in a new random order.  The remainder that does
    not fill a minibatch is left out, so that batch statistics are always of ``batch_size``
    documents.  After every epoch the population statistics are recomputed over all training
    documents (exactly: there are no running averages) and the validation loss is taken with
    them.  Training ends after ``epochs``, or ``patience`` epochs after the best one, or as soon
    as a loss is not finite.

    Parameters
    ----------
    autoencoder : Autoencoder
        Fresh from its ``initialize``; its population statistics are set in the end.
    X_train, X_valid : csr_matrix, (n_train, n_words) and (n_valid, n_words), floatX
    config : TrainingConfig
    order : numpy Generator
        Draws the order of the documents.
    report : function, optional
        Called with every `Epoch`.

    Returns
    -------
    Result

    Raises
    ------
    UserError
        If there are fewer training documents than ``batch_size``.
    """
    n, batch_size = X_train.shape[0], config.batch_size
    if n < batch_size:
        raise UserError(
            f"training.batch_size: {batch_size} is more than the {n} training documents; lower it"
        )
    history, best_loss, best_epoch, best_state = [], np.inf, 0, None
    diverged = False
    began = time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        shuffled = X_train[order.permutation(n)]
        losses = [float(autoencoder.train(batch)) for batch in batches(shuffled, batch_size)]
        autoencoder.update_population_statistics(X_train)
        valid_loss = autoencoder.evaluate(X_valid)
        seconds = time.perf_counter() - began
        history.append(Epoch(epoch, float(np.mean(losses)), valid_loss, seconds))
        if report is not None:
            report(history[-1])
        diverged = not (np.isfinite(history[-1].train_loss) and np.isfinite(valid_loss))
        if diverged:
            break
        if valid_loss < best_loss:
            best_loss, best_epoch, best_state = valid_loss, epoch, autoencoder.get_state()
        elif epoch - best_epoch >= config.patience:
            break
    if best_state is not None:
        autoencoder.set_state(best_state)
    return Result(history, best_epoch, diverged)
