"""Measures what the checks of a row cost, beside what it costs to parse it: `.venv/bin/python -m benchmarks.quality`.

CPU time of this process, the least of several passes; compare within one report only. Every row has labels of its own,
so that nothing is found in a cache that a real run would not find there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Final

from textmint.transforms.core import labels
from textmint.transforms.core.elements import Example
from textmint.transforms.parsing.objects import EXAMPLE_FIELDS, parse_object
from textmint.transforms.quality import checks as quality_checks
from textmint.transforms.quality.checks import CHECKS, Checks, find_fault

from benchmarks.table import section
from tests.support.helpers import ROOT, make_example, shipped_template

LETTERS: Final = {"English": 600, "Russian": 600, "Hindi": 600, "Thai": 450, "Chinese (Simplified)": 160}
"""By language, the letters of some 100 words: fewer where a letter says more."""


def rows_of(language: str, count: int) -> list[Example]:
    """Makes so many rows of about 100 words in a language, of the good texts of tests/support/quality_corpus.jsonl."""
    corpus = (ROOT / "tests" / "support" / "quality_corpus.jsonl").read_text("utf-8")
    lines = [line for line in map(json.loads, corpus.splitlines()) if line["expected"] is None]
    texts = [line["input_text"] for line in lines if line["language"] == language]
    length = LETTERS[language]
    text = " ".join(texts * (length // len(" ".join(texts)) + 1))[:length]
    task = "Classify a customer e-mail by the department that should answer it"
    attributes = {"language": language, "difficulty": "college", "clarity": "clear", "num_words": "at least 100"}
    prompt = shipped_template("classify").render({"task": task, **attributes})
    return [
        make_example(
            task,
            number,
            input_text=text,
            label=f"first department {number}",
            misleading_label=f"second department {number}",
            prompt=prompt,
            **attributes,
        )
        for number in range(count)
    ]


def measure(rows: Sequence[Example], passes: int) -> dict[str, float]:
    """Measures `parse`, each check alone, and all but `wrong_language`: milliseconds a row of each."""
    replies = [json.dumps({name: getattr(row, name) for name in EXAMPLE_FIELDS}, ensure_ascii=False) for row in rows]

    def checking(checks: Checks) -> Callable[[], object]:
        return lambda: [find_fault(row, checks) for row in rows]

    work: dict[str, Callable[[], object]] = {
        "parse": lambda: [parse_object(reply, "stop") for reply in replies],
        **{name: checking(Checks(names=(name,))) for name in CHECKS},
        "all but wrong_language": checking(Checks().without("wrong_language")),
    }
    return {name: _least_ms(run, passes) / len(rows) for name, run in work.items()}


def _least_ms(run: Callable[[], object], passes: int) -> float:
    def once() -> float:
        # as if these labels came for the first time
        labels.normal_form.cache_clear()
        quality_checks._needle.cache_clear()
        started = time.process_time()
        run()
        return 1000 * (time.process_time() - started)

    return min(once() for _ in range(passes))


def main(rows: int = 300, passes: int = 5) -> None:
    """Prints a table."""
    figures = [measure(rows_of(language, rows), passes) for language in LETTERS]
    lines = [[name, *(f"{of_language[name]:.4f}" for of_language in figures)] for name in figures[0]]
    title = f"CPU ms a row of about 100 words ({rows} rows, the least of {passes} passes)"
    print(section(title, ("", *LETTERS), lines))


if __name__ == "__main__":
    main()
