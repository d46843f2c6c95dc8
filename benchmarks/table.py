"""Shows figures as text."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lays out rows in columns, indented by two. Columns of numbers, with "-" for a missing one, are right-aligned.

    Raises:
      ValueError: a row is not as long as the head.
    """
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    are_numbers = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, are_numbers, strict=True)
        ]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Renders a part of the report: its title, notes on how to read it, and its table."""
    return "\n".join([title, *(f"  {note}" for note in notes), "", table(head, rows)])


def median(values: Sequence[float], digits: int = 3) -> str:
    """Renders the median."""
    return f"{statistics.median(values):.{digits}f}"


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Divides the figure of each run by that of the same run of something else."""
    return [value / other for value, other in zip(values, others, strict=True)]
