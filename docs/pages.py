"""The pages that are generated from the package whenever the documentation is built."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import lru_cache
from pathlib import Path

from ruamel.yaml import YAML

import ae_bn
from ae_bn.commands.run import duration
from ae_bn.config import DEFAULTS, Config, load_config
from ae_bn.evaluation.metrics import METRICS
from ae_bn.study.record import Record
from ae_bn.study.results import recorded_table

ROOT = Path(__file__).resolve().parent.parent
CORES = 2  # of the machine that the pages of experiments give times for
TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "mapping",
    "null": "null",
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} of them",
    "pattern": "matching `{}`",
}


def write_pages(directory: Path) -> None:
    """Write settings.md, metrics.md, and the folders ``experiments`` and ``api``."""
    pages = {
        "settings": settings_page(),
        "metrics": metrics_page(),
        **experiment_pages(),
        **api_pages(),
    }
    for name, text in pages.items():
        path = directory / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def settings_page() -> str:
    """Return the table of all settings: defaults.yaml's comments, and the schema's types."""
    meanings = comments(DEFAULTS.read_text(encoding="utf-8"))
    defaults = YAML(typ="safe", pure=True).load(DEFAULTS)
    parts = [
        "# Settings",
        "Every setting, with its default and its description from `ae_bn/defaults.yaml`, and "
        "its type and limits from `ae_bn.config`. A config names only what it changes; "
        "`--set section.key=value` changes a setting for one command.",
    ]
    for section, schema in sections(Config.model_json_schema()).items():
        rows = [
            [f"`{name}`", f"`{default}`" if default else "", kind, meanings[name]]
            for name, kind, default in leaves(section, schema, defaults[section])
        ]
        parts += [f"## {section}", table(["setting", "default", "type", "meaning"], rows)]
    return "\n\n".join(parts) + "\n"


def comments(text: str) -> dict[str, str]:
    """Return the comment of every setting of a YAML text, by dotted name.

    A comment begins on the line of its setting and may continue on lines that hold nothing else.
    """
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []  # indentation and name of the sections around
    for line in text.splitlines():
        setting = re.match(r"( *)([a-z_]+):.*?(?: +# (.*))?$", line)
        further = re.match(r" +# (.*)$", line)
        if setting:
            indentation, name, comment = len(setting[1]), setting[2], setting[3]
            path = [(i, outer) for i, outer in path if i < indentation] + [(indentation, name)]
            found[".".join(name for _, name in path)] = comment or ""
        elif further and found:
            last = next(reversed(found))
            found[last] = f"{found[last]} {further[1]}".strip()
    return found


def sections(schema: dict) -> dict[str, dict]:
    """Return the schemas of the config's sections, with references replaced by what they name."""

    def resolve(part):
        if isinstance(part, dict):
            if "$ref" in part:
                return resolve(schema["$defs"][part["$ref"].rsplit("/", 1)[-1]])
            return {key: resolve(value) for key, value in part.items()}
        return [resolve(value) for value in part] if isinstance(part, list) else part

    return resolve(schema["properties"])


def leaves(name: str, schema: dict, default):
    """Yield dotted name, type and default of every setting and section below a section."""
    for key, part in schema["properties"].items():
        inner = f"{name}.{key}"
        if "properties" in part:
            yield inner, "section", ""
            yield from leaves(inner, part, default[key])
        else:
            yield inner, describe(part), as_yaml(default[key])


