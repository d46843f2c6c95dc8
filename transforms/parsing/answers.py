"""Answers: which part of a reply answers, and what stands around it."""

from __future__ import annotations

import abc
import bisect
import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic

from textmint.transforms.core.elements import FILTERED, FinishReason
from textmint.transforms.parsing.reader import Read, read_exact, scan
from textmint.transforms.parsing.reasoning import Value, drop_end_tokens, find_answer
from textmint.transforms.parsing.repair import REPAIR_MAX_CHARS, Repairer, may_be_data
from textmint.transforms.parsing.results import Parsed, Refusal, T, detail_line
from textmint.transforms.parsing.values import dicts_of, kind_of, strings_of

READ_MAX_CHARS: Final = 300_000
"""The longest reply for the tolerant reader, which takes 5 microseconds a character at worst; models of 2026 send less.
What is longer must be exact JSON."""

MAX_STRINGS: Final = 3  # JSON strings in one another
JSON_START: Final = re.compile(r'\s*[\[{"]')
DRAFT: Final = Refusal(
    reason="truncated", detail="the token limit fell in the talk behind the value, which may be a draft"
)

_FENCE: Final = re.compile(r"(?:```|~~~)(?:[ \t]*[A-Za-z][\w+.-]*)?[ \t]*(?=[\r\n`~\[{]|\Z)|```|~~~")
_BRACKETS: Final = " \t\r\n,[]{}"
_ESCAPED_START: Final = re.compile(r'[\[{](?:\s|\\[nrt])*\\"')
_ELEMENT: Final = re.compile(r"[<\[](?P<slash>/?)(?P<name>[^\W\d][\w:.-]{0,40})(?:\s[^<>\[\]\n]{0,80})?[>\]]")
_ANSWER_NAME: Final = re.compile(
    r"(?:final\W?)?(?:answer|response|output|result|solution|final|json|tasks?|labels?|lists?|items?|examples?|objects?)"
    r"|[biu]|em|strong|p|[uo]l|li|pre|code|div|span"
)
"""Elements that hold an answer, or only format it."""
_HEADING: Final = re.compile(
    r"^[ \t>*#_]{0,8}(?:[\w'’]{1,12}[ \t]+){0,4}(?:final|answer|response|output|result|corrected|revised|improved)\b"
    r"[^\n{\[:]{0,30}(?::[ \t*_]*\n?|\n)[ \t*]*\n?(?:```\w*\s*)?(?=[\[{])",
    re.IGNORECASE | re.MULTILINE,
)
"""The beginning of a line that says that the answer follows."""


