"""From a config to results: the runs of an experiment, one run, and the table of all.

`plan_runs` turns a config into runs: every arm with every seed, and the reference rows.
`perform` does one run and fills its directory, ``runs/HASH``::

    run.json                config, seed, versions, data source and fingerprint; written first
    checkpoint.safetensors  the state of training; deleted when the run is finished
    model.safetensors       parameters, population statistics and vocabulary of the epoch with the
                            lowest validation loss, see `ae_bn.model.model_file`
    model-NAME.safetensors  the same for the other snapshots, see `ae_bn.training.SNAPSHOTS`
    metrics.json            the results: every epoch, every snapshot, and checksums of the models;
                            written last, so a directory with this file is a finished run

The hash covers everything that decides a run's numbers, so experiments that need the same run share
it.  The record (`ae_bn.study.record`) also keeps the results of finished runs, so their directories
may be deleted.  `ae_bn.study.sweep` performs the unfinished runs in parallel, and `results_table`
collects the results.
"""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Iterable, Iterator

import numpy as np
import pandas as pd

from ae_bn.config import Config, DataConfig, ReferenceConfig
from ae_bn.data.corpus import Corpus, prepare_corpus, read_corpus, split_validation
from ae_bn.errors import UserError
from ae_bn.evaluation import curvature
from ae_bn.evaluation import probes as evaluation
from ae_bn.evaluation.codes import (
    PathMeter,
    scaled_precision,
    snapshot_metrics,
    validation_parts,
)
from ae_bn.evaluation.metrics import METRICS
from ae_bn.evaluation.probes import Split
from ae_bn.evaluation.references import (
    CHOSEN_BY,
    CRITERIA,
    OTHERWISE,
    REFERENCES,
    candidates,
    describe_choice,
    reference_codes,
)
from ae_bn.files import (
    file_digest,
    fingerprint,
    read_json,
    write_json,
)
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.model_file import NAME, write_linear, write_model
from ae_bn.randomness import streams
from ae_bn.study.arms import Arm, check_distinct, expand_arms, expand_corpora
from ae_bn.study.compiled import compiled, hessian
from ae_bn.study.record import CHANGING, Record
from ae_bn.training import SNAPSHOTS, Result, check_batch_size, fit

# Of results.csv, beside the factors; a reference has only some of them.
COLUMNS = ["arm", "seed", "status", "snapshot", "epoch", *METRICS]
COLUMNS += ["learning_rate", "capped", "source", "data", "run", "chosen", "reason"]
DIGITS = 7  # of the numbers that are kept; more would be noise of a float32
UNKNOWN = ("unknown", "")  # source and fingerprint of documents that cannot be had
PACKAGES = ["Theano-PyMC", "numpy", "scipy", "scikit-learn"]


@dataclass(frozen=True)
class Run:
    """One training run, or one reference, with one seed.

    Attributes
    ----------
    arm : str
        The name of the arm, or the title of the reference.
    levels : dict of str to str
        The level of each factor; for a reference, of those that change the documents.
    seed : int
        The seed.
    config : Config
        The settings, with the levels, the seed and the learning rate of this run.
    reference : ReferenceConfig or None
        The settings of a reference, or None for an autoencoder.
    corpus : Path or None
        The file of the vectorised corpus in the cache; None in a plan without documents.
    source, data_fingerprint : str
        The source and the fingerprint of the corpus.
    identity : str
        A hash of everything that decides the numbers, 16 hexadecimal digits.
    directory : Path
        The absolute path of the run's directory.
    """

    arm: str
    levels: dict
    seed: int
    config: Config
    reference: ReferenceConfig | None
    corpus: Path | None
    source: str
    data_fingerprint: str
    identity: str
    directory: Path

    @property
    def finished(self) -> bool:
        try:
            return self.read_metrics() is not None
        except UserError:
            return False

    def read_metrics(self) -> dict | None:
        """Return the results, or None if there are none yet.

        Raises
        ------
        UserError
            If the results are damaged, or a model file does not match its checksum in them.
        """
        path = self.directory / "metrics.json"
        if not path.exists():
            return None
        metrics = read_json(path)
        for name, digest in metrics.pop("files").items():
            if name not in map(_model_name, SNAPSHOTS):
                raise UserError(f"{path}: no run has a file {name!r:.80}")
            if file_digest(self.directory / name) != digest:
                raise UserError(f"{self.directory / name} is damaged (its checksum does not match)")
        return metrics

    def describe(self) -> dict:
        """Return what is written down about a run before it starts."""
        return {
            "reference": self.reference and self.reference.model_dump(),
            "seed": self.seed,
            "config": self.config.run_settings(),
            "data": {"source": self.source, "fingerprint": self.data_fingerprint},
            "versions": {
                "ae_bn": version("ae_bn"),
                "git commit": _git_commit(),
                "python": platform.python_version(),
                **_versions(),
            },
        }


