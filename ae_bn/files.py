"""Files: the cache directory, atomic writing, and files with a checksum.

- `user_path` returns the path that a user means.
- `cache_directory` returns the directory for everything that can be made again: downloads,
  vectorised corpora, Theano's compiled code.
- `atomic_write` writes a file so that a reader sees either the old file or the complete new one.
- JSON and arrays are written with a checksum.  Reading runs no code from a file, and checks names,
  types and sizes before it allocates memory.  A truncated, altered or exchanged file gives an error
  of one line.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Iterator

from platformdirs import user_cache_dir
from safetensors import SafetensorError, safe_open

from ae_bn.errors import UserError

if TYPE_CHECKING:
    import numpy as np

LARGEST_JSON = 10_000_000  # bytes
DTYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64"}
DTYPES["U8"] = "uint8"  # the names of safetensors, and of NumPy


def user_path(name: str | os.PathLike) -> Path:
    """Return the path that a user means; a ``~`` at its start is the home directory.

    Raises
    ------
    UserError
        If there is no such home directory, or if no file can have this name.
    """
    path = os.path.expanduser(name)
    if path.startswith("~"):
        raise UserError(
            f"{name}: there is no home directory {path.split(os.sep)[0]}: write the whole path, or "
            "./~ for a name that begins so"
        )
    try:
        os.stat(path)
    except ValueError:
        raise UserError(f"{name!r:.80}: no file can have this name: correct it") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise UserError(f"{name!s:.60}...: {error.strerror}: name another file") from None
    return Path(path)


def cache_directory(*parts: str) -> Path:
    """Return the cache directory, or a folder inside it, and make it if needed.

    The environment variable ``AE_BN_CACHE`` names it.  By default it is in the operating system's
    cache directory of the user (``~/.cache/ae_bn`` on Linux).

    Parameters
    ----------
    *parts : str
        The names of nested folders inside the cache directory.

    Returns
    -------
    Path
        The absolute path of an existing, writable directory.

    Raises
    ------
    UserError
        If the directory cannot be made or is not writable.
    """
    root = os.environ.get("AE_BN_CACHE") or user_cache_dir("ae_bn", appauthor=False)
    reason = None
    try:
        root = os.path.abspath(user_path(root))
        directory = Path(root, *parts)
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            reason = "not writable"
    except UserError:
        reason = "there is no such home directory, or the name is too long"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise UserError(
            f"cannot use the cache directory {root:.200} ({reason}): set the environment "
            "variable AE_BN_CACHE to a directory you can write to"
        )
    return directory


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Open ``path`` for writing; it appears or changes only when it is complete.

    The content goes to a hidden temporary file in the same directory, which is flushed to the disk
    and then renamed.  If the ``with`` block raises an exception, the temporary file is removed and
    ``path`` is unchanged.

    Parameters
    ----------
    path : path-like
        The file to write.  Missing parent directories are made.
    mode : {"w", "wb"}
        The kind of content: text (UTF-8, line ends ``\\n``) or bytes.

    Yields
    ------
    file object

    Raises
    ------
    UserError
        If the operating system refuses a step, for example because the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(
                temporary, mode.replace("w", "x"), encoding=encoding, newline=newline
            ) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            if temporary.exists():
                temporary.unlink()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def fingerprint(tree: Any) -> str:
    """Return the SHA-256 of a tree of plain values, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises
    ------
    UserError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    return digest.hexdigest()


def write_json(path: Path, tree: dict) -> None:
    """Write plain values to a JSON file, atomically, with their checksum as ``sha256``."""
    with atomic_write(path) as file:
        json.dump({**tree, "sha256": fingerprint(tree)}, file, indent=1)
        file.write("\n")


def read_json(path: Path) -> dict:
    """Return what `write_json` wrote.

    Raises
    ------
    UserError
        If the file cannot be read, or differs from what was written.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST_JSON + 1)
        if len(text) > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        tree = json.loads(text)
        if not isinstance(tree, dict) or tree.pop("sha256", None) != fingerprint(tree):
            raise ValueError("its checksum does not match")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error})") from None
    return tree


def write_arrays(path: Path, arrays: dict[str, np.ndarray], facts: dict) -> None:
    """Write arrays and plain values to one safetensors file, atomically, with a checksum."""
    import safetensors.numpy  # here, so that importing this module does not import NumPy

    text = json.dumps(facts)
    metadata = {"facts": text, "sha256": _digest(arrays, text)}
    with atomic_write(path, "wb") as file:
        file.write(safetensors.numpy.save(arrays, metadata))


def read_arrays(path: Path, expected: dict[str, tuple]) -> tuple[dict, dict]:
    """Return the arrays and the plain values that `write_arrays` wrote.

    Parameters
    ----------
    path : Path
        The file.
    expected : dict of str to (str, tuple)
        The dtype and shape of every array that the file must have, by name, as from `kinds`.

    Raises
    ------
    UserError
        If the file cannot be read, has other arrays, or differs from what was written.
    """
    found = read_header(path)
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            is_there, should_be = _show(found.get(name)), _show(expected.get(name))
            raise UserError(f"{path}: {name!r:.80} is {is_there}, should be {should_be}")
    with _opened(path) as file:
        arrays = {name: file.get_tensor(name) for name in expected}
        metadata = file.metadata() or {}
    text = metadata.get("facts", "")
    if metadata.get("sha256") != _digest(arrays, text):
        raise UserError(f"{path} is damaged (its checksum does not match)")
    return arrays, json.loads(text)


def kinds(arrays: dict[str, np.ndarray]) -> dict[str, tuple]:
    """Return the dtype and shape of every array, by name, as `read_header` does for a file."""
    return {name: (str(array.dtype), array.shape) for name, array in arrays.items()}


def read_facts(path: Path) -> dict:
    """Return the plain values that `write_arrays` wrote, without checking their checksum.

    Raises
    ------
    UserError
        If the file cannot be read or has no such values.
    """
    with _opened(path) as file:
        text = (file.metadata() or {}).get("facts", "")
    try:
        facts = json.loads(text)
        if not isinstance(facts, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged (its metadata has no facts)") from None
    return facts


def read_checksum(path: Path) -> str:
    """Return the checksum in a file of `write_arrays`, without reading the arrays.

    Raises
    ------
    UserError
        If the file cannot be read or is not a safetensors file.
    """
    with _opened(path) as file:
        return (file.metadata() or {}).get("sha256", "")


def read_header(path: Path) -> dict[str, tuple[str, tuple]]:
    """Return the dtype and shape of every array in a safetensors file, by name.

    Raises
    ------
    UserError
        If the file cannot be read or is not a safetensors file.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}
        return {
            name: (DTYPES.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape()))
            for name, part in slices.items()
        }


def _opened(path: Path):
    try:
        return safe_open(str(path), framework="numpy")
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path} ({error})") from None


def _digest(arrays: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _show(kind) -> str:
    return f"{kind[0]} of shape {kind[1]}" if kind else "not there"
