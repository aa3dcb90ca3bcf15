"""The kernels against their symbolic twins, by themselves and in whole training runs."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from functools import partial

import numpy as np
import pytest
import theano
import theano.sparse as sparse
import theano.tensor as T
from conftest import in_numpy
from scipy.sparse import csr_matrix
from theano.link.c.cmodule import std_include_dirs
from theano.link.c.exceptions import MissingGXX
from theano.sandbox.rng_mrg import MRG_RandomStream, mrg_uniform

from ae_bn.config import load_config
from ae_bn.kernels import kernel
from ae_bn.kernels.competition import Compete, CompeteGradient
from ae_bn.kernels.kernel import Kernel
from ae_bn.kernels.losses import Loss, Multinomial
from ae_bn.kernels.masks import Mask
from ae_bn.kernels.normalization import (
    LayerNormalize,
    LayerNormalizeGradient,
    Normalize,
    NormalizeGradient,
    Standardisation,
    Statistics,
)
from ae_bn.kernels.product import Product
from ae_bn.kernels.projection import Project, ProjectTransposed
from ae_bn.kernels.retrieval import CountRelevant
from ae_bn.kernels.rows import TakeRows
from ae_bn.kernels.squared_error import SquaredError, SquaredErrorGradient, SquaredErrorUpdate
from ae_bn.kernels.updates import STATE, ProjectionUpdate, RowsUpdate, Update
from ae_bn.model import losses, stages
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.fused import KERNELS
from ae_bn.model.optimizers import OPTIMIZERS, whole
from ae_bn.randomness import streams

pytestmark = pytest.mark.usefixtures("optimized")
QUICK = theano.config.gcc__cxxflags

RTOL = {"float32": 2e-5, "float64": 1e-11}
# One row or column, less than a block of 64 columns, blocks with and without a tail; more rows
# than the 64 that share a logarithm.
SHAPES = [(1, 1), (1, 40), (7, 1), (5, 31), (70, 33), (129, 64), (3, 100)]
# Every switch and activation, but not all together: each takes some seconds to compile.
COMBINATIONS = [
    (Standardisation(center=True, normalize=True, epsilon=1e-3, population=False), "relu"),
    (Standardisation(center=False, normalize=True, epsilon=1e-3, population=False), "sigmoid"),
    (Standardisation(center=True, normalize=False, epsilon=1e-3, population=False), "tanh"),
    (Standardisation(center=True, normalize=True, epsilon=1e-3, population=True), "sigmoid"),
    (Standardisation(center=False, normalize=False, epsilon=1e-3, population=False), "linear"),
]


class Compiled:
    """A kernel in C++ and its symbolic twin, both called with arrays.

    The twin is a function from the kernel's inputs to its outputs, as expressions, which are
    computed in NumPy and double precision, from the same numbers.
    """

    def __init__(self, op, twin, *inputs):
        variables = [T.TensorType(v.dtype, [False] * v.ndim)() for v in map(np.asarray, inputs)]
        self.outputs = op.make_node(*variables).outputs
        self.function = theano.function(
            variables, [theano.Out(v, borrow=True) for v in self.outputs]
        )
        compiled = [node.op for node in self.function.maker.fgraph.apply_nodes]
        assert any(isinstance(op, Kernel) for op in compiled)
        with in_numpy("float64"):
            doubles = [T.TensorType(v.dtype, [False] * v.ndim)() for v in map(double, inputs)]
            exact = twin(*doubles)
            exact = list(exact) if isinstance(exact, (list, tuple)) else [exact]
            self.twin = theano.function(doubles, exact, on_unused_input="ignore")

    def check(self, *inputs, scale=1):
        """Compare, and return what C++ returned."""
        results = [np.array(v) for v in self.function(*inputs)]
        expected = self.twin(*map(double, inputs))
        assert len(results) == len(expected)
        for variable, result, exact in zip(self.outputs, results, expected):
            assert result.dtype == variable.dtype and result.shape == exact.shape
            tolerance = RTOL.get(variable.dtype, 0)
            size = np.abs(exact[np.isfinite(exact)]).max(initial=0)
            np.testing.assert_allclose(result, exact, tolerance, tolerance * size * scale)
        return results


def double(values):
    """Return an array in double precision, if its numbers are not whole, and without gaps."""
    values = np.asarray(values)
    return np.array(values, "float64" if values.dtype.kind == "f" else values.dtype, order="C")


def strided(values):
    """Return the same values with gaps between them in memory."""
    wide = np.zeros([2 * n for n in values.shape], values.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in values.shape)]
    view[...] = values
    return view


def documents(shape, dtype, rng, density=0.3):
    """Return CSR rows with values and some empty ones."""
    x = rng.random(shape) * (rng.random(shape) < density)
    x[1::3] = 0
    return csr_matrix(x.astype(dtype))


def layer_values(shape, dtype, rng):
    """Return g, a, b, mean, variance, nothing about them special."""
    g = rng.normal(0.3, 2, shape)
    vectors = rng.normal(1, 1, (3, shape[1]))
    return [v.astype(dtype) for v in (g, *vectors, rng.uniform(0.5, 2, shape[1]))]


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Return each type in turn; users train in the first, so the second is compiled quickly."""
    if request.param == "float64":
        request.getfixturevalue("quick")
    with theano.config.change_flags(floatX=request.param):
        yield request.param


@pytest.fixture
def quick():
    """Compile with little optimisation, as in the other tests."""
    with theano.config.change_flags(gcc__cxxflags=QUICK):
        yield


# The twins of kernels whose inputs or outputs differ from those of the definition.


def csr(data, indices, indptr, n_columns):
    """Return a sparse matrix of its parts."""
    shape = T.stack([indptr.shape[0] - 1, n_columns])
    return sparse.CSR(data, indices, indptr, T.cast(shape, "int32"))


def projected(data, indices, indptr, W):
    return stages.g(csr(data, indices, indptr, W.shape[0]), W)


def projection_gradient(data, indices, indptr, delta, n_words):
    W = T.zeros((n_words, delta.shape[1]))
    return T.grad((projected(data, indices, indptr, W) * delta).sum(), W)


def standardised(how, g, a, b, mean, variance, normalization=stages.BatchNormalization):
    """Return a h(g) + b, with a, b and the population's statistics given."""
    bn = normalization(1, how.center, how.normalize, True, True, how.epsilon)
    bn.a, bn.b, bn.mean, bn.variance = a, b, mean, variance
    return bn(g, how.population)


