"""Languages that texts were asked in, beside those that they are found to be in."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from typing import Any, Final

from textmint.transforms.core.languages import UnknownLanguage
from textmint.transforms.quality.language_id import LanguageCheck, check_language
from textmint.transforms.statistics.summary import shown

_WRONG: Final = 10  # that are shown


def identified(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Identifies the languages of rows.

    Args:
      rows: each with id, language and text.

    Returns:
      sample: how many; found: how many by language asked, language found and verdict of `check_language`, the most
      frequent first; wrong: some whose language is wrong, in their order.
    """
    counts: collections.Counter[tuple[str, str | None, str]] = collections.Counter()
    wrong: list[dict[str, Any]] = []
    for row in rows:
        try:
            check = check_language(row["text"], row["language"])
        except UnknownLanguage:  # of a caller's own attributes
            check = LanguageCheck("unknown")
        counts[row["language"], check.found, check.verdict] += 1
        if check.verdict == "wrong" and len(wrong) < _WRONG:
            text = shown(row["text"])
            wrong.append({"id": row["id"], "asked": row["language"], "found": check.found, "text": text})
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or "", item[0][2]))
    return {
        "sample": counts.total(),
        "found": [
            {"asked": asked, "found": found, "verdict": verdict, "count": count}
            for (asked, found, verdict), count in ordered
        ],
        "wrong": wrong,
    }
