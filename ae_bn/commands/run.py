"""Run an experiment: train every arm with every seed, then write and print its tables.

From the command line::

    ae-bn run --config configs/core.yaml
    ae-bn run --config configs/core.yaml --seeds 3 --set training.epochs=5
    ae-bn run --config configs/core.yaml --cluster tcp://HOST:8786

In a checkout ``python experiments/run.py`` does the same.

Tables go to OUT/NAME: ``results.csv`` (a row per run and snapshot), ``table.md`` and figures.  All
experiments share the directories of runs in OUT/runs and the record of their results in OUT/record.
Finished and recorded runs are skipped and interrupted ones resume, so any command can safely be
given again.
Exit code 0: done; 1: done, but some runs failed, and the table says why; 2: something in the
config, an argument or the corpus is wrong, or files cannot be written, and one line says what;
130, 143: interrupted.
"""

from __future__ import annotations

from pathlib import Path

from ae_bn.commands.command_line import check_positive, command_parser, path
from ae_bn.errors import UserError
from ae_bn.files import user_path
from ae_bn.theano_setup import cpu_count


def parse_arguments(arguments):
    parser = command_parser(__doc__)
    parser.add_argument(
        "--config", required=True, type=path, help="a YAML file such as configs/core.yaml"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings to change, such as training.epochs=5 (ae_bn/defaults.yaml has all)",
    )
    parser.add_argument(
        "--seeds",
        help="number of seeds, or a list such as 1,2,5 or 7,; if not given, experiment.seeds",
    )
    parser.add_argument(
        "--jobs", type=int, default=cpu_count(), help="number of processes that train"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="train on a Dask cluster: the scheduler's address tcp://HOST:8786, or local",
    )
    parser.add_argument("--out", type=path, default=Path("results"), help="folder of all results")
    parser.add_argument(
        "--collect",
        action="store_true",
        help="record the finished runs and write their tables, without training",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list the arms, and what is left to train"
    )
    return parser.parse_args(arguments)


def choose_seeds(text: str, first: int) -> list[int]:
    """Return the seeds that a text lists, or as many as it says, from the first on.

    A comma at the end makes a list of one seed, such as ``7,``.
    """
    parts = text.split(",")
    try:
        seeds = [int(part) for part in (parts[:-1] if parts[-1] == "" else parts)]
    except ValueError:
        seeds = []
    if len(seeds) == 1 and "," not in text:
        seeds = [first + count for count in range(seeds[0])]
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text}: give a number such as 5, or a list such as 1,2,5 or 7,")
    return seeds


def check_inputs(out: Path, name: str, data) -> None:
    """Raise a UserError if results would replace the documents, or would be read as documents."""
    for folder in (out / name, out / "runs", out / "record"):
        written = folder.resolve()
        if data.folder and user_path(data.folder).resolve() in (written, *written.parents):
            raise UserError(
                f"--out {out}: {folder} lies in data.folder={data.folder}, and results would be "
                "read as documents: name a folder outside"
            )
        if data.file and written in user_path(data.file).resolve().parents:
            raise UserError(
                f"--out {out}: {folder} holds data.file={data.file}, and results could replace "
                "it: name another folder"
            )


def overview(runs: list, record, jobs: int) -> str:
    """Return a table of the arms with their learning rates and seeds, and the time left to train.

    Parameters
    ----------
    runs : list of Run
        The runs of an experiment.
    record : Record
        The record.
    jobs : int
        The number of processes that will train.
    """
    found: dict = {
        run.identity: record.results(run.identity) or (run.read_metrics() if run.finished else None)
        for run in runs
    }
    seconds: dict = {}  # of the runs of every arm that are done
    for run in runs:
        if found[run.identity] and not run.reference:
            seconds.setdefault(run.arm, []).append(found[run.identity]["seconds"])
    of_all = [value for values in seconds.values() for value in values]
    rows: list = [["to do", "done", "seeds", "learning rates", "arm"]]
    left = 0.0
    for arm in dict.fromkeys(run.arm for run in runs):
        own = [run for run in runs if run.arm == arm]
        to_do = sum(not found[run.identity] for run in own)
        rates = dict.fromkeys(run.config.training.learning_rate for run in own if not run.reference)
        numbers = ranges(sorted({run.seed for run in own}))
        rows.append([to_do, len(own) - to_do, numbers, " ".join(map(str, rates)) or "-", arm])
        known = seconds.get(arm, of_all)
        if to_do and rates and known:
            left += to_do * sum(known) / len(known)
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows)]
    lines = ["  ".join(str(c).ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]
    n, done = len(runs), sum(map(bool, found.values()))
    lines += ["", f"{n} runs: {done} finished or recorded, {n - done} to do"]
    if n > done and of_all:
        lines[-1] += (
            f", about {duration(left / jobs)} with {jobs} processes (as those that are done)"
        )
    elif n > done:
        lines[-1] += "; none is done, so nothing says how long they take"
    return "\n".join(lines)


def ranges(numbers: list[int]) -> str:
    """Return rising numbers as text, such as ``1-3,7``."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ",".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)


def duration(seconds: float) -> str:
    """Return a time in words."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    options = parse_arguments(arguments)
    check_positive(options, "jobs")

    from ae_bn.config import load_config
    from ae_bn.data.word_vectors import check_word_vectors
    from ae_bn.reporting.curves import curves_table
    from ae_bn.reporting.tables import check_report, table_rows, write_report
    from ae_bn.study.arms import check_effective
    from ae_bn.study.plan import plan_runs
    from ae_bn.study.record import Record
    from ae_bn.study.results import record_lines, results_table
    from ae_bn.study.sweep import sweep

    config = load_config(options.config, options.set)
    experiment = config.experiment
    check_report(experiment)
    check_effective(config, [change.partition("=")[0].strip() for change in options.set])
    check_inputs(options.out, experiment.name, config.data)
    directory = options.out / experiment.name
    seeds = choose_seeds(options.seeds or str(experiment.seeds), config.training.seed)
    record = Record(options.out / "record")
    trains = not options.dry_run and not options.collect
    for reference in experiment.references if trains else []:
        if reference.file is not None and reference.sha256 is not None:
            check_word_vectors(reference.file, reference.sha256)
    runs = plan_runs(config, seeds, options.out, None if trains else record)
    if options.dry_run:
        print(overview(runs, record, options.jobs))
        print(f"runs go to {runs[0].directory.parent}")
        return 0
    if options.collect:
        record.add(record_lines(runs, record), experiment.name)
        finished = [run for run in runs if record.results(run.identity)]
        print(f"{len(finished)} of {len(runs)} runs are finished")
        if not finished:
            return 0
        runs = finished
    else:
        try:
            sweep(runs, options.jobs, options.cluster, name=experiment.name, record=record)
        finally:
            record.add(record_lines(runs, record), experiment.name)
    table = results_table(runs, record)
    curves = curves_table(table_rows(table, experiment), record, experiment.report.figures)
    print(f"\n{write_report(table, curves, experiment, directory)}")
    print(f"results.csv, table.md and figures are in {directory}")
    return int((table["status"] == "failed").any())