def plan_runs(
    config: Config, seeds: Iterable[int], directory: Path, record: Record | None = None
) -> list[Run]:
    """Return all runs of an experiment, references first.

    With ``experiment.rate_grid`` every arm is run at each of these learning rates, unless a level
    of the arm sets one.  A run's directory is named by a hash of everything that decides its
    numbers, the data's fingerprint included, so a changed setting is a new run, and the same run
    of another experiment is found again.

    Parameters
    ----------
    config : Config
        The experiment.
    seeds : iterable of int
        The seeds that every arm runs with.
    directory : Path
        The folder of all results; runs go to its folder ``runs``.
    record : Record, optional
        The record.  If it is given, documents that it knows are not read, and documents of a
        corpus that cannot be had count as unknown ones.  The runs can then be looked up, but not
        performed.

    Raises
    ------
    UserError
        If an arm is invalid, two arms or an arm and a reference have the same name, the data
        cannot be had, or they do not fill a minibatch.
    """
    for factor in config.experiment.factors:
        if factor in COLUMNS:
            raise UserError(
                f"experiment.factors.{factor}: results.csv has such a column; choose another name"
            )
    arms: list[tuple[Arm, ReferenceConfig | None]] = [
        (_reference_arm(reference, corpus), reference)
        for corpus in expand_corpora(config)
        for reference in config.experiment.references
    ]
    arms += [(arm, None) for arm in expand_arms(config)]
    check_distinct([arm.name for arm, _ in arms])
    runs, missing = [], set()
    for arm, reference in arms:
        known = None if record is None else record.documents(arm.config.data)
        if arm.config.data.source in missing:
            known = known or UNKNOWN
        path = None
        if not known:
            try:
                path = _prepare_corpus(json.dumps(arm.config.data.model_dump()))
                known = _checked_documents(arm, _read_corpus(path), reference)
            except UserError as error:
                if record is None or arm.config.data.source in CHANGING:
                    raise
                print(f"runs with unknown documents count as not done: {error}")
                missing.add(arm.config.data.source)
                known = UNKNOWN
        source, digest = known
        for seed in seeds:
            for rate in [None] if reference else _rates(config, arm):
                settings = {} if rate is None else {"training.learning_rate": rate}
                run_config = arm.config.replace({"training.seed": seed, **settings})
                identity = _identity(run_config, reference, digest)[:16]
                runs.append(
                    Run(
                        arm=arm.name,
                        levels=arm.levels,
                        seed=seed,
                        config=run_config,
                        reference=reference,
                        corpus=path,
                        source=source,
                        data_fingerprint=digest,
                        identity=identity,
                        directory=directory.absolute() / "runs" / identity,
                    )
                )
    return runs


def _checked_documents(arm: Arm, corpus: Corpus, reference) -> tuple[str, str]:
    """Return source and fingerprint of an arm's documents, or raise a UserError."""
    if not reference:
        largest = max(corpus.train.max(), corpus.test.max())
        if arm.config.model.loss == "cross_entropy" and largest > 1:
            raise UserError(
                f"arm {arm.name}: loss cross_entropy is for values from 0 to 1, the data go up "
                f"to {largest:g}: take another data.input or model.loss"
            )
        n, fraction = corpus.train.shape[0], arm.config.data.validation_fraction
        fit_rows, _ = split_validation(n, fraction, streams(0).split)
        check_batch_size(len(fit_rows), arm.config.training.batch_size, arm.config.model)
        curvature.check(arm.config, len(fit_rows))
    return corpus.source, corpus.fingerprint


def _reference_arm(reference: ReferenceConfig, corpus: Arm) -> Arm:
    """Return a reference as an arm: its name, and its data as counts."""
    settings: dict = {"data.input": "as_is"}
    if reference.vocabulary_size is not None:
        settings["data.vocabulary_size"] = reference.vocabulary_size
    name = " / ".join([reference.name or REFERENCES[reference.kind], *corpus.levels.values()])
    return Arm(name, corpus.levels, corpus.config.replace(settings))


def _rates(config: Config, arm: Arm) -> list:
    """Return the learning rates that an arm is run at; None is the one of its config."""
    factors, key = config.experiment.factors, "training.learning_rate"
    fixed = any(key in factors[factor][level] for factor, level in arm.levels.items())
    return [None] if fixed else list(config.experiment.rate_grid) or [None]


