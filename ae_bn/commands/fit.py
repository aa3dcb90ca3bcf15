"""Choose an encoder for your own text, by comparing a few on held-out documents.

From the command line::

    ae-bn fit letters/ --out chosen
    ae-bn fit titles.csv --out chosen --words 5000

The text is one of these: a folder (every file in it is a document; folders inside it are labels);
a table as for ``ae-bn encode`` with a column ``text`` and perhaps ``label``; a matrix of word
counts as `ae_bn.data.counts.read_counts` reads it (.npz); any other file, with one document per
line.  `ae_bn.choosing` explains how the candidates are compared.  FOLDER gets
these files::

    table.csv, table.md   a row per candidate, the best first
    model.safetensors     the best candidate, for ``ae-bn encode`` and `ae_bn.Encoder`
    model-codes.safetensors  its codes of the documents, for ``ae-bn encode --similar``
    map.html              documents in two dimensions; the pointer shows their first words
    words.md              the most typical words of each unit
    candidates/           every candidate's model and figures

Finished candidates are skipped, so the same command resumes after an interruption.
Exit code 2: something is wrong with an argument or the text, and one line says what; 130, 143:
interrupted.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ae_bn.commands.command_line import OneLineParser, check_positive, path
from ae_bn.data.documents import printable, suffix_of
from ae_bn.errors import UserError

STATE = "fit.json"
MAIN = 8  # words that stand for a document of a matrix


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("text", metavar="TEXT", help="a folder, a table, a matrix or lines")
    parser.add_argument(
        "--out", required=True, type=path, metavar="FOLDER", help="folder for the results"
    )
    parser.add_argument(
        "--components", type=int, default=128, metavar="N", help="number of units of a code"
    )
    parser.add_argument("--words", type=int, default=2000, metavar="N", help="size of vocabulary")
    parser.add_argument(
        "--token-pattern",
        metavar="REGEX",
        help="what a word is in lower-case text, such as '\\b\\w\\w+\\b'; if not given, letters",
    )
    parser.add_argument(
        "--ngrams", type=int, default=1, metavar="N", help="most words that are counted as one"
    )
    parser.add_argument(
        "--min-df", type=int, default=1, metavar="N", help="fewest documents that a word is in"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of everything that is random")
    parser.add_argument(
        "--id", metavar="COLUMN", help="column of a table with the documents' names, instead of id"
    )
    parser.add_argument("--encoding", default="utf-8", help="encoding of the text")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    check_positive(options, "components", "words", "ngrams", "min_df")
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: give 0 or more")
    return options


class Input(NamedTuple):
    """The documents of a command."""

    documents: Any  # list of str, or csr_matrix of counts
    names: list  # of str
    texts: list  # of str; empty for counts
    labels: list  # of str; empty without labels
    remarks: list  # of str
    vectoriser: Any  # not fitted
    digest: str  # of everything that decides the results


def read_input(options) -> Input:
    """Read the documents that the options name."""
    import ae_bn
    from ae_bn.choosing import CountWeights, text_vectoriser
    from ae_bn.config import check_encoding
    from ae_bn.data.counts import read_matrix
    from ae_bn.data.sources import read_labelled
    from ae_bn.files import fingerprint, user_path

    settings: list = [ae_bn.__version__, options.components, options.words, options.seed]
    if suffix_of(options.text) == ".npz":
        if (options.token_pattern, options.ngrams, options.min_df, options.id) != (
            None,
            1,
            1,
            None,
        ):
            raise UserError(
                f"{printable(options.text)}: a matrix has its words already: leave out "
                "--token-pattern, --ngrams, --min-df and --id"
            )
        matrix = read_matrix(user_path(options.text).absolute())
        names = list(map(str, range(1, matrix.X.shape[0] + 1)))
        labels = [matrix.label_names[label] for label in matrix.labels if matrix.label_names]
        vectoriser = CountWeights(matrix.words, options.words)
        content = [array.tolist() for array in (matrix.X.data, matrix.X.indices, matrix.X.indptr)]
        digest = fingerprint([*settings, matrix.words, labels, content])
        return Input(matrix.X, names, [], labels, matrix.remarks, vectoriser, digest)
    encoding = check_encoding(options.encoding)
    names, texts, labels, remarks = read_labelled(options.text, encoding, options.id)
    words = options.token_pattern, (1, options.ngrams), options.min_df
    vectoriser = text_vectoriser(options.words, *words)
    digest = fingerprint([*settings, texts, labels, words])
    return Input(texts, names, texts, labels, remarks, vectoriser, digest)


def claim(out: Path, text: str, input_digest: str) -> None:
    """Make the folder of the results, or raise a UserError if it belongs to something else.

    Parameters
    ----------
    out : Path
        The folder.
    text : str
        The source of the text, which may not hold the folder.
    input_digest : str
        A hash of everything that decides the results.
    """
    from ae_bn.files import read_json, user_path, write_json

    place = out.resolve()
    if text != "-" and user_path(text).resolve() in (place, *place.parents):
        raise UserError(
            f"--out {out}: it lies in {printable(text)}, and results would be read as documents: "
            "name a folder outside"
        )
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: this is a file: name a folder")
    if (out / STATE).exists():
        if read_json(out / STATE) != {"input": input_digest}:
            raise UserError(
                f"--out {out}: it holds results of other text or other options: name another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: it holds other files: name a new folder")
    else:
        write_json(out / STATE, {"input": input_digest})


def main(arguments: list[str]) -> None:
    """Fit the candidates that are not finished, and write the results of the best one."""
    options = parse_arguments(arguments)
    given = read_input(options)
    for remark in given.remarks:
        print(remark, file=sys.stderr)
    labels, n_labels = given.labels, len(set(given.labels))
    print(f"{len(given.names)} documents, {n_labels or 'no'} labels", file=sys.stderr)
    if n_labels == 1:
        print("all documents have one label, which is ignored", file=sys.stderr)
        labels = []

    from ae_bn.choosing import BASELINE, Comparison, best, criterion, ranked
    from ae_bn.files import atomic_write

    comparison = Comparison(given.documents, labels or None, given.vectoriser, options.seed)
    claim(options.out, options.text, given.digest)
    table = ranked(_rows(comparison, options))
    chosen, column = best(table), criterion(table)
    with atomic_write(options.out / "table.csv") as file:
        table.to_csv(file, index=False)
    shown = table.to_markdown(index=False, floatfmt=[""] + [".3f"] * (table.shape[1] - 2) + [".1f"])
    with atomic_write(options.out / "table.md") as file:
        file.write(shown + "\n")
    print(shown)
    print(f"\nchosen by {column} on held-out documents: {chosen}")
    scores = table.set_index("candidate")[column]
    if scores[BASELINE] > scores[chosen]:
        print(f"{BASELINE} itself is better: use it if long sparse rows will do")
    model = options.out / "model.safetensors"
    with atomic_write(model, "wb") as file, open(_path(options.out, chosen), "rb") as written:
        shutil.copyfileobj(written, file)
    _describe(model, given, labels, options)
    print(f"the model, its codes, table.csv, table.md, map.html and words.md are in {options.out}")


def _rows(comparison, options) -> list[dict]:
    """Return the row of every candidate; fit those that are not finished."""
    from tqdm import tqdm

    from ae_bn.choosing import BASELINE
    from ae_bn.files import read_json, write_json
    from ae_bn.saving import save_model

    candidates, rows = comparison.candidates(options.components, options.seed), []
    finished = [n for n in candidates if _path(options.out, n).with_suffix(".json").exists()]
    if finished:
        print(f"{len(finished)} of {len(candidates)} candidates are finished", file=sys.stderr)
    bar = tqdm(candidates.items(), unit=" candidates", file=sys.stderr, disable=None)
    for name, transformer in bar:
        bar.set_postfix_str(name)
        file = _path(options.out, name)
        figures = file.with_suffix(".json")
        if not figures.exists():
            if "verbose" in transformer.get_params():
                transformer.set_params(verbose=sys.stderr.isatty())
            row = comparison.fit(name, transformer)
            if name != BASELINE:
                save_model(comparison.pipeline(transformer), file)
            write_json(figures, row)
        rows.append(read_json(figures))
    return rows


def _main_words(x, words: list) -> str:
    """Return the words of most weight of a document, csr_matrix (1, n_words)."""
    return " ".join(words[x.indices[i]] for i in (-x.data).argsort(kind="stable")[:MAIN])


def _path(out: Path, name: str) -> Path:
    """Return the file of a candidate's model."""
    return out / "candidates" / f"{re.sub('[^a-z0-9.]+', '-', name.lower())}.safetensors"


def _describe(model: Path, given: Input, labels: list, options) -> None:
    """Write the codes of the documents, the map and the words of a model."""
    from ae_bn.encoder import Encoder
    from ae_bn.files import atomic_write
    from ae_bn.neighbours import beginning
    from ae_bn.reporting.own_text import map_page, words_table

    encoder = Encoder.load(model)
    X = given.vectoriser.transform(given.documents)
    texts = given.texts or [_main_words(x, encoder.words) for x in X]
    encoder.store_rows(X, given.names, list(map(beginning, texts)))
    codes = encoder.encode(X)
    with atomic_write(options.out / "words.md") as file:
        file.write(words_table(codes, X, encoder.words))
    with atomic_write(options.out / "map.html") as file:
        file.write(map_page(codes, texts, labels, options.seed))
