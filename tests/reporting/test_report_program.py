"""`experiments/report.py`: what is committed becomes tables, figures and a report."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import report as program  # experiments/report.py

from ae_bn.errors import UserError

CONFIG = """
experiment:
  name: toy
  factors: {noise: {none: {}, some: {}}}
  report:
    metrics: [accuracy]
    contrasts: {gain: {plus: [some], minus: [none]}}
    figures: [{kind: differences}]
"""
TEMPLATE = """# Title

{{ effect("toy", "gain", "accuracy") }}; {{ verdict("toy", "gain", "accuracy") }};
{{ score("toy", "some", "accuracy") }}; {{ effect("later", "gain", "accuracy") }}

{{ figure("toy", "differences", "A caption.") }}

{{ table("toy") }}
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one experiment: accuracy .5, and .6 in six seeds."""
    for name in ("experiments", "configs", "results/toy"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "configs" / "toy.yaml").write_text(CONFIG)
    (tmp_path / "experiments" / "report.md.j2").write_text(TEMPLATE)
    page = (program.HERE / "report.html.j2").read_text()
    (tmp_path / "experiments" / "report.html.j2").write_text(page)
    rows = [
        {"arm": arm, "noise": arm, "seed": seed, "accuracy": accuracy}
        for arm, accuracy in (("none", 0.5), ("some", 0.6))
        for seed in range(6)
    ]
    table = pd.DataFrame(rows).assign(status="finished", learning_rate=0.1, run="r")
    table = table.assign(source="folder x", data="0123456789")
    table.to_csv(tmp_path / "results" / "toy" / "results.csv", index=False)
    curves = {
        "arm": ["none"],
        "curve": "valid_loss",
        "x": 1,
        "n": 6,
        "mean": 1,
        "low": 1,
        "high": 1,
    }
    pd.DataFrame(curves).to_csv(tmp_path / "results" / "toy" / "curves.csv", index=False)
    monkeypatch.setattr(program, "HERE", tmp_path / "experiments")
    return tmp_path


def build(repository):
    program.main(["--results", str(repository / "results")])
    return [(repository / "results" / name).read_text() for name in ("REPORT.md", "report.html")]


def test_numbers_of_the_report_are_computed(repository):
    text, page = build(repository)
    assert "+0.100 [+0.100, +0.100], n = 6; higher;\n0.600 [0.600, 0.600]; not run yet" in text
    assert "| gain " in text and "![A caption.](toy/differences.png)" in text
    for name in ("table.md", "table.tex", "differences.png"):
        assert (repository / "results" / "toy" / name).exists()


def test_page_is_one_file_with_tables_and_figures_in_it(repository):
    _, page = build(repository)
    assert page.count("<table>") == 2 and "<title>Title</title>" in page
    assert re.search(r"<details>.*<table>.*</details>", page, re.DOTALL)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,iVBOR")
    assert "http" not in page.replace("http-equiv", "")


def test_what_is_incomplete_is_left_out_and_told(repository, capsys):
    (repository / "results" / "toy" / "curves.csv").unlink()
    text, _ = build(repository)
    assert text.count("not run yet") == 4 and "*Not run yet.*" in text
    assert "left out: there is no" in capsys.readouterr().out


@pytest.mark.parametrize(
    "template, words",
    [
        ('{{ effect("toy", "gian", "accuracy") }}', ["toy", "'gian'", "'gain'"]),
        ('{{ effect("toy", "gain", "acuracy") }}', ["toy", "'acuracy'"]),
        ('{{ score("toy", "non", "accuracy") }}', ["toy", "'none'"]),
        ('{{ figure("toy", "pie", "x") }}', ["toy", "'pie.png'"]),
        ("{{ tabel() }}", ["report.md.j2", "'tabel'"]),
        ("text\n{% if %}", ["report.md.j2", "line 2"]),
    ],
)
def test_mistakes_in_the_template_are_one_line(repository, template, words):
    (repository / "experiments" / "report.md.j2").write_text(template)
    with pytest.raises(UserError) as error:
        build(repository)
    for word in words:
        assert word in str(error.value)


def test_the_template_knows_its_experiments(tmp_path):
    """Without any results the real report can be made, and says so of every experiment."""
    text = program.render(program.TEMPLATE, **program.helpers({}))
    makefile = (program.HERE.parent / "Makefile").read_text().replace("\\\n", " ")
    experiments = re.search(r"^EXPERIMENTS := (.*)", makefile, re.MULTILINE)[1].split()
    assert text.count("*Not run yet.*") == len(experiments)
    commands = " ".join(re.findall(r"\*\*Command\.\*\* `make ([\w ]+)`", text)).split()
    assert sorted(commands) == sorted(experiments)
    page = program.to_html(text, tmp_path)
    for anchor in re.findall(r"\]\(#([\w-]+)\)", text):
        assert f'id="{anchor}"' in page


def test_contrasts_and_figures_of_the_template_exist():
    """Every name that the real template uses is in its config."""
    text = (program.HERE / program.TEMPLATE).read_text()
    experiments = {}
    for name in sorted(set(re.findall(r'table\("(\w+)"\)', text))):
        path = program.HERE.parent / "configs" / f"{name}.yaml"
        if path.exists():
            config = program.load_config(path)
            arms = [arm.name for arm in program.expand_arms(config)]
            table = pd.DataFrame({"arm": [*arms, "raw TF-IDF", "truncated SVD"], "seed": 1})
            table = table.assign(status="finished", source="", data="", run="", learning_rate=0.1)
            table = table.reindex(columns=[*table, *program.METRICS])
            experiments[name] = program.Experiment(config.experiment, table, path.parent)
    assert "dropout" in experiments
    program.render(program.TEMPLATE, **program.helpers(experiments))


def test_what_tuning_saw_is_a_table_of_rates(repository):
    rows = [("none", 0.1, 101, 2.0), ("none", 0.1, 102, 4.0), ("none", 0.01, 101, 5.0)]
    directory = repository / "results" / "toy" / "tuning"
    directory.mkdir()
    tried = pd.DataFrame(rows, columns=["arm", "learning_rate", "seed", "valid_loss"])
    tried.to_csv(directory / "results.csv", index=False)
    (repository / "experiments" / "report.md.j2").write_text('# T\n\n{{ rates("toy") }}\n')
    text, _ = build(repository)
    assert re.search(r"arm +\| 0\.01 +\| 0\.1 ", text)
    assert re.search(r"none +\| 5\.000 +\| 3\.000 ", text)
