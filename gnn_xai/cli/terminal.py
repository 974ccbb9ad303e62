"""What commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gnn_xai._text import printable

ROWS_SHOWN = 20

console = Console()


def say(text: object) -> None:
    """Print a line as it is: brackets are no markup, and escape codes are written out."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def table_text(text: object) -> Text:
    """A cell with text as it is."""
    return Text(printable(text))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], total: int, file: str) -> None:
    """Print the first of `total` rows as a table, and the name of the file that has the others."""
    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold")
    for row in islice(rows, ROWS_SHOWN):
        table.add_row(*map(table_text, row))
    console.print(table)
    if total > ROWS_SHOWN:
        say(f"… and {total - ROWS_SHOWN} more in {file}")
