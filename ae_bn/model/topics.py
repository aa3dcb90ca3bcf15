r"""A topic model: ProdLDA, an autoencoder whose code holds the shares of topics in a document.

Srivastava and Sutton (2017, arXiv 1703.01488).  With K topics and a vocabulary of V words, a
document x, the counts of its words, is thought to be written in two steps::

    theta ~ p(theta)                    shares of the topics, (K,), that sum to 1
    x     ~ Multinomial(softmax(f))     with f = a h(g(theta)) + b, and g(theta) = theta W

The rows of W are the topics, (K, V).  The softmax comes after the sum over topics, so the words'
probabilities are a product of experts, and not a mixture as in LDA.  The post's second question
is about this layer: whether h has Batch Normalization (BN), or is missing, so that f = g + b.

**The encoder.**  The posterior of theta has no closed form.  It is replaced by a normal q of its
logits z, whose mean and log variance are two *heads*, each g and h, on top of layers of g, h, f::

    u           = layers of f(h(g(log(1 + x))))
    mean        = h(u W_mean) + b                                               (n, K)
    log v       = h(u W_variance) + b                                           (n, K)
    z           = mean + sqrt(v) * epsilon,     epsilon ~ Normal(0, I)          (1)
    theta       = softmax(z)                                                    (2)

Equation (1) is the reparametrisation of Kingma and Welling (2014, arXiv 1312.6114): z is drawn
from q, and its gradient reaches both heads.  The encoder reads log(1 + x), not x: a few documents
repeat a word a thousand times, and their log variances would be so large that v overflows.

**The loss** is minus the evidence lower bound.  For every theta, log p(x) >= E_q[log p(x | theta)]
- KL(q || p), so with one draw of epsilon a document's loss is ::

    L = -sum_j x_j log softmax(f)_j + KL(q || p)                                (3)

The multinomial coefficient of x is left out: it is the same for all models.

**The prior.**  A Dirichlet has no such z.  Its Laplace approximation in the basis of the logits
has one (MacKay 1998; Srivastava and Sutton, section 3.2).  With z for log theta and all alpha
equal, minus the log density is -alpha sum_k log softmax(z)_k.  At its minimum, theta = 1/K, the
Hessian is alpha (I - 1/K), where 1 is the matrix of ones.  So z has mean 0 and, by the
pseudo-inverse of the Hessian, the variance ::

    V_k = (1 - 1/K) / alpha                                                     (4)

(In the notation of the paper, (1 - 2/K) / alpha + 1 / (K alpha).)  Both densities are normal with
diagonal covariances, so ::

    KL(q || p) = 1/2 sum_k [v_k / V_k + mean_k^2 / V_k - 1 + log V_k - log v_k]     (5)

**An output without BN, but with one of its effects.**  Why does BN in the output matter?  With 1
for the matrix of ones, ``model.topics.output`` replaces the decoder's W or b::

    centred_rows    g(theta) = theta (W - 1 W / K)
    equal_rows      g(theta) = theta D W,   D diagonal, D_kk^2 = mean_l |W_l|^2 / |W_k|^2
    held_bias       f = g(theta) + b,       b not trained

The first is BN's subtraction of the mean for the topics instead of the documents.  Without dropout
theta sums to 1, so the mean row adds the same vector to f of every document, as b does: the
functions are those without it, and only the path of training differs.  The last one is for a b
that starts at the logarithms of the words' shares (``model.output_start: data``).

**An output whose BN goes away.**  ``annealed`` begins with BN and ends without, as in SCHOLAR
(Card et al. 2018, arXiv 1705.09296)::

    f = a (g - s mean) / std^s + b                                                  (6)

The share s falls from 1 to 0 in equal steps during the first three quarters of the epochs.  At 0,
a is one more factor of the columns of W.  SCHOLAR takes a weighted mean of both outputs instead.
There BN, with the larger numbers, prevails until it is gone at once; a power of std fades evenly.
Stored as population statistics are the s mean and the std^(2 s) - epsilon of (6), so evaluation
reads any epoch as it reads BN.

**Training and evaluation.**  Training drops outputs of the encoder's last layer and shares of
topics, as ProdLDA does; the shares that are left need not sum to 1.  Evaluation drops nothing:

- a document's theta, its code, is softmax(mean): epsilon is 0;
- the loss and the population statistics of the output's BN are means over q, as (3) is.  They take
  one draw of epsilon per document, and the draws are the same for every epoch and every model.
  At epsilon = 0 theta can be much flatter than any theta that q draws, and the statistics would be
  those of documents that the decoder has never seen.

BN in the heads keeps the code alive.  If the scale a of the mean's head is off, the mean of each
topic has variance 1 over the documents, so q cannot collapse to p, for which all means are 0 (Zhu
et al. 2020, arXiv 2004.12585).
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cached_property

import numpy as np
import theano
import theano.sparse as sparse
import theano.tensor as T
from theano.gradient import zero_grad

from ae_bn.config import ModelConfig
from ae_bn.model.autoencoder import CHUNK, Autoencoder, drop_words
from ae_bn.model.layers import decoder_rows
from ae_bn.model.losses import LOSSES
from ae_bn.model.stages import MASK_STREAMS, BatchNormalization, Softmax
from ae_bn.model.variables import as_float, set_values, shared

ANNEALED_UNTIL = 0.75  # of the epochs: from here on an annealed output has no BN


def prior_variance(number: int, alpha: float) -> float:
    """Return V, the variance of every logit by the Laplace approximation of a Dirichlet: (4).

    Parameters
    ----------
    number : int
        The number of topics, K.
    alpha : float
        The parameter of the Dirichlet, the same for all topics.
    """
    return (1 - 1 / number) / alpha


def kl_divergence(mean, log_variance, V: float):
    """Return KL(q || p) of every document, (n,): equation (5).

    Parameters
    ----------
    mean, log_variance : theano matrices, (n, n_topics)
        Those of q.
    V : float
        The variance of the prior p, see `prior_variance`.
    """
    spread = (T.exp(log_variance) + T.sqr(mean)) / V
    return 0.5 * (spread - 1 + math.log(V) - log_variance).sum(axis=1)


def sample(mean, log_variance, epsilon):
    """Return logits z drawn from q, (n, n_topics): equation (1).

    Parameters
    ----------
    mean, log_variance : theano matrices, (n, n_topics)
        Those of q.
    epsilon : theano matrix, (n, n_topics)
        Draws of a standard normal.
    """
    return mean + T.exp(log_variance / 2) * epsilon


def annealed(mean, variance, share, epsilon):
    """Return the statistics that standardise as equation (6) does, by arrays or expressions.

    Parameters
    ----------
    mean, variance : theano vectors or arrays, (n_words,)
        Those of g.
    share : theano scalar or float
        The share s: with 1 the statistics are unchanged, with 0 they change nothing.
    epsilon : float
        The number that is added to the variance, inside the root.
    """
    return share * mean, (variance + epsilon) ** share - epsilon


class AnnealedBatchNormalization(BatchNormalization):
    """BN that gives way to none: equation (6), with the a, b and statistics of another.

    Parameters
    ----------
    bn : BatchNormalization
        The layer word whose variables this one uses.
    share : theano scalar
        The share s.
    """

    def __init__(self, bn: BatchNormalization, share):
        vars(self).update(vars(bn))
        self.share = share

    def statistics(self, g, population=False):
        """Return the mean and the variance that standardise g; stored ones are annealed already."""
        mean, variance = super().statistics(g, population)
        if population:
            return mean, variance
        return annealed(mean, variance, self.share, self.epsilon)


def forward(x, layers, epsilon, population=False, noise=None):
    """Build the graph of a topic model.

    Parameters
    ----------
    x : theano matrix, sparse CSR, (n, n_words)
        The documents, as counts of words.
    layers : list of Layer
        The encoder's layers, the head of the mean, that of the log variance, and the decoder.  The
        activation of the mean's head is softmax, so its output is theta at epsilon = 0.
    epsilon : theano matrix, (n, n_topics)
        Draws of a standard normal.
    population : bool
        Whether population statistics standardise, instead of those of the minibatch.
    noise : Noise, optional
        The dropout masks.  If given, words, outputs of the encoder's last layer and topics are
        dropped, as in training.

    Returns
    -------
    list of Signals, one per layer
    """
    *encoder, mean_head, variance_head, decoder = layers
    signals = []
    u = log_counts(x if noise is None else drop_words(x, noise))
    for layer in encoder:
        signals.append(layer.signals(u, population))
        u = signals[-1].out
    u = _dropped(u, noise)
    mean, log_variance = (head.signals(u, population) for head in (mean_head, variance_head))
    theta = Softmax(sample(mean.z, log_variance.z, epsilon))
    words = decoder.signals(_dropped(theta, noise), population)
    return [*signals, mean, log_variance, words]


def log_counts(x):
    """Return log(1 + x), which the encoder reads, of counts x, sparse CSR (n, n_words)."""
    data, *structure = sparse.csm_properties(x)
    return sparse.CSR(T.log1p(data), *structure)


def _dropped(out, noise):
    return out if noise is None else out * noise.mask(out, noise.hidden, noise.random)


class TopicModel(Autoencoder):
    """ProdLDA, untrained until `ae_bn.training.fit` trains it; see the module's docstring.

    Parameters and functions are those of `Autoencoder`.  `encode` returns theta, `decode` the
    probabilities of the words for a theta, `reconstruct` those for each document's theta, and
    `evaluate` the loss (3), the mean over documents.

    Attributes
    ----------
    prior_variance : float
        The variance V of the prior of every logit.
    """

    def __init__(self, config: ModelConfig, *settings, **more):
        topics = config.topics
        assert topics is not None
        self._output = topics.output
        self.prior_variance = prior_variance(topics.number, topics.alpha)
        draws = np.random.default_rng(0).standard_normal((CHUNK, topics.number))
        self._epsilon = shared(draws, "epsilon")  # of evaluation
        self._share = shared(1, "share")  # of BN in an annealed output
        super().__init__(config, *settings, **more)

    def _forward(self, x, layers, population=False, noise=None):
        n = x.shape[0]
        if noise is None:
            epsilon = self._epsilon[:n]
        else:
            size = (n, self.layers[-1].projection.values.shape[0])
            kind = dict(nstreams=MASK_STREAMS, dtype=theano.config.floatX)
            epsilon = noise.random.normal(size, ndim=2, **kind)
        return forward(x, [*layers[:-1], *self._decoder], epsilon, population, noise)

    def _loss(self, layers, signals, target, weights=None):
        mean, log_variance, words = signals[-3:]
        kl = kl_divergence(mean.z, log_variance.z, self.prior_variance).mean()
        return layers[-1].loss(LOSSES[self.config.loss], words, target, weights) + kl

    def anneal(self, done: float):
        """Set the share of BN in an annealed output: 1 at first, 0 after 3/4 of the epochs."""
        self._share.set_value(as_float(max(0.0, 1 - done / ANNEALED_UNTIL)))

    def update_population_statistics(self, X):
        """Recompute the population statistics over documents X, (n, n_words); see (6)."""
        super().update_population_statistics(X)
        bn = self.layers[-1].batch_normalization
        if self._output == "annealed":
            mean, variance = (v.get_value().astype(np.float64) for v in (bn.mean, bn.variance))
            mean, variance = annealed(mean, variance, float(self._share.get_value()), bn.epsilon)
            set_values(bn.mean, mean)
            set_values(bn.variance, variance)

    def reconstruct(self, X) -> np.ndarray:
        """Return the probabilities of the words, dense (n, n_words), for theta of documents X."""
        return self.decode(self.encode(X))

    def posterior(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance of q, (n, n_topics) each, for documents, (n, n_words)."""
        mean, log_variance = zip(*(self._posterior(*arrays) for arrays in self._chunks(X)))
        return np.concatenate(mean), np.concatenate(log_variance)

    def losses(self, X) -> np.ndarray:
        """Return the loss (3) of each document, (n,), with population statistics.

        Parameters
        ----------
        X : csr_matrix, (n, n_words)
            The documents.
        """
        return np.concatenate([self._losses(*arrays) for arrays in self._chunks(X)])

    @cached_property
    def _posterior(self):
        mean, log_variance, _ = self._whole[-3:]
        return theano.function(self._inputs, [mean.z, log_variance.z], name="posterior")

    @cached_property
    def _losses(self):
        mean, log_variance, words = self._whole[-3:]
        terms = sparse.dense_from_sparse(self._x) * T.nnet.logsoftmax(words.z)
        losses = kl_divergence(mean.z, log_variance.z, self.prior_variance) - terms.sum(axis=1)
        return theano.function(self._inputs, losses, name="losses")

    @property
    def _decoder(self):
        """The decoder's layer as ``model.topics.output`` asks for it, over the same W, a and b."""
        layer, bn = self.layers[-1], self.layers[-1].batch_normalization
        if self._output == "annealed":
            bn = AnnealedBatchNormalization(bn, self._share)
        if self._output == "held_bias":
            bn = copy.copy(bn)
            bn.b = zero_grad(bn.b)
        W = layer.projection.W
        rows = decoder_rows(self.config, W)
        projection = layer.projection if rows is W else type(layer.projection)(rows)
        return [replace(layer, projection=projection, batch_normalization=bn)]


def kind(config: ModelConfig) -> type[Autoencoder]:
    """Return the class of the model that a config asks for.

    Parameters
    ----------
    config : ModelConfig
        The model's settings.
    """
    return Autoencoder if config.topics is None else TopicModel
