"""Streams of a seed are separate and repeatable."""

from __future__ import annotations

from ae_bn.randomness import Streams, streams


def draws(seed):
    return {name: tuple(s.random(5)) for name, s in zip(Streams._fields, streams(seed))}


def test_same_seed_same_numbers():
    assert draws(3) == draws(3)


def test_streams_and_seeds_differ():
    every = [values for seed in range(4) for values in draws(seed).values()]
    assert len(set(every)) == 20


def test_drawing_from_one_stream_leaves_the_others():
    used, fresh = streams(5), streams(5)
    used.dropout.random(1000)
    assert used.order.random() == fresh.order.random()
