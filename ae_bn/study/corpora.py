"""The documents of runs: prepared and checked once, or known from the record."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ae_bn.config import DataConfig, ReferenceConfig
from ae_bn.data.corpus import prepare_corpus, read_corpus, split_validation
from ae_bn.errors import UserError
from ae_bn.evaluation import curvature
from ae_bn.randomness import streams
from ae_bn.study.arms import Arm
from ae_bn.study.record import CHANGING, Record
from ae_bn.training import check_batch_size


class Documents(NamedTuple):
    """The documents of an arm."""

    corpus: Path | None  # the file in the cache
    source: str
    fingerprint: str


UNKNOWN = Documents(None, "unknown", "")  # of documents that cannot be had


class Corpora:
    """The corpora of an experiment.

    Parameters
    ----------
    record : Record or None
        The record.  If it is given, documents that it knows are not read, and documents of a
        corpus that cannot be had count as unknown ones.
    reading : bool
        Whether documents are read at all.  If not, those that the record lacks are unknown, and
        those of files are the recorded ones.
    """

    def __init__(self, record: Record | None, reading: bool):
        self.record = record
        self.reading = reading
        self.missing: set[str] = set()  # sources that cannot be had

    def documents(self, arm: Arm, reference: ReferenceConfig | None) -> Documents:
        """Return the documents of an arm, checked unless the record knows them.

        Parameters
        ----------
        arm : Arm
            The arm.
        reference : ReferenceConfig or None
            The settings of a reference; None for an autoencoder, which has to suit the documents.

        Raises
        ------
        UserError
            If the data cannot be had, or do not suit the arm.
        """
        data = arm.config.data
        known = None if self.record is None else self.record.documents(data)
        if known and not (self.reading and data.source in CHANGING):
            return Documents(None, *known)
        if not self.reading or data.source in self.missing:
            return UNKNOWN
        try:
            path = _prepare(json.dumps(data.model_dump()))
            corpus = read(path)
            if reference is None:
                _check(arm, corpus)
        except UserError as error:
            if self.record is None or data.source in CHANGING:
                raise
            print(f"runs with unknown documents count as not done: {error}")
            self.missing.add(data.source)
            return UNKNOWN
        return Documents(path, corpus.source, corpus.fingerprint)


def _check(arm: Arm, corpus) -> None:
    """Check that an autoencoder can be trained on the documents."""
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


@lru_cache(maxsize=None)
def _prepare(data: str) -> Path:
    return prepare_corpus(DataConfig.model_validate(json.loads(data)))


read = lru_cache(maxsize=4)(read_corpus)
