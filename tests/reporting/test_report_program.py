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
from ae_bn.training import SNAPSHOTS

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
    for name in ("report.md.j2", "report.html.j2", "report/index.md.j2"):
        text = (program.ROOT / "experiments" / name).read_text()
        (tmp_path / "experiments" / name).write_text(text)
    rows = [
        {"arm": arm, "noise": arm, "seed": seed, "probe_accuracy": accuracy}
        for arm, accuracy in (("none", 0.5), ("some", 0.6))
        for seed in range(6)
    ]
    table = pd.DataFrame(rows).assign(status="finished", learning_rate=0.1, run="r")
    table = table.assign(source="folder x", data="0123456789", snapshot="loss")
    monkeypatch.setattr(program, "recorded_table", lambda config, record: table)
    monkeypatch.setattr(program, "ROOT", tmp_path)
    return tmp_path


def build(repository, fragment=None):
    """Return the experiment's page, HTML and index, with another fragment if one is given."""
    if fragment is not None:
        (repository / "experiments" / "report" / "toy.md.j2").write_text(fragment)
    program.main([])
    return [path.read_text() if path.exists() else "" for path in made(repository)]


def made(repository):
    """Return the paths of the experiment's page, of HTML and of the index."""
    pages = repository / program.PAGES
    return [pages / "toy.md", repository / "results" / "report.html", pages / "index.md"]


def test_numbers_of_the_report_are_computed(repository):
    text, *_ = build(repository)
    assert "Noise adds +0.100 [+0.100, +0.100] over 6 seeds. So" in text
    assert "accuracy is 0.600 [0.600, 0.600]." in text
    assert "| gain " in text and "![A caption.](../../results/toy/metrics.png)" in text
    for name in ("table.md", "metrics.png"):
        assert (repository / "results" / "toy" / name).exists()


def test_the_frame_has_question_and_command(repository):
    text, *_ = build(repository)
    assert re.match(r"# Does noise help\?\n\n\*\*Command.\*\* `make toy`.*\n\nNoise adds", text)


def test_the_index_has_each_question_and_the_first_sentence_of_its_answer(repository):
    _, _, index = build(repository)
    assert "- [Does noise help?](toy.md)\n" in index
    answer = '**Answer.** Noise adds {{ effect("gain", "probe_accuracy") }}, or .1. More follows.'
    _, _, index = build(repository, answer)
    shown = "- [Does noise help?](toy.md) Noise adds +0.100 [+0.100, +0.100] over 6 seeds, or .1.\n"
    assert shown in index


def test_links_are_from_the_root_and_lead_to_the_same_place_from_everywhere(repository):
    fragment = "[A](docs/a.md#b), [other](docs/report/answers.md), [web](mailto:a@b), [x](#y)."
    text, page, _ = build(repository, fragment)
    assert "[A](../a.md#b), [other](answers.md), [web](mailto:a@b), [x](#y)." in text
    for link in ("../docs/a.md#b", "#answers", "mailto:a@b", "#y"):
        assert f'href="{link}"' in page
    assert 'id="answers"' in page and 'href="#toy"' in page and 'id="toy"' in page


@pytest.mark.parametrize("name", ["answers", "effects", "index"])
def test_an_experiment_has_no_name_of_another_page(repository, name):
    (repository / "configs" / "toy.yaml").rename(repository / "configs" / f"{name}.yaml")
    with pytest.raises(UserError, match=f"configs/{name}.yaml: .*rename it"):
        build(repository)


def test_page_is_one_file_with_tables_and_figures_in_it(repository):
    _, page, _ = build(repository)
    assert page.count("<table>") == 2 and "<title>Batch Normalization and dropout" in page
    assert re.search(r"<details>.*<table>.*</details>", page, re.DOTALL)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 1 and sources[0].startswith("data:image/webp;base64,UklGR")
    assert "http" not in page.replace("http-equiv", "").split("<h2", 1)[1]
    for anchor in re.findall(r'href="#([\w-]+)"', page):
        assert f'id="{anchor}"' in page


def test_an_experiment_without_a_fragment_has_its_figures_and_tables(repository):
    (repository / "experiments" / "report" / "toy.md.j2").unlink()
    text, *_ = build(repository)
    assert "\n\n![The metrics of the table.](../../results/toy/metrics.png)" in text
    assert "| gain " in text and "All differences and arms" in text


def test_an_experiment_without_results_is_not_run_yet(repository):
    (repository / "results" / "toy").rmdir()
    text, page, index = build(repository)
    assert "## Not run yet\n\n- `make toy`: Does noise help?\n" in index
    assert not text and "Noise adds" not in page