def normalized(how, activation):
    """Return the twins of `Normalize` and `NormalizeGradient`."""

    def out(*inputs):
        return stages.ACTIVATIONS[activation](standardised(how, *inputs))

    return out, lambda *inputs: T.grad((out(*inputs[:-1]) * inputs[-1]).sum(), list(inputs[:3]))


def layer_normalized(how, activation):
    """Return the twins of `LayerNormalize` and `LayerNormalizeGradient`."""

    def out(g, a, b):
        z = standardised(how, g, a, b, None, None, stages.LayerNormalization)
        return stages.ACTIVATIONS[activation](z)

    return out, lambda g, a, b, delta: T.grad((out(g, a, b) * delta).sum(), [g, a, b])


def loss_and_gradients(how, activation, loss):
    """Return the twin of `Loss`."""

    def outputs(g, a, b, mean, variance, data, indices, indptr, weights):
        z = standardised(how, g, a, b, mean, variance)
        target = sparse.dense_from_sparse(csr(data, indices, indptr, b.shape[0]))
        weights = weights[T.arange(b.shape[0]) % weights.shape[0]]  # one may stand for all
        value = losses.LOSSES[loss](z, stages.ACTIVATIONS[activation](z), target, weights)
        return [value, *T.grad(value, [g, a, b])]

    return outputs


def multinomial_and_gradient(z, data, indices, indptr):
    target = sparse.dense_from_sparse(csr(data, indices, indptr, z.shape[1]))
    value = losses.multinomial(z, None, target)
    return [value, T.grad(value, z)]


def competed(k, alpha):
    """Return the twins of `Compete` and `CompeteGradient`."""

    def gradient(out, after, delta):
        return T.grad((stages.compete(out, k, alpha) * delta).sum(), out)

    return lambda out: stages.compete(out, k, alpha), gradient


def updated(rule, rate, t, d, p, *state, rows=None):
    """Return the new p and the new state, with the state and the number of the step given."""
    shared = theano.shared(np.zeros([1] * p.ndim))
    updates = whole(OPTIMIZERS[rule]([shared if rows is None else shared[rows]], [d], rate))
    before = [*([t - 1] if rule == "adam" else []), *state, p]
    given = {variable: now for (variable, _), now in zip(updates, before)}
    *others, new_p = theano.clone([new for _, new in updates], given)
    return [new_p, *others[len(others) - len(state) :]]


def projection_updated(rule):
    """Return the twin of `ProjectionUpdate`."""

    def outputs(rate, t, data, indices, indptr, delta, W, *state):
        d = T.grad((projected(data, indices, indptr, W) * delta).sum(), W)
        return updated(rule, rate, t, d, W, *state)

    return outputs


def rows_updated(rule):
    """Return the twin of `RowsUpdate`."""
    return lambda rate, t, rows, d, *values: updated(rule, rate, t, d, *values, rows=rows)


def reconstruction_error(H, W, b, data, indices, indptr):
    """Return the squared error of a linear output layer."""
    out = stages.g(H, W.T) + b
    target = sparse.dense_from_sparse(csr(data, indices, indptr, W.shape[0]))
    return losses.squared_error(out, out, target)


def reconstruction_error_and_gradients(H, W, b, *x):
    value = reconstruction_error(H, W, b, *x)
    return [value, *T.grad(value, [H, b])]


def reconstruction_gradient(upper, H, W, b, *x):
    return T.grad(upper * reconstruction_error(H, W, b, *x), W)


def reconstruction_updated(rate, t, upper, H, b, data, indices, indptr, W, *state):
    d = reconstruction_gradient(upper, H, W, b, data, indices, indptr)
    return updated("adam", rate, t, d, W, *state)


# Each Op against its twin: values, shapes, strides, repeated calls.


def test_projection(dtype):
    rng = np.random.default_rng(0)
    x, W = documents((5, 7), dtype, rng), rng.normal(size=(7, 3)).astype(dtype)
    parts = (x.data, x.indices, x.indptr)
    delta = rng.normal(size=(5, 3)).astype(dtype)
    project = Compiled(Project(), projected, *parts, W)
    transposed = Compiled(ProjectTransposed(), projection_gradient, *parts, delta, np.int64(7))
    for (n, n_words), m in itertools.product([*SHAPES, (6, 500)], [1, 8, 37]):
        x = documents((n, n_words), dtype, rng)
        W = rng.normal(size=(n_words, m)).astype(dtype)
        delta = rng.normal(size=(n, m)).astype(dtype)
        parts = (x.data, x.indices, x.indptr)
        project.check(*parts, W)
        transposed.check(*parts, delta, np.int64(n_words))
    project.check(*parts, strided(W))
    transposed.check(strided(x.data), *parts[1:], strided(delta), np.int64(n_words))
    assert np.isnan(project.check(*parts, W * np.nan)[0][0]).all()
    with pytest.raises(ValueError, match="number of rows"):
        transposed.function(*parts, delta[1:].copy(), np.int64(n_words))


def test_product(dtype):
    rng = np.random.default_rng(0)
    product = Compiled(Product(), stages.g, *np.ones((2, 2, 2), dtype))
    for n, k, m in itertools.product([1, 5, 40], [1, 17, 64], [1, 33, 70]):
        x, W = rng.normal(size=(n, k)).astype(dtype), rng.normal(size=(k, m)).astype(dtype)
        product.check(x, W, scale=10)
        product.check(np.asfortranarray(x), np.asfortranarray(W), scale=10)
        product.check(strided(x), strided(W), scale=10)
        product.check(x[:, ::-1], W[::-1], scale=10)
    assert (product.check(np.ones((3, 0), dtype), np.ones((0, 2), dtype))[0] == 0).all()
    product.check(np.ones((0, 3), dtype), np.ones((3, 2), dtype))
    with pytest.raises(ValueError, match="as many columns"):
        product.function(x, W[:-1])


def test_normalization(dtype):
    rng = np.random.default_rng(0)
    for how, activation in COMBINATIONS if dtype == "float32" else COMBINATIONS[1:2]:
        values = layer_values((5, 3), dtype, rng)
        out, gradients = normalized(how, activation)
        forward = Compiled(Normalize(how, activation), out, *values)
        backward = Compiled(NormalizeGradient(how, activation), gradients, *values, values[0])
        for shape in SHAPES:
            values = layer_values(shape, dtype, rng)
            delta = rng.normal(size=shape).astype(dtype)
            forward.check(*values, scale=5)
            backward.check(*values, delta, scale=100)
        forward.check(*map(strided, values), scale=5)
        backward.check(*map(strided, [*values, delta]), scale=100)
        values[0][0, 0] = np.nan
        assert np.isnan(forward.function(*values)[0][0, 0])
        dg, da, _ = backward.function(*values, delta)
        assert np.isnan(da[0]) and (np.isnan(dg[0, 0]) or activation == "linear")


