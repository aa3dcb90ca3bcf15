"""The autoencoder: its one graph, and the functions compiled from it.

Read `forward` first: it builds the whole graph, and is called twice over the same shared
variables, with the statistics of the minibatch (for training) and with the population
statistics (for everything else).
"""

from __future__ import annotations

from functools import cached_property
from typing import Callable, Iterator, NamedTuple

import numpy as np
import theano
import theano.sparse as sparse
import theano.tensor as T
from scipy.sparse import csr_matrix
from theano.sandbox.rng_mrg import MRG_RandomStream

from ae_bn.config import DropoutConfig, ModelConfig
from ae_bn.errors import UserError
from ae_bn.model.building import build_layers, parameters_of
from ae_bn.model.fused import KERNELS
from ae_bn.model.initialization import draw_parameters, start_from_denoiser, start_output
from ae_bn.model.losses import LOSSES
from ae_bn.model.optimizers import whole
from ae_bn.model.population import Moments, update_population
from ae_bn.model.sampling import draw_words, first_draw, small_vocabulary
from ae_bn.model.stages import random_state
from ae_bn.model.variables import as_float, shared
from ae_bn.randomness import Streams
from ae_bn.theano_setup import require_compiler

CHUNK = 1000  # largest number of documents that are computed at a time, except in training
CHUNK_OUTPUTS = 10**7  # largest number of outputs at a time, unless one document has more


class Noise(NamedTuple):
    """Where dropout masks come from, and how much is dropped."""

    mask: Callable  # `ae_bn.model.stages.dropout_mask`
    random: MRG_RandomStream
    input: theano.compile.SharedVariable  # probability for a word, scalar
    hidden: theano.compile.SharedVariable  # probability for a hidden output, scalar


def forward(x, layers, population=False, noise=None):
    """Build the graph of an autoencoder.

    Parameters
    ----------
    x : theano matrix, (n, n_words), sparse CSR or dense
        The documents.
    layers : list of Layer
        The layers, lowest first; the last one is the output layer.
    population : bool
        Whether population statistics standardise, instead of those of the minibatch.
    noise : Noise, optional
        The dropout masks.  If given, words and hidden outputs are dropped and units compete, as in
        training.  Otherwise nothing is dropped and no units compete.

    Returns
    -------
    list of Signals, one per layer
    """
    signals = []
    out = x if noise is None else drop_words(x, noise)
    for layer in layers:
        signals.append(layer.signals(out, population))
        out = signals[-1].out
        if noise is not None and layer is not layers[-1]:
            if layer.competition is not None:
                out = layer.competition(out)
            out = out * noise.mask(out, noise.hidden, noise.random)
    return signals


def drop_words(x, noise):
    """Drop words of documents: masking noise (Vincent et al. 2008), drawn on the non-zeros.

    Parameters
    ----------
    x : theano matrix, (n, n_words), sparse CSR or dense
        The documents.
    noise : Noise
        The masks, and the probability to drop a word.
    """
    if not isinstance(x.type, sparse.SparseType):
        return x * noise.mask(x, noise.input, noise.random)
    data, indices, indptr, shape = sparse.csm_properties(x)  # data: (number of non-zeros,)
    return sparse.CSR(data * noise.mask(data, noise.input, noise.random), indices, indptr, shape)


