"""`experiments/report.py`: what is committed becomes tables, figures and a report."""

from __future__ import annotations

import re

import pandas as pd
import pytest
import report as program  # experiments/report.py

from ae_bn.commands.command_line import run_program
from ae_bn.config import load_config
from ae_bn.errors import UserError
from ae_bn.evaluation.metrics import METRICS
from ae_bn.study.arms import expand_arms, expand_corpora, reference_arm
from ae_bn.study.results import recorded_tables

CONFIG = """
experiment:
  question: Does noise help?
  factors: {noise: {none: {}, some: {}}}
  compare:
    gain: {noise: [none, some]}
  report:
    metrics: [probe_accuracy]
    figures: [{kind: metrics}]
"""
FRAGMENT = """Noise adds {{ effect("gain", "probe_accuracy", expect="higher") }}. So
accuracy is {{ score("some", "probe_accuracy", above="none") }}.

{{ figure("metrics", "A caption.") }}

{{ table() }}
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one experiment: accuracy .5, and .6 in six seeds."""
    for name in ("experiments/report", "configs", "results/toy"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "configs" / "toy.yaml").write_text(CONFIG)
    (tmp_path / "experiments" / "report" / "toy.md.j2").write_text(FRAGMENT)
    for name in ("report.md.j2", "report.html.j2"):
        (tmp_path / "experiments" / name).write_text((program.HERE / name).read_text())
    rows = [
        {"arm": arm, "noise": arm, "seed": seed, "probe_accuracy": accuracy}
        for arm, accuracy in (("none", 0.5), ("some", 0.6))
        for seed in range(6)
    ]
    table = pd.DataFrame(rows).assign(status="finished", learning_rate=0.1, run="r")
    table = table.assign(source="folder x", data="0123456789", snapshot="loss")
    monkeypatch.setattr(program, "recorded_table", lambda config, record: table)
    monkeypatch.setattr(program, "HERE", tmp_path / "experiments")
    return tmp_path


def build(repository, fragment=None):
    """Return Markdown and HTML of the report, with another fragment if one is given."""
    if fragment is not None:
        (repository / "experiments" / "report" / "toy.md.j2").write_text(fragment)
    program.main(["--results", str(repository / "results")])
    return [(repository / "results" / name).read_text() for name in ("REPORT.md", "report.html")]


def test_numbers_of_the_report_are_computed(repository):
    text, _ = build(repository)
    assert "Noise adds +0.100 [+0.100, +0.100] over 6 seeds. So" in text
    assert "accuracy is 0.600 [0.600, 0.600]." in text
    assert "| gain " in text and "![A caption.](toy/metrics.png)" in text
    for name in ("table.md", "metrics.png"):
        assert (repository / "results" / "toy" / name).exists()


def test_the_frame_has_question_and_command(repository):
    text, _ = build(repository)
    assert "## Toy\n\n**Question.** Does noise help? **Command.** `make toy`\n\nNoise adds" in text


def test_page_is_one_file_with_tables_and_figures_in_it(repository):
    _, page = build(repository)
    assert page.count("<table>") == 2 and "<title>Batch Normalization and dropout" in page
    assert re.search(r"<details>.*<table>.*</details>", page, re.DOTALL)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,iVBOR")
    assert "http" not in page.replace("http-equiv", "").split("<h2", 1)[1]
    for anchor in re.findall(r'href="#([\w-]+)"', page):
        assert f'id="{anchor}"' in page


def test_an_experiment_without_a_fragment_has_its_figures_and_tables(repository):
    (repository / "experiments" / "report" / "toy.md.j2").unlink()
    text, _ = build(repository)
    shown = "![The metrics of the table.](toy/metrics.png)"
    assert f"**Question.** Does noise help? **Command.** `make toy`\n\n{shown}" in text
    assert "| gain " in text and "All differences and arms" in text


def test_an_experiment_without_results_is_not_run_yet(repository):
    (repository / "results" / "toy").rmdir()
    text, _ = build(repository)
    assert "## Not run yet\n\n- toy\n" in text and "Noise adds" not in text


def test_an_experiment_without_recorded_runs_is_not_run_yet(repository, monkeypatch):
    empty = pd.DataFrame(columns=["arm", "noise", "seed"])
    monkeypatch.setattr(program, "recorded_table", lambda config, record: empty)
    text, _ = build(repository)
    assert "## Not run yet\n\n- toy\n" in text


