"""The autoencoder: its layers, its one graph, and the functions compiled from it.

Read `forward` first: it builds the whole graph, and is called twice over the same shared
variables, with the statistics of the minibatch (for training) and with the population
statistics (for everything else).
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property, partial
from typing import Callable, Iterator, NamedTuple

import numpy as np
import scipy.special
import theano
import theano.sparse as sparse
import theano.tensor as T
from scipy.sparse import csr_matrix
from theano.sandbox.rng_mrg import MRG_RandomStream

from ae_bn.config import DropoutConfig, ModelConfig
from ae_bn.errors import UserError
from ae_bn.model.fused import STAGES, missing
from ae_bn.model.layers import plan_layers, weight_shapes
from ae_bn.model.optimizers import whole
from ae_bn.model.sampling import draw_words, first_draw, small_vocabulary
from ae_bn.model.stages import BatchNormalization, Projection, random_state
from ae_bn.randomness import Streams
from ae_bn.theano_setup import require_compiler

CHUNK = 1000  # documents passed at a time through everything but training,
CHUNK_OUTPUTS = 10**7  # and at most so many outputs, unless those of one document are more
READ = 100_000  # documents read at a time where no output is computed
TINY = 1e-12  # keeps a division by a variance of 0 finite

# The inverse of each activation at a word's mean: the output layer's first b.
INVERSES = {
    "sigmoid": scipy.special.logit,
    "tanh": np.arctanh,
    "relu": lambda mean: mean,
    "linear": lambda mean: mean,
    "softmax": lambda mean: np.log(mean / mean.sum()),
}


class Layer(NamedTuple):
    """``activation(batch_normalization(projection(x)))``, the post's three words.

    In training ``competition`` (`ae_bn.model.stages.compete`) comes after them, if there is one.
    """

    projection: Projection
    batch_normalization: BatchNormalization
    activation: Callable
    competition: Callable | None = None


class Signals(NamedTuple):
    """What one layer takes, (n, n_in), and computes, each (n, n_units)."""

    x: T.TensorVariable  # the documents or the outputs of the layer below, some dropped
    g: T.TensorVariable  # projected
    z: T.TensorVariable  # a * h(g) + b
    out: T.TensorVariable  # activation(z)


class Noise(NamedTuple):
    """Where dropout masks come from, and how much is dropped."""

    mask: Callable  # `ae_bn.model.stages.dropout_mask`
    random: MRG_RandomStream
    input: theano.compile.SharedVariable  # probability for a word, scalar
    hidden: theano.compile.SharedVariable  # probability for a hidden output, scalar


class RunningAverage(NamedTuple):
    """A statistic of one layer, (n_units,), averaged over the minibatches of training."""

    name: str  # in a state, such as layer1.running_mean
    first: float  # before training
    average: theano.compile.SharedVariable
    update: T.TensorVariable  # the average after a step
    population: theano.compile.SharedVariable  # the exact one that it stands in for


def forward(x, layers, population=False, noise=None):
    """Build the graph of an autoencoder.

    Parameters
    ----------
    x : theano matrix, (n, n_words), sparse CSR or dense
    layers : list of Layer
        Lowest first; the last one is the output layer.
    population : bool
        Standardise by population statistics instead of those of the minibatch.
    noise : Noise, optional
        Drop words of the input and outputs of the hidden layers, and let units compete, as in
        training; without it nothing is dropped and nobody competes.

    Returns
    -------
    list of Signals, one per layer
    """
    signals = []
    out = x if noise is None else drop_words(x, noise)
    for layer in layers:
        x = out
        g = layer.projection(x)
        z = layer.batch_normalization(g, population)
        out = layer.activation(z)
        signals.append(Signals(x, g, z, out))
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
    noise : Noise
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
        Its dropout rates are not used here but given to `initialize`.
    optimizer : str
        A key of `ae_bn.model.optimizers.OPTIMIZERS`.
    n_words : int
        Size of the vocabulary.
    kernels : str
        fused: the stages are Ops in C; symbolic: they are plain Theano, the definition.
    running_average : float, optional
        Momentum of the running averages of Batch Normalization's statistics; without it there
        are none.  After a step an average is ``momentum * average + (1 - momentum) * batch``,
        from a mean of 0 and a variance of 1 on, ``batch`` being the mean or the biased variance
        that training standardised this minibatch with, dropout on.  It changes no training:
        see `running_averages`.

    Attributes
    ----------
    layers : list of Layer
    parameters : list of theano shared variables
        What training changes: W, a and b of every layer, where they exist.
    learning_rate : theano shared scalar
    noise : Noise
    averages : list of RunningAverage
        The running averages of all layers; empty without ``running_average``.
    kernels : list of str
        What is used: fused or symbolic, and what had to fall back to symbolic.

    Raises
    ------
    UserError
        If there is no C++ compiler, or running averages are asked for of words that are sampled.
    """

    def __init__(
        self,
        config: ModelConfig,
        optimizer: str,
        n_words: int,
        kernels: str,
        running_average: float | None = None,
    ):
        require_compiler()
        self.config = config
        self.n_words = n_words
        self.kernels = [kernels, *(missing(config.loss) if kernels == "fused" else [])]
        self.layers = build_layers(config, n_words, kernels)
        self.parameters = parameters_of(self.layers)
        self.learning_rate = _shared(0, "learning rate")
        self.word_variance = _shared(np.ones(n_words), "word variance")
        self.noise = Noise(
            STAGES[kernels].dropout_mask,
            MRG_RandomStream(1),
            _shared(0, "input"),
            _shared(0, "hidden"),
        )

        data, indices, indptr = T.vector("data"), T.ivector("indices"), T.ivector("indptr")
        self._inputs = [data, indices, indptr]
        shape = T.cast(T.stack([indptr.shape[0] - 1, n_words]), "int32")
        self._x = x = target = sparse.CSR(data, indices, indptr, shape)
        self._whole = forward(x, self.layers, population=True)
        self._whole_loss = self._loss(self._whole, x)

        layers, words = self.layers, None
        self._draws = theano.shared(np.zeros(2, np.int64), name="draws")
        if config.sampling is not None:
            words = draw_words(self._draws, indices, n_words, config.sampling)
            layers, x, target = small_vocabulary(layers, words, data, indptr)
        self._batch = forward(x, layers, noise=self.noise)
        self._batch_loss = self._loss(self._batch, target, words)
        parameters = parameters_of(layers)
        self._gradients = gradients = T.grad(self._batch_loss, parameters)
        optimize = STAGES[kernels].optimizers[optimizer]
        self._updates = whole(optimize(parameters, gradients, self.learning_rate))
        self._batch_statistics = STAGES[kernels].batch_statistics
        self._statistics: dict[tuple, Callable] = {}  # compiled, by layer's number, noise or not
        self.running_average = running_average
        self.averages = [] if running_average is None else self._averages(running_average)

    def _loss(self, signals, target, words=None):
        """Return the loss of all words, or its estimate from some `ae_bn.model.sampling.Words`."""
        z, activation = signals[-1].z, self.layers[-1].activation
        target = sparse.dense_from_sparse(target)
        loss = STAGES[self.kernels[0]].losses[self.config.loss]
        if words is None:
            return loss(z, target, activation, self.word_variance)
        return loss(z, target, activation, self.word_variance[words.numbers], words.weights)

    def _averages(self, momentum):
        """Return the `RunningAverage` of every statistic that training standardises with."""
        top = self.layers[-1].batch_normalization
        if self.config.sampling is not None and top.needs_statistics:
            raise UserError(
                "evaluation.running_average: with model.sampling a minibatch has statistics of "
                "some words only; set model.batch_norm.top to false, or one of the two to null"
            )
        averages = []
        for number, (layer, signals) in enumerate(zip(self.layers, self._batch), start=1):
            bn = layer.batch_normalization
            if not bn.needs_statistics:
                continue
            batch_mean, batch_variance = self._batch_statistics(signals.g)
            for name, first, batch, population in (
                ("mean", 0.0, batch_mean, bn.mean),
                ("variance", 1.0, batch_variance, bn.variance),
            ):
                average = _shared(population.get_value(), f"running {name}")
                update = _as_float(momentum) * average + _as_float(1 - momentum) * batch
                name = f"layer{number}.running_{name}"
                averages.append(RunningAverage(name, first, average, update, population))
        return averages

    def clean_loss(self, population: bool):
        """Return the loss as an expression, nothing dropped, and what it is a function of.

        Parameters
        ----------
        population : bool
            Standardise by population statistics instead of those of the minibatch.

        Returns
        -------
        loss : theano scalar
        inputs : list of theano vectors
            ``data``, ``indices`` and ``indptr`` of the documents' csr_matrix.
        """
        return self._loss(forward(self._x, self.layers, population), self._x), self._inputs

    def initialize(
        self, X: csr_matrix, streams: Streams, learning_rate: float, dropout: DropoutConfig
    ):
        """Start a new run: parameters, optimiser state, dropout and learning rate.

        W is drawn as Glorot and Bengio (2010) do, uniform in +-sqrt(6 / (n_in + n_out)); a is
        1 and b is 0.  With output_start "data" the output layer starts from the data in every
        arm alike: b is the inverse activation of each word's mean (sigmoid: log-odds; softmax:
        the log of each word's share of all).  A linear or ReLU output starts no wider than the
        data: standardised, it has each word's standard deviation as a (over units it then is no
        wider on average over the words); otherwise the columns of W that give more are scaled
        down to it (not if tied: W is the encoder's too).

        Parameters
        ----------
        X : csr_matrix, (n_train, n_words)
        streams : Streams
            Draws from ``initialization``, ``dropout`` and ``sampling``.
        learning_rate : float
        dropout : DropoutConfig
        """
        for state, _ in self._updates:
            state.set_value(np.zeros_like(state.get_value(borrow=True)), borrow=True)
        for layer, shape in zip(self.layers, weight_shapes(self.config, self.n_words)):
            projection, bn = layer.projection, layer.batch_normalization
            if not (self.config.tied and projection.transposed):
                limit = np.sqrt(6 / sum(shape))
                draws = streams.initialization.uniform(-limit, limit, shape)
                _set(projection.W, draws.T if projection.transposed else draws)
                del draws  # before the next ones: with many words this is the most memory used
            if bn.a is not None:
                _set(bn.a, np.ones(bn.a.get_value().shape))
            for statistic in (bn.mean, bn.variance):
                _set(statistic, np.full(statistic.get_value().shape, np.nan))
        for running in self.averages:
            shape = running.average.get_value(borrow=True).shape
            _set(running.average, np.full(shape, running.first))
        mean, deviation = _word_moments(X)
        _set(self.word_variance, deviation**2 + self.config.batch_norm.epsilon)
        if self.config.output_start == "data":
            self._start_output(X, mean, deviation)
        self.set_learning_rate(learning_rate)
        self.noise.input.set_value(_as_float(dropout.input))
        self.noise.hidden.set_value(_as_float(dropout.hidden))
        for state, *_ in self.noise.random.state_updates:
            state.set_value(random_state(streams.dropout))
        self._draws.set_value(first_draw(streams.sampling))

    def _start_output(self, X, mean, deviation):
        projection, bn = self.layers[-1].projection, self.layers[-1].batch_normalization
        n = X.shape[0]
        activation = self.config.output_activation
        if bn.b is not None:
            if activation in ("sigmoid", "softmax"):
                # A word in no document, or in all, has no logarithm: count half a document more.
                mean = (mean * n + 0.5) / (n + 1)
            _set(bn.b, INVERSES[activation](mean))
        if activation in ("linear", "relu"):
            if bn.normalize and bn.a is not None:
                _set(bn.a, deviation)
            elif not bn.normalize and not self.config.tied:
                self.update_population_statistics(X)
                _, variance = self._population_statistics(len(self.layers) - 1, X)
                factors = np.minimum(1, deviation / np.sqrt(variance + TINY))
                factors = factors[:, None] if projection.transposed else factors
                _set(projection.W, projection.W.get_value() * factors)

    def set_learning_rate(self, learning_rate: float):
        """Set the learning rate of the steps that follow."""
        self.learning_rate.set_value(_as_float(learning_rate))

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
        return np.concatenate([self._encode(*_arrays(chunk)) for chunk in self._chunks(X)])

    def reconstruct(self, X) -> np.ndarray:
        """Return the reconstruction, dense (n, n_words), of documents, (n, n_words)."""
        return np.concatenate([self._reconstruct(*_arrays(chunk)) for chunk in self._chunks(X)])

    def decode(self, codes) -> np.ndarray:
        """Return the reconstruction, dense (n, n_words), from codes, dense (n, n_units)."""
        codes = _as_float(codes)
        starts = range(0, len(codes), CHUNK)
        return np.concatenate([self._decode(codes[start : start + CHUNK]) for start in starts])

    def evaluate(self, X) -> float:
        """Return the mean loss per document with population statistics and nothing dropped."""
        losses = [(self._evaluate(*_arrays(chunk)), chunk.shape[0]) for chunk in self._chunks(X)]
        return float(np.average([loss for loss, _ in losses], weights=[n for _, n in losses]))

    def update_population_statistics(self, X):
        """Recompute mean and biased variance of every layer over documents X, (n, n_words).

        Weights frozen, nothing dropped, lower layers first, so that each layer sees what it
        will see afterwards.  Chunks are combined as by Chan et al. (1983), in float64.
        """
        for number, layer in enumerate(self.layers):
            bn = layer.batch_normalization
            if bn.needs_statistics:
                mean, variance = self._population_statistics(number, X)
                _set(bn.mean, mean)
                _set(bn.variance, variance)

    @np.errstate(over="ignore", invalid="ignore")  # training that diverges ends elsewhere
    def _population_statistics(self, number, X, noise=False):
        """Return mean and biased variance, (n_units,) each, of a layer's g over documents X.

        Where g = x W is wider than a dense x, they are derived from x, in a fraction of the time:
        mean_j = mean(x) W_j and variance_j = W_j^T covariance(x) W_j.
        """
        signals = (self._batch if noise else self._whole)[number]
        n_in, n_out = weight_shapes(self.config, self.n_words)[number]
        of_x = n_out > n_in and not isinstance(signals.x.type, sparse.SparseType)
        if (number, noise) not in self._statistics:
            outputs = signals.x if of_x else self._batch_statistics(signals.g)
            function = theano.function(self._inputs, outputs, name="statistics")
            self._statistics[number, noise] = function
        square = (lambda v: np.outer(v, v)) if of_x else np.square
        n, mean, squares = 0, 0.0, 0.0  # squares: summed squared distance from the mean
        for chunk in self._chunks(X):
            values = self._statistics[number, noise](*_arrays(chunk))
            chunk_mean, chunk_variance = (
                _moments(values) if of_x else np.asarray(values, np.float64)
            )
            m = chunk.shape[0]
            difference = chunk_mean - mean
            mean = mean + difference * m / (n + m)
            squares = squares + chunk_variance * m + square(difference) * n * m / (n + m)
            n += m
        if of_x:
            return _projected(mean, squares / n, self.layers[number].projection)
        return mean, squares / n

    @contextmanager
    def running_averages(self) -> Iterator[None]:
        """Evaluate by the running averages instead of the population statistics, inside a with.

        Dropout makes the two differ: the averages are of what training saw, the population's
        statistics of what evaluation sees (Li et al. 2018, arXiv 1801.05134).  Afterwards the
        population statistics are as before.

        Raises
        ------
        UserError
            If there are none because ``running_average`` was not given.
        """
        if self.running_average is None:
            raise UserError("evaluation.running_average is null: set it to a momentum such as .9")
        population = [running.population.get_value() for running in self.averages]
        for running in self.averages:
            running.population.set_value(running.average.get_value())
        try:
            yield
        finally:
            for running, values in zip(self.averages, population):
                running.population.set_value(values)

    def variance_shift(self, X) -> dict[str, float]:
        """Return how far dropout shifts the variance that Batch Normalization divides by.

        For a unit it is max(r, 1 / r), r the variance of g with dropout on, as in training,
        divided by that with nothing dropped (Li et al. 2018, arXiv 1801.05134, figure 1).

        Parameters
        ----------
        X : csr_matrix, (n, n_words)

        Returns
        -------
        dict of float
            ``variance_shift1`` for the lowest layer and so on, the medians over units; only
            layers with Batch Normalization.
        """
        shifts = {}
        for number, layer in enumerate(self.layers):
            if layer.batch_normalization.needs_statistics:
                _, noisy = self._population_statistics(number, X, noise=True)
                _, clean = self._population_statistics(number, X)
                ratio = (noisy + TINY) / (clean + TINY)
                shift = float(np.median(np.maximum(ratio, 1 / ratio)))
                shifts[f"variance_shift{number + 1}"] = shift
        return shifts

    def signals(self, X) -> tuple[list, list, list]:
        """Return what training sees on one batch; the masks of training stay as they would be.

        Parameters
        ----------
        X : csr_matrix, (n, n_words)

        Returns
        -------
        z, out : lists of ndarray, (n, n_units)
            Of every hidden layer a * h(g) + b, and its activation.
        norms : list of ndarray, scalars
            Of every layer the Euclidean norm of the gradient of W.
        """
        depth, values = len(self.layers) - 1, self._signals(*_arrays(X))
        return values[:depth], values[depth : 2 * depth], values[2 * depth :]

    def get_state(self, training: bool = False) -> dict[str, np.ndarray]:
        """Return copies of all parameters, population statistics and running averages, by name.

        Parameters
        ----------
        training : bool
            Also what else training changes: the optimiser's state and the generators of
            dropout masks and absent words, so that training can go on from there.
        """
        variables = self._variables(training)
        return {name: self._turned(name, v.get_value()) for name, v in variables.items()}

    def set_state(self, state: dict[str, np.ndarray], training: bool = False):
        """Put back what `get_state` returned."""
        for name, variable in self._variables(training).items():
            variable.set_value(np.array(self._turned(name, state[name]), order="C"), borrow=True)

    def _turned(self, name, value):
        """Return the transpose of a W that is stored transposed: W is (n_in, n_out) by name."""
        is_turned = name == f"layer{len(self.layers)}.W" and self.layers[-1].projection.transposed
        return value.T if is_turned else value

    def _variables(self, training):
        variables = {}
        for number, layer in enumerate(self.layers, start=1):
            bn = layer.batch_normalization
            named = dict(W=layer.projection.W, a=bn.a, b=bn.b)
            if self.config.tied and layer.projection.transposed:
                del named["W"]  # the encoder's
            if bn.needs_statistics:
                named.update(mean=bn.mean, variance=bn.variance)
            for name, variable in named.items():
                if variable is not None:
                    variables[f"layer{number}.{name}"] = variable
        variables.update((running.name, running.average) for running in self.averages)
        if self.config.loss == "standardised_error":
            variables["word_variance"] = self.word_variance
        if training:
            others = [state for state, _ in self._updates if state not in self.parameters]
            variables.update((f"optimizer{n}", state) for n, state in enumerate(others))
            masks = [update[0] for update in self.noise.random.state_updates]
            variables.update((f"dropout{n}", state) for n, state in enumerate(masks))
            if self.config.sampling is not None:
                variables["draws"] = self._draws
        return variables

    @cached_property
    def _train(self):
        averages = [(running.average, running.update) for running in self.averages]
        updates = [*self._updates, *averages]
        return theano.function(self._inputs, self._batch_loss, updates=updates, name="train")

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
        code = self._whole[len(self.config.layers) - 1].out
        return theano.function(self._inputs, code, name="encode")

    @cached_property
    def _reconstruct(self):
        return theano.function(self._inputs, self._whole[-1].out, name="reconstruct")

    @cached_property
    def _decode(self):
        codes, decoder = T.matrix("codes"), self.layers[len(self.config.layers) :]
        out = forward(codes, decoder, population=True)[-1].out
        return theano.function([codes], out, name="decode")

    @cached_property
    def _evaluate(self):
        return theano.function(self._inputs, self._whole_loss, name="evaluate")

    def _chunks(self, X):
        X = csr_matrix(X, dtype=theano.config.floatX)
        if X.shape[1] != self.n_words or X.shape[0] == 0:
            raise UserError(
                f"documents of shape {X.shape}: give one row or more, and one column for each of "
                f"the {self.n_words} words"
            )
        size = max(1, min(CHUNK, CHUNK_OUTPUTS // self.n_words))
        chunks = (X[start : start + size] for start in range(0, X.shape[0], size))
        return (c if c.has_sorted_indices else c.sorted_indices() for c in chunks)


def build_layers(config: ModelConfig, n_words: int, kernels: str) -> list[Layer]:
    """Return the layers of an autoencoder: encoder, then its mirror image as decoder.

    Parameters
    ----------
    config : ModelConfig
    n_words : int
    kernels : str
        As for `Autoencoder`.

    Returns
    -------
    list of Layer
        ``len(config.layers)`` of the encoder, as many of the decoder.
    """
    stages = STAGES[kernels]
    depth = len(config.layers)
    over_units = config.batch_norm.over == "units"
    normalization = stages.LayerNormalization if over_units else stages.BatchNormalization
    layers: list[Layer] = []
    for number, plan in enumerate(plan_layers(config, n_words), start=1):
        n_in, n_out = plan.n_in, plan.n_out
        if config.tied and number > depth:
            W, transposed = layers[2 * depth - number].projection.W, True
        else:
            # Sampling takes some words of it, which are neighbours in memory as rows only.
            transposed = number == 2 * depth and config.sampling is not None
            shape = (n_out, n_in) if transposed else (n_in, n_out)
            W = theano.shared(np.zeros(shape, theano.config.floatX), name=f"W{number}")
        competition = None
        if number == depth and config.competition is not None:
            competition = partial(stages.compete, **config.competition.model_dump())
        layers.append(
            Layer(
                stages.Projection(W, transposed),
                normalization(
                    n_out,
                    center=plan.center,
                    normalize=plan.normalize,
                    scale=plan.scale,
                    shift=plan.shift,
                    epsilon=config.batch_norm.epsilon,
                    gradient=plan.gradient,
                ),
                stages.activations[plan.activation],
                competition,
            )
        )
    return layers


def _word_moments(X):
    """Return mean and standard deviation of every word, (n_words,) each, of X, (n, n_words)."""
    n, n_words = X.shape
    total, squares = np.zeros(n_words), np.zeros(n_words)
    for start in range(0, n, READ):  # X may be larger than memory
        part = X[start : start + READ]
        total = total + np.asarray(part.sum(axis=0), dtype=np.float64).ravel()
        squares = squares + np.asarray(part.multiply(part).sum(axis=0), dtype=np.float64).ravel()
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0))


