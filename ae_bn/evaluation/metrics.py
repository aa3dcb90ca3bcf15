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
    censored: bool = False  # an empty cell means "not met", which is longer than any number


METRICS = {
    "test_loss": Metric(
        "test loss",
        3,
        "loss per test document (summed over words, in nats for cross-entropy), population "
        "statistics, nothing dropped; lower is better",
        unit="per document",
    ),
    "valid_loss": Metric(
        "validation loss", 3, "the same on the validation documents", unit="per document"
    ),
    "accuracy": Metric(
        "accuracy",
        3,
        "share of test documents whose newsgroup (or other label) a logistic regression on the "
        "frozen codes finds",
        unit="share of test documents",
    ),
    "precision": Metric(
        "precision",
        3,
        "share of documents with the query's label among the nearest 2 % of the training "
        "documents, by cosine, mean over test queries",
        unit="at 2 % retrieved",
    ),
    "probe_accuracy": Metric(
        "linear-probe accuracy",
        3,
        "share of test documents whose label a ridge regression on the frozen, standardised codes "
        "finds",
        unit="share of test documents",
    ),
    "raw_precision": Metric(
        "precision, raw",
        3,
        "share of documents with the query's label among the nearest 2 % of the training "
        "documents, by cosine, mean over all test documents as queries",
        unit="at 2 % retrieved",
    ),
    "centred_precision": Metric(
        "precision, centred",
        3,
        "the same by the cosine of codes less the mean of the training documents' codes",
        unit="at 2 % retrieved",
    ),
    "mean_share": Metric(
        "share of the mean", 3, "squared length of the mean code over the mean squared length"
    ),
    "valid_accuracy": Metric(
        "validation accuracy", 3, "linear-probe accuracy on the validation documents"
    ),
    "valid_precision": Metric(
        "validation precision, raw", 3, "raw precision with validation documents as queries"
    ),
    "valid_centred_precision": Metric(
        "validation precision, centred", 3, "centred precision with validation documents as queries"
    ),
    "dead_units": Metric("dead units", 3, "share of code units that never change over test data"),
    "saturated": Metric(
        "saturated",
        3,
        "share of code values on test data within 1 % of a bound of sigmoid or tanh",
    ),
    "softmax_accuracy": Metric(
        "accuracy, KATE's classifier",
        3,
        "the same by softmax regression trained by Adam until the loss on documents held out no "
        "longer falls, last weights, as Chen and Zaki (2017) released it",
    ),
    "train_loss": Metric(
        "training loss", 3, "the same as test loss on the training documents", unit="per document"
    ),
    "gap": Metric(
        "gap", 3, "validation loss less training loss, both as test loss", unit="per document"
    ),
    "variance_shift1": Metric(
        "variance shift",
        3,
        "variance of the first hidden layer's g with dropout over that without, or the inverse if "
        "that is larger; median over units",
    ),
    "variance_shift2": Metric("variance shift 2", 3, "the same in the second layer"),
    "top_eigenvalue": Metric(
        "top eigenvalue",
        2,
        "largest eigenvalue of the Hessian of the training loss at the best epoch, statistics of "
        "minibatches, nothing dropped; weights that feed a normalised unit scaled to norm 1, "
        "others as they are",
    ),
    "top_eigenvalue_initial": Metric("top eigenvalue, initial", 2, "the same before training"),
    "top_eigenvalue_population": Metric(
        "top eigenvalue, population", 2, "the same at the best epoch, statistics held constant"
    ),
    "relative_eigenvalue": Metric(
        "relative eigenvalue",
        2,
        "as top eigenvalue, along changes of every column of W relative to its norm, with BN or "
        "without",
    ),
    "relative_eigenvalue_initial": Metric(
        "relative eigenvalue, initial", 2, "the same before training"
    ),
    "relative_eigenvalue_population": Metric(
        "relative eigenvalue, population", 2, "the same at the best epoch, statistics held constant"
    ),
    "steps_to_target": Metric(
        "steps to target",
        0,
        "steps until the validation loss is at most report.target_loss",
        censored=True,
    ),
    "epochs": Metric("epochs", 1, "epochs trained"),
    "seconds": Metric("seconds", 1, "time of training, validation included"),
}

# Metrics that need two labels.
LABEL_METRICS = {"accuracy", "precision", "softmax_accuracy", "probe_accuracy"}
LABEL_METRICS |= {"raw_precision", "centred_precision", "valid_accuracy", "valid_precision"}
LABEL_METRICS |= {"valid_centred_precision"}
