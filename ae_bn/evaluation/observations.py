"""Pre-activations and gradients of an autoencoder during training."""

from __future__ import annotations

import numpy as np

from ae_bn.evaluation.probes import saturated
from ae_bn.model.autoencoder import Autoencoder

PERCENTILES = [15, 50, 85]  # those that Ioffe and Szegedy (2015) show


def observe(autoencoder: Autoencoder, X) -> dict[str, float]:
    """Return percentiles of pre-activations and norms of gradients, on one training minibatch.

    Parameters
    ----------
    autoencoder : Autoencoder
        The autoencoder in training, which this does not change.
    X : csr_matrix, (n, n_words)
        The minibatch.

    Returns
    -------
    dict of float
        For each hidden layer, from 1: ``z1_p15``, ``z1_p50``, ``z1_p85``, percentiles of
        a * h(g) + b over documents and units; ``saturated1``, the share of outputs within 1 % of
        a bound of the activation, if it has bounds.  For every layer: ``gradient1``, the Euclidean
        norm of the gradient of W.
    """
    observed, (hidden_z, hidden_out, norms) = {}, autoencoder.signals(X)
    for number, (z, out) in enumerate(zip(hidden_z, hidden_out), start=1):
        for percent in PERCENTILES:
            observed[f"z{number}_p{percent}"] = float(np.percentile(z, percent))
        share = saturated(out, autoencoder.config.hidden_activation)
        if share is not None:
            observed[f"saturated{number}"] = share
    for number, norm in enumerate(norms, start=1):
        observed[f"gradient{number}"] = float(norm)
    return observed
