"""A report as one HTML file with its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Column:
    """One column of the results table: its key in a row, its title and format, and which end is good."""

    key: str
    title: str
    help: str = ""
    digits: int | None = None
    best: Literal["high", "low"] | None = None

    def text(self, row: Mapping[str, Any]) -> str:
        """The cell of a row; a dash for a missing value."""
        value = row.get(self.key)
        if value is None:
            return "–"
        return str(value) if self.digits is None else f"{value:.{self.digits}f}"


COLUMNS = (
    Column("dataset", "data set"),
    Column("algorithm", "algorithm"),
    Column("instances", "instances", "How many predictions were explained.", digits=0),
    Column(
        "roc_auc",
        "ROC-AUC",
        "How well the scores rank the true elements above the others in each computation graph, "
        "averaged over instances: 1 is perfect, 0.5 is chance. A dash: no ground truth is known.",
        digits=3,
        best="high",
    ),
    Column(
        "fidelity_plus",
        "fidelity+",
        "How far the probability of the explained class falls without the explanation: "
        "high means that the explanation is necessary.",
        digits=3,
        best="high",
    ),
    Column(
        "fidelity_minus",
        "fidelity−",
        "How far it falls with nothing but the explanation: low means that the explanation is sufficient.",
        digits=3,
        best="low",
    ),
    Column(
        "ms",
        "ms per explanation",
        "Wall-clock time divided by the number of instances; they are explained together.",
        digits=1,
    ),
)


@dataclass(frozen=True)
class Picture:
    """A PNG file with a caption; `alt` is its text for screen readers."""

    path: Path
    caption: str
    alt: str = ""

    @property
    def width(self) -> int:
        """Width on the page: two thirds of the pixels, so that it is sharp on dense screens."""
        return round(int.from_bytes(self.path.read_bytes()[16:20], "big") / 1.5)

    @property
    def source(self) -> str:
        """The picture as a `data:` address, so that the page needs no file beside it."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode("ascii")


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph or more, and pictures."""

    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = field(default=())


def write_report(
    path: str | Path,
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    sections: Sequence[Section] = (),
    lead: str = "",
    footer: str = "",
    columns: Sequence[Column] = COLUMNS,
) -> Path:
    """Write a page: a table that marks the best of each data set, and sections with pictures.

    The page needs no network, no script and no other file, follows the reader's light or dark
    setting, and escapes every text it is given.

    Args:
        path: the HTML file to write.
        title: heading and window title.
        rows: one mapping per table row, keyed by `columns[i].key`; rows with the same `dataset`
            that follow each other form a group.
        sections: what comes after the table.
        lead: a paragraph under the heading.
        footer: a last line, for versions and seeds.
        columns: the columns of the table, in order.

    Returns:
        The path that was written.
    """
    groups = [(name, list(part)) for name, part in groupby(rows, key=lambda row: row["dataset"])]
    page = render(
        "report.html",
        title=title,
        lead=lead,
        footer=footer,
        columns=columns,
        groups=[(name, part, _best(part, columns)) for name, part in groups],
        sections=sections,
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def render(template: str, **content: Any) -> str:
    """A page from one of the package's templates, all of which extend `page.html`; every text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gnn_xai.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)


def _best(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> dict[str, str]:
    """The text of the best cell per column: rows that read the same are equally good."""
    best = {}
    for column in columns:
        values = [row for row in rows if row.get(column.key) is not None]
        if column.best is not None and len(values) > 1:
            choose = max if column.best == "high" else min
            best[column.key] = column.text(choose(values, key=lambda row, c=column: row[c.key]))
    return best
