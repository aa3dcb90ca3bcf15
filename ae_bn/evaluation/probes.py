"""Metrics of codes: logistic probe, retrieval curve, KATE's classifier, dead and saturated units.

Every function takes codes, (n, n_units), dense or sparse, from any method.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Callable, Mapping, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler, normalize

from ae_bn.choices import ACTIVATIONS
from ae_bn.config import EvaluationConfig

FRACTION = 0.02  # share of the database retrieved for `precision` (Larochelle and Lauly 2012)
QUERY_CHUNK = 500  # number of queries ranked at a time


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
    """
    metrics: dict[str, object] = {}
    for name, function in parts.items():
        try:
            value = function()
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


def evaluate_codes(
    train: Split,
    test: Split,
    fit_rows: np.ndarray,
    valid_rows: np.ndarray,
    hidden_activation: str,
    config: EvaluationConfig,
) -> dict:
    """Return all metrics of codes, and the precision-recall curve.

    Parameters
    ----------
    train, test : Split
        The codes of all training documents, which are the database of retrieval, and of the test
        documents, which are its queries.
    fit_rows, valid_rows : int arrays
        The rows of train that the probe is fitted on, and those that choose its C.
    hidden_activation : str
        The activation of the code units, for the saturated share.
    config : EvaluationConfig
        The settings that choose the metrics.

    Returns
    -------
    dict
        ``dead_units``; ``saturated`` (None where the activation has no bounds); and, if the config
        asks for them, ``accuracy`` with ``classifier_c`` and ``precision`` with ``curve``, see
        `retrieval_curve`.  If all fit documents have one label, or none (-1), the metrics of
        labels and the curve are left out.  See `measured` for metrics that fail.
    """
    parts: dict[str, Callable[[], object]] = {
        "dead_units": lambda: dead_units(test.codes),
        "saturated": lambda: saturated(test.codes, hidden_activation),
    }
    if np.ptp(train.labels[fit_rows]) == 0:
        return measured(parts)
    fit, valid = (Split(train.codes[rows], train.labels[rows]) for rows in (fit_rows, valid_rows))

    def accuracy(cs):
        accuracy, classifier_c = probe_accuracy(fit, valid, test, cs)
        return {"accuracy": accuracy, "classifier_c": classifier_c}

    def precision():
        curve = retrieval_curve(train, _first_queries(test, config.retrieval_queries))
        at = int(np.argmin(np.abs(np.array(curve["fraction"]) - FRACTION)))
        return {"precision": curve["precision"][at], "curve": curve}

    if config.classifier_c is not None:
        parts["accuracy"] = partial(accuracy, config.classifier_c)
    if config.retrieval_queries is not None:
        parts["precision"] = precision
    return measured(parts)


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


def probe_accuracy(fit: Split, valid: Split, test: Split, cs: list) -> tuple:
    """Return the test accuracy of a logistic regression on codes, and the C chosen for it.

    Dense codes are standardised by the codes of fit, so that C means the same in every arm.
    Sparse codes are used as they are.

    Parameters
    ----------
    fit, valid, test : Split
        The codes that the probe is fitted on, those that choose C by accuracy (the smallest C among
        equals), and those that the accuracy is measured on.
    cs : list of float
        The values of C, the inverse strength of regularisation, to choose from.

    Returns
    -------
    accuracy, c : float
    """
    if not issparse(fit.codes):
        scaler = StandardScaler().fit(fit.codes)
        fit, valid, test = (
            Split(scaler.transform(codes), labels) for codes, labels in (fit, valid, test)
        )
    n, probes = len(fit.labels), []
    for c in sorted(cs):
        # The minimum is the same as with C=c and weights of 1.  But the solver stops when the
        # gradient of the mean is small, not that of the sum, which takes half the iterations.
        probe = LogisticRegression(C=c * n, max_iter=200)
        with warnings.catch_warnings():  # 200 iterations are enough for a comparison
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(fit.codes, fit.labels, sample_weight=np.full(n, 1 / n))
        probes.append((probe.score(valid.codes, valid.labels), c, probe))
    _, c, probe = max(probes, key=lambda scored: scored[0])  # the first of equals
    return float(probe.score(test.codes, test.labels)), float(c)


def retrieval_curve(database: Split, queries: Split) -> dict:
    """Return precision and recall over the fraction of the database that is retrieved.

    For each query the documents of the database are ranked by cosine.  A document is relevant if
    it has the query's label.  A code of zeros has cosine 0 with all others.

    Parameters
    ----------
    database, queries : Split
        The codes that are retrieved, and the codes that they are retrieved for.

    Returns
    -------
    dict of str to list of float
        ``fraction`` (rising, in (0, 1]; `FRACTION` is one of them), and at each of them
        ``precision`` and ``recall``, means over the queries (recall over those with a relevant
        document).
    """
    n = len(database.labels)
    wanted = np.append(np.geomspace(1e-3, 1, 31), FRACTION)
    ranks = np.unique(np.maximum(1, np.round(wanted * n)).astype(int))  # documents retrieved
    documents, codes = normalize(database.codes), normalize(queries.codes)
    relevant = {label: np.flatnonzero(database.labels == label) for label in set(queries.labels)}
    precision, recall, n_recall = np.zeros(len(ranks)), np.zeros(len(ranks)), 0
    for start in range(0, len(queries.labels), QUERY_CHUNK):
        rows = slice(start, start + QUERY_CHUNK)
        cosine = codes[rows] @ documents.T  # (chunk, n)
        cosine = cosine.toarray() if issparse(cosine) else cosine
        places = [_places(-c, relevant[label]) for c, label in zip(cosine, queries.labels[rows])]
        found = np.array([np.searchsorted(p, ranks) for p in places])  # (chunk, number of ranks)
        total = np.array([len(p) for p in places])
        precision += (found / ranks).sum(axis=0)
        recall += (found[total > 0] / total[total > 0, None]).sum(axis=0)
        n_recall += int((total > 0).sum())
    return {
        "fraction": (ranks / n).tolist(),
        "precision": (precision / len(queries.labels)).tolist(),
        "recall": (recall / max(n_recall, 1)).tolist(),
    }


def _places(distances, documents):
    """Return the places of some documents in the ranking of all, counted from 0, in rising order.

    A label has few documents, so sorting the distances and looking up these documents is several
    times faster than ranking all.  Of documents at equal distances the first comes first.

    Parameters
    ----------
    distances : ndarray, (n,)
        The distance of every document from the query.
    documents : ndarray of int
        The numbers of the documents to find.
    """
    ranked, own = np.sort(distances), distances[documents]
    places = np.searchsorted(ranked, own)
    tied = np.searchsorted(ranked, own, side="right") > places + 1
    for i in np.flatnonzero(tied):
        places[i] += np.count_nonzero(distances[: documents[i]] == own[i])
    return np.sort(places)


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
        "accuracy": accuracy,
        "probe_accuracy": accuracy,
        **dict.fromkeys(
            ["precision", "raw_precision", "centred_precision", "scaled_precision"],
            float(share[test_labels].mean()),
        ),
        **({"softmax_accuracy": accuracy} if config.softmax_probe else {}),
    }


def _first_queries(test: Split, number) -> Split:
    """Return a number of test documents, the same random choice for every run, or all."""
    if number >= len(test.labels):
        return test
    rows = np.sort(np.random.default_rng(0).permutation(len(test.labels))[:number])
    return Split(test.codes[rows], test.labels[rows])
