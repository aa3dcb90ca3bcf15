"""Batch Normalization and dropout in autoencoders for sparse text, in explicit Theano graphs.

Importing this package sets Theano's flags (`ae_bn.backend`), so import it before Theano.
"""

from ae_bn import backend

__version__ = "0.1.0"

backend.configure()
