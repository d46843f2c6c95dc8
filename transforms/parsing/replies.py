"""Parsing: what a model replied -> the fields or the list that were asked for, or why not.

Replies are untrusted. They are read, never run, and no reply raises. Three readers are tried, the exact one first:

1. `json`, for a reply that is JSON and nothing else;
2. a reader of the notations that models mix up with JSON (Python literals, trailing commas, raw line breaks,
   comments, typographic quotes), with text around the value. It reads values exactly, and it knows whether a text
   that fails is broken or merely ends too early;
3. `json_repair`, for what is really broken, such as a missing comma. It guesses where strings end, and drops what it
   cannot place. So nothing is taken unless all letters of the text came back, and no string unless it stands in the
   text between quotation marks and before a delimiter.

The rule about replies that were cut off: half a text never becomes a row. What reader 2 finds cut off is not handed
to reader 3, which would close the open string without a word. Before reader 3 starts, a mark is put at the end of the
text; a value that comes back with the mark in it ran into the end, and counts as cut off.

An object that lacks nothing but its closing brackets is taken if the model stopped by itself, and is `truncated` if the
token limit stopped it: the quotation mark that seems to close the last value may then be one inside the value. So is a
value in the middle of talk that the limit cut off: it may be a draft of a model that was still thinking.

Two examples in one object are never mixed: keys that come twice with other values, however they are spelled, and two
different examples in one wrapper are refused.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Literal, TypeVar

import json_repair
from textmint.transforms.core.elements import FILTERED, FinishReason
from textmint.transforms.core.texts import clean_text
from textmint.transforms.parsing.reasoning import Value, drop_end_tokens, find_answer

T = TypeVar("T")

EXAMPLE_FIELDS: Final = ("input_text", "label", "misleading_label")
"""The fields of an example, as the template `classify` asks for them."""

REPAIRS: Final[Mapping[str, str]] = {
    # around the value
    "bom": "a byte order mark stood before the reply",
    "fence": "the value stood in a fenced code block",
    "prose": "other text stood before or after the value",
    "reasoning": "the model's reasoning stood before the answer",
    # notation
    "quotes": "strings were quoted with ' or with typographic or triple quotes",
    "escapes": "a string held escapes that JSON does not know, such as \\' or \\x41",
    "inner_quotes": "quotation marks inside a string were not escaped",
    "raw_newline": "a string held raw line breaks, tabs or other control characters",
    "joined_strings": "a value was written as several strings in a row, as Python allows",
    "literals": "True, False, None and the like were not spelled as in JSON",
    "bare_keys": "keys were not quoted",
    "trailing_comma": "a comma stood before a closing bracket",
    "comments": "the value held comments",
    "missing_close": "closing brackets were missing at the end of the reply",
    "punctuation": "commas, colons or brackets between values were those of another script",
    "syntax": "the syntax was broken and mended by json_repair",
    "surrogates": "lone surrogates were replaced by U+FFFD",
    # structure
    "one_element_list": "the value stood in a list of its own",
    "several_objects": "there were several objects; the first complete one was taken",
    "wrapped_object": "the object stood in another one",
    "json_string": "the JSON stood in a JSON string",
    "key_spelling": "keys were spelled in another case, or with spaces, hyphens or escapes",
    "repeated_keys": "keys came twice with the same value",
    "extra_keys": "keys that were not asked for were left out",
    "wrapped_list": "the list stood in an object",
    "object_items": "items of the list were objects that hold one string",
    "several_lists": "there were several lists; they were joined",
    "line_list": "the list was written as numbered or bulleted lines",
    "cut_list": "the list was cut off; its complete items were kept",
}
"""The closed set of what can be mended in a reply, each with its meaning."""

REPAIR_MAX_CHARS: Final = 32_000
REPAIR_MAX_WORK: Final = 4_000_000
"""Limits of what is handed to json_repair: characters, and characters times quotation marks.

Its time grows with the product: json_repair 0.64 took 0.15 s for 2,000 characters of `{'`, 2.3 s for 8,000 (a product
of 32 million), on one core of 2026; the limit makes that 0.3 s an attempt. A list of 20 tasks, 3,000 characters with 40
quotation marks, has 120,000. Past the limits only the exact reader and the tolerant one are tried.
"""

READ_MAX_CHARS: Final = 300_000
"""The longest reply that is given to the tolerant reader; what is longer must be exact JSON.

The reader takes some 5 microseconds a character of the worst replies, so one or two seconds at the limit. It is more
text than models of 2026 send in one reply: 64,000 tokens of some four characters.
"""

_MAX_REPAIRS = 4  # calls of json_repair for one reply
_MAX_STRINGS = 3  # JSON strings in one another
_MAX_DEPTH = 64  # containers in one another; an example needs 2, a list of tasks 3
_MAX_DIGITS = 600  # Python can be told to refuse int() of more than 640 digits, and never of fewer
_RESCAN = 1  # how often, on average, a character may be read again from another opening bracket
_DETAIL_CHARS = 200


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parsed(Generic[T]):
    """What was read from a reply."""

    value: T
    repairs: tuple[str, ...]  # names in REPAIRS, sorted; () for exact JSON of exactly the structure asked for
    refused: tuple[tuple[str, str, str], ...] = ()  # items of a list: (reason, detail, the item as JSON)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a reply was not taken."""

    reason: str  # one of elements.REASONS
    detail: str  # one printable line for a person, at most 200 characters


def parse_object(
    text: str, finish_reason: FinishReason, fields: Sequence[str] = EXAMPLE_FIELDS
) -> Parsed[dict[str, str]] | Refusal:
    """Reads a reply that should be one JSON object of strings.

    Of several objects the first complete one is taken. One that stands in another object is taken if it is the only one
    there. Values are stripped of white space at both ends and otherwise kept as they are; a value that is not a string
    is refused, never converted.

    Args:
      text: the reply as it came.
      finish_reason: why the model stopped.
      fields: the keys that must be there, in whatever case and with whatever between their words; other keys are left
        out.

    Returns:
      The fields, or why they cannot be taken.
    """
    return _parse_object(text, finish_reason, tuple(fields), 0)


def _parse_object(
    text: str, finish_reason: FinishReason, fields: tuple[str, ...], strings: int
) -> Parsed[dict[str, str]] | Refusal:
    """`parse_object` for what stands in so many JSON strings."""
    if finish_reason in FILTERED:
        return Refusal(reason="blocked", detail=FILTERED[finish_reason])
    known, value = _exact(text)
    if known:
        return _choose(value, finish_reason, fields, set(), strings)
    prepared = _prepare(text, finish_reason)
    if isinstance(prepared, Refusal):
        return prepared
    body, repairs = prepared
    answer: Parsed[dict[str, str]] | Refusal
    for part in _parts_that_answer(body):
        answer = _object_in(part, finish_reason, fields, repairs | {"prose"}, strings)
        if isinstance(answer, Parsed):
            return answer
    answer = _object_in(body, finish_reason, fields, repairs, strings)
    if isinstance(answer, Refusal) and (inner := _unescaped(body)) is not None:
        decoded = _object_in(inner, finish_reason, fields, repairs | {"json_string"}, strings)
        return decoded if isinstance(decoded, Parsed) else answer
    return answer


