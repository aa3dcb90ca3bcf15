"""Where files go and how they are written.

``cache_directory`` names the one directory that holds everything that can be made again
(downloads, vectorised corpora, Theano's compiled code); ``atomic_write`` writes a file so that
a reader sees the old file or the whole new one, never a part.
"""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterator

from platformdirs import user_cache_dir

from ae_bn.errors import UserError


def cache_directory(*parts: str) -> Path:
    """Return the cache directory, or a folder inside it, creating it if needed.

    The environment variable ``AE_BN_CACHE`` names it; without that it is the user's cache
    directory of the operating system (``~/.cache/ae_bn`` on Linux).

    Parameters
    ----------
    *parts : str
        Names of nested folders inside the cache directory.

    Returns
    -------
    Path
        An existing, writable directory; absolute.

    Raises
    ------
    UserError
        If the directory cannot be made or written to.
    """
    root = os.environ.get("AE_BN_CACHE") or user_cache_dir("ae_bn", appauthor=False)
    directory = Path(os.path.abspath(os.path.expanduser(root))).joinpath(*parts)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(directory, os.W_OK | os.X_OK) else "not writable"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise UserError(
            f"cannot use the cache directory {directory} ({reason}): set the environment "
            "variable AE_BN_CACHE to a directory you can write to"
        )
    return directory


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO]:
    """Open ``path`` for writing; it appears, or changes, only once it is written completely.

    The text or bytes go to a hidden temporary file in the same directory, which is flushed to
    the disk and then renamed.  If anything is raised inside the ``with`` block, the temporary
    file is removed and ``path`` stays as it was.

    Parameters
    ----------
    path : path-like
        The file to write; missing parent directories are made.
    mode : {"w", "wb"}
        Text (UTF-8, line ends ``\\n``) or bytes.

    Yields
    ------
    file object

    Raises
    ------
    UserError
        If the operating system refuses any step (no permission, disk full, ...).
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
