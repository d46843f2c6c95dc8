"""Report: it shows what is wrong with a dataset, it is safe whatever the data holds, and it stays small."""

from __future__ import annotations

import html.parser
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.texts import printable_text
from textmint.transforms.dataset.manifest import MANIFEST, format_manifest
from textmint.transforms.dataset.pages import MARK, REPORT
from textmint.transforms.dataset.report.page import last_refresh, refresh_before, report, write_report
from textmint.transforms.dataset.report.pictures import bars, histogram
from textmint.transforms.dataset.statistics_file import STATISTICS, format_statistics

from tests.support.described_rows import described, example_of
from tests.support.reports import OTHER, PLANTED, entry_of, make_report

VOID = frozenset(("meta", "br", "rect", "path"))
TAGS = VOID | {
    *("html", "head", "title", "style", "body", "div", "header", "main", "section", "footer", "nav", "figure"),
    *("h1", "h2", "h3", "h4", "p", "a", "b", "span", "ol", "ul", "li", "dl", "dt", "dd", "blockquote", "figcaption"),
    *("details", "summary", "table", "thead", "tbody", "tr", "th", "td", "svg", "g", "text"),
}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg></section>",
    "javascript:alert(1)",
    "&lt;b&gt; &#x3c;i>",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31m\x00\x07",
    "\u202eevil\u2066 \u200f",
    "\ud800 lone \U0001f469\u200d\U0001f467",
    "]]> <!-- -->",
    "",
)
ANY_TEXT = st.text(st.characters(), max_size=60) | st.sampled_from(HOSTILE)


