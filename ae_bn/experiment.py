"""From a config to results: the runs of an experiment, one run, and the table of all.

`plan_runs` turns a config into runs: every arm with every seed, and the reference rows.
`perform` does one run and fills its directory::

    run.json                config, seed, arm, versions, source and fingerprint of the data; first
    checkpoint.safetensors  where training is; until it is over
    history.csv             a row per epoch
    observations.csv        a row every training.observe_steps steps, if that is set
    model.safetensors       parameters, population statistics, vocabulary: see `ae_bn.model_file`
    metrics.json            the results, and checksums of the files above; last, so a directory that
                            has it is a finished run

`ae_bn.sweep` does what is not finished yet, in parallel; `results_table` collects the rows, and
`curves_table` the curves.
"""

from __future__ import annotations

import json
import platform
import subprocess
import threading
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Iterable

import numpy as np
import pandas as pd

import ae_bn
from ae_bn import curvature, evaluation
from ae_bn.autoencoder import Autoencoder
from ae_bn.config import (
    Arm,
    Config,
    DataConfig,
    DropoutConfig,
    ModelConfig,
    expand_arms,
)
from ae_bn.data import Corpus, prepare_corpus, read_corpus, split_validation
from ae_bn.errors import UserError
from ae_bn.files import (
    file_digest,
    fingerprint,
    read_json,
    write_json,
)
from ae_bn.model_file import write_model
from ae_bn.paths import atomic_write
from ae_bn.randomness import streams
from ae_bn.statistics import mean_interval
from ae_bn.training import check_batch_size, fit

REFERENCES = {"tfidf": "raw TF-IDF", "svd": "truncated SVD"}
# Of results.csv, beside the factors; a reference has only some of them.
COLUMNS = ["arm", "seed", "status", *evaluation.METRICS, "best_epoch", "classifier_c"]
COLUMNS += ["learning_rate", "source", "data", "run", "reason"]
PRODUCTS = ("history.csv", "observations.csv", "model.safetensors")  # of training
PACKAGES = ["Theano-PyMC", "numpy", "scipy", "scikit-learn"]