def test_an_experiment_without_recorded_runs_is_not_run_yet(repository, monkeypatch):
    empty = pd.DataFrame(columns=["arm", "noise", "seed"])
    monkeypatch.setattr(program, "recorded_table", lambda config, record: empty)
    *_, index = build(repository)
    assert "## Not run yet\n\n- `make toy`: Does noise help?\n" in index


def test_a_damaged_record_ends_the_report(repository):
    (repository / "results" / "record").mkdir()
    (repository / "results" / "record" / "toy-seed1.jsonl.xz").write_bytes(b"not xz")
    with pytest.raises(UserError, match="toy-seed1.jsonl.xz is damaged"):
        build(repository)
    assert not any(path.exists() for path in made(repository))


def test_deleting_an_experiment_retires_it(repository):
    """Without its config the results are left alone, and the report does not name it."""
    build(repository)
    (repository / "configs" / "toy.yaml").unlink()
    text, page, index = build(repository)
    assert not text and "toy" not in page + index
    assert (repository / "results" / "toy" / "table.md").exists()


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
    assert [path.read_text() for path in made(repository)] == before  # nothing is lost


def test_a_contradiction_is_one_line_and_exit_code_2(repository, monkeypatch, capsys):
    fragment = 'Noise costs {{ effect("gain", "probe_accuracy", expect="lower") }}.'
    (repository / "experiments" / "report" / "toy.md.j2").write_text(fragment)
    monkeypatch.setattr("sys.argv", ["report.py"])
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
        ('{{ effect("gain", "probe_accuracy", setting="toi") }}', ["'toi'", "'toy'"]),
        (
            '{{ at_equal_rates("gain", "probe_accuracy", snapshop="loss") }}',
            ["'snapshop'", "'snapshot'"],
        ),
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


def test_a_comparison_at_several_places_is_a_mean_over_places(repository, monkeypatch):
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
    text, *_ = build(repository, '{{ effect("gain", "probe_accuracy") }}')
    assert "+0.200 [+0.200, +0.200] over 3 seeds" in text  # of the table's epoch
    text, *_ = build(repository, '{{ effect("gain", "probe_accuracy", "higher", size="small") }}')
    assert "+0.100 [+0.100, +0.100] over 3 seeds" in text
    text, *_ = build(repository, '{{ at_equal_rates("gain", "probe_accuracy") }}')
    assert "+0.100 [+0.100, +0.100] over 3 seeds" in text  # of both epochs


REPOSITORY = program.ROOT
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
    table = table.assign(**dict.fromkeys(METRICS, 1.0))
    rates = config.experiment.rate_grid or [0.1]
    table = pd.concat(
        [table.assign(snapshot=kind, learning_rate=rate) for kind in SNAPSHOTS for rate in rates],
        ignore_index=True,
    )
    directory = REPOSITORY / "results" / name
    numbers = program.ExperimentNumbers(
        name, program.Experiment(config.experiment, table, directory)
    )
    text = program.render(f"report/{path.name}", **numbers.names())
    assert text.startswith("**Answer.**")


def test_the_first_screen_of_readme_is_that_of_the_report():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    answers = (REPOSITORY / program.PAGES / "answers.md").read_text(encoding="utf-8")
    shown = readme.split(program.BEGIN)[1].split(program.END)[0]
    assert " ".join(program.linked(shown, program.PAGES).split()) in " ".join(answers.split())


def test_the_first_screen_is_short():
    """At most 20 lines before the figure, and a table of at most six rows."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    text, rest = readme.split(program.BEGIN)[1].split(program.END)[0].split("<img")
    assert len([line for line in text.splitlines() if line]) <= 20
    assert len([line for line in rest.splitlines() if line.startswith("|")]) <= 2 + 6


@pytest.mark.long
def test_the_answers_say_what_the_committed_runs_say(monkeypatch):
    """Every sentence of the answers holds; `make report` checks the same."""
    record = program.Record(REPOSITORY / "results" / "record")
    tables = recorded_tables(CONFIGS, RUN, record)
    configs = {name: load_config(CONFIGS / f"{name}.yaml").experiment for name in tables}
    experiments = {
        name: program.Experiment(
            program.without_labels(configs[name], table), table, REPOSITORY / "results" / name
        )
        for name, table in tables.items()
    }
    monkeypatch.setattr(program.Answers, "write_figures", lambda *arguments: None)
    monkeypatch.setattr(program, "page", lambda answers: "")
    pages, _ = program.make_answers(record, experiments)
    first = program.rewrap(pages["answers"].text.split(program.MORE)[0].strip())
    assert first in (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("configs/*.yaml")), ids=lambda path: path.stem
)
def test_every_experiment_asks_a_question(path):
    question = load_config(path).experiment.question
    assert question is not None and question.endswith("?")
