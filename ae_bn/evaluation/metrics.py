"""Titles and meanings of all metrics, by name.

Tables, ``results.csv`` and the page of metrics in the documentation use `METRICS`.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """How a metric is shown."""

    title: str
    digits: int
    meaning: str
    unit: str = ""  # for axes


METRICS = {
    "test_loss": Metric(
        "test loss",
        3,
        "mean loss of a test document, summed over words; population statistics, nothing "
        "dropped; in nats for cross-entropy",
        unit="per document",
    ),
    "valid_loss": Metric(
        "validation loss",
        3,
        "mean loss of a validation document, measured as the test loss is",
        unit="per document",
    ),
    "probe_accuracy": Metric(
        "linear-probe accuracy",
        3,
        "share of test documents whose label a ridge regression on the standardised codes finds",
        unit="share of test documents",
    ),
    "raw_precision": Metric(
        "precision, raw",
        3,
        "share of documents with the label of the query among the 2 % of the training documents "
        "that are nearest by cosine, mean over all test documents as queries",
        unit="at 2 % retrieved",
    ),
    "centred_precision": Metric(
        "precision, centred",
        3,
        "raw precision of codes less the mean code of the training documents",
        unit="at 2 % retrieved",
    ),
    "scaled_precision": Metric(
        "precision, scaled and centred",
        3,
        "centred precision of codes that are scaled to length 1 before their mean is subtracted",
        unit="at 2 % retrieved",
    ),
    "mean_share": Metric(
        "share of the mean",
        3,
        "squared length of the mean code, over the mean squared length of a code",
    ),
    "valid_accuracy": Metric(
        "validation accuracy",
        3,
        "linear-probe accuracy on the validation documents",
    ),
    "valid_precision": Metric(
        "validation precision, raw",
        3,
        "raw precision with validation documents as queries",
    ),
    "valid_centred_precision": Metric(
        "validation precision, centred",
        3,
        "centred precision with validation documents as queries",
    ),
    "dead_units": Metric(
        "dead units",
        3,
        "share of code units that have one value on all test documents",
    ),
    "saturated": Metric(
        "saturated",
        3,
        "share of code values on test documents within 1 % of a bound of sigmoid or tanh",
    ),
    "softmax_accuracy": Metric(
        "accuracy, KATE's classifier",
        3,
        "share of test documents whose label a softmax regression finds: trained with Adam "
        "until the loss on documents held out no longer falls, last weights, as Chen and Zaki "
        "(2017) released it",
    ),
    "train_loss": Metric(
        "training loss",
        3,
        "mean loss of a training document, measured as the test loss is",
        unit="per document",
    ),
    "gap": Metric(
        "gap",
        3,
        "validation loss less training loss",
        unit="per document",
    ),
    "top_eigenvalue": Metric(
        "top eigenvalue",
        2,
        "largest eigenvalue of the Hessian of the training loss at the best epoch; statistics "
        "of minibatches, nothing dropped; the weights of a normalised unit are scaled to norm "
        "1, other weights are as they are",
    ),
    "top_eigenvalue_initial": Metric(
        "top eigenvalue, initial",
        2,
        "top eigenvalue before training",
    ),
    "top_eigenvalue_population": Metric(
        "top eigenvalue, population",
        2,
        "top eigenvalue with the statistics of BN held constant",
    ),
    "relative_eigenvalue": Metric(
        "relative eigenvalue",
        2,
        "largest eigenvalue of the same Hessian along changes of each column of W relative to "
        "its norm, with BN or without",
    ),
    "relative_eigenvalue_initial": Metric(
        "relative eigenvalue, initial",
        2,
        "relative eigenvalue before training",
    ),
    "relative_eigenvalue_population": Metric(
        "relative eigenvalue, population",
        2,
        "relative eigenvalue with the statistics of BN held constant",
    ),
    "perplexity": Metric(
        "perplexity",
        0,
        "of a topic model: exp of the test loss per word, over all words of the test documents; "
        "the loss includes KL",
    ),
    "document_perplexity": Metric(
        "perplexity, per document",
        0,
        "exp of the mean over test documents of their loss per word",
    ),
    "npmi": Metric(
        "coherence",
        3,
        "normalised pointwise mutual information of the 10 words with the largest numbers in a "
        "topic, by the documents of the training part, mean over pairs and topics",
    ),
    "centred_npmi": Metric(
        "coherence, centred",
        3,
        "coherence of topics less the mean of all topics",
    ),
    "softmax_npmi": Metric(
        "coherence, softmax",
        3,
        "coherence by the probabilities of the words in a document of one topic alone",
    ),
    "valid_npmi": Metric(
        "coherence, validation",
        3,
        "coherence by the validation documents",
    ),
    "test_npmi": Metric(
        "coherence, test",
        3,
        "coherence by the test documents",
    ),
    "unique_words": Metric(
        "unique words",
        3,
        "number of different words among the 10 words of all topics, over the number of all",
    ),
    "centred_unique_words": Metric(
        "unique words, centred",
        3,
        "unique words of topics less the mean of all topics",
    ),
    "overlap": Metric(
        "overlap",
        3,
        "share of the 10 words that two topics have in common, mean over all pairs of topics",
    ),
    "active_topics": Metric(
        "active topics",
        1,
        "topics whose mean has a variance above .01 over the test documents",
    ),
    "epochs": Metric(
        "epochs",
        1,
        "epochs trained",
    ),
    "seconds": Metric(
        "seconds",
        1,
        "time of training, validation included",
    ),
}

# Metrics that need two labels.
LABEL_METRICS = {"softmax_accuracy", "probe_accuracy", "raw_precision", "centred_precision"}
LABEL_METRICS |= {"scaled_precision", "valid_accuracy", "valid_precision"}
LABEL_METRICS |= {"valid_centred_precision"}
