"""Choose an encoder for your own text, by comparing a few on held-out documents.

From the command line::

    ae-bn fit letters/ --out chosen
    ae-bn fit titles.csv --out chosen --words 5000

`ae_bn.commands.own_text` lists what the text may be, and `ae_bn.choosing` explains how the
candidates are compared.  FOLDER gets these files::

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

import re
import shutil
import sys
from pathlib import Path

from ae_bn.commands.command_line import command_parser
from ae_bn.commands.own_text import Input, claim, parse_options, read_input, say_empty, shown_texts

STATE = "fit.json"


def parse_arguments(arguments):
    parser = command_parser(__doc__)
    parser.add_argument(
        "--components", type=int, default=128, metavar="N", help="number of units of a code"
    )
    return parse_options(parser, arguments, "components")


def main(arguments: list[str]) -> None:
    """Fit the candidates that are not finished, and write the results of the best one."""
    options = parse_arguments(arguments)
    given = read_input(options, options.components)

    from ae_bn.choosing import BASELINE, Comparison, best, criterion, problem_of, ranked
    from ae_bn.files import atomic_write

    problem = problem_of(given.labels) if given.labels else ""
    if problem:
        print(f"the labels do not choose: {problem}", file=sys.stderr)
    labels = None if problem else given.labels
    comparison = Comparison(given.documents, labels or None, given.vectoriser, options.seed)
    claim(options.out, options.text, STATE, given.digest)
    units = comparison.units(options.components)
    print(f"{comparison.X.shape[1]} words, codes of {units} units", file=sys.stderr)
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
    _describe(model, given, options.out, options.seed)
    print(f"the model, its codes, table.csv, table.md, map.html and words.md are in {options.out}")


def _rows(comparison, options) -> list[dict]:
    """Return the row of every candidate; fit those that are not finished."""
    from tqdm import tqdm

    from ae_bn.choosing import BASELINE
    from ae_bn.files import read_json, write_json
    from ae_bn.saving import save_model

    candidates, rows = comparison.candidates(options.components, options.seed), []
    finished = [name for name in candidates if _is_finished(options.out, name)]
    if finished:
        print(f"{len(finished)} of {len(candidates)} candidates are finished", file=sys.stderr)
    bar = tqdm(candidates.items(), unit=" candidates", file=sys.stderr, disable=None)
    for name, transformer in bar:
        bar.set_postfix_str(name)
        file = _path(options.out, name)
        figures = file.with_suffix(".json")
        if name not in finished:
            if "verbose" in transformer.get_params():
                transformer.set_params(verbose=sys.stderr.isatty())
            row = comparison.fit(name, transformer)
            if name != BASELINE:
                save_model(comparison.pipeline(transformer), file)
            write_json(figures, row)
        rows.append(read_json(figures))
    return rows


def _is_finished(out: Path, name: str) -> bool:
    from ae_bn.choosing import BASELINE

    model = _path(out, name)
    return model.with_suffix(".json").exists() and (name == BASELINE or model.exists())


def _path(out: Path, name: str) -> Path:
    """Return the file of a candidate's model."""
    return out / "candidates" / f"{re.sub('[^a-z0-9.]+', '-', name.lower())}.safetensors"


def _describe(model: Path, given: Input, out: Path, seed: int) -> None:
    """Write the codes of the documents, the map and the words of a model."""
    from ae_bn.encoder import Encoder
    from ae_bn.files import atomic_write
    from ae_bn.reporting.own_text import map_page, words_table

    encoder = Encoder.load(model)
    X = given.vectoriser.transform(given.documents)
    say_empty(X)
    texts = shown_texts(given, X, encoder.words)
    encoder.store_rows(X, given.names, texts)
    codes = encoder.encode(X)
    with atomic_write(out / "words.md") as file:
        file.write(words_table(codes, X, encoder.words))
    with atomic_write(out / "map.html") as file:
        file.write(map_page(codes, texts, given.labels, seed))