def _moments(x):
    """Return mean, (n_units,), and biased covariance, (n_units, n_units), of x, (n, n_units)."""
    x = x.astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    return mean, x.T @ x / len(x)


def _projected(mean, covariance, projection):
    """Return mean and variance of x W, (n_out,) each, from mean and covariance of x."""
    W = projection.W.get_value(borrow=True)
    W = W.T if projection.transposed else W
    variance = np.empty(W.shape[1])
    for start in range(0, len(variance), CHUNK):  # so that no matrix as large as W is made
        part = W[:, start : start + CHUNK].astype(np.float64)
        variance[start : start + CHUNK] = np.maximum(0, (part * (covariance @ part)).sum(axis=0))
    return mean @ W, variance


def parameters_of(layers: list[Layer]) -> list:
    """Return W, a and b of every layer, where they exist; a tied W once."""
    parameters = []
    for layer in layers:
        bn = layer.batch_normalization
        for parameter in (layer.projection.W, bn.a, bn.b):
            if parameter is not None and not any(parameter is other for other in parameters):
                parameters.append(parameter)
    return parameters


def _arrays(X):
    """Return what Theano takes of a csr_matrix."""
    return X.data, X.indices, X.indptr


def _as_float(value):
    return np.asarray(value, dtype=theano.config.floatX)


def _shared(value, name):
    return theano.shared(_as_float(value), name=name)


def _set(variable, values):
    variable.set_value(np.array(values, theano.config.floatX, order="C"), borrow=True)
