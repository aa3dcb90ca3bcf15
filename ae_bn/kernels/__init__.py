"""The stages, losses and updates as Ops in C++, several times faster and equal up to rounding.

Each Op has its shapes, a C++ file with its formula and, in ``perform``, the same computation in
NumPy.  `ae_bn.model.fused` gives the Ops the names of the symbolic stages.  The symbolic stages are
the definition, and tests hold the Ops equal to them:

    projection      x W of sparse documents, and its gradient
    product         x W of dense matrices
    normalization   activation(a h(g) + b) in one pass, and its gradient
    losses          from the output layer's g to the loss and all gradients, in one pass
    competition     the k-competitive layer, and its gradient
    updates         a parameter and the optimiser's state, in one pass

Only `ae_bn.kernels.rewrites` registers a rewrite with Theano, and only `ae_bn.model.fused` imports
it.  Theano imports the other modules by itself, in any process that finds their Ops in its cache.
"""
