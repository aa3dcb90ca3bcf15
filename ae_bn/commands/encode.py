"""Encode raw text with a trained model, or find the documents that are most similar to it.

From the command line::

    ae-bn encode --model RUN --text letters/ --out codes.npz
    ae-bn encode --model model.safetensors --text letters.csv --id number --out codes.parquet
    cat lines.txt | ae-bn encode --model RUN --text - --similar 5
    ae-bn encode --model RUN --text letters/ --similar 5 --out similar.csv

In a checkout ``python experiments/encode.py`` does the same.  Nothing here needs Theano.

RUN is the directory of a run, or its model.safetensors alone.  The text is one of these: a folder
(every file in it is a document, at any depth); a table with a column ``text`` (.csv, .tsv, .jsonl,
.ndjson, .json, .parquet); any other file, or - for standard input, with one document per line.
Tables and lines may be compressed (.gz, .bz2, .xz).  Text is read in chunks, so it may be larger
than memory; only the codes for codes.npz are collected in memory, and the ids of a table.
Everything that is left out is counted.

The names of documents are the paths of files, the numbers of lines, or the cells of a table's
column ``id`` (``--id`` names another column; without one they are the numbers of rows).  codes.npz
holds ``codes`` (n, n_units) and ``names`` (n,).  codes.csv and codes.parquet (which needs the
package pyarrow) have a row per document.

``--similar`` looks for the documents whose codes are stored in ``model-codes.safetensors`` beside
the model.  ``ae-bn fit`` writes this file.  For the model of a run it is made from the training
documents, if they are available here, at the first search.  With ``--out`` the answers are written
to a .csv instead of being printed, and no codes are.

An existing file is replaced only if it was written by this command.
Exit code 2: something is wrong with an argument or a file, and one line says what.
"""

from __future__ import annotations

import csv
import io
import sys
from itertools import chain, islice

from ae_bn.commands.command_line import OneLineParser, nobody_reads, path
from ae_bn.data.documents import (
    NAMES,
    SIMILAR,
    Documents,
    holds_codes,
    import_pyarrow,
    printable,
)
from ae_bn.errors import UserError
from ae_bn.files import user_path

CHUNK = 1000  # documents
UNKNOWN = "no word of the vocabulary, so nothing is similar"


