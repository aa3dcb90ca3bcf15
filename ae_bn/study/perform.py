"""One run: train, then measure, and fill the run's directory, ``runs/HASH``::

    run.json                config, seed, versions, data source and fingerprint; written first
    checkpoint.safetensors  the state of training; deleted when the run is finished
    model.safetensors       parameters, population statistics and vocabulary of the epoch with the
                            lowest validation loss, see `ae_bn.model.model_file`
    model-NAME.safetensors  the same for the other snapshots, see `ae_bn.training.SNAPSHOTS`
    metrics.json            the results: every epoch, every snapshot, and checksums of the models;
                            written last, so a directory with this file is a finished run

The record (`ae_bn.study.record`) also keeps the results, so the directory may be deleted.
"""

from __future__ import annotations

from typing import Any

from ae_bn.data.corpus import Corpus, split_validation
from ae_bn.evaluation import probes as evaluation
from ae_bn.evaluation.codes import PathMeter, snapshot_metrics
from ae_bn.evaluation.curvature import CurvatureMeter
from ae_bn.evaluation.probes import Split
from ae_bn.evaluation.topics import row_metrics, topic_metrics
from ae_bn.files import file_digest, fingerprint, write_json
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.model_file import write_model
from ae_bn.model.topics import TopicModel
from ae_bn.randomness import streams
from ae_bn.study.compiled import compiled, hessian
from ae_bn.study.plan import Run, corpus_of
from ae_bn.study.references import perform_reference
from ae_bn.study.versions import packages
from ae_bn.training import SNAPSHOTS, Checkpoint, Progress, codes_observer, fit

DIGITS = 7  # of the numbers that are kept; more would be noise of a float32


def perform(run: Run) -> None:
    """Do one run, from its checkpoint if it has one, and fill its directory.

    Parameters
    ----------
    run : Run
        The run to do.

    Raises
    ------
    UserError
        If the data are not those that the run was planned with, or a file cannot be written.
    """
    write_json(run.directory / "run.json", run.describe())
    corpus = corpus_of(run)
    if run.reference:
        results = perform_reference(run, corpus)
    else:
        with compiled(run.config, corpus.train.shape[1]) as autoencoder:
            results = _autoencoder(run, autoencoder, corpus)
    write_json(run.directory / "metrics.json", _rounded(results))
    for name in ("checkpoint.safetensors", "failure.json"):
        (run.directory / name).unlink(missing_ok=True)


def _autoencoder(run: Run, autoencoder: Autoencoder, corpus: Corpus) -> dict:
    """Train, measure every snapshot, on the test documents once, and write the models."""
    config, stream = run.config, streams(run.seed)
    n, fraction = corpus.train.shape[0], config.data.validation_fraction
    rows = split_validation(n, fraction, stream.split)
    X_train, X_valid = (corpus.train[part] for part in rows)
    training, observers, names = config.training, [], ["loss"]
    autoencoder.initialize(X_train, stream, training.learning_rate, config.model.dropout)
    if training.path_epochs is not None:
        labels, valid_labels = (corpus.train_labels[part] for part in rows)
        meter = PathMeter(labels, valid_labels, config.model.hidden_activation)
        observers.append(codes_observer(meter, X_train, X_valid, training.path_epochs))
        names = list(SNAPSHOTS)
    curvature = None
    if config.evaluation.curvature is not None:
        of = hessian(config, X_train.shape[1])
        curvature = CurvatureMeter(of, X_train, training.batch_size, config.evaluation.curvature)
        curvature.start(autoencoder)
        observers.append(curvature)
    identity = fingerprint([run.identity, packages(), autoencoder.kernels])
    checkpoint = Checkpoint(run.directory / "checkpoint.safetensors", identity)
    progress = fit(
        autoencoder, X_train, X_valid, training, stream.order, observers, names, checkpoint
    )
    results = _history(run, autoencoder, progress)
    if progress.snapshots:
        results.update(_measure_snapshots(run, autoencoder, corpus, rows, progress))
    else:
        known, unknown = corpus.train_labels, corpus.test_labels
        chance = evaluation.chance_metrics(known, unknown, config.evaluation)
        results.update(snapshots={name: {"epoch": 0, **chance} for name in names}, files={})
    if curvature is not None:
        summary = curvature.summary(autoencoder, progress)
        results["spectra"] = summary.pop("spectra", {})
        of_loss = results["snapshots"]["loss"]
        results["snapshots"]["loss"] = evaluation.merged(of_loss, summary)
    return results


