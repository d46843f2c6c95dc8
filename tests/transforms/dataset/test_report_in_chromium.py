"""Report in real Chromium, from disk and without a network: it loads nothing, fits, and can be read."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from textmint.transforms.dataset.report.pictures import bars

from tests.support.reports import make_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (390, 1_280)
SCHEMES = ("light", "dark")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on this machine: apt-get install chromium"
)

CONTRASTS = """() => {
  const parse = text => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    return [...numbers.slice(0, 3), numbers.length > 3 ? numbers[3] : 1];
  };
  const over = (front, back) => back.map((part, at) => front[3] * front[at] + (1 - front[3]) * part);
  const luminance = color => {
    const [r, g, b] = color.map(part => part / 255).map(p => p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, two) => {
    const [least, most] = [luminance(one), luminance(two)].sort((a, b) => a - b);
    return (most + 0.05) / (least + 0.05);
  };
  const behind = node => {
    const colors = [];
    for (let each = node; each; each = each.parentElement) colors.push(parse(getComputedStyle(each).backgroundColor));
    return colors.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
  };
  const holds = (box, other) => {
    const [x, y] = [other.x + other.width / 2, other.y + other.height / 2];
    return box.x < x && x < box.right && box.y < y && y < box.bottom;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (!text.data.trim() || !parent.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})) continue;
    const style = getComputedStyle(parent), svg = parent.closest("svg");
    let back = behind(parent);
    if (svg) {  // a bar may lie beneath the text
      const box = parent.getBoundingClientRect();
      for (const shape of svg.querySelectorAll("rect")) {
        const fill = getComputedStyle(shape).fill;
        if (fill !== "none" && holds(shape.getBoundingClientRect(), box)) back = over(parse(fill), back);
      }
    }
    const front = over(parse(svg ? style.fill : style.color), back);
    found.push([contrast(front, back), parseFloat(style.fontSize), text.data.trim().slice(0, 60)]);
  }
  return found;
}"""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A page, and what happened while it was opened."""

    page: Page
    requests: list[str]
    said: list[str]


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(make_report(), "utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield started
        started.close()


@pytest.fixture(params=itertools.product(WIDTHS, SCHEMES), ids=lambda each: f"{each[0]}-{each[1]}")
def opened(request: pytest.FixtureRequest, browser: Browser, report_file: Path) -> Iterator[Opened]:
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page = context.new_page()
    requests: list[str] = []
    said: list[str] = []
    page.on("request", lambda each: requests.append(each.url))
    page.on("console", lambda each: said.append(each.text))
    page.on("pageerror", lambda each: said.append(str(each)))
    page.goto(report_file.as_uri())
    yield Opened(page, requests, said)
    context.close()


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


def too_faint(page: Page) -> list[Any]:
    """Returns the texts whose contrast is below that of WCAG 2.2, 1.4.3, level AA."""
    found = page.evaluate(CONTRASTS)
    assert len(found) > 500
    return [each for each in found if each[0] < 4.5]


def is_dark(page: Page) -> bool:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(color.removeprefix("rgb(").split(",")[0]) < 128


def test_it_loads_nothing_and_says_nothing(opened: Opened, report_file: Path) -> None:
    unfold(opened.page)
    assert opened.requests == [report_file.as_uri()] and opened.said == []
    assert opened.page.title() == "Refresh planted"


def test_it_fits_and_wide_tables_scroll_by_themselves(opened: Opened) -> None:
    unfold(opened.page)
    width = opened.page.viewport_size["width"]  # type: ignore[index]
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    outside = opened.page.evaluate(
        """width => [...document.querySelectorAll("body *")]
          .filter(each => !each.closest(".wide") && each.checkVisibility())
          .filter(each => each.getBoundingClientRect().right > width + 0.5)
          .map(each => each.outerHTML.slice(0, 120))""",
        width,
    )
    assert outside == []


def test_every_text_can_be_read(opened: Opened, request: pytest.FixtureRequest) -> None:
    unfold(opened.page)
    assert is_dark(opened.page) == ("dark" in request.node.name)
    assert too_faint(opened.page) == []
    smallest = opened.page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("svg text")].filter(each => each.checkVisibility())
          .map(each => each.getScreenCTM().a * parseFloat(getComputedStyle(each).fontSize)))"""
    )
    assert smallest >= 10  # pixels, however narrow the screen is


@pytest.mark.parametrize("label", ["gamma", "mmmmmmmmmm WWWWWW", "漢字かな交じり文の長い", "illicit fillip", "%" * 22])
def test_a_label_of_any_letters_is_within_its_picture(browser: Browser, label: str) -> None:
    page = browser.new_page()
    page.set_content(str(bars("labels", [label, "b"], [("", [123_456_789, 1])])))
    inside = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("svg text")].map(each =>
          each.getBoundingClientRect().left - each.closest("svg").getBoundingClientRect().left))"""
    )
    page.close()
    assert inside >= 0


def test_links_of_the_contents_lead_to_their_sections(opened: Opened) -> None:
    for link in opened.page.query_selector_all("nav a"):
        link.click()
        top = opened.page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top")
        assert top < 800
    assert len(opened.requests) == 1


def test_it_prints_on_white_with_all_that_was_folded(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert not is_dark(opened.page) and too_faint(opened.page) == []
    hidden = opened.page.evaluate(
        """() => [...document.querySelectorAll("details.group li, figure td")]
          .filter(each => !each.checkVisibility({contentVisibilityAuto: true}) || !each.getBoundingClientRect().height)
          .length"""
    )
    assert hidden == 0
    assert not opened.page.locator("nav").is_visible()
    assert opened.page.pdf().startswith(b"%PDF")
