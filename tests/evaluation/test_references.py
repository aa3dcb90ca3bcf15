"""References against NumPy, and how validation documents choose their settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.special import roots_jacobi
from sklearn.decomposition import LatentDirichletAllocation

from ae_bn import Encoder
from ae_bn.config import ReferenceConfig, load_config
from ae_bn.data.corpus import Corpus, split_validation
from ae_bn.data.words import weigh
from ae_bn.errors import UserError
from ae_bn.evaluation import codes as measures
from ae_bn.evaluation.probes import Split
from ae_bn.evaluation.references import (
    REFERENCES,
    candidates,
    lda_losses,
    reference_codes,
    reference_topics,
)
from ae_bn.files import file_digest, read_json
from ae_bn.randomness import streams
from ae_bn.study.perform import perform
from ae_bn.study.plan import _identity, corpus_of, plan_runs
from ae_bn.study.references import perform_reference

COUNTS = csr_matrix(np.random.default_rng(0).poisson(1.0, (20, 6)))
FIT = np.arange(12)  # rows of the 15 training documents
VECTORS = np.random.default_rng(2).normal(size=(6, 5))  # of the words
SETTINGS = {  # that a kind needs
    "denoiser": {"masking": [0.3]},
    "word_vectors": {"file": "vectors.txt", "sha256": "0" * 64},
}


def corpus(train=COUNTS[:15], test=COUNTS[15:]):
    """Return a corpus of counts without labels, all of whose words weigh the same."""
    labels = [np.zeros(part.shape[0], int) for part in (train, test)]
    n_words = train.shape[1]
    words = list(map(str, range(n_words)))
    return Corpus(train, test, *labels, [], words, np.ones(n_words), "", "")


def codes(kind, of=None, width=3, seed=0, **settings):
    """Return the codes of a reference's first candidate for both parts."""
    reference = ReferenceConfig(kind=kind, **{**SETTINGS.get(kind, {}), **settings})
    choices = candidates(reference, width)
    return next(reference_codes(kind, choices, of or corpus(), FIT, seed, VECTORS)).codes


def rows(counts):
    return weigh(counts, "tfidf", np.ones(counts.shape[1]))


def test_tfidf_is_itself():
    train, test = codes("tfidf")
    np.testing.assert_array_equal(train.toarray(), rows(COUNTS[:15]).toarray())
    np.testing.assert_array_equal(test.toarray(), rows(COUNTS[15:]).toarray())


def test_svd_is_the_one_of_numpy_on_the_fit_documents():
    _, values, components = np.linalg.svd(rows(COUNTS[FIT]).toarray(), full_matrices=False)
    _, test = codes("svd")
    expected = np.abs(rows(COUNTS[15:]) @ components[:3].T)
    np.testing.assert_allclose(np.abs(test), expected, rtol=1e-4)
    _, test = codes("svd", whitened=[True])
    np.testing.assert_allclose(np.abs(test), expected / values[:3], rtol=1e-4)


def test_word_vectors_are_added_with_the_weights_of_the_words():
    train, test = codes("word_vectors", width=2)
    np.testing.assert_allclose(train, rows(COUNTS[:15]).toarray() @ VECTORS[:, :2], rtol=1e-6)
    assert codes("word_vectors", width=9)[1].shape == (5, 5)  # no more than there are


def test_sublinear_counts_are_those_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfTransformer

    expected = TfidfTransformer(sublinear_tf=True, use_idf=False).fit_transform(COUNTS)
    found = codes("tfidf", input=["sublinear_tfidf"])[0]
    np.testing.assert_allclose(found.toarray(), expected[:15].toarray(), rtol=1e-6)
    with pytest.raises(UserError, match="sublinear_tfidf is for counts from 1"):
        weigh(COUNTS * 0.5, "sublinear_tfidf", np.ones(6))


@pytest.mark.parametrize("kind", REFERENCES)
def test_validation_and_test_documents_teach_nothing(kind):
    """Others in their place leave the codes of the fit documents as they are."""
    others = csr_matrix(np.random.default_rng(1).poisson(1.0, (20, 6)))
    train = csr_matrix(np.concatenate([COUNTS[FIT].toarray(), others[12:15].toarray()]))
    found, again = codes(kind)[0][FIT], codes(kind, corpus(train, others[15:]))[0][FIT]
    assert abs(found - again).max() == 0


