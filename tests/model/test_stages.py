"""The stages, and the contract of Batch Normalization as a ladder of tests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import theano
import theano.sparse as sparse
import theano.tensor as T
from scipy.sparse import csr_matrix

from ae_bn.model import stages
from ae_bn.model.stages import BatchNormalization, LayerNormalization, Projection

EPSILON = 1e-3
SWITCHES = list(itertools.product([False, True], repeat=4))
G = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 0.5], [-1.0, 4.0, 2.5], [2.0, 1.0, -1.5]])  # (4, 3)


def batch_normalization(center=True, normalize=True, scale=True, shift=True, n_units=3):
    return BatchNormalization(n_units, center, normalize, scale, shift, EPSILON)


AS_WRITTEN = theano.Mode("py", None)  # no rewrites: most of the time went into them


def apply(layer, values, population=False):
    g = T.matrix()
    function = theano.function([g], layer(g, population), mode=AS_WRITTEN)
    return function(values.astype(theano.config.floatX))


def verify_grad(function, points, eps=None):
    """Compare a gradient with finite differences."""
    tolerance = {"abs_tol": 1e-6, "rel_tol": 1e-6}
    theano.gradient.verify_grad(
        function, points, rng=np.random, eps=eps, mode=AS_WRITTEN, **tolerance
    )


def in_numpy(layer, values, mean, variance):
    """The contract once more, in NumPy."""
    out = values - mean if layer.center else values
    out = out / np.sqrt(variance + EPSILON) if layer.normalize else out
    out = out * layer.a.get_value() if layer.a is not None else out
    return out + layer.b.get_value() if layer.b is not None else out


def test_the_three_stages_are_the_three_equations(float64):
    x, W = np.arange(6.0).reshape(2, 3), np.ones((3, 2)) * [1, -1]
    mean, std, a, b = (
        np.array([1.0, 2]),
        np.array([2.0, 4]),
        np.array([3.0, -1]),
        np.array([1.0, 0]),
    )
    X, V = T.matrix(), T.matrix()
    m, s, p, q = T.vector(), T.vector(), T.vector(), T.vector()
    g = stages.g(X, V)
    h = stages.h(g, m, s)
    f = stages.f(h, p, q, stages.ReLU)
    got = theano.function([X, V, m, s, p, q], [g, h, f])(x, W, mean, std, a, b)
    expected_h = (x @ W - mean) / std
    np.testing.assert_allclose(got[0], [[3, -3], [12, -12]])
    np.testing.assert_allclose(got[1], expected_h)
    np.testing.assert_allclose(got[2], np.maximum(0, a * expected_h + b))


def test_the_two_lines_of_the_post_run(float64):
    """And an activation still takes an expression, inside out."""
    rng = np.random.default_rng(1)
    W, documents = theano.shared(rng.normal(size=(5, 3))), rng.normal(size=(4, 5))
    normalization = batch_normalization()
    normalization.a.set_value(np.array([0.5, -2.0, 3.0]))
    bn = normalization | Projection(W)
    out = stages.ReLU(bn)
    x = T.matrix()
    inside_out = stages.ReLU(normalization(stages.g(x, W)))
    got = theano.function([x], [bn(x), out(x), inside_out, out(x, population=True)])(documents)
    g = documents @ W.get_value()
    z = in_numpy(normalization, g, g.mean(axis=0), g.var(axis=0))
    np.testing.assert_allclose(got[0], z)
    np.testing.assert_allclose(got[1], np.maximum(0, z))
    np.testing.assert_allclose(got[2], np.maximum(0, z))
    assert np.isnan(got[3]).all()  # the population's statistics are not computed
    assert bn.activation is stages.Linear and stages.Tanh(out).activation is stages.Tanh


def test_projection_of_sparse_and_dense_rows_agree(float64):
    rng = np.random.default_rng(1)
    x, W = rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.4), rng.normal(size=(7, 3))
    projection = Projection(theano.shared(W))
    dense, csr = T.matrix(), sparse.csr_matrix(dtype="float64")
    from_dense = theano.function([dense], T.grad(T.sqr(projection(dense)).sum(), projection.W))
    from_csr = theano.function([csr], T.grad(T.sqr(projection(csr)).sum(), projection.W))
    np.testing.assert_allclose(from_csr(csr_matrix(x)), from_dense(x), rtol=1e-12)


def test_activations():
    z = T.matrix()
    values = np.array([[-800, -1.5, 0, 2, 800]], dtype=theano.config.floatX)
    expected = {
        "relu": np.maximum(0, values),
        "sigmoid": [[0, 1 / (1 + np.exp(1.5)), 0.5, 1 / (1 + np.exp(-2)), 1]],
        "tanh": np.tanh(values),
        "linear": values,
        "softmax": [[0, 0, 0, 0, 1]],
    }
    outputs = {name: activation(z) for name, activation in stages.ACTIVATIONS.items()}
    for name, got in theano.function([z], outputs)(values).items():
        np.testing.assert_allclose(got, expected[name], rtol=1e-5, atol=1e-30)


def test_gradient_of_relu_at_zero_is_zero(float32):
    z = T.vector()
    gradient = theano.function([z], T.grad(stages.ReLU(z).sum(), z))
    np.testing.assert_array_equal(gradient(np.float32([-1, -0.0, 0.0, 1e-30, 1])), [0, 0, 0, 1, 1])


# The ladder: identity, then one term at a time, then everything against NumPy.


def test_without_switches_it_is_the_identity(float32):
    layer = batch_normalization(False, False, False, False)
    assert layer.a is None and layer.b is None and not layer.needs_statistics
    np.testing.assert_array_equal(apply(layer, G), G)


def test_scale_and_shift_are_the_identity_at_first(float32):
    np.testing.assert_array_equal(apply(batch_normalization(False, False), G), G)


def test_mean_alone(float64):
    out = apply(batch_normalization(normalize=False, scale=False, shift=False), G)
    np.testing.assert_allclose(out, G - [1.25, 0.75, 0.5])


def test_standard_deviation_alone_is_about_the_mean_and_biased(float64):
    out = apply(batch_normalization(center=False, scale=False, shift=False), G)
    np.testing.assert_allclose(out, G / np.sqrt([2.1875 + EPSILON, 4.6875 + EPSILON, 2 + EPSILON]))


def test_scale_alone(float64):
    layer = batch_normalization(False, False, shift=False)
    layer.a.set_value(np.array([2.0, 0.0, -1.0]))
    np.testing.assert_allclose(apply(layer, G), G * [2, 0, -1])


def test_shift_alone(float64):
    layer = batch_normalization(False, False, scale=False)
    layer.b.set_value(np.array([2.0, 0.0, -1.0]))
    np.testing.assert_allclose(apply(layer, G), G + [2, 0, -1])


@pytest.mark.parametrize("switches", SWITCHES)
def test_every_combination_against_numpy_in_both_modes(float64, switches):
    layer = batch_normalization(*switches)
    for number, parameter in enumerate([layer.a, layer.b]):
        if parameter is not None:
            parameter.set_value(np.array([0.5, -2.0, 3.0]) + number)
    mean, variance = np.array([1.0, -1.0, 0.0]), np.array([4.0, 0.25, 1.0])
    # Population statistics are NaN still: the statistics of the batch must not meet them.
    expected = in_numpy(layer, G, G.mean(axis=0), G.var(axis=0))
    np.testing.assert_allclose(apply(layer, G), expected, rtol=1e-12)
    layer.mean.set_value(mean)
    layer.variance.set_value(variance)
    expected = in_numpy(layer, G, mean, variance)
    np.testing.assert_allclose(apply(layer, G, population=True), expected, rtol=1e-12)


def test_population_mode_needs_the_population(float64):
    assert np.isnan(apply(batch_normalization(), G, population=True)).all()


def test_output_of_a_batch_has_mean_b_and_deviation_a(float64):
    layer = BatchNormalization(3, True, True, True, True, epsilon=1e-12)
    layer.a.set_value(np.array([1.0, 2, 3]))
    layer.b.set_value(np.array([0.0, 5, -5]))
    out = apply(layer, np.random.default_rng(0).normal(3, 9, size=(50, 3)))
    np.testing.assert_allclose(out.mean(axis=0), [0, 5, -5], atol=1e-10)
    np.testing.assert_allclose(out.std(axis=0), [1, 2, 3], rtol=1e-10)


@pytest.mark.parametrize("values", [np.full((4, 3), 7.0), G[:1]], ids=["constant", "one row"])
def test_no_variance_gives_b_and_a_zero_gradient(float32, values):
    layer = batch_normalization()
    layer.b.set_value(np.float32([1, 2, 3]))
    g = T.matrix()
    out = layer(g)
    got, gradient = theano.function([g], [out, T.grad(T.sqr(out).sum(), g)])(np.float32(values))
    np.testing.assert_allclose(got, np.tile([1, 2, 3], (len(values), 1)))
    np.testing.assert_array_equal(gradient, np.zeros_like(values))


@pytest.mark.parametrize("switches", SWITCHES)
def test_gradients_against_finite_differences(float64, switches):
    weights = np.random.default_rng(2).normal(size=(4, 3))

    def weighted_sum(g, a, b):
        layer = batch_normalization(*switches)
        layer.a = layer.a and a
        layer.b = layer.b and b
        return (layer(g) * weights).sum()

    points = [G, np.array([0.5, -2, 1.5]), np.array([0.1, 0.2, 0.3])]
    verify_grad(weighted_sum, points)


def test_second_derivatives_are_symmetric_and_right(float64):
    """Hessian-vector products, which Theano's own batch_normalization_train has wrong."""
    layer = batch_normalization()
    g, v = T.matrix(), T.matrix()
    weights = np.random.default_rng(2).normal(size=(4, 3))
    gradient = T.grad((T.sqr(layer(g)) * weights).sum(), g)
    first = theano.function([g], gradient)
    product = theano.function([g, v], T.grad((gradient * v).sum(), g))
    u, w = np.random.default_rng(3).normal(size=(2, 4, 3))
    np.testing.assert_allclose((u * product(G, w)).sum(), (w * product(G, u)).sum(), rtol=1e-9)
    step = 1e-6
    difference = (first(G + step * w) - first(G - step * w)) / (2 * step)
    np.testing.assert_allclose(product(G, w), difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("switches", SWITCHES)
def test_constant_statistics_are_those_of_the_batch_and_have_no_gradient(float64, switches):
    """Value as ever; gradient as if the batch's statistics were the population's."""
    layer = BatchNormalization(3, *switches, EPSILON, gradient="constant")
    full = BatchNormalization(3, *switches, EPSILON)
    layer.mean.set_value(G.mean(axis=0))
    layer.variance.set_value(G.var(axis=0))
    np.testing.assert_allclose(apply(layer, G), apply(full, G), atol=1e-12)
    g, weights = T.matrix(), np.random.default_rng(0).normal(size=G.shape)
    gradients = [
        theano.function([g], T.grad((layer(g, population) * weights).sum(), g))(G)
        for population in (False, True)
    ]
    np.testing.assert_allclose(*gradients, atol=1e-12)


def test_a_rate_per_unit_changes_the_gradient_only(float64):
    layer = BatchNormalization(3, True, True, False, True, EPSILON, gradient="rate_per_unit")
    assert not layer.needs_statistics
    g, weights = T.matrix(), np.random.default_rng(0).normal(size=G.shape)
    np.testing.assert_allclose(apply(layer, G), G)
    np.testing.assert_allclose(apply(layer, G, population=True), G)
    gradient = theano.function([g], T.grad((layer(g) * weights).sum(), g))(G)
    np.testing.assert_allclose(gradient, weights / np.sqrt(G.var(axis=0) + EPSILON))


# Layer Normalization: the same ladder, over units.


@pytest.mark.parametrize("switches", SWITCHES)
def test_layer_normalization_against_numpy(float64, switches):
    """In both modes alike, and document by document."""
    layer = LayerNormalization(3, *switches, EPSILON)
    for number, parameter in enumerate([layer.a, layer.b]):
        if parameter is not None:
            parameter.set_value(np.array([0.5, -2.0, 3.0]) + number)
    expected = in_numpy(layer, G, G.mean(axis=1)[:, None], G.var(axis=1)[:, None])
    for population in (False, True):
        np.testing.assert_allclose(apply(layer, G, population), expected, rtol=1e-12)
    np.testing.assert_allclose(apply(layer, G[1:2]), expected[1:2], rtol=1e-12)
    assert not layer.needs_statistics


def test_layer_normalization_by_hand(float64):
    """Of 1, 2, 3 the mean is 2 and the variance 2 / 3; equal units give b."""
    layer = LayerNormalization(3, True, True, True, True, epsilon=1 / 3)
    layer.b.set_value(np.array([0.0, 0.0, 5.0]))
    values = np.array([[1.0, 2, 3], [7, 7, 7]])
    np.testing.assert_allclose(apply(layer, values), [[-1, 0, 6], [0, 0, 5]])
    g = T.matrix()
    gradient = theano.function([g], T.grad(T.sqr(layer(g)).sum(), g))
    np.testing.assert_allclose(gradient(values)[1], 10 * np.sqrt(3) * np.array([-1, -1, 2]) / 3)


@pytest.mark.parametrize("switches", SWITCHES)
def test_gradients_of_layer_normalization_against_finite_differences(float64, switches):
    weights = np.random.default_rng(2).normal(size=(4, 3))

    def weighted_sum(g, a, b):
        layer = LayerNormalization(3, *switches, EPSILON)
        layer.a = layer.a and a
        layer.b = layer.b and b
        return (layer(g) * weights).sum()

    points = [G, np.array([0.5, -2, 1.5]), np.array([0.1, 0.2, 0.3])]
    verify_grad(weighted_sum, points)


# The k-competitive layer.


def competing(out, k, alpha):
    x = T.matrix()
    return theano.function([x], stages.compete(x, k, alpha))(np.array(out))


def test_competition_by_hand(float64):
    """Losers' energies: for k = 2, .2 + .1 and -.1 - .3; for k = 3, .1 and -.1 - .3."""
    out = [[0.1, -0.6, 0.8, -0.1, 0.2, 0.0, -0.3]]
    np.testing.assert_allclose(competing(out, 2, 2.0), [[0, -1.4, 1.4, 0, 0, 0, 0]])
    np.testing.assert_allclose(competing(out, 3, 2.0), [[0, -1.4, 1.0, 0, 0.4, 0, 0]])
    np.testing.assert_allclose(competing(out, 2, 0.0), [[0, -0.6, 0.8, 0, 0, 0, 0]])
    np.testing.assert_allclose(competing(out, 1, 2.0), [[0, 0, 1.4, 0, 0, 0, 0]])
    np.testing.assert_allclose(competing(out, 7, 2.0), out)


def test_all_units_of_a_sign_win_if_they_are_few(float64):
    """And of equal ones, such as tanh gives where it is saturated, as many as may."""
    few = [[0.5, -0.1, -0.2, -0.3], [0.1, 0.2, 0.3, 0.4], [1.0, 1.0, 1.0, -0.5]]
    expected = [[0.5, 0, -0.4, -0.5], [0, 0, 0.9, 1.0], [0, 3.0, 3.0, -0.5]]
    np.testing.assert_allclose(competing(few, 4, 2.0), expected)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_gradient_of_competition(float64, k):
    """Against finite differences; and by hand, a loser's is alpha times the winners' sum."""
    out = np.random.default_rng(1).uniform(-1, 1, (5, 6))
    weights = np.random.default_rng(2).normal(size=(5, 6))
    verify_grad(lambda x: (stages.compete(x, k, 6.26) * weights).sum(), [out], eps=1e-6)
    x = T.matrix()
    gradient = theano.function([x], T.grad((stages.compete(x, 2, 6.26) * weights[:1]).sum(), x))
    _, d1, d2, *_ = weights[0]
    expected = [6.26 * d2, d1, d2, 6.26 * d1, 6.26 * d2, 0]
    got = gradient(np.array([[0.1, -0.6, 0.8, -0.1, 0.2, 0.0]]))
    np.testing.assert_allclose(got[0], expected)
