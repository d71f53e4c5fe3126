"""Prints measurements as one table, each with its reference and its aim."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

FILE_WIDTH = 160
"""Signs in a line where a terminal does not set it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `met` is None without an aim; `errors` counts unexpected answers."""

    name: str
    rate: float | None = None  # a second
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_ms: float | None = None  # of all processes measured, for one request, job or period
    beside: str = ""  # what was measured in the same run for comparison
    ratio: float | None = None
    aim: str = ""
    met: bool | None = None
    errors: int = 0


def show(title: str, sections: Iterable[tuple[str, list[Row]]]) -> None:
    """Print the sections as one table, and the state of the machine below it."""
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    table = Table(
        title=title,
        caption=f"{os.cpu_count()} cores, Python {platform.python_version()}; load average at the end: {load}",
    )
    table.add_column("")
    for heading in ("a second", "p50 ms", "p99 ms", "CPU ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("same run, for comparison")
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("aim")
    for name, rows in sections:
        table.add_row(Text(name, style="bold"))
        for row in rows:
            _add(table, row)
        table.add_section()
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    console.print(table)


def _add(table: Table, row: Row) -> None:
    name = Text(f"  {row.name}")
    if row.errors:
        name.append(f"  {row.errors} errors", style="bold red")
    verdict = Text(row.aim)
    if row.met is not None:
        verdict.append(": met" if row.met else ": not met", style="green" if row.met else "red")
    table.add_row(
        name,
        _number(row.rate),
        _number(row.p50_ms),
        _number(row.p99_ms),
        _number(row.cpu_ms),
        row.beside,
        "" if row.ratio is None else f"{row.ratio:.2f}",
        verdict,
    )


def _number(value: float | None) -> str:
    """The number with three significant figures; measurements vary by more than a thousandth."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
