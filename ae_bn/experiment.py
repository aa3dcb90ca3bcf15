"""From a config to results: the runs of an experiment, one run, and all of them.

`plan_runs` turns a config into runs: every arm with every seed, and the reference rows.
`perform` does one run and fills its directory:

    run.json            config, seed, arm, versions, source and fingerprint of the data; first
    history.csv         a row per epoch
    model.safetensors   parameters and population statistics
    metrics.json        the results; last, so a directory that has it is a finished run

`sweep` does what is not finished yet, in parallel, and `results_table` collects the rows.
"""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Callable, Iterable

import pandas as pd
import safetensors.numpy
import theano
from joblib import Parallel, delayed
from tqdm import tqdm

import ae_bn
from ae_bn import evaluation
from ae_bn.autoencoder import Autoencoder
from ae_bn.config import Arm, Config, DataConfig, ModelConfig, expand_arms, fingerprint
from ae_bn.data import prepare_corpus, read_corpus, split_validation
from ae_bn.errors import UserError
from ae_bn.paths import atomic_write
from ae_bn.randomness import streams
from ae_bn.training import Epoch, fit

REFERENCES = {"tfidf": "raw TF-IDF", "svd": "truncated SVD"}
# Of results.csv, beside the factors; a reference has only some of them.
COLUMNS = ["arm", "seed", "status", *evaluation.METRICS, "best_epoch", "classifier_c"]
COLUMNS += ["learning_rate", "source", "data", "run"]
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
    directory : Path
    """

    arm: str
    levels: dict
    seed: int
    config: Config
    reference: str | None
    corpus: Path
    source: str
    data_fingerprint: str
    directory: Path

    @property
    def finished(self) -> bool:
        return (self.directory / "metrics.json").exists()


def plan_runs(config: Config, seeds: Iterable[int], directory: Path) -> list[Run]:
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

    Raises
    ------
    UserError
        If an arm is invalid or its data cannot be had.
    """
    for factor in config.experiment.factors:
        if factor in COLUMNS:
            raise UserError(
                f"experiment.factors.{factor}: results.csv has such a column; choose another name"
            )
    arms = [(arm, None) for arm in expand_arms(config)]
    tfidf = config.replace({"data.input": "tfidf"})
    arms[:0] = [(Arm(REFERENCES[kind], {}, tfidf), kind) for kind in config.experiment.references]
    runs = []
    for arm, reference in arms:
        path = _prepare_corpus(arm.config.data.model_dump_json())
        corpus = _read_corpus(path)
        for seed in seeds:
            run_config = arm.config.replace({"training.seed": seed})
            identity = _identity(run_config, reference, corpus.fingerprint)
            slug = "".join(c if c.isalnum() else "_" for c in arm.name)
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
                    directory=directory / "runs" / f"{slug}-seed{seed}-{identity[:10]}",
                )
            )
    return runs


def _identity(config: Config, reference: str | None, data_fingerprint: str) -> str:
    """Return a hash of all that decides a run's numbers."""
    decides = {
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
    return fingerprint(decides)


def perform(run: Run, test: bool = True, report: Callable[[Epoch], object] | None = None) -> None:
    """Do one run and fill its directory.

    Parameters
    ----------
    run : Run
    test : bool
        False leaves the test documents untouched: for tuning.
    report : function, optional
        Called with every epoch.
    """
    write_json(run.directory / "run.json", describe(run))
    corpus = _read_corpus(run.corpus)
    stream = streams(run.seed)
    fit_rows, valid_rows = split_validation(
        corpus.train.shape[0], run.config.data.validation_fraction, stream.split
    )
    if run.reference:
        metrics = {"status": "finished"}
        n_units = run.config.model.layers[-1]
        codes = evaluation.reference_codes(
            run.reference, corpus.train, corpus.test, n_units, run.seed
        )
    else:
        autoencoder = _autoencoder(run.config, corpus.train.shape[1])
        X_train, X_valid = corpus.train[fit_rows], corpus.train[valid_rows]
        metrics = _train(run, autoencoder, X_train, X_valid, stream, report)
        if metrics["best_epoch"] == 0:
            metrics.update(evaluation.chance_metrics(corpus.train_labels, corpus.test_labels))
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
                run.config.model.hidden_activation,
                run.config.evaluation,
            )
        )
    write_json(run.directory / "metrics.json", metrics)


def _train(run: Run, autoencoder: Autoencoder, X_train, X_valid, stream, report) -> dict:
    """Train, write history and model, and return what training says of itself."""
    training = run.config.training
    autoencoder.initialize(X_train, stream, training.learning_rate, run.config.model.dropout)
    result = fit(autoencoder, X_train, X_valid, training, stream.order, report)
    with atomic_write(run.directory / "history.csv") as file:
        pd.DataFrame(result.history).to_csv(file, index=False)
    with atomic_write(run.directory / "model.safetensors", "wb") as file:
        file.write(safetensors.numpy.save(autoencoder.get_state()))
    metrics = {
        "status": "diverged" if result.diverged else "finished",
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "seconds": result.history[-1].seconds,
        "kernels": autoencoder.kernels,
    }
    if result.best_epoch > 0:
        metrics["valid_loss"] = result.history[result.best_epoch - 1].valid_loss
    return metrics


