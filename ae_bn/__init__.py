"""Batch Normalization and dropout in autoencoders for sparse text, in explicit Theano graphs.

`ae_bn.BatchNormAutoencoder` is the scikit-learn estimator, which trains with Theano, and
`ae_bn.TopicAutoencoder` is a topic model with the same training.
`ae_bn.LinearDenoiser` is another estimator, in closed form and without Theano.
`ae_bn.choose` compares these and others on your text, and `ae_bn.save_model` writes a file of one.
`ae_bn.Encoder` encodes text with a trained model and needs no Theano.

Importing this package sets Theano's flags (`ae_bn.theano_setup`), so import it before Theano.
"""

from ae_bn import theano_setup
from ae_bn.errors import UserError

__version__ = "0.1.0"

theano_setup.configure()


def __getattr__(name):
    """Import a class or function, and with it Theano or SciPy, only when it is asked for."""
    if name in ("BatchNormAutoencoder", "TopicAutoencoder"):
        theano_setup.require_theano()
        from ae_bn.estimator import BatchNormAutoencoder
        from ae_bn.topics import TopicAutoencoder

        estimators = BatchNormAutoencoder, TopicAutoencoder
        return {estimator.__name__: estimator for estimator in estimators}[name]
    if name == "LinearDenoiser":
        try:
            from ae_bn.denoiser import LinearDenoiser
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("sklearn"):
                raise
            raise UserError("LinearDenoiser needs scikit-learn: pip install scikit-learn") from None

        return LinearDenoiser
    if name == "Encoder":
        from ae_bn.encoder import Encoder

        return Encoder
    if name in ("choose", "save_model"):
        theano_setup.require_theano()
        from ae_bn.choosing import choose
        from ae_bn.saving import save_model

        return {"choose": choose, "save_model": save_model}[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
