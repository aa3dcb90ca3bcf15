"""The autoencoder as a scikit-learn transformer, with the same graph and training loop."""

from __future__ import annotations

from ae_bn.theano_setup import require_compiler, require_theano

require_theano()  # a pickle may be opened where there is none

# isort: split

import inspect
import warnings
from contextlib import contextmanager
from numbers import Integral
from typing import Iterator, Mapping

import numpy as np
import theano
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ae_bn.config import Config, load_config, unpickled
from ae_bn.data.corpus import shuffled_batches, split_validation
from ae_bn.errors import UserError
from ae_bn.evaluation.codes import PathMeter
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.layers import standardises_minibatches
from ae_bn.randomness import streams
from ae_bn.scikit_learn import DTYPES, Transformer, validate_data
from ae_bn.study.compiled import compiled
from ae_bn.training import SNAPSHOTS, Epoch, check_batch_size, codes_observer, fit

SETTINGS = {  # the name of each parameter in a config
    "layers": "model.layers",
    "tied": "model.tied",
    "hidden_activation": "model.hidden_activation",
    "output_activation": "model.output_activation",
    "loss": "model.loss",
    "batch_norm": "model.batch_norm.hidden",
    "top_batch_norm": "model.batch_norm.top",
    "input_dropout": "model.dropout.input",
    "hidden_dropout": "model.dropout.hidden",
    "optimizer": "training.optimizer",
    "learning_rate": "training.learning_rate",
    "batch_size": "training.batch_size",
    "epochs": "training.epochs",
    "patience": "training.patience",
    "validation_fraction": "data.validation_fraction",
    "kernels": "theano.kernels",
}
# The values of settings that nobody gave, by where training starts.  Started from the linear
# denoiser, training improves codes that are good already, so it can mask more; larger minibatches
# then give codes as good in less time, and the learning rate falls once the loss does not.
RECIPES: dict[str, dict] = {
    "denoiser": {
        "model.denoiser_start": {"masking": 0.9, "offset": 0.5},
        "model.dropout.input": 0.9,
        "training.batch_size": 400,
        "training.epochs": 1000,
        "training.patience": 30,
        "training.plateau": {"factor": 0.5, "patience": 8},
    },
    "random": {"model.dropout.input": 0.7},
}
MONITORS = list(SNAPSHOTS)
# Beginnings of the settings that `settings` refuses, and what to do instead.
WITHOUT_EFFECT = {
    "training.seed": "give random_state",
    "training.checkpoint_epochs": "remove it",
    "training.observe_steps": "remove it",
    "training.path_epochs": 'remove it; with monitor="accuracy" every epoch is measured',
    "data.": "prepare X yourself",
    "evaluation.": "remove it",
    "experiment.": "remove it",
}


def masked(masking: float) -> dict:
    """Return the parameters that mask words at another rate, also in the denoiser's start.

    Parameters
    ----------
    masking : float in (0, 1)
        The probability that training, and the denoiser that it starts from, drop a word.

    Returns
    -------
    dict
        ``input_dropout`` and ``settings`` of a `BatchNormAutoencoder`.
    """
    start = {**RECIPES["denoiser"]["model.denoiser_start"], "masking": masking}
    return {"input_dropout": masking, "settings": {"model.denoiser_start": start}}


