"""A preview as text for a terminal, and as a table for a notebook.

Replies, tasks and names are hostile: each is made printable before rich or a browser sees it, and none is ever read as
markup.
"""

from __future__ import annotations

import collections
import html
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text
from textmint.pipelines.cli.summary import tokens_paid_for
from textmint.pipelines.graph.plan import STEPS
from textmint.pipelines.preview import Preview
from textmint.transforms.core.texts import counted, printable_line, printable_text

WIDTH: Final = 100
"""Columns, where nobody tells how wide a terminal is."""
_REPLY_CHARS: Final = 1_000  # of a reply that was refused; its column has all of it
_ATTRIBUTES: Final = ("language", "difficulty", "clarity", "num_words")
_HTML_COLUMNS: Final = (
    "outcome",
    "task",
    "text, or the reply",
    "label",
    "misleading label",
    "attributes",
    "passes",
    "fails",
)


def as_text(preview: Preview, *, width: int = WIDTH, styled: bool = False) -> str:
    """Draws a preview for a terminal; without `styled` it holds no escape sequence."""
    console = Console(
        file=io.StringIO(), width=width, force_terminal=styled, markup=False, emoji=False, highlight=False
    )
    with console.capture() as capture:
        console.print(Group(*_parts(preview, "─" if styled else "-")))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _parts(preview: Preview, line: str) -> Iterator[RenderableType]:
    for place, row in _placed(preview):
        yield from _card(row, place, line, preview.show_prompt)
    yield Rule(characters=line, style="dim")
    yield from map(Text, closing_lines(preview))


def _placed(preview: Preview) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the rows that are shown, each with its place: examples, and replies that were refused. Tasks that were
    there already may be many, and are only counted."""
    rows = [*preview.examples, *filter(_is_of_draft, preview.rejects)]
    placed = [(f"{number} of {len(rows)}", row) for number, row in enumerate(rows, start=1)]
    others = [(reject["stage"], reject) for reject in preview.rejects if reject["stage"] in STEPS]
    return placed + [(stage, reject) for stage, reject in others if not _is_of_draft(reject)]


def _is_of_draft(reject: Mapping[str, Any]) -> bool:
    return reject["replica"] is not None


def _card(row: Mapping[str, Any], place: str, line: str, show_prompt: bool) -> Iterator[RenderableType]:
    is_kept = "reason" not in row
    style = "green" if is_kept else "red"
    title = Text.assemble((f"{place}: ", "bold"), (_outcome(row), f"bold {style}"))
    yield Rule(title, align="left", characters=line, style=style)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value, value_style in _fields(row, show_prompt):
        if value:
            grid.add_row(Text(name), Text(printable_text(value), style=value_style))
    yield Padding(grid, (0, 0, 1, 2))


def _outcome(row: Mapping[str, Any]) -> str:
    if "reason" not in row:
        return "kept"
    return f"rejected, {printable_line(row['reason'])}"


def _fields(row: Mapping[str, Any], show_prompt: bool) -> Iterator[tuple[str, str, str]]:
    """Yields what is shown of a row where it has it: a name, the value, and its style."""
    yield "task", printable_line(row["task"] or ""), ""
    yield "text", row.get("input_text") or "", ""
    yield "label", printable_line(row.get("label") or ""), "bold"
    yield "misleading label", printable_line(row.get("misleading_label") or ""), ""
    yield "attributes", attributes_of(row), ""
    if "reason" in row:
        retry = "asking again can help" if row["can_retry"] else "asking again cannot help"
        yield "refused by", f"{row['stage']}: {printable_line(row['detail'])}; {retry}", "red"
    yield "passes", _passed(row), "green"
    yield "fails", _failed(row), "red"
    yield "reply", _cut(row.get("raw_reply") or ""), ""
    if show_prompt:
        yield "prompt", row["prompt"] or "", "dim"


def _passed(row: Mapping[str, Any]) -> str:
    return ", ".join(name for name, detail in row.get("checks", {}).items() if detail is None)


def _failed(row: Mapping[str, Any]) -> str:
    checks = row.get("checks", {})
    return "\n".join(f"{name}: {printable_line(detail)}" for name, detail in checks.items() if detail)


def _cut(reply: str) -> str:
    more = len(reply) - _REPLY_CHARS
    return f"{reply[:_REPLY_CHARS]}… ({more:,} more characters; raw_reply has all)" if more > 0 else reply


def attributes_of(row: Mapping[str, Any]) -> str:
    """Writes the attributes of a row in one line."""
    values = [row.get(name) for name in _ATTRIBUTES]
    if not all(values):
        return ""
    words = "any length" if values[-1] == "any" else f"{values[-1]} words"
    return printable_line(", ".join([*map(str, values[:-1]), words]))


def closing_lines(preview: Preview) -> Iterator[str]:
    """Yields what a preview ends with: how many were kept, and what was paid for."""
    of_drafts = sum(map(_is_of_draft, preview.rejects))
    total = len(preview.examples) + of_drafts
    short = "" if total >= preview.rows else f"; {preview.rows:,} were wanted, and the tasks that came have no more"
    yield f"{len(preview.examples):,} of {total:,} examples kept{short}"
    if others := collections.Counter(each["reason"] for each in preview.rejects if not _is_of_draft(each)):
        yield "refused before that: " + ", ".join(f"{count:,} {reason}" for reason, count in others.most_common())
    replies = ", ".join(
        counted(asked["replies"], name.removesuffix("s")) for name, asked in preview.asked.items() if asked["replies"]
    )
    yield f"asked for: {replies or 'nothing'}; from the ledger: {counted(preview.from_ledger, 'reply', 'replies')}"
    if tokens := tokens_paid_for(preview.spending):
        yield f"paid for: {tokens}"


def as_html(preview: Preview) -> str:
    """Makes an HTML table of a preview. All text is escaped, and nothing in it runs."""
    columns = [*_HTML_COLUMNS, *["prompt"] * preview.show_prompt]
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(_html_row(row, preview.show_prompt) for _, row in _placed(preview))
    closing = "<br>".join(map(_escaped, closing_lines(preview)))
    return (
        f'<table style="text-align: left"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{closing}</p>'
    )


def _html_row(row: Mapping[str, Any], show_prompt: bool) -> str:
    is_read = "input_text" in row
    cells: Iterable[str] = (
        _outcome(row) + (f"\n{row['stage']}: {row['detail']}" if "reason" in row else ""),
        row["task"] or "",
        row["input_text"] if is_read else _cut(row["raw_reply"]),
        row.get("label") or "",
        row.get("misleading_label") or "",
        attributes_of(row),
        _passed(row),
        _failed(row),
        *([row["prompt"] or ""] if show_prompt else []),
    )
    style = "text-align: left; vertical-align: top; white-space: pre-wrap"
    return "<tr>" + "".join(f'<td style="{style}">{_escaped(cell)}</td>' for cell in cells) + "</tr>"


def _escaped(text: str) -> str:
    return html.escape(printable_text(text))
