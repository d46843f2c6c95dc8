"""README's code blocks, for tests that run them as they are written."""

from __future__ import annotations

import re

from tests.support.helpers import ROOT

TEXT = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """-> what stands in README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.M | re.S)


def pipelines() -> dict[str, str]:
    """-> README's pipelines in Beam YAML, by the name that their first line tells."""
    found = [block for block in blocks("yaml") if "pipeline:" in block]
    return {block.splitlines()[0].removeprefix("# "): block for block in found}