def sweep(runs: list[Run], jobs: int, test: bool = True, name: str = "runs") -> None:
    """Do all runs that are not finished, with a progress bar.

    Parameters
    ----------
    runs : list of Run
    jobs : int
        Processes; with more than one each gets its share of the cores' threads.
    test : bool
        As for `perform`.
    name : str
        Of the progress bar.
    """
    pending = [run for run in runs if not run.finished]
    if len(pending) < len(runs):
        print(f"{len(runs) - len(pending)} of {len(runs)} runs are finished already")
    if pending:
        print(
            f"compiling Theano's functions first, into {theano.config.compiledir}: "
            "a minute or so on a new machine, seconds later"
        )
    with tqdm(total=len(pending), desc=name, unit="run", disable=not pending) as bar:
        if jobs == 1:
            for run in pending:
                epochs = run.config.training.epochs
                with tqdm(total=epochs, desc=run.arm, unit="epoch", leave=False) as inner:
                    perform(run, test, report=lambda epoch, inner=inner: inner.update())
                bar.update()
        else:
            parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
            for _ in parallel(delayed(perform)(run, test) for run in pending):
                bar.update()


def tune(config: Config, directory: Path, jobs: int) -> str:
    """Choose every arm's learning rate by its validation loss; the test data are not touched.

    Parameters
    ----------
    config : Config
        Its ``experiment.tuning`` has the rates and the seeds.
    directory : Path
    jobs : int

    Returns
    -------
    str
        The rates, with the losses they were chosen by, ready to paste into the config.  A rate
        at the end of the range is marked, since a better one may lie beyond.
    """
    tuning = config.experiment.tuning
    config = config.replace({"experiment.references": [], "experiment.learning_rates": {}})
    runs = []
    for rate in tuning.learning_rates:
        at_rate = config.replace({"training.learning_rate": rate})
        runs += plan_runs(at_rate, tuning.seeds, directory)
    sweep(runs, jobs, test=False, name="tuning")
    results = results_table(runs)
    with atomic_write(directory / "results.csv") as file:
        results.to_csv(file, index=False)
    losses = results.groupby(["arm", "learning_rate"], sort=False)["valid_loss"].mean().unstack()
    lines = ["  learning_rates:"]
    for arm, row in losses.iterrows():
        best = row.idxmin()
        beyond = "; at the end of the range" if best in (row.index[0], row.index[-1]) else ""
        shown = ", ".join(f"{rate:g}: {loss:.2f}" for rate, loss in row.items())
        lines.append(f'    "{arm}": {best:g}  # {shown}{beyond}')
    return "\n".join(lines)


def results_table(runs: list[Run]) -> pd.DataFrame:
    """Return one row per run: arm, factors, seed, status, metrics, and where it all is.

    Raises
    ------
    UserError
        If a run's metrics cannot be read.
    """
    rows = []
    for run in runs:
        path = run.directory / "metrics.json"
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {error}; delete its directory and run again") from None
        row = {**metrics, "arm": run.arm, "seed": run.seed, "source": run.source}
        row.update(run.levels, data=run.data_fingerprint[:10], run=run.directory.name)
        row["learning_rate"] = None if run.reference else run.config.training.learning_rate
        rows.append(row)
    factors = list(dict.fromkeys(factor for run in runs for factor in run.levels))
    table = pd.DataFrame(rows)
    columns = ["arm", *factors, *(column for column in COLUMNS[1:] if column in table)]
    return table[columns]


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
            **{package: version(package) for package in PACKAGES},
        },
    }


def write_json(path: Path, tree: dict) -> None:
    """Write plain values to a JSON file, atomically."""
    with atomic_write(path) as file:
        json.dump(tree, file, indent=1)
        file.write("\n")


@lru_cache(maxsize=None)
def _prepare_corpus(data: str) -> Path:
    return prepare_corpus(DataConfig.model_validate_json(data))


_read_corpus = lru_cache(maxsize=4)(read_corpus)


def _autoencoder(config: Config, n_words: int) -> Autoencoder:
    """Return an autoencoder for a config; configs that differ in numbers only share one."""
    model = config.replace({"model.dropout.input": 0.0, "model.dropout.hidden": 0.0}).model
    return _compiled_autoencoder(
        model.model_dump_json(), config.training.optimizer, n_words, config.theano.kernels
    )


@lru_cache(maxsize=8)
def _compiled_autoencoder(model: str, optimizer: str, n_words: int, kernels: str) -> Autoencoder:
    return Autoencoder(ModelConfig.model_validate_json(model), optimizer, n_words, kernels)


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
