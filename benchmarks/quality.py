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
from textmint.transforms.parsing.results import Parsed
from textmint.transforms.quality import checks as quality_checks
from textmint.transforms.quality.checks import CHECKS, Checks, find_fault

from benchmarks.table import section
from tests.support.helpers import ROOT, make_example, shipped_template

CORPUS: Final = ROOT / "tests" / "support" / "quality_corpus.jsonl"
LANGUAGES: Final = ("English", "Russian", "Hindi", "Thai", "Chinese (Simplified)")
_WORDS: Final = 100  # about, of every text
_ROWS: Final = 300
_PASSES: Final = 5


def rows_of(language: str, count: int) -> list[Example]:
    """Makes so many rows of about 100 words in a language, of the corpus's good texts."""
    good = [line for line in map(json.loads, CORPUS.read_text("utf-8").splitlines()) if line["expected"] is None]
    texts = [line["input_text"] for line in good if line["language"] == language]
    # 100 words in letters: as many as English has, fewer where a letter says more
    length = {"Chinese (Simplified)": 160, "Thai": 450}.get(language, 600)
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
    for row, reply in zip(rows, replies, strict=True):
        assert find_fault(row, Checks()) is None, "a row that is refused is not looked at by later checks"
        assert isinstance(parse_object(reply, "stop"), Parsed)

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


def main(rows: int = _ROWS, passes: int = _PASSES) -> None:
    """Measures, and prints a table."""
    figures = {language: measure(rows_of(language, rows), passes) for language in LANGUAGES}
    names = list(figures[LANGUAGES[0]])
    lines = [[name, *(f"{figures[language][name]:.4f}" for language in LANGUAGES)] for name in names]
    ratios = [f"{of['all but wrong_language'] / of['parse']:.1f}" for of in figures.values()]
    title = f"CPU ms a row of about {_WORDS} words ({rows} rows, the least of {passes} passes)"
    print(section(title, ("", *LANGUAGES), [*lines, ["all but wrong_language / parse", *ratios]]))


if __name__ == "__main__":
    main()