def test_a_damaged_record_ends_the_report(repository):
    (repository / "results" / "record").mkdir()
    (repository / "results" / "record" / "toy-seed1.jsonl.xz").write_bytes(b"not xz")
    with pytest.raises(UserError, match="toy-seed1.jsonl.xz is damaged"):
        build(repository)
    assert not (repository / "results" / "REPORT.md").exists()


def test_deleting_an_experiment_retires_it(repository):
    """Without its config the results are left alone, and the report does not name it."""
    (repository / "configs" / "toy.yaml").unlink()
    text, _ = build(repository)
    assert "toy" not in text.replace("make report", "")


@pytest.mark.parametrize(
    "fragment, words",
    [
        (
            'Well. Noise\ncosts {{ effect("gain", "probe_accuracy", expect="lower") }} here. So.',
            ["'Noise costs +0.100 [+0.100, +0.100] over 6 seeds here.'", "expected lower"],
        ),
        (
            '- *One*: x.\n- It is {{ effect("gain", "probe_accuracy", expect="undecided") }}, too.',
            ["'It is +0.100", "expected undecided, but it is +0.100"],
        ),
        (
            'With none, {{ score("none", "probe_accuracy", above="some") }}, it is best.',
            ["With none, 0.500", "linear-probe accuracy of 'none' is not above that of 'some'"],
        ),
        (
            'With some, {{ score("some", "probe_accuracy", below="none") }}, it is best.',
            ["accuracy of 'some' is not below that of 'none'"],
        ),
    ],
)
def test_a_sentence_that_the_numbers_contradict_is_named(repository, fragment, words, capsys):
    before = build(repository)
    with pytest.raises(UserError) as error:
        build(repository, fragment)
    assert str(error.value).startswith("experiments/report/toy.md.j2: the numbers do not say")
    assert "\n" not in str(error.value) and "\0" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    files = [repository / "results" / name for name in ("REPORT.md", "report.html")]
    assert [file.read_text() for file in files] == before  # nothing is lost


def test_a_contradiction_is_one_line_and_exit_code_2(repository, monkeypatch, capsys):
    fragment = 'Noise costs {{ effect("gain", "probe_accuracy", expect="lower") }}.'
    (repository / "experiments" / "report" / "toy.md.j2").write_text(fragment)
    monkeypatch.setattr("sys.argv", ["report.py", "--results", str(repository / "results")])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as exit:
        run_program(program.main, "")
    [line] = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2 and "toy.md.j2" in line and "Noise costs +0.100" in line


@pytest.mark.parametrize(
    "fragment, words",
    [
        ('{{ effect("gian", "probe_accuracy") }}', ["toy.md.j2", "'gian'", "'gain'"]),
        ('{{ effect("gain", "acuracy") }}', ["toy.md.j2", "'acuracy'"]),
        ('{{ effect("gain", "probe_accuracy", expect="more") }}', ["expect", "'more'"]),
        ('{{ effect("gain", "probe_accuracy", nois="some") }}', ["'nois'", "'noise'"]),
        ('{{ effect("gain") }}', ["toy.md.j2", "metric"]),
        ('{{ score("non", "probe_accuracy") }}', ["toy.md.j2", "'none'"]),
        ('{{ score("some", "probe_accuracy", above="non") }}', ["toy.md.j2", "'none'"]),
        ('{{ figure("pie", "x") }}', ["toy.md.j2", "'pie.png'"]),
        ("{{ tabel() }}", ["report/toy.md.j2", "'tabel'"]),
        ("text\n{% if %}", ["report/toy.md.j2", "line 2"]),
    ],
)
def test_mistakes_in_a_fragment_are_one_line(repository, fragment, words):
    with pytest.raises(UserError) as error:
        build(repository, fragment)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_comparison_at_several_places_is_a_mean_over_places_and_epochs(repository, monkeypatch):
    """Accuracy gains .1 and .3 at the two sizes at one epoch, .2 and -.2 at the other."""
    path = repository / "configs" / "toy.yaml"
    path.write_text(
        CONFIG.replace("[none, some]}", "[none, some], within: size}")
        .replace("some: {}}}", "some: {}}, size: {small: {}, big: {}}}")
    )  # fmt: skip
    gains = {("small", "loss"): 0.1, ("big", "loss"): 0.3}
    gains.update({("small", "accuracy"): 0.2, ("big", "accuracy"): -0.2})
    rows = [
        {"arm": f"{noise} / {size}", "noise": noise, "size": size, "snapshot": snapshot,
         "seed": seed, "probe_accuracy": 0.5 + 0.01 * seed + (gain if noise == "some" else 0)}
        for (size, snapshot), gain in gains.items()
        for noise in ("none", "some")
        for seed in range(3)
    ]  # fmt: skip
    table = pd.DataFrame(rows).assign(status="finished", learning_rate=0.1, run="r")
    table = table.assign(source="folder x", data="0123456789", valid_loss=1.0)
    monkeypatch.setattr(program, "recorded_table", lambda config, record: table)
    text, _ = build(repository, '{{ effect("gain", "probe_accuracy") }}')
    assert "+0.100 [+0.100, +0.100] over 3 seeds" in text
    text, _ = build(repository, '{{ effect("gain", "probe_accuracy", "higher", size="small") }}')
    assert "+0.150 [+0.150, +0.150] over 3 seeds" in text


