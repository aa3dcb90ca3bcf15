"""Which words do topics have without output BN, with it, and with output BN that fades?

    python experiments/topic_words.py

The program fits three topic models with 50 topics to the training part of 20 Newsgroups: BN in the
heads, no dropout, and the settings of ``configs/topics.yaml``.  For every newsgroup it takes the
topic whose share in the group's documents is furthest above its share in all documents.  It writes
the top words of these topics, side by side, to ``results/topic_words.md``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.config import load_config
from ae_bn.data.corpus import Corpus, load_corpus
from ae_bn.files import atomic_write

OUT = Path("results", "topic_words.md")
OUTPUTS = {"none": False, "stays": True, "fades": "annealed"}
WORDS = 8


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the fits")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def words_by_label(model, corpus: Corpus) -> list[str]:
    """Return the top words of the topic of each label.

    Parameters
    ----------
    model : TopicAutoencoder
        A model that was fitted to the training part.
    corpus : Corpus
        The documents, as counts.
    """
    theta = model.transform(corpus.train)
    top = model.top_words(WORDS, corpus.words)
    labels = corpus.train_labels
    of_label = np.array([theta[labels == k].mean(axis=0) for k in range(len(corpus.label_names))])
    return [" ".join(top[topic]) for topic in (of_label - theta.mean(axis=0)).argmax(axis=1)]


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)

    from ae_bn import TopicAutoencoder

    corpus = load_corpus(load_config(Path("configs/topics.yaml")).data)
    table = pd.DataFrame({"newsgroup": corpus.label_names})
    for name, output in OUTPUTS.items():
        model = TopicAutoencoder(50, alpha=1.0, top_batch_norm=output, random_state=options.seed)
        table[f"output BN: {name}"] = words_by_label(model.fit(corpus.train), corpus)
    with atomic_write(OUT) as file:
        file.write(table.to_markdown(index=False) + "\n")
    print(f"{OUT} is written")


if __name__ == "__main__":
    run_program(main, "nothing is written")