def _object_in(
    body: str, finish_reason: FinishReason, fields: tuple[str, ...], repairs: set[str], strings: int
) -> Parsed[dict[str, str]] | Refusal:
    """Reads the part of a reply that answers; the arguments are those of `_choose`."""
    inner = _unfence(body)
    known, value = _exact(inner) if inner in body else (False, None)  # else a string holds a fence too
    if known:
        before, _, after = body.partition(inner)
        if _is_amid_talk(before, after, finish_reason):
            return _DRAFT
        return _choose(value, finish_reason, fields, repairs | _outside(before + after), strings)

    reads = list(_scan(body, rescan_cut=True))
    failures: list[_Failure] = []
    seen = 0
    chosen: tuple[dict[str, str], _Read, set[str]] | None = None
    for read in reads:
        for candidate in _dicts(read.value):
            is_open = any(candidate is container for container in read.open)
            seen += bool(candidate) or (is_open and read.is_data)  # else it is `{}` in prose, or a brace
            if is_open and not (read.status == "cut" and finish_reason == "stop" and read.after_value):
                if read.status == "cut":
                    failures.append(_cut_failure(read, fields))
                continue
            if chosen is not None:
                continue
            taken = _take(candidate, fields)
            if isinstance(taken, _Failure):
                failures.append(_cut_failure(read, fields) if is_open and not taken.is_mixed else taken)
            elif {"extra_keys", "inner_quotes"} <= taken[1] | read.repairs:
                failures.append(_astray_failure(fields))  # an extra key may be a part of the text
            else:
                found, mended = taken
                chosen = (found, read, mended | ({"missing_close"} if read.status == "cut" else set()))
        if read.status == "cut" and not list(_dicts(read.value)):
            failures.append(_cut_failure(read, fields))
    if chosen is not None:
        found, read, mended = chosen
        if _is_amid_talk(body[: read.start], body[read.end :], finish_reason):
            return _DRAFT
        mended |= repairs | read.repairs | _around(body, reads)
        if seen > 1:
            mended.add("several_objects")
        elif isinstance(read.value, list):
            mended.add("one_element_list")
        return Parsed(value=found, repairs=tuple(sorted(mended)))

    too_big = False
    calls = 0
    for read in reads:
        if calls == _MAX_REPAIRS:
            break
        if read.status != "bad" or not _DATA.match(body, read.start):
            continue
        for end in _object_ends(body, read.start):
            if calls == _MAX_REPAIRS:
                break
            calls += 1
            repaired = _repair(body[read.start : end])
            if repaired is None:
                too_big = True
                continue
            value, mark = repaired
            source = _plain(body[read.start : end])
            keeps_all = _letters(value) >= _letters(source)
            candidates = list(_dicts(value))
            for candidate in candidates:
                taken = _take(candidate, fields)
                if mark in _flat(candidate):
                    failures.append(_cut_failure(_Read.whole(candidate), fields))
                elif not isinstance(taken, _Failure) and _repeats(source, value, fields):
                    failures.append(_mixed_failure(fields, "a key"))
                elif not isinstance(taken, _Failure) and not (keeps_all and _is_whole(source, candidate)):
                    failures.append(
                        _Failure(len(fields), "not_json", "quotation marks too broken to tell the fields apart")
                    )
                elif isinstance(taken, _Failure):
                    failures.append(taken)
                else:
                    found, mended = taken
                    if "extra_keys" in mended:  # which may be a part of the text that json_repair took for a key
                        failures.append(_astray_failure(fields))
                        continue
                    if _is_amid_talk(body[: read.start], body[end:], finish_reason):
                        return _DRAFT
                    mended |= repairs | {"syntax"} | _outside(body[: read.start] + "\n" + body[end:])
                    if len(candidates) > 1:
                        mended.add("several_objects")
                    elif isinstance(value, list):
                        mended.add("one_element_list")
                    return Parsed(value=found, repairs=tuple(sorted(mended)))
    if failures:
        best = max(failures, key=lambda failure: failure.rank)  # the first of equals
        return Refusal(reason=best.reason, detail=best.detail)
    return _nothing_found(body, finish_reason, reads, too_big, "an object")


def parse_string_list(text: str, finish_reason: FinishReason) -> Parsed[tuple[str, ...]] | Refusal:
    """Reads a reply that should be a JSON or Python list of strings.

    Items are stripped at both ends. Those that are blank or not strings come back in `refused`; of a list that was cut
    off, the incomplete last item is dropped and the others are kept. An item of a cut-off list is complete if something
    follows it, or if the model stopped by itself. Numbered or bulleted lines are a list too.

    Args:
      text: the reply as it came.
      finish_reason: why the model stopped.

    Returns:
      The items, or why they cannot be taken.
    """
    return _parse_list(text, finish_reason, 0)


def _parse_list(text: str, finish_reason: FinishReason, strings: int) -> Parsed[tuple[str, ...]] | Refusal:
    """`parse_string_list` for what stands in so many JSON strings."""
    if finish_reason in FILTERED:
        return Refusal(reason="blocked", detail=FILTERED[finish_reason])
    known, value = _exact(text)
    if known:
        return _whole_list(value, finish_reason, set(), strings)
    prepared = _prepare(text, finish_reason)
    if isinstance(prepared, Refusal):
        return prepared
    body, repairs = prepared
    for part in _parts_that_answer(body):
        answer = _list_in(part, finish_reason, repairs | {"prose"}, strings)
        if isinstance(answer, Parsed):
            return answer
    answer = _list_in(body, finish_reason, repairs, strings)
    if isinstance(answer, Refusal) and (inner := _unescaped(body)) is not None:
        decoded = _list_in(inner, finish_reason, repairs | {"json_string"}, strings)
        return decoded if isinstance(decoded, Parsed) else answer
    return answer


def _list_in(
    body: str, finish_reason: FinishReason, repairs: set[str], strings: int
) -> Parsed[tuple[str, ...]] | Refusal:
    """Reads the part of a reply that answers; the arguments are those of `_choose`."""
    inner = _unfence(body)
    known, value = _exact(inner) if inner in body else (False, None)  # else a string holds a fence too
    if known:
        before, _, after = body.partition(inner)
        if _is_amid_talk(before, after, finish_reason):
            return _DRAFT
        return _whole_list(value, finish_reason, repairs | _outside(before + after), strings)

    lines = _lines(body, finish_reason)
    bullets = _bullet_texts(body) if lines is not None and len(lines.good) > 1 else []
    starts = [first for first, _ in bullets]
    last_closer = body.rfind("]") + 1
    lists: list[_Items] = []
    reads: list[_Read] = []
    loose: list[object] = []
    too_big = False
    calls = 0
    for read in _scan(body, rescan_cut=False):
        # A bracket inside the text of a bulleted line belongs to that line, one inside a list to that list.
        line = bisect.bisect_left(starts, read.start) - 1
        if (line >= 0 and read.start < bullets[line][1]) or (reads and read.start < reads[-1].end):
            continue
        if read.status == "bad":
            if not _DATA.match(body, read.start):
                continue
            mended: _Items | None = None
            end = max(read.end, last_closer)
            for guess in _list_ends(body, read.start) if calls < _MAX_REPAIRS else ():
                if calls == _MAX_REPAIRS:
                    break
                calls += 1
                repaired = _repair(body[read.start : guess])
                if repaired is None:
                    too_big = True
                    continue
                value, mark = repaired
                source = _plain(body[read.start : guess])
                if _letters(value) < _letters(source):
                    continue
                items = _items(_Read.whole(value), finish_reason, mark, source)
                if items is not None and items.good:
                    mended, end = items, guess
                    if not items.cut:
                        break
            if mended is not None:
                mended.repairs.add("syntax")
                lists.append(mended)
            reads.append(dataclasses.replace(read, end=end, status="bad" if mended is None else "ok"))
            continue
        reads.append(read)
        items = _items(read, finish_reason)
        if items is not None:
            items.repairs |= read.repairs
            lists.append(items)
        elif isinstance(read.value, dict) and any(map(_is_text, _named(read.value, "task"))) and not read.open:
            loose.append(read.value)
    if loose and not any(items.good for items in lists):
        items = _items(_Read.whole(loose), finish_reason)
        if items is not None:
            items.repairs.add("several_lists")
            lists = [items]
    good = [items for items in lists if items.good]
    if good and _is_amid_talk(body[: reads[0].start], body[reads[-1].end :], finish_reason):
        return _DRAFT
    if good:
        return _collect(good, repairs | _around(body, reads))
    if lines is not None and lines.good and not any(read.status == "cut" for read in reads):
        if lines.is_amid_talk:
            return _DRAFT
        return _collect([lines], repairs)
    if lists:
        return _collect(lists[:1], repairs)
    return _nothing_found(body, finish_reason, reads, too_big, "a list of strings")


