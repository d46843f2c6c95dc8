"""Pictures of figures, as SVG that stands in an HTML page. pygal draws them.

pygal dates each picture, gives it styles, and scripts for tooltips. None of that is left here: equal figures give equal
pictures, the page's style sheet colours them (`.color-0`, `.color-1`, ...), also in the dark, and they run and load
nothing. A picture is as wide as a phone's screen, so that its letters stay legible there.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Final

import pygal
from markupsafe import Markup
from pygal.style import Style
from textmint.transforms.core.texts import columns_of, printable_line

WIDTH: Final = 330  # pixels that a page of 390 leaves
LABEL_COLUMNS: Final = 22  # of a label beside a bar; more leave the bars no room
_BAR, _GAP, _AXIS, _HEIGHT = 13, 9, 30, 200
_DIGIT: Final = 7  # pixels of a digit
_LETTERS: Final = 46  # of all labels below upright bars
_SPACE: Final = 2  # letters between two labels
_WIDER: Final = 5  # pixels that a wide letter takes more than pygal leaves for any
_STYLE: Final = Style(font_family="sans-serif", label_font_size=11, major_label_font_size=11, value_font_size=11)
_DROPPED: Final = frozenset(("defs", "desc", "title"))
_NUMBER: Final = re.compile(r"-?\d+\.\d+")

Series = tuple[str, Sequence[float | None]]
"""Its name, and a value for each label; None: no bar."""


def bars(
    title: str, labels: Sequence[str], series: Sequence[Series], *, stacked: bool = False, form: str = ",.0f"
) -> Markup:
    """Draws horizontal bars, a group for each label, from top to bottom, with their values.

    Args:
      title: what the picture shows, for those who cannot see it.
      labels: of the groups; any text.
      series: the bars of a group, from top to bottom, or from left to right where they are stacked.
      stacked: whether the bars of a group stand behind each other.
      form: how values are formatted.
    """
    ends = [sum(filter(None, group)) if stacked else max(filter(None, group), default=0.0) for group in _groups(series)]
    longest = max(ends, default=0.0)
    room = 0 if stacked else _DIGIT * len(format(longest, form)) / WIDTH  # for the value beside the longest bar
    shown = [label_of(label) for label in reversed(labels)]
    chart = (pygal.HorizontalStackedBar if stacked else pygal.HorizontalBar)(
        margin_left=2 + _WIDER * max(map(_wide_letters, shown), default=0),
        height=_AXIS + len(labels) * (_GAP + _BAR * (1 if stacked else len(series))),
        print_values=not stacked,
        print_values_position="top",
        range=(0, longest / (1 - 1.6 * room)) if longest else None,
        **_settings(form),
    )
    chart.x_labels = shown
    for name, values in series:
        chart.add(name, list(reversed(values)))
    return _svg(chart, title)


def histogram(
    title: str, labels: Sequence[str], counts: Sequence[int], *, marked: Container[int] = (), logarithmic: bool = False
) -> Markup:
    """Draws upright bars from left to right.

    Args:
      title: what the picture shows, for those who cannot see it.
      labels: of the bars; where there are many, some of them are shown.
      counts: how high the bars are.
      marked: the places of bars that have another colour.
      logarithmic: whether a bar is as high as the logarithm of its count, so that rare ones are seen.
    """
    settings = _settings(",.0f")
    if logarithmic:
        settings |= {
            "logarithmic": True,
            "zero": 0.5,  # so that a bar of 1 has a height
            "y_labels": [10**power for power in range(len(str(max(counts))))],
        }
    longest = max(map(len, labels), default=0) + _SPACE
    every = -(-len(labels) * longest // _LETTERS)
    chart = pygal.Bar(height=_HEIGHT, x_labels_major_every=every, show_minor_x_labels=False, **settings)
    chart.x_labels = labels
    chart.add(
        "",
        [{"value": count, "node": {"class": "marked"}} if at in marked else count for at, count in enumerate(counts)],
    )
    return _svg(chart, title)


def _groups(series: Sequence[Series]) -> Iterable[tuple[float | None, ...]]:
    return zip(*(values for _, values in series), strict=True)


def label_of(text: str) -> str:
    """Shortens any text to a label of a picture."""
    line = printable_line(text, LABEL_COLUMNS) or "(empty)"
    while columns_of(line) > LABEL_COLUMNS:
        line = line[:-2] + "…"
    return line


def _wide_letters(label: str) -> int:
    """Counts the letters of a label that are wider than most."""
    return sum(letter in "mwMW@%" or columns_of(letter) > 1 for letter in label)


def _settings(form: str) -> dict[str, Any]:
    return {
        "width": WIDTH,
        "style": _STYLE,
        "js": (),
        "css": (),
        "margin": 2,
        "margin_right": 14,
        "spacing": 5,
        "show_legend": False,
        "truncate_label": -1,
        "min_scale": 2,
        "max_scale": 5,
        "order_min": 0 if form.endswith(".0f") else None,
        "include_x_axis": True,
        "value_formatter": _formatter(form),
        "print_zeroes": False,
    }


def _formatter(form: str) -> Callable[[float], str]:
    def formatted(value: float) -> str:
        return format(value, form)

    return formatted


def _svg(chart: Any, title: str) -> Markup:
    chart.no_prefix = True  # its identifier is chosen at random
    root = chart.render_tree()
    _strip(root)
    del root.attrib["id"]
    root.set("class", "picture")
    root.set("role", "img")
    root.set("aria-label", printable_line(title))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _strip(node: Any) -> None:
    """Takes out of a drawing what only scripts and styles of pygal's own need."""
    for child in list(node):
        is_drawn = isinstance(child.tag, str) and child.tag not in _DROPPED
        if is_drawn and "tooltip-overlay" not in child.get("class", ""):
            _strip(child)
        else:
            node.remove(child)
    for name, value in node.attrib.items():
        if name != "class":
            node.set(name, _NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), value))
