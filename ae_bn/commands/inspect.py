"""Show what a trained model has learned: its units, its neighbours and what it misses.

From the command line::

    ae-bn inspect results/runs/RUN
    ae-bn inspect RUN --document 17
    cat letter.txt | ae-bn inspect RUN --document -

In a checkout ``python experiments/inspect_model.py`` does the same.

The program prints the code units with their words and the test document that has the highest
value.  It leaves out units most of whose words belong to an earlier unit.  Then it prints documents
with their nearest training documents and the words that their reconstruction misses most.  A
document is a row of the test part, or it is text of any kind that ``ae-bn encode`` reads, of which
the first documents are shown.  These files are written to OUT::

    units.csv  a row per code unit: words, dead, active, saturated, rows of test documents
    map.png    the test codes in two dimensions, coloured by label

Exit code 2: something is wrong with an argument or a file, and one line says what.
"""

from __future__ import annotations

from ae_bn.commands.command_line import check_positive, command_parser, path
from ae_bn.errors import UserError

SHOWN = 5  # documents of a text


def parse_arguments(arguments):
    parser = command_parser(__doc__)
    parser.add_argument("model", type=path, metavar="RUN", help="directory or model file of a run")
    parser.add_argument(
        "--document", default="0", metavar="ROW|FILE|DIR|-", help="document or documents to show"
    )
    parser.add_argument(
        "--similar", type=int, default=5, metavar="N", help="nearest documents to show"
    )
    parser.add_argument("--words", type=int, default=8, metavar="N", help="words per list")
    parser.add_argument(
        "--out", type=path, help="folder for the pictures; if not given, RUN/inspection"
    )
    options = parser.parse_args(arguments)
    check_positive(options, "similar", "words")
    return options


def choose_documents(text: str, model, corpus):
    """Return the titles of some documents and their rows, (n, n_words)."""
    from itertools import islice

    if text.isdecimal():
        row, n = int(text), corpus.test.shape[0]
        if row >= n:
            raise UserError(f"--document {text}: the test part has rows 0 to {n - 1}")
        title = f"{corpus.name_of('test', row)}: {corpus.main_words('test', row)}"
        return [title], corpus.test[row]
    from ae_bn.data.documents import Documents, printable
    from ae_bn.neighbours import beginning

    documents = Documents(text, model.config.data.encoding)
    found = list(islice(documents, SHOWN))
    if not found:
        reasons = "".join(f"; {remark}" for remark in documents.remarks)
        raise UserError(f"--document {text}: it holds no documents{reasons}")
    rest = sum(1 for _ in documents)
    if rest:
        print(f"{text} holds {rest} more documents, which are not shown\n")
    titles = [f"{printable(name)}: {beginning(content)}" for name, content in found]
    return titles, model.vectorise([content for _, content in found])


def main(arguments: list[str]) -> None:
    """Print what the model has learned, and draw it."""
    options = parse_arguments(arguments)

    import matplotlib.pyplot as plt
    import pandas as pd

    from ae_bn.encoder import Encoder
    from ae_bn.files import atomic_write
    from ae_bn.model.model_file import read_model, training_corpus
    from ae_bn.reporting.inspection import (
        describe_units,
        distinct,
        draw_map,
        most_missed,
    )

    model, encoder = read_model(options.model), Encoder.load(options.model)
    corpus = training_corpus(model)
    if not encoder.has_stored:
        encoder.store_training_documents()
    titles, X = choose_documents(options.document, model, corpus)
    folder = options.model if options.model.is_dir() else options.model.parent
    out = options.out or folder / "inspection"

    units = describe_units(model, corpus, options.words)
    shown = distinct(units)
    for unit in shown:
        print(f"unit {unit.number}: {' '.join(unit.words)}")
        row = unit.examples[0]
        print(f"  {corpus.name_of('test', row)}: {corpus.main_words('test', row)}")
    dead = sum(unit.dead for unit in units)
    print(
        f"{dead} of {len(units)} units are dead, {len(units) - dead - len(shown)} repeat words of "
        "those above",
        end="",
    )
    shares = [unit.saturated for unit in units if unit.saturated is not None]
    if shares:
        print(f", {sum(shares) / len(shares):.1%} of the values saturated", end="")
    print()
    similar = encoder.similar_to(X, options.similar)
    for title, x, found in zip(titles, X, similar):
        print(f"\n{title}\nnearest:")
        for s in found:
            print(f"  {s.cosine:.3f} {s.name}: {s.text}")
        if not found:
            print("  no word of the vocabulary, so nothing is similar")
        print("given and reconstructed weights of words,")
        for name, misses in zip(
            ("missed most", "added most"), most_missed(model, x, options.words)
        ):
            words = [f"{m.word} {m.given:.2f} {m.reconstructed:.2f}" for m in misses]
            print(f"{name}: {', '.join(words)}")

    table = pd.DataFrame(
        [
            {**u._asdict(), "words": " ".join(u.words), "examples": " ".join(map(str, u.examples))}
            for u in units
        ]
    )
    with atomic_write(out / "units.csv") as file:
        table.to_csv(file, index=False)
    figure = draw_map(model, corpus)
    with atomic_write(out / "map.png", "wb") as file:
        figure.savefig(file, format="png", dpi=120)
    plt.close(figure)
    print(f"\nunits.csv and map.png are in {out}")