class BatchNormAutoencoder(Transformer):
    """An autoencoder with Batch Normalization and dropout, for sparse documents.

    `fit` trains with early stopping on documents that it holds out.  `transform` returns the codes.
    The loss often keeps falling while the codes get worse.  With labels, ``monitor`` can keep the
    epoch with the best codes instead of the epoch with the lowest loss.

    Input is CSR or dense (which becomes CSR), in float32 or float64 (other types become float64).
    Theano computes in floatX, float32 by default, and results have the dtype of the input.

    The defaults are for TF-IDF rows: an autoencoder of one hidden layer that starts from the linear
    denoiser (`ae_bn.denoiser`), with squared error, a linear output and masking .9.  For binary
    input use ``loss="cross_entropy"`` and ``output_activation="sigmoid"``.

    No masking is the best one for every text.  Of .5 and .9, the default loses less on our six
    corpora.  On one of them, descriptions of software, it retrieves less well than a truncated SVD,
    and ``BatchNormAutoencoder([128], **masked(0.5))`` does not.  `ae_bn.choosing.choose` compares
    both on your text.

    None stands for the default in ``ae_bn/defaults.yaml``, which explains all settings.  ``start``
    decides some of them.  If training starts from the denoiser, settings that are not given have
    these values: ``input_dropout`` .9, ``batch_size`` 400, ``epochs`` 1000, ``patience`` 30, and
    ``training.plateau`` ``{"factor": 0.5, "patience": 8}``.  If it starts from random weights,
    ``input_dropout`` is .7.

    Fitting again with another ``learning_rate``, dropout rate, ``batch_size``, ``epochs``,
    ``patience``, ``validation_fraction`` or ``random_state`` does not compile again.

    Parameters
    ----------
    layers : sequence of int, optional
        The numbers of units of the encoder's layers.  The last layer is the code.
    start : {"auto", "denoiser", "random"}
        Where training starts: from the linear denoiser, or from random weights.  The denoiser needs
        one hidden layer of "relu" or "linear" units, not tied, squared error, a linear output,
        and as many training documents and words as there are units.  "auto" is the denoiser
        where all of this holds, and random weights elsewhere; ``start_`` says which.
    tied : bool, optional
        Whether the decoder's W is the transpose of the encoder's.
    hidden_activation, output_activation : {"relu", "sigmoid", "tanh", "linear"}, optional
        The activations of the hidden layers and of the output layer.  The output layer may also
        have "softmax", for the loss "multinomial".
    loss : {"squared_error", "cross_entropy", "multinomial"}, optional
        The reconstruction loss.  "cross_entropy" is for values from 0 to 1.
    batch_norm, top_batch_norm : bool, optional
        Whether the hidden layers and the output layer have Batch Normalization.
    input_dropout, hidden_dropout : float in [0, 1), optional
        The probabilities that training drops a word of the input and an output of a hidden layer.
    optimizer : {"sgd", "nesterov", "adam"}, optional
        The optimiser.
    learning_rate : float, optional
        The learning rate.  Each optimiser has its own best one; the default suits Adam.
    batch_size : int, optional
        The number of documents in a minibatch.  If it is None, the default is lowered to the number
        of training documents where these are fewer.
    epochs : int, optional
        The largest number of epochs.
    patience : int, optional
        The number of epochs without a lower held-out loss after which training ends.
    validation_fraction : float, optional
        The share of the documents given to `fit` that is held out; at least one document.
    monitor : {"loss", "accuracy", "precision", "last"}
        The criterion for the epoch whose parameters `fit` keeps: the lowest loss, the highest
        accuracy of a ridge probe, or the highest precision of retrieval (cosines of centred codes,
        2 % retrieved), on the held-out documents; or the last epoch.  Accuracy and precision need
        labels, ``fit(X, y)``.  Nothing else changes: training always ends by the loss.
    kernels : {"fused", "symbolic"}, optional
        The implementation: Ops in C, or the slower symbolic graph that defines them.
    settings : dict, optional
        Any other settings of the model and its training, such as
        ``{"model.batch_norm.scale": False}``.  Settings without effect here are refused.
    random_state : int, RandomState instance or None
        The seed.  An int is ``training.seed`` and gives the same numbers as ``ae-bn run``.
    verbose : bool
        Whether to show a progress bar with the losses and an upper bound of the time left.

    Attributes
    ----------
    n_features_in_ : int
        The number of words.
    feature_names_in_ : ndarray of str, (n_words,)
        The column names of the input to `fit`, if it had any.
    parameters_ : dict of str to ndarray
        W, a, b and population statistics of every layer, see `Autoencoder.get_state`.
    start_ : {"denoiser", "random"}
        Where training started.
    history_ : list of ae_bn.training.Epoch
        The losses of every epoch.  With a ``monitor`` that uses labels, ``metrics`` of an epoch has
        its accuracy and precision.
    best_epoch_ : int
        The kept epoch, counted from 1.
    n_iter_ : int
        The number of epochs trained, or of calls of `partial_fit`.
    """

    _keys, _recipes = SETTINGS, RECIPES  # another model has others

    def __init__(
        self,
        layers=None,
        *,
        start="auto",
        tied=None,
        hidden_activation=None,
        output_activation="linear",
        loss="squared_error",
        batch_norm=None,
        top_batch_norm=None,
        input_dropout=None,
        hidden_dropout=None,
        optimizer=None,
        learning_rate=0.0005,
        batch_size=None,
        epochs=None,
        patience=None,
        validation_fraction=None,
        monitor="loss",
        kernels=None,
        settings=None,
        random_state=None,
        verbose=False,
    ):
        self.layers = layers
        self.start = start
        self.tied = tied
        self.hidden_activation = hidden_activation
        self.output_activation = output_activation
        self.loss = loss
        self.batch_norm = batch_norm
        self.top_batch_norm = top_batch_norm
        self.input_dropout = input_dropout
        self.hidden_dropout = hidden_dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.monitor = monitor
        self.kernels = kernels
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Train on documents.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            The documents.
        y : array_like of labels, (n,), optional
            Numbers or strings, at least two different ones.  They only choose the kept epoch, and
            only with a ``monitor`` that uses labels.

        Returns
        -------
        self

        Raises
        ------
        UserError
            If a parameter is invalid, there are too few documents or labels, Batch Normalization
            cannot standardise the documents, or training never gave a finite loss.  It is a
            ValueError.
        """
        X, _ = self._documents(X, reset=True, least=3)
        labels, random = self._labels(X, y), self._streams()
        fraction = max(self._configured("random").data.validation_fraction, 1 / X.shape[0])
        rows, valid_rows = split_validation(X.shape[0], fraction, random.split)
        start = self._chosen_start(len(rows), X.shape[1])
        config = self._filling(self._configured(start), len(rows))
        X_train, X_valid, training = X[rows], X[valid_rows], config.training
        _check_values(X, config)
        _check_minibatches(X_train, config)
        observers: list = []
        if labels is not None:
            if np.ptp(labels[rows]) == 0:
                raise UserError(
                    f'monitor="{self.monitor}" needs documents of two labels, and the {len(rows)} '
                    'training documents have one: use monitor="loss"'
                )
            activation = config.model.hidden_activation
            meter = PathMeter(labels[rows], labels[valid_rows], activation)
            observers.append(codes_observer(meter, X_train, X_valid))
        model = compiled(config, X.shape[1])
        with model as autoencoder, self._progress(training.epochs, "epoch") as bar:

            def report(autoencoder, epoch):
                losses = {"train": epoch.train_loss, "valid": epoch.valid_loss}
                bar.set_postfix(losses, refresh=False)
                bar.update()

            autoencoder.initialize(X_train, random, training.learning_rate, config.model.dropout)
            result = fit(
                autoencoder,
                X_train,
                X_valid,
                training,
                random.order,
                observers=[*observers, report],
                snapshots={"loss", self.monitor},
            )
        if self.monitor not in result.snapshots:
            raise UserError(_no_finite_loss(config))
        best_epoch, parameters = result.snapshots[self.monitor]
        _check_finite(parameters)
        if result.diverged:
            warnings.warn(
                f"training diverged after epoch {len(result.history) - 1}; the parameters of epoch "
                f"{best_epoch} are kept: lower learning_rate",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._fitted, self.parameters_, self._training_state = config, parameters, None
        self.start_ = start
        self.history_, self.best_epoch_ = result.history, best_epoch
        self.n_iter_ = len(result.history)
        return self

    def partial_fit(self, X, y=None):
        """Continue training with one pass over some documents, in minibatches.

        No documents are held out, and there is no early stopping.  The population statistics of
        Batch Normalization, which `transform` uses, become those of these documents alone, so each
        chunk should be a fair sample and large enough for means and variances.  The first chunk
        also sets the start of the output layer.  After `fit`, training continues from the kept
        epoch with a new optimiser, as it does with another ``optimizer``.
        ``epochs``, ``patience``, ``validation_fraction`` and ``monitor`` have no effect here.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            At least ``batch_size`` documents.  A remainder that does not fill a minibatch is left
            out.
        y : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        self

        Raises
        ------
        UserError
            For the same reasons as `fit`, or if a setting of the model has changed.  The
            estimator is then unchanged.
        """
        first = not hasattr(self, "parameters_")
        X, _ = self._documents(X, reset=first)
        start = self._chosen_start(*X.shape) if first else self.start_
        config = self._filling(self._configured(start), X.shape[0])
        training_state = {} if first else self._continued(config)
        training, random = config.training, self._streams(0 if first else self.n_iter_)
        _check_values(X, config)
        _check_minibatches(X, config)
        n_batches = X.shape[0] // training.batch_size
        model = compiled(config, X.shape[1])
        with model as autoencoder, self._progress(n_batches, "minibatch") as bar:
            autoencoder.initialize(X, random, training.learning_rate, config.model.dropout)
            if not first:
                state = {**autoencoder.get_state(training=True), **self.parameters_}
                autoencoder.set_state({**state, **training_state}, training=True)
            order = random.order.permutation(X.shape[0])
            shuffled = shuffled_batches(X, order, training.batch_size)
            losses = []
            for batch in shuffled:
                losses.append(float(autoencoder.train(batch)))
                bar.set_postfix(train=np.mean(losses), refresh=False)
                bar.update()
            autoencoder.update_population_statistics(X)
            state = autoencoder.get_state(training=True)
            parameters = autoencoder.get_state()
        if not np.isfinite(losses).all():
            raise UserError(_no_finite_loss(config))
        _check_finite(state)
        self._fitted, self.parameters_, self.start_ = config, parameters, start
        self._training_state = {name: state[name] for name in state if name not in parameters}
        self.n_iter_ = 1 if first else self.n_iter_ + 1
        return self

    def _continued(self, config: Config) -> dict:
        """Return the state of training to continue from, or raise a UserError for another model."""
        before, now = ({**c.model.model_dump(), "dropout": None} for c in (self._fitted, config))
        _check_equal(before, now, "model")
        graphs = [(c.training.optimizer, c.theano.kernels) for c in (self._fitted, config)]
        return (self._training_state or {}) if graphs[0] == graphs[1] else {}

    def transform(self, X):
        """Return the codes of documents.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            The documents.

        Returns
        -------
        ndarray of the dtype of X, (n, n_units)
        """
        check_is_fitted(self)
        X, dtype = self._documents(X)
        _check_values(X, self._fitted)
        with self._loaded() as autoencoder:
            codes = autoencoder.encode(X)
        return _finite(codes, "codes").astype(dtype, copy=False)

    def inverse_transform(self, X):
        """Return the reconstruction of documents from their codes.

        Parameters
        ----------
        X : array_like, (n, n_units)
            The codes.

        Returns
        -------
        ndarray of the dtype of X, (n, n_features)
        """
        check_is_fitted(self)
        X = self._checked_codes(X)
        with self._loaded() as autoencoder:
            reconstruction = autoencoder.decode(X)
        return _finite(reconstruction, "reconstructions").astype(X.dtype, copy=False)

    def score(self, X, y=None):
        """Return the negative mean loss per document, so larger is better.

        It uses population statistics and drops nothing.  Compare it only between models with the
        same ``loss``.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            The documents.
        y : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        X, _ = self._documents(X)
        _check_values(X, self._fitted)
        with self._loaded() as autoencoder:
            loss = autoencoder.evaluate(X)
        return -_finite(loss, "losses")

    def __getstate__(self):  # plain values, which a later version can read or refuse
        state = super().__getstate__()
        if "_fitted" in state:
            state = {**state, "_fitted": self._fitted.run_settings()}
        if "history_" in state:
            state = {**state, "history_": list(map(tuple, self.history_))}
        return state

    def __setstate__(self, state):
        if "_fitted" in state:
            state = {**state, "_fitted": unpickled(state["_fitted"])}
        if "history_" in state:
            state = {**state, "history_": list(map(Epoch._make, state["history_"]))}
        super().__setstate__(state)

    @property
    def _n_features_out(self):
        return self._fitted.model.code_units

    def _chosen_start(self, n: int, n_words: int) -> str:
        """Return where training on n documents starts, or raise a UserError if it cannot."""
        start, setting = self.start, "model.denoiser_start"
        if start not in ("auto", *self._recipes):
            choices = ", ".join(["auto", *self._recipes])
            raise UserError(f"start={start!r:.60}: choose one of {choices}")
        settings = self._settings()
        if setting in settings:
            if start != "auto":
                raise UserError(f"settings: {setting!r} is also given as start: remove one")
            start = "random" if settings[setting] is None else "denoiser"
        if start == "random":
            return start
        model = self._configured("random").model
        missing = model.needed_by_denoiser_start()
        if model.layers[-1] > min(n, n_words):
            missing.append(
                f"no more units than training documents and words, not {model.layers[-1]} for "
                f"{n} documents of {n_words} words"
            )
        if missing and start == "denoiser":
            raise UserError(f"a start from the linear denoiser needs {missing[0]}")
        return "random" if missing else "denoiser"

    def _configured(self, start: str) -> Config:
        """Return the config that the parameters ask for, with a start of `RECIPES`."""
        changes = {key: getattr(self, name) for name, key in self._keys.items()}
        changes = {key: value for key, value in changes.items() if value is not None}
        changes = {**self._recipes[start], **changes, **self._settings()}
        # A config holds plain values, not NumPy's numbers and arrays, or tuples.
        changes = {key: np.asarray(value).tolist() for key, value in changes.items()}
        return load_config().replace(changes)

    def _settings(self) -> dict:
        """Return `settings` after checking that each has an effect and is given only once."""
        settings = {} if self.settings is None else self.settings
        if not isinstance(settings, Mapping):
            raise UserError(
                f"settings={settings!r:.60}: give a dict, such as {{'model.tied': True}}"
            )
        parameters = inspect.signature(type(self)).parameters
        given = {
            key: name
            for name, key in self._keys.items()
            if getattr(self, name) is not None
            and not np.array_equal(getattr(self, name), parameters[name].default)
        }
        for setting in settings:
            if not isinstance(setting, str) or "." not in setting:
                raise UserError(
                    f"settings: {setting!r:.60} is no setting: name one, such as 'model.layers'"
                )
            for key, advice in WITHOUT_EFFECT.items():
                if setting.startswith(key) and setting not in self._keys.values():
                    raise UserError(f"settings: {setting!r} has no effect here: {advice}")
            for key, name in given.items():
                if f"{key}.".startswith(f"{setting}."):
                    raise UserError(f"settings: {setting!r} is also given as {name}: remove one")
        return dict(settings)

    def _filling(self, config: Config, n: int) -> Config:
        """Lower the batch size, unless it was given, to the number of documents."""
        given = self.batch_size is not None or self._keys["batch_size"] in (self.settings or {})
        if given or config.training.batch_size <= n:
            return config
        return config.replace({"training.batch_size": n})

    def _labels(self, X, y) -> np.ndarray | None:
        """Return y as numbers of its classes, or None if the monitor needs no labels."""
        if self.monitor not in MONITORS:
            raise UserError(f"monitor={self.monitor!r:.60}: choose one of {', '.join(MONITORS)}")
        if self.monitor in ("loss", "last"):
            return None
        if y is None:
            raise UserError(
                f'monitor="{self.monitor}" needs labels: give fit(X, y), or use monitor="loss"'
            )
        y = column_or_1d(y)
        check_consistent_length(X, y)
        try:
            if np.any(y != y):  # NaN
                raise TypeError
            check_classification_targets(y)
            return np.unique(y, return_inverse=True)[1]
        except TypeError:
            raise UserError(
                "y has missing labels, or labels of several types: give numbers or strings"
            ) from None

    def _progress(self, total: int, unit: str) -> tqdm:
        return tqdm(total=total, unit=unit, desc=type(self).__name__, disable=not self.verbose)

    def _streams(self, number: int = 0):
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31)
        if seed < 0:
            raise UserError(f"random_state={seed}: give a whole number from 0")
        return streams(int(seed) + number)

    def _documents(self, X, reset=False, least=1):
        """Return the checked documents as CSR in floatX for the kernels, and their dtype."""
        require_compiler()  # which refuses a floatX that SciPy would stumble over
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=DTYPES,
            reset=reset,
            ensure_min_samples=least,
        )
        dtype = X.dtype
        with np.errstate(over="ignore"):
            X = csr_matrix(X, dtype=theano.config.floatX)
        if not np.isfinite(X.data).all():
            raise UserError(f"X has values that {X.dtype} cannot hold: scale it")
        X = csr_matrix((X.data, X.indices, X.indptr), X.shape)  # 32-bit indices
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        return X, dtype

    @contextmanager
    def _loaded(self) -> Iterator[Autoencoder]:
        """Yield the shared compiled autoencoder with the parameters of this estimator."""
        _check_finite(self.parameters_)
        with compiled(self._fitted, self.n_features_in_) as autoencoder:
            autoencoder.set_state(self.parameters_)
            yield autoencoder


