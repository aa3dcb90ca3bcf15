"""Titles and meanings of all metrics, by name.

Tables, ``results.csv`` and the page of metrics in the documentation use `METRICS`.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """How a metric is shown."""

    title: str
    meaning: str
    unit: str = ""  # for axes
    digits: int = 3


METRICS = {
    "test_loss": Metric(
        "test loss",
        "mean loss of a test document, summed over words; population statistics, nothing "
        "dropped; in nats for cross-entropy",
        unit="per document",
    ),
    "valid_loss": Metric(
        "validation loss",
        "mean loss of a validation document, measured as the test loss is",
        unit="per document",
    ),
    "probe_accuracy": Metric(
        "linear-probe accuracy",
        "share of test documents whose label a ridge regression on the standardised codes finds",
        unit="share of test documents",
    ),
    "raw_precision": Metric(
        "precision, raw",
        "share of documents with the label of the query among the 2 % of the training documents "
        "that are nearest by cosine, mean over all test documents as queries",
        unit="at 2 % retrieved",
    ),
    "centred_precision": Metric(
        "precision, centred",
        "raw precision of codes less the mean code of the training documents",
        unit="at 2 % retrieved",
    ),
    "scaled_precision": Metric(
        "precision, scaled and centred",
        "centred precision of codes that are scaled to length 1 before their mean is subtracted",
        unit="at 2 % retrieved",
    ),
    "mean_share": Metric(
        "share of the mean",
        "squared length of the mean code, over the mean squared length of a code",
    ),
    "valid_accuracy": Metric(
        "validation accuracy",
        "linear-probe accuracy on the validation documents",
    ),
    "valid_precision": Metric(
        "validation precision, raw",
        "raw precision with validation documents as queries",
    ),
    "valid_centred_precision": Metric(
        "validation precision, centred",
        "centred precision with validation documents as queries",
    ),
    "dead_units": Metric(
        "dead units",
        "share of code units that have one value on all test documents",
    ),
    "saturated": Metric(
        "saturated",
        "share of code values on test documents within 1 % of a bound of sigmoid or tanh",
    ),
    "softmax_accuracy": Metric(
        "accuracy, KATE's classifier",
        "share of test documents whose label a softmax regression finds: trained with Adam "
        "until the loss on documents held out no longer falls, last weights, as Chen and Zaki "
        "(2017) released it",
    ),
    "train_loss": Metric(
        "training loss",
        "mean loss of a training document, measured as the test loss is",
        unit="per document",
    ),
    "gap": Metric(
        "gap",
        "validation loss less training loss",
        unit="per document",
    ),
    "top_eigenvalue": Metric(
        "top eigenvalue",
        "largest eigenvalue of the Hessian of the training loss at the best epoch; statistics "
        "of minibatches, nothing dropped; the weights of a normalised unit are scaled to norm "
        "1, other weights are as they are",
        digits=2,
    ),
    "top_eigenvalue_initial": Metric(
        "top eigenvalue, initial",
        "top eigenvalue before training",
        digits=2,
    ),
    "top_eigenvalue_population": Metric(
        "top eigenvalue, population",
        "top eigenvalue with the statistics of BN held constant",
        digits=2,
    ),
    "relative_eigenvalue": Metric(
        "relative eigenvalue",
        "largest eigenvalue of the same Hessian along changes of each column of W relative to "
        "its norm, with BN or without",
        digits=2,
    ),
    "relative_eigenvalue_initial": Metric(
        "relative eigenvalue, initial",
        "relative eigenvalue before training",
        digits=2,
    ),
    "relative_eigenvalue_population": Metric(
        "relative eigenvalue, population",
        "relative eigenvalue with the statistics of BN held constant",
        digits=2,
    ),
    "perplexity": Metric(
        "perplexity",
        "of a topic model: exp of the test loss per word, over all words of the test documents; "
        "the loss includes KL",
        digits=0,
    ),
    "document_perplexity": Metric(
        "perplexity, per document",
        "exp of the mean over test documents of their loss per word",
        digits=0,
    ),
    "npmi": Metric(
        "coherence",
        "normalised pointwise mutual information of the 10 words with the largest numbers in a "
        "topic, by the documents of the training part, mean over pairs and topics",
    ),
    "centred_npmi": Metric(
        "coherence, centred",
        "coherence of topics less the mean of all topics",
    ),
    "softmax_npmi": Metric(
        "coherence, softmax",
        "coherence by the probabilities of the words in a document of one topic alone",
    ),
    "valid_npmi": Metric(
        "coherence, validation",
        "coherence by the validation documents",
    ),
    "test_npmi": Metric(
        "coherence, test",
        "coherence by the test documents",
    ),
    "unique_words": Metric(
        "unique words",
        "number of different words among the 10 words of all topics, over the number of all",
    ),
    "centred_unique_words": Metric(
        "unique words, centred",
        "unique words of topics less the mean of all topics",
    ),
    "overlap": Metric(
        "overlap",
        "share of the 10 words that two topics have in common, mean over all pairs of topics",
    ),
    "active_topics": Metric(
        "active topics",
        "topics whose mean has a variance above .01 over the test documents",
        digits=1,
    ),
    "epochs": Metric(
        "epochs",
        "epochs trained",
        digits=1,
    ),
    "seconds": Metric(
        "seconds",
        "time of training, validation included",
        digits=1,
    ),
}

# Metrics that need two labels.
LABEL_METRICS = {
    "softmax_accuracy",
    "probe_accuracy",
    "raw_precision",
    "centred_precision",
    "scaled_precision",
    "valid_accuracy",
    "valid_precision",
    "valid_centred_precision",
}
