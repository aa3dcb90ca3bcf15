"""Batch Normalization and dropout in autoencoders for sparse text, in explicit Theano graphs.

Importing this package sets Theano's flags (`ae_bn.backend`), so import it before Theano.
`ae_bn.BatchNormAutoencoder` is the scikit-learn estimator.
"""

from ae_bn import backend

__version__ = "0.1.0"

backend.configure()


def __getattr__(name):
    """Import the estimator, and with it Theano, only when it is asked for."""
    if name == "BatchNormAutoencoder":
        from ae_bn.estimator import BatchNormAutoencoder

        return BatchNormAutoencoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
