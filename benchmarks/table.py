"""Figures as text."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Headings and rows of as many cells -> lines, indented by two; what starts with a digit or is absent stands right.

    Raises:
      ValueError: a row of another length than the headings.
    """
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, right, strict=True)
        ]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Values -> from the least to the greatest, "-" where there is one only."""
    return "-" if len(values) < 2 else f"{min(values):.{digits}f}-{max(values):.{digits}f}"


def count(number: float) -> str:
    """A number -> whole, with commas."""
    return f"{number:,.0f}"
