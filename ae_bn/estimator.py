"""The autoencoder as a scikit-learn transformer: the same graph and the same training loop."""

from __future__ import annotations

import warnings
from numbers import Integral

import numpy as np
import theano
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from ae_bn.autoencoder import Autoencoder
from ae_bn.config import Config, load_config
from ae_bn.data import shuffled_batches, split_validation
from ae_bn.errors import UserError
from ae_bn.experiment import compiled_autoencoder, one_at_a_time
from ae_bn.randomness import streams
from ae_bn.training import fit

try:
    from sklearn.base import ClassNamePrefixFeaturesOutMixin
except ImportError:  # private at first
    from sklearn.base import _ClassNamePrefixFeaturesOutMixin as ClassNamePrefixFeaturesOutMixin
try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6 it is a method

    def validate_data(estimator, X, **options):
        return estimator._validate_data(X, **options)


DTYPES = [np.float64, np.float32]  # that results keep
SETTINGS = {  # what each parameter is called in a config
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


class BatchNormAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An autoencoder with Batch Normalization and dropout, for sparse documents.

    `fit` trains with early stopping on documents that it holds out, `transform` gives the codes.
    Input is CSR or dense (which becomes CSR), float32 or float64 (anything else becomes
    float64).  It is computed in Theano's floatX, float32 unless the flag says otherwise; results
    have the dtype of the input.

    A parameter of None has the default of ``ae_bn/defaults.yaml``, where all are explained.
    Only ``loss`` and ``output_activation`` differ from there: they fit any real numbers, TF-IDF
    for one.  For binary input take ``"cross_entropy"`` and ``"sigmoid"``.

    Refitting with another ``learning_rate``, dropout, ``batch_size``, ``epochs``, ``patience``,
    ``validation_fraction`` or ``random_state`` compiles nothing again.

    Parameters
    ----------
    layers : sequence of int, optional
        Units of the encoder's layers, the last one is the code.
    tied : bool, optional
    hidden_activation, output_activation : {"relu", "sigmoid", "tanh", "linear"}, optional
        The output's may also be "softmax", which goes with multinomial.
    loss : {"squared_error", "cross_entropy", "standardised_error", "multinomial"}, optional
        cross_entropy is for values from 0 to 1.
    batch_norm, top_batch_norm : bool, optional
        In the hidden layers; in the output layer.
    input_dropout, hidden_dropout : float in [0, 1), optional
    optimizer : {"sgd", "nesterov", "adam", "adadelta", "rmsprop"}, optional
    learning_rate : float, optional
    batch_size : int, optional
        Documents in a minibatch; None also lowers it to the number of training documents.
    epochs, patience : int, optional
    validation_fraction : float, optional
        Of the documents given to `fit`; at least one is held out.
    kernels : {"fused", "symbolic"}, optional
    settings : dict, optional
        Any other settings, such as ``{"model.batch_norm.scale": False}``.
    random_state : int, RandomState instance or None
        An int is ``training.seed``: it gives the numbers that ``experiments/run.py`` gives.
    verbose : bool
        Print every epoch.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of str, (n_words,)
        If the input to `fit` had string column names.
    parameters_ : dict of str to ndarray
        W, a, b and population statistics of every layer, see `Autoencoder.get_state`.
    history_ : list of ae_bn.training.Epoch
    best_epoch_ : int
        The one whose parameters these are.
    n_iter_ : int
        Epochs trained, or calls of `partial_fit`.
    """

    def __init__(
        self,
        layers=None,
        *,
        tied=None,
        hidden_activation=None,
        output_activation="linear",
        loss="squared_error",
        batch_norm=None,
        top_batch_norm=None,
        input_dropout=None,
        hidden_dropout=None,
        optimizer=None,
        learning_rate=None,
        batch_size=None,
        epochs=None,
        patience=None,
        validation_fraction=None,
        kernels=None,
        settings=None,
        random_state=None,
        verbose=False,
    ):
        self.layers = layers
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
        self.kernels = kernels
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Train on documents.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        UserError
            A ValueError, for an impossible parameter, too few documents, and training that never
            gave a finite loss.
        """
        X, _ = self._documents(X, reset=True, least=3)
        config, random = self._configured(), self._streams()
        fraction = max(config.data.validation_fraction, 1 / X.shape[0])
        rows, valid_rows = split_validation(X.shape[0], fraction, random.split)
        config = self._filling(config, len(rows))
        X_train, X_valid, training = X[rows], X[valid_rows], config.training
        with one_at_a_time:
            autoencoder = compiled_autoencoder(config, X.shape[1])
            autoencoder.initialize(X_train, random, training.learning_rate, config.model.dropout)
            report = print if self.verbose else None
            result = fit(autoencoder, X_train, X_valid, training, random.order, report)
            parameters = autoencoder.get_state()
        if result.best_epoch == 0:
            raise UserError(
                f"no finite loss with learning_rate={training.learning_rate:g}: lower it"
            )
        if result.diverged:
            warnings.warn(
                f"training diverged after epoch {result.best_epoch}, whose parameters are kept: "
                "lower learning_rate",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._fitted, self.parameters_, self._training_state = config, parameters, None
        self.history_, self.best_epoch_ = result.history, result.best_epoch
        self.n_iter_ = len(result.history)
        return self

    def partial_fit(self, X, y=None):
        """Go on training: one pass over some documents, in minibatches.

        Nothing is held out and nothing ends it early.  The population statistics of Batch
        Normalization, which `transform` uses, become those of these documents alone: give
        chunks that are a fair sample, and large enough for means and variances.  The first
        chunk also decides where the output layer starts.  After `fit` it goes on from the best
        epoch, with a fresh optimiser.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            A remainder that does not fill a minibatch is not trained on.
        y : ignored

        Returns
        -------
        self
        """
        first = not hasattr(self, "parameters_")
        X, _ = self._documents(X, reset=first)
        config = self._filling(self._configured(), X.shape[0])
        training, random = config.training, self._streams(0 if first else self.n_iter_)
        with one_at_a_time:
            autoencoder = compiled_autoencoder(config, X.shape[1])
            autoencoder.initialize(X, random, training.learning_rate, config.model.dropout)
            if not first:
                state = {**autoencoder.get_state(training=True), **self.parameters_}
                autoencoder.set_state({**state, **(self._training_state or {})}, training=True)
            order = random.order.permutation(X.shape[0])
            shuffled = shuffled_batches(X, order, training.batch_size)
            losses = [float(autoencoder.train(batch)) for batch in shuffled]
            autoencoder.update_population_statistics(X)
            state = autoencoder.get_state(training=True)
            parameters = autoencoder.get_state()
        if not np.isfinite(losses).all():
            raise UserError(
                f"no finite loss with learning_rate={training.learning_rate:g}: lower it"
            )
        self._fitted, self.parameters_ = config, parameters
        self._training_state = {name: state[name] for name in state if name not in parameters}
        self.n_iter_ = 1 if first else self.n_iter_ + 1
        if self.verbose:
            print(f"chunk {self.n_iter_}: training loss {np.mean(losses):.6g}")
        return self

    def transform(self, X):
        """Return the codes, (n, n_units), of documents, (n, n_features)."""
        check_is_fitted(self)
        X, dtype = self._documents(X)
        with one_at_a_time:
            return self._loaded().encode(X).astype(dtype, copy=False)

    def inverse_transform(self, X):
        """Return the reconstruction, dense (n, n_features), from codes, (n, n_units)."""
        check_is_fitted(self)
        X = check_array(X, dtype=DTYPES)
        if X.shape[1] != self._n_features_out:
            raise UserError(
                f"codes of shape {X.shape}: they must have {self._n_features_out} units"
            )
        with one_at_a_time:
            return self._loaded().decode(X).astype(X.dtype, copy=False)

    def score(self, X, y=None):
        """Return the negative mean loss per document: larger is better.

        With population statistics, nothing dropped.  Compare it between models of the same
        ``loss`` only.
        """
        check_is_fitted(self)
        X, _ = self._documents(X)
        with one_at_a_time:
            return -self._loaded().evaluate(X)

    @property
    def _n_features_out(self):
        return self._fitted.model.layers[-1]

    def _configured(self) -> Config:
        """Return the config that the parameters ask for."""
        changes = {key: getattr(self, name) for name, key in SETTINGS.items()}
        changes.update(self.settings or {})
        return load_config().replace(
            # Of NumPy's numbers and arrays, and of tuples, to what a config may hold.
            {key: np.asarray(v).tolist() for key, v in changes.items() if v is not None}
        )

    def _filling(self, config: Config, n: int) -> Config:
        """Lower the batch size, unless it was given, to the number of documents."""
        if self.batch_size is not None or config.training.batch_size <= n:
            return config
        return config.replace({"training.batch_size": n})

    def _streams(self, number: int = 0):
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31)
        return streams(int(seed) + number)

    def _documents(self, X, reset=False, least=1):
        """Return checked documents as CSR of floatX that the kernels take, and their dtype."""
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=DTYPES,
            reset=reset,
            ensure_min_samples=least,
        )
        dtype = X.dtype
        X = csr_matrix(X, dtype=theano.config.floatX)
        X = csr_matrix((X.data, X.indices, X.indptr), X.shape)  # 32-bit indices
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        if self.loss == "cross_entropy" and X.nnz and not 0 <= X.data.min() <= X.data.max() <= 1:
            raise UserError(
                'loss="cross_entropy" is for values from 0 to 1: scale X, or take '
                'loss="squared_error" and output_activation="linear"'
            )
        return X, dtype

    def _loaded(self) -> Autoencoder:
        """Return the compiled autoencoder, which others use too, with this one's parameters."""
        autoencoder = compiled_autoencoder(self._fitted, self.n_features_in_)
        autoencoder.set_state(self.parameters_)
        return autoencoder

    def __sklearn_tags__(self):
        """Return what scikit-learn 1.6 and later asks; earlier ones ask `_more_tags`."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = DTYPES
        return tags

    def _more_tags(self):
        return {"preserves_dtype": DTYPES}