def test_layer_normalization(dtype):
    rng = np.random.default_rng(0)
    combinations = [(how, a) for how, a in COMBINATIONS if not how.population and a != "linear"]
    for how, activation in combinations if dtype == "float32" else combinations[1:2]:
        g, a, b, *_ = layer_values((5, 3), dtype, rng)
        twin, gradients = layer_normalized(how, activation)
        forward = Compiled(LayerNormalize(how, activation), twin, g, a, b)
        backward = Compiled(LayerNormalizeGradient(how, activation), gradients, g, a, b, g)
        for shape in SHAPES:
            values = layer_values(shape, dtype, rng)[:3]
            delta = rng.normal(size=shape).astype(dtype)
            forward.check(*values, scale=5)
            backward.check(*values, delta, scale=100)
        forward.check(*map(strided, values), scale=5)
        backward.check(*map(strided, [*values, delta]), scale=100)
        values[0][0, 0] = np.nan
        (out,) = forward.function(*values)
        dg, da, _ = backward.function(*values, delta)
        assert np.isnan(out[0]).all() and np.isnan(dg[0]).all() and np.isfinite(dg[1:]).all()
        with pytest.raises(ValueError, match="number of columns"):
            forward.function(values[0][:, 1:].copy(), *values[1:])
        with pytest.raises(ValueError, match="shape of g"):
            backward.function(*values, delta[1:].copy())


def test_competition(dtype):
    """Equal values, zeros and documents of one sign included."""
    rng = np.random.default_rng(0)
    for k in (1, 6) if dtype == "float32" else (5,):
        after, gradient = competed(k, 6.26)
        forward = Compiled(Compete(k, 6.26), after, np.ones((2, 2), dtype))
        backward = Compiled(CompeteGradient(k, 6.26), gradient, *np.ones((3, 2, 2), dtype))
        for shape in [*SHAPES, (50, 7)]:
            out = np.tanh(rng.normal(0, 1, shape)).round(1 if shape[1] < 40 else 6).astype(dtype)
            out[1::3] = np.abs(out[1::3])
            delta = rng.normal(size=shape).astype(dtype)
            (after,) = forward.check(out, scale=10)
            backward.check(out, after, delta, scale=10)
        forward.check(strided(out), scale=10)
        backward.check(*map(strided, (out, after, delta)), scale=10)
        out[0, 0] = np.nan
        (after,) = forward.function(out)
        assert np.isnan(after[0]).all() and np.isfinite(after[1:]).all()
        with pytest.raises(ValueError, match="shape of out"):
            backward.function(out, after, delta[1:].copy())


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_loss(dtype, loss):
    rng = np.random.default_rng(0)
    of_loss = slice(1, 4, 2) if loss == "cross_entropy" else slice(0, 5, 2)
    for how, activation in COMBINATIONS[of_loss if dtype == "float32" else slice(1, 2)]:
        x = documents((5, 3), dtype, rng)
        op = Loss(how, activation, loss)
        one = np.ones(1, dtype)
        twin = loss_and_gradients(how, activation, loss)
        values = layer_values((5, 3), dtype, rng)
        kernel = Compiled(op, twin, *values, x.data, x.indices, x.indptr, one)
        for shape in SHAPES:
            values, x = layer_values(shape, dtype, rng), documents(shape, dtype, rng)
            weights = rng.uniform(0, 9, shape[1]).astype(dtype)
            parts = (x.data, x.indices, x.indptr, weights)
            kernel.check(*values, *parts[:3], one, scale=100)
            kernel.check(*values, *parts, scale=1000)
        kernel.check(*map(strided, values), *map(strided, parts), scale=1000)
        with pytest.raises(ValueError, match="weights must be"):
            kernel.function(*values, *parts[:3], weights[:-1])
        values[0][0, 0] = np.nan
        value, dg, _, db = kernel.function(*values, *parts)
        assert np.isnan(value) and np.isnan(dg[0, 0]) and np.isnan(db[0])


def test_multinomial(dtype):
    rng = np.random.default_rng(0)
    kernel = None
    for shape in SHAPES:
        z, x = rng.normal(0.3, 2, shape).astype(dtype), documents(shape, dtype, rng)
        arrays = z, x.data, x.indices, x.indptr
        kernel = kernel or Compiled(Multinomial(), multinomial_and_gradient, *arrays)
        kernel.check(*arrays, scale=10)
    kernel.check(*map(strided, arrays), scale=10)
    with pytest.raises(ValueError, match="number of rows"):
        kernel.function(z[1:].copy(), *arrays[1:])
    (value, dz) = kernel.check(z * 1e3, *arrays[1:], scale=10)
    assert np.isfinite(value) and np.isfinite(dz).all()
    z[0, 5] = np.nan
    value, dz = kernel.function(z, *arrays[1:])
    assert np.isnan(value) and np.isnan(dz[0]).all() and np.isfinite(dz[1:]).all()


def test_multinomial_without_gradient_or_over_z():
    """The two forms that a rewrite chooses give the same."""
    rng = np.random.default_rng(0)
    z, x = rng.normal(size=(70, 33)).astype("float32"), documents((70, 33), "float32", rng)
    arrays = z, x.data, x.indices, x.indptr
    kernel = Compiled(Multinomial(), multinomial_and_gradient, *arrays)
    expected = kernel.check(*arrays, scale=10)
    node = Multinomial().make_node(*map(theano.shared, arrays))
    value = theano.function([], node.outputs[0])
    over_z = theano.function([], Multinomial()(2 * theano.shared(z / 2), *node.inputs[1:]))
    np.testing.assert_allclose(value(), expected[0], rtol=1e-6)
    for result, same in zip(over_z(), expected):
        np.testing.assert_array_equal(result, same)
    forms = [
        [n.op for n in function.maker.fgraph.apply_nodes if isinstance(n.op, Multinomial)]
        for function in (value, over_z)
    ]
    assert [(form.gradients, form.inplace) for (form,) in forms] == [(False, False), (True, True)]


