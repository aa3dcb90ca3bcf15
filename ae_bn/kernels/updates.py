"""A step of an optimiser on one parameter, which updates parameter and state in one pass."""

from __future__ import annotations

import theano.tensor as T
from theano.graph.basic import Apply

from ae_bn.kernels.kernel import Kernel

# The names of the state of each optimiser; update.h has its equations.
STATE = {"sgd": "", "nesterov": "v", "adam": "mv"}


class Update(Kernel):
    """The new parameter and the new state, by the rule of an optimiser.

    The twin is the function of `ae_bn.model.optimizers` that has the rule's name.

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
