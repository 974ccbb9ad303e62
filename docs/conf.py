"""Sphinx configuration; `make docs` builds with warnings as errors."""

import re

from sphinx.domains.python import PyObject

from gnn_xai import __version__

project = "gnn_xai"
author = "The gnn_xai developers"
copyright = "The gnn_xai developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"gnn_xai {release}"
html_static_path = ["_static"]
html_css_files = ["page.css"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
default_role = "literal"  # docstrings write code in single backticks
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures are short, shapes and ranges are in the text
autodoc_preserve_defaults = True


def plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are read as text in an editor first: make reST of their fences, and of the bars of |x|."""
    fenced, text = False, []
    for line in lines:
        if line.strip().startswith("```"):
            fenced = not fenced
            text += [".. code-block:: python", ""] if fenced else [""]
        elif fenced:
            text.append(f"    {line}")
        elif line.lstrip().startswith((">>>", "...")):
            text.append(line)
        else:
            if line.startswith(":ivar "):  # of "a, b" Sphinx takes a for the type of b
                names, colon, rest = line.removeprefix(":ivar ").partition(":")
                line = f":ivar {names.replace(', ', ',')}{colon}{rest}"
            line = re.sub(r"(`[^`]*`)(?=\w)", r"\1\\ ", line)  # reST ends a literal only where a word ends
            parts = re.split(r"(`[^`]*`)", line)
            text.append("".join(p if p.startswith("`") else p.replace("|", r"\|") for p in parts))
    lines[:] = text


def setup(app):
    """Hook the above into autodoc, after napoleon has read its sections, and call attributes what they are."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label, field.rolename = "Attributes", ""
    app.connect("autodoc-process-docstring", plain_docstring, priority=900)
