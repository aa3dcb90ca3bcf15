"""`benchmark.py`: its arguments, its arithmetic, and that both sides do the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import benchmark
import contestants
import numpy as np
import pytest
from contestants import MODELS, OPTIMIZERS, Case

from ae_bn.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent
CASE = Case((12, 5, 8), "binary-all", "adam", 1)


def run(directory, *arguments):
    """Return the finished process of `experiments/benchmarks/benchmark.py` with arguments."""
    program = [sys.executable, str(REPOSITORY / "experiments" / "benchmarks" / "benchmark.py")]
    return subprocess.run([*program, *arguments], capture_output=True, text=True, cwd=directory)


def test_ratios_are_taken_within_rounds():
    speeds = [(20, 10, 40), (60, 20, 240), (10, 10, 40)]
    row = benchmark.summarize(CASE, speeds, [100.0, 300.0], "CSR, fused", [])
    assert row["docs_per_second"] == 20
    assert row["ratio_to_pytorch"] == 2 and row["ratio_range"] == [1, 3]
    assert row["share_of_limit"] == 0.25 and row["share_range"] == [0.25, 0.5]
    assert row["peak_mib"] == 100 and row["pytorch_peak_mib"] == 300


def test_report_and_rows():
    speeds = [(20.4, 10, 40), (61, 20, 240)]
    row = benchmark.summarize(CASE, speeds, [100.0, 300.0], "CSR, fused", ["dense, compiled (X)"])
    report = benchmark.markdown_report([row], {"processor": "abacus"}, rounds=2)
    for words in ("12,5,8", "binary-all", "2.54 (2.04-3.05)", "0.38 (0.25-0.51)", "CSR, fused"):
        assert words in report
    assert "abacus" in report and "dense, compiled (X)" in report
    assert json.loads(json.dumps(row))["shape"] == [12, 5, 8]


def test_steps_of_a_round():
    assert contestants.steps_in(0.5, 160.0, CASE) == 10
    assert contestants.steps_in(0.5, 1.0, CASE) == 1


def test_full_means_everything_that_is_not_chosen():
    short, full = (benchmark.parse_arguments(arguments) for arguments in ([], ["--full"]))
    assert set(short.models) < set(full.models) == set(MODELS)
    assert set(short.optimizers) < set(full.optimizers) == set(OPTIMIZERS)
    assert set(short.shapes) < set(full.shapes) and (2000, 128, 100) in short.shapes
    some = benchmark.parse_arguments(["--full", "--models", "tfidf-all"])
    assert some.models == ["tfidf-all"] and some.shapes == full.shapes


def test_batches_are_the_same_and_without_end(documents):
    first, second = (contestants.endless_batches(documents, 15) for _ in range(2))
    for _ in range(5):
        batch = next(first)
        assert batch.shape == (15, 12) and (batch != next(second)).nnz == 0
    with pytest.raises(UserError, match="--shapes"):
        next(contestants.endless_batches(documents, 41))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--rounds", "0"], "--rounds 0"),
        (["--threads", "1", "0"], "--threads 0"),
        (["--shapes", "2000,256"], "--shapes 2000,256"),
        (["--shapes", "2000,256,128", "2000,x,1"], "--shapes 2000,x,1"),
        (["--shapes", "2000,256,1"], "B 2 or more"),
        (["--models", "binary"], "binary-off"),
        (["--round", "x"], "--round"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    with pytest.raises(UserError) as caught:
        benchmark.main(arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_mistake_of_the_whole_program(tmp_path):
    done = run(tmp_path, "--rounds", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --rounds 0") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_pytorch_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="make bench"):
        benchmark.main([])


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_peer_makes_the_same_step(documents, float64, model, optimizer):
    """In double precision, so that nothing but the last digits may differ."""
    variants = pytest.importorskip("torch_peer").VARIANTS
    config = CASE._replace(model=model, optimizer=optimizer).config
    X = documents.astype(np.float64)
    autoencoder = contestants.new_autoencoder(config, X)
    expected = contestants.first_step(autoencoder, config, X)
    for variant in (name for name in variants if not variants[name].compiled):
        peer = contestants.new_peer(config, expected.before, variant)
        contestants.check_first_step(peer, config, X, expected)
        for name, found in peer.get_state().items():
            np.testing.assert_allclose(found, expected.after[name], rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_another_step_is_noticed(documents, float64):
    variant = next(iter(pytest.importorskip("torch_peer").VARIANTS))
    X = documents.astype(np.float64)
    autoencoder = contestants.new_autoencoder(CASE.config, X)
    expected = contestants.first_step(autoencoder, CASE.config, X)
    other = CASE.config.replace({"training.learning_rate": 0.00102})
    peer = contestants.new_peer(other, expected.before, variant)
    with pytest.raises(AssertionError, match="off after a step"):
        contestants.check_first_step(peer, CASE.config, X, expected)


def test_importing_takes_neither_library_along():
    """The memory of the parent would count in that of its workers."""
    check = "import benchmark, sys; sys.exit(not {'theano', 'torch'}.isdisjoint(sys.modules))"
    experiments = str(REPOSITORY / "experiments" / "benchmarks")
    assert subprocess.run([sys.executable, "-c", check], cwd=experiments).returncode == 0


@pytest.mark.long
def test_from_arguments_to_table(tmp_path):
    pytest.importorskip("torch")
    narrow = ["--models", "binary-all", "--optimizers", "nesterov", "--threads", "1"]
    rows = tmp_path / "rows.json"
    done = run(tmp_path, "--shapes", "300,16,20", "--rounds", "2", *narrow, "--json", str(rows))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(rows.read_text())
    assert row["shape"] == [300, 16, 20] and row["threads"] == 1
    assert row["ratio_to_pytorch"] > 0 and row["peak_mib"] > 50
    assert "300,16,20" in (tmp_path / "results" / "benchmark.md").read_text()
