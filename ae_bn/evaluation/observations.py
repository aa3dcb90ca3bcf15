"""Where pre-activations and gradients are while an autoencoder trains."""

from __future__ import annotations

import numpy as np

from ae_bn.evaluation.probes import saturated
from ae_bn.model.autoencoder import Autoencoder

PERCENTILES = [15, 50, 85]  # of pre-activations, as Ioffe and Szegedy (2015) show them


def observe(autoencoder: Autoencoder, X) -> dict[str, float]:
    """Return where pre-activations and gradients are, on one batch, as training sees it.

    Parameters
    ----------
    autoencoder : Autoencoder
        The autoencoder in training; nothing of it changes.
    X : csr_matrix, (n, n_words)
        The batch.

    Returns
    -------
    dict of float
        For each hidden layer, from 1: ``z1_p15``, ``z1_p50``, ``z1_p85``, percentiles of
        a * h(g) + b over documents and units; ``saturated1``, the share of outputs within 1 % of
        a bound of the activation, if it has any.  For every layer: ``gradient1``, the Euclidean
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