@dataclass(frozen=True)
class Run:
    """One training run, or one reference, with one seed.

    Attributes
    ----------
    arm : str
    levels : dict of str to str
        The level of each factor; empty for a reference.
    seed : int
    config : Config
    reference : str or None
        A key of `REFERENCES`, or None for an autoencoder.
    corpus : Path
        Of the vectorised corpus in the cache.
    source, data_fingerprint : str
        Of the corpus.
    identity : str
        A hash of everything that decides the numbers.
    directory : Path
        Absolute.
    """

    arm: str
    levels: dict
    seed: int
    config: Config
    reference: str | None
    corpus: Path
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
            If they, or the files they vouch for, are not as they were written.
        """
        path = self.directory / "metrics.json"
        if not path.exists():
            return None
        metrics = read_json(path)
        for name, digest in metrics.pop("files").items():
            if name not in PRODUCTS:
                raise UserError(f"{path}: no run has a file {name!r:.80}")
            if file_digest(self.directory / name) != digest:
                raise UserError(f"{self.directory / name} is damaged (its checksum does not match)")
        return metrics


def plan_runs(
    config: Config, seeds: Iterable[int], directory: Path, headline: Iterable[int] = ()
) -> list[Run]:
    """Return all runs of an experiment, references first.

    A run's directory is named by arm, seed and a hash of everything that decides its numbers,
    the data's fingerprint included, so a changed setting is a new run, and the same is found
    again.

    Parameters
    ----------
    config : Config
    seeds : iterable of int
    directory : Path
        Of the experiment; runs go to its folder ``runs``.
    headline : iterable of int
        Further seeds for the arms in ``experiment.headline``.

    Raises
    ------
    UserError
        If an arm is invalid, its data cannot be had, or they do not fill a minibatch.
    """
    for factor in config.experiment.factors:
        if factor in COLUMNS:
            raise UserError(
                f"experiment.factors.{factor}: results.csv has such a column; choose another name"
            )
    arms: list[tuple[Arm, str | None]] = [(arm, None) for arm in expand_arms(config)]
    tfidf = config.replace({"data.input": "tfidf"})
    arms[:0] = [(Arm(REFERENCES[kind], {}, tfidf), kind) for kind in config.experiment.references]
    runs = []
    for arm, reference in arms:
        path = _prepare_corpus(json.dumps(arm.config.data.model_dump()))
        corpus = _read_corpus(path)
        if not reference:
            if arm.config.model.loss == "cross_entropy" and corpus.train.max() > 1:
                raise UserError(
                    f"arm {arm.name}: loss cross_entropy is for values from 0 to 1, the data go up "
                    f"to {corpus.train.max():g}: take another data.input or model.loss"
                )
            n, fraction = corpus.train.shape[0], arm.config.data.validation_fraction
            fit_rows, _ = split_validation(n, fraction, streams(0).split)
            check_batch_size(len(fit_rows), arm.config.training.batch_size)
            curvature.check(arm.config, len(fit_rows))
        further = headline if arm.name in config.experiment.headline.arms else ()
        for seed in [*seeds, *further]:
            run_config = arm.config.replace({"training.seed": seed})
            identity = _identity(run_config, reference, corpus.fingerprint)
            slug = "".join(c if c.isalnum() else "_" for c in arm.name)[:60]
            name = f"{slug}-seed{seed}-{identity[:10]}"
            runs.append(
                Run(
                    arm=arm.name,
                    levels=arm.levels,
                    seed=seed,
                    config=run_config,
                    reference=reference,
                    corpus=path,
                    source=corpus.source,
                    data_fingerprint=corpus.fingerprint,
                    identity=identity,
                    directory=directory.absolute() / "runs" / name,
                )
            )
    return runs


def _identity(config: Config, reference: str | None, data_fingerprint: str) -> str:
    """Return a hash of all that decides a run's numbers.

    What is null is left out: a feature that is not used is the same as one that did not exist.
    """
    decides: dict[str, Any] = {
        "data": data_fingerprint,
        "validation_fraction": config.data.validation_fraction,
        "evaluation": config.evaluation.model_dump(),
    }
    if reference:
        decides.update(
            reference=reference, n_units=config.model.layers[-1], seed=config.training.seed
        )
    else:
        decides.update(config.model_dump(include={"model", "training", "theano"}))
        del decides["training"]["checkpoint_epochs"]
    return fingerprint(_without_nulls(decides))


def _without_nulls(tree):
    if not isinstance(tree, dict):
        return tree
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None}


def perform(run: Run, test: bool = True) -> None:
    """Do one run, from its checkpoint if it has one, and fill its directory.

    Parameters
    ----------
    run : Run
    test : bool
        False leaves the test documents untouched: for tuning.

    Raises
    ------
    UserError
        If the data are not those that the run was planned with, or a file cannot be written.
    """
    with one_at_a_time:
        write_json(run.directory / "run.json", describe(run))
        metrics = _measure(run, _corpus(run), test)
        write_json(run.directory / "metrics.json", metrics)
    for name in ("checkpoint.safetensors", "failure.json"):
        (run.directory / name).unlink(missing_ok=True)


def _measure(run: Run, corpus: Corpus, test: bool) -> dict:
    """Train, write the files of training, and return all results."""
    stream = streams(run.seed)
    fit_rows, valid_rows = split_validation(
        corpus.train.shape[0], run.config.data.validation_fraction, stream.split
    )
    if run.reference:
        metrics: dict[str, Any] = {"status": "finished", "files": {}}
        n_units = run.config.model.layers[-1]
        codes = evaluation.reference_codes(
            run.reference, corpus.train, corpus.test, n_units, run.seed
        )
    else:
        autoencoder = compiled_autoencoder(run.config, corpus.train.shape[1])
        X_train, X_valid = corpus.train[fit_rows], corpus.train[valid_rows]
        metrics = _train(run, autoencoder, corpus, X_train, X_valid, stream)
        if metrics["best_epoch"] == 0:
            labels = corpus.train_labels, corpus.test_labels
            metrics.update(evaluation.chance_metrics(*labels, run.config.evaluation))
            test = False
        elif test:
            metrics["test_loss"] = autoencoder.evaluate(corpus.test)
            codes = autoencoder.encode(corpus.train), autoencoder.encode(corpus.test)
    if test:
        metrics.update(
            evaluation.evaluate_codes(
                evaluation.Split(codes[0], corpus.train_labels),
                evaluation.Split(codes[1], corpus.test_labels),
                fit_rows,
                valid_rows,
                "linear" if run.reference else run.config.model.hidden_activation,
                run.config.evaluation,
            )
        )
    return metrics


def _train(run: Run, autoencoder: Autoencoder, corpus, X_train, X_valid, stream) -> dict:
    """Train, write history and model, and return what training says of itself."""
    training, settings = run.config.training, run.config.evaluation.curvature

    def measure(epoch=None):
        assert settings is not None
        if epoch is not None and epoch not in settings.epochs:
            return None
        hessian = _hessian(_graph(run.config)[0], X_train.shape[1])
        state = autoencoder.get_state()
        return curvature.measure(hessian, state, X_train, training.batch_size, settings)

    autoencoder.initialize(X_train, stream, training.learning_rate, run.config.model.dropout)
    result = fit(
        autoencoder,
        X_train,
        X_valid,
        training,
        stream.order,
        measure=None if settings is None else measure,
        checkpoint=run.directory / "checkpoint.safetensors",
        identity=fingerprint([run.identity, _versions(), autoencoder.kernels]),
    )
    with atomic_write(run.directory / "history.csv") as file:
        pd.DataFrame(result.history).to_csv(file, index=False)
    write_model(run.directory / "model.safetensors", autoencoder, run.config, corpus)
    products = ["history.csv", "model.safetensors"]
    if result.observations:
        products.append("observations.csv")
        with atomic_write(run.directory / "observations.csv") as file:
            pd.DataFrame(result.observations).to_csv(file, index=False)
    metrics = {
        "status": "diverged" if result.diverged else "finished",
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "steps_per_epoch": X_train.shape[0] // training.batch_size,
        "seconds": result.history[-1].seconds,
        "kernels": autoencoder.kernels,
        "files": {name: file_digest(run.directory / name) for name in products},
    }
    if result.best_epoch > 0:
        metrics["valid_loss"] = result.history[result.best_epoch - 1].valid_loss
        metrics["train_loss"] = autoencoder.evaluate(X_train)
        metrics["gap"] = metrics["valid_loss"] - metrics["train_loss"]
        if run.config.model.dropout != DropoutConfig(input=0, hidden=0):
            metrics.update(autoencoder.variance_shift(X_train))
    if settings is not None:
        measured = {epoch: m for epoch, m in enumerate(result.measurements) if m is not None}
        best = measured.get(result.best_epoch) or measure() if result.best_epoch > 0 else None
        metrics.update(curvature.summarize(measured, best))
    return metrics


def results_table(runs: list[Run]) -> pd.DataFrame:
    """Return one row per run: arm, factors, seed, status, metrics, and where it all is.

    Raises
    ------
    UserError
        If a run is neither finished nor failed, or its results are damaged.
    """
    rows = []
    for run in runs:
        metrics = _outcome(run)
        row = {**metrics, "arm": run.arm, "seed": run.seed, "source": run.source}
        row.update(run.levels, data=run.data_fingerprint[:10], run=run.directory.name)
        row["learning_rate"] = None if run.reference else run.config.training.learning_rate
        target = run.config.experiment.report.target_loss
        if target is not None and not run.reference and "steps_per_epoch" in metrics:
            history = pd.read_csv(run.directory / "history.csv")
            met = history["epoch"][history["valid_loss"] <= target]
            row["steps_to_target"] = met.min() * metrics["steps_per_epoch"]  # NaN: not met
        rows.append(row)
    factors = list(dict.fromkeys(factor for run in runs for factor in run.levels))
    table = pd.DataFrame(rows)
    columns = ["arm", *factors, *(column for column in COLUMNS[1:] if column in table)]
    return table[columns]


def curves_table(runs: list[Run]) -> pd.DataFrame:
    """Return all curves of the runs, means over seeds point by point.

    They are the columns of ``history.csv`` over the epoch and of ``observations.csv`` over the
    step, ``precision`` over recall, and what ``metrics.json`` has as ``spectra``:
    {name: {"x": [...], "y": [...]}}.

    Parameters
    ----------
    runs : list of Run
        Finished or failed; failed ones have no curves.

    Returns
    -------
    DataFrame
        A row per point: ``arm``, ``curve``, ``x`` (mean), ``n`` (seeds that go so far), ``mean``,
        ``low`` and ``high`` (see `ae_bn.statistics.mean_interval`).
    """
    seeds = {}  # (arm, curve): a list of (x, y), one per seed
    for run in runs:
        for curve, xy in _curves(run).items():
            seeds.setdefault((run.arm, curve), []).append(np.array(xy, dtype=float))
    parts = []
    for (arm, curve), pairs in seeds.items():
        start = 0
        for stop in sorted({pair.shape[1] for pair in pairs}):
            reaching = np.array([pair[:, start:stop] for pair in pairs if pair.shape[1] >= stop])
            mean, low, high = mean_interval(reaching[:, 1])
            points = {"x": reaching[:, 0].mean(axis=0), "n": len(reaching)}
            points.update(mean=mean, low=low, high=high)
            parts.append(pd.DataFrame({"arm": arm, "curve": curve, **points}))
            start = stop
    columns = ["arm", "curve", "x", "n", "mean", "low", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _curves(run: Run) -> dict[str, tuple]:
    """Return x and y of each curve of a run."""
    metrics, curves = _outcome(run), {}
    if metrics["status"] == "failed":
        return {}
    if not run.reference:
        tables = [pd.read_csv(run.directory / "history.csv").drop(columns="seconds")]
        if (run.directory / "observations.csv").exists():
            tables.append(pd.read_csv(run.directory / "observations.csv"))
        for table in tables:
            x, *columns = table.columns
            curves.update((column, (table[x], table[column])) for column in columns)
    if "curve" in metrics:
        curves["precision"] = (metrics["curve"]["recall"], metrics["curve"]["precision"])
    for name, spectrum in metrics.get("spectra", {}).items():
        curves[name] = (spectrum["x"], spectrum["y"])
    return curves


def describe(run: Run) -> dict:
    """Return what is written down about a run before it starts."""
    return {
        "arm": run.arm,
        "levels": run.levels,
        "reference": run.reference,
        "seed": run.seed,
        "config": run.config.run_settings(),
        "data": {"source": run.source, "fingerprint": run.data_fingerprint},
        "versions": {
            "ae_bn": ae_bn.__version__,
            "git commit": _git_commit(),
            "python": platform.python_version(),
            **_versions(),
        },
    }


def _outcome(run: Run) -> dict:
    """Return a run's results, or its status and the reason if it failed."""
    failure = run.directory / "failure.json"
    if not run.finished and failure.exists():
        return {"status": "failed", "reason": read_json(failure)["reason"]}
    metrics = run.read_metrics()
    if metrics is None:
        raise UserError(f"{run.directory}: not finished; run again")
    return metrics


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
one_at_a_time = threading.Lock()  # runs in threads of one process would share shared variables


def graph(run: Run) -> tuple | None:
    """Return what is compiled for a run: the same for runs that differ in numbers only."""
    if run.reference:
        return None
    return _graph(run.config)


def _graph(config: Config) -> tuple:
    no_dropout = config.replace({"model.dropout.input": 0.0, "model.dropout.hidden": 0.0})
    return no_dropout.model.model_dump_json(), config.training.optimizer, config.theano.kernels


def compiled_autoencoder(config: Config, n_words: int) -> Autoencoder:
    """Return the one autoencoder of this process for a config's graph; use it `one_at_a_time`."""
    return _compiled_autoencoder(*_graph(config), n_words)


@lru_cache(maxsize=8)
def _compiled_autoencoder(model: str, optimizer: str, kernels: str, n_words: int) -> Autoencoder:
    return Autoencoder(ModelConfig.model_validate_json(model), optimizer, n_words, kernels)


@lru_cache(maxsize=1)
def _hessian(model: str, n_words: int) -> curvature.Hessian:
    return curvature.Hessian(ModelConfig.model_validate_json(model), n_words)


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
