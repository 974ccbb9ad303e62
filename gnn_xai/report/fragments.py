"""What drives a data set of molecules, as a page: the table, the figure and examples of its fragments."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from gnn_xai.molecules.summary import Summary
from gnn_xai.report.page import render


def write_fragments(
    path: str | Path, summary: Summary, *, title: str, class_names: Sequence[str] | None = None, footer: str = ""
) -> Path:
    """Write the page, which needs no network, no script and no other file.

    Args:
        path: an `.html` file.
        summary: what `gnn_xai.molecules.summary` returned.
        title: of the page.
        class_names: names of the model's outputs.
        footer: a last line, for versions and seeds.
    """
    table = summary.table()
    rows = [
        {
            "cells": [name, kind.replace("_", " "), count, f"{mean:+.3g}", f"{spread:.2g}", f"{p:.2g}"],
            "sure": p < 0.05,
        }
        for kind, name, count, mean, spread, p in table[
            ["kind", "name", "molecules", "mean", "spread", "p_adjusted"]
        ].itertuples(index=False)
    ]
    path = Path(path)
    page = render(
        "fragments.html",
        title=title,
        lead=f"{len(table)} fragments of {len(summary.explanations)} molecules, strongest mean contribution first.",
        rows=rows,
        figure=Markup(_figure(summary)),
        sheet=Markup(summary.sheet(class_names=class_names).svg if len(table) else ""),
        footer=footer,
    )
    path.write_text(page, encoding="utf-8")
    return path


def _figure(summary: Summary) -> str:
    """The bars as an SVG element."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.0, 7.0), layout="constrained")
    summary.draw(ax=ax)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]
