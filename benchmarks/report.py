"""Print the benchmarks' tables, as Markdown, with each goal and whether it is met."""

import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence

import django


def machine() -> str:
    """Describe the machine and versions in one line."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Django {django.get_version()}, SQLite {sqlite3.sqlite_version}"
    )


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a float is rounded to its significant digits."""
    lines = [[_shown(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    print(f"\n### {title}\n")
    for number, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|", flush=True)
    print(flush=True)


def at_most(measured: float, limit: float, unit: str = "") -> str:
    return _goal(f"<= {limit:,g} {unit}", measured <= limit)


def at_least(measured: float, limit: float, unit: str = "") -> str:
    return _goal(f">= {limit:,g} {unit}", measured >= limit)


def _goal(text: str, met: bool) -> str:
    return f"{text.strip()}: {'met' if met else 'NOT met'}"


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        digits = 0 if abs(cell) >= 100 else 1 if abs(cell) >= 10 else 2
        return f"{cell:,.{digits}f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
