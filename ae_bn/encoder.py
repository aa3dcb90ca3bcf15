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

from dataclasses import fields
from pathlib import Path
from typing import Callable, Iterable, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, issparse

from ae_bn.choices import ACTIVATIONS, NORMALIZATIONS
from ae_bn.config import unpickled
from ae_bn.data.words import checked_texts, unreachable
from ae_bn.errors import UserError
from ae_bn.model.layers import LayerPlan, plan_layers
from ae_bn.model.model_file import COUNTS, Model, model_path, read_model, training_corpus
from ae_bn.neighbours import Neighbours, Similar, beginning, codes_path


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
    model : ae_bn.model.model_file.Model
        The settings, the vocabulary and the arrays of the model.
    path : Path, optional
        The file of the model, which `store` and `similar` need.

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

    def __init__(self, model: Model, path: Path | None = None):
        self.config, self.words, self.idf = model.config, model.words, model.idf
        self.token_pattern = model.token_pattern
        self.path, self._model = path, model
        self._neighbours: Neighbours | None = None
        settings = self.config.model
        plans = plan_layers(settings, len(self.words))[: settings.encoder_depth]
        self.layers = [
            _layer(plan, number, settings.batch_norm.epsilon, model.arrays)
            for number, plan in enumerate(plans, start=1)
        ]

    @property
    def unreachable(self) -> list[str]:
        """Words of the vocabulary that `transform` finds in no text; only a matrix has such."""
        from_matrix = self.config.data.source == "matrix" or self._model.source == COUNTS
        return unreachable(self.words, self.token_pattern) if from_matrix else []

    def __reduce__(self):  # layers have functions, which cannot be pickled
        facts = {field.name: getattr(self._model, field.name) for field in fields(self._model)}
        facts["config"] = self.config.run_settings()
        return _unpickled, (facts,), {"path": self.path}

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
        path = model_path(path)
        return cls(read_model(path), path)

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
        return self._model.vectorise(checked_texts(texts))

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

    def store(self, texts: Iterable[str], names: Iterable[str] | None = None) -> Path:
        """Store the codes of documents beside the model's file, for `similar`.

        They replace those that are there.  The documents themselves are not needed again.
        Documents without a word of the vocabulary are left out.

        Parameters
        ----------
        texts : iterable of str
            The documents.
        names : iterable of str, optional
            The name of each document; if not given, its number from 1.

        Returns
        -------
        Path
            The file, whose name ends in ``-codes.safetensors``.

        Raises
        ------
        UserError
            If ``texts`` are not texts, if there are not as many names, if no document has a word
            of the vocabulary, or if the file cannot be written.
        """
        texts = list(checked_texts(texts))
        names = list(map(str, range(1, len(texts) + 1) if names is None else names))
        if len(names) != len(texts):
            raise UserError(f"{len(names)} names for {len(texts)} texts: give one for each")
        return self.store_rows(self.vectorise(texts), names, list(map(beginning, texts)))

    def store_training_documents(self) -> Path:
        """Store the codes of the documents that trained the model, if its corpus is available.

        See `store`.  They are named by their rows and labels; their main words are their texts.

        Raises
        ------
        UserError
            If the corpus is not available here, or the file cannot be written.
        """
        corpus = training_corpus(self._model)
        rows = range(corpus.train.shape[0])
        names = [corpus.name_of("training", row) for row in rows]
        return self.store_rows(
            corpus.train, names, [corpus.main_words("training", row) for row in rows]
        )

    def store_rows(self, X: csr_matrix, names: list, texts: list) -> Path:
        """Do the same as `store` for documents that are the network's input, (n, n_words).

        Parameters
        ----------
        X : csr_matrix, (n, n_words)
            The documents.
        names, texts : list of str, (n,)
            The name of each document, and what to show of it.
        """
        known = np.flatnonzero(np.diff(X.indptr))
        if not len(known):
            raise UserError(f"none of the {X.shape[0]} documents has a word of the vocabulary")
        chosen = ([of_all[row] for row in known] for of_all in (names, texts))
        self._neighbours = Neighbours(self.encode(X[known]), *chosen)
        return self._neighbours.write(self._file())

    @property
    def has_stored(self) -> bool:
        """Whether there are stored codes for `similar`."""
        return self._neighbours is not None or codes_path(self._file()).exists()

    def similar(self, texts: Iterable[str], n: int = 5) -> list[list[Similar]]:
        """Return the stored documents that are most similar to each text, the most similar first.

        Parameters
        ----------
        texts : iterable of str
            The texts.
        n : int
            The number of documents for each text.

        Returns
        -------
        list of list of Similar
            For each text a list of tuples of cosine, name and beginning of a document.  It is
            empty for a text without a word of the vocabulary.

        Raises
        ------
        UserError
            If no codes are stored beside the model, or ``texts`` are not texts.
        """
        return self.similar_to(self.vectorise(texts), n)

    def similar_to(self, X: csr_matrix, n: int = 5) -> list[list[Similar]]:
        """Return the same as `similar` for the network's input, csr_matrix (n_texts, n_words)."""
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise UserError(f"n={n!r:.60}: give a whole number from 1")
        if self._neighbours is None:
            self._neighbours = Neighbours.read(self._file(), self.config.model.code_units)
        found = self._neighbours.nearest(self.encode(X), int(n))
        return [similar if words else [] for similar, words in zip(found, np.diff(X.indptr))]

    def _file(self) -> Path:
        if self.path is None:
            raise UserError("this encoder was not loaded from a file: use Encoder.load")
        return self.path


def _unpickled(facts: dict) -> Encoder:
    return Encoder(Model(**{**facts, "config": unpickled(facts["config"])}))


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