def _check_equal(before: dict, now: dict, section: str) -> None:
    """Raise a UserError that names the first setting of a model that has changed."""
    for name, value in now.items():
        former = before[name]
        if isinstance(former, dict) and isinstance(value, dict):
            _check_equal(former, value, f"{section}.{name}")
        elif former != value:
            raise UserError(
                f"partial_fit continues with {section}.{name}={former!r:.60}, not {value!r:.60}: "
                "set it back, or call fit"
            )


def _check_values(X, config: Config) -> None:
    """Raise a UserError if the loss does not allow the values of X."""
    loss = config.model.loss
    if loss == "multinomial" and X.nnz and X.data.min() < 0:
        raise UserError("Negative values in X: the multinomial loss is for counts or weights")
    if loss == "cross_entropy" and X.nnz and not 0 <= X.data.min() <= X.data.max() <= 1:
        raise UserError(
            'loss="cross_entropy" is for values from 0 to 1: scale X, or use '
            'loss="squared_error" and output_activation="linear"'
        )


def _check_minibatches(X, config: Config) -> None:
    """Raise a UserError if X does not fill a minibatch, or has no variance to standardise by."""
    check_batch_size(X.shape[0], config.training.batch_size, config.model)
    lengths = np.diff(X.indptr)
    if standardises_minibatches(config.model) and (lengths == lengths[0]).all():
        rows = (part.reshape(X.shape[0], -1) for part in (X.indices, X.data))
        if all((part == part[0]).all() for part in rows):
            raise UserError(
                f"all {X.shape[0]} training documents are equal, so Batch Normalization has no "
                "variance to divide by: give different documents, or batch_norm=False"
            )


def _no_finite_loss(config: Config) -> str:
    rate = config.training.learning_rate
    return f"no finite loss with learning_rate={rate:g}: lower it, or scale X if it is large"


def _check_finite(parameters: dict) -> None:
    for name, values in parameters.items():
        if not np.isfinite(values).all():
            raise UserError(
                f"{name} has values that are not finite: fit again with a lower learning_rate"
            )


def _finite(values, what: str):
    """Return the values, or raise a UserError if some are not finite."""
    if not np.isfinite(values).all():
        raise UserError(f"the {what} are not finite: scale X, whose values are too large")
    return values
