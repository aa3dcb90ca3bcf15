"""The losses in closed form."""

from __future__ import annotations

import numpy as np
import theano
import theano.tensor as T

from ae_bn.model.losses import cross_entropy, multinomial, squared_error
from ae_bn.model.stages import ReLU, Sigmoid, Softmax

Z = np.array([[0.0, 2.0, -3.0], [1.0, -1.0, 0.5]])
TARGET = np.array([[1.0, 0.0, 0.25], [0.0, 1.0, 0.5]])


def compiled(loss, activation):
    z, target = T.matrix(), T.matrix()
    value = loss(z, activation(z), target)
    return theano.function([z, target], [value, T.grad(value, z)])


def test_cross_entropy(float64):
    value, gradient = compiled(cross_entropy, Sigmoid)(Z, TARGET)
    p = 1 / (1 + np.exp(-Z))
    expected = -(TARGET * np.log(p) + (1 - TARGET) * np.log(1 - p)).sum() / 2
    np.testing.assert_allclose(value, expected)
    np.testing.assert_allclose(gradient, (p - TARGET) / 2)


def test_cross_entropy_of_extreme_logits_is_finite():
    z, target = np.float32([[1e4, -1e4, 1e4]]), np.float32([[1, 0, 0]])
    value, gradient = compiled(cross_entropy, Sigmoid)(z, target)
    np.testing.assert_allclose(value, 1e4)
    np.testing.assert_allclose(gradient, [[0, 0, 1]])


def test_squared_error(float64):
    value, gradient = compiled(squared_error, ReLU)(Z, TARGET)
    out = np.maximum(0, Z)
    np.testing.assert_allclose(value, ((out - TARGET) ** 2).sum() / 2)
    np.testing.assert_allclose(gradient, (out - TARGET) * (Z > 0))


def test_multinomial(float64):
    value, gradient = compiled(multinomial, Softmax)(Z, TARGET)
    p = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(value, -(TARGET * np.log(p)).sum() / 2)
    np.testing.assert_allclose(gradient, (TARGET.sum(axis=1, keepdims=True) * p - TARGET) / 2)


def test_multinomial_of_extreme_logits_and_empty_documents_is_finite():
    """And it does not change if all logits of a document do."""
    z, target = np.float32([[1e4, -1e4, 1e4], [1e4, 0, -1e4]]), np.float32([[1, 0, 0], [0, 0, 0]])
    value, gradient = compiled(multinomial, Softmax)(z, target)
    np.testing.assert_allclose(value, np.log(2) / 2, rtol=1e-4)
    np.testing.assert_allclose(gradient, [[-0.25, 0, 0.25], [0, 0, 0]], atol=1e-6)


def test_second_derivatives_of_multinomial(float64):
    """The Hessian of one document, t (diag(p) - p p^T), as the curvature needs it."""
    z, v = T.matrix(), T.matrix()
    gradient = T.grad(multinomial(z, Softmax(z), T.constant(TARGET[:1])), z)
    product = theano.function([z, v], T.grad((gradient * v).sum(), z))
    p, direction = np.exp(Z[0]) / np.exp(Z[0]).sum(), np.array([0.3, -1.0, 2.0])
    expected = TARGET[0].sum() * (p * direction - p * (p @ direction))
    np.testing.assert_allclose(product(Z[:1], direction[None])[0], expected)
