"""What the documentation says is run: Python blocks, configs, and the generated pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ae_bn.config import Config, _keys, expand_arms, load_config
from ae_bn.evaluation import METRICS
from ae_bn.report import check_report

ROOT = Path(__file__).resolve().parent.parent


def blocks(path, language):
    """Return the fenced blocks of a Markdown file, each preceded by lines to keep its numbers."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text.count("\n", 0, match.start(1)) + match.group(1)


def test_walk_through(float64, monkeypatch):
    monkeypatch.chdir(ROOT)
    path, names = "docs/walk_through.md", {}
    for block in blocks(path, "python"):
        exec(compile(block, path, "exec"), names)
    assert names["result"].best_epoch > 0