def test_loss_without_gradients_or_over_g():
    """The two forms that a rewrite chooses give the same."""
    rng = np.random.default_rng(0)
    how = COMBINATIONS[1][0], "sigmoid", "cross_entropy"
    op = Loss(*how)
    x = documents((70, 33), "float32", rng)
    arrays = [*layer_values((70, 33), "float32", rng), x.data, x.indices, x.indptr]
    arrays.append(rng.uniform(0, 9, 33).astype("float32"))
    expected = Compiled(op, loss_and_gradients(*how), *arrays).check(*arrays, scale=1000)
    node = op.make_node(*(theano.shared(v) for v in arrays))
    value = theano.function([], node.outputs[0])
    over_g = theano.function([], op(2 * theano.shared(arrays[0] / 2), *node.inputs[1:]))
    np.testing.assert_array_equal(value(), expected[0])
    for result, same in zip(over_g(), expected):
        np.testing.assert_array_equal(result, same)
    forms = [
        [n.op for n in function.maker.fgraph.apply_nodes if isinstance(n.op, Loss)]
        for function in (value, over_g)
    ]
    assert [(form.gradients, form.inplace) for (form,) in forms] == [(False, False), (True, True)]


def test_statistics(dtype):
    rng = np.random.default_rng(0)
    kernel = Compiled(Statistics(), stages.batch_statistics, np.ones((2, 2), dtype))
    for shape in SHAPES:
        g = rng.normal(3, 2, shape).astype(dtype)
        kernel.check(g, scale=5)
    kernel.check(strided(g), scale=5)
    g[0, 0] = np.nan
    mean, variance = kernel.function(g)
    assert np.isnan([mean[0], variance[0]]).all() and not np.isnan(mean[1:]).any()


def test_masks_are_those_of_theanos_generator(dtype):
    rate = theano.shared(np.asarray(0.3, dtype))
    masks = {}
    for kernels in ("symbolic", "fused"):
        values = T.matrix()
        random = MRG_RandomStream(7)
        mask = KERNELS[kernels].dropout_mask(values, rate, random)
        ((state, *_),) = random.state_updates
        state.set_value(stages.random_state(np.random.default_rng(1)))
        mode = "FAST_COMPILE" if kernels == "symbolic" else None  # Theano's generator in Python
        masks[kernels] = theano.function([values], mask, mode=mode)
    drawn = []
    for shape in [(1, 1), (3, 100), (100, 128), (2, 128), (7, 37), (0, 5)]:
        like = np.zeros(shape, dtype)
        expected = masks["symbolic"](like)
        np.testing.assert_array_equal(masks["fused"](like), expected)
        drawn.append(expected.ravel())
    drawn = np.concatenate(drawn)
    assert set(np.unique(drawn)) == {0, (1 / (1 - rate.get_value())).astype(dtype)}
    assert abs(drawn.mean() - 1) < 0.03  # 13,616 draws: standard error .0056
    state = stages.random_state(np.random.default_rng(2))[:5]

    def drawn_by_theano(state, rate, values):
        state, draws = mrg_uniform.new(state, None, dtype, values.shape)
        return [T.ge(draws, rate) / (1 - rate), state]

    kernel = Compiled(Mask(), drawn_by_theano, state, rate.get_value(), np.zeros((2, 2), dtype))
    for shape in [(4, 3), (1, 1), (0, 5), (5, 4)]:  # five lanes
        kernel.check(state, rate.get_value(), np.zeros(shape, dtype))
        kernel.check(strided(state), rate.get_value(), np.zeros(shape, dtype))


@pytest.mark.parametrize("rule", ["nesterov", "adam"])
def test_projection_update(dtype, rule):
    rng = np.random.default_rng(0)
    rate, t = (np.asarray(v, dtype) for v in (0.1, 3))
    kernel = None
    for n, n_words, m in [(1, 1, 1), (5, 7, 3), (6, 500, 37), (100, 70, 128)]:
        x = documents((n, n_words), dtype, rng)
        delta = rng.normal(size=(n, m)).astype(dtype)
        values = rng.uniform(0.5, 1, (1 + len(STATE[rule]), n_words, m)).astype(dtype)
        arguments = [rate, t, x.data, x.indices, x.indptr, delta, *values]
        if kernel is None:
            op = ProjectionUpdate(rule, hyperparameters(rule))
            kernel = Compiled(op, projection_updated(rule), *arguments)
        kernel.check(*arguments, scale=10)
    kernel.check(*arguments[:5], *map(strided, arguments[5:]), scale=10)
    with pytest.raises(ValueError, match="as many columns"):
        kernel.function(*arguments[:5], delta[:, :-1].copy(), *values)


