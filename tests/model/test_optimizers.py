"""The optimisers against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import theano
import theano.tensor as T

from ae_bn.model.optimizers import OPTIMIZERS

# Computed once with PyTorch 2.13.0 in float64: five steps, learning rate .05, from (1, -2, .5) on
# sum(c p^2 / 2 + sin(p)) with c = (1, .1, 10); SGD(momentum=.9, nesterov=True), the rest
# as PyTorch has it.
EXPECTED = {
    "sgd": [0.623607346308, -1.860981057020, -0.080616027060],
    "nesterov": [-0.201514934697, -1.582638763331, -0.104283871992],
    "adam": [0.750151242082, -1.753058360897, 0.252915661625],
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_five_steps_against_pytorch(float64, name):
    p = theano.shared(np.array([1.0, -2.0, 0.5]))
    learning_rate = theano.shared(0.05)
    loss = (np.array([1, 0.1, 10]) * p**2 / 2 + T.sin(p)).sum()
    updates = OPTIMIZERS[name]([p], [T.grad(loss, p)], learning_rate)
    step = theano.function([], updates=updates)
    for _ in range(5):
        step()
    np.testing.assert_allclose(p.get_value(), EXPECTED[name], rtol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_is_read_at_every_step(float64, name):
    p, learning_rate = theano.shared(np.array([1.0])), theano.shared(0.0)
    step = theano.function([], updates=OPTIMIZERS[name]([p], [2 * p], learning_rate))
    step()
    assert p.get_value() == 1
    learning_rate.set_value(0.1)
    step()
    assert p.get_value() < 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_starts_at_zero(float64, name):
    p = theano.shared(np.array([1.0, 2.0]))
    for state, _ in OPTIMIZERS[name]([p], [2 * p], theano.shared(0.1)):
        assert state is p or not state.get_value().any()