def test_narrow_codes_are_the_first_units_of_wide_ones():
    reference = ReferenceConfig(kind="denoiser", width=[2, 4], masking=[0.3, 0.6])
    found = list(reference_codes("denoiser", candidates(reference, 3), corpus(), FIT, 0))
    assert [each.candidate[1:3] for each in found] == [(2, 0.3), (4, 0.3), (2, 0.6), (4, 0.6)]
    for narrow, wide in zip(found[::2], found[1::2]):
        np.testing.assert_allclose(narrow.codes[1], wide.codes[1][:, :2])
        assert narrow.method.n_components == narrow.method.components_.shape[0] == 2
    assert abs(found[0].codes[1] - found[2].codes[1]).max() > 1e-3


def test_nmf_finds_topics_that_share_no_word():
    """Two topics of three words each, documents of one topic: two units, one for each."""
    topics = np.array([[3.0, 2, 1, 0, 0, 0], [0, 0, 0, 1, 2, 3]])
    shares = np.ones(20)  # every row has length 1
    documents = csr_matrix(topics[np.arange(20) % 2].astype(int))
    train, test = codes("nmf", corpus(documents[:15], documents[15:]), width=2)
    found = np.concatenate([train, test])
    assert found.min() >= 0
    own = found[np.arange(20), (np.arange(20) + found[0].argmax()) % 2]
    np.testing.assert_allclose(found.sum(axis=1), own, rtol=1e-3)  # the other unit is 0
    for topic in range(2):
        ratio = (own / shares)[topic::2]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


def test_lda_finds_topics_that_share_no_word():
    """Documents of one of two topics: their theta, and the words' shares by counting."""
    topics = np.array([[6, 4, 2, 0, 0, 0], [0, 0, 0, 2, 4, 6]])
    documents = csr_matrix(topics[np.arange(20) % 2])
    of = corpus(documents[:15], documents[15:])
    choices = candidates(ReferenceConfig(kind="lda"), 2)
    (found,) = reference_codes("lda", choices, of, FIT, 0)
    assert found.candidate.input == "as_is"
    theta = np.concatenate(found.codes)
    np.testing.assert_allclose(theta.sum(axis=1), 1)
    first = theta[0].argmax()
    expected = (12 + 0.5) / (12 + 1)  # of 12 words, with alpha 1/2 for both topics
    np.testing.assert_allclose(theta[::2, first], expected, atol=0.01)
    np.testing.assert_allclose(theta[1::2, 1 - first], expected, atol=0.01)
    rows = reference_topics(found.method)
    np.testing.assert_allclose(rows[[first, 1 - first]], topics / 12, atol=0.02)


def test_the_loss_of_lda_is_a_bound_of_the_integral_over_theta():
    """Two topics: log p(x) by quadrature over theta ~ Beta(alpha, alpha)."""
    counts = csr_matrix(np.random.default_rng(2).poisson(1.0, (30, 6)))
    lda = LatentDirichletAllocation(2, doc_topic_prior=0.7, random_state=0, mean_change_tol=1e-9)
    lda.fit(counts)
    single = np.eye(6)[:1]
    X = csr_matrix(np.concatenate([np.zeros((1, 6)), single, counts[:8].toarray()]))
    phi = reference_topics(lda)
    nodes, weights = roots_jacobi(60, -0.3, -0.3)  # on [-1, 1]
    share = (1 + nodes) / 2
    words = share[:, None] * phi[0] + (1 - share)[:, None] * phi[1]
    exact = np.log((np.exp(X @ np.log(words).T) * weights).sum(axis=1) / weights.sum())
    slack = lda_losses(lda, X) + exact
    assert slack[0] == pytest.approx(0, abs=1e-9)  # without words q is p
    assert (slack[1:] > 0).all() and slack.max() < 1
    assert exact[1] == pytest.approx(np.log(phi[:, 0].mean()))


def test_topics_of_references_sum_to_1_and_others_have_none():
    for kind in REFERENCES:
        reference = ReferenceConfig(kind=kind, **SETTINGS.get(kind, {}))
        (found,) = reference_codes(kind, candidates(reference, 3), corpus(), FIT, 0, VECTORS)
        topics = reference_topics(found.method)
        assert (topics is not None) == (kind in ("nmf", "lda"))
        if topics is not None:
            assert topics.shape == (3, 6)
            np.testing.assert_allclose(topics.sum(axis=1), 1)


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_seed_repeats(kind):
    for first, second in zip(codes(kind), codes(kind)):
        assert abs(first - second).max() == 0