class ReplyReader(abc.ABC, Generic[T]):
    """Reads what was asked for out of a reply."""

    def __init__(self, finish_reason: FinishReason, strings: int = 0) -> None:
        self.finish_reason = finish_reason
        self.strings = strings  # how many JSON strings stand around the text

    @abc.abstractmethod
    def take(self, value: Any, repairs: set[str]) -> Parsed[T] | Refusal:
        """Takes what was asked for out of a JSON value; `repairs` is what was mended so far."""

    @abc.abstractmethod
    def search(self, body: str, repairs: set[str]) -> Parsed[T] | Refusal:
        """Searches a text that is not exact JSON."""

    def read(self, text: str) -> Parsed[T] | Refusal:
        """Reads a reply."""
        if self.finish_reason in FILTERED:
            return Refusal(reason="blocked", detail=FILTERED[self.finish_reason])
        known, value = read_exact(text)
        if known:
            return self.take(value, set())
        prepared = _prepare(text, self.finish_reason)
        if isinstance(prepared, Refusal):
            return prepared
        body, repairs = prepared
        for part in _parts_that_answer(body):
            answer = self._read_part(part, repairs | {"prose"})
            if isinstance(answer, Parsed):
                return answer
        answer = self._read_part(body, repairs)
        if isinstance(answer, Refusal) and (inner := _unescaped(body)) is not None:
            decoded = self._read_part(inner, repairs | {"json_string"})
            return decoded if isinstance(decoded, Parsed) else answer
        return answer

    def _read_part(self, body: str, repairs: set[str]) -> Parsed[T] | Refusal:
        inner = unfence(body)
        known, value = read_exact(inner) if inner in body else (False, None)  # else a string holds a fence too
        if not known:
            return self.search(body, repairs)
        before, _, after = body.partition(inner)
        if self.is_amid_talk(before, after):
            return DRAFT
        return self.take(value, repairs | outside(before + after))

    def is_amid_talk(self, before: str, after: str) -> bool:
        """Tells whether a value stands in talk that the token limit cut off, and so may be a draft."""
        return self.finish_reason == "length" and all(unfence(text).strip(_BRACKETS) for text in (before, after))

    def nothing_found(self, text: str, reads: Sequence[Read], repairer: Repairer, wanted: str) -> Refusal:
        """Says why nothing could be taken from a text; `wanted` names what was asked for."""
        if any(read.status == "cut" for read in reads):
            return Refusal(reason="truncated", detail="the reply ends before its structure does")
        for read in reads:
            if read.status == "ok":
                return Refusal(reason="wrong_shape", detail=f"expected {wanted}, found {kind_of(read.value)}")
        if self.finish_reason == "length":
            return Refusal(reason="truncated", detail=f"the reply reached the token limit before {wanted} was there")
        if repairer.too_large:
            return Refusal(
                reason="not_json",
                detail=f"not valid JSON, and too large to be repaired ({len(text):,} characters; the limit is "
                f"{REPAIR_MAX_CHARS:,}, fewer with many quotation marks)",
            )
        return Refusal(reason="not_json", detail=detail_line(f"no JSON in: {text[:150].strip()}"))


def answer_text(text: str, finish_reason: FinishReason) -> str | None:
    """Finds the part of a reply that answers, without reasoning, fences and end tokens; None where there is none."""
    prepared = _prepare(text, finish_reason)
    return None if isinstance(prepared, Refusal) else unfence(prepared[0])


def start_of_answer(reasoning: str) -> int | None:
    """Finds the JSON value that ends a reasoning which was never closed.

    Returns:
      Where the value begins; 0 where the text holds no value, or holds marks of reasoning; None where the value may be
      part of the reasoning.
    """
    body = drop_end_tokens(reasoning)
    marked = find_answer(body, "stop", functools.partial(_values, body))
    if marked is None or marked.has_reasoning or len(body) > READ_MAX_CHARS:
        return 0
    start, end = 0, len(body)
    for read in scan(body, rescan_cut=True):
        if read.is_data or strings_of(read.value):
            start, end = read.start, read.end
            if read.status == "bad":  # where it ends is not known
                end = max(end, body.rfind("}") + 1, body.rfind("]") + 1)
                break
    if unfence(body[end:]).strip(_BRACKETS):
        return None
    return start if unfence(body[:start]) else 0


def unfence(text: str) -> str:
    """Removes the marks of fenced code blocks."""
    return _FENCE.sub("", text).strip("\ufeff \t\r\n`")


def around(text: str, reads: Sequence[Read]) -> set[str]:
    """Names the repairs for what stands around the values that were read in a text."""
    parts: list[str] = []
    position = 0
    for read in reads:
        if read.start < position or (read.status == "bad" and not any(True for _ in dicts_of(read.value))):
            continue
        parts.append(text[position : read.start])
        position = read.end
    parts.append(text[position:])
    return outside("\n".join(parts))


def outside(text: str) -> set[str]:
    """Names the repairs for a text around values."""
    found: set[str] = set()
    if "```" in text or "~~~" in text:
        found.add("fence")
    if unfence(text).strip(_BRACKETS):
        found.add("prose")
    return found


