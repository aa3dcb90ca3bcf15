"""A step of an optimiser on one parameter, which updates parameter and state in one pass."""

from __future__ import annotations

import numpy as np
import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel
from ae_bn.kernels.projection import checked_csr

# The names of the state of each optimiser; update.h has its equations.
STATE = {"sgd": "", "nesterov": "v", "adam": "mv"}


class Update(Kernel):
    """The new parameter and the new state, by the rule of an optimiser.

    Inputs
        rate (scalar); t (scalar), the number of this step, from 1; d, p and the state, all of
        the same shape
    Outputs
        the new p and the new state

    Parameters
    ----------
    rule : str
        The name of the optimiser, a key of `STATE`.
    hyperparameters : tuple of (str, float)
        The names and values of the rule's constants.
    inplace : bool
        Whether the outputs overwrite p and the state; `ae_bn.kernels.rewrites` chooses this.
    """

    __props__ = ("rule", "hyperparameters", "inplace")
    file = "update.cpp"
    gradient = ["d"]  # names of the inputs that give the gradient

    def __init__(self, rule, hyperparameters, inplace=False):
        self.rule, self.hyperparameters, self.inplace = rule, hyperparameters, inplace
        if inplace:
            first = 2 + len(self.gradient)
            self.destroy_map = {i: [first + i] for i in range(1 + len(STATE[rule]))}

    def in_place(self, fgraph, node):
        """Return the form that overwrites p and the state."""
        return type(self)(self.rule, self.hyperparameters, inplace=True)

    def constants(self):
        constants = dict(self.hyperparameters)
        values = "".join(f"const real {name} = {value!r}; " for name, value in constants.items())
        return (
            f"#define RULE_{self.rule}\n#define HYPERPARAMETERS {values}\n"
            f"static const bool inplace = {int(self.inplace)};\n"
            f"static const double beta1 = {constants.get('beta1', 0)!r}, "
            f"beta2 = {constants.get('beta2', 0)!r};"
        )

    def make_node(self, *given):
        inputs = [T.as_tensor_variable(v) for v in given]
        return Apply(self, inputs, [v.type() for v in inputs[2 + len(self.gradient) :]])

    def perform(self, node, inputs, outputs):
        rate, t, d, *values = inputs
        for value, new, output in zip(values, self._step(rate, t, d, *values), outputs):
            if self.inplace:
                value[...] = new
                output[0] = value
            else:
                output[0] = np.asarray(new, dtype=value.dtype)

    def _step(self, rate, t, d, p, *state):
        """Return the new p and the new state, in NumPy."""
        constants = dict(self.hyperparameters)
        if self.rule == "sgd":
            return [p - rate * d]
        if self.rule == "nesterov":
            momentum = constants["momentum"]
            v = momentum * state[0] - rate * d
            return [p + momentum * v - rate * d, v]
        beta1, beta2 = constants["beta1"], constants["beta2"]
        m = beta1 * state[0] + (1 - beta1) * d
        v = beta2 * state[1] + (1 - beta2) * d**2
        std = np.sqrt(v / (1 - beta2 ** float(t))) + constants["epsilon"]
        return [p - rate * m / (1 - beta1 ** float(t)) / std, m, v]

    def infer_shape(self, fgraph, node, shapes):
        return shapes[2 + len(self.gradient) :]


class RowsUpdate(Update):
    """`Update` of some rows; the other rows and their state do not change.

    Inputs
        as for `Update`, but instead of d: rows (k,), int32, which differ from each other, and
        d (k, m).  p and state are (n, m).  Or d is (k,), and p and state are (n,).
    Outputs
        the new p and the new state
    """

    file = "rows_update.cpp"
    gradient = ["rows", "d"]

    def perform(self, node, inputs, outputs):
        rate, t, rows, d, *values = inputs
        if len(d) != len(rows) or not ((rows >= 0) & (rows < len(values[0]))).all():
            raise ValueError("d must have a row of p for each of rows")
        parts = [[None] for _ in values]
        Update(self.rule, self.hyperparameters).perform(
            node, [rate, t, d, *(value[rows] for value in values)], parts
        )
        for value, (part,), output in zip(values, parts, outputs):
            output[0] = value if self.inplace else value.copy()
            output[0][rows] = part


class ProjectionUpdate(Update):
    """`Update` of W in x W, which uses each row of the gradient x^T delta as soon as it is formed.

    Inputs
        as for `Update`, but instead of d: data, indices, indptr, which are x, CSR, (n, n_words),
        as for `ae_bn.kernels.projection.Project`; delta (n, m).  p and state are (n_words, m).
    Outputs
        the new p and the new state
    """

    file = "projection_update.cpp"
    gradient = ["data", "indices", "indptr", "delta"]

    def perform(self, node, inputs, outputs):
        rate, t, data, indices, indptr, delta, W = inputs[:7]
        d = checked_csr(data, indices, indptr, len(W)).T @ delta
        super().perform(node, [rate, t, d, *inputs[6:]], outputs)