@pytest.mark.parametrize("kind", ["svd", "nmf", "lda", "denoiser"])
@pytest.mark.parametrize("n_words", [1, 4, 6])
def test_the_width_is_that_of_the_code_or_of_the_vocabulary(kind, n_words):
    of = corpus(COUNTS[:15, :n_words], COUNTS[15:, :n_words])
    train, test = codes(kind, of, width=128)
    assert train.shape == (15, n_words) and test.shape == (5, n_words)


@pytest.mark.parametrize("n_words", [1, 2000])
def test_every_reference_is_a_row_of_an_experiment(config_file, tmp_path, n_words):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("common 1 2\nwords 3 4\nax 5 6\nbx 7 9\n")
    vectors = {"kind": "word_vectors", "file": str(vectors), "sha256": file_digest(vectors)}
    kinds = [vectors if kind == "word_vectors" else kind for kind in REFERENCES]
    config = load_config(config_file, [f"data.vocabulary_size={n_words}"])
    config = config.replace({"experiment.references": kinds})
    runs = [run for run in plan_runs(config, [1], tmp_path) if run.reference]
    assert [run.arm for run in runs] == list(REFERENCES.values())
    for run in runs:
        perform(run)
        metrics = run.read_metrics()["snapshots"][""]
        assert metrics["saturated"] is None and 0 < metrics["probe_accuracy"] <= 1
        assert ("npmi" in metrics) == (n_words > 1 and run.reference.kind in ("nmf", "lda"))
        assert ("perplexity" in metrics) == (n_words > 1 and run.reference.kind == "lda")


TUNED = {"kind": "denoiser", "name": "tuned", "width": [1, 2, 4], "masking": [0.2, 0.9]}


def references(config_file, tmp_path, *given, **settings):
    """Return the runs of some references, with one seed."""
    config = load_config(config_file).replace({"experiment.references": list(given), **settings})
    return [run for run in plan_runs(config, [1], tmp_path) if run.reference]


@pytest.fixture
def tuned(config_file, tmp_path):
    return references(config_file, tmp_path, TUNED)[0]


def test_each_criterion_chooses_the_best_candidate(tuned):
    perform(tuned)
    results = tuned.read_metrics()
    of = corpus_of(tuned)
    part, valid_part = split_validation(of.train.shape[0], 0.2, streams(1).split)
    found = list(reference_codes("denoiser", candidates(tuned.reference, 5), of, part, tuned.seed))
    assert len(found) == len(results["candidates"]) == 6
    best = {}
    for name, measure in (
        ("probe_accuracy", measures.ridge_accuracy),
        ("centred_precision", lambda fit, valid: measures.precision_at(fit, valid).centred),
        ("scaled_precision", measures.scaled_precision),
    ):
        scores = []
        for each in found:
            fit, valid = (Split(each.codes[0][r], of.train_labels[r]) for r in (part, valid_part))
            scores.append(measure(fit, valid))
        best[name] = found[int(np.argmax(scores))]
        assert len(set(scores)) > 1  # there is something to choose
        train, test = (
            Split(best[name].codes[0], of.train_labels),
            Split(best[name].codes[1], of.test_labels),
        )
        expected = measures.snapshot_metrics(train, test, part, valid_part)[name]
        assert results["snapshots"][""][name] == pytest.approx(expected, rel=1e-6)
    words = results["chosen"].split("; ")
    for text, title, name in zip(
        words, ("accuracy", "centred precision", "scaled precision"), best
    ):
        c = best[name].candidate
        assert text == f"{title}: input tfidf, width {c.width}, masking {c.masking}"


def test_test_documents_choose_nothing(tuned, monkeypatch):
    results = perform_reference(tuned, corpus_of(tuned))
    order = np.random.default_rng(0).permutation(len(corpus_of(tuned).test_labels))
    of = corpus_of(tuned)
    moved = replace(of, test=of.test[::-1], test_labels=of.test_labels[order])
    again = perform_reference(tuned, moved)
    for key in ("chosen", "candidates"):
        assert again[key] == results[key]
    assert again["snapshots"] != results["snapshots"]


def test_without_labels_the_first_candidate_is_taken(tuned):
    of = corpus_of(tuned)
    labels = {name: getattr(of, name) * 0 for name in ("train_labels", "test_labels")}
    results = perform_reference(tuned, replace(of, **labels))
    assert results["chosen"].count("width 1, masking 0.2") == 3
    assert set(results["snapshots"][""]) == {"dead_units", "saturated", "mean_share"}


