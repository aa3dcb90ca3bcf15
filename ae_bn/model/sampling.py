r"""Sampled reconstruction: the cost of a step depends on the words it takes, not on all words.

A minibatch contains only some of the words, but the loss is a sum over all words.  A step here
follows Dauphin, Glorot and Bengio (2011, "Large-scale learning of embeddings with reconstruction
sampling").  It takes all words that are present in the minibatch, and a uniform sample, without
replacement, of the absent words.  Each drawn word stands for n_absent / n_drawn absent words:

.. math::

    L = \sum_{j \text{ present}} L_j + \sum_{j \text{ absent}} L_j
    \approx \sum_{j \text{ present}} L_j
          + \frac{n_\text{absent}}{n_\text{drawn}} \sum_{j \text{ drawn}} L_j

A word's weight is the inverse of the probability that it is taken.  So the loss and its gradient
are unbiased: their means over all draws are those of the whole vocabulary, for any hidden layers,
with Batch Normalization or without.  The same holds with Batch Normalization of the output.  A word
is taken for all documents of the minibatch or for none, so its statistics are complete, and L_j
depends on no other word.  This would not hold if words were drawn for each document.

So a step is the step of an ordinary autoencoder with a small vocabulary: `small_vocabulary` takes
rows of W and entries of a and b, and `ae_bn.model.autoencoder.forward` is called as usual.  Only
the rows taken and their part of the optimiser's state change.  For the other rows, momentum and
Adam's m and v do not decay in this step, but Adam's t counts every step (as in the "lazy" or
"sparse" Adam of other libraries).  With plain gradient descent the update is unbiased too.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import theano.sparse as sparse
import theano.tensor as T
from theano.gradient import DisconnectedType
from theano.graph.basic import Apply
from theano.graph.op import Op


class Words(NamedTuple):
    """The words of one step."""

    numbers: T.TensorVariable  # (n_taken,), int32: those present, rising, then those drawn, rising
    columns: T.TensorVariable  # (number of non-zeros,), int32: where in numbers each word is
    n_present: T.TensorVariable  # scalar
    weights: T.TensorVariable  # (n_taken,), floatX: 1 / probability of being taken


class DrawWords(Op):
    """Draw the words of a step.

    Inputs
        state (2,), int64: a seed, and the number of draws so far;
        indices (number of non-zeros,), int32: the words of the minibatch, as in CSR
    Outputs
        those of `Words`, and the state afterwards

    Parameters
    ----------
    n_words, n_drawn : int
        Size of the vocabulary, and how many absent words are drawn (all if there are fewer).
    """

    __props__ = ("n_words", "n_drawn")

    def __init__(self, n_words, n_drawn):
        self.n_words, self.n_drawn = n_words, n_drawn

    def make_node(self, state, indices):
        inputs = [T.as_tensor_variable(state), T.as_tensor_variable(indices)]
        outputs = [T.ivector(), T.ivector(), T.lscalar(), T.vector(), inputs[0].type()]
        return Apply(self, inputs, outputs)

    def perform(self, node, inputs, outputs):
        state, indices = inputs
        seed, draws = state
        random = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, draws]))
        # A table of all words, of which only the entries of present ones are written and read.
        table, positions = np.empty(self.n_words, np.int32), np.arange(len(indices), dtype=np.int32)
        table[indices] = positions
        present = np.sort(indices[table[indices] == positions])
        table[present] = np.arange(len(present), dtype=np.int32)
        n_absent = self.n_words - len(present)
        n_drawn = min(self.n_drawn, n_absent)
        ranks = np.sort(random.choice(n_absent, n_drawn, replace=False, shuffle=False))
        # Before the absent word of rank r are as many present ones as have at most r before them.
        absent_before = present - np.arange(len(present))
        drawn = ranks + np.searchsorted(absent_before, ranks, side="right")
        weights = np.ones(len(present) + n_drawn, node.outputs[3].dtype)
        weights[len(present) :] = n_absent / max(n_drawn, 1)
        results = [np.concatenate([present, drawn]).astype(np.int32), table[indices]]
        results += [np.asarray(len(present)), weights, state + [0, 1]]
        for output, result in zip(outputs, results):
            output[0] = result

    def connection_pattern(self, node):
        return [[False] * 5] * 2

    def L_op(self, inputs, outputs, gradients):
        return [DisconnectedType()() for _ in inputs]


def draw_words(state, indices, n_words: int, n_drawn: int) -> Words:
    """Return the words of a step; every step draws new ones.

    Parameters
    ----------
    state : theano shared vector, (2,), int64
        The seed and the number of draws so far.  Each draw advances it.
    indices : theano vector, (number of non-zeros,), int32
        The words of the minibatch: the column indices of its CSR matrix.
    n_words, n_drawn : int
        The size of the vocabulary, and the number of absent words to draw (all if there are fewer).
    """
    *words, state.default_update = DrawWords(n_words, n_drawn)(state, indices)
    return Words(*words)


def small_vocabulary(layers, words: Words, data, indptr):
    """Return layers and documents restricted to the words that the step takes.

    Parameters
    ----------
    layers : list of ae_bn.model.stages.Layer
        The layers; the output layer's W is stored transposed.
    words : Words
        The words taken.
    data, indptr : theano vectors
        The values and the rows' starts of the documents, CSR.

    Returns
    -------
    layers : list of ae_bn.model.stages.Layer
    x : theano matrix, CSR, (n, n_taken), or (n, n_present) where W is not tied
    target : the same, (n, n_taken)
    """
    first, *inner, top = layers
    n_taken = words.numbers.shape[0]
    projection = top.projection.rows(words.numbers)
    normalization = copy.copy(top.batch_normalization)
    for name in ("a", "b"):
        parameter = getattr(normalization, name)
        if parameter is not None:
            setattr(normalization, name, parameter[words.numbers])
    normalization.mean = normalization.variance = T.zeros_like(words.weights)  # not used
    if top.projection.W is first.projection.W:
        encoder, n_in = type(projection)(projection.W), n_taken
    else:
        encoder, n_in = first.projection.rows(words.numbers[: words.n_present]), words.n_present
    small = [
        replace(first, projection=encoder),
        *inner,
        replace(top, projection=projection, batch_normalization=normalization),
    ]
    n = indptr.shape[0] - 1
    x, target = (
        sparse.CSR(data, words.columns, indptr, T.cast(T.stack([n, width]), "int32"))
        for width in (n_in, n_taken)
    )
    return small, x, target


def first_draw(stream):
    """Return the first state of `DrawWords`: a seed, and 0 draws.

    Parameters
    ----------
    stream : numpy Generator
        The generator that draws the seed.
    """
    return np.array([stream.integers(2**63), 0])