class Autoencoder:
    """An autoencoder for sparse documents, untrained until `ae_bn.training.fit` trains it.

    The functions `train`, `encode`, `reconstruct` and `evaluate` are compiled when they are
    first used.  Learning rate, dropout rates and parameters are shared variables, so one
    object serves any number of runs: `initialize` starts a new one without compiling again.

    Parameters
    ----------
    config : ModelConfig
        The model's settings; its dropout rates are not used here but given to `initialize`.
    optimizer : str
        A key of `ae_bn.model.optimizers.OPTIMIZERS`.
    n_words : int
        The size of the vocabulary.
    kernels : {"fused", "symbolic"}
        What computes the stages: Ops in C, or plain Theano, which is the definition.
    many_documents : bool
        Whether minibatches have enough documents for the kernel of `ae_bn.kernels.squared_error`,
        see `pays` there.  The other kernel gives the same results.

    Attributes
    ----------
    layers : list of Layer
        The layers, lowest first; the last one is the output layer.
    parameters : list of theano shared variables
        What training changes: W, a and b of every layer, where they exist.
    learning_rate : theano shared scalar
        The learning rate of the next step.
    noise : Noise
        The dropout masks and their probabilities.
    kernels : list of str
        The kernels in use, fused or symbolic, then the parts that fall back to symbolic.

    Raises
    ------
    UserError
        If there is no C++ compiler.
    """

    def __init__(
        self,
        config: ModelConfig,
        optimizer: str,
        n_words: int,
        kernels: str,
        many_documents: bool = True,
    ):
        require_compiler()
        self.config = config
        self.n_words = n_words
        ops = KERNELS[kernels]
        self.layers = build_layers(config, n_words, kernels, many_documents)
        self.kernels = [kernels, *ops.missing(self.layers, config.loss, optimizer)]
        self.parameters = parameters_of(self.layers)
        self.learning_rate = shared(0, "learning rate")
        random = MRG_RandomStream(1)
        self.noise = Noise(ops.dropout_mask, random, shared(0, "input"), shared(0, "hidden"))

        data, indices, indptr = T.vector("data"), T.ivector("indices"), T.ivector("indptr")
        self._inputs = [data, indices, indptr]
        shape = T.cast(T.stack([indptr.shape[0] - 1, n_words]), "int32")
        self._x = x = target = sparse.CSR(data, indices, indptr, shape)
        self._whole = self._forward(x, self.layers, population=True)

        layers, weights = self.layers, None
        self._draws = theano.shared(np.zeros(2, np.int64), name="draws")
        if config.sampling is not None:
            words = draw_words(self._draws, indices, n_words, config.sampling)
            layers, x, target = small_vocabulary(layers, words, data, indptr)
            weights = words.weights
        self._batch = self._forward(x, layers, noise=self.noise)
        self._batch_loss = self._loss(layers, self._batch, target, weights)
        parameters = parameters_of(layers)
        self._gradients = gradients = T.grad(self._batch_loss, parameters)
        optimize = ops.optimizer(optimizer)
        self._updates = whole(optimize(parameters, gradients, self.learning_rate))
        self._moments = Moments(self._inputs, self.layers, self._whole)

    def clean_loss(self, population: bool):
        """Return the loss as an expression, nothing dropped, and what it is a function of.

        Parameters
        ----------
        population : bool
            Whether population statistics standardise, instead of those of the minibatch.

        Returns
        -------
        loss : theano scalar
            The loss, the mean over the documents.
        inputs : list of theano vectors
            ``data``, ``indices`` and ``indptr`` of the documents' csr_matrix.
        """
        signals = self._forward(self._x, self.layers, population)
        return self._loss(self.layers, signals, self._x), self._inputs

    def _forward(self, x, layers, population=False, noise=None):
        return forward(x, layers, population, noise)

    def _loss(self, layers, signals, target, weights=None):
        return layers[-1].loss(LOSSES[self.config.loss], signals[-1], target, weights)

    def initialize(
        self, X: csr_matrix, streams: Streams, learning_rate: float, dropout: DropoutConfig
    ):
        """Start a new run: parameters, optimiser state, dropout and learning rate.

        See `ae_bn.model.initialization`; with output_start "data" the output layer starts from the
        data, and with denoiser_start both layers start from the linear denoiser.

        Parameters
        ----------
        X : csr_matrix, (n_train, n_words)
            The training documents.
        streams : Streams
            The random numbers; drawn from are ``initialization``, ``dropout`` and ``sampling``.
        learning_rate : float
            The learning rate of the first steps.
        dropout : DropoutConfig
            The probabilities to drop words and hidden outputs.
        """
        for state, _ in self._updates:
            state.set_value(np.zeros_like(state.get_value(borrow=True)), borrow=True)
        draw_parameters(self.layers, streams.initialization)

        def moments(number):
            self.update_population_statistics(X)  # the layers below it standardise by these
            return self.moments(number, X)

        start = self.config.denoiser_start
        if start is not None:
            start_from_denoiser(self.layers, X, start.masking, start.offset, moments)
        elif self.config.output_start == "data":
            start_output(self.layers, self.config.output_activation, X, moments)
        self.set_learning_rate(learning_rate)
        self.noise.input.set_value(as_float(dropout.input))
        self.noise.hidden.set_value(as_float(dropout.hidden))
        for state, *_ in self.noise.random.state_updates:
            state.set_value(random_state(streams.dropout))
        self._draws.set_value(first_draw(streams.sampling))

    def set_learning_rate(self, learning_rate: float):
        """Set the learning rate of the steps that follow."""
        self.learning_rate.set_value(as_float(learning_rate))

    def anneal(self, done: float):
        """Set what depends on the share of the epochs that is done: here nothing.

        Parameters
        ----------
        done : float
            The share of ``training.epochs`` that is done before the steps that follow.
        """

    def train(self, X) -> np.ndarray:
        """Make one step on a minibatch, csr_matrix (n, n_words) of floatX with sorted indices.

        Returns
        -------
        ndarray, a scalar
            The loss before the step.
        """
        return self._train(*_arrays(X))

    def encode(self, X) -> np.ndarray:
        """Return the codes, (n, n_units of the code layer), of documents, (n, n_words)."""
        return np.concatenate([self._encode(*arrays) for arrays in self._chunks(X)])

    def reconstruct(self, X) -> np.ndarray:
        """Return the reconstruction, dense (n, n_words), of documents, (n, n_words)."""
        return np.concatenate([self._reconstruct(*arrays) for arrays in self._chunks(X)])

    def decode(self, codes) -> np.ndarray:
        """Return the reconstruction, dense (n, n_words), from codes, dense (n, n_units)."""
        codes = as_float(codes)
        starts = range(0, len(codes), CHUNK)
        return np.concatenate([self._decode(codes[start : start + CHUNK]) for start in starts])

    def evaluate(self, X) -> float:
        """Return the mean loss per document with population statistics and nothing dropped."""
        losses = [(self._evaluate(*arrays), len(arrays[-1]) - 1) for arrays in self._chunks(X)]
        return float(np.average([loss for loss, _ in losses], weights=[n for _, n in losses]))

    def update_population_statistics(self, X):
        """Recompute the population statistics of every layer over documents X, (n, n_words)."""
        update_population(self.layers, lambda number: self.moments(number, X))

    def moments(self, number: int, X) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and biased variance of a layer's g over documents, in float64.

        Parameters
        ----------
        number : int
            The number of the layer, from 0.
        X : csr_matrix, (n, n_words)
            The documents.

        Returns
        -------
        mean, variance : ndarray, (n_units,)
        """
        return self._moments(number, self._chunks(X))

    def signals(self, X) -> tuple[list, list, list]:
        """Return signals and gradient norms on one batch, as in training, without side effects.

        The generator of dropout masks keeps its state, so later training steps do not change.

        Parameters
        ----------
        X : csr_matrix, (n, n_words)
            The documents of the batch.

        Returns
        -------
        z, out : lists of ndarray, (n, n_units)
            For every hidden layer a * h(g) + b, and its activation.
        norms : list of ndarray, scalars
            For every layer the Euclidean norm of the gradient of W.
        """
        depth, values = len(self.layers) - 1, self._signals(*_arrays(X))
        return values[:depth], values[depth : 2 * depth], values[2 * depth :]

    def get_state(self, training: bool = False) -> dict[str, np.ndarray]:
        """Return copies of all parameters and population statistics, by name.

        Parameters
        ----------
        training : bool
            Whether to add what training needs to resume: the states of the optimiser and of the
            generators of dropout masks and absent words.
        """
        variables = self._variables(training)
        return {name: self._turned(v, v.get_value()) for name, v in variables.items()}

    def set_state(self, state: dict[str, np.ndarray], training: bool = False):
        """Put back what `get_state` returned."""
        for name, variable in self._variables(training).items():
            value = np.array(self._turned(variable, state[name]), order="C")
            variable.set_value(value, borrow=True)

    def _turned(self, variable, value):
        """Return the transpose of a W that is stored transposed, and of its optimiser's state.

        In a state both are (n_in, n_out), so graphs that differ in how they store W share states.
        """
        projection = self.layers[-1].projection
        names = projection.W.name, f"state of {projection.W.name}"
        is_own = variable.name in names and not self.config.tied
        return projection.turned(value) if is_own else value

    def _variables(self, training):
        variables = {}
        for number, layer in enumerate(self.layers, start=1):
            for name, variable in layer.variables.items():
                if variable not in variables.values():  # a tied W is the encoder's
                    variables[f"layer{number}.{name}"] = variable
        if training:
            others = [state for state, _ in self._updates if state not in self.parameters]
            variables.update((f"optimizer{n}", state) for n, state in enumerate(others))
            masks = [update[0] for update in self.noise.random.state_updates]
            variables.update((f"dropout{n}", state) for n, state in enumerate(masks))
            if self.config.sampling is not None:
                variables["draws"] = self._draws
        return variables

    @property
    def _decoder(self):
        return self.layers[len(self.config.layers) :]

    @cached_property
    def _train(self):
        return theano.function(self._inputs, self._batch_loss, updates=self._updates, name="train")

    @cached_property
    def _signals(self):
        hidden = self._batch[:-1]
        weights = dict.fromkeys(layer.projection.W for layer in self.layers)  # a tied one once
        gradients = dict(zip(self.parameters, self._gradients))
        norms = [T.sqrt(T.sqr(gradients[W]).sum()) for W in weights if W in gradients]
        outputs = [signals.z for signals in hidden] + [signals.out for signals in hidden] + norms
        # Without default updates the masks of training stay as they would have been.
        return theano.function(self._inputs, outputs, name="signals", no_default_updates=True)

    @cached_property
    def _encode(self):
        code = self._whole[self.config.encoder_depth - 1].out
        return theano.function(self._inputs, code, name="encode")

    @cached_property
    def _reconstruct(self):
        return theano.function(self._inputs, self._whole[-1].out, name="reconstruct")

    @cached_property
    def _decode(self):
        codes, decoder = T.matrix("codes"), self._decoder
        out = forward(codes, decoder, population=True)[-1].out
        return theano.function([codes], out, name="decode")

    @cached_property
    def _evaluate(self):
        loss = self._loss(self.layers, self._whole, self._x)
        return theano.function(self._inputs, loss, name="evaluate")

    def _chunks(self, X) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the arrays of some documents at a time; they share X's memory."""
        if not (isinstance(X, csr_matrix) and X.dtype == theano.config.floatX):
            X = csr_matrix(X, dtype=theano.config.floatX)
        if X.shape[1] != self.n_words or X.shape[0] == 0:
            raise UserError(
                f"documents of shape {X.shape}: give one row or more, and one column for each of "
                f"the {self.n_words} words"
            )
        X = X if X.has_sorted_indices else X.sorted_indices()
        size = max(1, min(CHUNK, CHUNK_OUTPUTS // self.n_words))
        for start in range(0, X.shape[0], size):
            indptr = X.indptr[start : start + size + 1]
            stored = slice(indptr[0], indptr[-1])
            indices, indptr = X.indices[stored], indptr - indptr[0]
            yield X.data[stored], indices.astype(np.int32, copy=False), indptr.astype(np.int32)


def _arrays(X):
    """Return what Theano takes of a csr_matrix."""
    return X.data, X.indices, X.indptr