def _history(run: Run, autoencoder: Autoencoder, progress: Progress) -> dict:
    """Return how training went."""
    training, epochs = run.config.training, len(progress.history)
    ended_by_itself = progress.diverged or epochs - progress.best_epoch >= training.patience
    rows = [{**epoch._asdict(), **epoch.metrics} for epoch in progress.history]
    return {
        "status": "diverged" if progress.diverged else "finished",
        "epochs": epochs,
        "capped": epochs == training.epochs and not ended_by_itself,
        "seconds": progress.history[-1].seconds,
        "kernels": autoencoder.kernels,
        "history": _columns(rows, ["metrics", "seconds", "curvature"]),
        "observations": _columns(progress.observations),
    }


def _measure_snapshots(
    run: Run,
    autoencoder: Autoencoder,
    corpus: Corpus,
    rows: tuple[Any, Any],
    progress: Progress,
) -> dict:
    """Measure every snapshot; return them and the files of their models."""
    config, X_train = run.config, corpus.train[rows[0]]
    results: dict = {"snapshots": {}, "files": {}}
    tested: dict[int, tuple] = {}  # by epoch: codes and metrics of the test documents
    for name in filter(progress.snapshots.get, SNAPSHOTS):
        epoch, state = progress.snapshots[name]
        last = progress.history[epoch - 1]
        metrics = {"epoch": epoch, "valid_loss": last.valid_loss, **last.metrics}
        metrics.pop("curvature", None)  # it has a summary of its own
        autoencoder.set_state(state)
        if config.experiment.keep_models:
            path = run.model_path(name)
            write_model(path, state, config, corpus)
            results["files"][path.name] = file_digest(path)
        if name == "loss":
            metrics["train_loss"] = autoencoder.evaluate(X_train)
            metrics["gap"] = metrics["valid_loss"] - metrics["train_loss"]
        if epoch not in tested:
            tested[epoch] = _on_test_documents(run, autoencoder, corpus, rows)
        test_codes, of_test = tested[epoch]
        metrics = evaluation.merged(metrics, of_test)
        if name == "loss":
            of_units = evaluation.unit_metrics(test_codes, config.model.hidden_activation)
            metrics = evaluation.merged(metrics, of_units)
        results["snapshots"][name] = metrics
    return results


def _on_test_documents(
    run: Run, autoencoder: Autoencoder, corpus: Corpus, rows: tuple[Any, Any]
) -> tuple:
    """Return the codes of the test documents, and the metrics of every snapshot."""
    train = Split(autoencoder.encode(corpus.train), corpus.train_labels)
    test = Split(autoencoder.encode(corpus.test), corpus.test_labels)
    metrics = snapshot_metrics(train, test, *rows, run.config.evaluation.softmax_probe)
    if isinstance(autoencoder, TopicModel):
        metrics = evaluation.merged(metrics, topic_metrics(autoencoder, corpus, rows[1]))
    elif run.config.evaluation.topic_words:
        metrics = evaluation.merged(metrics, row_metrics(autoencoder, corpus, rows[1]))
    return test.codes, {"test_loss": autoencoder.evaluate(corpus.test), **metrics}


def _columns(rows: list[dict], left_out=()) -> dict[str, list]:
    """Return rows as columns; where a row lacks one, None."""
    names = dict.fromkeys(name for row in rows for name in row if name not in left_out)
    return {name: [row.get(name) for row in rows] for name in names}


def _rounded(tree):
    """Return plain values with all floats rounded to `DIGITS` significant digits."""
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_rounded(value) for value in tree]
    return float(f"{tree:.{DIGITS}g}") if isinstance(tree, float) else tree
