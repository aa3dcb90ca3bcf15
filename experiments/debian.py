"""Write the descriptions of Debian's packages as a table: short texts that are not news.

    python experiments/debian.py
    ae-bn run --config configs/packages.yaml

Debian 12 describes each of its packages in a few sentences, and files it under a section such as
games, science or python.  The program downloads both from a mirror of Debian (11 MB; about 30,000
texts) and writes ``data/debian.csv`` with the columns id, text and label.  Packages that are built
from one source share most of their description, so only the first of them by name is kept; sections
with fewer than 100 texts are left out.
"""

from __future__ import annotations

import argparse
import lzma
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Iterator

import pandas as pd

from ae_bn.commands.command_line import OneLineParser, run_program
from ae_bn.errors import UserError
from ae_bn.files import atomic_write

MIRROR = "http://deb.debian.org/debian"
PACKAGES = "dists/bookworm/main/binary-amd64/Packages.xz"
DESCRIPTIONS = "dists/bookworm/main/i18n/Translation-en.xz"
SMALLEST = 100  # texts in a section that is kept


def parse_arguments(arguments):
    parser = OneLineParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--mirror", default=MIRROR, help="address of a mirror of Debian")
    parser.add_argument("--out", type=Path, default=Path("data", "debian.csv"), help="the table")
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    return parser.parse_args(arguments)


def download(address: str) -> str:
    """Return the text of a file compressed by xz.

    Raises
    ------
    UserError
        If it cannot be downloaded.
    """
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return lzma.decompress(answer.read()).decode()
    except (OSError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise UserError(f"{address}: {error}; give another mirror by --mirror") from None


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields of every paragraph of a control file; lines that go on are joined."""
    for paragraph in text.strip().split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith(" "):
                fields[name] += "\n" + line[1:]
            else:
                name, value = line.split(":", 1)
                fields[name] = value.strip()
        if fields:
            yield fields


def table(packages: str, descriptions: str) -> pd.DataFrame:
    """Return a row per source of packages: id, text and label.

    Parameters
    ----------
    packages : str
        The text of ``Packages``.
    descriptions : str
        The text of ``Translation-en``, which has the descriptions.
    """
    texts = {of["Description-md5"]: of["Description-en"] for of in paragraphs(descriptions)}
    rows: dict[str, dict] = {}
    for package in sorted(paragraphs(packages), key=lambda of: of["Package"]):
        source = package.get("Source", package["Package"]).split(" ")[0]
        text = texts.get(package.get("Description-md5", ""))
        if text is not None and source not in rows:
            rows[source] = {"id": package["Package"], "text": text, "label": package["Section"]}
    sizes = Counter(row["label"] for row in rows.values())
    kept = [row for row in rows.values() if sizes[row["label"]] >= SMALLEST]
    print(
        f"{len(kept)} texts in {len({row['label'] for row in kept})} sections; "
        f"{len(rows) - len(kept)} in sections with fewer than {SMALLEST} texts are left out"
    )
    return pd.DataFrame(kept, columns=["id", "text", "label"])


def main(arguments: list[str]) -> None:
    options = parse_arguments(arguments)
    found = table(*(download(f"{options.mirror}/{file}") for file in (PACKAGES, DESCRIPTIONS)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(options.out) as file:
        found.to_csv(file, index=False)
    print(f"{options.out} is written")


if __name__ == "__main__":
    run_program(main, "nothing is written")
