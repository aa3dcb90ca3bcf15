"""One run of a reference: the codes of another method, measured like those of an autoencoder."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import LatentDirichletAllocation

from ae_bn.data.corpus import Corpus, split_validation
from ae_bn.data.word_vectors import read_word_vectors
from ae_bn.evaluation import probes as evaluation
from ae_bn.evaluation.codes import scaled_precision, snapshot_metrics, validation_parts
from ae_bn.evaluation.probes import Split
from ae_bn.evaluation.references import (
    CHOSEN_BY,
    CRITERIA,
    OTHERWISE,
    candidates,
    describe_choice,
    lda_losses,
    reference_codes,
    reference_topics,
)
from ae_bn.evaluation.topics import Decoder, fit_metrics, topic_rows, word_metrics
from ae_bn.files import file_digest
from ae_bn.model.model_file import write_linear
from ae_bn.randomness import streams
from ae_bn.study.plan import Run


def perform_reference(run: Run, corpus: Corpus) -> dict:
    """Return the results of a reference: one snapshot without a name.

    Each metric is that of the candidate that its criterion chose, see `CHOSEN_BY`.  With
    ``experiment.keep_models`` the linear denoiser that has the best score of each criterion is
    written to the run's directory.

    Parameters
    ----------
    run : Run
        The run, with the settings of a reference.
    corpus : Corpus
        Its documents.
    """
    reference, config = run.reference, run.config
    assert reference is not None
    fraction = config.data.validation_fraction
    rows = split_validation(corpus.train.shape[0], fraction, streams(run.seed).split)
    choices = candidates(reference, config.model.code_units)
    vectors = None
    if reference.file is not None and reference.sha256 is not None:
        vectors = read_word_vectors(reference.file, reference.sha256, corpus.words)
    found = list(reference_codes(reference.kind, choices, corpus, rows[0], run.seed, vectors))
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
        train, test = map(Split, found[number].codes, (corpus.train_labels, corpus.test_labels))
        measured[number] = evaluation.merged(
            evaluation.unit_metrics(test.codes, "linear"),
            snapshot_metrics(train, test, *rows, config.evaluation.softmax_probe),
            _of_topics(found[number].method, corpus, rows[1]),
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
            path = run.model_path(name)
            candidate, _, denoiser = found[number]
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


def _of_topics(method, corpus: Corpus, valid_rows) -> dict:
    """Return the metrics of a reference's topics, none if it has no topics; LDA also has losses."""
    topics = reference_topics(method)
    if topics is None:
        return {}
    decoder = Decoder(topics, np.zeros(topics.shape[1]))
    rows = {kind: topic_rows(decoder, kind) for kind in ("raw", "centred")}
    metrics = word_metrics(rows, corpus, valid_rows)
    if isinstance(method, LatentDirichletAllocation):
        metrics.update(fit_metrics(lda_losses(method, corpus.test), corpus.test))
    return metrics


def _on_validation_documents(corpus: Corpus, codes, rows) -> dict:
    """Return the metrics that choose among a reference's candidates."""
    fit, valid = (Split(codes[0][part], corpus.train_labels[part]) for part in rows)
    parts = validation_parts(fit, valid, valid)
    if parts:
        parts["valid_scaled_precision"] = lambda: scaled_precision(fit, valid)
    return evaluation.measured(parts)