def _identity(config: Config, reference: ReferenceConfig | None, data_fingerprint: str) -> str:
    """Return a hash of all that decides a run's numbers.

    What is null is left out: a feature that is not used is the same as one that did not exist.
    """
    decides: dict[str, Any] = {
        "data": data_fingerprint,
        "validation_fraction": config.data.validation_fraction,
        "evaluation": config.evaluation.model_dump(),
    }
    if reference:
        choices = candidates(reference, config.model.layers[-1])
        decides.update(
            reference=reference.kind,
            candidates=[_without_nulls(choice._asdict()) for choice in choices],
            seed=config.training.seed,
        )
    else:
        decides.update(config.model_dump(include={"model", "training", "theano"}))
        del decides["training"]["checkpoint_epochs"]
    return fingerprint(_without_nulls(decides))


def _without_nulls(tree):
    if not isinstance(tree, dict):
        return tree
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None}


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
    corpus = _corpus(run)
    if run.reference:
        results = _reference(run, corpus)
    else:
        with compiled(run.config, corpus.train.shape[1]) as autoencoder:
            results = _autoencoder(run, autoencoder, corpus)
    write_json(run.directory / "metrics.json", _rounded(results))
    for name in ("checkpoint.safetensors", "failure.json"):
        (run.directory / name).unlink(missing_ok=True)


def _reference(run: Run, corpus: Corpus) -> dict:
    """Return the results of a reference: one snapshot without a name.

    Each metric is that of the candidate that its criterion chose, see `CHOSEN_BY`.
    """
    reference, config = run.reference, run.config
    assert reference is not None
    fraction = config.data.validation_fraction
    rows = split_validation(corpus.train.shape[0], fraction, streams(run.seed).split)
    choices = candidates(reference, config.model.layers[-1])
    found = list(reference_codes(reference.kind, choices, corpus, rows[0], run.seed))
    results: dict = {"status": "finished", "files": {}}
    chosen = dict.fromkeys(CRITERIA, 0)  # the number of the candidate
    if len(found) > 1:
        scores = [_on_validation_documents(corpus, each.codes, rows) for each in found]
        for criterion in CRITERIA:
            of_each = [score.get(criterion, -np.inf) for score in scores]
            chosen[criterion] = int(np.argmax(of_each))  # the first of equals
        results["chosen"] = describe_choice({c: found[n].candidate for c, n in chosen.items()})
        results["candidates"] = [
            {**each.candidate._asdict(), **score} for each, score in zip(found, scores)
        ]
    measured = {}
    for number in set(chosen.values()):
        splits = _splits(corpus, found[number].codes)
        measured[number] = evaluation.merged(
            evaluation.unit_metrics(splits[1].codes, "linear"),
            snapshot_metrics(*splits, *rows, config.evaluation.softmax_probe),
        )
    metrics = evaluation.merged(
        *(
            {
                name: value
                for name, value in measured[number].items()
                if name == "reason" or CHOSEN_BY.get(name, OTHERWISE) == criterion
            }
            for criterion, number in chosen.items()
        )
    )
    results["snapshots"] = {"": metrics}
    if reference.kind == "denoiser" and config.experiment.keep_models:
        models = {"accuracy": chosen["valid_accuracy"], "precision": chosen[OTHERWISE]}
        for name, number in models.items() if len(found) > 1 else [("loss", 0)]:
            path = run.directory / _model_name(name)
            candidate, _, denoiser = found[number]
            assert denoiser is not None
            write_linear(
                path,
                denoiser.encoder_,
                denoiser.components_,
                config.replace(
                    {"data.input": candidate.input, "model.dropout.input": denoiser.masking}
                ),
                corpus,
            )
            results["files"][path.name] = file_digest(path)
    return results


def _on_validation_documents(corpus: Corpus, codes, rows) -> dict:
    """Return the metrics that choose among a reference's candidates."""
    fit, valid = (Split(codes[0][part], corpus.train_labels[part]) for part in rows)
    parts = validation_parts(fit, valid, valid)
    if parts:
        parts["valid_scaled_precision"] = lambda: scaled_precision(fit, valid)
    return evaluation.measured(parts)


def _splits(corpus: Corpus, codes) -> tuple[Split, Split]:
    train, test = codes
    return Split(train, corpus.train_labels), Split(test, corpus.test_labels)


