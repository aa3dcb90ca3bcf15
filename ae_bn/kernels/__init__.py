"""The stages once more, as Ops written in C: several times faster, and equal up to rounding.

Each module has a few Ops, each with its formula, its shapes, its C source and, in ``perform``,
the same in NumPy.  `ae_bn.model.fused` overrides the symbolic stages with them; these stay the
definition that the tests hold them to:

    projection      x W of sparse documents, and its gradient
    product         x W of dense matrices
    normalization   activation(a h(g) + b) in one pass, and its gradient
    losses          from the output layer's g to the loss and all gradients, in one pass
    competition     the k-competitive layer, and its gradient
    updates         a parameter and the optimiser's state, in one pass

Only `ae_bn.model.fused` registers a rewrite with Theano.  The other modules must not:
Theano imports them by itself, in any process that finds their Ops in its cache.
"""