class Strict(html.parser.HTMLParser):
    """Reads a page, and fails where a browser would have to guess."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}  # by the section they stand in
        self.section = ""
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        known = dict(attrs)
        assert len(known) == len(attrs)
        for name, value in attrs:
            assert not name.startswith("on") and name not in ("src", "srcset", "style", "xlink:href"), (tag, name)
            assert value is not None
        if "id" in known:
            self.ids.append(str(known["id"]))
        if tag == "a":
            self.links.append(str(known["href"]))
        if tag == "section":
            self.section = str(known["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.section, []).append(data)

    def text_of(self, section: str) -> str:
        return " ".join(" ".join(self.texts[section]).split())


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


def everywhere(value: Any, text: str) -> Any:
    """Puts a text in the place of every text, and before the name of everything that data names."""
    if isinstance(value, str):
        return text
    if isinstance(value, list):
        return [everywhere(each, text) for each in value]
    if isinstance(value, dict):
        return {name: everywhere(each, text) for name, each in value.items()}
    return value


def spoiled(statistics: Mapping[str, Any], text: str) -> dict[str, Any]:
    found: dict[str, Any] = everywhere(statistics, text)
    found["models"] = {text: 3}
    found["attributes"] = {name: {text: {"asked": 2, "kept": 1}} for name in found["attributes"]}
    for name in ("lengths", "diversity"):
        found[name] = {text: next(iter(found[name].values()))}
    return found


# --- what it shows


def test_each_section_is_there_and_is_linked() -> None:
    found = parsed(make_report())
    sections = [name for name in found.texts if name]
    assert sections == [
        *("kept", "tasks", "balance", "lengths", "attributes", "languages", "similarity", "diversity"),
        *("spending", "rows", "changes", "origin"),
    ]
    assert set(found.links) == {f"#{name}" for name in sections}
    assert len(found.ids) == len(set(found.ids))


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("kept", "not_json"),
        ("kept", "no JSON can be found in the reply"),
        ("tasks", "1 task has no example"),
        ("balance", "1 task with two or more examples has one label only"),
        ("balance", "One label only same (2) 2 1 0.00"),
        ("lengths", "at least 200 2 2 0 0.0 %"),
        ("languages", "1 of"),
        ("languages", "Das Paket kam gestern an"),
        ("similarity", "are near copies of another"),
        ("similarity", "similarity 1.00"),
        ("spending", "The run paid $1.23, by the price of --price=1,2."),
        ("changes", "Compared with before"),
    ],
)
def test_planted_faults_are_seen_in_their_sections(section: str, says: str) -> None:
    assert says in parsed(make_report()).text_of(section)


def test_what_is_well_has_no_notes() -> None:
    found = parsed(report({"before": entry_of(OTHER)}, {"before": OTHER}, "before"))
    assert "label only" not in found.text_of("balance")
    assert "another language than" not in found.text_of("languages")
    assert "near copies of" not in found.text_of("similarity")
    assert "No other refresh of the dataset was published before this one" in found.text_of("changes")


def test_reasons_have_three_examples_and_their_meaning() -> None:
    text = parsed(make_report()).text_of("kept")
    (line,) = [line for line in PLANTED["rejects"] if line["reason"] == "empty"]
    assert len(line["samples"]) == 3 and f"empty · ParseJSON · {line['count']}" in text
    assert "the reply holds no text" in text


def test_what_a_run_cost_is_told_or_said_to_be_unknown() -> None:
    entry = {**entry_of(PLANTED), "spending": {"cost_usd": None, "price": None}}
    assert "cost is unknown" in report({"x": entry}, {"x": PLANTED}, "x")
    entry["spending"] = {"cost_usd": 0.00042, "price": {"source": "--price"}}
    assert "$0.00042" in report({"x": entry}, {"x": PLANTED}, "x")


def test_what_a_cap_or_a_target_left_out_is_told_and_nothing_else() -> None:
    entry = entry_of(PLANTED)
    entry["steps"]["SampleAttributes"]["held_back"] = 7
    assert "7 drafts more were planned, and held back by a cap" in report({"x": entry}, {"x": PLANTED}, "x")
    kept = PLANTED["rows"]["examples"]
    entry["target"] = {"examples": kept, "stopped_by": ""}  # which is reached: nobody misses the seven
    page = report({"x": entry}, {"x": PLANTED}, "x")
    assert "held back" not in page and "missing:" not in page
    entry["target"] = {"examples": kept + 5, "stopped_by": "the waves are used up"}
    assert f"5 examples of the target of {kept + 5} missing: the waves are used up." in report(
        {"x": entry}, {"x": PLANTED}, "x"
    )


def test_the_refresh_before_is_the_one_that_was_published_before() -> None:
    entries = {name: {"finished": f"2026-01-0{day}T00:00:00Z"} for name, day in (("b", 1), ("a", 2), ("c", 3))}
    assert last_refresh(entries) == "c"
    assert [refresh_before(entries, name) for name in "cab"] == ["a", "b", None]


def test_a_refresh_before_without_statistics_is_told() -> None:
    entries = {"old": entry_of(OTHER, "2026-01-01"), "new": entry_of(PLANTED, "2026-01-02")}
    assert "The refresh before, old, has no statistics" in report(entries, {"new": PLANTED}, "new")


def test_a_refresh_without_examples_has_a_report() -> None:
    nothing = described([])
    page = report({"x": entry_of(nothing)}, {"x": nothing}, "x")
    assert parsed(page).text_of("rows") and "Look at this first" not in page


# --- what must not be in it


def test_equal_figures_give_equal_reports_without_clock_path_or_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    page = make_report()
    assert page == make_report()
    for word in ("<script", "http:", "https:", "url(", "@import", "pygal", "/secret/folder", "inside.example", "src="):
        assert word not in re.sub(r'xmlns="http://www.w3.org/2000/svg"', "", page), word
    assert "default-src 'none'; style-src 'unsafe-inline'" in page and MARK in page


@settings(max_examples=10)
@given(ANY_TEXT, ANY_TEXT)
def test_any_text_is_escaped(text: str, name: str) -> None:
    statistics = spoiled(PLANTED, text)
    entry = {**entry_of(PLANTED), "backend": {"backend": "openai", "model": text}}
    entry["steps"]["ParseJSON"]["rejected"] = {name: 3}
    entry["spending"] = {"cost_usd": 1.0, "price": {"source": text}}
    refresh = f"x{name}"
    page = report({refresh: entry, "before": entry_of(OTHER)}, {refresh: statistics, "before": OTHER}, refresh)
    found = parsed(page)
    assert set(found.links) == {f"#{section}" for section in found.texts if section}
    assert printable_text(page) == page  # no control character, nothing that reorders what is read
    page.encode()
    if text.strip() and text.isprintable():
        assert text in " ".join(found.texts["rows"])


def test_texts_of_any_length_leave_it_small() -> None:
    for text in ("x" * 100_000, "<" * 100_000, "漢字" * 50_000, "👩‍👩‍👧" * 20_000, "\n" * 100_000):
        statistics = described([example_of(f"{number}{text}", number) for number in range(30)])
        entries = {f"{number:04}{text[:200]}": entry_of(statistics, f"{number:04}") for number in range(300)}
        refresh = max(entries)
        entries[refresh]["steps"]["ParseJSON"]["rejected"] = {f"{text}{number}": 1 for number in range(200)}
        page = report(entries, {name: spoiled(statistics, text) for name in entries}, refresh)
        assert len(page.encode()) < 1_000_000


@given(
    st.lists(st.tuples(ANY_TEXT, st.integers(0, 10**9)), min_size=1, max_size=30),
    st.booleans(),
)
def test_pictures_of_any_figures(figures: list[tuple[str, int]], flag: bool) -> None:
    labels, counts = [label for label, _ in figures], [count for _, count in figures]
    for picture in (
        bars("Title", labels, [("a", counts), ("b", [None, *counts[1:]])], stacked=flag),
        histogram("Title", [str(count) for count in counts], counts, marked=range(2, 9), logarithmic=flag),
    ):
        parsed(str(picture))
        assert 'role="img" aria-label="Title"' in picture and "<rect" in picture
        drawn = "".join(re.findall("<[^>]*>", picture))  # without labels, which may be these words
        assert "NaN" not in drawn and "inf" not in drawn


# --- the file


def put(folder: Path, **changes: Any) -> Path:
    entry = {**entry_of(PLANTED), **changes}
    (folder / MANIFEST).write_bytes(format_manifest({"base": entry}))
    (folder / STATISTICS).write_bytes(format_statistics({"base": PLANTED}))
    return folder / REPORT


def test_it_is_written_of_the_files_beside_it(tmp_path: Path) -> None:
    path = put(tmp_path)
    write_report(str(tmp_path), "base")
    assert path.read_text("utf-8") == report({"base": entry_of(PLANTED)}, {"base": PLANTED}, "base")


def test_a_file_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    path = put(tmp_path)
    path.write_text("mine")
    write_report(str(tmp_path), "base")
    assert path.read_text() == "mine"


def test_a_report_that_cannot_be_made_is_told_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = put(tmp_path, steps={"ParseJSON": "edited by hand"})
    with caplog.at_level(logging.WARNING, "textmint"):
        write_report(str(tmp_path), "base")
    assert not path.exists() and f"{path} was not written" in caplog.text


def test_figures_of_json_are_enough() -> None:
    again = json.loads(json.dumps(PLANTED))
    assert report({"x": entry_of(PLANTED)}, {"x": again}, "x") == report({"x": entry_of(PLANTED)}, {"x": PLANTED}, "x")