@pytest.mark.parametrize("rule", ["nesterov", "adam"])
def test_rows_update(dtype, rule):
    """Some rows as by the optimiser; the others as they were."""
    rng = np.random.default_rng(0)
    first = [np.asarray(v, dtype) for v in (0.1, 3)]
    for shapes in ([(1, 1), (7, 3), (900, 37)], [(1,), (50,)]):
        kernel = None
        for n, *m in shapes:
            rows = rng.permutation(n)[: n // 2 + 1].astype("int32")
            d = rng.normal(size=(len(rows), *m)).astype(dtype)
            values = rng.uniform(0.5, 1, (1 + len(STATE[rule]), n, *m)).astype(dtype)
            op = RowsUpdate(rule, hyperparameters(rule))
            kernel = kernel or Compiled(op, rows_updated(rule), *first, rows, d, *values)
            before = values.copy()
            for new, old in zip(kernel.check(*first, rows, d, *values), before):
                others = np.setdiff1d(np.arange(n), rows)
                np.testing.assert_array_equal(new[others], old[others])
                assert (new[rows] != old[rows]).all()
            np.testing.assert_array_equal(values, before)
            kernel.check(*first, rows, strided(d), *map(strided, values))
        for wrong in (rows + n, rows - n):
            with pytest.raises(ValueError, match="out of range"):
                kernel.function(*first, wrong.astype("int32"), d, *values)
        with pytest.raises(ValueError, match="each of rows"):
            kernel.function(*first, rows[1:], d, *values)


def test_take_rows(dtype):
    rng, kernel = np.random.default_rng(0), None
    for n, m in [(1, 1), (9, 4), (200, 130)]:
        W = rng.normal(size=(n, m)).astype(dtype)
        rows = rng.integers(n, size=2 * n).astype("int32")
        kernel = kernel or Compiled(TakeRows(), lambda W, rows: W[rows], W, rows)
        (out,) = kernel.check(W, rows)
        np.testing.assert_array_equal(out, W[rows])
        kernel.check(strided(W), strided(rows))
        assert kernel.check(W, rows[:0])[0].shape == (0, m)
    for wrong in (n, -1):
        with pytest.raises(ValueError, match="out of range"):
            kernel.function(W, np.array([0, wrong], "int32"))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("rule", STATE)
def test_update(dtype, rule, inplace):
    rng = np.random.default_rng(0)
    op = Update(rule, hyperparameters(rule))
    for ndim in (1, 2):
        values = [rng.normal(size=[3] * ndim).astype(dtype) for _ in range(2 + len(STATE[rule]))]
        first = [np.asarray(v, dtype) for v in (0.1, 3)]
        kernel = Compiled(op, partial(updated, rule), *first, *values)
        if inplace:
            shared = [theano.shared(v.copy()) for v in values]
            new = op(*map(theano.shared, first), *shared, return_list=True)
            step = theano.function([], updates=list(zip(shared[1:], new)))
            assert any(getattr(n.op, "inplace", False) for n in step.maker.fgraph.apply_nodes)
        for shape in [(1,), (17,), (20000,)] if ndim == 1 else [(1, 1), (5, 7), (300, 101)]:
            d = rng.normal(size=shape).astype(dtype)
            rest = [rng.uniform(0.5, 1, size=shape).astype(dtype) for _ in values[1:]]
            if not inplace:
                before = [v.copy() for v in rest]
                kernel.check(*first, d, *rest)
                for value, copy in zip(rest, before):
                    np.testing.assert_array_equal(value, copy)
                kernel.check(*first, *map(strided, [d, *rest]))
                assert np.isnan(kernel.check(*first, d * np.nan, *rest)[0]).all()
                continue
            for variable, value in zip(shared, [d, *rest]):
                variable.set_value(value)
            expected = kernel.check(*first, d, *rest)
            step()
            for variable, value in zip(shared[1:], expected):
                np.testing.assert_allclose(variable.get_value(), value, RTOL[dtype], 1e-7)


def hyperparameters(rule):
    p = theano.shared(np.zeros(1, theano.config.floatX))
    pairs = KERNELS["fused"].optimizer(rule)([p], [p], theano.shared(p.get_value()[0]))
    return pairs[-1][1].owner.op.hyperparameters


# Damaged CSR matrices are told, not read.


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d, i, p: (d, np.int32([5, 1, 2]), p), "sorted"),
        (lambda d, i, p: (d, np.int32([0, 1, 9]), p), "out of range"),
        (lambda d, i, p: (d, np.int32([0, -1, 2]), p), "out of range"),
        (lambda d, i, p: (d[:2], i, p), "one length"),
        (lambda d, i, p: (d, i, np.int32([0, 3, 4])), "one length"),
        (lambda d, i, p: (d, i, np.int32([1, 2, 3])), "start with 0"),
        (lambda d, i, p: (d, i, np.int32([0, 4, 3])), "must not fall"),
        (lambda d, i, p: (d, i, np.int32([0, -4, 3])), "must not fall"),
    ],
)
def test_damaged_csr_is_an_error(damage, message):
    x = np.ones(3, "float32"), np.int32([0, 1, 5]), np.int32([0, 3, 3])
    rows, W = np.ones((2, 6), "float32"), np.ones((6, 4), "float32")
    vector = np.ones(6, "float32")
    rate, t = np.float32(0.1), np.float32(3)
    adam = "adam", hyperparameters("adam")
    how = COMBINATIONS[1][0], "sigmoid", "cross_entropy"
    kernels = [
        (Project(), projected, lambda *x: [*x, W]),
        (ProjectTransposed(), projection_gradient, lambda *x: [*x, rows[:, :4], np.int64(6)]),
        (Loss(*how), loss_and_gradients(*how), lambda *x: [rows, *[vector] * 4, *x, vector]),
        (Multinomial(), multinomial_and_gradient, lambda *x: [rows, *x]),
        (
            ProjectionUpdate(*adam),
            projection_updated("adam"),
            lambda *x: [rate, t, *x, rows[:, :4], W, W, W],
        ),
        (
            SquaredError(),
            reconstruction_error_and_gradients,
            lambda *x: [rows[:, :4], W, vector, *x],
        ),
    ]
    for op, twin, arguments in kernels:
        kernel = Compiled(op, twin, *arguments(*x))
        kernel.check(*arguments(*x), scale=100)
        with pytest.raises(ValueError, match=message):
            kernel.function(*arguments(*damage(*x)))
        kernel.check(*arguments(*x), scale=100)


def test_wrong_shapes_are_errors():
    rng = np.random.default_rng(0)
    values, x = layer_values((5, 3), "float32", rng), documents((4, 3), "float32", rng)
    how, activation = COMBINATIONS[0]
    out, gradients = normalized(how, activation)
    forward = Compiled(Normalize(how, activation), out, *values)
    backward = Compiled(NormalizeGradient(how, activation), gradients, *values, values[0])
    with pytest.raises(ValueError, match="number of columns"):
        forward.function(values[0][:, :2], *values[1:])
    with pytest.raises(ValueError, match="shape of g"):
        backward.function(*values, values[0][1:])
    how = COMBINATIONS[1][0], "sigmoid", "cross_entropy"
    arguments = (*values, x.data, x.indices, x.indptr, np.ones(1, "float32"))
    with pytest.raises(ValueError, match="number of rows"):
        Compiled(Loss(*how), loss_and_gradients(*how), *arguments).function(*arguments)


# Layers and losses against those of the definition, gradients included.


def layer_gradients(kernels, settings, dtype, rng, loss, activation, over=None):
    """Return the loss of one layer and its gradients, by the given kernels."""
    ops, (values, x) = (
        KERNELS[kernels],
        (layer_values((21, 33), dtype, rng), documents((21, 33), dtype, rng)),
    )
    bn = ops.normalization(over)(33, *settings, 1e-3)
    parameters = []
    for name, value in zip(("a", "b"), values[1:3]):
        if getattr(bn, name) is not None:
            getattr(bn, name).set_value(value)
            parameters.append(getattr(bn, name))
    layer = stages.ACTIVATIONS[activation](bn | Identity())
    g, target = T.matrix(), sparse.csr_matrix(dtype=dtype)
    if loss is None:
        cost = (layer(g) * np.cos(np.arange(33)).astype(dtype)).sum() * 3
    else:
        cost = 3 * layer.loss(losses.LOSSES[loss], layer.signals(g), target)
    outputs = [cost, *T.grad(cost, [g, *parameters])]
    mode = theano.Mode("py", None) if theano.config.mode == "FAST_COMPILE" else None
    inputs = [g, target]
    function = theano.function(inputs, outputs, mode=mode, on_unused_input="ignore")
    return function(values[0], x)


