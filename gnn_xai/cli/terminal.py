"""What commands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

ROWS_SHOWN = 20

console = Console()


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], total: int, file: str) -> None:
    """Print the first of `total` rows as a table, and the name of the file that has the others."""
    table = Table(box=None, pad_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold")
    for row in islice(rows, ROWS_SHOWN):
        table.add_row(*map(Text, row))
    console.print(table)
    if total > ROWS_SHOWN:
        console.print(f"… and {total - ROWS_SHOWN} more in {file}", highlight=False)
