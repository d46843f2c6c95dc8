"""Topics: enough of them, each a short readable phrase, no two alike."""

from __future__ import annotations

import collections
import re
import unicodedata
from pathlib import Path

LINES = (Path(__file__).parents[2] / "templates" / "topics.txt").read_text(encoding="utf-8").splitlines()
TOPICS = [line for line in LINES if line.strip() and not line.startswith("#")]


def words(topic: str) -> list[str]:
    """Splits a topic into its words, folded: women's and football of `Women's football`."""
    return re.findall(r"[\w'-]+", topic.casefold())


def stem(word: str) -> str:
    """Strips the endings that make no other topic of a word: plural and possessive."""
    return re.sub(r"(?<=\w\w\w)('s|s'|s)$", "", re.sub(r"(?<=\w\w)ies$", "y", word))


def repeated(keys: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [key for key, count in collections.Counter(keys).items() if count > 1]


def test_there_are_enough() -> None:
    assert len(TOPICS) >= 1_200


def test_only_the_first_line_is_a_comment() -> None:
    assert LINES[0].startswith("# ")
    assert len(LINES) == 1 + len(TOPICS)


def test_no_two_are_equal_but_for_case() -> None:
    assert repeated([(topic.casefold(),) for topic in TOPICS]) == []


def test_none_is_another_with_its_words_moved() -> None:
    assert repeated([tuple(sorted(words(topic))) for topic in TOPICS]) == []


def test_none_is_another_in_the_plural_or_with_other_small_words() -> None:
    small = {"of", "the", "a", "an", "and", "in", "on", "at", "for", "to", "as", "with", "by", "from"}
    assert repeated([tuple(sorted(stem(word) for word in words(topic) if word not in small)) for topic in TOPICS]) == []


def test_number_of_words() -> None:
    assert [topic for topic in TOPICS if not 1 <= len(topic.split()) <= 8] == []


def test_length() -> None:
    assert [topic for topic in TOPICS if not 5 <= len(topic) <= 60] == []


def test_spelling_is_plain() -> None:
    # Words of letters, digits, inner hyphens and apostrophes (also that of a plural, but not at the end), one space
    # between them: no trailing punctuation, tab, quotation mark or template brace.
    word = r"[^\W_]+(?:[-'][^\W_]+)*'?"
    assert [topic for topic in TOPICS if not re.fullmatch(rf"{word}(?: {word})*", topic)] == []
    assert [topic for topic in TOPICS if not topic[-1].isalnum()] == []
    assert [topic for topic in TOPICS if unicodedata.normalize("NFC", topic) != topic] == []


def test_only_names_have_capitals() -> None:
    # A common noun with a capital would be a slip of the keyboard: most topics are all lower case.
    lower = [topic for topic in TOPICS if topic == topic.lower()]
    assert len(lower) >= 0.8 * len(TOPICS)
    assert [topic for topic in TOPICS if topic == topic.upper()] == []


def test_they_are_spread_over_life() -> None:
    # No content word may hold more than 1.5 % of the list, or the rounds would crowd around it.
    counts = collections.Counter(stem(word) for topic in TOPICS for word in set(words(topic)) if len(word) > 3)
    assert [word for word, count in counts.items() if count > 0.015 * len(TOPICS)] == []
    assert len(counts) >= 1_500
