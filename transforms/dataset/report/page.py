"""The report, OUTPUT/report.html: what was asked of a refresh and what came of it, to be looked at in a browser.

Its figures and texts are those of statistics.json and manifest.json; its form is the template `report.html.jinja2`. The
page loads and runs nothing. Everything that a user or a model wrote is hostile: it is cut, made printable and escaped.
Neither the clock nor paths of the machine are in it, so equal statistics give equal reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import jinja2
from markupsafe import Markup
from textmint.transforms.core.texts import counted, printable_text
from textmint.transforms.dataset.manifest import read_entries
from textmint.transforms.dataset.pages import MARK, REPORT, page_template, replace_page, write_page
from textmint.transforms.dataset.report.changes import changes_section
from textmint.transforms.dataset.report.parts import (
    Entry,
    Statistics,
    cost_of,
    drafts_of,
    percent,
    published_at,
    requests_of,
    time_of,
    whole,
)
from textmint.transforms.dataset.report.sections import (
    attributes_section,
    diversity_section,
    kept_section,
    labels_section,
    languages_section,
    lengths_section,
    origin_section,
    rows_section,
    similarity_section,
    spending_section,
    tasks_section,
)
from textmint.transforms.dataset.statistics_file import read_statistics
from textmint.transforms.storage.files import join

_OFFLINE: Final = "The author of these rows is embedded in Textmint, to try it out: they are not for training."
_CHARS: Final = 700  # of any one value; statistics.json has 500 of a text


def write_report(output: str, refresh: str) -> None:
    """Writes the report of a refresh, unless the user has made the file their own."""

    def make() -> str:
        entries = read_entries(output)
        return report(entries, read_statistics(output, entries), refresh)

    write_page(join(output, REPORT), make)


def replace_report(output: str, statistics: Mapping[str, Statistics], refresh: str) -> bool:
    """Writes the report of a refresh, of given statistics; returns whether the file was ours to write."""
    return replace_page(join(output, REPORT), lambda: report(read_entries(output), statistics, refresh))


def refresh_before(entries: Mapping[str, Entry], refresh: str) -> str | None:
    """Returns the refresh that was published last before another one; None if that was the first."""
    mine = published_at(entries, refresh)
    earlier = [published for published in (published_at(entries, name) for name in entries) if published < mine]
    return max(earlier)[1] if earlier else None


def last_refresh(entries: Mapping[str, Entry]) -> str:
    """Returns the refresh that was published last."""
    return max(published_at(entries, name) for name in entries)[1]


def report(entries: Mapping[str, Entry], statistics: Mapping[str, Statistics], refresh: str) -> str:
    """Makes the text of the report.

    Args:
      entries: of the manifest, by refresh.
      statistics: of statistics.json, by refresh.
      refresh: which of them the report is about.

    Raises:
      ValueError: there are no statistics of it.
    """
    if refresh not in statistics:
        raise ValueError(f"there are no statistics of refresh={refresh}")
    entry, of_refresh = entries[refresh], statistics[refresh]
    before = refresh_before(entries, refresh)
    sections = (
        kept_section(entry, of_refresh),
        tasks_section(of_refresh),
        labels_section(of_refresh),
        lengths_section(of_refresh),
        attributes_section(of_refresh),
        languages_section(of_refresh),
        similarity_section(of_refresh),
        diversity_section(of_refresh),
        spending_section(entry),
        rows_section(of_refresh),
        changes_section(entries, statistics, before, refresh),
        origin_section(entries, refresh),
    )
    model = str(entry.get("backend", {}).get("model") or "")
    is_offline = entry.get("backend", {}).get("backend") == "offline"
    told = ("Textmint report", time_of(entry), model, f"version {entry.get('versions', {}).get('textmint', '?')}")
    return page_template("report.html.jinja2", _finalized).render(
        mark=Markup(MARK),
        title=f"Refresh {refresh}",
        eyebrow=" · ".join(part for part in told if part),
        lead=_lead(entry, of_refresh),
        note=_OFFLINE if is_offline else "",
        totals=_totals(entry, of_refresh),
        sections=sections,
        footer="Made by Textmint of statistics.json and manifest.json beside this file, which hold all figures.",
    )


def _finalized(value: object) -> object:
    return value if isinstance(value, (Markup, jinja2.Undefined)) else printable_text(_cut(value))


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= _CHARS else text[: _CHARS - 1] + "…"


def _lead(entry: Entry, statistics: Statistics) -> str:
    rows, drafts = statistics["rows"], drafts_of(entry)
    kept = (
        f"{counted(rows['examples'], 'example')} of {counted(statistics['tasks']['with_examples'], 'task')} were kept"
    )
    if rows["examples"] == 1:
        kept = kept.replace("were", "was")
    of = f", {percent(rows['examples'], drafts)} of the {whole(drafts)} that were asked for" if drafts else ""
    return f"{kept}{of}; {counted(rows['rejects'], 'reject')} of all steps."


def _totals(entry: Entry, statistics: Statistics) -> list[tuple[str, str]]:
    asked = requests_of(entry).values()
    paid = sum(line["requests"]["sent"] - line["requests"]["retries"] for line in asked)
    return [
        ("examples", whole(statistics["rows"]["examples"])),
        ("kept of what was asked", percent(statistics["rows"]["examples"], drafts_of(entry))),
        ("tasks with examples", whole(statistics["tasks"]["with_examples"])),
        ("refused", whole(statistics["rows"]["rejects"])),
        ("replies paid for", whole(paid)),
        ("tokens", whole(sum(sum(line["tokens"].values()) for line in asked))),
        *([("cost", cost_of(entry))] if "spending" in entry else ()),
    ]
