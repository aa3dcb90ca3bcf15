"""`benchmark_scale.py`: its arguments, its fits, and a small run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import benchmark_scale
import numpy as np
import pytest
from scipy.sparse import vstack

from ae_bn.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent


def run(directory, *arguments):
    """Return the finished process of the program with arguments."""
    program = [
        sys.executable,
        str(REPOSITORY / "experiments" / "benchmarks" / "benchmark_scale.py"),
    ]
    return subprocess.run([*program, *arguments], capture_output=True, text=True, cwd=directory)


def test_planted_documents_are_of_their_topics(monkeypatch):
    monkeypatch.setattr(benchmark_scale, "BLOCK", 300)
    made = list(benchmark_scale.planted_documents(800, 500, n_topics=3, length=40, seed=1))
    X, topics = vstack([X for X, _ in made]), np.concatenate([topics for _, topics in made])
    assert X.shape == (800, 500) and len(topics) == 800 and set(X.data) == {1}
    X.check_format(full_check=True)
    frequency = np.asarray(X.mean(axis=0)).ravel()
    assert frequency[0] > 0.8 > 0.1 > np.median(frequency)  # Zipf: a few words nearly everywhere
    means = np.stack([np.asarray(X[topics == t].mean(axis=0)).ravel() for t in range(3)])
    nearest = (X @ (means - means.mean(axis=0)).T).argmax(axis=1)
    assert np.mean(nearest == topics) > 0.9
    other, of = next(benchmark_scale.planted_documents(800, 500, n_topics=3, length=40, seed=2))
    assert np.mean((other @ (means - means.mean(axis=0)).T).argmax(axis=1) == of) > 0.9
    again, _ = next(benchmark_scale.planted_documents(800, 500, n_topics=3, length=40, seed=1))
    assert (again != made[0][0]).nnz == 0


def test_generated_documents_are_read_from_the_disk_as_they_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_scale, "BLOCK", 300)
    monkeypatch.setattr(benchmark_scale, "cache_directory", lambda name: tmp_path / name)
    for _ in range(2):  # made, then found
        X, held_out = benchmark_scale.generated(800, 500)
        assert isinstance(X.data.base, np.memmap) and held_out.shape[1] == 500
        X.check_format(full_check=True)
        made = vstack([block for block, _ in benchmark_scale.planted_documents(800, 500)])
        np.testing.assert_array_equal(X.toarray(), made.toarray())
    assert [path.name for path in (tmp_path / "generated").iterdir()] == ["800-500"]


def row(path, words, seconds, **others):
    row = dict.fromkeys(benchmark_scale.COLUMNS)
    row.update(series="vocabulary", vocabulary=words, documents=100, non_zeros=5000, path=path)
    row.update(seconds_per_epoch=seconds, peak_mib=100 + words / 10, state_mib=words / 20)
    return {**row, "epochs": 3.0, "heldout_loss": 50.0, "evaluation_seconds": 1.0, **others}


def test_exponents_and_ratios():
    rows = [row("dense", n, 3 * (n / 1000) ** 1.5) for n in (1000, 4000, 16000)]
    assert benchmark_scale.exponent(rows, "vocabulary", "seconds_per_epoch") == pytest.approx(1.5)
    rows += [row("sampled", n, 1.0, heldout_loss=49.5) for n in (1000, 4000, 16000)]
    found = "\n".join(benchmark_scale.findings(rows))
    assert "dense: seconds per epoch grow as vocabulary^1.50" in found
    assert "sampled: seconds per epoch grow as vocabulary^-0.00" in found.replace("^0.00", "^-0.00")
    assert "dense: peak memory is 100 MiB and 2.00 times the state" in found
    assert (
        "1000 words, 100 documents: sampled 3.0 times as fast as dense (2.0 with the evaluation), "
        "held-out loss -1.00%"
    ) in found
    torch = row("PyTorch (CSR)", 1000, 7.0, heldout_loss=None, evaluation_seconds=None, epochs=None)
    found = benchmark_scale.findings([*rows, torch])
    assert found[-1].endswith("sampled 7.0 times as fast as PyTorch (CSR)")
    short = row("dense", 1000, 40.0, epochs=0.5, heldout_loss=55.0)
    found = benchmark_scale.findings([short, rows[3]])
    assert found[-1].endswith("held-out loss -10.00%, after 3.00 epochs and 0.50")
    assert "| 40.00 (extrapolated) " in benchmark_scale.markdown_table([short])
    options = benchmark_scale.parse_arguments([])
    report = benchmark_scale.markdown_report([*rows, torch], options, {"processor": "abacus"})
    assert "abacus" in report and "| 16000 " in report
    assert json.loads(json.dumps(torch)) == torch and np.isfinite(torch["peak_mib"])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--sampling", "0"], "--sampling 0"),
        (["--vocabularies", "5", "0"], "--vocabularies 0"),
        (["--batch", "200", "--documents", "100"], "--batch 200"),
        (["--vocabularies", "--documents"], "give a number"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    with pytest.raises(UserError) as caught:
        benchmark_scale.main(arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_mistake_of_the_whole_program(tmp_path):
    done = run(tmp_path, "--sampling", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --sampling 0") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_from_arguments_to_rows(tmp_path):
    small = ["--vocabularies", "--documents", "300", "600", "--words", "400", "--units", "8"]
    small += ["--sampling", "20", "--epochs", "1", "--threads", "1", "--json", "rows.json"]
    done = run(tmp_path, *small)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(r["documents"], r["path"]) for r in rows] == [
        (300, "dense"),
        (300, "sampled"),
        (600, "dense"),
        (600, "sampled"),
    ]
    for r in rows:
        assert r["seconds_per_epoch"] > 0 and r["peak_mib"] > 50 and r["heldout_loss"] > 0
    assert "grow as documents" in (tmp_path / "results" / "benchmark_scale.md").read_text()
