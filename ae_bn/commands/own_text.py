"""What the commands about your own text share: how it is read, and the folder of the results.

The text is one of these: a folder (every file is a document; folders directly inside it are
labels); a table as for ``ae-bn encode`` with a column ``text`` and perhaps ``label``; a matrix of
word counts as `ae_bn.data.counts.read_counts` reads it (.npz); any other file, with one document
per line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from ae_bn.commands.command_line import check_positive, path
from ae_bn.data.documents import printable, suffix_of
from ae_bn.errors import UserError

MAIN = 8  # words that stand for a document of a matrix


class Input(NamedTuple):
    """The documents of a command."""

    documents: Any  # list of str, or csr_matrix of counts
    names: list  # of str
    texts: list  # of str; empty for counts
    labels: list  # of str; empty without labels, or if all documents have the same
    vectoriser: Any  # not fitted
    digest: str  # of everything that decides the results


def parse_options(parser, arguments: list[str], size: str):
    """Parse the arguments that name the text, its words and the folder of the results.

    Parameters
    ----------
    parser : OneLineParser
        The command's parser, which has the option for the size of the codes already.
    arguments : list of str
        The arguments of the command line.
    size : str
        The name of that option.

    Raises
    ------
    UserError
        For the first option with a wrong value.
    """
    parser.add_argument("text", metavar="TEXT", help="a folder, a table, a matrix or lines")
    parser.add_argument(
        "--out", required=True, type=path, metavar="FOLDER", help="folder for the results"
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
    options = parser.parse_args(arguments)
    check_positive(options, size, "words", "ngrams", "min_df")
    if options.seed < 0:
        raise UserError(f"--seed {options.seed}: give 0 or more")
    return options


def read_input(options, size: int, of_counts: bool = False) -> Input:
    """Read the documents that the options name, and say what was read.

    Parameters
    ----------
    options : argparse.Namespace
        The options, see `parse_options`.
    size : int
        The size of the codes, which decides the results, too.
    of_counts : bool
        Whether the vectoriser gives counts of words, not TF-IDF rows.
    """
    import ae_bn
    from ae_bn.choosing import CountWeights, text_vectoriser
    from ae_bn.config import check_encoding
    from ae_bn.data.counts import read_matrix
    from ae_bn.data.sources import read_labelled
    from ae_bn.files import fingerprint, user_path

    kind = "as_is" if of_counts else "tfidf"
    settings: list = [ae_bn.__version__, size, options.words, options.seed]
    words = options.token_pattern, (1, options.ngrams), options.min_df
    if suffix_of(options.text) == ".npz":
        if (words, options.id) != ((None, (1, 1), 1), None):
            raise UserError(
                f"{printable(options.text)}: a matrix has its words already: leave out "
                "--token-pattern, --ngrams, --min-df and --id"
            )
        matrix = read_matrix(user_path(options.text).absolute())
        documents: Any = matrix.X
        names = list(map(str, range(1, matrix.X.shape[0] + 1)))
        texts, remarks = [], matrix.remarks
        labels = [matrix.label_names[label] for label in matrix.labels if matrix.label_names]
        vectoriser: Any = CountWeights(matrix.words, options.words, kind)
        content = [array.tolist() for array in (matrix.X.data, matrix.X.indices, matrix.X.indptr)]
        digest = fingerprint([*settings, matrix.words, labels, content])
    else:
        encoding = check_encoding(options.encoding)
        names, texts, labels, _, remarks = read_labelled(options.text, encoding, options.id)
        documents = texts
        vectoriser = text_vectoriser(options.words, *words, kind=kind)
        digest = fingerprint([*settings, texts, labels, words])
    for remark in remarks:
        print(remark, file=sys.stderr)
    n_labels = len(set(labels))
    print(f"{len(names)} documents, {n_labels or 'no'} labels", file=sys.stderr)
    if n_labels == 1:
        print("all documents have one label, which is ignored", file=sys.stderr)
        labels = []
    return Input(documents, names, texts, labels, vectoriser, digest)


def claim(out: Path, text: str, state: str, input_digest: str) -> None:
    """Make the folder of the results, or raise a UserError if it belongs to something else.

    Parameters
    ----------
    out : Path
        The folder.
    text : str
        The source of the text, which may not hold the folder.
    state : str
        The name of the file in the folder that keeps the hash.
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
    if (out / state).exists():
        if read_json(out / state) != {"input": input_digest}:
            raise UserError(
                f"--out {out}: it holds results of other text or other options: name another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"--out {out}: it holds other files: name a new folder")
    else:
        write_json(out / state, {"input": input_digest})


def say_empty(X) -> None:
    """Say how many documents, csr_matrix (n, n_words), have no word of the vocabulary."""
    n_empty = X.shape[0] - int((X.getnnz(axis=1) > 0).sum())
    if n_empty:
        print(f"{n_empty} documents have no word of the vocabulary", file=sys.stderr)


def shown_texts(given: Input, X, words: list) -> list[str]:
    """Return what to show of each document: its beginning, or of counts its main words.

    Parameters
    ----------
    given : Input
        The documents.
    X : csr_matrix, (n, n_words)
        The same documents as rows of the vectoriser.
    words : list of str, (n_words,)
        The vocabulary.
    """
    from ae_bn.neighbours import beginning

    if given.texts:
        return list(map(beginning, given.texts))
    return [_main_words(x, words) for x in X]


def _main_words(x, words: list) -> str:
    """Return the words of most weight of a document, csr_matrix (1, n_words)."""
    return " ".join(words[x.indices[i]] for i in (-x.data).argsort(kind="stable")[:MAIN])
