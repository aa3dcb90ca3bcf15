"""Encode raw text with a trained model.

From the command line::

    ae-bn encode --model RUN --text letters/ --out codes.npz
    ae-bn encode --model model.safetensors --text lines.txt --out codes.csv
    cat lines.txt | ae-bn encode --model RUN --text - --similar 5

In a checkout ``python experiments/encode.py`` does the same.  Only ``--similar`` needs Theano.

RUN is the directory of a run, or its model.safetensors alone.  The text is one of these: a folder
(every file in it is a document, at any depth); a table with a column ``text`` (.csv, .tsv, .jsonl,
.ndjson, .json, .parquet); any other file, or - for standard input, with one document per line.
Tables and lines may be compressed (.gz, .bz2, .xz).  Text is read in chunks, so it may be larger
than memory; only the codes for codes.npz are collected in memory.  Everything that is left out is
counted.

codes.npz holds ``codes`` (n, n_units) and ``names`` (n,).  codes.csv has a row per document.  An
existing file is replaced only if it holds codes.
Exit code 2: something is wrong with an argument or a file, and one line says what.
"""

from __future__ import annotations

import csv
import sys
from itertools import islice
from pathlib import Path

from ae_bn.commands.command_line import OneLineParser, nobody_reads, path
from ae_bn.data.documents import holds_codes, printable, read_documents
from ae_bn.errors import UserError
from ae_bn.theano_setup import require_theano

CHUNK = 1000  # documents


def parse_arguments(arguments):
    parser = OneLineParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--model", required=True, type=path, metavar="RUN", help="directory or model file of a run"
    )
    parser.add_argument(
        "--text", required=True, metavar="FILE|DIR|-", help="the documents; - is standard input"
    )
    parser.add_argument("--out", type=path, metavar="FILE", help="codes.npz or codes.csv")
    parser.add_argument(
        "--similar", type=int, default=0, metavar="N", help="print the nearest training documents"
    )
    parser.add_argument(
        "--encoding",
        help="encoding of the text; if not given, that of the model's training documents",
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    options = parser.parse_args(arguments)
    if options.out is None and options.similar == 0:
        raise UserError("nothing to do: give --out FILE, --similar N or both")
    if options.out is not None and options.out.suffix not in (".npz", ".csv"):
        raise UserError(f"--out {options.out}: end its name in .npz or .csv")
    if options.out is not None and options.out.is_dir():
        raise UserError(f"--out {options.out}: this is a folder: name a file")
    if options.out is not None and options.out.exists() and not holds_codes(options.out):
        raise UserError(
            f"--out {options.out}: this file exists, holds no codes and would be lost: name another"
        )
    if options.similar < 0:
        raise UserError(f"--similar {options.similar}: give 1 or more")
    return options


def main(arguments: list[str]) -> None:
    """Encode the documents chunk by chunk, and write their codes or print their neighbours."""
    options = parse_arguments(arguments)

    import numpy as np
    from tqdm import tqdm

    from ae_bn.config import check_encoding
    from ae_bn.encoder import Encoder
    from ae_bn.files import atomic_write, npz

    encoder = Encoder.load(options.model)
    encoding = check_encoding(options.encoding or encoder.config.data.encoding)
    documents = read_documents(options.text, encoding)
    neighbours = _neighbours(options.model) if options.similar else None
    bar = tqdm(total=len(documents.files) or None, unit=" documents", file=sys.stderr, disable=None)

    def encoded():
        """Yield names and codes, chunk by chunk."""
        n, empty = 0, 0
        while chunk := list(islice(documents, CHUNK)):
            names = [printable(document.name) for document in chunk]
            X = encoder.vectorise(document.text for document in chunk)
            codes = encoder.encode(X)
            n, empty = n + len(names), empty + int(np.sum(np.diff(X.indptr) == 0))
            if neighbours is not None:
                for name, found in zip(names, neighbours.nearest(codes, options.similar)):
                    tqdm.write("\n".join([f"{name}:", *(f"  {line}" for line in found)]))
            yield names, codes
            bar.update(len(names))
        bar.close()
        if n == 0:
            reasons = "".join(f"; {remark}" for remark in documents.remarks)
            raise UserError(f"--text {options.text}: it holds no documents{reasons}")
        print(f"{n} documents, {codes.shape[1]} units", file=sys.stderr)
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

    if options.out is None:
        for _ in encoded():
            if nobody_reads():
                return
    elif options.out.suffix == ".npz":
        with atomic_write(options.out, "wb") as file:  # fails before anything is computed
            all_names, all_codes = (np.concatenate(chunks) for chunks in zip(*encoded()))
            file.write(npz(np.savez_compressed, codes=all_codes, names=all_names))
    else:
        with atomic_write(options.out) as file:
            writer = csv.writer(file, lineterminator="\n")
            n_units = encoder.config.model.code_units
            writer.writerow(["name", *(f"unit{unit}" for unit in range(n_units))])
            for names, codes in encoded():
                writer.writerows([name, *code] for name, code in zip(names, codes.tolist()))


def _neighbours(model: Path):
    """Return an object that finds nearest training documents; it encodes them with Theano."""
    require_theano()
    from ae_bn.model.model_file import read_model
    from ae_bn.reporting.inspection import Neighbours

    return Neighbours(read_model(model))
