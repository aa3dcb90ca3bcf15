"""What the documentation says is run: Python blocks, configs, and the generated pages."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from ae_bn.config import Config, _keys, load_config
from ae_bn.evaluation.metrics import METRICS
from ae_bn.reporting.tables import check_report
from ae_bn.study.arms import expand_arms

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


@pytest.mark.parametrize("path", ["README.md", "docs/configs.md"])
def test_configs_shown(path, tmp_path):
    (text,) = blocks(path, "yaml")
    file = tmp_path / "shown.yaml"
    file.write_text(text, encoding="utf-8")
    config = load_config(file)
    check_report(config.experiment)
    assert len(expand_arms(config)) >= 2


@pytest.mark.parametrize("path", ["README.md", *sorted(p.name for p in ROOT.glob("docs/*.md"))])
def test_files_named_exist(path):
    file = ROOT / path if path == "README.md" else ROOT / "docs" / path
    text = file.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert link.startswith("_generated/") or (file.parent / link).exists(), link
    for name in re.findall(r"`(configs/\w+\.yaml)`", text):
        assert (ROOT / name).exists() or name == "configs/width.yaml", name


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("pages")


def test_every_setting_is_described(pages):
    text = pages.settings_page()
    rows = {
        match[1]: match[2] for match in re.finditer(r"^\| `([\w.]+)` \|.*\| (.*) \|$", text, re.M)
    }
    sections = {"experiment.report"}
    assert set(rows) == set(_keys(Config)) - set(Config.model_fields)
    assert {name for name, meaning in rows.items() if not meaning} <= sections


def test_comments_of_settings(pages):
    text = (
        "# head\na:\n  b:  # of b\n    c: 1  # of c,\n          # all\n    d: x\n  e: 2  # of e\n"
    )
    expected = {"a": "", "a.b": "of b", "a.b.c": "of c, all", "a.b.d": "", "a.e": "of e"}
    assert pages.comments(text) == expected


@pytest.mark.parametrize(
    "schema, words",
    [
        ({"type": "integer", "minimum": 1}, "whole number, at least 1"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true or false or null"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of: `a`, `b`"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "above 0, below 1"),
    ],
)
def test_types_in_words(pages, schema, words):
    assert pages.describe(schema).endswith(words)


def test_every_metric_and_module_has_a_place(pages):
    assert all(f"| `{name}` |" in pages.metrics_page() for name in METRICS)
    modules = {path.stem for path in (ROOT / "ae_bn").glob("*.py")} - {"__init__", "__main__"}
    assert {f"api/ae_bn.{name}" for name in modules} <= set(pages.api_pages())
