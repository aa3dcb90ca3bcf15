"""A trained encoder in NumPy and SciPy: from raw text to codes on any machine, without Theano.

Every layer of the encoder is the post's three equations, as in `ae_bn.model.stages`, with mean and
std from the population statistics::

    g(x) = x W                                                            (1)
    h(g) = (g - mean) / std                                               (2)
    f(h) = max(0, a h + b)                                                (3)

The file of a model (`ae_bn.model.model_file`) holds all arrays that they need::

    from ae_bn import Encoder

    codes = Encoder.load("model.safetensors").transform(["a text", "another text"])

The codes equal those of Theano up to rounding.  The tests compare the two for every kind of model.
"""

from __future__ import annotations

from typing import Callable, Iterable, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, issparse

from ae_bn.choices import ACTIVATIONS, NORMALIZATIONS
from ae_bn.config import unpickled
from ae_bn.data.words import checked_texts, unreachable
from ae_bn.errors import UserError
from ae_bn.model.layers import LayerPlan, plan_layers
from ae_bn.model.model_file import Contents, read_contents, vectorise


def g(x, W):
    """Project: equation (1), x csr_matrix or ndarray (n, n_in), W ndarray (n_in, n_out)."""
    return x @ W


def h(g, mean, std):
    """Standardise: equation (2), g ndarray (n, n_units), mean and std (n_units,) or numbers."""
    return (g - mean) / std


def f(h, a, b, activation):
    """Scale, shift and activate: equation (3), h ndarray (n, n_units), a and b as mean and std."""
    return activation(a * h + b)


class EncoderLayer(NamedTuple):
    """A layer; a and b are arrays of (n_units,), or 1 and 0 where their switches are off."""

    W: np.ndarray  # (n_in, n_units)
    standardise: Callable  # from g(x) to h(g), (n, n_units)
    a: np.ndarray | int
    b: np.ndarray | int
    activation: Callable


class Encoder:
    """A trained encoder.  `load` reads one from a file.

    Parameters
    ----------
    contents : ae_bn.model.model_file.Contents
        The settings, the vocabulary and the arrays of the model.

    Attributes
    ----------
    config : Config
        The settings of the run that trained the model.
    words : list of str
        The vocabulary, in the order of the input's columns.
    idf : ndarray of float64, (n_words,)
        Inverse document frequencies of the training documents.
    token_pattern : str
        The pattern that cut the training documents into words.
    layers : list of EncoderLayer
        The layers of the encoder, lowest first; the output of the last one is the code.
    """

    def __init__(self, contents: Contents):
        self.config, self.words, self.idf = contents.config, contents.words, contents.idf
        self.token_pattern = contents.token_pattern
        self._contents = contents
        model = self.config.model
        plans = plan_layers(model, len(self.words))[: model.encoder_depth]
        self.layers = [
            _layer(plan, number, model.batch_norm.epsilon, contents.arrays)
            for number, plan in enumerate(plans, start=1)
        ]

    @property
    def unreachable(self) -> list[str]:
        """Words of the vocabulary that `transform` finds in no text; only a matrix has such."""
        from_matrix = self.config.data.source == "matrix"
        return unreachable(self.words, self.token_pattern) if from_matrix else []

    def __reduce__(self):  # layers have functions, which cannot be pickled
        return _unpickled, ({**self._contents._asdict(), "config": self.config.run_settings()},)

    @classmethod
    def load(cls, path) -> Encoder:
        """Read an encoder from the file of a model.

        The file holds data only, and loading it runs no code.  Its checksum and the sizes that it
        claims are checked.

        Parameters
        ----------
        path : path-like
            The file ``model.safetensors``, or the directory of the run that wrote it.

        Raises
        ------
        UserError
            If the file is missing, damaged or inconsistent, if it has settings that this version
            does not know, or if its values are not finite because its training diverged.
        """
        return cls(read_contents(path))

    def transform(self, texts: Iterable[str]) -> np.ndarray:
        """Return the codes of raw texts.

        Parameters
        ----------
        texts : iterable of str
            The texts.  Words outside the vocabulary are ignored, so a text with no other words has
            the code of the empty document.

        Returns
        -------
        ndarray of the model's dtype, (n_texts, n_units)

        Raises
        ------
        UserError
            If ``texts`` is one text, or a table of several columns, or holds something else than
            texts, which is named.
        """
        return self.encode(self.vectorise(texts))

    def vectorise(self, texts: Iterable[str]) -> csr_matrix:
        """Return the network's input for raw texts, csr_matrix of float32, (n_texts, n_words)."""
        return vectorise(
            checked_texts(texts), self.words, self.idf, self.config.data, self.token_pattern
        )

    def encode(self, X) -> np.ndarray:
        """Return the codes of documents that are already the network's input.

        Parameters
        ----------
        X : csr_matrix or ndarray, (n, n_words)
            The input, as `vectorise` returns it.

        Returns
        -------
        ndarray of the model's dtype, (n, n_units)

        Raises
        ------
        UserError
            If X has another number of columns than there are words, or values that are no numbers,
            not finite or too large.
        """
        X = X if issparse(X) else np.asarray(X)
        if X.dtype.kind not in "biuf":
            raise UserError(f"documents of {X.dtype}: give numbers, or texts to transform")
        if X.ndim != 2 or X.shape[1] != len(self.words):
            raise UserError(
                f"documents of shape {X.shape}: give one column for each of the "
                f"{len(self.words)} words"
            )
        dtype = self.layers[0].W.dtype
        with np.errstate(over="ignore", invalid="ignore"):  # the check below reports it
            out = X.astype(dtype)
            if self.config.model.topics is not None:
                out = np.log1p(out)
            for layer in self.layers:
                out = f(layer.standardise(g(out, layer.W)), layer.a, layer.b, layer.activation)
        if not np.isfinite(out).all():
            raise UserError(
                f"the codes of these documents are not finite: give finite values that fit {dtype}"
            )
        return out


def _unpickled(contents: dict) -> Encoder:
    return Encoder(Contents(**{**contents, "config": unpickled(contents["config"])}))


def _layer(plan: LayerPlan, number: int, epsilon: float, arrays: dict) -> EncoderLayer:
    """Return the layer with a number, from its plan and the arrays of the model."""
    own = {name: arrays[f"layer{number}.{name}"] for name in plan.arrays}
    standardise = _standardisation(plan, own, epsilon)
    activation = ACTIVATIONS[plan.activation].function
    return EncoderLayer(own["W"], standardise, own.get("a", 1), own.get("b", 0), activation)


def _standardisation(plan: LayerPlan, own: dict, epsilon: float) -> Callable:
    """Return equation (2) with a layer's statistics, as a function of g."""

    def by_statistics(g, mean, variance):
        mean = mean if plan.center else 0
        return h(g, mean, np.sqrt(variance + epsilon) if plan.normalize else 1)

    if plan.needs_statistics:
        return lambda g: by_statistics(g, own["mean"], own["variance"])
    if plan.over is not None:
        statistics = NORMALIZATIONS[plan.over]
        return lambda g: by_statistics(g, *statistics(g))
    return lambda g: g
