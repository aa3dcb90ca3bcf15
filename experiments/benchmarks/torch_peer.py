"""The same autoencoder in PyTorch, written for speed: the peer in `benchmark.py`.

It uses PyTorch's own kernels wherever there is one: batch normalisation, the loss on logits, fused
and foreach optimisers.  There are several `VARIANTS`, and the benchmark uses the fastest.  They
differ in the form of the documents, in whether `torch.compile` fuses everything after the
projection, and in the kind of optimiser.
"""

from __future__ import annotations

import itertools
import warnings
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix

from ae_bn.config import ModelConfig

warnings.filterwarnings("ignore", "Sparse CSR tensor support")

MOMENTUM = 0.9  # as in ae_bn.model.optimizers.nesterov; the defaults of Adam are the same


class Variant(NamedTuple):
    """One way to write the same training step."""

    input: str  # a key of PROJECTIONS
    compiled: bool  # torch.compile for everything after the projection
    optimizer: str  # fused: one kernel per parameter; foreach: one per operation

    def __str__(self):
        return f"{self.input}, {'compiled, ' if self.compiled else ''}{self.optimizer}"


def project_dense(batch, target, W, dropout):
    """Return the product with the dense form of the documents, (n, n_hidden)."""
    return F.dropout(target, dropout) @ W


def project_csr(batch, target, W, dropout):
    """Return PyTorch's sparse product, (n, n_hidden)."""
    values = F.dropout(torch.from_numpy(batch.data), dropout)
    indptr, indices = torch.from_numpy(batch.indptr), torch.from_numpy(batch.indices)
    x = torch.sparse_csr_tensor(indptr, indices, values, batch.shape, check_invariants=False)
    return x @ W


def project_bag(batch, target, W, dropout):
    """Return the sparse product, (n, n_hidden), as weighted sums of rows of W."""
    return F.embedding_bag(
        torch.from_numpy(batch.indices),
        W,
        torch.from_numpy(batch.indptr),
        mode="sum",
        per_sample_weights=F.dropout(torch.from_numpy(batch.data), dropout),
        include_last_offset=True,
    )


PROJECTIONS = {"dense": project_dense, "CSR": project_csr, "embedding bag": project_bag}
VARIANTS = {
    str(variant): variant
    for variant in itertools.starmap(
        Variant, itertools.product(PROJECTIONS, (False, True), ("fused", "foreach"))
    )
}


class Peer:
    """An autoencoder with one hidden layer of ReLU units, in PyTorch.

    Parameters
    ----------
    config : ModelConfig
        The settings of the model.
    optimizer : {"nesterov", "adam"}
        The name of the optimiser.
    learning_rate : float
        The learning rate.
    state : dict of str to ndarray
        The initial parameters, named as in `ae_bn.model.autoencoder.Autoencoder.get_state`.
    variant : Variant
        The way to write the step.

    Attributes
    ----------
    dropout : float
        The probability that a word is dropped, initially that of ``config``.
    """

    def __init__(
        self,
        config: ModelConfig,
        optimizer: str,
        learning_rate: float,
        state: dict[str, np.ndarray],
        variant: Variant,
    ):
        self.dropout = config.dropout.input
        self.parameters = {
            name: torch.nn.Parameter(torch.tensor(values))
            for name, values in state.items()
            if name.endswith((".W", ".a", ".b"))
        }
        self._project = PROJECTIONS[variant.input]
        self._loss = batch_loss(config)
        if variant.compiled:
            self._loss = torch.compile(self._loss, dynamic=False)
        parameters, kind = list(self.parameters.values()), {variant.optimizer: True}
        if optimizer == "adam":
            self._optimizer = torch.optim.Adam(parameters, learning_rate, **kind)
        else:
            self._optimizer = torch.optim.SGD(
                parameters, learning_rate, momentum=MOMENTUM, nesterov=True, **kind
            )

    def train(self, batch: csr_matrix) -> float:
        """Make one step on a minibatch; return its loss before the step."""
        target = torch.from_numpy(batch.toarray())
        projected = self._project(batch, target, self.parameters["layer1.W"], self.dropout)
        loss = self._loss(projected, target, self.parameters)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def get_state(self) -> dict[str, np.ndarray]:
        """Return the parameters by name, not copied."""
        return {name: parameter.detach().numpy() for name, parameter in self.parameters.items()}


def batch_loss(config: ModelConfig):
    """Return the function from the first projection, the target and the parameters to the loss."""
    switches = config.batch_norm
    losses = {"cross_entropy": F.binary_cross_entropy_with_logits, "squared_error": F.mse_loss}
    loss = losses[config.loss]

    def standardised(g, a, b):
        return F.batch_norm(g, None, None, a, b, training=True, eps=switches.epsilon)

    def mean_loss(projected, target, p):
        if switches.hidden:
            hidden = F.relu(standardised(projected, p["layer1.a"], p["layer1.b"]))
        else:
            hidden = F.relu(projected + p["layer1.b"])
        if switches.top:
            z = standardised(hidden @ p["layer2.W"], p["layer2.a"], p["layer2.b"])
        else:
            z = torch.addmm(p["layer2.b"], hidden, p["layer2.W"])
        return loss(z, target, reduction="sum") / len(target)

    return mean_loss
