"""The topic model as a scikit-learn transformer, with the same graph and training loop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ae_bn.config import Config
from ae_bn.errors import UserError
from ae_bn.estimator import SETTINGS, BatchNormAutoencoder
from ae_bn.evaluation import topics

NAMES = "layers optimizer learning_rate batch_size epochs patience".split()
NAMES += ["validation_fraction", "kernels"]
TOPIC_SETTINGS = {
    **{name: SETTINGS[name] for name in NAMES},
    "n_topics": "model.topics.number",
    "alpha": "model.topics.alpha",
    "dropout": "model.dropout.hidden",
}
RECIPE = {
    "model.loss": "multinomial",
    "model.output_activation": "softmax",
    "model.output_start": "plain",
    "model.batch_norm.hidden": False,
    "training.batch_size": 200,
}


class TopicAutoencoder(BatchNormAutoencoder):
    """ProdLDA (Srivastava and Sutton 2017), a topic model with Batch Normalization (BN).

    `fit` trains on counts of words.  By default BN fades out of the decoder, which gave the most
    coherent topics, and the last epoch is kept; ``head_batch_norm=False, top_batch_norm=True``
    gave the lowest perplexity (docs/topics.md).
    `transform` returns theta, the shares of the topics in each document.  `components_` and
    `top_words` say what the topics are.  `ae_bn.model.topics` derives the model.

    Input is CSR or dense, as for `ae_bn.BatchNormAutoencoder`.  It should be counts, such as those
    of scikit-learn's ``CountVectorizer``, and must not be negative.

    Parameters
    ----------
    n_topics : int
        The number of topics, at least 2.
    layers : sequence of int
        The numbers of units of the encoder's layers, from documents to the heads.
    alpha : float
        The parameter of the Dirichlet prior of theta, the same for all topics.
    head_batch_norm : bool
        Whether BN is in the layers of the mean and the log variance of the topics, with a shift
        and no scale.
    top_batch_norm : {"annealed", True, False}
        Whether BN is in the decoder, with shift and scale: at first, annealed to none in the first
        three quarters of ``epochs``, which suits ``monitor="last"``; from the first epoch to the
        last, as in ProdLDA; or not at all.
    dropout : float in [0, 1)
        The probability that training drops an output of the encoder's last layer, or a topic.
    optimizer : {"sgd", "nesterov", "adam"}, optional
        The optimiser.
    learning_rate : float
        The learning rate; the default suits Adam.
    batch_size : int, optional
        The number of documents in a minibatch.  None is 200, or the number of training documents
        where these are fewer.
    epochs : int
        The largest number of epochs.
    patience : int, optional
        The number of epochs without a lower held-out loss after which training ends.  None trains
        for all epochs.
    validation_fraction : float, optional
        The share of the documents given to `fit` that is held out; at least one document.
    monitor : {"loss", "last"}
        The epoch that is kept: that of the lowest held-out loss, or the last one.  A document that
        repeats a word thousands of times can decide the held-out loss.
    rows : {"raw", "centred", "softmax"}
        What `components_` and `top_words` take: the decoder's rows; these less the mean row over
        all topics; or the words' probabilities in a document of one topic alone.
    kernels : {"fused", "symbolic"}, optional
        The implementation: Ops in C, or the slower symbolic graph that defines them.
    settings : dict, optional
        Any other settings of the model and its training, such as
        ``{"model.batch_norm.scale": False}``.  Settings without effect here are refused.
    random_state : int, RandomState instance or None
        The seed.
    verbose : bool
        Whether to show a progress bar with the losses and an upper bound of the time left.

    Attributes
    ----------
    parameters_ : dict of str to ndarray
        W, a, b and population statistics of every layer.
    history_ : list of ae_bn.training.Epoch
        The losses of every epoch.
    best_epoch_, n_iter_ : int
        The kept epoch, and the number of epochs trained.
    n_features_in_, feature_names_in_ : int, ndarray of str
        The number of words, and their names if the input to `fit` had any.
    """

    _keys, start = TOPIC_SETTINGS, "random"

    def __init__(
        self,
        n_topics=50,
        *,
        layers=(100, 100),
        alpha=0.1,
        head_batch_norm=True,
        top_batch_norm="annealed",
        dropout=0.0,
        optimizer=None,
        learning_rate=0.002,
        batch_size=None,
        epochs=80,
        patience=None,
        validation_fraction=None,
        monitor="last",
        rows="centred",
        kernels=None,
        settings=None,
        random_state=None,
        verbose=False,
    ):
        self.n_topics = n_topics
        self.layers = layers
        self.alpha = alpha
        self.head_batch_norm = head_batch_norm
        self.top_batch_norm = top_batch_norm
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.monitor = monitor
        self.rows = rows
        self.kernels = kernels
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _recipes(self) -> dict:  # type: ignore[override]
        own = {
            "model.topics": {
                "heads": "shift" if self.head_batch_norm else None,
                "output": "annealed" if self.top_batch_norm == "annealed" else None,
            },
            "model.batch_norm.top": bool(self.top_batch_norm),
            "training.patience": self.epochs,
        }
        return {self.start: {**own, **RECIPE}}

    def _configured(self, start: str) -> Config:
        if self.rows not in topics.ROWS:
            raise UserError(f"rows={self.rows!r:.60}: choose one of {', '.join(topics.ROWS)}")
        if self.top_batch_norm not in ("annealed", True, False):
            raise UserError(f"top_batch_norm={self.top_batch_norm!r:.60}: annealed, True or False")
        return super()._configured(start)

    @property
    def components_(self) -> np.ndarray:
        """A number for each topic and word, ndarray (n_topics, n_words), see ``rows``."""
        check_is_fitted(self, "parameters_")
        decoder = topics.decoder(self._fitted.model, self.parameters_)
        return topics.topic_rows(decoder, self.rows)

    def top_words(self, n: int = topics.TOP, words=None) -> list[list]:
        """Return the words with the largest numbers in `components_`, for each topic.

        Parameters
        ----------
        n : int
            The number of words of each topic, at most all.
        words : sequence of str, optional
            The names of the columns of X, such as a vectoriser's ``get_feature_names_out()``.  By
            default ``feature_names_in_``, if `fit` had names, and otherwise the columns' numbers.

        Returns
        -------
        list of list
            For each topic, n words, the first one first.
        """
        check_is_fitted(self)
        if n not in range(1, self.n_features_in_ + 1):
            raise UserError(f"n={n!r:.60}: give a whole number from 1 to {self.n_features_in_}")
        if words is None:
            words = getattr(self, "feature_names_in_", range(self.n_features_in_))
        if isinstance(words, Mapping):
            raise UserError("words: give a list of them in the order of the columns, not a mapping")
        words = list(words)
        if len(words) != self.n_features_in_:
            raise UserError(
                f"{len(words)} words: give one for each of {self.n_features_in_} columns"
            )
        top = topics.top_words(self.components_, int(n))
        return [[words[number] for number in topic] for topic in top.tolist()]

    def perplexity(self, X) -> float:
        """Return exp of the loss per word, with population statistics and nothing dropped.

        Parameters
        ----------
        X : csr_matrix or array_like, (n, n_features)
            The documents, with at least one word.
        """
        loss = -self.score(X)
        X, _ = self._documents(X)
        if X.nnz == 0:
            raise UserError("documents without words have no perplexity: give some with words")
        return topics.perplexity(loss * X.shape[0], X.sum())

    def __sklearn_tags__(self):
        """Return the tags for scikit-learn 1.6 and later; earlier versions call `_more_tags`."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def _more_tags(self):
        return {**super()._more_tags(), "requires_positive_X": True}