REPOSITORY = program.HERE.parent
CONFIGS = REPOSITORY / "configs"
RUN = [p.stem for p in CONFIGS.glob("*.yaml") if (REPOSITORY / "results" / p.stem).is_dir()]
FRAGMENTS = sorted(
    path
    for path in REPOSITORY.glob("experiments/report/*.md.j2")
    if (REPOSITORY / "configs" / f"{path.name.split('.')[0]}.yaml").exists()
)


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name.split(".")[0])
def test_names_in_the_fragments_exist(path, tmp_path):
    """Of every contrast, arm and figure; its numbers are not looked at."""
    name = path.name.split(".")[0]
    config = load_config(REPOSITORY / "configs" / f"{name}.yaml")
    arms = expand_arms(config)
    rows = [{"arm": arm.name, **arm.levels} for arm in arms]
    rows += [{"arm": "raw TF-IDF"}, {"arm": "truncated SVD"}]
    corpora, references = expand_corpora(config), config.experiment.references
    named = {
        reference_arm(reference, corpus).name for corpus in corpora for reference in references
    }
    rows += [{"arm": name} for name in sorted(named - {row["arm"] for row in rows})]
    table = pd.DataFrame(rows).assign(seed=1, status="finished", source="", data="", run="")
    table = table.assign(learning_rate=0.1, snapshot=config.experiment.report.snapshot)
    table = table.assign(**dict.fromkeys(METRICS, 1.0))
    directory = REPOSITORY / "results" / name
    numbers = program.ExperimentNumbers(
        name, program.Experiment(config.experiment, table, directory)
    )
    text = program.render(f"report/{path.name}", **numbers.names())
    assert text.startswith("**Answer.**")


def test_the_first_screen_of_readme_is_that_of_the_report():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    report = (REPOSITORY / "results" / "REPORT.md").read_text(encoding="utf-8")
    shown = readme.split(program.BEGIN)[1].split(program.END)[0]
    shown = shown.replace("](results/REPORT.md#", "](#").replace('"results/', '"')
    shown = shown.replace("](docs/", "](../docs/")
    assert " ".join(shown.split()) in " ".join(report.split())


def test_the_first_screen_is_short():
    """At most 20 lines before the figure, and a table of at most six rows."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    text, rest = readme.split(program.BEGIN)[1].split(program.END)[0].split("<img")
    assert len([line for line in text.splitlines() if line]) <= 20
    assert len([line for line in rest.splitlines() if line.startswith("|")]) <= 2 + 6


@pytest.mark.long
def test_the_answers_say_what_the_committed_runs_say():
    """Every sentence of the answers holds; `make report` checks the same."""
    record = program.Record(REPOSITORY / "results" / "record")
    tables = recorded_tables(CONFIGS, RUN, record)
    numbers = program.AnswerNumbers(program.Answers(tables, record, REPOSITORY / "results"))
    text = numbers.check(program.render("report/answers.md.j2", **numbers.names()))
    first = program.rewrap(text).split(program.MORE)[0].strip()
    assert first in (REPOSITORY / "results" / "REPORT.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("configs/*.yaml")), ids=lambda path: path.stem
)
def test_every_experiment_asks_a_question(path):
    question = load_config(path).experiment.question
    assert question is not None and question.endswith("?")
