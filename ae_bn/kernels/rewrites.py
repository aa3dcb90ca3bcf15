"""The rewrite that makes kernels overwrite their inputs.

Theano accepts no Op that overwrites its inputs in a graph before compilation, so there the kernels
copy.  When a function is compiled, this rewrite comes after all others and replaces kernels by the
forms that write in place.  Only `ae_bn.model.fused` imports this module, see `ae_bn.kernels`.
"""

from __future__ import annotations

from theano.compile import optdb
from theano.graph.opt import TopoOptimizer, local_optimizer

from ae_bn.kernels.losses import Loss, Multinomial
from ae_bn.kernels.normalization import NormalizeGradient
from ae_bn.kernels.squared_error import SquaredError, SquaredErrorUpdate
from ae_bn.kernels.updates import ProjectionUpdate, RowsUpdate, Update

KERNELS = [Loss, Multinomial, SquaredError, NormalizeGradient]
KERNELS += [Update, ProjectionUpdate, RowsUpdate, SquaredErrorUpdate]


@local_optimizer(KERNELS, inplace=True)
def write_in_place(fgraph, node):
    """Replace a kernel by the form that writes in place."""
    if type(node.op) not in KERNELS or getattr(node.op, "inplace", False):
        return False
    op = node.op.in_place(fgraph, node)
    if op == node.op:
        return False
    return dict(zip(node.outputs, op(*node.inputs, return_list=True)))


if "ae_bn_write_in_place" not in optdb.__db__:
    optdb.register(
        "ae_bn_write_in_place",
        TopoOptimizer(write_in_place, failure_callback=TopoOptimizer.warn_inplace),
        70,
        "fast_run",
        "inplace",
    )