def parse_arguments(arguments):
    parser = OneLineParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--model", required=True, type=path, metavar="RUN", help="directory or model file of a run"
    )
    parser.add_argument(
        "--text", required=True, metavar="FILE|DIR|-", help="the documents; - is standard input"
    )
    parser.add_argument(
        "--out",
        type=path,
        metavar="FILE",
        help="codes.npz, codes.csv or codes.parquet; with --similar, similar.csv",
    )
    parser.add_argument(
        "--similar", type=int, default=0, metavar="N", help="find the N nearest training documents"
    )
    parser.add_argument(
        "--id", metavar="COLUMN", help="column of a table with the documents' names, instead of id"
    )
    parser.add_argument(
        "--encoding",
        help="encoding of the text; if not given, that of the model's training documents",
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    if options.out is None and options.similar == 0:
        raise UserError("nothing to do: give --out FILE, --similar N or both")
    kinds = [".csv"] if options.similar else [".npz", ".csv", ".parquet"]
    if options.out is not None and options.out.suffix not in kinds:
        answers = " for the answers of --similar" if options.similar else ""
        raise UserError(f"--out {options.out}: end its name in {' or '.join(kinds)}{answers}")
    if options.out is not None and options.out.is_dir():
        raise UserError(f"--out {options.out}: this is a folder: name a file")
    if options.out is not None and options.out.exists() and not holds_codes(options.out):
        raise UserError(
            f"--out {options.out}: this file exists, holds no codes or answers and would be lost: "
            "name another"
        )
    if options.out is not None and options.text != "-" and _is_same(options.out, options.text):
        raise UserError(f"--out {options.out}: this is the file of --text: name another")
    if options.similar < 0:
        raise UserError(f"--similar {options.similar}: give 1 or more")
    return options


def _is_same(out, text: str) -> bool:
    """Return whether two names are of one existing file."""
    source = user_path(text)
    return out.exists() and source.exists() and out.samefile(source)


def main(arguments: list[str]) -> None:
    """Encode the documents chunk by chunk, and write their codes, or find their neighbours."""
    options = parse_arguments(arguments)

    from ae_bn.config import check_encoding
    from ae_bn.encoder import Encoder

    encoder = Encoder.load(options.model)
    encoding = check_encoding(options.encoding or encoder.config.data.encoding)
    documents = Documents(options.text, encoding, options.id)
    if options.similar:
        if not encoder.has_stored:
            _store(encoder)
        answers = _similar(encoder, documents, options)
        if options.out is None:
            _print(answers)
        else:
            _write_rows(options.out, chain([SIMILAR], _rows(answers)))
    elif options.out.suffix == ".npz":
        _write_npz(options.out, _codes(encoder, documents, options))
    elif options.out.suffix == ".parquet":
        _write_parquet(options.out, _codes(encoder, documents, options), encoder)
    else:
        rows = (
            [name, *code]
            for names, codes in _codes(encoder, documents, options)
            for name, code in zip(names, codes.tolist())
        )
        _write_rows(options.out, chain([_columns(encoder)], rows))


def _chunks(encoder, documents, options):
    """Yield names and the network's input, chunk by chunk; then say what was left out."""
    import numpy as np
    from tqdm import tqdm

    bar = tqdm(total=len(documents.files) or None, unit=" documents", file=sys.stderr, disable=None)
    n, empty = 0, 0
    while chunk := list(islice(documents, CHUNK)):
        names = [printable(document.name) for document in chunk]
        X = encoder.vectorise(document.text for document in chunk)
        n, empty = n + len(names), empty + int(np.sum(np.diff(X.indptr) == 0))
        yield names, X
        bar.update(len(names))
    bar.close()
    if n == 0:
        reasons = "".join(f"; {remark}" for remark in documents.remarks)
        raise UserError(f"--text {options.text}: it holds no documents{reasons}")
    print(f"{n} documents, {encoder.config.model.code_units} units", file=sys.stderr)
    if empty:
        print(f"{empty} documents hold no word of the vocabulary", file=sys.stderr)
    if encoder.unreachable:
        print(
            f"{len(encoder.unreachable)} of {len(encoder.words)} words of the vocabulary, such "
            f"as {encoder.unreachable[0]!r:.40}, are found in no text: a matrix had them",
            file=sys.stderr,
        )
    for remark in documents.remarks:
        print(remark, file=sys.stderr)


def _codes(encoder, documents, options):
    """Yield names and codes, chunk by chunk."""
    for names, X in _chunks(encoder, documents, options):
        yield names, encoder.encode(X)


def _columns(encoder) -> list[str]:
    return [NAMES, *(f"unit{unit}" for unit in range(encoder.config.model.code_units))]


def _write_npz(out, codes) -> None:
    import numpy as np

    from ae_bn.files import atomic_write

    content = io.BytesIO()  # because savez fails in two ways at once where the disk is full
    with atomic_write(out, "wb") as file:  # fails before anything is computed
        all_names, all_codes = (np.concatenate(chunks) for chunks in zip(*codes))
        np.savez_compressed(content, codes=all_codes, names=all_names)
        file.write(content.getbuffer())


def _write_parquet(out, codes, encoder) -> None:
    from ae_bn.files import atomic_write

    pyarrow, parquet = import_pyarrow(f"to write {out}")
    dtype = pyarrow.from_numpy_dtype(encoder.layers[-1].W.dtype)
    kinds = [(column, dtype) for column in _columns(encoder)[1:]]
    schema = pyarrow.schema([(NAMES, pyarrow.string()), *kinds])
    with atomic_write(out, "wb") as file, parquet.ParquetWriter(file, schema) as writer:
        for names, chunk in codes:
            writer.write_table(pyarrow.table([names, *chunk.T], schema=schema))


def _write_rows(out, rows) -> None:
    from ae_bn.files import atomic_write

    with atomic_write(out) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _similar(encoder, documents, options):
    """Yield the name of every document, and the documents that are similar to it."""
    for names, X in _chunks(encoder, documents, options):
        yield from zip(names, encoder.similar_to(X, options.similar))


def _print(answers) -> None:
    from tqdm import tqdm

    for name, similar in answers:
        lines = [f"  {s.cosine:.3f} {s.name}: {s.text}" for s in similar] or [f"  {UNKNOWN}"]
        tqdm.write("\n".join([f"{name}:", *lines]))
        if nobody_reads():
            return


def _rows(answers):
    for name, similar in answers:
        if not similar:
            yield [name, "", "", "", UNKNOWN]
        for rank, s in enumerate(similar, start=1):
            yield [name, rank, f"{s.cosine:.4f}", s.name, s.text]


def _store(encoder) -> None:
    """Make the codes of the training documents of a run's model."""
    try:
        encoder.store_training_documents()
    except ImportError as error:
        raise UserError(
            f"no codes of known documents are stored beside {encoder.path}, and to make them needs "
            f"the package {error.name}: bring the file that `ae-bn encode --similar` writes beside "
            "the model where it was trained, or store some with Encoder.store"
        ) from None
