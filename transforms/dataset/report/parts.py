"""What the report's page is made of: tables, pictures, rows of the data; and how its numbers are written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup
from textmint.transforms.core.attributes import NUM_WORDS
from textmint.transforms.dataset.report.pictures import Series, bars, histogram

TEXTS: Final = 10
"""Rows of the data of one kind, at most."""
LINES: Final = 40
"""Lines of a table at most."""
MANY: Final = 0.1
"""A share that is worth a note."""
BARS: Final = 20
"""Groups of bars of a picture at most."""

Entry = Mapping[str, Any]
"""What the manifest says of a refresh."""
Statistics = Mapping[str, Any]
"""What statistics.json says of a refresh."""


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Args:
      caption: what it shows.
      head: the names of its columns.
      lines: its cells.
      texts: how many columns hold texts; the others hold numbers.
    """

    caption: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]
    texts: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A picture.

    Args:
      title: what it shows.
      svg: the drawing.
      keys: the names of its colours.
      warns: whether the second colour is of what should not be.
      table: its figures, shown on demand; None: a table beside it has them.
    """

    title: str
    svg: Markup
    keys: Sequence[str] = ()
    warns: bool = False
    table: Table | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A row of the data, or two that are compared."""

    title: str
    passages: Sequence[str]
    facts: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Some rows of the data.

    Args:
      title: what they have in common.
      texts: the rows.
      lead: what that means.
      is_folded: whether they are shown on demand.
    """

    title: str
    texts: Sequence[Text]
    lead: str = ""
    is_folded: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A section of the page.

    Args:
      anchor: its identifier in links.
      title: its heading.
      lead: what it shows, in a sentence or two.
      rows: pictures and tables, side by side where there is room.
      notes: what a person should know first.
      groups: rows of the data.
    """

    anchor: str
    title: str
    lead: str
    rows: Sequence[Sequence[Table | Picture]] = ()
    notes: Sequence[str] = ()
    groups: Sequence[Group] = ()


def whole(number: float) -> str:
    """Writes a whole number."""
    return f"{number:,.0f}"


def percent(part: float, whole: float) -> str:
    """Writes a share; a dash where there is no whole."""
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else "–"


def decimal(number: float | None, digits: int = 2) -> str:
    """Writes a number with some digits; a dash where there is none."""
    return "–" if number is None else f"{number:,.{digits}f}"


def figure(number: float | None) -> str:
    """Formats a count as a count and any other number with two digits."""
    return whole(number) if isinstance(number, int) else decimal(number)


def as_text(value: object) -> str:
    """Writes what JSON can hold."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def time_of(entry: Entry) -> str:
    """Writes when a refresh was published."""
    return str(entry.get("finished", "")).replace("T", " ").replace("Z", " UTC")


def shortened(lines: Iterable[Sequence[str]], most: int = LINES) -> list[Sequence[str]]:
    """Keeps the first lines of a table, and says how many more there are."""
    every = list(lines)
    if len(every) <= most:
        return every
    return [*every[:most], (f"{len(every) - most:,} more", *[""] * (len(every[0]) - 1))]


def _bin_name(each: Mapping[str, Any]) -> str:
    start, end = each["from"], each["to"]
    if end is None:
        return f"{start:,}+"
    if isinstance(start, int) and isinstance(end, int):
        return f"{start:,}" if end == start + 1 else f"{start:,}–{end - 1:,}"
    return f"{start:g}"


def _full_bin_name(each: Mapping[str, Any]) -> str:
    is_share = isinstance(each["from"], float) and each["to"] is not None
    return f"{each['from']:g} to {each['to']:g}" if is_share else _bin_name(each)


def distribution(
    title: str, unit: str, bins: Sequence[Mapping[str, Any]], *, threshold: float | None = None, log: bool = False
) -> list[Table | Picture]:
    """Makes the picture of a histogram, with its table, if anything was counted. Of counts, empty bins at both ends are
    left out."""
    if bins and isinstance(bins[0]["from"], int):
        filled = [at for at, each in enumerate(bins) if each["count"]]
        bins = bins[filled[0] : filled[-1] + 1] if filled else []
    if not any(each["count"] for each in bins):
        return []
    counts = [each["count"] for each in bins]
    marked = [at for at, each in enumerate(bins) if threshold is not None and each["from"] >= threshold - 1e-9]
    spoken = f"{title}: a histogram; its table follows"
    svg = histogram(spoken, [_bin_name(each) for each in bins], counts, marked=marked, logarithmic=log)
    keys = () if threshold is None else (f"below {threshold:g}", f"{threshold:g} and above")
    lines = [(_full_bin_name(each), whole(each["count"])) for each in bins]
    shown = f"{title} (logarithmic scale)" if log else title
    return [Picture(shown, svg, keys, warns=bool(keys), table=Table(title, (unit, "count"), lines))]


_QUANTILES: Final = ("min", "p5", "p25", "p50", "p75", "p95", "max")


def quantiles(caption: str, head: str, of: Mapping[str, Mapping[str, Any]]) -> Table:
    """Makes a table of the quantiles of some distributions, by name."""
    lines = [
        (name, figure(each.get("mean")), *(figure(each.get("quantiles", {}).get(key)) for key in _QUANTILES))
        for name, each in of.items()
    ]
    return Table(caption, (head, "mean", *_QUANTILES), lines)


def grouped_bars(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    stacked: bool = False,
    form: str = ",.0f",
    warns: bool = False,
) -> Picture:
    """Makes a picture of bars, of the first labels; see `pictures.bars` and `Picture`."""
    spoken = f"{title}: bars; the table has the same figures"
    shown = [(name, values[:BARS]) for name, values in series]
    svg = bars(spoken, labels[:BARS], shown, stacked=stacked, form=form)
    return Picture(title, svg, [name for name, _ in series], warns)


def by_words(buckets: Mapping[str, Any]) -> dict[str, Any]:
    """Orders what is told of each num_words: the shortest first, then values of the user's own."""
    places = {name: place for place, name in enumerate(NUM_WORDS)}
    return {name: buckets[name] for name in sorted(buckets, key=lambda name: (places.get(name, len(places)), name))}


def drafts_of(entry: Entry) -> int:
    """Returns how many examples a run asked for."""
    return int(entry.get("steps", {}).get("SampleAttributes", {}).get("kept", 0))


def requests_of(entry: Entry) -> dict[str, Mapping[str, Any]]:
    """Returns the steps that ask a model."""
    return {step: line for step, line in entry.get("steps", {}).items() if "requests" in line}


def cost_of(entry: Entry) -> str:
    """Writes what a run cost, or that it is unknown."""
    return dollars(entry.get("spending", {}).get("cost_usd"))


def dollars(cost: float | None) -> str:
    """Writes an amount to the cent, or to two digits where it is less."""
    if cost is None:
        return "unknown"
    places = 2 if cost >= 0.1 or cost <= 0 else 1 - math.floor(math.log10(cost))
    return f"${cost:,.{places}f}"


def published_at(entries: Mapping[str, Entry], refresh: str) -> tuple[str, str]:
    """Returns what orders refreshes by the time when they were published."""
    return str(entries[refresh].get("finished", "")), refresh
