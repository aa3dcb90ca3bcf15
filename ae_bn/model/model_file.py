r"""A trained model as one file: everything needed to encode raw text, and no executable code.

``model.safetensors`` holds the arrays of `ae_bn.model.autoencoder.Autoencoder.get_state`, named
``layer1.W``, ``layer1.a``, ``layer1.b``, ``layer1.mean``, ``layer1.variance``, ``layer2.W`` and so
on (those that the config switches on; mean and variance are the population statistics; a tied
decoder has no W).  Its metadata has two strings: ``facts``, a JSON object ::

    format         "ae_bn model 1"
    config         the settings of the run, by section, as in ae_bn/defaults.yaml
    words          the vocabulary, in the order of the rows of layer1.W
    idf            inverse document frequencies, in the same order
    token_pattern  the regular expression that cuts lower-case text into words (composed accents,
                   no soft hyphens inside; see `ae_bn.data.words`; or as it is, if it is the
                   config's data.token_pattern); if the config has data.stem or data.ngram_range,
                   stop words are left out next, the others are stemmed, and sequences are made
    stop_words     the words that are left out, where this is needed
    source         where the training documents came from
    fingerprint    of the training documents (`ae_bn.data.corpus.Corpus`)

and ``sha256``, a checksum over facts and arrays (`ae_bn.files`).  Any safetensors library can read
the file.  This is the whole encoder for one ReLU layer with Batch Normalization and binary input::

    import json, re, unicodedata
    import numpy as np
    from safetensors import safe_open

    with safe_open("model.safetensors", "numpy") as file:
        facts = json.loads(file.metadata()["facts"])
        p = {name: file.get_tensor(name) for name in file.keys()}
    row = {word: number for number, word in enumerate(facts["words"])}
    text = unicodedata.normalize("NFC", text.lower())
    text = re.sub(r"(?<=\S\S)\u00ad|\u00ad(?=\S\S)", "", text)
    found = set(re.findall(facts["token_pattern"], text)) & set(row)
    g = sum((p["layer1.W"][row[word]] for word in found), np.zeros(len(p["layer1.b"])))
    epsilon = facts["config"]["model"]["batch_norm"]["epsilon"]
    h = (g - p["layer1.mean"]) / np.sqrt(p["layer1.variance"] + epsilon)
    code = np.maximum(0, p["layer1.a"] * h + p["layer1.b"])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.sparse import csr_matrix

from ae_bn.config import Config, DataConfig, complete, load_config
from ae_bn.data.words import (
    LETTERS_ONLY,
    TOKEN_PATTERN,
    count_words,
    stop_words_of,
    weigh,
    word_splitter,
)
from ae_bn.errors import UserError
from ae_bn.files import read_arrays, read_facts, read_header, user_path, write_arrays
from ae_bn.model.layers import array_shapes

if TYPE_CHECKING:  # `ae_bn.encoder` reads files where there is no Theano
    from ae_bn.data.corpus import Corpus
    from ae_bn.model.autoencoder import Autoencoder

NAME = "model.safetensors"
FORMAT = "ae_bn model 1"
OWN = TEXTS, COUNTS = "texts", "counts"  # the source of a model that no run has trained


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    format: str
    config: dict
    words: list
    idf: list
    token_pattern: str
    source: str
    fingerprint: str
    stop_words: list = []


@dataclass(frozen=True)
class Model:
    """A trained model: what its file holds, with all that it takes to use it on text."""

    config: Config
    words: list  # of str
    idf: np.ndarray  # (n_words,)
    source: str  # of the training documents
    fingerprint: str  # of the training documents
    token_pattern: str  # the pattern that cut them into words
    arrays: dict  # of ndarray, all float32 or all float64, as `Autoencoder.get_state`
    stop_words: list | None = None  # of str, where encoding needs them

    def vectorise(self, texts: Iterable[str]) -> csr_matrix:
        """Return the model's input, (n, n_words), for raw texts."""
        data, pattern = self.config.data, self.token_pattern
        return vectorise(texts, self.words, self.idf, data, pattern, self.stop_words)

    @cached_property
    def autoencoder(self) -> Autoencoder:
        """The model as a Theano graph; a UserError if its precision is not Theano's floatX."""
        import theano

        from ae_bn.model.topics import kind

        config, dtype = self.config, str(self.arrays["layer1.W"].dtype)
        if dtype != theano.config.floatX:
            raise UserError(f"this is a model in {dtype}: set THEANO_FLAGS=floatX={dtype}")
        optimizer, kernels = config.training.optimizer, config.theano.kernels
        autoencoder = kind(config.model)(config.model, optimizer, len(self.words), kernels)
        autoencoder.set_state(self.arrays)
        return autoencoder