class Identity:
    """A projection that gives x itself."""

    def __call__(self, x):
        return x


@pytest.mark.parametrize("loss", [None, "cross_entropy", "squared_error", "multinomial"])
@pytest.mark.parametrize("over", [None, "units"])
def test_layers_and_losses_equal_their_symbolic_twins(loss, over):
    """With all triples of the four switches where most kernels are those of `COMBINATIONS`."""
    switches = list(itertools.product([False, True], repeat=3))
    for center, normalize, scale in switches if over is None and loss is None else switches[1::6]:
        settings = (center, normalize, scale, center ^ normalize ^ scale)
        activation = {(c, n): name for (c, n, _, population), name in COMBINATIONS
                      if not population}[center, normalize]  # fmt: skip
        if loss in ("cross_entropy", "multinomial"):
            activation = "sigmoid"  # they have an activation inside
        case = loss, activation, over
        with in_numpy("float32"):
            rng = np.random.default_rng(5)
            results = layer_gradients("fused", settings, "float32", rng, *case)
        with in_numpy("float64"):
            rng = np.random.default_rng(5)
            exact = layer_gradients("symbolic", settings, "float64", rng, *case)
        for fused, symbolic in zip(results, exact):
            size = np.abs(symbolic).max()
            np.testing.assert_allclose(fused, symbolic, 1e-4, 1e-5 * size)


@pytest.mark.parametrize("loss", [None, "cross_entropy", "squared_error", "multinomial"])
def test_compiled_layers_equal_their_symbolic_twins(loss):
    for settings in [(False, False, False, True), (True, True, True, True)]:
        case = settings, "float32"
        compiled = layer_gradients("fused", *case, np.random.default_rng(5), loss, "sigmoid")
        with in_numpy("float32"):
            twin = layer_gradients("symbolic", *case, np.random.default_rng(5), loss, "sigmoid")
        for fused, symbolic in zip(compiled, twin):
            size = np.abs(symbolic).max()
            np.testing.assert_allclose(fused, symbolic, 1e-4, 1e-5 * size)


@pytest.mark.parametrize("kernels", KERNELS)
def test_gradient_of_relu_at_zero_is_zero(kernels):
    normalization, g = KERNELS[kernels].normalization(None), T.matrix()
    bn = normalization(1, False, False, False, False, epsilon=1e-3)
    gradient = theano.function([g], T.grad(stages.ReLU(bn | Identity())(g).sum(), g))
    column = np.float32([[-1], [-0.0], [0.0], [1e-30], [1]])
    np.testing.assert_array_equal(gradient(column).ravel(), [0, 0, 0, 1, 1])


def squared_error_inputs(n, m, d, dtype, rng):
    """Return H, W, b and the parts of the documents."""
    X = documents((n, m), dtype, rng)
    values = rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.normal(size=m)
    return [*(v.astype(dtype) for v in values), X.data, X.indices, X.indptr]


def test_squared_error(dtype):
    """More units than documents and fewer; one word, and more than a block of them."""
    rng = np.random.default_rng(0)
    rate, step, upper = (np.asarray(v, dtype) for v in (0.1, 3, 2))
    inputs = squared_error_inputs(3, 5, 2, dtype, rng)
    error, gradient = (
        Compiled(SquaredError(), reconstruction_error_and_gradients, *inputs),
        Compiled(SquaredErrorGradient(), reconstruction_gradient, upper, *inputs),
    )
    rule = "adam", hyperparameters("adam")
    state = [np.zeros_like(inputs[1])] * 2
    arguments = lambda H, W, b, *x: (rate, step, upper, H, b, *x, W)  # noqa: E731
    op = SquaredErrorUpdate(*rule)
    update = Compiled(op, reconstruction_updated, *arguments(*inputs), *state)
    for n, m, d in [(1, 1, 1), (1, 7, 3), (6, 1, 4), (5, 9, 17), (40, 1100, 6), (7, 600, 33)]:
        inputs = squared_error_inputs(n, m, d, dtype, rng)
        error.check(*inputs, scale=m)
        gradient.check(upper, *inputs, scale=n)
        state = [rng.random(inputs[1].shape).astype(dtype) for _ in range(2)]
        update.check(*arguments(*inputs), *state, scale=n)
    H, W, *others = inputs
    error.check(strided(H), strided(W), *others, scale=m)


def test_squared_error_rounds_relative_to_an_empty_reconstruction():
    """The loss of a nearly exact reconstruction is a difference of terms as large as |X|^2."""
    rng = np.random.default_rng(0)
    H, W = rng.normal(size=(50, 20)), rng.normal(size=(300, 20))
    X = H @ W.T
    for noise in (1.0, 1e-2, 1e-4):
        target = csr_matrix((X + noise * rng.normal(size=X.shape)).astype("float32"))
        inputs = [v.astype("float32") for v in (H, W, np.zeros(300))]
        inputs += [target.data, target.indices, target.indptr]
        kernel = Compiled(SquaredError(), reconstruction_error_and_gradients, *inputs)
        value, exact = kernel.function(*inputs)[0], kernel.twin(*map(double, inputs))[0]
        empty = target.multiply(target).sum() / 50
        assert abs(value - exact) < 1e-6 * empty


@pytest.mark.parametrize("change", ["H", "b", "documents"])
def test_squared_error_refuses_shapes_that_do_not_fit(change):
    inputs = squared_error_inputs(4, 6, 3, "float32", np.random.default_rng(0))
    function = Compiled(SquaredError(), reconstruction_error_and_gradients, *inputs).function
    if change == "H":
        inputs[0] = np.zeros((4, 2), "float32")
    elif change == "b":
        inputs[2] = np.zeros(5, "float32")
    else:
        inputs[5] = inputs[5][:-1]
        inputs[3], inputs[4] = (v[: inputs[5][-1]] for v in inputs[3:5])
    with pytest.raises(ValueError, match="number"):
        function(*inputs)


