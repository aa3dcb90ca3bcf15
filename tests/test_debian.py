"""The table of Debian's descriptions: what is joined, kept and left out."""

import debian
import pytest

from ae_bn.errors import UserError

PACKAGES = """\
Package: quake-data
Source: quake (1.2)
Section: games
Description-md5: 2

Package: quake
Section: games
Description-md5: 1
Depends: libc6,
 libgl1

Package: lonely
Section: kernel
Description-md5: 3

Package: silent
Section: games
"""
DESCRIPTIONS = """\
Package: quake
Description-md5: 1
Description-en: a game: shooting
 Many monsters.
 .
 And a hero.

Package: quake-data
Description-md5: 2
Description-en: data of a game

Package: lonely
Description-md5: 3
Description-en: a kernel
"""


def test_a_source_has_one_row_and_small_sections_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(debian, "SMALLEST", 2)
    more = "\nPackage: chess\nSection: games\nDescription-md5: 3\n"
    table = debian.table(PACKAGES + more, DESCRIPTIONS)
    assert table.values.tolist() == [
        ["chess", "a kernel", "games"],
        ["quake", "a game: shooting\nMany monsters.\n.\nAnd a hero.", "games"],
    ]
    assert "1 in sections with fewer than 2 texts are left out" in capsys.readouterr().out


def test_an_address_without_answer_is_one_line():
    with pytest.raises(UserError, match="give another mirror"):
        debian.download("http://127.0.0.1:9/nothing")
