"""The stages, losses and updates as Ops in C++, several times faster and equal up to rounding.

Each Op has its shapes and a C++ file, and its docstring has the formula or names its twin: the
stage, loss or optimiser of `ae_bn.model` that means the same.  These symbolic twins are the
definition.  Tests hold every Op equal to its twin, or to the gradient of its twin by
``theano.grad``.  `ae_bn.model.fused` gives the Ops the names of their twins:

    projection      x W of sparse documents, and its gradient
    product         x W of dense matrices
    normalization   activation(a h(g) + b) in one pass, and its gradient
    losses          from the output layer's g to the loss and all gradients, in one pass
    competition     the k-competitive layer, and its gradient
    updates         a parameter and the optimiser's state, in one pass

An Op is C++ only, so it runs compiled whatever Theano's mode.  Without a compiler an error says so
(`ae_bn.theano_setup.require_compiler`), for the symbolic graph too.

Only `ae_bn.kernels.rewrites` registers a rewrite with Theano, and only `ae_bn.model.fused` imports
it.  Theano imports the other modules by itself, in any process that finds their Ops in its cache.
"""