def describe(schema: dict) -> str:
    """Return type and limits of a JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(describe(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        words = "list of: " + describe(schema["items"])
    else:
        words = TYPES[schema["type"]]
    limits = [text.format(schema[key]) for key, text in LIMITS.items() if key in schema]
    return ", ".join([words, *limits])


def as_yaml(value) -> str:
    """Return a default as a config would have it."""
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_yaml(inner)}' for key, inner in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def metrics_page() -> str:
    """Return the table of all metrics that a report can show."""
    rows = [[f"`{name}`", metric.title, metric.meaning] for name, metric in METRICS.items()]
    return "\n\n".join(
        [
            "# Metrics",
            "`experiment.report.metrics` chooses from these metrics. `results.csv` has a column "
            "for each metric that some run of the experiment has, shown or not. The cells of the "
            "other runs are empty.",
            table(["name", "title in tables", "meaning"], rows) + "\n",
        ]
    )


def experiment_pages() -> dict[str, str]:
    """Return a page per experiment, from its config and its results, and their contents."""
    paths = {path.stem: path for path in sorted((ROOT / "configs").glob("*.yaml"))}
    pages = {f"experiments/{name}": experiment_page(path) for name, path in paths.items()}
    rows = [
        [f"[{name}]({name}.md)", load_config(path).experiment.question, cost(name)]
        for name, path in paths.items()
    ]
    pages["experiments/index"] = "\n\n".join(
        [
            "# Experiments",
            "Each experiment is a file in `configs/`, and `make NAME` runs it. The times are for "
            f"{CORES} cores. [](../../report/index.md) says what they found.",
            table(["experiment", "question", "runs and time"], rows),
            "\n".join(["```{toctree}", ":hidden:", *paths, "```"]) + "\n",
        ]
    )
    return pages


def experiment_page(path: Path) -> str:
    """Return the page of an experiment: question, command, time, factors and results."""
    name, results = path.stem, ROOT / "results" / path.stem
    own = (ROOT / "docs" / "report" / f"{name}.md").exists()
    factors = load_config(path).experiment.factors
    rows = [[factor, ", ".join(levels)] for factor, levels in factors.items()]
    parts = [
        f"# {name}",
        f"**Question.** {escape(load_config(path).experiment.question)}",
        f"**Command.** `make {name}`, or `.venv/bin/ae-bn run --config configs/{name}.yaml`.",
        f"**Time on {CORES} cores.** {cost(name)}.",
        "**Factors.** The arms are the combinations of these levels that the config does not skip.",
        table(["factor", "levels"], rows),
        f"**Results.** `results/{name}/` has `table.md`, `results.csv` and the figures. "
        f"[The report](../../report/{name if own else 'answers'}.md) discusses them. "
        "[](../../tables.md) explains how to read them.",
    ]
    if not own and (results / "table.md").exists():
        shown = (results / "table.md").read_text(encoding="utf-8").partition("\n")[2].strip()
        images = [
            f"![{figure.stem.replace('_', ' ')}](../../../results/{name}/{figure.name})"
            for figure in sorted(results.glob("*.png"))
        ]
        parts += ["## What to expect", *images, shown]
    return "\n\n".join(parts) + "\n"


@lru_cache(maxsize=None)
def record() -> Record:
    """Return the record of the repository."""
    return Record(ROOT / "results" / "record")


@lru_cache(maxsize=None)
def cost(name: str) -> str:
    """Return how many runs an experiment has, and how long they trained."""
    if not (ROOT / "results" / name).is_dir():
        return "not run yet"
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    runs = recorded_table(config, record()).drop_duplicates("run")
    if "seconds" not in runs:
        return f"{len(runs)} references, which need no training"
    runs = runs.dropna(subset=["seconds"])
    return f"{len(runs)} runs, {duration(runs['seconds'].sum() / CORES)}"


def api_pages() -> dict[str, str]:
    """Return a page per module of the package, from its docstrings, and their contents."""
    names = ["ae_bn"] + sorted(
        module.name
        for module in pkgutil.walk_packages(ae_bn.__path__, "ae_bn.")
        if not module.name.endswith("__main__")
    )
    # Orphans are not in the sidebar, whose time grows with its entries on every page.
    pages = {
        f"api/{name}": f"---\norphan: true\n---\n\n# {name}\n\n"
        f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"
        for name in names
    }
    rows = [[f"[{name}]({name}.md)", summary(name)] for name in names]
    pages["api/index"] = "\n\n".join(["# Modules", table(["module", "about"], rows), ""])
    return pages


def summary(name: str) -> str:
    """Return the first sentence of a module's docstring."""
    text = importlib.import_module(name).__doc__.split("\n\n")[0]
    return " ".join(text.split())


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, [":--"] * len(head), *[[escape(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Escape what Markdown would read as a mark, but for code in backticks."""
    text = text.replace("|", r"\|")
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