@pytest.mark.parametrize("over", [None, "units"])
def test_an_activation_without_a_kernel_falls_back(float32, over):
    """The normalisation before it, and the loss after it, mean the same as ever."""

    @stages.word
    def Cube(z):
        return z**3

    g, target = T.matrix(), sparse.csr_matrix(dtype="float32")
    values = np.random.default_rng(0).normal(size=(5, 4)), csr_matrix(np.eye(5, 4))
    values = [v.astype("float32") for v in values]
    results = []
    for kernels in KERNELS:
        bn = KERNELS[kernels].normalization(over)(4, True, True, True, True, 1e-3)
        layer = Cube(bn | Identity())
        loss = layer.loss(losses.squared_error, layer.signals(g), target)
        results.append(theano.function([g, target], [layer(g), T.grad(loss, g)],
                                       on_unused_input="ignore")(*values))  # fmt: skip
    for symbolic, fused in zip(*results):
        np.testing.assert_allclose(symbolic, fused, rtol=1e-4, atol=1e-5)


# Whole training runs.

V, N = 60, 120


def corpus():
    """Return documents of which each half has every word somewhere and none everywhere."""
    rng = np.random.default_rng(0)
    X = csr_matrix((rng.random((N, V)) < rng.uniform(0.1, 0.6, V)).astype("float32"))
    for half in (X[::2], X[1::2]):
        assert half.sum(axis=0).min() > 0 and half.sum(axis=0).max() < N / 2
    return X


def train(kernels, optimizer, steps, *settings, many_documents=True):
    """Return the weights after some steps, and the losses, in floatX."""
    config = load_config(None, ["model.layers=[12]", *(f"model.{s}" for s in settings)]).model
    autoencoder = Autoencoder(config, optimizer, V, kernels, many_documents)
    autoencoder.initialize(corpus(), streams(1), 0.003, config.dropout)
    X = corpus().astype(theano.config.floatX)
    values = [float(autoencoder.train(X[i % 2 :: 2])) for i in range(steps)]
    state = autoencoder.get_state()
    return {n: v for n, v in state.items() if not n.endswith(("mean", "variance"))}, values


@pytest.mark.parametrize(
    "optimizer",
    [name if name == "adam" else pytest.param(name, marks=pytest.mark.long) for name in OPTIMIZERS],
)
def test_100_steps_stay_within_the_noise_of_float32(optimizer, monkeypatch):
    """Fused and symbolic runs are about as far from a run in float64 as each other.

    Two right implementations drift apart, since training amplifies their rounding, so the
    measure is the symbolic run's own distance from a symbolic one in double precision.  Adam
    amplifies most: m / sqrt(v) makes a full step, +-rate, even of a rounding error.  So
    the corpus has no gradient that is zero in theory and a rounding error in practice, such as
    that of a word which all documents of a minibatch have: before Batch Normalization it only
    shifts the mean.  With such a word weights differ by some steps after some steps, whoever
    computes them.
    """
    settings = ("batch_norm.top=true",)
    # Nothing is dropped, but Theano's generator in Python would take most of the time.
    mask = KERNELS["fused"].dropout_mask
    monkeypatch.setitem(KERNELS, "symbolic", KERNELS["symbolic"]._replace(dropout_mask=mask))
    with in_numpy("float64"):
        exact, exact_losses = train("symbolic", optimizer, 100, *settings)
    with in_numpy("float32"):
        runs = {"symbolic": train("symbolic", optimizer, 100, *settings)}
    runs["fused"] = train("fused", optimizer, 100, *settings)
    weights, losses = {}, {}
    for kernels, (state, values) in runs.items():
        squares = [np.square(state[n] - exact[n]).ravel() for n in exact]
        weights[kernels] = np.sqrt(np.concatenate(squares).mean())
        losses[kernels] = np.abs(np.array(values) - exact_losses).max()
    assert weights["fused"] < 5 * weights["symbolic"] + 1e-6
    assert losses["fused"] < 5 * losses["symbolic"] + 1e-4
    print(optimizer, "distance from float64:", weights, losses)


def test_every_kind_of_model_trains_alike():
    """Deep, tied, without BN, with dropout: the masks are drawn alike."""
    for settings in [
        ("batch_norm.hidden=false", "tied=true", "layers=[9, 5]", "hidden_activation=tanh"),
        (
            "dropout.input=0.3",
            "dropout.hidden=0.3",
            "loss=squared_error",
            "output_activation=linear",
        ),
    ]:
        fused = train("fused", "nesterov", 10, *settings)
        with in_numpy("float32"):
            symbolic = train("symbolic", "nesterov", 10, *settings)
        np.testing.assert_allclose(fused[1], symbolic[1], rtol=1e-4)


def test_both_kernels_of_the_squared_error_train_alike(quick):
    """The one for many documents in a minibatch, and the one for few; tied weights take one."""
    plain = ("loss=squared_error", "output_activation=linear", "dropout.hidden=0.3")
    for settings in (plain, (*plain, "tied=true"), (*plain, "layers=[9, 5]")):
        runs = []
        for many_documents in (True, False):
            with in_numpy("float64"):
                runs.append(train("fused", "adam", 10, *settings, many_documents=many_documents))
        np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=1e-9)
        for name, value in runs[0][0].items():
            np.testing.assert_allclose(value, runs[1][0][name], rtol=1e-6, atol=1e-9)


def test_training_continues_with_the_other_kernel_of_the_squared_error(quick):
    """A smaller batch may need the other one, and both take the same state of the optimiser."""
    settings = ["model.layers=[12]", "model.loss=squared_error", "model.output_activation=linear"]
    config = load_config(None, settings).model
    with in_numpy("float64"):
        X = corpus().astype("float64")
        first, other = (Autoencoder(config, "adam", V, "fused", many) for many in (True, False))
        for autoencoder in (first, other):
            autoencoder.initialize(X, streams(1), 0.003, config.dropout)
        for _ in range(3):
            first.train(X[::2])
        state = {name: v.copy() for name, v in first.get_state(training=True).items()}
        other.set_state(state, training=True)
        values = [[float(a.train(X[1::2])) for _ in range(3)] for a in (first, other)]
    np.testing.assert_allclose(*values, rtol=1e-9)


def test_the_state_is_flushed():
    """What decays towards zero becomes zero, not a denormal number."""
    tiny = np.float32(1e-37)
    for rule in ("nesterov", "adam"):
        state = [theano.shared(np.full(100, tiny)) for _ in STATE[rule]]
        p, zero = theano.shared(np.zeros(100, "float32")), np.zeros(100, "float32")
        new = Update(rule, hyperparameters(rule))(
            np.float32(0.1), np.float32(9), zero, p, *state, return_list=True
        )
        step = theano.function([], updates=list(zip([p, *state], new)))
        least = np.finfo("float32").tiny
        for _ in range(60):
            step()
            for variable in state:
                value = np.abs(variable.get_value())
                assert ((value == 0) | (value >= least)).all()
    assert np.float32(1e-38) * np.float32(0.5) != 0  # and nobody else's numbers are


