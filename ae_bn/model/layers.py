"""The layers that a config asks for, as sizes and switches, before any graph is built.

From these plans, `ae_bn.model.building` builds the layers of the graph, `ae_bn.encoder` builds its
equations in NumPy, and `ae_bn.model.model_file` derives which arrays a model has.
"""

from __future__ import annotations

from typing import NamedTuple

from ae_bn.config import ModelConfig


class LayerPlan(NamedTuple):
    """One layer: its sizes, the switches of its Batch Normalization, and its activation.

    A layer without Batch Normalization, f(x W + b), has only ``shift`` switched on.
    """

    n_in: int
    n_out: int
    center: bool  # subtract the mean
    normalize: bool  # divide by the standard deviation
    scale: bool  # multiply by a
    shift: bool  # add b
    over: str | None  # as ``model.batch_norm.over``; None where nothing is standardised
    gradient: str  # as ``model.batch_norm.gradient``
    activation: str

    @property
    def needs_statistics(self) -> bool:
        """Whether statistics of a population enter the output; with a rate per unit none do."""
        standardises = (self.center or self.normalize) and self.gradient != "rate_per_unit"
        return standardises and self.over is None

    @property
    def arrays(self) -> dict[str, tuple]:
        """The shapes of the layer's arrays by name, a W that it may share included."""
        units = (self.n_out,)
        shapes: dict[str, tuple] = {"W": (self.n_in, self.n_out)}
        if self.scale:
            shapes["a"] = units
        if self.shift:
            shapes["b"] = units
        if self.needs_statistics:
            shapes.update(mean=units, variance=units)
        return shapes


def plan_layers(config: ModelConfig, n_words: int) -> list[LayerPlan]:
    """Return the layers of a model, lowest first; the last one is the output layer.

    Parameters
    ----------
    config : ModelConfig
        The model's settings.
    n_words : int
        The size of the vocabulary.

    Returns
    -------
    list of LayerPlan
        For an autoencoder, the ``len(config.layers)`` layers of the encoder, then as many of the
        decoder, its mirror image.  For a topic model, the encoder, the head of the mean, the head
        of the log variance, and the decoder's one layer, see `ae_bn.model.topics`.
    """
    bn, topics = config.batch_norm, config.topics
    switches = [(bn.hidden, bn.scale, bn.shift)] * (len(weight_shapes(config, n_words)) - 1)
    activations = [config.hidden_activation] * len(switches)
    if topics is not None:
        scale = topics.heads == "scale_and_shift"
        switches[-2:] = [(topics.heads is not None, scale, True)] * 2
        activations[-2:] = ["softmax", "linear"]
    switches.append((bn.top, bn.scale, bn.shift))
    activations.append(config.output_activation)
    plans = []
    shapes = weight_shapes(config, n_words)
    for (n_in, n_out), (batch_norm, scale, shift), activation in zip(shapes, switches, activations):
        standardises = batch_norm and (bn.center or bn.normalize)
        plans.append(
            LayerPlan(
                n_in,
                n_out,
                center=batch_norm and bn.center,
                normalize=batch_norm and bn.normalize,
                scale=batch_norm and scale,
                shift=shift if batch_norm else True,
                over=bn.over if standardises else None,
                gradient=bn.gradient,
                activation=activation,
            )
        )
    return plans


def standardises_minibatches(config: ModelConfig) -> bool:
    """Whether Batch Normalization takes a mean or a variance over the documents of a minibatch.

    Parameters
    ----------
    config : ModelConfig
        The model's settings.
    """
    plans = plan_layers(config, n_words=1)
    return any((plan.center or plan.normalize) and plan.over is None for plan in plans)


def weight_shapes(config: ModelConfig, n_words: int) -> list[tuple[int, int]]:
    """Return the shape of every layer's W, (n_in, n_out)."""
    if config.topics is not None:
        sizes, heads = [n_words, *config.layers], (config.layers[-1], config.topics.number)
        return [*zip(sizes, sizes[1:]), heads, heads, (config.topics.number, n_words)]
    sizes = [n_words, *config.layers, *config.layers[-2::-1], n_words]
    return list(zip(sizes, sizes[1:]))


def array_shapes(config: ModelConfig, n_words: int) -> dict[str, tuple]:
    """Return the shape of every array of a trained model, by name.

    They are those of `ae_bn.model.autoencoder.Autoencoder.get_state`: ``layer1.W`` and so on.
    """
    shapes: dict[str, tuple] = {}
    for number, layer in enumerate(plan_layers(config, n_words), start=1):
        for name, shape in layer.arrays.items():
            if name == "W" and config.tied and number > len(config.layers):
                continue  # it is the encoder's
            shapes[f"layer{number}.{name}"] = shape
    return shapes


def centred_rows(W):
    """Return the rows of W, (n_topics, n_words), less the mean row; W of NumPy or of Theano."""
    return W - W.mean(axis=0)


def equal_rows(W):
    """Return the rows of W, (n_topics, n_words), scaled to one norm, with the same sum of squares.

    W is of NumPy or of Theano, and has no row of zeros.
    """
    squares = (W**2).sum(axis=1, keepdims=True)
    return W * (squares.mean() / squares) ** 0.5


# What the rows of a topic model's decoder are, by ``model.topics.output``.
TOPIC_ROWS = {"centred_rows": centred_rows, "equal_rows": equal_rows}


def decoder_rows(config: ModelConfig, W):
    """Return the rows of the decoder from its weights W: of all models but some topic models, W."""
    rows = None if config.topics is None else TOPIC_ROWS.get(config.topics.output or "")
    return W if rows is None else rows(W)
