"""Codes of known documents, stored beside a model, and the search for the most similar ones.

The codes that belong to ``model.safetensors`` are in ``model-codes.safetensors``, so the search
needs neither Theano nor the documents.  The file holds three arrays, ::

    codes   (n, n_units), float32, or float16 from `LARGE` bytes on
    names   UTF-8 as numbers from 0 to 255: the name of each document, a line each
    texts   the same, with the beginning of each document

and the checksum of the model that the codes are from.  Documents without a word of the vocabulary
have no place in it: all of them would have the same code.

Codes are compared as the report compares them for *scaled precision*: each is divided by its
length, the mean of the known codes is subtracted, and the cosine is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from ae_bn.errors import UserError
from ae_bn.files import read_arrays, read_checksum, read_facts, read_header, write_arrays

FORMAT = "ae_bn codes 1"
LARGE = 20_000_000  # bytes in float32 from which codes are stored in float16
SHOWN = 80  # characters of the beginning of a document
COMPARED = 10_000_000  # cosines in memory at a time


class Similar(NamedTuple):
    """A known document that is similar to another one."""

    cosine: float
    name: str
    text: str  # its beginning


class Neighbours:
    """Known documents, by their codes.

    Parameters
    ----------
    codes : ndarray, (n, n_units)
        The codes of the documents.
    names, texts : sequence of str, (n,)
        The name and the beginning of each document, as `beginning` gives it.
    """

    def __init__(self, codes: np.ndarray, names: Sequence[str], texts: Sequence[str]):
        self.codes = codes
        self.names, self.texts = (
            [" ".join(t.split()) for t in of_all] for of_all in (names, texts)
        )
        scaled = _scaled(codes)
        self._mean = scaled.mean(axis=0) if len(scaled) else 0
        self._known = _scaled(scaled - self._mean)  # (n, n_units)

    def nearest(self, codes: np.ndarray, n: int) -> list[list[Similar]]:
        """Return the n documents with the most similar codes, the most similar first.

        Parameters
        ----------
        codes : ndarray, (n_codes, n_units)
            The codes to find neighbours of.
        n : int
            The number of neighbours of each code; all documents, where these are fewer.

        Returns
        -------
        list of list of Similar
            A list for each code.
        """
        queries = _scaled(_scaled(codes) - self._mean)
        n, found = min(n, len(self.names)), []
        size = max(1, COMPARED // max(1, len(self.names)))
        for start in range(0, len(queries), size):
            cosines = queries[start : start + size] @ self._known.T  # (at most size, n_known)
            for row in cosines:
                rows = np.argpartition(-row, n - 1)[:n] if n < len(row) else np.arange(len(row))
                rows = rows[np.lexsort((rows, -row[rows]))]
                found.append(
                    [Similar(float(row[i]), self.names[i], self.texts[i]) for i in rows[:n]]
                )
        return found

    def write(self, model: Path) -> Path:
        """Write the codes beside the file of their model, atomically, and return their file."""
        dtype = np.float16 if self.codes.size * 4 >= LARGE else np.float32
        arrays = {
            "codes": np.ascontiguousarray(self.codes, dtype),
            "names": _as_bytes(self.names),
            "texts": _as_bytes(self.texts),
        }
        path = codes_path(model)
        write_arrays(path, arrays, {"format": FORMAT, "model": read_checksum(model)})
        return path

    @classmethod
    def read(cls, model: Path, n_units: int) -> Neighbours:
        """Read the codes beside the file of a model.

        Parameters
        ----------
        model : Path
            The file of the model.
        n_units : int
            The width of its codes.

        Raises
        ------
        UserError
            If there are none, if they are damaged, or if they are those of another model.
        """
        path = codes_path(model)
        if not path.exists():
            raise UserError(f"there are no codes of known documents beside {model}: store some")
        found, facts = read_header(path), read_facts(path)
        kind, shape = found.get("codes", ("", ()))
        fits = kind in ("float16", "float32") and len(shape) == 2 and shape[1] == n_units
        if set(found) != {"codes", "names", "texts"} or not fits or facts.get("format") != FORMAT:
            raise UserError(f"{path} holds no codes of {n_units} units: store them again")
        if facts.get("model") != read_checksum(model):
            raise UserError(
                f"{path} holds the codes of another model: remove it, or store codes again"
            )
        arrays, _ = read_arrays(path, found)
        names, texts = _as_lines(arrays["names"]), _as_lines(arrays["texts"])
        if not len(names) == len(texts) == shape[0] or not np.isfinite(arrays["codes"]).all():
            raise UserError(f"{path} is damaged: store the codes again")
        return cls(arrays["codes"], names, texts)


def codes_path(model: Path) -> Path:
    """Return the file of the codes that belong to a model's file."""
    return model.with_name(f"{model.stem}-codes.safetensors")


def beginning(text: str) -> str:
    """Return the first words of a text, in one line of at most `SHOWN` characters."""
    words = " ".join(text[: 20 * SHOWN].split())
    return words if len(words) <= SHOWN else words[:SHOWN].rsplit(" ", 1)[0] + " ..."


def _scaled(codes: np.ndarray) -> np.ndarray:
    """Return codes divided by their lengths; 0 stays 0."""
    codes = np.asarray(codes, np.float32)
    lengths = np.linalg.norm(codes, axis=1, keepdims=True)
    return np.divide(codes, lengths, out=np.zeros_like(codes), where=lengths > 0)


def _as_bytes(lines: list[str]) -> np.ndarray:
    text = "".join(f"{line}\n" for line in lines)
    return np.frombuffer(text.encode("utf-8", "replace"), np.uint8)


def _as_lines(content: np.ndarray) -> list[str]:
    return content.tobytes().decode("utf-8", "replace").split("\n")[:-1]