def test_models_of_denoisers_encode_text(config_file, tmp_path, tuned):
    plain = references(config_file, tmp_path, "denoiser")[0]
    of = corpus_of(tuned)
    text = "ax bx bx common"
    for run, names in (
        (plain, ["model.safetensors"]),
        (tuned, ["model-accuracy.safetensors", "model-precision.safetensors"]),
    ):
        perform(run)
        assert sorted(read_json(run.directory / "metrics.json")["files"]) == names
        part, _ = split_validation(of.train.shape[0], 0.2, streams(1).split)
        found = list(reference_codes("denoiser", candidates(run.reference, 5), of, part, 1))
        encoder = Encoder.load(run.directory / names[-1])
        width = encoder.config.model.layers[0]
        wanted = width, encoder.config.model.dropout.input
        (its,) = (f for f in found if (f.method.n_components, f.candidate.masking) == wanted)
        test = encoder.encode(weigh(of.test, "tfidf", of.idf))
        np.testing.assert_allclose(test, its.codes[1], atol=1e-6)
        assert encoder.transform([text]).shape == (1, width)


@pytest.mark.parametrize(
    "reference, words",
    [
        ("lsa", "references.0.kind: should be 'tfidf'.* 'lsa'"),
        ({"kind": "svd", "masking": [0.5]}, "masking goes with kind denoiser, not svd"),
        ({"kind": "tfidf", "width": [5]}, "width goes with kind svd or nmf or lda or denoiser"),
        ({"kind": "lda", "input": ["tfidf"]}, "input goes with kind tfidf or .* not lda"),
        ({"kind": "nmf", "whitened": [True]}, "whitened goes with kind svd, not nmf"),
        ({"kind": "denoiser", "masking": [1.0]}, "references.0.masking.0: .* less than 1"),
        ({"kind": "svd", "width": [0]}, "references.0.width.0: .* greater than 0"),
        ({"kind": "svd", "width": []}, "references.0.width: .* at least 1"),
        ({"kind": "svd", "input": ["binary"]}, "references.0.input.0: should be 'tfidf'"),
        ({"kind": "svd", "file": "x"}, "file goes with kind word_vectors, not svd"),
        ({"kind": "word_vectors", "file": "x"}, "word_vectors needs file, and sha256"),
        ({"kind": "word_vectors", "file": "x", "sha256": "1"}, "sha256"),
        ({"kind": "svd", "widths": [5]}, "references.0.widths"),
        ({"kind": "tfidf", "vocabulary_size": 0}, "references.0.vocabulary_size"),
    ],
)
def test_mistakes_are_told(reference, words):
    with pytest.raises(UserError, match=words) as caught:
        load_config().replace({"experiment.references": [reference]})
    assert len(str(caught.value).splitlines()) == 1


def test_what_decides_the_numbers_decides_the_hash():
    config = load_config()

    def identity(**settings):
        return _identity(config, ReferenceConfig(**settings), "data")

    plain = identity(kind="denoiser")
    assert plain == identity(kind="denoiser", name="other", masking=[0.9], width=[128])
    others = [{"masking": [0.8]}, {"width": [64]}, {"input": ["sublinear_tfidf"]}]
    assert len({plain, *(identity(kind="denoiser", **other) for other in others)}) == 4
    files = [{"file": name, "sha256": digit * 64} for name in "ab" for digit in "12"]
    assert len({identity(kind="word_vectors", **file) for file in files}) == 2  # what is in it


def test_references_of_every_corpus_that_arms_have(config_file, tmp_path):
    words = {"few": {"data.vocabulary_size": 5}, "all": {"data.vocabulary_size": 1000}}
    loss = {"binary": {}, "tfidf": {"data.input": "tfidf", "model.loss": "squared_error"}}
    everything = {"kind": "tfidf", "name": "all of them", "vocabulary_size": 999}
    runs = references(
        config_file,
        tmp_path,
        "svd",
        everything,
        **{
            "experiment.factors": {"words": words, "loss": loss},
            "experiment.skip": [{}],
            "experiment.compare": {},
        },
    )
    assert [run.arm for run in runs] == [
        f"{title} / {level}" for level in words for title in ("truncated SVD", "all of them")
    ]
    assert [run.levels for run in runs[::2]] == [{"words": "few"}, {"words": "all"}]
    sizes = [corpus_of(run).train.shape[1] for run in runs]
    assert sizes[0] == 5 and sizes[1] == sizes[2] == sizes[3] > 5
