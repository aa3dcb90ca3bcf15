r"""A trained model as one file: all that turns raw text into codes, and nothing that is executed.

``model.safetensors`` holds the arrays of `ae_bn.autoencoder.Autoencoder.get_state`, named
``layer1.W``, ``layer1.a``, ``layer1.b``, ``layer1.mean``, ``layer1.variance``, ``layer2.W`` and so
on (those that the config switches on; mean and variance are the population statistics; a tied
decoder has no W).  Its metadata has two strings: ``facts``, a JSON object ::

    format         "ae_bn model 1"
    config         the settings of the run, by section, as in configs/defaults.yaml
    words          the vocabulary, in the order of the rows of layer1.W
    idf            inverse document frequencies, in the same order
    token_pattern  the regular expression that cuts lower-case text into words (composed accents,
                   no soft hyphens; see `ae_bn.tokens`)
    source         where the training documents came from
    fingerprint    of the training documents (`ae_bn.data.Corpus`)

and ``sha256``, a checksum over facts and arrays (`ae_bn.files`).  Any reader of safetensors will
do.  This is the whole encoder, of one ReLU layer with Batch Normalization on binary input::

    import json, re, unicodedata
    import numpy as np
    from safetensors import safe_open

    with safe_open("model.safetensors", "numpy") as file:
        facts = json.loads(file.metadata()["facts"])
        p = {name: file.get_tensor(name) for name in file.keys()}
    row = {word: number for number, word in enumerate(facts["words"])}
    text = unicodedata.normalize("NFC", text.lower()).replace("\u00ad", "")
    found = set(re.findall(facts["token_pattern"], text)) & set(row)
    g = sum((p["layer1.W"][row[word]] for word in found), np.zeros(len(p["layer1.b"])))
    epsilon = facts["config"]["model"]["batch_norm"]["epsilon"]
    h = (g - p["layer1.mean"]) / np.sqrt(p["layer1.variance"] + epsilon)
    code = np.maximum(0, p["layer1.a"] * h + p["layer1.b"])
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.sparse import csr_matrix

import ae_bn
from ae_bn.autoencoder import Autoencoder, weight_shapes
from ae_bn.config import Config, complete
from ae_bn.data import Corpus, count_words, prepare_corpus, read_corpus, weigh
from ae_bn.errors import UserError
from ae_bn.files import read_arrays, read_facts, read_header, write_arrays
from ae_bn.tokens import LETTERS_ONLY, TOKEN_PATTERN

NAME = "model.safetensors"
FORMAT = "ae_bn model 1"


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: str
    config: dict
    words: list
    idf: list
    token_pattern: str
    source: str
    fingerprint: str


class Model(NamedTuple):
    """A trained autoencoder with all that it takes to use it on text."""

    autoencoder: Autoencoder
    config: Config
    words: list  # of str
    idf: np.ndarray  # (n_words,)
    source: str
    fingerprint: str
    token_pattern: str  # a model cuts text as the one that trained it

    def vectorise(self, texts: list[str]) -> csr_matrix:
        """Return the autoencoder's input, (n, n_words), for raw texts."""
        counts = count_words(texts, self.words, self.token_pattern)
        return weigh(counts, self.config.data.input, self.idf)

    def training_corpus(self) -> Corpus:
        """Return the documents it was trained on, from the cache or their source.

        Raises
        ------
        UserError
            If they cannot be had here, or are others.
        """
        corpus = read_corpus(prepare_corpus(self.config.data, progress=lambda line: None))
        if corpus.fingerprint != self.fingerprint:
            raise UserError(
                f"{corpus.source} here is another corpus (fingerprint {corpus.fingerprint[:10]}) "
                f"than the model's, {self.source} ({self.fingerprint[:10]}): give it the same"
            )
        return corpus


def write_model(path: Path, autoencoder: Autoencoder, config: Config, corpus: Corpus) -> None:
    """Write a trained model's file, atomically.

    Parameters
    ----------
    path : Path
    autoencoder : Autoencoder
    config : Config
        Of the run.
    corpus : Corpus
        That it was trained on.
    """
    facts = {
        "format": FORMAT,
        "config": config.run_settings(),
        "words": corpus.words,
        "idf": corpus.idf.tolist(),
        "token_pattern": TOKEN_PATTERN,
        "source": corpus.source,
        "fingerprint": corpus.fingerprint,
    }
    write_arrays(path, autoencoder.get_state(), facts)


def read_model(path: Path) -> Model:
    """Return the trained model in a file, or in a run's directory, whoever made it.

    Nothing in it is executed; the sizes it claims are checked before anything is allocated.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UserError
        If the file is missing, damaged, or not consistent.
    """
    if path.is_dir():
        if not (path / NAME).exists():
            raise UserError(f"{path} holds no {NAME}: name a finished run that trained a model")
        path = path / NAME
    config, facts = _checked_facts(path)
    header, n_words = read_header(path), len(facts.words)
    for number, shape in enumerate(weight_shapes(config.model, n_words), start=1):
        tied = config.model.tied and number > len(config.model.layers)
        if not tied and header.get(f"layer{number}.W", ("", ()))[1] != shape:
            raise UserError(f"{path}: layer{number}.W does not fit its config and vocabulary")
    autoencoder = Autoencoder(
        config.model, config.training.optimizer, n_words, config.theano.kernels
    )
    arrays, _ = read_arrays(path, autoencoder.get_state())
    autoencoder.set_state(arrays)
    return Model(
        autoencoder,
        config,
        facts.words,
        np.array(facts.idf),
        facts.source,
        facts.fingerprint,
        facts.token_pattern,
    )


def _checked_facts(path):
    try:
        facts = _Facts.model_validate(read_facts(path))
        if facts.format != FORMAT or facts.token_pattern not in (TOKEN_PATTERN, LETTERS_ONLY):
            raise ValueError("of another version")
        config = complete(facts.config)
        words = facts.words
        if not words or len(set(words)) < len(words) or not all(type(w) is str for w in words):
            raise ValueError("no vocabulary")
        if len(facts.idf) != len(words) or not all(type(number) is float for number in facts.idf):
            raise ValueError("idf does not fit the vocabulary")
    except (ValidationError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a model of ae_bn {ae_bn.__version__}") from None
    return config, facts
