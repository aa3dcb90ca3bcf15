"""Metrics of codes: KATE's classifier, dead and saturated units, and chance.

Every function takes codes, (n, n_units), dense or sparse, from any method.
"""

from __future__ import annotations

from typing import Callable, Mapping, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from ae_bn.choices import ACTIVATIONS
from ae_bn.config import EvaluationConfig


class Split(NamedTuple):
    """Codes and labels of one part of a corpus."""

    codes: np.ndarray  # (n, n_units), dense or sparse
    labels: np.ndarray  # (n,)


def measured(parts: Mapping[str, Callable[[], object]]) -> dict:
    """Return the metrics that can be measured; one that fails does not affect the others.

    Parameters
    ----------
    parts : mapping of str to function
        The function that measures each metric, by the name of the metric.  A function may also
        return a dict of several metrics.

    Returns
    -------
    dict
        The metrics by name, and a text ``reason`` if some of them failed.

    Raises
    ------
    OSError
        If the machine is at fault, such as a full disk: the run can be done again.
    """
    metrics: dict[str, object] = {}
    for name, function in parts.items():
        try:
            value = function()
        except OSError:  # of the machine, not of the codes
            raise
        except Exception as error:  # of any kind: the other metrics and the run must survive it
            metrics = merged(metrics, {"reason": f"{name} could not be measured ({error!r:.200})"})
        else:
            metrics.update(value if isinstance(value, dict) else {name: value})
    return metrics


def merged(*parts: dict) -> dict:
    """Return several dicts of metrics as one, with each ``reason`` once."""
    metrics = {name: value for part in parts for name, value in part.items() if name != "reason"}
    reasons = dict.fromkeys(part["reason"] for part in parts if "reason" in part)
    return {**metrics, **({"reason": "; ".join(reasons)} if reasons else {})}


def softmax_accuracy(train: Split, test: Split) -> float:
    """Return the test accuracy of KATE's classifier, see `softmax_classifier`.

    Parameters
    ----------
    train, test : Split
        The codes that the classifier is trained on, with its own held-out part, and the codes that
        the accuracy is measured on.
    """
    return float(softmax_classifier(train).score(test.codes, test.labels))


def softmax_classifier(train: Split) -> MLPClassifier:
    """Return KATE's classifier (Chen and Zaki 2017, as released) with its last weights.

    It is softmax regression on the codes as they are, trained by Adam with its usual settings in
    minibatches of 100.  1,000 documents (at most a tenth) are held out.  Training ends after 100
    epochs, or after 5 epochs in a row whose held-out loss is not at least 1e-5 below the lowest.
    The weights are those of the last epoch, not of the best.  The release also lowers the learning
    rate on a plateau, but its lower bound is ten times the initial learning rate, so this has no
    effect.

    Parameters
    ----------
    train : Split
        The codes of at least two documents.  The same ones are held out every time.
    """
    rng, n = np.random.default_rng(7), len(train.labels)
    held_out = np.zeros(n, dtype=bool)
    held_out[rng.choice(n, max(1, min(1000, n // 10)), replace=False)] = True
    codes, labels = train.codes[~held_out], train.labels[~held_out]
    classes = np.unique(train.labels)
    classifier = MLPClassifier(
        hidden_layer_sizes=(), alpha=0, batch_size=min(100, len(labels)), random_state=7
    )
    best, waited = np.inf, 0
    for _ in range(100):
        classifier.partial_fit(codes, labels, classes)  # one epoch
        chances = classifier.predict_proba(train.codes[held_out])
        loss = log_loss(train.labels[held_out], chances, labels=classes)
        best, waited = (loss, 0) if loss < best - 1e-5 else (best, waited + 1)
        if waited == 5:
            break
    return classifier


def unit_metrics(codes, activation: str) -> dict:
    """Return ``dead_units`` and ``saturated`` of codes; see `measured` for metrics that fail.

    Parameters
    ----------
    codes : ndarray or sparse matrix, (n, n_units)
        The codes, one document per row.
    activation : str
        The activation of the code units.
    """
    return measured(
        {
            "dead_units": lambda: dead_units(codes),
            "saturated": lambda: saturated(codes, activation),
        }
    )


def dead_units(codes) -> float:
    """Return the share of units whose value is the same for every document."""
    if issparse(codes):
        extremes = codes.max(axis=0), codes.min(axis=0)
        return 1 - float((extremes[0] != extremes[1]).nnz / codes.shape[1])
    return float(np.mean(np.ptp(codes, axis=0) == 0))


def saturated(codes: np.ndarray, activation: str) -> float | None:
    """Return the share of values within 1 % of the activation's range of one of its bounds.

    Parameters
    ----------
    codes : ndarray, (n, n_units)
        The codes, one document per row.
    activation : str
        The activation of the code units.  Without two bounds (ReLU, linear) the share is None.
    """
    bounds = ACTIVATIONS[activation].bounds
    if bounds is None:
        return None
    low, high = bounds
    margin = 0.01 * (high - low)
    return float(np.mean((codes < low + margin) | (codes > high - margin)))


def chance_metrics(
    train_labels: np.ndarray, test_labels: np.ndarray, config: EvaluationConfig
) -> dict:
    """Return the metrics of codes without information, which a run without finite weights gets.

    Classifiers predict the most frequent training label, and retrieval returns random documents.

    Parameters
    ----------
    train_labels, test_labels : ndarray of int, (n_train,) and (n_test,)
        The labels of both parts.
    config : EvaluationConfig
        The settings that choose the metrics.
    """
    units = {"dead_units": 1.0, "saturated": None}
    losses = {"test_loss": float("inf"), "valid_loss": float("inf")}
    if np.ptp(train_labels) == 0:
        return {**losses, **units}
    n_labels = int(max(train_labels.max(), test_labels.max())) + 1
    share = np.bincount(train_labels, minlength=n_labels) / len(train_labels)
    accuracy = float(np.mean(test_labels == share.argmax()))
    return {
        **losses,
        **units,
        "probe_accuracy": accuracy,
        **dict.fromkeys(
            ["raw_precision", "centred_precision", "scaled_precision"],
            float(share[test_labels].mean()),
        ),
        **({"softmax_accuracy": accuracy} if config.softmax_probe else {}),
    }
