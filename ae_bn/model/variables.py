"""Theano's shared variables, in floatX."""

from __future__ import annotations

import numpy as np
import theano


def as_float(value) -> np.ndarray:
    """Return a number or an array in floatX."""
    return np.asarray(value, dtype=theano.config.floatX)


def shared(value, name: str):
    """Return a shared variable with a value, in floatX."""
    return theano.shared(as_float(value), name=name)


def set_values(variable, values) -> None:
    """Give a shared variable new values, in floatX, without another copy of them."""
    variable.set_value(np.array(values, theano.config.floatX, order="C"), borrow=True)
