"""Sphinx's settings; `make docs` builds the pages into docs/_build/html."""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import pages  # noqa: E402

import ae_bn  # noqa: E402

pages.write_pages(HERE / "_generated")

project = "ae_bn"
author = "the authors of ae_bn"
version = release = ae_bn.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # leave out Theano's docstrings
autodoc_typehints = "none"  # docstrings name types and shapes
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # keep parameters that share a description on one line
myst_heading_anchors = 3
myst_enable_extensions = ["html_image"]  # <img width=...>
html_theme = "furo"
html_title = f"ae_bn {release}"
html_show_copyright = False


def link_tables(app, name, source):
    """Let a link to an experiment's table, which is outside docs, lead to the page that has it."""
    table = r"\]\([./]+/results/(\w+)/table\.md\)"
    source[0] = re.sub(table, r"](/_generated/experiments/\1.md)", source[0])


def setup(app):
    """Link tables, and leave out fields of named tuples whose docstring is only their number."""
    app.connect("source-read", link_tables)
    app.connect(
        "autodoc-skip-member",
        lambda app, what, name, member, skip, options: (
            True if str(member.__doc__).startswith("Alias for field number") else None
        ),
    )
