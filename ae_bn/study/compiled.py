"""The owner of compiled models: one for each graph, used by one caller at a time.

Compiling takes seconds to minutes, so runs whose settings differ only in numbers share a graph.
Its shared variables hold the parameters of one run, so only one caller can use it at a time:

    with compiled(config, n_words) as autoencoder:
        autoencoder.initialize(...)
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import Iterator

from ae_bn.config import Config, ModelConfig
from ae_bn.evaluation.curvature import Hessian
from ae_bn.kernels.squared_error import pays
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.topics import kind

_lock = threading.RLock()


@contextmanager
def compiled(config: Config, n_words: int) -> Iterator[Autoencoder]:
    """Yield this process's autoencoder for a config's graph; other threads wait until it is free.

    Parameters
    ----------
    config : Config
        The settings; learning rate and dropout rates do not change the graph.
    n_words : int
        The size of the vocabulary.
    """
    with _lock:
        yield _autoencoder(*graph(config), n_words)


def hessian(config: Config, n_words: int) -> Hessian:
    """Return the compiled Hessian of a config's loss, to be used inside `compiled`."""
    return _hessian(graph(config)[0], n_words)


def graph(config: Config) -> tuple:
    """Return what decides the graph of a config: equal for configs that share one."""
    no_dropout = config.replace({"model.dropout.input": 0.0, "model.dropout.hidden": 0.0})
    return (
        no_dropout.model.model_dump_json(),
        config.training.optimizer,
        config.theano.kernels,
        # The decoder's last layer is as wide as the encoder's first.
        config.model.loss != "squared_error"
        or pays(config.model.layers[0], config.training.batch_size),
    )


@lru_cache(maxsize=8)
def _autoencoder(
    model: str, optimizer: str, kernels: str, many_documents: bool, n_words: int
) -> Autoencoder:
    config = ModelConfig.model_validate_json(model)
    return kind(config)(config, optimizer, n_words, kernels, many_documents)


@lru_cache(maxsize=1)
def _hessian(model: str, n_words: int) -> Hessian:
    return Hessian(ModelConfig.model_validate_json(model), n_words)


def _renew_lock():
    """Give a forked child a free lock: the thread that held it exists only in the parent."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
