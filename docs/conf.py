"""Sphinx configuration; `make docs` builds with warnings as errors."""

import logging
import re
from pathlib import Path

from sphinx.domains.python import PyObject
from sphinx_gallery.scrapers import figure_rst

from gnn_xai import __version__
from gnn_xai.molecules import Drawing

project = "gnn_xai"
author = "The gnn_xai developers"
copyright = "The gnn_xai developers"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
suppress_warnings = ["config.cache"]  # the gallery's settings hold functions
exclude_patterns = ["_build", "gallery"]  # what is built from gallery/ lies in pictures/

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
toc_object_entries_show_parents = "hide"  # `tied()`, not `Session.tied()`: the column on the right is narrow


def figures_by_name(block, block_vars, gallery_conf):
    """Save the variable `figure` of a script: what the package draws is not registered with pyplot."""
    figure = block_vars["example_globals"].pop("figure", None)
    if figure is None:
        return ""
    path = next(block_vars["image_path_iterator"])
    if isinstance(figure, Drawing):
        figure.save(path)
    else:
        figure.savefig(path, dpi=110, bbox_inches="tight")
    return figure_rst([path], gallery_conf["src_dir"])


logging.getLogger("gnn_xai").setLevel(logging.WARNING)  # the gallery's build shows every log there is
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "pictures",
    "filename_pattern": r"plot_",
    "image_scrapers": (figures_by_name,),
    "reset_modules": (),
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "default_thumb_file": str(Path(__file__).parent / "figures" / "molecules.png"),
}


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
            line = re.sub(r"(`[^`]*`)(\w?)", lambda m: m[1] + (m[2] and rf"\ {m[2]}"), line)  # "`x`s" is a literal, too
            parts = re.split(r"(`[^`]*`)", line)
            text.append("".join(p if p.startswith("`") else p.replace("|", r"\|") for p in parts))
    lines[:] = text


def setup(app):
    """Hook the above into autodoc, after napoleon has read its sections, and call attributes what they are."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label, field.rolename = "Attributes", ""
    app.connect("autodoc-process-docstring", plain_docstring, priority=900)
