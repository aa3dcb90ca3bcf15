"""The layers that a config asks for, made from the stages of its kernels."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import theano

from ae_bn.config import ModelConfig
from ae_bn.model.fused import KERNELS
from ae_bn.model.layers import plan_layers
from ae_bn.model.stages import ACTIVATIONS, Layer


def build_layers(
    config: ModelConfig, n_words: int, kernels: str, many_documents: bool = True
) -> list[Layer]:
    """Return the layers of a model, as `ae_bn.model.layers.plan_layers` plans them.

    Parameters
    ----------
    config : ModelConfig
        The model's settings.
    n_words : int
        The size of the vocabulary.
    kernels : {"fused", "symbolic"}
        The implementation of the stages: Ops in C, or plain Theano.
    many_documents : bool
        Whether minibatches have enough documents for the kernel of `ae_bn.kernels.squared_error`.

    Returns
    -------
    list of Layer
        The layers, lowest first; the last one is the output layer.
    """
    ops, depth = KERNELS[kernels], len(config.layers)
    layers: list[Layer] = []
    plans = plan_layers(config, n_words)
    for number, plan in enumerate(plans, start=1):
        n_in, n_out = plan.n_in, plan.n_out
        if config.tied and number > depth:
            W, transposed = layers[2 * depth - number].projection.W, True
        else:
            # Sampling takes the values of some words.  Only as rows are they contiguous in memory.
            by_rows = many_documents and ops.stores_rows(plan, config.loss)
            transposed = number == len(plans) and (config.sampling is not None or by_rows)
            shape = (n_out, n_in) if transposed else (n_in, n_out)
            W = theano.shared(np.zeros(shape, theano.config.floatX), name=f"W{number}")
        bn = ops.normalization(plan.over)(
            n_out,
            center=plan.center,
            normalize=plan.normalize,
            scale=plan.scale,
            shift=plan.shift,
            epsilon=config.batch_norm.epsilon,
            gradient=plan.gradient,
        )
        layer = ACTIVATIONS[plan.activation](bn | ops.Projection(W, transposed))
        if number == depth and config.competition is not None:
            compete = partial(ops.compete, **config.competition.model_dump())
            layer = replace(layer, competition=compete)
        layers.append(layer)
    return layers


def parameters_of(layers: list[Layer]) -> list:
    """Return W, a and b of every layer, where they exist; a tied W once."""
    return list(dict.fromkeys(p for layer in layers for p in layer.parameters.values()))
