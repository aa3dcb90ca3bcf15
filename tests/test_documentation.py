"""What the documentation says is run: Python blocks, commands, configs, and the generated pages."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from warm_up_numbers import EXPECTED, TOLERANCE

from ae_bn import choosing
from ae_bn.commands import COMMANDS
from ae_bn.config import Config, _keys, load_config
from ae_bn.data.corpus import load_corpus
from ae_bn.evaluation.metrics import METRICS
from ae_bn.model.autoencoder import Autoencoder
from ae_bn.model.model_file import write_model
from ae_bn.reporting.tables import check_report
from ae_bn.study.arms import expand_arms

ROOT = Path(__file__).resolve().parent.parent
DOCS = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/report/*.md")]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in DOCS)]
MADE = {"results/report.html", "results/reproduce/", "results/runs/"}  # by commands
MADE |= {"configs/width.yaml", "experiments/report/width.md.j2"}  # by a reader
PROGRAMS = {  # the commands of `ae-bn` that scripts of experiments/ run
    f"experiments/{script}.py": command
    for script, command in (("run", "run"), ("encode", "encode"), ("inspect_model", "inspect"))
}


def blocks(path, language):
    """Return the fenced blocks of a Markdown file, each preceded by lines to keep its numbers."""
    text = (ROOT / path).read_text(encoding="utf-8")
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text.count("\n", 0, match.start(1)) + match.group(1)


def run(path, names, only=""):
    """Run a file's Python blocks that contain some text, one after the other, and return names."""
    for block in blocks(path, "python"):
        if only in block:
            exec(compile(block, path, "exec"), names)
    return names


@pytest.fixture
def texts(folder):
    """Return labelled texts and what else the pages take for granted, by name."""
    texts = [path.read_text() for path in sorted(folder.glob("*/*"))]
    labels = [path.parent.name for path in sorted(folder.glob("*/*"))]
    X = np.array([[word in text.split() for word in ("ax", "ay", "az")] for text in texts], float)
    return {
        "train_texts": texts[::2],
        "train_labels": labels[::2],
        "test_texts": texts[1::2],
        "test_labels": labels[1::2],
        "X": X,
        "labels": labels,
    }


def test_walk_through(float64, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = run("docs/walk_through.md", {})
    assert names["result"].best_epoch > 0


def test_walk_through_topics(float64, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = run("docs/topics_walk.md", {})
    assert len(set.union(*names["names"])) == 6  # the topics differ


def test_readme_estimator(float64, texts):
    names = run("README.md", texts, only="import")
    found = np.array(names["train_labels"])[names["nearest"]]
    assert found.shape[1] == 10
    assert (found == np.array(names["test_labels"])[:, None]).mean() > 0.5  # of three topics


def test_readme_expects_what_the_warm_up_does():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (loss, accuracy), (about_loss, about_accuracy) = EXPECTED["(none)"]["sklearn"], TOLERANCE
    assert f"loss of {loss} nats" in text and f"accuracy of {accuracy};" in text
    assert f"differ by up to {about_loss} and {about_accuracy}." in text


def test_your_text(float64, texts, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(None, ["data.source=folder", f"data.folder={folder}"])
    corpus = load_corpus(config.data)
    autoencoder = Autoencoder(config.model, "sgd", len(corpus.words), "symbolic")
    autoencoder.update_population_statistics(corpus.train)
    write_model(tmp_path / "model.safetensors", autoencoder.get_state(), config, corpus)
    svd = {"SVD": TruncatedSVD(4)}  # nothing to compile
    monkeypatch.setattr(choosing.Comparison, "candidates", lambda self, *options: svd)
    names = run("docs/your_text.md", texts)
    assert names["codes"].shape == (2, 128)


def test_topics(float64, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("docs/topics.md", texts)
    assert names["theta"].shape == (1, 20)


def commands():
    """Yield the page and the words of every command in a fenced block of a page."""
    for path in PAGES:
        for block in blocks(path, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(re.split("[<>|]", line)[0], comments=True)
                if words:
                    yield pytest.param(path, words, id=f"{Path(path).stem}: {' '.join(words)}")


@pytest.mark.parametrize("path, words", commands())
def test_commands_exist(path, words):
    """Make's targets, the programs and their options are as the pages say; nothing is run."""
    program, *arguments = words
    if program == "make":
        target = arguments[0]
        rules = re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert target in rules or (ROOT / "configs" / f"{target}.yaml").exists()
    elif program in (".venv/bin/ae-bn", "ae-bn", ".venv/bin/python", "python"):
        command = PROGRAMS[arguments[0]] if "python" in program else arguments[0]
        parse = importlib.import_module(f"ae_bn.commands.{command}").parse_arguments
        options = parse(arguments[1:])
        shown = Path(getattr(options, "config", "configs/core.yaml"))
        assert (ROOT / shown).exists() or shown.name == "width.yaml"
    else:
        assert program in ("pip", "dask")


def test_every_command_is_shown():
    shown = {words[1] for _, words in (case.values for case in commands()) if "ae-bn" in words[0]}
    assert shown == set(COMMANDS) - {"info"}  # which `make info` shows


def test_config_shown(tmp_path):
    (text,) = blocks("docs/configs.md", "yaml")
    file = tmp_path / "shown.yaml"
    file.write_text(text, encoding="utf-8")
    config = load_config(file)
    check_report(config.experiment)
    assert len(expand_arms(config)) >= 2


@pytest.mark.parametrize("path", PAGES)
def test_files_named_exist(path):
    file = ROOT / path
    text = file.read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#:]+)(?:#([\w-]+))?\)", text):
        assert "_generated/" in link or (file.parent / link).exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)", (file.parent / link).read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, anchor
    for name in re.findall(r"`((?:ae_bn|configs|experiments|tests|results)/[\w/.]*)`", text):
        assert (ROOT / name).exists() or name in MADE, name


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


def test_every_experiment_has_a_page(pages):
    found = pages.experiment_pages()
    for path in ROOT.glob("configs/*.yaml"):
        text = found[f"experiments/{path.stem}"]
        assert f"`make {path.stem}`" in text and re.search(r"\*\*Question\.\*\* .{20}", text)
        own = (ROOT / "docs/report" / f"{path.stem}.md").exists()
        assert f"report/{path.stem if own else 'answers'}.md" in text
        assert pages.escape(f"[{path.stem}]({path.stem}.md)") in found["experiments/index"]


def test_every_file_has_a_place():
    text = (ROOT / "docs/where_things_are.md").read_text(encoding="utf-8")
    files = [*ROOT.glob("ae_bn/*.py"), *ROOT.glob("ae_bn/*/*.py"), *ROOT.glob("experiments/*.py")]
    for file in files:
        folder = f"{file.parent.relative_to(ROOT)}/"
        named = f"`{folder}{file.name}`" in text or f"`{folder}`" in text
        assert named or file.name.startswith("__"), file
