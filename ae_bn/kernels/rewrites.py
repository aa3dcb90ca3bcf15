"""The one rewrite: updates in place.

Theano takes no Op that overwrites its inputs in a graph it is given, so `Update` copies there.
When a function is compiled, after everything else is rewritten, the form that writes in place
takes over.  Imported by `ae_bn.kernels.stages` only: see `ae_bn.kernels`.
"""

from __future__ import annotations

from theano.compile import optdb
from theano.graph.opt import TopoOptimizer, local_optimizer

from ae_bn.kernels.updates import Update


@local_optimizer([Update], inplace=True)
def update_in_place(fgraph, node):
    """Replace an `Update` by the one that writes in place."""
    if not isinstance(node.op, Update) or node.op.inplace:
        return False
    return Update(node.op.rule, node.op.hyperparameters, inplace=True)(
        *node.inputs, return_list=True
    )


if "ae_bn_update_in_place" not in optdb.__db__:
    optdb.register(
        "ae_bn_update_in_place",
        TopoOptimizer(update_in_place, failure_callback=TopoOptimizer.warn_inplace),
        70,
        "fast_run",
        "inplace",
    )