class Vocabulary(NamedTuple):
    """What a file says about the documents of a model, for documents that are not a `Corpus`."""

    words: list  # of str
    idf: np.ndarray  # of float64, (n_words,)
    source: str
    fingerprint: str


def vectorise(
    texts: Iterable[str],
    words: list[str],
    idf: np.ndarray,
    data: DataConfig,
    token_pattern: str = TOKEN_PATTERN,
    stop_words: list[str] | None = None,
) -> csr_matrix:
    """Return a model's input for raw texts.

    Parameters
    ----------
    texts : iterable of str
        The documents.
    words : list of str
        The model's vocabulary.
    idf : ndarray of float64, (n_words,)
        The model's inverse document frequencies.
    data : DataConfig
        The settings of the data that the model was trained on.
    token_pattern : str
        The pattern that cut its training documents into words, see `ae_bn.data.words.split_words`.
    stop_words : list of str, optional
        The words that ``data.stop_words`` names, where a file has them.

    Returns
    -------
    csr_matrix of float32, (n_texts, n_words)
    """
    left_out = (stop_words or data.stop_words) if _needs_stop_words(data) else "none"
    split = word_splitter(left_out, data.stem, token_pattern, data.ngram_range)
    return weigh(count_words(texts, words, split), data.input, idf)


def _needs_stop_words(data: DataConfig) -> bool:
    """Return whether encoding leaves out stop words.

    Of single words that are not stemmed, none is in the vocabulary, unless it is a matrix's, whose
    words stay.
    """
    return bool(data.stem or data.ngram_range)


def training_corpus(model: Model) -> Corpus:
    """Return the corpus that a model was trained on, from the cache or its source.

    Raises
    ------
    UserError
        If the model was fitted on documents of your own, or if the corpus is not available here or
        differs from the one that trained the model.
    """
    from ae_bn.data.corpus import prepare_corpus, read_corpus

    if model.source in OWN:
        raise UserError(
            f"this model was fitted on {model.source} of your own, which cannot be read again: "
            "give the model of a run, or store codes of documents with ae_bn.Encoder.store"
        )

    corpus = read_corpus(prepare_corpus(model.config.data, progress=lambda line: None))
    if corpus.fingerprint != model.fingerprint:
        raise UserError(
            f"{corpus.source} here is another corpus (fingerprint {corpus.fingerprint[:10]}) "
            f"than the model's, {model.source} ({model.fingerprint[:10]}): provide the same one"
        )
    return corpus


def write_linear(
    path: Path,
    encoder: np.ndarray,
    decoder: np.ndarray,
    config: Config,
    corpus: Corpus | Vocabulary,
) -> None:
    """Write a linear method, such as `ae_bn.denoiser`, as an autoencoder with linear layers.

    Parameters
    ----------
    path : Path
        The file to write, atomically.
    encoder, decoder : ndarray, (n_words, n_units) and (n_units, n_words)
        Its matrices, which the file holds in float32.
    config : Config
        The settings of the run, whose data and masking are those of the method.
    corpus : Corpus or Vocabulary
        What it was fitted on.
    """
    n_words, n_units = encoder.shape
    linear = load_config().replace(
        {
            "data": config.data.model_dump(),
            "model.dropout": config.model.dropout.model_dump(),
            "model.layers": [n_units],
            "model.hidden_activation": "linear",
            "model.output_activation": "linear",
            "model.loss": "squared_error",
            "model.batch_norm.hidden": False,
        }
    )
    arrays = {"layer1.W": encoder, "layer1.b": np.zeros(n_units)}
    arrays.update({"layer2.W": decoder, "layer2.b": np.zeros(n_words)})
    contiguous = {name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()}
    write_model(path, contiguous, linear, corpus)


