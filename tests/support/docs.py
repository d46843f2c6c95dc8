"""The pages that a person reads, and their code blocks, for tests that run them as they are written."""

from __future__ import annotations

import re
from typing import Final

from tests.support.helpers import ROOT

PAGES: Final = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md"))
}
"""The text of each page, by its path from the root."""


def blocks(page: str, language: str) -> list[str]:
    """Returns the code blocks of a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], flags=re.M | re.S)


def pipelines() -> dict[str, str]:
    """Returns the pipelines in Beam YAML, by the name in their first line."""
    found = [block for block in blocks("docs/beam-yaml.md", "yaml") if "pipeline:" in block]
    return {block.splitlines()[0].removeprefix("# "): block for block in found}
