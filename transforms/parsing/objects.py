"""Objects: what a model replied becomes the fields that were asked for, or a refusal that says why not.

Replies are untrusted: they are read, never run, and no reply raises. Three readers are tried: `json`, the tolerant one
(`reader`), and json_repair (`repair`). Half a text never becomes a row: what the tolerant reader finds cut off is not
handed to json_repair, which would close it. Two examples in one object are never mixed.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from textmint.transforms.core.elements import FinishReason
from textmint.transforms.core.texts import clean_text
from textmint.transforms.parsing.answers import DRAFT, JSON_START, MAX_STRINGS, ReplyReader, around, outside
from textmint.transforms.parsing.reader import Read, read_exact, scan
from textmint.transforms.parsing.repair import Repaired, Repairer, may_be_data
from textmint.transforms.parsing.results import Parsed, Refusal, detail_line
from textmint.transforms.parsing.values import dicts_of, is_same_text, key_form, kind_of, pairs_of, parts_of

EXAMPLE_FIELDS: Final = ("input_text", "label", "misleading_label")
_TEXT_NAMES: Final = ("value", "const", "default", "example")
_BETWEEN_OBJECTS: Final = re.compile(r"\}[\s,]*\{")  # json_repair would let the last of several objects win
_KEY: Final = re.compile(r"""["'“”‘’]([^"'“”‘’\n]{1,100})["'“”‘’]\s*:""")
_DESCRIPTION: Final = re.compile(
    r"\W*(?:(?:an?\s+)?(?:string|str|text)\b\W*(?:$|[,:;(–-])|(?:the|an?)\s+(?:input text|(?:in)?correct label)\b"
    r"|the (?:text to be classified|label that is right)|another (?:possible label|of the labels))",
    re.I,
)
"""A value that describes what it should be: its type, or the words of a prompt for it."""


def parse_object(
    text: str, finish_reason: FinishReason, fields: Sequence[str] = EXAMPLE_FIELDS
) -> Parsed[dict[str, str]] | Refusal:
    """Reads a reply that should be one JSON object with some fields that are strings, in any spelling of their names.

    Of several objects the first complete one is taken; one in another object if it is the only one there. A value that
    is not a string is refused, never converted.
    """
    return _ObjectReader(tuple(fields), finish_reason).read(text)


@dataclasses.dataclass(frozen=True, slots=True)
class _Failure:
    """Why one candidate was not taken."""

    rank: int  # how many of the fields it had; more than there are if it mixes two examples
    reason: str
    detail: str


_Taken = tuple[dict[str, str], set[str]]  # the fields, and what was mended


class _ObjectReader(ReplyReader[dict[str, str]]):
    def __init__(self, fields: tuple[str, ...], finish_reason: FinishReason, strings: int = 0) -> None:
        super().__init__(finish_reason, strings)
        self.fields = fields

    def take(self, value: Any, repairs: set[str]) -> Parsed[dict[str, str]] | Refusal:
        text = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(text, str) and self.strings < MAX_STRINGS:
            inner = _ObjectReader(self.fields, self.finish_reason, self.strings + 1).read(text)
            if isinstance(inner, Parsed):
                return _parsed((inner.value, {*inner.repairs, "json_string"}), repairs)
            if JSON_START.match(text):
                return inner
        failures: list[_Failure] = []
        candidates = list(dicts_of(value))
        for candidate in candidates:
            taken = _take(candidate, self.fields)
            if not isinstance(taken, _Failure):
                return _parsed(taken, repairs | _other_objects(value, len(candidates)))
            failures.append(taken)
        if not failures:
            return Refusal(reason="wrong_shape", detail=f"expected an object, found {kind_of(value)}")
        return _refusal(failures)

    def search(self, body: str, repairs: set[str]) -> Parsed[dict[str, str]] | Refusal:
        reads = list(scan(body, rescan_cut=True))
        failures: list[_Failure] = []
        seen = 0
        chosen: tuple[Read, _Taken] | None = None
        for read in reads:
            for candidate in dicts_of(read.value):
                is_open = any(candidate is container for container in read.open)
                seen += bool(candidate) or (is_open and read.is_data)  # else it is `{}` in prose, or a brace
                taken = self._take_read(read, candidate, is_open) if chosen is None else None
                if isinstance(taken, _Failure):
                    failures.append(taken)
                elif taken is not None:
                    chosen = (read, taken)
            if read.status == "cut" and not any(True for _ in dicts_of(read.value)):
                failures.append(_cut_off(read, self.fields))
        if chosen is not None:
            read, taken = chosen
            if self.is_amid_talk(body[: read.start], body[read.end :]):
                return DRAFT
            return _parsed(taken, repairs | read.repairs | around(body, reads) | _other_objects(read.value, seen))
        return self._search_repaired(body, repairs, reads, failures)

    def _take_read(self, read: Read, candidate: Mapping[str, Any], is_open: bool) -> _Taken | _Failure | None:
        """Takes the fields of an object of the tolerant reader; None where it is broken."""
        is_cut = read.status == "cut"
        if is_open and not (is_cut and self.finish_reason == "stop" and read.after_value):
            return _cut_off(read, self.fields) if is_cut else None
        taken = _take(candidate, self.fields)
        if isinstance(taken, _Failure):
            return _cut_off(read, self.fields) if is_open and taken.rank <= len(self.fields) else taken
        if {"extra_keys", "inner_quotes"} <= taken[1] | read.repairs:
            return _ambiguous_keys(self.fields)  # an extra key may be a part of the text
        if is_cut:
            taken[1].add("missing_close")
        return taken

    def _search_repaired(
        self, body: str, repairs: set[str], reads: Sequence[Read], failures: list[_Failure]
    ) -> Parsed[dict[str, str]] | Refusal:
        repairer = Repairer(body)
        for read in reads:
            if read.status != "bad" or not may_be_data(body, read.start):
                continue
            for repaired in repairer.repairs(read.start, "}", _BETWEEN_OBJECTS):
                candidates = list(dicts_of(repaired.value))
                for candidate in candidates:
                    taken = self._take_repaired(repaired, candidate)
                    if isinstance(taken, _Failure):
                        failures.append(taken)
                        continue
                    before, after = body[: read.start], body[repaired.end :]
                    if self.is_amid_talk(before, after):
                        return DRAFT
                    others = _other_objects(repaired.value, len(candidates))
                    return _parsed(taken, repairs | {"syntax"} | outside(f"{before}\n{after}") | others)
        return _refusal(failures) if failures else self.nothing_found(body, reads, repairer, "an object")

    def _take_repaired(self, repaired: Repaired, candidate: Mapping[str, Any]) -> _Taken | _Failure:
        if repaired.is_cut(candidate):
            return _cut_off(Read(value=candidate), self.fields)
        taken = _take(candidate, self.fields)
        if isinstance(taken, _Failure):
            return taken
        if _repeats(repaired, self.fields):
            return _mixed_examples(self.fields, "a key")
        if not (repaired.keeps_all and repaired.stands(candidate)):
            return _Failure(len(self.fields), "not_json", "quotation marks too broken to tell the fields apart")
        # An extra key may be a part of the text that json_repair took for a key.
        return _ambiguous_keys(self.fields) if "extra_keys" in taken[1] else taken


def _parsed(taken: _Taken, repairs: set[str]) -> Parsed[dict[str, str]]:
    return Parsed(value=taken[0], repairs=tuple(sorted(taken[1] | repairs)))


def _refusal(failures: Sequence[_Failure]) -> Refusal:
    best = max(failures, key=lambda failure: failure.rank)  # the first of equals
    return Refusal(reason=best.reason, detail=best.detail)


def _other_objects(value: object, seen: int) -> set[str]:
    """Names the repair for other values beside an object."""
    if seen > 1:
        return {"several_objects"}
    return {"one_element_list"} if isinstance(value, list) else set()


def _mixed_examples(fields: Sequence[str], twice: str) -> _Failure:
    """Makes the failure of an object that holds two examples; it outranks those of incomplete ones."""
    return _Failure(len(fields) + 1, "wrong_shape", f"two examples in one object: {twice} twice, with other values")


def _ambiguous_keys(fields: Sequence[str]) -> _Failure:
    return _Failure(len(fields), "not_json", "too broken to tell its other keys from its text")


def _cut_off(read: Read, fields: tuple[str, ...]) -> _Failure:
    """Makes the failure of a value inside which the text ends."""
    keys = {read.key}.union(*(container for container in (*read.open, read.value) if isinstance(container, dict)))
    rank = len(set(map(key_form, keys)) & _forms(fields).keys())
    return _Failure(rank, "truncated", f"the reply ends inside its object, with {rank} of {len(fields)} fields begun")


@functools.lru_cache(maxsize=16)
def _forms(fields: tuple[str, ...]) -> Mapping[str, str]:
    return {key_form(field): field for field in fields}


def _take(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> _Taken | _Failure:
    """Takes the fields of an object or of the only example inside it, or returns the failure that came nearest."""
    nearest = _take_fields(candidate, fields)
    if not isinstance(nearest, _Failure) or nearest.rank > len(fields):
        return nearest
    found: _Taken | None = None
    texts, children = _look_inside(candidate, fields)
    waiting: list[tuple[object, int, Mapping[str, str]]] = [(child, 0, texts) for child in children]
    while waiting:
        value, strings, around_it = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, strings, around_it) for item in value)
        elif isinstance(value, str):
            known, inner = read_exact(value) if strings < MAX_STRINGS and JSON_START.match(value) else (False, None)
            if known:
                waiting.append((inner, strings + 1, around_it))
        elif isinstance(value, dict):
            taken = _take_fields(value, fields)
            if not isinstance(taken, _Failure) and all(map(_DESCRIPTION.match, taken[0].values())):
                taken = _Failure(len(fields), "wrong_shape", "a schema: the values say what is to stand there")
            if isinstance(taken, _Failure):
                if taken.rank > len(fields):
                    return taken
                nearest = max(nearest, taken, key=lambda failure: failure.rank)
                texts, children = _look_inside(value, fields)
                waiting.extend((child, strings, {**around_it, **texts}) for child in children)
                continue
            example, mended = taken
            if (found and found[0] != example) or any(example[field] != text for field, text in around_it.items()):
                return _Failure(len(fields) + 1, "wrong_shape", "there are several examples in one object")
            mended = mended | {"wrapped_object"} | ({"json_string"} if strings else set())
            found = (example, mended if found is None else mended & found[1])
    return found or nearest


def _take_fields(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> _Taken | _Failure:
    """Takes the fields that an object has itself."""
    forms = _forms(fields)
    repairs: set[str] = set()
    values: dict[str, Any] = {}
    for key, value in pairs_of(candidate):
        field = key if key in fields else forms.get(key_form(key))
        if field is None:
            repairs.add("extra_keys")
            continue
        if "\\" in key and isinstance(value, str):  # the reply was escaped for Markdown
            value = value.replace("\\_", "_")
        if field in values:
            if not is_same_text(values[field], value):
                return _mixed_examples(fields, field)
            repairs.add("repeated_keys")
        if field not in candidate:
            repairs.add("key_spelling")
        values[field] = value
    missing = [field for field in fields if field not in values]
    rank = len(values)
    if not candidate:
        return _Failure(0, "wrong_shape", "the object is empty")
    if missing:
        return _Failure(rank, "missing_field", detail_line("missing: " + ", ".join(missing)))
    found: dict[str, str] = {}
    wrong: list[str] = []
    for field in fields:
        value = values[field]
        text = _text_beside_type(value)
        if text is not None:
            value = text
            repairs.add("wrapped_object")
        if not isinstance(value, str):
            wrong.append(f"{field} is {kind_of(value)}")
            continue
        found[field] = clean_text(value).strip()
        if found[field] != value.strip():
            repairs.add("surrogates")
    if wrong:
        return _Failure(rank, "wrong_type", detail_line("; ".join(wrong)))
    if not all(found.values()):
        blank = (field for field, text in found.items() if not text)
        return _Failure(rank, "empty_field", detail_line("blank: " + ", ".join(blank)))
    return found, repairs


def _text_beside_type(value: object) -> str | None:
    """Finds the only text in a field where a model repeats the schema with the text in it."""
    if not isinstance(value, dict) or value.get("type", "string") != "string":
        return None
    texts = {value[name] for name in _TEXT_NAMES if isinstance(value.get(name), str)}
    return texts.pop() if len(texts) == 1 else None


def _look_inside(candidate: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[dict[str, str], list[object]]:
    """Returns the fields that an object has as texts, which an example inside it must share, and what may hold one."""
    forms = _forms(fields)
    texts: dict[str, str] = {}
    children: list[object] = []
    for key, value in pairs_of(candidate):
        field = forms.get(key_form(key))
        if isinstance(value, str) and field is not None:
            texts[field] = value.strip()
        elif isinstance(value, (str, dict, list)):
            children.append(value)
    return texts, children


def _repeats(repaired: Repaired, fields: Sequence[str]) -> bool:
    """Tells whether a key comes twice in one object, of which json_repair keeps the last, or makes two objects."""
    objects = [part for part in parts_of(repaired.value) if isinstance(part, dict)]
    if len(objects) > repaired.source.count("{"):
        return True
    written = [key_form(match[1]) for match in _KEY.finditer(repaired.source)]
    kept = [form for each in objects for form in set(map(key_form, each))]
    return any(written.count(form) > kept.count(form) for form in map(key_form, fields))
