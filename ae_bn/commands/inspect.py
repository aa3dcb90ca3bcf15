"""Show what a trained model has learned: its units, its neighbours and what it misses.

From the command line::

    ae-bn inspect results/runs/RUN
    ae-bn inspect RUN --document 17
    cat letter.txt | ae-bn inspect RUN --document -

In a checkout ``python experiments/inspect_model.py`` does the same.

The program prints every code unit with its words.  Then it prints one document with its nearest
training documents and the words that its reconstruction misses most.  The document is a row of the
test part, or the whole text of a file or of standard input.  These files are written to OUT::

    units.csv  a row per code unit: words, dead, active, saturated
    map.png    the test codes in two dimensions, coloured by label

Exit code 2: something is wrong with an argument or a file, and one line says what.
"""

from __future__ import annotations

import argparse

from ae_bn.commands.command_line import OneLineParser, check_positive, path
from ae_bn.errors import UserError


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("model", type=path, metavar="RUN", help="directory or model file of a run")
    parser.add_argument("--document", default="0", metavar="ROW|FILE|-", help="document to show")
    parser.add_argument(
        "--similar", type=int, default=5, metavar="N", help="nearest documents to show"
    )
    parser.add_argument("--words", type=int, default=8, metavar="N", help="words per list")
    parser.add_argument(
        "--out", type=path, help="folder for the pictures; if not given, RUN/inspection"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    check_positive(options, "similar", "words")
    return options


def choose_document(text: str, model, corpus):
    """Return the title of a document and its row, (1, n_words)."""
    from ae_bn.reporting.inspection import describe_document

    if text.isdecimal():
        row, n = int(text), corpus.test.shape[0]
        if row >= n:
            raise UserError(f"--document {text}: the test part has rows 0 to {n - 1}")
        return describe_document(corpus, row, train=False), corpus.test[row]
    from ae_bn.data.documents import read_text

    content = read_text(text, model.config.data.encoding)
    return "the text of " + ("standard input" if text == "-" else text), model.vectorise([content])


def main(arguments: list[str]) -> None:
    """Print what the model has learned, and draw it."""
    options = parse_arguments(arguments)

    import matplotlib.pyplot as plt
    import pandas as pd

    from ae_bn.files import atomic_write
    from ae_bn.model.model_file import read_model
    from ae_bn.reporting.inspection import (
        Neighbours,
        describe_units,
        draw_map,
        most_missed,
    )

    model = read_model(options.model)
    neighbours = Neighbours(model)
    corpus = neighbours.corpus
    title, X = choose_document(options.document, model, corpus)
    folder = options.model if options.model.is_dir() else options.model.parent
    out = options.out or folder / "inspection"

    units = describe_units(model, corpus, options.words)
    for unit in units:
        print(f"unit {unit.number}: {'dead' if unit.dead else ' '.join(unit.words)}")
    print(f"{sum(unit.dead for unit in units)} of {len(units)} units are dead", end="")
    shares = [unit.saturated for unit in units if unit.saturated is not None]
    if shares:
        print(f", {sum(shares) / len(shares):.1%} of the values saturated", end="")
    print(f"\n\n{title}\nnearest:")
    for line in neighbours.nearest(model.autoencoder.encode(X), options.similar)[0]:
        print(f"  {line}")
    print("given and reconstructed weights of words,")
    for name, misses in zip(("missed most", "added most"), most_missed(model, X, options.words)):
        words = [f"{m.word} {m.given:.2f} {m.reconstructed:.2f}" for m in misses]
        print(f"{name}: {', '.join(words)}")

    table = pd.DataFrame([{**u._asdict(), "words": " ".join(u.words)} for u in units])
    with atomic_write(out / "units.csv") as file:
        table.to_csv(file, index=False)
    figure = draw_map(model, corpus)
    with atomic_write(out / "map.png", "wb") as file:
        figure.savefig(file, format="png", dpi=120)
    plt.close(figure)
    print(f"\nunits.csv and map.png are in {out}")
