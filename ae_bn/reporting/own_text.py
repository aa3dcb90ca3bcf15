"""Pages about codes of your own text, for ``ae-bn fit``: a map of documents, and words of units."""

from __future__ import annotations

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ae_bn.reporting.inspection import MAPPED, project, typical_words

WORDS = 8  # of a unit
SIZE = 800  # of the map, pixels
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body { font: 14px sans-serif; margin: 1em; max-width: 1100px; }
svg { max-width: 100%; height: auto; } circle { fill-opacity: .7; }
circle:hover { stroke: black; stroke-width: 2; } .labels { columns: 14em; }
text { font: bold 16px sans-serif; text-anchor: middle; dominant-baseline: middle;
paint-order: stroke; stroke: white; stroke-width: 4px; }
@media (max-width: 700px) { circle { r: 6px; } text { font-size: 28px; } }
{{ style }}</style></head><body>
"""
MAP = """\
<svg viewBox="-8 -8 {{ size + 16 }} {{ size + 16 }}" width="{{ size }}" height="{{ size }}">
{%- for x, y, color, title in points %}
<circle cx="{{ x }}" cy="{{ y }}" r="4" fill="{{ color }}"><title>{{ title }}</title></circle>
{%- endfor %}
{%- for x, y, group in groups %}
<a href="#{{ group }}"><text x="{{ x }}" y="{{ y }}">{{ group }}</text></a>
{%- endfor %}
</svg>"""
PAGE = """\
<h1>Map of {{ n }} documents</h1>
<p>Near documents have similar codes (t-SNE of cosines). Rest the pointer on a document to read its
first words{{ " and its label" if colors }}.</p>
{{ map }}
{%- if colors %}
<div class="labels">
{%- for label, color in colors.items() %}
<div><span style="color: {{ color }}">&#9679;</span> {{ label }}</div>
{%- endfor %}
</div>
{%- endif %}
</body></html>
"""


def map_page(codes: np.ndarray, texts: list[str], labels: list[str], seed: int) -> str:
    """Return a page with a map of documents that the pointer can explore.

    Parameters
    ----------
    codes : ndarray, (n, n_units)
        The codes of the documents.
    texts, labels : list of str
        What to show of the documents, and their labels; no labels are an empty list.
    seed : int
        The seed of the map, see `document_map`.

    Returns
    -------
    str
        HTML that needs neither a network nor scripts.
    """
    palette = colors_of(sorted(set(labels)))
    if labels:
        titles = [f"{label}: {text}" for label, text in zip(labels, texts)]
        points = document_map(codes, titles, [palette[label] for label in labels], seed)
    else:
        points = document_map(codes, texts, [*colors_of([""]).values()] * len(texts), seed)
    n = min(len(texts), MAPPED)
    return page("Map of documents", PAGE, map=points, n=n, colors=palette)


def page(title: str, body: str, style: str = "", **values) -> str:
    """Return a page that has a map, from a template of its body.

    Parameters
    ----------
    title : str
        The title of the window.
    body : str
        A template of Jinja for everything from the heading on.
    style : str
        More CSS.
    **values
        The values of the template, see `render`.

    Returns
    -------
    str
        HTML that needs neither a network nor scripts.
    """
    head = render(HEAD, title=title, style=Markup(style))
    return head + render(body, **values)


def document_map(
    codes: np.ndarray, titles: list[str], colors: list[str], seed: int, groups: list | None = None
) -> Markup:
    """Return a map of documents as SVG.

    Parameters
    ----------
    codes : ndarray, (n, n_units)
        The codes of the documents.
    titles, colors : list of str
        What the pointer shows of each document, and its colour.
    seed : int
        The seed of t-SNE, and of the choice of `MAPPED` documents where there are more.
    groups : list, optional
        The group of each document.  The name of a group is written in the middle of its documents,
        and is a link to the element of the page with this id.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(titles))[:MAPPED])
    places = project(codes[rows] - codes.mean(axis=0), seed)
    low, high = places.min(axis=0), places.max(axis=0)
    places = (SIZE * (places - low) / np.maximum(high - low, 1e-9)).astype(float).round(1)
    points = [(x, y, colors[row], titles[row]) for row, (x, y) in zip(rows, places.tolist())]
    middles = []
    if groups is not None:
        shown = np.array(groups)[rows]
        middles = [(*np.median(places[shown == one], axis=0), one) for one in np.unique(shown)]
    return Markup(render(MAP, points=points, groups=middles, size=SIZE))


def colors_of(names: list) -> dict:
    """Return a colour of its own, such as "#1f77b4", for each name; many names have close ones."""
    if len(names) > 20:
        shades = colormaps["nipy_spectral"](np.linspace(0.05, 0.95, len(names)))
    else:
        shades = colormaps["tab10" if len(names) <= 10 else "tab20"].colors
    return {name: to_hex(shade) for name, shade in zip(names, shades)}


def render(template: str, **values) -> str:
    """Return a template of Jinja with its values, which are escaped unless they are `Markup`."""
    return jinja2.Environment(autoescape=True).from_string(template).render(**values)


def words_table(codes: np.ndarray, X, words: list[str]) -> str:
    """Return a Markdown table of the most typical words of each unit.

    Parameters
    ----------
    codes : ndarray, (n, n_units)
        The codes of the documents.
    X : csr_matrix, (n, n_words)
        The documents.
    words : list of str, (n_words,)
        The vocabulary.

    Returns
    -------
    str
    """
    columns = {"words of high values": typical_words(codes, X, words, WORDS)}
    if codes.min() < 0:
        columns["words of low values"] = typical_words(-codes, X, words, WORDS)
    lines = [f"| unit | {' | '.join(columns)} |", "|--:" + "|:--" * len(columns) + "|"]
    for unit, lists in enumerate(zip(*columns.values())):
        lines.append(f"| {unit} | {' | '.join(' '.join(found) for found in lists)} |")
    explained = (
        "A word is typical of a unit if documents with the word have high values of the unit."
    )
    return "\n".join(["# Words of units", "", explained, "", *lines, ""])
