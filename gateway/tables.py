"""Tables of the command line. What is in them is never cut: other commands take it, and so do
programs behind a pipe, where there is no width to fit.
"""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDEST: Final = 10_000
"""Most columns of a line."""


def show(table: Table) -> None:
    """Prints a table, on lines that are longer than the terminal's where need be."""
    console = Console()
    whole = Measurement.get(console, console.options.update(max_width=WIDEST), table)
    console.width = max(console.width, whole.maximum)
    console.print(table)
