"""Writing a fitted pipeline as the one model file, which `ae_bn.Encoder` reads without Theano."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ae_bn.choosing import CountWeights
from ae_bn.config import load_config
from ae_bn.data.words import split_words
from ae_bn.denoiser import LinearDenoiser
from ae_bn.errors import UserError
from ae_bn.estimator import BatchNormAutoencoder
from ae_bn.files import fingerprint, user_path
from ae_bn.model.model_file import COUNTS, TEXTS, Vocabulary, write_linear, write_model

# The options of a vectoriser that a file can hold, with the values that it can hold.  The options
# in `FREE` only decide the vocabulary and the idf, which are in the file, or the dtype.
HELD: dict[str, list] = {
    "analyzer": ["word"],
    "binary": [False],
    "norm": ["l2"],
    "preprocessor": [None],
    "strip_accents": [None],
    "sublinear_tf": [False, True],
    "tokenizer": [None, split_words],
    "use_idf": [True],
}
OF_COUNTS = {"binary": [False, True]}  # of a CountVectorizer
FREE = set(
    "decode_error dtype encoding input lowercase max_df max_features min_df ngram_range smooth_idf "
    "stop_words token_pattern vocabulary".split()
)


def save_model(pipeline: Pipeline, path) -> None:
    """Write a fitted pipeline of a vectoriser and a model to a file, atomically.

    `ae_bn.Encoder.load` reads the file, and its codes equal those of the pipeline up to rounding.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Two steps: a `TfidfVectorizer`, a `CountVectorizer` or `ae_bn.choosing.CountWeights`, and a
        `BatchNormAutoencoder`, `TopicAutoencoder`, `LinearDenoiser` or `TruncatedSVD`.
    path : path-like
        The file to write, usually called ``model.safetensors``.

    Raises
    ------
    UserError
        If the file cannot hold a step or an option of the vectoriser, or cannot be written.
    """
    steps = [step for _, step in getattr(pipeline, "steps", [])]
    if len(steps) != 2 or not isinstance(steps[0], (CountVectorizer, CountWeights)):
        kinds = ", ".join(type(step).__name__ for step in steps) or type(pipeline).__name__
        raise UserError(
            f"a file cannot hold {kinds}: give a pipeline of a TfidfVectorizer or CountVectorizer "
            "and a model"
        )
    vectoriser, model = steps
    check_is_fitted(vectoriser)
    words = vectoriser.get_feature_names_out().tolist()
    of_counts = isinstance(vectoriser, CountWeights)
    data = {"data.input": vectoriser.kind} if of_counts else _settings(vectoriser)
    source = COUNTS if of_counts else TEXTS
    idf = np.asarray(getattr(vectoriser, "idf_", np.ones(len(words))), float)
    vocabulary = Vocabulary(words, idf, source, fingerprint([words, idf.tolist()]))
    data["data.vocabulary_size"] = len(words)
    path = user_path(path)
    if isinstance(model, BatchNormAutoencoder):
        check_is_fitted(model)
        write_model(path, model.parameters_, model._fitted.replace(data), vocabulary)
    elif isinstance(model, LinearDenoiser):
        check_is_fitted(model)
        config = load_config().replace({**data, "model.dropout.input": float(model.masking)})
        write_linear(path, model.encoder_, model.components_, config, vocabulary)
    elif isinstance(model, TruncatedSVD):
        check_is_fitted(model)
        V = model.components_.T
        write_linear(path, V, V.T, load_config().replace(data), vocabulary)
    else:
        raise UserError(
            f"a file cannot hold {type(model).__name__}: give a BatchNormAutoencoder, "
            "TopicAutoencoder, LinearDenoiser or TruncatedSVD"
        )


def _settings(vectoriser: CountVectorizer) -> dict:
    """Return a vectoriser's options as settings, or raise a UserError for the first that has none.

    The vocabulary holds no stop words, so the list matters only to sequences of words.
    """
    is_tfidf = isinstance(vectoriser, TfidfVectorizer)
    held = HELD if is_tfidf else {**HELD, **OF_COUNTS}
    for name, value in vectoriser.get_params().items():
        if name in FREE:
            continue
        if value not in held[name]:
            values = [getattr(v, "__name__", repr(v)) for v in held[name]]
            raise UserError(
                f"a file cannot hold {name}={value!r:.60} of the vectoriser: "
                f"give {' or '.join(values)}"
            )
    own_words = vectoriser.tokenizer is None
    if own_words and not vectoriser.lowercase:
        raise UserError("a file cannot hold lowercase=False of the vectoriser: give True")
    lengths = list(vectoriser.ngram_range)
    stop_words = vectoriser.get_stop_words() or frozenset()
    if lengths != [1, 1] and vectoriser.stop_words not in (None, "english"):
        raise UserError(
            "a file cannot hold stop_words of your own together with ngram_range: give "
            "stop_words='english' or None"
        )
    both = sorted(stop_words & set(vectoriser.vocabulary_))
    if both:
        raise UserError(f"the stop word {both[0]!r} is also in the vocabulary: remove one")
    of_counts = "binary" if vectoriser.binary else "as_is"
    of_tfidf = "sublinear_tfidf" if is_tfidf and vectoriser.sublinear_tf else "tfidf"
    return {
        "data.input": of_tfidf if is_tfidf else of_counts,
        "data.stop_words": "english" if vectoriser.stop_words == "english" else "none",
        "data.token_pattern": vectoriser.token_pattern if own_words else None,
        "data.ngram_range": None if lengths == [1, 1] else lengths,
    }
