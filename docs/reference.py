"""Writes the tables of docs/ that are made from the code: `python -m docs.reference`.

A test holds that they are current.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from textmint.pipelines.options.table import GROUPS, OPTIONS
from textmint.transforms.core.elements import REASONS
from textmint.transforms.dataset.schema import KINDS, schema_of

DOCS = Path(__file__).parent


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def options() -> str:
    """Returns a table of options for each group, then of those that only a file of `--config` may set."""
    parts = []
    for group in GROUPS:
        rows = [
            (
                f"`--{option.name}{f'={option.metavar}' if option.metavar and not option.is_switch else ''}`",
                option.help_with_default,
            )
            for option in OPTIONS
            if option.group == group and not option.config_only
        ]
        parts.append(f"## {group.capitalize()}\n\n{table(('option', 'what it does'), rows)}")
    rows = [(f"`{option.name}`", option.help_with_default) for option in OPTIONS if option.config_only]
    parts.append(f"## In `--config` only\n\n{table(('key', 'what it does'), rows)}")
    return "\n".join(parts)


def reasons() -> str:
    """Returns the table of all reasons of rejects."""
    return table(("reason", "meaning"), ((f"`{reason}`", meaning) for reason, meaning in REASONS.items()))


def columns() -> str:
    """Returns a table of columns for each dataset of the folder."""
    parts = []
    for kind in reversed(KINDS):
        schema = schema_of(kind)
        rows = [(f"`{field.name}`", str(field.type), field.metadata[b"description"].decode()) for field in schema]
        parts.append(f"### {kind}\n\n{table(('column', 'type', 'description'), rows)}")
    return "\n".join(parts)


SECTIONS = {"options.md": {"options": options}, "rejects.md": {"reasons": reasons}, "dataset.md": {"columns": columns}}
"""Of each page: the sections that are made, by the name in their `begin` and `end` comments."""


def page(name: str) -> str:
    """Returns a page as it is to be: its text, with each section made anew."""
    text = (DOCS / name).read_text("utf-8")
    for section, make in SECTIONS[name].items():
        begin, end = f"<!-- {section}: begin -->\n", f"<!-- {section}: end -->"
        if begin not in text or end not in text:
            raise ValueError(f"docs/{name} lacks {begin.strip()} or {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{make()}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    """Writes every page that has such sections."""
    for name in SECTIONS:
        (DOCS / name).write_text(page(name), "utf-8")


if __name__ == "__main__":
    main()