# ---------------------------------------------------------------------------------------------- objects


@dataclasses.dataclass(frozen=True, slots=True)
class _Failure:
    """Why one candidate was not taken; `rank` is how many of the fields it had."""

    rank: int
    reason: str
    detail: str
    is_mixed: bool = False  # it has all there is, and more: two examples in one


class _Object(dict[str, Any]):
    """An object in which keys come twice: the last value of each, as JSON has it, and the others in `earlier`."""

    __slots__ = ("earlier",)

    def __init__(self, pairs: Sequence[tuple[str, Any]] = ()) -> None:
        super().__init__()
        self.earlier: list[tuple[str, Any]] = []
        for key, value in pairs:
            self.put(key, value)

    def put(self, key: str, value: object) -> None:
        if key in self:
            self.earlier.append((key, self[key]))
        self[key] = value


def _pairs(candidate: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All keys and values of an object, with those that come twice."""
    if isinstance(candidate, _Object):
        yield from candidate.earlier
    yield from candidate.items()


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    """A value -> itself if it is an object, or the objects in it if it is a list, in order."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
        elif isinstance(item, list):
            waiting.extend(reversed(item))


@functools.lru_cache(maxsize=256)
def _key_form(key: str) -> str:
    """What is left of a key without case, spaces, hyphens, escapes and other marks."""
    if len(key) > _MAX_KEY:
        return ""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", key).casefold()))


_MAX_KEY = 100  # characters of a key that may stand for a field


@functools.lru_cache(maxsize=16)
def _forms(fields: tuple[str, ...]) -> Mapping[str, str]:
    return {_key_form(field): field for field in fields}


def _take(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[dict[str, str], set[str]] | _Failure:
    """Takes the fields of an object, or those of the only example in it.

    Returns:
      The fields and what was mended, or why the object is not complete.
    """
    taken = _take_fields(candidate, fields)
    if not isinstance(taken, _Failure) or taken.is_mixed:
        return taken
    inside = _take_inside(candidate, fields)
    return taken if inside is None or (isinstance(inside, _Failure) and inside.rank <= taken.rank) else inside


def _take_fields(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[dict[str, str], set[str]] | _Failure:
    repairs: set[str] = set()
    values: Mapping[str, Any] = candidate
    missing = [field for field in fields if field not in candidate]
    if missing or len(candidate) != len(fields) or isinstance(candidate, _Object):
        by_field = _by_field(candidate, fields)
        if isinstance(by_field, _Failure):
            return by_field
        values, repairs = by_field
        missing = [field for field in fields if field not in values]
    rank = len(fields) - len(missing)
    if missing:
        if not candidate:
            return _Failure(rank, "wrong_shape", "the object is empty")
        return _Failure(rank, "missing_field", _line("missing: " + ", ".join(missing)))
    found: dict[str, str] = {}
    wrong: list[str] = []
    blank: list[str] = []
    for field in fields:
        value = values[field]
        text = _text_beside_type(value)
        if text is not None:
            value = text
            repairs.add("wrapped_object")
        if not isinstance(value, str):
            wrong.append(f"{field} is {_kind(value)}")
            continue
        found[field] = clean_text(value).strip()
        if not found[field]:
            blank.append(field)
        elif found[field] != value.strip():
            repairs.add("surrogates")
    if wrong:
        return _Failure(rank, "wrong_type", _line("; ".join(wrong)))
    if blank:
        return _Failure(rank, "empty_field", _line("blank: " + ", ".join(blank)))
    return found, repairs


def _text_beside_type(value: object) -> str | None:
    """Finds the only text in the place of a field, where a model repeats the schema and puts the text into it."""
    if not isinstance(value, dict) or value.get("type", "string") != "string":
        return None
    texts = {value[name] for name in _TEXT_NAMES if isinstance(value.get(name), str)}
    return texts.pop() if len(texts) == 1 else None


_TEXT_NAMES = ("value", "const", "default", "example")


def _by_field(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[dict[str, Any], set[str]] | _Failure:
    """The values of an object by the field that their key stands for, or why a field has two."""
    forms = _forms(fields)
    repairs: set[str] = set()
    values: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, value in _pairs(candidate):
        field = key if key in fields else forms.get(_key_form(key))
        if field is None:
            repairs.add("extra_keys")
            continue
        if "\\" in key and isinstance(value, str):  # the reply was escaped for Markdown
            value = value.replace("\\_", "_")
        if field in values:
            if not _is_same(values[field], value):
                return _mixed_failure(fields, field)
            repairs.add("repeated_keys")
        if keys.get(field) != field:
            keys[field], values[field] = key, value
    if any(key != field for field, key in keys.items()):
        repairs.add("key_spelling")
    return values, repairs


def _is_same(one: object, other: object) -> bool:
    return isinstance(one, str) and isinstance(other, str) and one.strip() == other.strip()


def _mixed_failure(fields: Sequence[str], twice: str) -> _Failure:
    """The failure of an object that holds two examples; it outranks those of what is merely incomplete."""
    return _Failure(
        len(fields) + 1, "wrong_shape", f"two examples in one object: {twice} twice, with other values", True
    )


def _astray_failure(fields: Sequence[str]) -> _Failure:
    return _Failure(len(fields), "not_json", "too broken to tell its other keys from its text")


def _take_inside(root: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[dict[str, str], set[str]] | _Failure | None:
    """Takes the fields of the only example inside an object that is none itself.

    Returns:
      The fields and what was mended; or why there are none, which is the failure that came nearest; None where there is
      no object inside.
    """
    found: tuple[dict[str, str], set[str]] | None = None
    nearest: _Failure | None = None
    around: Mapping[str, str] = _texts_of(root, fields)
    waiting: list[tuple[object, int, Mapping[str, str]]] = [(value, 0, around) for value in _children(root, fields)]
    while waiting:
        value, strings, around = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, strings, around) for item in value)
        elif isinstance(value, str):
            known, inner = _exact(value) if strings < _MAX_STRINGS and _JSON_START.match(value) else (False, None)
            if known:
                waiting.append((inner, strings + 1, around))
        elif isinstance(value, dict):
            taken = _take_fields(value, fields)
            if not isinstance(taken, _Failure) and all(map(_DESCRIPTION.match, taken[0].values())):
                taken = _Failure(len(fields), "wrong_shape", "a schema: the values say what is to stand there")
            if isinstance(taken, _Failure):
                if taken.is_mixed:
                    return taken
                if nearest is None or taken.rank > nearest.rank:
                    nearest = taken
                around = {**around, **_texts_of(value, fields)}
                waiting.extend((child, strings, around) for child in _children(value, fields))
            elif (found is not None and found[0] != taken[0]) or any(
                taken[0][field] != text for field, text in around.items()
            ):
                return _Failure(len(fields) + 1, "wrong_shape", "there are several examples in one object", True)
            else:
                mended = taken[1] | {"wrapped_object"} | ({"json_string"} if strings else set())
                found = (taken[0], mended if found is None else mended & found[1])
    return found if found is not None else nearest


def _texts_of(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, str]:
    """The fields that an incomplete object has as texts: an example inside it must not have others."""
    forms = _forms(fields)
    texts = ((forms.get(_key_form(key)), value) for key, value in _pairs(candidate))
    return {field: value.strip() for field, value in texts if field is not None and isinstance(value, str)}


def _children(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> Iterator[object]:
    """The values of an object that may hold an example: a field's own text is no place for one."""
    forms = _forms(fields)
    for key, value in _pairs(candidate):
        if isinstance(value, (dict, list)) or (isinstance(value, str) and _key_form(key) not in forms):
            yield value


_JSON_START = re.compile(r'\s*[\[{"]')
_DESCRIPTION = re.compile(
    r"\W*(?:(?:an?\s+)?(?:string|str|text)\b\W*(?:$|[,:;(–-])|(?:the|an?)\s+(?:input text|(?:in)?correct label)\b)",
    re.I,
)
"""A value that says what is to stand there: its type, or the prompt's own words for it."""


def _repeats(source: str, repaired: object, fields: Sequence[str]) -> bool:
    """Whether a key of a broken text comes twice in one object.

    json_repair keeps the last value of such a key, or makes two objects out of one.
    """
    objects = list(_every_dict(repaired))
    forms = [frozenset(map(_key_form, each)) for each in objects]
    found: dict[str, int] = {}
    for match in _KEY.finditer(source):
        form = _key_form(match[1])
        found[form] = found.get(form, 0) + 1
    return len(objects) > source.count("{") or any(
        found.get(form, 0) > sum(form in each for each in forms) for form in map(_key_form, fields)
    )


_KEY = re.compile(r"""["'“”‘’]([^"'“”‘’\n]{1,100})["'“”‘’]\s*:""")


def _every_dict(value: object) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _cut_failure(read: _Read, fields: tuple[str, ...]) -> _Failure:
    """The failure of what the text ends inside of: of a read, or of an object that was repaired."""
    keys = [
        read.key,
        *itertools.chain.from_iterable(each for each in (*read.open, read.value) if isinstance(each, dict)),
    ]
    forms = _forms(fields)
    rank = len({_key_form(key) for key in keys} & forms.keys())
    return _Failure(rank, "truncated", f"the reply ends inside its object, with {rank} of {len(fields)} fields begun")


def _choose(
    value: object, finish_reason: FinishReason, fields: tuple[str, ...], repairs: set[str], strings: int
) -> Parsed[dict[str, str]] | Refusal:
    """Takes the first complete object of an exact JSON value.

    Args:
      value: what was read.
      finish_reason: why the model stopped.
      fields: the keys that must be there.
      repairs: what was mended so far.
      strings: in how many JSON strings the value stands.
    """
    if isinstance(value, dict):  # the common case
        taken = _take(value, fields)
        if isinstance(taken, _Failure):
            return Refusal(reason=taken.reason, detail=taken.detail)
        return Parsed(value=taken[0], repairs=tuple(sorted(repairs | taken[1])))
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(text, str) and strings < _MAX_STRINGS:
        inner = _parse_object(text, finish_reason, fields, strings + 1)
        if isinstance(inner, Parsed):
            repairs |= {*inner.repairs, "json_string"}
            return dataclasses.replace(inner, repairs=tuple(sorted(repairs)))
        if _JSON_START.match(text):
            return inner
    failures: list[_Failure] = []
    found: dict[str, str] | None = None
    seen = 0
    for candidate in _dicts(value):
        seen += 1
        if found is not None:
            break
        taken = _take(candidate, fields)
        if isinstance(taken, _Failure):
            failures.append(taken)
        else:
            found, mended = taken
            repairs |= mended
    if found is not None:
        if seen > 1:
            repairs.add("several_objects")
        elif isinstance(value, list):
            repairs.add("one_element_list")
        return Parsed(value=found, repairs=tuple(sorted(repairs)))
    if failures:
        best = max(failures, key=lambda failure: failure.rank)
        return Refusal(reason=best.reason, detail=best.detail)
    return Refusal(reason="wrong_shape", detail=f"expected an object, found {_kind(value)}")


def _object_ends(text: str, start: int) -> list[int]:
    """Where a broken object that starts at `start` may end, the most likely first.

    Before the next object, since json_repair would let the last of several win; at the last brace, since it would draw
    prose behind it into the last value; at the end of the text if there is no brace.
    """
    between = _BETWEEN_OBJECTS.search(text, start)
    ends = [between.start() + 1] if between else []
    last = text.rfind("}", start) + 1
    ends.append(last if last > start else len(text))
    return list(dict.fromkeys(ends))


_BETWEEN_OBJECTS = re.compile(r"\}[\s,]*\{")


# ------------------------------------------------------------------------------------------------ lists


@dataclasses.dataclass(slots=True)
class _Items:
    """The items of one list, good and bad."""

    good: list[str]
    refused: list[tuple[str, str, str]]
    repairs: set[str]
    cut: bool = False
    is_amid_talk: bool = False  # of lines: `_is_amid_talk`


def _items(
    read: _Read, finish_reason: FinishReason, mark: str | None = None, source: str | None = None
) -> _Items | None:
    """A value -> the items of the list that it is or holds; None if there is no list.

    Args:
      read: the value, and which of its containers were still open where the text ended.
      finish_reason: why the model stopped.
      mark: what marks the end of the text that was repaired; an item that holds it was cut off.
      source: the text that was repaired; an item that cannot be found whole in it is refused, and its neighbours, which
        may be other parts of the same string.
    """
    repairs: set[str] = set()
    root: Any = read.value
    while True:
        if isinstance(root, dict):
            inner = _lists_in(root)
            if len(inner) > 1 and any(_json(other) != _json(inner[0]) for other in inner):
                if isinstance(root, _Object) and root.earlier:
                    detail = "two lists in one object: a key twice, with other values"
                    return _Items([], [("wrong_shape", detail, _json(other)) for other in inner], repairs)
                return None
            if not inner:
                return None
            root = inner[0]
            repairs.add("wrapped_list")
        elif isinstance(root, list) and len(root) == 1 and _holds_list(root[0]):
            root = root[0]
            repairs.add("one_element_list")
        elif isinstance(root, list) and len(root) == 1 and _list_in_string(root[0]) is not None:
            root = _list_in_string(root[0])
            repairs.add("json_string")
        else:
            break
    if not isinstance(root, list):
        return None
    entries: list[object] = list(root)
    cut = False
    if any(root is container for container in read.open):
        is_innermost = read.open[-1] is root
        complete = is_innermost and read.after_value and finish_reason == "stop"
        if entries and not complete and (not is_innermost or read.after_value):
            entries.pop()
        cut = not complete
        repairs.add("cut_list" if cut else "missing_close")
    elif read.open:
        repairs.add("missing_close")
    items = _Items([], [], repairs, cut)
    split = [source is not None and not _is_entry(source, entry) for entry in entries]
    for place, entry in enumerate(entries):
        if isinstance(entry, str) and entry.lstrip().startswith("{"):
            known, decoded = _exact(entry)
            if known and isinstance(decoded, dict) and any(map(_is_text, _named(decoded, "task"))):
                entry = decoded
                repairs.add("json_string")
        if mark is not None and mark in _flat(entry):
            items.cut = True
            repairs.add("cut_list")
            continue
        value = entry
        if isinstance(entry, dict):
            if entry.keys() == {"type"}:  # of JSON Schema
                items.refused.append(("wrong_shape", "a schema: the item says what is to stand there", _json(entry)))
                continue
            named = _named(entry, "task")
            if not named:
                texts = [text for _, text in _pairs(entry) if len(entry) == 1 or isinstance(text, str)]
                named = texts if len(texts) == 1 or len(entry) == 1 else [entry]
            value = named[0]
            if not all(_is_same(value, other) for other in named[1:]):
                several = _json([dict([pair]) for pair in _pairs(entry)])
                items.refused.append(
                    ("wrong_shape", "two items in one object: a key twice, with other values", several)
                )
                continue
        if not isinstance(value, str):
            items.refused.append(("wrong_type", f"an item is {_kind(value)}, not a string", _json(entry)))
            continue
        if any(split[max(place - 1, 0) : place + 2]):
            items.refused.append(("wrong_type", "quotation marks too broken to tell items apart", _json(entry)))
            continue
        good = clean_text(value).strip()
        if not good:
            items.refused.append(("empty_field", "an item is blank", _json(entry)))
            continue
        if value is not entry:
            repairs.add("object_items")
        if good != value.strip():
            repairs.add("surrogates")
        items.good.append(good)
    return items


def _whole_list(
    value: object, finish_reason: FinishReason, repairs: set[str], strings: int
) -> Parsed[tuple[str, ...]] | Refusal:
    """The items of an exact JSON value; the arguments are those of `_choose`."""
    if isinstance(value, str) and strings < _MAX_STRINGS and _JSON_START.match(value):
        inner = _parse_list(value, finish_reason, strings + 1)
        if isinstance(inner, Refusal):
            return inner
        return dataclasses.replace(inner, repairs=tuple(sorted(repairs | {*inner.repairs, "json_string"})))
    items = _items(_Read.whole(value), finish_reason)
    if items is None:
        return Refusal(reason="wrong_shape", detail=f"expected a list of strings, found {_kind(value)}")
    return _collect([items], repairs)


def _lists_in(root: Mapping[str, Any]) -> list[Any]:
    """The lists that an object holds, or the object or JSON string that may hold them further inside."""
    values = [value for _, value in _pairs(root)]
    if isinstance(root.get("properties"), dict):  # a JSON Schema, maybe with a list in the place of its type
        return [root["properties"]]
    for name in _LIST_KEYS:
        named = [value for value in _named(root, name) if isinstance(value, list)]
        if named:
            return named
    lists = [value for value in values if isinstance(value, list)]
    if lists or any(map(_is_text, _named(root, "task"))):
        return lists
    if all(map(_is_text, values)) and len(values) > 1 and not getattr(root, "earlier", ()):
        names = {_NUMBERED.sub("", key) if _NUMBERED.search(key) else None for key in root}
        if len(names) == 1 and None not in names:
            return [values]
    inner = [value for value in values if isinstance(value, dict)]
    return inner or [found for found in map(_list_in_string, values) if found is not None]


_LIST_KEYS = ("tasks", "labels")
_NUMBERED = re.compile(r"\d{1,3}$")  # keys such as "1" or "task_2", in an object in the place of a list


def _named(candidate: Mapping[str, Any], name: str) -> list[Any]:
    """The values of an object under a name, in whatever spelling."""
    return [value for key, value in _pairs(candidate) if key == name or _key_form(key) == name]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _unescaped(text: str) -> str | None:
    """Reads what stands in a text as it would in a JSON string: {\\"label\\": \\"a\\"}; None where nothing does."""
    start = _ESCAPED_START.search(text)
    if start is None:
        return None
    end = max(text.rfind("}"), text.rfind("]")) + 1
    try:
        found: object = json.loads(f'"{text[start.start() : end]}"', strict=False)
    except ValueError:
        return None
    return found if isinstance(found, str) else None


_ESCAPED_START = re.compile(r'[\[{](?:\s|\\[nrt])*\\"')


def _list_in_string(value: object) -> object:
    """The list or object that a string holds as JSON; None if it holds none."""
    if not isinstance(value, str) or not _JSON_START.match(value):
        return None
    for _ in range(_MAX_STRINGS):
        known, value = _exact(value) if isinstance(value, str) else (False, None)
        if known and isinstance(value, list):
            return value
        if known and isinstance(value, dict) and _lists_in(value):
            return value
    return None


def _holds_list(value: object) -> bool:
    return isinstance(value, list) or (
        isinstance(value, dict) and any(isinstance(inner, list) for inner in value.values())
    )


def _collect(lists: Sequence[_Items], repairs: set[str]) -> Parsed[tuple[str, ...]] | Refusal:
    """Lists -> one, or why there is no good item in it."""
    good = [item for items in lists for item in items.good]
    refused = [entry for items in lists for entry in items.refused]
    if not good:
        if refused:
            reason, detail, _ = refused[0]
            return Refusal(reason=reason, detail=_line(f"no good item among {len(refused)}; the first: {detail}"))
        if any(items.cut for items in lists):
            return Refusal(reason="truncated", detail="the reply ends inside the first item of its list")
        return Refusal(reason="wrong_shape", detail="the list is empty")
    mended = repairs.union(*(items.repairs for items in lists))
    if len(lists) > 1:
        mended.add("several_lists")
    return Parsed(value=tuple(good), repairs=tuple(sorted(mended)), refused=tuple(refused))


def _list_ends(text: str, start: int) -> list[int]:
    """Where a broken list that starts at `start` may end: at the first bracket that ends a line, at the last one, or at
    the end of the text if there is none."""
    closer = "]" if text[start] == "[" else "}"
    first = re.compile(re.escape(closer) + r"[ \t]*(?:\n|\Z)").search(text, start)
    ends = [first.start() + 1] if first else []
    last = text.rfind(closer, start) + 1
    ends.append(last if last > start else len(text))
    return list(dict.fromkeys(ends))


_BULLET = re.compile(
    r"^(?P<indent>[ \t]*)(?:\*\*|__)?(?:[-*•–—‣◦▪·+](?=[ \t]|$)|\(?\d{1,4}[.)](?!\d))(?:\*\*|__)?[ \t]*(?P<text>.*)$"
)
_BULLET_LINE = re.compile(_BULLET.pattern, re.MULTILINE)
_WRAPS = (("**", "**"), ("__", "__"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("`", "`"))


def _lines(text: str, finish_reason: FinishReason) -> _Items | None:
    """Numbered or bulleted lines -> their texts; None if there is no such line.

    An indented line without a bullet goes with the line above.
    """
    found: list[str] = []
    before = after = False  # whether there is other text
    continues = False
    for line in text.splitlines():
        match = _BULLET.match(line)
        if match:
            found.append(match["text"].strip())
            before = before or after
            after = False
            continues = True
        elif not line.strip():
            continues = False
        elif continues and line[0] in " \t":
            found[-1] = f"{found[-1]} {line.strip()}"
        else:
            continues = False
            after = after or not _FENCE_LINE.fullmatch(line.strip())
    if not found:
        return None
    items = _Items([], [], {"line_list"}, is_amid_talk=before and after and finish_reason == "length")
    if before or after:
        items.repairs.add("prose")
    if "```" in text:
        items.repairs.add("fence")
    if finish_reason == "length" and continues and not text.endswith("\n"):
        found.pop()
        items.cut = True
        items.repairs.add("cut_list")
    for item in found:
        cleaned = clean_text(_unwrap(item))
        if cleaned:
            items.good.append(cleaned)
        else:
            items.refused.append(("empty_field", "an item is blank", _json(item)))
    return items


def _unwrap(item: str) -> str:
    """The text of a bulleted line -> without the comma, bold and quotes that stand around all of it."""
    while True:
        before = item
        item = item.rstrip(", \t").strip()
        for left, right in _WRAPS:
            inner = item[len(left) : -len(right)]
            if len(item) > len(left + right) and item.startswith(left) and item.endswith(right):
                # An apostrophe inside single quotes is no quotation mark; two quoted parts are no quoted whole.
                inside = re.sub(r"(?<=\w)['’](?=\w)", "", inner)
                if left not in inside and right not in inside:
                    item = inner
            elif item in (left + right, left):
                item = ""
        if item == before:
            return item


def _bullet_texts(text: str) -> list[tuple[int, int]]:
    """Text -> where the texts of its bulleted lines begin and end, in order."""
    return [match.span("text") for match in _BULLET_LINE.finditer(text)]


# ------------------------------------------------------------------------------------ around the value

_FENCE = re.compile(r"(?:```|~~~)(?:[ \t]*[A-Za-z][\w+.-]*)?[ \t]*(?=[\r\n`~\[{]|\Z)|```|~~~")
_BRACKETS = " \t\r\n,[]{}"
_FENCE_LINE = re.compile(r"(?:```|~~~)[ \t]*[\w+.-]*")
_DRAFT = Refusal(reason="truncated", detail="the token limit fell in the talk behind the value, which may be a draft")


def _prepare(text: str, finish_reason: FinishReason) -> tuple[str, set[str]] | Refusal:
    """A reply -> the part of it that answers, and what had to be taken away for that."""
    repairs: set[str] = set()
    body = text.lstrip("\ufeff \t\r\n")
    if "\ufeff" in text[: len(text) - len(body)]:
        repairs.add("bom")
    answer = find_answer(body, finish_reason, functools.partial(_values, body))
    if answer is None:
        return Refusal(reason="truncated", detail="the reply ends inside the model's reasoning")
    if answer.has_reasoning:
        repairs.add("reasoning")
    if len(body) - len(answered := drop_end_tokens(body[answer.start : answer.end])) and not answer.has_reasoning:
        repairs.add("prose")
    body = answered
    if not _unfence(body).strip():
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
    """The JSON values in a text from a position on, in which marks of reasoning mark nothing.

    A bracket in prose that is never closed is none: a string that a draft left open may have swallowed the mark, and
    the answer behind it. Nor is one whose strings, with quotation marks astray, go on to the end. Of a text past the
    limit of the reader nothing is known.
    """
    if len(text) - start > READ_MAX_CHARS:
        return []
    found = []
    last_closer = max(text.rfind("}"), text.rfind("]")) + 1
    for read in _scan(text, rescan_cut=True, start=start):
        is_sure = read.status != "bad" and "inner_quotes" not in read.repairs
        is_value = read.is_data or read.status == "ok" or bool(_DATA.match(text, read.start))
        if is_value and (is_sure or read.status != "cut"):
            is_whole = read.status == "ok" and (read.is_data or bool(_flat(read.value)))
            # Where a broken value ends, only the repair can tell.
            end = max(read.end, last_closer) if read.status == "bad" else read.end
            found.append(Value(read.start, end, is_whole, is_sure))
    return found


def _parts_that_answer(text: str) -> Iterator[str]:
    """Lists what of a text is more likely its answer than the whole, the most likely first.

    What follows a heading such as "Final answer:", and what stands in no element: a model that is not trained to reason
    may call its drafts by any name, as in `<plan>...</plan>` or `[DRAFT]...[/DRAFT]`.
    """
    headings = list(_HEADING.finditer(text))
    has_elements = "</" in text or "[/" in text
    if len(text) > READ_MAX_CHARS or not (headings or has_elements):
        return
    reads = list(_scan(text, rescan_cut=True))
    values = [(read.start, read.end) for read in reads if read.status != "bad" and read.is_data]
    starts = [start for start, _ in values]

    def is_outside(position: int) -> bool:
        place = bisect.bisect_right(starts, position) - 1
        return place < 0 or values[place][1] <= position

    outside = [match.end() for match in headings if is_outside(match.start())]
    if outside:
        yield text[outside[-1] :]
    # What a broken value holds cannot be told from what stands behind it.
    broken = min((read.start for read in reads if read.status == "bad" and read.is_data), default=len(text))
    elements: list[tuple[int, int]] = []
    opened: dict[str, int] = {} if broken < len(text) else dict.fromkeys(_names_closed(text), 0)
    for match in _ELEMENT.finditer(text) if has_elements else ():
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


def _names_closed(text: str) -> Iterator[str]:
    """Names the elements that a text closes; one that it never opens was opened by a chat template."""
    return (match["name"].lower() for match in _ELEMENT.finditer(text) if match["slash"])


_ELEMENT = re.compile(r"[<\[](?P<slash>/?)(?P<name>[^\W\d][\w:.-]{0,40})(?:\s[^<>\[\]\n]{0,80})?[>\]]")
_ANSWER_NAME = re.compile(
    r"(?:final\W?)?(?:answer|response|output|result|solution|final|json|tasks?|labels?|lists?|items?|examples?|objects?)"
    r"|[biu]|em|strong|p|[uo]l|li|pre|code|div|span"
)
"""Elements that a model puts its answer into, or that only say how it is to look."""
_HEADING = re.compile(
    r"^[ \t>*#_]{0,8}(?:[\w'’]{1,12}[ \t]+){0,4}(?:final|answer|response|output|result|corrected|revised|improved)\b"
    r"[^\n{\[:]{0,30}(?::[ \t*_]*\n?|\n)[ \t*]*\n?(?:```\w*\s*)?(?=[\[{])",
    re.IGNORECASE | re.MULTILINE,
)
"""A line of its own, or the beginning of one, that says that the answer follows."""


def start_of_answer(reasoning: str) -> int | None:
    """Finds the answer in a reasoning that a model never closed: the JSON value at its end.

    Returns:
      Where the value begins; 0 where the text holds none at all, or marks that tell; None where others stand in it.
    """
    body = drop_end_tokens(reasoning)
    marked = find_answer(body, "stop", functools.partial(_values, body))
    if marked is None or marked.has_reasoning or len(body) > READ_MAX_CHARS:
        return 0
    start, end = 0, len(body)
    for read in _scan(body, rescan_cut=True):
        if read.is_data or _flat(read.value):
            start, end = read.start, read.end
            if read.status == "bad":  # it may be mended, and what stands in it cannot be told from what follows
                end = max(end, body.rfind("}") + 1, body.rfind("]") + 1)
                break
    if _unfence(body[end:]).strip(_BRACKETS):
        return None
    return start if _unfence(body[:start]) else 0


def answer_text(text: str, finish_reason: FinishReason) -> str | None:
    """The part of a reply that answers, without reasoning, fences and tokens that end a turn; None where there is none.

    For answers of a word or two, which need no JSON.
    """
    prepared = _prepare(text, finish_reason)
    return None if isinstance(prepared, Refusal) else _unfence(prepared[0])


def _is_amid_talk(before: str, after: str, finish_reason: FinishReason) -> bool:
    """Whether a value stands in the middle of talk that the token limit cut off."""
    return finish_reason == "length" and all(_unfence(text).strip(_BRACKETS) for text in (before, after))


def _unfence(text: str) -> str:
    """Text -> without the marks of fenced code blocks."""
    return _FENCE.sub("", text).strip("\ufeff \t\r\n`")


def _around(text: str, reads: Sequence[_Read]) -> set[str]:
    """Text and the values in it -> what names the text around them."""
    parts: list[str] = []
    position = 0
    for read in reads:
        if read.start < position or (read.status == "bad" and not any(True for _ in _dicts(read.value))):
            continue
        parts.append(text[position : read.start])
        position = read.end
    parts.append(text[position:])
    return _outside("\n".join(parts))


def _outside(text: str) -> set[str]:
    """The text around values -> the names of what it is."""
    found: set[str] = set()
    if "```" in text or "~~~" in text:
        found.add("fence")
    if _unfence(text).strip(_BRACKETS):
        found.add("prose")
    return found


def _nothing_found(
    text: str, finish_reason: FinishReason, reads: Sequence[_Read], too_big: bool, wanted: str
) -> Refusal:
    if any(read.status == "cut" for read in reads):
        return Refusal(reason="truncated", detail="the reply ends before its structure does")
    for read in reads:
        if read.status == "ok":
            return Refusal(reason="wrong_shape", detail=f"expected {wanted}, found {_kind(read.value)}")
    if finish_reason == "length":
        return Refusal(reason="truncated", detail=f"the reply reached the token limit before {wanted} was there")
    if too_big:
        return Refusal(
            reason="not_json",
            detail=f"not valid JSON, and too large to be repaired ({len(text):,} characters; the limit is "
            f"{REPAIR_MAX_CHARS:,}, fewer with many quotation marks)",
        )
    return Refusal(reason="not_json", detail=_line(f"no JSON in: {text[:150].strip()}"))


# -------------------------------------------------------------------------------------------- reader 1


class _LongNumber:
    """A number of so many digits that Python may refuse to read it."""

    __slots__ = ("digits",)

    def __init__(self, digits: str) -> None:
        self.digits = digits


def _integer(digits: str) -> int | _LongNumber:
    return int(digits) if len(digits) <= _MAX_DIGITS else _LongNumber(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Object(pairs)


_DECODER = json.JSONDecoder(parse_int=_integer, object_pairs_hook=_object)


def _exact(text: str) -> tuple[bool, object]:
    """Text -> whether it is JSON and nothing else, and its value."""
    try:
        return True, _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False, None


# -------------------------------------------------------------------------------------------- reader 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What the tolerant reader made of the text from one opening bracket on."""

    start: int
    end: int  # behind the value, or where reading stopped
    value: object
    status: Literal["ok", "cut", "bad"]  # complete; the text ended before it did; not this notation
    open: tuple[object, ...]  # the containers that were not closed, the outermost first
    key: str  # the last key of the innermost of them, if it is an object; its value may be missing
    after_value: bool  # the innermost of them had just got a whole value, with nothing behind it
    is_data: bool  # a comma or colon was read, so this is no bracket in prose
    repairs: set[str]

    @classmethod
    def whole(cls, value: object) -> _Read:
        return cls(
            start=0, end=0, value=value, status="ok", open=(), key="", after_value=False, is_data=True, repairs=set()
        )


class _Stop(Exception):
    """Reading cannot go on."""

    def __init__(self, status: Literal["cut", "bad"], position: int) -> None:
        super().__init__(status)
        self.status: Literal["cut", "bad"] = status
        self.position = position


_OPENER = re.compile(r"[\[{｛［]")
_SPACE = re.compile(r"[\s\ufeff\u200b]*")
_WORD = re.compile(r"[^\W\d][\w$-]*")
_BARE_KEY = re.compile(r"[^\W\d](?:[\w$-]|\\_| (?=[^\W\d][\w ]{0,30}[:：]))*")
_NUMBER = re.compile(r"[-+]?[0-9.][\w.+-]*|-")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_PLAIN = frozenset("[]{},:\"'")
_GOES_ON = re.compile(r"[ \t]*\w")  # no notation has a word behind a string: this quotation mark closes nothing
_CONTROL = re.compile(r"[\x00-\x1f]")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}|\r\n|.)", re.DOTALL)
_JSON_ESCAPE = re.compile(r"\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})")
_ESCAPES: Final = {
    **{'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"},  # RFC 8259, section 7
    **{"'": "'", "\n": "", "\r\n": ""},  # Python, "String and Bytes literals"
}
_COMMAS: Final = frozenset(",，﹐､、،؛;；︐︑︔՝፣፤᠂߸")
"""JSON's, full-width, Japanese and Chinese, Arabic, Armenian, Ethiopic, Mongolian, N'Ko, and semicolons."""
_COLONS: Final = frozenset(":：﹕︰︓∶꞉ː፡፥")
_PAIRED: Final = {"「": "」", "『": "』", "｢": "｣", "«": "»", "»": "«", "‹": "›", "›": "‹"}  # nest in one another
_STRING_STOPS: Final = {
    '"': re.compile(r'["\\]'),
    "'": re.compile(r"['\\]"),
    **dict.fromkeys("“”„", re.compile(r"[“”\\]")),
    **dict.fromkeys("‘’‚", re.compile(r"[‘’\\]")),
    **dict.fromkeys("〝〞〟", re.compile(r"[〝〞〟\\]")),
    **dict.fromkeys("❝❞", re.compile(r"[❝❞\\]")),
    **{quote: re.compile(rf"[{quote}\\]") for quote in "＂＇″`"},
    **{left: re.compile(rf"[{left}{right}\\]") for left, right in _PAIRED.items()},
    '"""': re.compile(r'"""|\\'),
    "'''": re.compile(r"'''|\\"),
}
_LITERALS: Final[Mapping[str, object]] = {
    **{"true": True, "false": False, "null": None},
    **{"True": True, "False": False, "None": None, "undefined": None},
    **{"NaN": float("nan"), "Infinity": float("inf")},
}
_OPENERS: Final = frozenset("{[｛［")


class _Reader:
    """Reads one object or list. Works with a stack of its own, so that depth costs no recursion."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.start = start
        self.position = start
        self.root: object = None
        self.stack: list[_Object | list[object]] = []
        self.keys: list[str | None] = []
        self.repairs: set[str] = set()
        self.is_data = False
        self.after_value = False

    def read(self) -> _Read:
        status: Literal["ok", "cut", "bad"] = "ok"
        try:
            self._read()
        except _Stop as stop:
            status, self.position = stop.status, stop.position
        return _Read(
            start=self.start,
            end=self.position,
            value=self.root,
            status=status,
            open=tuple(self.stack),
            key=self.keys[-1] or "" if self.keys else "",
            after_value=self.after_value,
            is_data=self.is_data,
            repairs=self.repairs,
        )

    def _read(self) -> None:
        self._open(self.text[self.position])
        while self.stack:
            container = self.stack[-1]
            char = self._next()
            closers = "}｝" if isinstance(container, dict) else "]］"
            if self.after_value:
                if char in closers:
                    self._close()
                elif char == "," or char in _COMMAS:
                    self._punctuate(char)
                    self.after_value = False
                    if self._next() in closers:
                        self.repairs.add("trailing_comma")
                        self._close()
                else:
                    self._join(container, char)
                continue
            if char in closers and not container:
                self._close()
                continue
            if isinstance(container, dict):
                self.keys[-1] = self._key(char)
                colon = self._next()
                if colon not in _COLONS:
                    raise _Stop("bad", self.position)
                self._punctuate(colon)
                char = self._next()
            if char in _OPENERS:
                self._open(char)
            else:
                self._put(self._scalar(char))
                self.after_value = True

    def _next(self) -> str:
        """-> the next character that is neither space nor in a comment."""
        text = self.text
        if text[self.position : self.position + 1] in _PLAIN:  # the common case, without a regular expression
            return text[self.position]
        while True:
            begin = self.position
            match = _SPACE.match(text, begin)
            self.position = match.end() if match else begin
            if self.position == len(text) or text.startswith("```", self.position):
                raise _Stop("cut", self.position)
            char = text[self.position]
            if text.startswith("/*", self.position):
                end = text.find("*/", self.position + 2)
                end = end + 2 if end >= 0 else len(text)
            elif char == "#" or text.startswith("//", self.position):
                end = text.find("\n", self.position)
                end = end if end >= 0 else len(text)
            elif char == "/" and self.position + 1 == len(text):
                raise _Stop("cut", len(text))
            else:
                return char
            self.repairs.add("comments")
            self.position = end

    def _punctuate(self, char: str) -> None:
        """Steps over a comma or colon. One of another script may also stand in a text whose quotation marks are astray,
        so that the two together tell nothing."""
        if char not in ",:":
            self.repairs.add("punctuation")
            if "inner_quotes" in self.repairs:
                raise _Stop("bad", self.position)
        self.position += 1
        self.is_data = True

    def _open(self, bracket: str) -> None:
        if len(self.stack) == _MAX_DEPTH:
            raise _Stop("bad", self.position)
        if bracket in "｛［":
            self.repairs.add("punctuation")
        container: _Object | list[object] = _Object() if bracket in "{｛" else []
        if self.stack:
            self._put(container)
        else:
            self.root = container
        self.stack.append(container)
        self.keys.append(None)
        self.after_value = False
        self.position += 1

    def _close(self) -> None:
        self.stack.pop()
        self.keys.pop()
        self.position += 1
        self.after_value = True

    def _put(self, value: object) -> None:
        container = self.stack[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            container.put(self.keys[-1] or "", value)

    def _key(self, char: str) -> str:
        if self._quote(char):
            return self._string(char, is_key=True)
        word = _BARE_KEY.match(self.text, self.position)
        if word is None:
            raise _Stop("bad", self.position)
        if word.end() == len(self.text):
            raise _Stop("cut", word.end())
        self.repairs.add("bare_keys")
        self.position = word.end()
        return word[0]

    def _scalar(self, char: str) -> object:
        if self._quote(char):
            return self._string(char)
        token = _WORD.match(self.text, self.position) or _NUMBER.match(self.text, self.position)
        if token is None:
            raise _Stop("bad", self.position)
        if token.end() == len(self.text):
            raise _Stop("cut", token.end())
        if token[0] in _LITERALS:
            if token[0] not in ("true", "false", "null"):
                self.repairs.add("literals")
            value = _LITERALS[token[0]]
        elif _JSON_NUMBER.fullmatch(token[0]):
            value = _DECODER.decode(token[0])
        else:
            raise _Stop("bad", self.position)
        self.position = token.end()
        return value

    def _quote(self, char: str) -> bool:
        return char in _STRING_STOPS

    def _string(self, quote: str, is_key: bool = False) -> str:
        """The string that starts here -> its value, with the position behind it."""
        text = self.text
        if quote in "\"'" and text.startswith(quote * 3, self.position):
            quote *= 3
        stops = _STRING_STOPS[quote]
        begin = at = self.position + len(quote)
        escaped = False
        depth = 0
        while True:
            match = stops.search(text, at)
            if match is None:
                raise _Stop("cut", len(text))
            if match[0] == "\\":
                escaped = True
                at = match.end() + 1
            elif quote in _PAIRED and (match[0] == quote or depth):
                depth += 1 if match[0] == quote else -1
                at = match.end()
            elif len(quote) == 1 and not is_key and _GOES_ON.match(text, match.end()):
                self.repairs.add("inner_quotes")
                if "punctuation" in self.repairs:
                    raise _Stop("bad", match.start())
                at = match.end()
            else:
                break
        raw = text[begin : match.start()]
        self.position = match.end()
        if quote != '"':
            self.repairs.add("quotes")
        if _CONTROL.search(raw):
            self.repairs.add("raw_newline")
        return self._unescape(raw) if escaped else raw

    def _unescape(self, raw: str) -> str:
        value = _ESCAPE.sub(_character, raw)
        if any(not _JSON_ESCAPE.match(match[0]) for match in _ESCAPE.finditer(raw)):
            self.repairs.add("escapes")
        # Two escapes of a surrogate pair are one character, as in JSON.
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

    def _join(self, container: _Object | list[object], char: str) -> None:
        """Takes the next string as the rest of the value before it, as Python does.

        In an object only: between the items of a list it is rather a comma that is missing. Strings that touch each
        other are one string with unescaped quotation marks.
        """
        self.after_value = False
        key = self.keys[-1] or ""
        value = container[key] if isinstance(container, dict) else None
        if not isinstance(container, dict) or not isinstance(value, str):
            raise _Stop("bad", self.position)
        if char == "+":
            self.position += 1
            char = self._next()
        elif self.text[self.position - 1] in _STRING_STOPS:
            raise _Stop("bad", self.position)
        if not self._quote(char):
            raise _Stop("bad", self.position)
        at = self.position
        joined = value + self._string(char)
        # Behind a key, what is missing is a comma; with other quotation marks astray, these may be astray too.
        if self._next() == ":" or "inner_quotes" in self.repairs:
            raise _Stop("bad", at)
        container[key] = joined
        self.repairs.add("joined_strings")
        self.after_value = True


def _character(escape: re.Match[str]) -> str:
    """An escape -> what it stands for; of an unknown one the backslash was meant, as in Python."""
    code = escape[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if len(code) > 2 and int(code[1:], 16) <= 0x10FFFF:
        return chr(int(code[1:], 16))
    return escape[0]


def _scan(text: str, *, rescan_cut: bool, start: int = 0) -> Iterator[_Read]:
    """Text -> what can be read from each opening bracket that is not part of something read before.

    Args:
      text: any text.
      rescan_cut: whether to look for values inside a bracket that was never closed and held no comma and no colon.
      start: where in the text to begin.
    """
    allowance = _RESCAN * len(text) + 10_000
    opener = _OPENER.search(text, start)
    while opener:
        read = _Reader(text, opener.start()).read()
        yield read
        allowance -= read.end - read.start
        # A bracket in prose may have drawn the value into a string, so that a second look pays. The allowance is what
        # keeps time linear: of brackets in one another, each fails where the outermost failed.
        inside = read.status == "bad" or (read.status == "cut" and rescan_cut)
        again = inside and not read.is_data and allowance > 0
        opener = _OPENER.search(text, read.start + 1 if again else max(read.end, read.start + 1))


# -------------------------------------------------------------------------------------------- reader 3

_DATA = re.compile(r"""\{\s*(?:["'“”„‘]|\\"|\w+\s*:)|\[\s*(?:["'“”„‘{]|\\"|\[\s*["'“”„‘{])""")


def _repair(text: str) -> tuple[object, str] | None:
    """Broken JSON -> what json_repair makes of it, and the mark that stands in whatever ran into the end of the text.

    None if the text is too large for it.
    """
    quotes = sum(map(text.count, "\"'“”"))
    if len(text) > REPAIR_MAX_CHARS or len(text) * quotes > REPAIR_MAX_WORK:
        return None
    present = set(text)
    mark = next(char for char in map(chr, itertools.count(0xFDD0)) if char not in present)  # Unicode's noncharacters
    try:
        value: object = json_repair.repair_json(text + mark, return_objects=True, skip_json_loads=True)
    except Exception:  # it is made of heuristics: whatever it raises, the text could not be mended
        value = None
    return value, mark


def _plain(text: str) -> str:
    """The text that was repaired -> with its escapes read, to look for values in."""
    return _ESCAPE.sub(_character, text)


def _letters(value: object) -> int:
    """A value, or its text -> how many letters and digits it has, those of keys, numbers and the like included."""
    return sum(map(str.isalnum, _flat(value, scalars=True)))


def _stands(source: str, value: str, then: str = r",\]}\"'“”‘’#/") -> bool:
    """Whether a string stands in the source between quotation marks, with a delimiter of `then` behind it."""
    found = re.search(rf"[\"'“”‘’]\s*{re.escape(value.strip())}\s*[\"'“”‘’]\s*(?:[{then}]|\Z)", source)
    return found is not None


def _is_entry(source: str, entry: object) -> bool:
    """Whether an item of a repaired list stands as such in the source."""
    if isinstance(entry, dict):
        return _is_whole(source, entry)
    return isinstance(entry, str) and _stands(source, entry)


def _is_whole(source: str, candidate: Mapping[str, object]) -> bool:
    """Whether all keys and strings of a repaired object stand as such in the source: that none is part of another."""
    return all(
        _stands(source, key, ":") and (not isinstance(value, str) or _stands(source, value))
        for key, value in candidate.items()
    )


# ----------------------------------------------------------------------------------------------- words


def _kind(value: object) -> str:
    """A JSON value -> what to call it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    return "a number"


def _line(text: str) -> str:
    """Text -> one printable line of at most `_DETAIL_CHARS` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= _DETAIL_CHARS else line[: _DETAIL_CHARS - 1] + "…"


def _flat(value: object, scalars: bool = False) -> str:
    """A value -> all its keys and strings (and, if asked for, its numbers and the like) in one string."""
    parts: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            parts.append(item)
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif scalars:
            parts.append(str(item))
    return "".join(parts)


def _json(value: object) -> str:
    """A value -> its JSON text, storable."""
    try:
        return clean_text(json.dumps(value, ensure_ascii=False, default=lambda number: number.digits))
    except RecursionError:  # the exact reader may go deeper than the writer
        return json.dumps("(nested too deeply to be shown)")