def write_model(path: Path, parameters: dict, config: Config, corpus: Corpus | Vocabulary) -> None:
    """Write the parameters of a model to a file, atomically.

    Parameters
    ----------
    path : Path
        The file to write.
    parameters : dict of str to ndarray
        The parameters, see `Autoencoder.get_state`.
    config : Config
        The settings of the model and of its documents.
    corpus : Corpus or Vocabulary
        What it was trained on.
    """
    facts = {
        "format": FORMAT,
        "config": config.run_settings(),
        "words": corpus.words,
        "idf": corpus.idf.tolist(),
        "token_pattern": config.data.token_pattern or TOKEN_PATTERN,
        "source": corpus.source,
        "fingerprint": corpus.fingerprint,
    }
    if _needs_stop_words(config.data):
        facts["stop_words"] = sorted(stop_words_of(config.data.stop_words))
    write_arrays(path, parameters, facts)


def model_path(path: Path) -> Path:
    """Return the file of a model, which is named itself or by its directory."""
    path = user_path(path)
    if path.is_dir():
        if not (path / NAME).exists():
            raise UserError(f"{path} holds no {NAME}: name a finished run that trained a model")
        path = path / NAME
    return path


def read_model(path: Path) -> Model:
    """Return the trained model in a file.

    The file can come from anyone: nothing in it is executed, and the sizes that it claims are
    checked before memory is allocated.

    Parameters
    ----------
    path : Path
        The file, or the directory of the run that wrote it.

    Raises
    ------
    UserError
        If the file is missing, damaged, or not consistent, or if its training diverged and left
        values that are not finite.
    """
    path = model_path(path)
    config, facts = _checked_facts(path)
    dtype, _ = read_header(path).get("layer1.W", ("", ()))
    dtype = "float64" if dtype == "float64" else "float32"
    shapes = array_shapes(config.model, len(facts.words))
    arrays, _ = read_arrays(path, {name: (dtype, shape) for name, shape in shapes.items()})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"{path}: {name} has values that are not finite: its training diverged; train it "
                "again with a lower training.learning_rate"
            )
    return Model(
        config,
        facts.words,
        np.array(facts.idf),
        facts.source,
        facts.fingerprint,
        facts.token_pattern,
        arrays,
        facts.stop_words,
    )


def _checked_facts(path):
    try:
        facts = _Facts.model_validate(read_facts(path))
        if facts.format != FORMAT:
            raise ValueError("of another version")
        config = complete(facts.config)
        patterns = [config.data.token_pattern]
        patterns = [TOKEN_PATTERN, LETTERS_ONLY] if patterns == [None] else patterns
        if facts.token_pattern not in patterns:
            raise ValueError("of another version")
        words = facts.words
        if not words or len(set(words)) < len(words) or not all(type(w) is str for w in words):
            raise ValueError("no vocabulary")
        if len(facts.idf) != len(words) or not all(type(number) is float for number in facts.idf):
            raise ValueError("idf does not fit the vocabulary")
        if not np.isfinite(facts.idf).all():
            raise ValueError("idf is not finite")
        if not all(type(word) is str for word in facts.stop_words):
            raise ValueError("a stop word is no word")
    except (ValidationError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path}: not a model of ae_bn {version('ae_bn')}{_reason(error)}"
        ) from None
    return config, facts


def _reason(error: Exception) -> str:
    """Name the first setting that this version does not know, or the fact that does not fit."""
    if not isinstance(error, ValidationError):
        return f" ({error})"
    first = error.errors()[0]
    return f" ({'.'.join(map(str, first['loc']))}: {first['msg']})"
