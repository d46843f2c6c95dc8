"""What a person reads is true: links lead somewhere, options exist, made tables are current, commands run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from textmint.pipelines.options.parse import parse
from textmint.pipelines.preview import parse_preview

from docs.reference import SECTIONS, page
from tests.support.docs import PAGES, blocks
from tests.support.helpers import ROOT

PROGRAMS = {"./run.sh": [sys.executable, "-m", "textmint.pipelines"], ".venv/bin/python": [sys.executable]}
"""What a test runs in place of what a person types, who has no Python yet that knows Textmint."""


RUN = ("docs/tutorial.md", "docs/quality.md", "docs/rejects.md")
"""Pages whose commands are run. Those of the others are like them; these are only parsed."""


def commands(name: str) -> list[list[str]]:
    """Returns the commands of a page, each as its words."""
    lines = "".join(blocks(name, "bash")).splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def runs_here(words: list[str]) -> bool:
    """Tells whether a command needs nothing but this machine, and is no matter of minutes."""
    if words[0] == "./run.sh":
        return words[1:2] in (["generate"], ["preview"], ["ledger"], ["rejects"]) and not any(
            word.startswith(("--llm=", "--runner=", "--config=")) for word in words
        )
    return words[0] == "printf" or words[:2] == [".venv/bin/python", "-c"]


@pytest.mark.parametrize("name", SECTIONS)
def test_tables_are_made_of_the_code_as_it_is(name: str) -> None:
    assert page(name) == (ROOT / "docs" / name).read_text("utf-8"), "run: python -m docs.reference"


def test_the_readme_ends() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 150


def anchors(text: str) -> set[str]:
    """Returns what a link into a page may name: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.casefold()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", PAGES[name], flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{name}: {link}"


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and keys that open nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("GEMINI_API_KEY", "test")
    monkeypatch.setattr("textmint.pipelines.options.backends.fetch_key", str)  # Secret Manager is not here
    for name, value in {"BUCKET": "my-bucket", "PROJECT": "my-project", "REGION": "europe-west4"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "my_tasks.txt").write_text("Tell a complaint from a question\n", "utf-8")
    (tmp_path / "my.yaml").write_text("".join(blocks("docs/tutorial.md", "yaml")), "utf-8")
    return tmp_path


ASKING = [
    pytest.param(words, id=shlex.join(words[2:4]))
    for name in PAGES
    for words in commands(name)
    if words[0] == "./run.sh" and words[1:2] in (["generate"], ["preview"]) and "--help" not in words
    if not (name in RUN and runs_here(words))
]


@pytest.mark.parametrize("words", ASKING)
@pytest.mark.usefixtures("away")
def test_commands_are_understood(words: list[str]) -> None:
    read = {"generate": parse, "preview": parse_preview}[words[1]]
    read([os.path.expandvars(word) for word in words[2:]])


@pytest.mark.parametrize("name", RUN)
def test_commands_run(name: str, away: Path) -> None:
    for words in filter(runs_here, commands(name)):
        line = shlex.join([*PROGRAMS.get(words[0], [words[0]]), *words[1:]])
        if words[0] == "printf":
            line = line.replace(" '>' ", " > ")
        done = subprocess.run(["bash", "-c", line], cwd=away, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