def test_kernels_are_in_use_and_recorded():
    autoencoder = Autoencoder(load_config().model, "adam", V, "fused")
    assert autoencoder.kernels[0] == "fused"
    autoencoder.initialize(corpus(), streams(1), 0.01, load_config().model.dropout)
    used = {type(node.op).__name__ for node in autoencoder._train.maker.fgraph.apply_nodes}
    assert {"Project", "ProjectionUpdate", "Normalize", "NormalizeGradient"} <= used
    assert {"Loss", "Update", "Mask"} <= used and not {"Dot22", "Gemm", "StructuredDotCSR"} & used
    assert all(
        node.op.inplace
        for node in autoencoder._train.maker.fgraph.apply_nodes
        if isinstance(node.op, Update)
    )
    assert Autoencoder(load_config().model, "adam", V, "symbolic").kernels == ["symbolic"]


@pytest.mark.parametrize("mode", ["FAST_COMPILE", theano.Mode("py", None)])
def test_kernels_run_compiled_in_every_mode(mode):
    """Also in those where Theano takes the computation in Python of everything else."""
    W, rows = T.fmatrix(), T.ivector()
    take = theano.function([W, rows], TakeRows()(2 * W, rows), mode=mode)
    np.testing.assert_array_equal(take(np.eye(3, dtype="float32"), [2, 0]), [[0, 0, 2], [2, 0, 0]])
    with pytest.raises(ValueError, match="row out of range"):
        take(np.eye(3, dtype="float32"), [3])


def test_without_a_compiler_no_kernel_runs():
    rows = TakeRows()(theano.shared(np.eye(3)), np.int32([0]))
    with theano.config.change_flags(cxx=""), pytest.raises(MissingGXX):
        theano.function([], rows, mode=theano.Mode("py", None))


# The C++ files.


def kernels_of_files() -> dict[str, type]:
    """Return a class of kernels for every C++ file that one of them uses."""
    found, classes = {}, [Kernel]
    for each in classes:
        classes += each.__subclasses__()
        if "file" in vars(each):
            found[each.file] = each
    return found


def nodes():
    """Return a node of every kernel in float32, with all parts that a property can switch on."""
    scalar, x, vector = T.fscalar, T.fmatrix, T.fvector
    standardisation = Standardisation(True, True, 1e-3, False)
    csr = [vector(), T.ivector(), T.ivector()]
    layer = [x(), vector(), vector(), vector(), vector()]
    adam = "adam", (("beta1", 0.9), ("beta2", 0.999), ("epsilon", 1e-8))
    state = [x(), x(), x()]
    return [
        Normalize(standardisation, "sigmoid").make_node(*layer),
        NormalizeGradient(standardisation, "tanh").make_node(*layer, x()),
        LayerNormalize(standardisation, "relu").make_node(*layer[:3]),
        LayerNormalizeGradient(standardisation, "relu").make_node(*layer[:3], x()),
        Statistics().make_node(x()),
        Loss(standardisation, "linear", "cross_entropy").make_node(*layer, *csr, vector()),
        Multinomial().make_node(x(), *csr),
        Mask().make_node(T.imatrix(), scalar(), x()),
        TakeRows().make_node(x(), T.ivector()),
        Product().make_node(x(), x()),
        Project().make_node(*csr, x()),
        ProjectTransposed().make_node(*csr, x(), T.lscalar()),
        Compete(6, 6.26).make_node(x()),
        CompeteGradient(6, 6.26).make_node(x(), x(), x()),
        CountRelevant().make_node(x(), *layer[1:], T.ivector(), T.ivector(), T.lscalar()),
        SquaredError().make_node(x(), x(), vector(), *csr),
        SquaredErrorGradient().make_node(scalar(), x(), x(), vector(), *csr),
        Update(*adam).make_node(scalar(), scalar(), x(), *state),
        RowsUpdate(*adam).make_node(scalar(), scalar(), T.ivector(), x(), *state),
        ProjectionUpdate(*adam).make_node(scalar(), scalar(), *csr, x(), *state),
        SquaredErrorUpdate(*adam).make_node(
            scalar(), scalar(), scalar(), x(), vector(), *csr, *state
        ),
    ]


def test_the_compiler_has_no_warning(tmp_path):
    """Of unused functions only: a file need not use all that the headers have."""
    source = ["#include <Python.h>\n#include <numpy/arrayobject.h>\n"]
    made = nodes()
    assert {node.op.file for node in made} == set(kernels_of_files())
    shared = {node.op.c_support_code(): None for node in made}
    source.append(max(shared, key=len))  # with BLAS
    for number, node in enumerate(made):
        code = node.op.c_support_code_apply(node, f"kernel{number}")
        macros = [line.split("(")[0].split()[1] for line in code.splitlines()
                  if line.startswith("#define")]  # fmt: skip
        source += [code, *(f"#undef {macro}\n" for macro in macros)]
        source.append(f"void* use{number}() {{ return (void*)&kernel{number}::kernel; }}\n")
    path = tmp_path / "kernels.cpp"
    path.write_text("".join(source))
    command = [theano.config.cxx, "-std=c++11", "-O0", "-fopenmp", "-Wall", "-Wextra"]
    command += ["-Wno-unused-function", "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION"]
    command += [flag for folder in std_include_dirs() for flag in ("-isystem", folder)]
    done = subprocess.run(
        [*command, "-fsyntax-only", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr[:2000]


def test_a_changed_file_is_compiled_again(tmp_path, monkeypatch):
    """Also one that another file includes."""
    shutil.copytree(kernel.FOLDER, tmp_path / "kernels")
    keys = []
    for name in (None, "normalize.cpp", "activation.h", "kernel.h"):
        if name:
            path = tmp_path / "kernels" / name
            path.write_text(path.read_text() + "// changed\n")
        monkeypatch.setattr(kernel, "FOLDER", tmp_path / "kernels")
        kernel.read_source.cache_clear()
        keys.append(Normalize(COMBINATIONS[0][0], "relu").c_code_cache_version())
    kernel.read_source.cache_clear()
    assert len(set(keys)) == len(keys)


def test_no_file_is_forgotten():
    read = "".join(map(kernel.read_source, [*kernels_of_files(), "kernel.h", "blas.h"]))
    for path in [*kernel.FOLDER.glob("*.cpp"), *kernel.FOLDER.glob("*.h")]:
        assert path.read_text(encoding="utf-8").splitlines()[0] in read, path.name