def _autoencoder(run: Run, autoencoder: Autoencoder, corpus: Corpus) -> dict:
    """Train, measure every snapshot, on the test documents once, and write the models."""
    stream = streams(run.seed)
    fraction = run.config.data.validation_fraction
    rows = split_validation(corpus.train.shape[0], fraction, stream.split)
    result = _train(run, autoencoder, corpus, rows, stream)
    results = _history(run, autoencoder, result)
    if result.snapshots:
        results.update(_measure_snapshots(run, autoencoder, corpus, rows, result))
    else:
        results.update(snapshots=_chance(run, corpus), files={})
    if run.config.evaluation.curvature is not None:
        summary = _summarize_curvature(run, autoencoder, corpus.train[rows[0]], result)
        results["spectra"] = summary.pop("spectra", {})
        of_loss = results["snapshots"]["loss"]
        results["snapshots"]["loss"] = evaluation.merged(of_loss, summary)
    return results


def _history(run: Run, autoencoder: Autoencoder, result: Result) -> dict:
    """Return how training went."""
    training, epochs = run.config.training, len(result.history)
    ended_by_itself = result.diverged or epochs - result.best_epoch >= training.patience
    rows = [{**epoch._asdict(), **epoch.codes} for epoch in result.history]
    return {
        "status": "diverged" if result.diverged else "finished",
        "epochs": epochs,
        "capped": epochs == training.epochs and not ended_by_itself,
        "seconds": result.history[-1].seconds,
        "kernels": autoencoder.kernels,
        "history": _columns(rows, ["codes", "seconds"]),
        "observations": _columns(result.observations),
    }


def _chance(run: Run, corpus: Corpus) -> dict:
    """Return the snapshots of a run that had no epoch with a finite loss."""
    labels = corpus.train_labels, corpus.test_labels
    chance = evaluation.chance_metrics(*labels, run.config.evaluation)
    names = ["loss"] if run.config.training.path_epochs is None else list(SNAPSHOTS)
    return {name: {"epoch": 0, **chance} for name in names}


def _measure_snapshots(
    run: Run,
    autoencoder: Autoencoder,
    corpus: Corpus,
    rows: tuple[Any, Any],
    result: Result,
) -> dict:
    """Measure every snapshot; return them and the files of their models."""
    config, X_train = run.config, corpus.train[rows[0]]
    results: dict = {"snapshots": {}, "files": {}}
    tested: dict[int, tuple] = {}  # by epoch: codes and metrics of the test documents
    for name in filter(result.snapshots.get, SNAPSHOTS):
        epoch, state = result.snapshots[name]
        last = result.history[epoch - 1]
        metrics = {"epoch": epoch, "valid_loss": last.valid_loss, **last.codes}
        autoencoder.set_state(state)
        if config.experiment.keep_models:
            path = run.directory / _model_name(name)
            write_model(path, autoencoder, config, corpus)
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
    codes = autoencoder.encode(corpus.train), autoencoder.encode(corpus.test)
    softmax_probe = run.config.evaluation.softmax_probe
    metrics = snapshot_metrics(*_splits(corpus, codes), *rows, softmax_probe)
    return codes[1], {"test_loss": autoencoder.evaluate(corpus.test), **metrics}


def _summarize_curvature(run: Run, autoencoder: Autoencoder, X_train, result: Result) -> dict:
    """Return the metrics of the curvature that was measured in training, and at the best epoch."""
    reasons = [m for m in result.measurements if m and "reason" in m]
    measured = {e: m for e, m in enumerate(result.measurements) if m and "reason" not in m}

    def spectra():
        best = measured.get(result.best_epoch)
        if best is None and result.snapshots:
            autoencoder.set_state(result.snapshots["loss"].state)
            best = _curvature(run, autoencoder, X_train)
        return curvature.summarize(measured, best)

    return evaluation.merged(*reasons, evaluation.measured({"curvature": spectra}))


def _train(run: Run, autoencoder: Autoencoder, corpus: Corpus, rows, stream) -> Result:
    """Train an autoencoder from its initialisation, or from its checkpoint."""
    training, settings = run.config.training, run.config.evaluation.curvature
    X_train, X_valid = (corpus.train[part] for part in rows)

    def measure(epoch):
        assert settings is not None
        if epoch not in settings.epochs:
            return None
        return evaluation.measured(
            {"curvature": lambda: _curvature(run, autoencoder, X_train) or {}}
        )

    meter = None
    if training.path_epochs is not None:
        fit_labels, valid_labels = (corpus.train_labels[part] for part in rows)
        meter = PathMeter(fit_labels, valid_labels, run.config.model.hidden_activation)
    autoencoder.initialize(X_train, stream, training.learning_rate, run.config.model.dropout)
    return fit(
        autoencoder,
        X_train,
        X_valid,
        training,
        stream.order,
        measure=None if settings is None else measure,
        measure_codes=meter,
        checkpoint=run.directory / "checkpoint.safetensors",
        identity=fingerprint([run.identity, _versions(), autoencoder.kernels]),
    )