def _prepare(text: str, finish_reason: FinishReason) -> tuple[str, set[str]] | Refusal:
    """Finds the part of a reply that answers, and names what was removed around it."""
    repairs: set[str] = set()
    body = text.lstrip("\ufeff \t\r\n")
    if "\ufeff" in text[: len(text) - len(body)]:
        repairs.add("bom")
    answer = find_answer(body, finish_reason, functools.partial(_values, body))
    if answer is None:
        return Refusal(reason="truncated", detail="the reply ends inside the model's reasoning")
    answered = drop_end_tokens(body[answer.start : answer.end])
    if answer.has_reasoning:
        repairs.add("reasoning")
    elif len(answered) < len(body):
        repairs.add("prose")
    body = answered
    if not unfence(body).strip():
        if answer.has_reasoning:
            reason = "truncated" if finish_reason == "length" else "empty"
            return Refusal(reason=reason, detail="nothing stands behind the model's reasoning")
        if finish_reason == "length":  # a model that thinks can spend all its tokens before it says a word
            return Refusal(reason="truncated", detail="the token limit was reached before there was any text")
        return Refusal(reason="empty", detail="the reply holds no text")
    if len(body) > READ_MAX_CHARS:
        detail = (
            f"{len(body):,} characters that are not exact JSON; the limit for other notations is {READ_MAX_CHARS:,}"
        )
        return Refusal(reason="truncated" if finish_reason == "length" else "not_json", detail=detail)
    return body, repairs


def _values(text: str, start: int) -> list[Value]:
    """Lists the JSON values in a text from a position on, in which marks of reasoning mark nothing.

    A value that is never closed, or has unescaped quotation marks, may have swallowed a mark and the answer behind it,
    so it does not count.
    """
    if len(text) - start > READ_MAX_CHARS:
        return []
    found = []
    last_closer = max(text.rfind("}"), text.rfind("]")) + 1
    for read in scan(text, rescan_cut=True, start=start):
        is_sure = read.status != "bad" and "inner_quotes" not in read.repairs
        is_value = read.is_data or read.status == "ok" or may_be_data(text, read.start)
        if is_value and (is_sure or read.status != "cut"):
            is_whole = read.status == "ok" and (read.is_data or bool(strings_of(read.value)))
            # Where a broken value ends, only the repair can tell.
            end = max(read.end, last_closer) if read.status == "bad" else read.end
            found.append(Value(read.start, end, is_whole, is_sure))
    return found


def _parts_that_answer(text: str) -> Iterator[str]:
    """Lists the parts that are more likely the answer than the whole text, the most likely first.

    They are what follows a heading such as "Final answer:", and what stands in no element such as `<plan>...</plan>`.
    """
    headings = list(_HEADING.finditer(text))
    has_elements = "</" in text or "[/" in text
    if len(text) > READ_MAX_CHARS or not (headings or has_elements):
        return
    reads = [read for read in scan(text, rescan_cut=True) if read.is_data]
    values = [(read.start, read.end) for read in reads if read.status != "bad"]
    starts = [start for start, _ in values]

    def is_outside(position: int) -> bool:
        place = bisect.bisect_right(starts, position) - 1
        return place < 0 or values[place][1] <= position

    ends = [match.end() for match in headings if is_outside(match.start())]
    if ends:
        yield text[ends[-1] :]
    if not has_elements:
        return
    # Where a broken value ends is not known.
    broken = min((read.start for read in reads if read.status == "bad"), default=len(text))
    elements: list[tuple[int, int]] = []
    matches = list(_ELEMENT.finditer(text))
    # An element that is closed and never opened was opened by a chat template.
    opened = {match["name"].lower(): 0 for match in matches if match["slash"]} if broken == len(text) else {}
    for match in matches:
        name = match["name"].lower()
        if not is_outside(match.start()) or _ANSWER_NAME.fullmatch(name):
            continue
        if not match["slash"]:
            if match.start() < broken:
                opened[name] = match.start()
        elif name in opened:
            elements.append((opened.pop(name), match.end()))
    if elements:
        rest, position = [], 0
        for start, end in sorted(elements):
            rest.append(text[position:start])
            position = max(position, end)
        yield "".join([*rest, text[position:]])


def _unescaped(text: str) -> str | None:
    """Reads a value that is escaped as in a JSON string: {\\"label\\": \\"a\\"}; None where there is none."""
    start = _ESCAPED_START.search(text)
    if start is None:
        return None
    end = max(text.rfind("}"), text.rfind("]")) + 1
    try:
        found: str = json.loads(f'"{text[start.start() : end]}"', strict=False)
    except ValueError:
        return None
    return found
