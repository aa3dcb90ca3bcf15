"""The record: the results of finished runs, in a few small files.

The directory of a run holds weights and may be deleted.  Its numbers, with those of every epoch,
are also kept in ``record/EXPERIMENT-seedS.jsonl.xz``, which has a line of JSON per run, compressed.
A run in the record is not trained again, on any machine, and the record is enough for every table
and figure.

    pandas.read_json("results/record/core-seed1.jsonl.xz", lines=True)

reads it.  A line has the run's hash as ``run``, its ``seed``, ``config``, ``data`` and
``versions``, and the contents of its ``metrics.json``.  Experiments share the record, so a run that
several of them need is trained once.
"""

from __future__ import annotations

import io
import json
import lzma
from pathlib import Path
from typing import Iterable

from ae_bn.config import DataConfig
from ae_bn.errors import UserError
from ae_bn.files import atomic_write

LARGEST = 10**9  # bytes of one file of the record after decompression
CHANGING = ("auto", "folder", "table", "matrix")  # sources whose documents can change
NOT_DECIDING = ("encoding", "test_fraction", "validation_fraction")  # of all other sources
NOT_RESULTS = ("run", "seed", "reference", "config", "data", "versions")  # other keys of a line


class Record:
    """The recorded runs of a folder.

    Parameters
    ----------
    directory : Path
        The folder; one that does not exist is an empty record.

    Raises
    ------
    UserError
        If a file of the record is damaged.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self.lines: dict[str, dict] = {}  # by the run's hash
        self.files: dict[Path, list[str]] = {}  # the hashes in each file
        self.corpora: dict[str, tuple[str, str]] = {}  # source and fingerprint, by the settings
        for path in sorted(directory.glob("*.jsonl.xz")):
            for line in _read(path):
                self._keep(line, path)

    def _keep(self, line: dict, path: Path) -> None:
        """Keep a line of a file."""
        self.lines[line["run"]] = line
        self.files.setdefault(path, []).append(line["run"])
        documents = line["data"]["source"], line["data"]["fingerprint"]
        self.corpora.setdefault(_deciding(line["config"]["data"]), documents)

    def results(self, identity: str) -> dict | None:
        """Return the results of the run with a hash, as in its ``metrics.json``, or None."""
        line = self.lines.get(identity)
        return line and {key: line[key] for key in line if key not in NOT_RESULTS}

    def documents(self, data: DataConfig) -> tuple[str, str] | None:
        """Return source and fingerprint of the documents of some settings, if they are recorded.

        Those of a source in `CHANGING` may differ from the documents that it has today.

        Parameters
        ----------
        data : DataConfig
            The settings.
        """
        return self.corpora.get(_deciding(data.model_dump()))

    def add(self, lines: Iterable[dict], name: str) -> int:
        """Add runs that are not recorded yet, and return their number.

        Parameters
        ----------
        lines : iterable of dict
            The lines of finished runs, as `ae_bn.study.results.record_lines` makes them.
        name : str
            The name of the experiment, which begins the names of the files.
        """
        known, changed = len(self.lines), set()
        for line in lines:
            path = self.directory / f"{name}-seed{line['seed']}.jsonl.xz"
            self._keep(line, path)
            changed.add(path)
        for path in sorted(changed):
            with atomic_write(path, "wb") as file:
                file.write(_packed(self.lines[identity] for identity in self.files[path]))
        return len(self.lines) - known


def _deciding(data: dict) -> str:
    """Return the settings that decide the documents, as text."""
    ignored = ["validation_fraction"] if data["source"] in CHANGING else NOT_DECIDING
    kept = {k: v for k, v in data.items() if k not in ignored and v is not None}
    return json.dumps(kept, sort_keys=True)


def _packed(lines) -> bytes:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return lzma.compress(text.encode(), preset=6)


def _read(path: Path) -> list[dict]:
    try:
        with lzma.open(path) as file:
            text = file.read(LARGEST)
            if file.read(1):
                raise ValueError(f"more than {LARGEST} bytes")
        lines = [json.loads(line) for line in io.StringIO(text.decode())]
        for line in lines:
            words = [line["run"], line["data"]["source"], line["data"]["fingerprint"]]
            words.append(line["config"]["data"]["source"])
            if not all(isinstance(word, str) for word in words):
                raise ValueError("a line is not a run")
            if not all(isinstance(found, dict) for found in line["snapshots"].values()):
                raise ValueError("a line has no snapshots")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (
        lzma.LZMAError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise UserError(
            f"{path} is damaged ({error!r:.100}): restore it, or delete it and run again"
        ) from None
    return lines
