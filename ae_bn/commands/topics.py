"""Find the topics of your own text, with words, typical documents and a map.

From the command line::

    ae-bn topics letters/ --out found
    ae-bn topics titles.csv --out found --topics 30 --words 5000

`ae_bn.commands.own_text` lists what the text may be.  The model is `ae_bn.TopicAutoencoder` with
its defaults, which docs/topics.md explains.  Labels teach it nothing; the map shows them.  FOLDER
gets these files::

    topics.csv            a row per topic: share, coherence, words, typical documents
    topics.html           the same with the beginnings of documents, and a map of the documents
    model.safetensors     the model, for ``ae-bn encode`` and `ae_bn.Encoder`
    model-codes.safetensors  the topics' shares in the documents, for ``ae-bn encode --similar``

Exit code 2: something is wrong with an argument or the text, and one line says what; 130, 143:
interrupted.
"""

from __future__ import annotations

import sys

from ae_bn.commands.command_line import command_parser
from ae_bn.commands.own_text import claim, parse_options, read_input, say_empty, shown_texts
from ae_bn.errors import UserError

STATE = "topics.json"
STEPS, BATCHES = 50, (20, 200)  # steps of an epoch, and the sizes of minibatches that are possible


def parse_arguments(arguments):
    parser = command_parser(__doc__)
    parser.add_argument("--topics", type=int, default=50, metavar="N", help="number of topics")
    options = parse_options(parser, arguments, "topics")
    if options.topics < 2:
        raise UserError(f"--topics {options.topics}: give 2 or more")
    return options


def main(arguments: list[str]) -> None:
    """Fit the topic model, and write the topics, the page and the model."""
    options = parse_arguments(arguments)
    given = read_input(options, options.topics, of_counts=True)

    import numpy as np
    from sklearn.pipeline import make_pipeline

    from ae_bn.encoder import Encoder
    from ae_bn.files import atomic_write
    from ae_bn.reporting.own_topics import describe_topics, topics_page, topics_table
    from ae_bn.saving import save_model
    from ae_bn.topics import TopicAutoencoder

    X = _counted(given)
    claim(options.out, options.text, STATE, given.digest)
    # Small texts need small minibatches, for training has to have enough steps.
    batch_size = int(np.clip(X.shape[0] // STEPS, *BATCHES))
    own = {"random_state": options.seed, "verbose": sys.stderr.isatty()}
    model = TopicAutoencoder(options.topics, batch_size=batch_size, **own).fit(X)
    path = options.out / "model.safetensors"
    save_model(make_pipeline(given.vectoriser, model), path)
    encoder = Encoder.load(path)
    texts = shown_texts(given, X, encoder.words)
    encoder.store_rows(X, given.names, texts)
    theta = encoder.encode(X)
    topics = describe_topics(theta, X, model.components_, encoder.words)
    table = topics_table(topics, given.names)
    with atomic_write(options.out / "topics.csv") as file:
        table.to_csv(file, index=False)
    with atomic_write(options.out / "topics.html") as file:
        file.write(topics_page(topics, theta, given.names, texts, given.labels, options.seed))
    shown = table.drop(columns="documents")
    print(shown.to_markdown(index=False, floatfmt=["", ".3f", ".3f", ""]))
    print(f"\ntopics.csv, topics.html, the model and its codes are in {options.out}")


def _counted(given):
    """Return the documents as counts, (n, n_words), and say how many have no words."""
    from ae_bn.choosing import check_number, fitted_rows

    check_number(len(given.names))
    X = fitted_rows(given.vectoriser, given.documents)
    if X.shape[1] < 2:
        raise UserError("a vocabulary of 1 word: topics need at least 2 words")
    if X.nnz == 0:
        raise UserError("no document has a word: give documents with words")
    say_empty(X)
    return X
