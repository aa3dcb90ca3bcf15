"""The topic model: its prior, its loss and gradients, its samples, and evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import theano
import theano.tensor as T
from scipy.integrate import quad
from scipy.sparse import csr_matrix
from scipy.special import logsumexp, polygamma, softmax
from scipy.stats import norm

from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.evaluation import curvature
from ae_bn.model.autoencoder import CHUNK
from ae_bn.model.topics import TopicModel, kl_divergence, prior_variance, sample
from ae_bn.randomness import streams
from ae_bn.training import fit

TOPICS = ["loss=multinomial", "output_activation=softmax", "output_start=plain"]
HEADS = [None, "shift", "scale_and_shift"]
OUTPUTS = {
    "none": ["batch_norm.top=false"],
    "shift": ["batch_norm.top=true", "batch_norm.scale=false"],
    "scale and shift": ["batch_norm.top=true"],
    "annealed": ["batch_norm.top=true", "topics.output=annealed"],
    **{name: [f"topics.output={name}"] for name in ("centred_rows", "equal_rows", "held_bias")},
}


def model(*settings, number=3, alpha=0.1, heads="shift", layers="[5, 4]"):
    topics = f"topics={{number: {number}, alpha: {alpha}, heads: {heads or 'null'}}}"
    settings = [topics, *TOPICS, *settings]
    return load_config(None, [f"model.layers={layers}", *(f"model.{s}" for s in settings)]).model


def started(config, X, optimizer="sgd", learning_rate=0.0, kernels="symbolic", seed=1):
    topics = TopicModel(config, optimizer, X.shape[1], kernels)
    topics.initialize(X, streams(seed), learning_rate, config.dropout)
    return topics


@pytest.fixture
def counts():
    """Return 40 documents as counts of 12 words; document 3 is empty."""
    X = np.random.default_rng(0).poisson(0.6, (40, 12)).astype(np.float64)
    X[3] = 0
    return csr_matrix(X)


def randomize(topics):
    """Give all parameters values that nothing is special about."""
    rng = np.random.default_rng(7)
    state = topics.get_state()
    for name, value in state.items():
        low = 0.5 if name.endswith(("a", "variance")) else -1
        state[name] = rng.uniform(low, 1.5, value.shape).astype(value.dtype)
    topics.set_state(state)
    return state


def test_kl_divergence_against_integration(float64):
    """For each topic by quadrature, and the sum over topics."""
    mean, log_variance = (
        np.array([[0.3, -2.0, 4.0], [0, 0, 0]]),
        np.array([[-1.0, 0.5, 2], [0] * 3]),
    )
    V = prior_variance(3, 0.2)

    def integral(m, log_v):
        q, p = norm(m, np.exp(log_v / 2)), norm(0, np.sqrt(V))
        ends = m - 12 * np.exp(log_v / 2), m + 12 * np.exp(log_v / 2)
        return quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), *ends, epsabs=1e-11)[0]

    expected = np.vectorize(integral)(mean, log_variance).sum(axis=1)
    found = kl_divergence(T.constant(mean), T.constant(log_variance), V).eval()
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    same = T.zeros((2, 3)), T.zeros((2, 3)) + np.log(V)
    np.testing.assert_allclose(kl_divergence(*same, V).eval(), 0, atol=1e-12)


def test_single_precision_stays(float32, counts):
    topics = started(model(*OUTPUTS["scale and shift"]), counts.astype("float32"))
    assert {d.dtype for d in [topics._batch_loss, *topics._gradients]} == {"float32"}


@pytest.mark.parametrize("number, alpha", [(2, 1.0), (5, 0.02), (50, 0.3)])
def test_the_prior_is_the_curvature_of_the_dirichlet_at_its_mode(number, alpha):
    """In the basis of the logits, by differences; along 1, where theta is constant, it is flat."""

    def minus_log_density(z):
        return -alpha * (z - logsumexp(z)).sum()

    step, at = 1e-3, np.eye(number)
    hessian = np.empty((number, number))
    for i in range(number):
        for j in range(number):
            corners = [(a, b) for a in (1, -1) for b in (1, -1)]
            values = [a * b * minus_log_density(step * (a * at[i] + b * at[j])) for a, b in corners]
            hessian[i, j] = sum(values) / (4 * step**2)
    covariance = np.linalg.pinv(hessian, rcond=1e-4)
    variance = prior_variance(number, alpha)
    np.testing.assert_allclose(np.diag(covariance), variance, rtol=1e-3)
    assert variance == pytest.approx((1 - 2 / number) / alpha + 1 / (number * alpha))  # the paper's


def test_the_prior_has_the_moments_of_a_dirichlet_with_large_alpha():
    """Log theta less its mean over topics has variance trigamma(alpha) (1 - 1/K) exactly."""
    number, alpha = 10, 400.0
    exact = polygamma(1, alpha) * (1 - 1 / number)
    assert prior_variance(number, alpha) == pytest.approx(exact, rel=2e-3)


def test_samples_have_mean_and_variance_of_q(float64):
    mean, log_variance = np.array([[1.0, -2.0]]), np.array([[0.5, -3.0]])
    epsilon = np.random.default_rng(0).standard_normal((200_000, 2))
    z = sample(T.constant(mean), T.constant(log_variance), T.constant(epsilon)).eval()
    np.testing.assert_allclose(z.mean(axis=0), mean[0], atol=0.01)
    np.testing.assert_allclose(z.var(axis=0), np.exp(log_variance[0]), rtol=0.02)


def test_training_draws_standard_normals(float64):
    """They are new in every step, and equal for equal seeds."""
    X = csr_matrix(np.ones((500, 2)))
    topics = started(model(number=8), X)
    mean, variance, _ = topics._batch[-3:]
    logits = topics._batch[-1].x.owner.inputs[0]  # of theta times its mask, before the softmax
    theta = theano.function(topics._inputs, [logits, mean.z, variance.z])
    arrays = X.data, X.indices, X.indptr
    draws = []
    for _ in range(2):
        topics.initialize(X, streams(1), 0.0, topics.config.dropout)
        for _ in range(2):
            share, m, log_v = theta(*arrays)
            z = np.log(share)
            z -= z.mean(axis=1, keepdims=True) - m.mean(axis=1, keepdims=True)
            draws.append((z - m) / np.exp(log_v / 2))
    assert not np.array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], draws[2])
    each = draws[0]  # less its mean over 8 topics
    np.testing.assert_allclose(each.var() * 8 / 7, 1, atol=0.05)
    np.testing.assert_allclose(each.mean(axis=0), 0, atol=0.15)


def in_numpy(config, state, X, epsilon, statistics=None):
    """Return the loss per document and theta, independently; no dropout."""
    X, number = X.toarray(), 0
    bn = config.batch_norm

    def layer(x, standardises, activation=lambda z: z, share=1):
        nonlocal number
        number += 1
        own = lambda name, default: state.get(f"layer{number}.{name}", default)  # noqa: E731
        g = x @ own("W", None)
        if standardises:
            mean, variance = g.mean(axis=0), ((g - g.mean(axis=0)) ** 2).mean(axis=0)
            std = np.sqrt(variance + bn.epsilon) ** share
            mean = share * mean
            if statistics is not None:
                mean, std = own("mean", None), np.sqrt(own("variance", None) + bn.epsilon)
            g = (g - mean) / std
        return activation(own("a", 1) * g + own("b", 0))

    u = np.log1p(X)
    for _ in config.layers:
        u = layer(u, bn.hidden, lambda z: np.maximum(0, z))
    mean, log_variance = (layer(u, config.topics.heads is not None) for _ in range(2))
    theta = softmax(mean + np.sqrt(np.exp(log_variance)) * epsilon, axis=1)
    W = state[f"layer{number + 1}.W"]
    norms = np.linalg.norm(W, axis=1)[:, None]
    rows = {"centred_rows": W - W.mean(axis=0)}
    rows["equal_rows"] = W / norms * np.sqrt((norms**2).mean())
    state = {**state, f"layer{number + 1}.W": rows.get(config.topics.output, W)}
    f = layer(theta, bn.top, share=0.6 if config.topics.output == "annealed" else 1)
    V = 1 / config.topics.alpha * (1 - 1 / config.topics.number)
    kl = 0.5 * (np.exp(log_variance) / V + mean**2 / V - 1 + np.log(V) - log_variance).sum(axis=1)
    reconstruction = -(X * (f - logsumexp(f, axis=1, keepdims=True))).sum(axis=1)
    return reconstruction + kl, softmax(mean, axis=1)


@pytest.mark.parametrize(
    "heads, output, kernels",
    [(heads, output, "symbolic") for heads in HEADS for output in OUTPUTS]
    + [("shift", output, "fused") for output in OUTPUTS],
)
def test_the_same_numbers_as_numpy(float64, counts, heads, output, kernels):
    """The loss with the statistics of the minibatch and of the population, and theta."""
    config = model(*OUTPUTS[output], heads=heads)
    topics = started(config, counts, kernels=kernels)
    topics.anneal(0.3)
    state = randomize(topics)
    epsilon = topics._epsilon.get_value()[:40]
    loss, inputs = topics.clean_loss(population=False)
    found = theano.function(inputs, loss)(counts.data, counts.indices, counts.indptr)
    expected, _ = in_numpy(config, state, counts, epsilon)
    np.testing.assert_allclose(found, expected.mean(), rtol=1e-10)

    topics.update_population_statistics(counts)
    state = topics.get_state()
    expected, theta = in_numpy(config, state, counts, epsilon, statistics="population")
    np.testing.assert_allclose(topics.evaluate(counts), expected.mean(), rtol=1e-10)
    np.testing.assert_allclose(topics.losses(counts), expected, rtol=1e-10)
    np.testing.assert_allclose(topics.encode(counts), theta, rtol=1e-9)
    # Over the documents that gave the statistics, the two kinds are the same.
    np.testing.assert_allclose(topics.evaluate(counts), found, rtol=1e-10)


@pytest.mark.parametrize(
    "heads, output, kernels",
    [
        (None, "none", "symbolic"),
        ("shift", "shift", "symbolic"),
        ("shift", "scale and shift", "symbolic"),
        ("shift", "scale and shift", "fused"),
        ("shift", "centred_rows", "symbolic"),
        ("shift", "equal_rows", "symbolic"),
        ("shift", "equal_rows", "fused"),
        ("shift", "annealed", "symbolic"),
        ("shift", "annealed", "fused"),
    ],
)
def test_gradients_against_finite_differences(float64, counts, heads, output, kernels):
    """Along a random direction, with dropout and sampling on; no kinks in tanh."""
    settings = ["hidden_activation=tanh", "dropout.hidden=0.4", *OUTPUTS[output]]
    topics = started(model(*settings, heads=heads), counts, kernels=kernels)
    topics.anneal(0.3)
    before = randomize(topics)

    def loss_at(state, rate=0.0):
        topics.initialize(counts, streams(1), rate, topics.config.dropout)  # the same draws
        topics.set_state(state)
        return float(topics.train(counts))

    loss_at(before, rate=1.0)
    gradient = {name: before[name] - value for name, value in topics.get_state().items()}
    rng = np.random.default_rng(1)
    step = 1e-5
    names = [n for n in before if not n.endswith(("mean", "variance"))]
    direction = {name: rng.standard_normal(before[name].shape) for name in names}
    ends = [
        loss_at({**before, **{name: before[name] + s * direction[name] for name in names}})
        for s in (step, -step)
    ]
    slope = sum((gradient[name] * direction[name]).sum() for name in names)
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-6)


def test_evaluation_takes_the_same_draws_for_every_part(float64, counts):
    """So documents of one chunk, and the first ones of every chunk, have the same epsilon."""
    topics = started(model(), counts)
    topics.update_population_statistics(counts)
    X = csr_matrix(np.tile(counts[0].toarray(), (CHUNK + 1, 1)))
    losses = [topics.evaluate(X[:1]), topics.evaluate(X[CHUNK:])]
    assert losses[0] == losses[1] == topics.evaluate(X[:1])
    assert topics.evaluate(X[:2]) != losses[0]
    theta = topics.encode(X)
    np.testing.assert_allclose(theta, np.tile(theta[0], (CHUNK + 1, 1)))
    np.testing.assert_allclose(theta.sum(axis=1), 1)
    assert (topics.decode(theta[:2]) > 0).all()
    np.testing.assert_allclose(topics.decode(theta[:2]).sum(axis=1), 1)
    np.testing.assert_array_equal(topics.reconstruct(X[:2]), topics.decode(theta[:2]))


def test_dropout_is_of_the_last_layer_and_of_theta(float64, counts):
    """The first layer of the encoder keeps all its outputs."""
    topics = started(model("dropout.hidden=0.5", layers="[30, 20]"), counts)
    first, second, mean, _, words = topics._batch
    function = theano.function(
        topics._inputs, [second.x, second.out, mean.x, words.x], no_default_updates=True
    )
    u, out, dropped, theta = function(counts.data, counts.indices, counts.indptr)
    np.testing.assert_array_equal(u, topics_first(topics, counts))
    np.testing.assert_allclose(dropped[dropped != 0], 2 * out[dropped != 0])
    assert 0.4 < np.mean(dropped[out > 0] == 0) < 0.6
    assert 0.3 < np.mean(theta == 0) < 0.7


def topics_first(topics, X):
    first = topics._batch[0].out
    return theano.function(topics._inputs, first)(X.data, X.indices, X.indptr)


def test_it_finds_planted_topics(float32):
    """Four groups of words that occur together: each has a topic of its own."""
    rng = np.random.default_rng(0)
    theta = rng.dirichlet(np.full(4, 0.1), 400)
    planted = np.kron(np.eye(4), np.full(5, 0.2))
    X = csr_matrix(np.array([rng.multinomial(30, p) for p in theta @ planted]), dtype="float32")
    topics = started(
        model("batch_norm.top=true", number=4, layers="[20]"), X, "adam", 0.02, kernels="fused"
    )
    order = np.random.default_rng(1)
    for _ in range(40):
        for part in np.split(order.permutation(400), 8):
            topics.train(X[np.sort(part)])
    topics.update_population_statistics(X)
    found = topics.encode(X)
    correlation = np.corrcoef(found.T, theta.T)[:4, 4:]
    assert (correlation.max(axis=1) > 0.8).all()
    assert sorted(correlation.argmax(axis=1)) == [0, 1, 2, 3]


def test_an_annealed_output_ends_without_bn(float64, counts):
    """Its share falls to 0 in three quarters of the epochs; each snapshot evaluates as it was."""
    settings = ["training.batch_size=20", "training.epochs=8", "training.patience=8"]
    training = load_config(None, settings).training
    topics = started(model(*OUTPUTS["annealed"]), counts, learning_rate=0.1)
    shares, losses = [], []

    def watch(autoencoder, epoch):
        bn = autoencoder.layers[-1].batch_normalization
        shares.append(float(autoencoder._share.get_value()))
        std = np.sqrt(bn.variance.get_value() + bn.epsilon)
        mean, variance = autoencoder.moments(len(autoencoder.layers) - 1, counts)
        np.testing.assert_allclose(bn.mean.get_value(), shares[-1] * mean, atol=1e-12)
        expected = np.sqrt(variance + bn.epsilon) ** shares[-1]
        np.testing.assert_allclose(std, expected, rtol=1e-10)
        losses.append(epoch.valid_loss)

    order = np.random.default_rng(0)
    fit(topics, counts, counts, training, order, [watch])
    np.testing.assert_allclose(shares, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0], atol=1e-12)
    assert topics.evaluate(counts) == pytest.approx(min(losses), rel=1e-12)


def test_a_held_bias_stays_at_log_frequencies(float64, counts):
    """Of every word that occurs; the other parameters are trained."""
    config = model("topics.output=held_bias", "output_start=data")
    topics = started(config, counts, "adam", 0.1, kernels="fused")
    before = topics.get_state()
    shares = np.asarray(counts.sum(axis=0)).ravel() / counts.sum()
    np.testing.assert_allclose(softmax(before["layer5.b"]), shares, rtol=0.05)
    topics.train(counts)
    after = topics.get_state()
    np.testing.assert_array_equal(after["layer5.b"], before["layer5.b"])
    assert abs(after["layer5.W"] - before["layer5.W"]).min() > 0


def test_centred_rows_change_no_function_without_dropout(float64, counts):
    """With the mean row in b the probabilities are the same, for theta sums to 1."""
    centred, plain = (
        started(model(*OUTPUTS[output]), counts) for output in ("centred_rows", "none")
    )
    state = randomize(centred)
    plain.set_state({**state, "layer5.b": state["layer5.b"] - state["layer5.W"].mean(axis=0)})
    theta = np.random.default_rng(0).dirichlet(np.ones(3), 5)
    np.testing.assert_allclose(centred.decode(theta), plain.decode(theta), rtol=1e-10)


@pytest.mark.parametrize(
    "setting, message",
    [
        (["loss=squared_error", "output_activation=linear"], "topics needs loss multinomial"),
        (["tied=true"], "topics needs tied false"),
        (["topics={number: 1, alpha: 1.0, heads: null}"], "topics.number"),
        (["topics={number: 5, alpha: 0, heads: null}"], "topics.alpha"),
        (["topics={number: 5, alpha: 1.0, heads: all}"], "topics.heads"),
        (["topics.output=rows"], "topics.output"),
        (["topics.output=equal_rows", "batch_norm.top=true"], "an output without BN; set batch_no"),
        (["topics.output=annealed"], "annealed starts from BN in the output: set batch_norm.top"),
    ],
)
def test_settings_that_do_not_go_together(setting, message):
    with pytest.raises(UserError, match=message):
        model(*setting)


def test_there_is_no_curvature():
    config = load_config().replace({"model": model().model_dump()})
    config = config.replace(
        {
            "evaluation.curvature": dict(epochs=[0], documents=9, eigenvalues=1, draws=1, steps=2),
        }
    )
    with pytest.raises(UserError, match="topic model .* no Hessian: set model.topics to null"):
        curvature.check(config, 100)