def _curvature(run: Run, autoencoder: Autoencoder, X_train):
    settings = run.config.evaluation.curvature
    assert settings is not None
    return curvature.measure(
        hessian(run.config, X_train.shape[1]),
        autoencoder.get_state(),
        X_train,
        run.config.training.batch_size,
        settings,
    )


def _model_name(snapshot: str) -> str:
    """Return the name of a snapshot's model file."""
    return NAME if snapshot == "loss" else NAME.replace(".", f"-{snapshot}.")


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


def results_of(run: Run, record: Record | None = None) -> dict | None:
    """Return what a run found, from its directory or from the record; None without either.

    Raises
    ------
    UserError
        If its directory is damaged, and the record does not have it.
    """
    recorded = None if record is None else record.results(run.identity)
    try:
        return run.read_metrics() or recorded
    except UserError:
        if not recorded:
            raise
        return recorded


def record_lines(runs: list[Run], record: Record) -> Iterator[dict]:
    """Yield the line of the record of every finished run that is not recorded yet.

    Parameters
    ----------
    runs : list of Run
        The runs of an experiment; unfinished and damaged ones are skipped.
    record : Record
        The record that the lines are for.
    """
    for run in runs:
        if run.identity in record.lines:
            continue
        try:
            results = run.read_metrics()
        except UserError:  # damaged, so not finished
            continue
        if results is not None:
            yield {"run": run.identity, **run.describe(), **results}


def results_table(runs: list[Run], record: Record | None = None) -> pd.DataFrame:
    """Return one row per run and snapshot: arm, factors, seed, status and metrics.

    Parameters
    ----------
    runs : list of Run
        The finished and failed runs.
    record : Record, optional
        The record, for runs whose directory was deleted.

    Raises
    ------
    UserError
        If a run is neither finished nor failed, or its results are damaged.
    """
    rows = []
    for run in runs:
        results = outcome(run, record)
        snapshots = results.get("snapshots", {"": {}})
        row = {key: value for key, value in results.items() if not isinstance(value, (dict, list))}
        row.update(arm=run.arm, seed=run.seed, source=run.source, **run.levels)
        row.update(data=run.data_fingerprint[:10], run=run.identity)
        row["learning_rate"] = None if run.reference else run.config.training.learning_rate
        rows += [{**row, "snapshot": name or None, **snapshots[name]} for name in snapshots]
    factors = list(dict.fromkeys(factor for run in runs for factor in run.levels))
    table = pd.DataFrame(rows)
    columns = ["arm", *factors, *(column for column in COLUMNS[1:] if column in table)]
    return table[columns]


def outcome(run: Run, record: Record | None = None) -> dict:
    """Return a run's results, or its status and the reason if it failed.

    Raises
    ------
    UserError
        If the run is neither finished nor failed, or its results are damaged.
    """
    failure = run.directory / "failure.json"
    recorded = record is not None and record.results(run.identity) is not None
    if failure.exists() and not run.finished and not recorded:
        return {"status": "failed", "reason": read_json(failure)["reason"]}
    results = results_of(run, record)
    if results is not None:
        return results
    raise UserError(f"{run.directory}: not finished; run again")


def _corpus(run: Run) -> Corpus:
    """Return a run's corpus; on another machine it is prepared there, and must be the same."""
    try:
        corpus = _read_corpus(run.corpus)
    except UserError:
        corpus = _read_corpus(prepare_corpus(run.config.data))
    if corpus.fingerprint != run.data_fingerprint:
        raise UserError(
            f"{corpus.source} here is another corpus (fingerprint {corpus.fingerprint[:10]}) than "
            f"{run.source} of the sweep ({run.data_fingerprint[:10]}): give every machine the same"
        )
    return corpus


@lru_cache(maxsize=None)
def _prepare_corpus(data: str) -> Path:
    return prepare_corpus(DataConfig.model_validate(json.loads(data)))


_read_corpus = lru_cache(maxsize=4)(read_corpus)


@lru_cache(maxsize=1)
def _versions() -> dict:
    return {package: version(package) for package in PACKAGES}


@lru_cache(maxsize=1)
def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return answer.stdout.strip() or None
