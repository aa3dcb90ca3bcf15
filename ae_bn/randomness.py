"""One seed, five independent random streams.

Each use of randomness draws from its own stream.  Switching one off, such as dropout, leaves the
numbers of the others unchanged, so runs with the same seed are paired.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Streams(NamedTuple):
    """The streams of one run."""

    split: np.random.Generator  # which training documents are held out for validation
    initialization: np.random.Generator  # first values of W
    order: np.random.Generator  # order of the documents in every epoch
    dropout: np.random.Generator  # seeds Theano's generator of dropout masks
    sampling: np.random.Generator  # seeds the draws of absent words


def streams(seed: int) -> Streams:
    """Return the streams of a seed.

    Parameters
    ----------
    seed : int
        The seed, at least 0.

    Returns
    -------
    Streams
    """
    children = np.random.SeedSequence(seed).spawn(len(Streams._fields))
    return Streams(*map(np.random.default_rng, children))
