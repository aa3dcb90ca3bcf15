"""The versions of the software that does a run."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

PACKAGES = ["Theano-PyMC", "numpy", "scipy", "scikit-learn"]


@lru_cache(maxsize=1)
def packages() -> dict[str, str]:
    """Return the versions of the packages that compute a run's numbers."""
    return {package: version(package) for package in PACKAGES}


def software() -> dict[str, str | None]:
    """Return the versions of ae_bn, of Python and of `packages`."""
    return {
        "ae_bn": version("ae_bn"),
        "git commit": _git_commit(),
        "python": platform.python_version(),
        **packages(),
    }


@lru_cache(maxsize=1)
def _git_commit() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return answer.stdout.strip() or None
