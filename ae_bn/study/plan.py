"""From a config to runs: every arm with every seed and learning rate, and the reference rows.

A run's identity is a hash of everything that decides its numbers, so experiments that need the same
run share it.  `ae_bn.study.sweep` performs the runs in parallel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable

from ae_bn.config import Config, ReferenceConfig
from ae_bn.data.corpus import Corpus, prepare_corpus
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.evaluation.references import candidates
from ae_bn.files import file_digest, fingerprint, read_json
from ae_bn.model.model_file import NAME
from ae_bn.study.arms import (
    Arm,
    check_distinct,
    expand_arms,
    expand_corpora,
    is_planned,
    learning_rates,
    reference_arm,
)
from ae_bn.study.corpora import Corpora, read
from ae_bn.study.record import Record
from ae_bn.study.versions import software
from ae_bn.training import SNAPSHOTS

# Of results.csv, beside the factors; a reference has only some of them.
COLUMNS = ["arm", "seed", "status", "snapshot", "epoch", *METRICS]
COLUMNS += ["learning_rate", "capped", "source", "data", "run", "chosen", "reason"]


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

    def model_path(self, snapshot: str) -> Path:
        """Return the file of a snapshot's model."""
        name = NAME if snapshot == "loss" else NAME.replace(".", f"-{snapshot}.")
        return self.directory / name

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
            if name not in {self.model_path(snapshot).name for snapshot in SNAPSHOTS}:
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
            "versions": software(),
        }


def plan_runs(
    config: Config,
    seeds: Iterable[int],
    directory: Path,
    record: Record | None = None,
    reading: bool = True,
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
    reading : bool, optional
        Whether the documents that the record does not know are read.  Without them, only the runs
        of the record can be looked up.

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
        (reference_arm(reference, corpus), reference)
        for corpus in expand_corpora(config)
        for reference in config.experiment.references
    ]
    arms += [(arm, None) for arm in expand_arms(config)]
    check_distinct([arm.name for arm, _ in arms])
    runs, corpora = [], Corpora(record, reading)
    for arm, reference in arms:
        documents = corpora.documents(arm, reference)
        for seed in seeds:
            for rate in [None] if reference else learning_rates(config, arm):
                changes = {"seed": seed} if rate is None else {"seed": seed, "learning_rate": rate}
                training = arm.config.training.model_copy(update=changes)
                named = {"seed": seed, "learning_rate": training.learning_rate}
                if not (reference or is_planned(config.experiment, arm.levels, **named)):
                    continue
                run_config = arm.config.model_copy(update={"training": training})
                identity = _identity(run_config, reference, documents.fingerprint)[:16]
                runs.append(
                    Run(
                        arm=arm.name,
                        levels=arm.levels,
                        seed=seed,
                        config=run_config,
                        reference=reference,
                        corpus=documents.corpus,
                        source=documents.source,
                        data_fingerprint=documents.fingerprint,
                        identity=identity,
                        directory=directory.absolute() / "runs" / identity,
                    )
                )
    if not runs:
        raise UserError("experiment.include and skip leave no run with these seeds")
    return runs


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
        choices = candidates(reference, config.model.code_units)
        decides.update(
            reference=reference.kind,
            candidates=[_without_nulls(choice._asdict()) for choice in choices],
            seed=config.training.seed,
            vectors=reference.sha256,
        )
    else:
        decides.update(config.model_dump(include={"model", "training", "theano"}))
        del decides["training"]["checkpoint_epochs"]
    return fingerprint(_without_nulls(decides))


def _without_nulls(tree):
    if not isinstance(tree, dict):
        return tree
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None}


def corpus_of(run: Run) -> Corpus:
    """Return a run's corpus; on another machine it is prepared there, and must be the same.

    Raises
    ------
    UserError
        If the data are not those that the run was planned with, or cannot be had.
    """
    try:
        corpus = read(run.corpus)
    except UserError:
        corpus = read(prepare_corpus(run.config.data))
    if corpus.fingerprint != run.data_fingerprint:
        raise UserError(
            f"{corpus.source} here is another corpus (fingerprint {corpus.fingerprint[:10]}) than "
            f"{run.source} of the sweep ({run.data_fingerprint[:10]}): give every machine the same"
        )
    return corpus
