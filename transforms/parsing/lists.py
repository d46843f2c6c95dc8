"""Lists: what a model replied becomes the strings that were asked for, or a refusal that says why not.

Replies are read as in `objects`. A list may also stand in an object, or be written as numbered or bulleted lines.
"""

from __future__ import annotations

import bisect
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from textmint.transforms.core.elements import FinishReason
from textmint.transforms.core.texts import clean_text
from textmint.transforms.parsing.answers import DRAFT, JSON_START, MAX_STRINGS, ReplyReader, around
from textmint.transforms.parsing.reader import Read, read_exact, scan
from textmint.transforms.parsing.repair import Repaired, Repairer, may_be_data
from textmint.transforms.parsing.results import Parsed, Refusal, detail_line
from textmint.transforms.parsing.values import as_json, is_same_text, key_form, kind_of, pairs_of

_LIST_KEYS: Final = ("tasks", "labels")
_NUMBERED: Final = re.compile(r"\d{1,3}$")  # keys such as "1" or "task_2", in an object in the place of a list
_ENDS_LINE: Final = {closer: re.compile(rf"\{closer}[ \t]*(?:\n|\Z)") for closer in "]}"}
_BULLET: Final = re.compile(
    r"^[ \t]*(?:\*\*|__)?(?:[-*•–—‣◦▪·+](?=[ \t]|$)|\(?\d{1,4}[.)](?!\d))(?:\*\*|__)?[ \t]*(?P<text>.*)$", re.MULTILINE
)
_WRAPS: Final = (("**", "**"), ("__", "__"), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("`", "`"))
_FENCE_LINE: Final = re.compile(r"(?:```|~~~)[ \t]*[\w+.-]*")


def parse_string_list(text: str, finish_reason: FinishReason) -> Parsed[tuple[str, ...]] | Refusal:
    """Reads a reply that should be a list of strings; numbered or bulleted lines count as one.

    Blank items and those that are not strings come back in `refused`. Of a cut-off list the incomplete last item is
    dropped; it is complete if something follows it, or if the model stopped by itself.
    """
    return _ListReader(finish_reason).read(text)


_Refused = tuple[str, str, str]  # reason, detail, the item as JSON


@dataclasses.dataclass(slots=True)
class _Items:
    """The items of one list, good and bad."""

    good: list[str] = dataclasses.field(default_factory=list)
    refused: list[_Refused] = dataclasses.field(default_factory=list)
    repairs: set[str] = dataclasses.field(default_factory=set)
    is_cut: bool = False
    is_amid_talk: bool = False  # lines stand in talk that the token limit cut off


class _ListReader(ReplyReader[tuple[str, ...]]):
    def take(self, value: Any, repairs: set[str]) -> Parsed[tuple[str, ...]] | Refusal:
        if isinstance(value, str) and self.strings < MAX_STRINGS and JSON_START.match(value):
            inner = _ListReader(self.finish_reason, self.strings + 1).read(value)
            if isinstance(inner, Refusal):
                return inner
            return dataclasses.replace(inner, repairs=tuple(sorted(repairs | {*inner.repairs, "json_string"})))
        items = self._items(Read(value=value))
        if items is None:
            return Refusal(reason="wrong_shape", detail=f"expected a list of strings, found {kind_of(value)}")
        return _collect([items], repairs)

    def search(self, body: str, repairs: set[str]) -> Parsed[tuple[str, ...]] | Refusal:
        lines = _lines(body, self.finish_reason)
        has_lines = lines is not None and len(lines.good) > 1
        bullets = [match.span("text") for match in _BULLET.finditer(body)] if has_lines else []
        starts = [start for start, _ in bullets]
        repairer = Repairer(body)
        lists: list[_Items] = []
        reads: list[Read] = []
        loose: list[object] = []
        for read in list(scan(body, rescan_cut=False)):
            # A bracket inside the text of a bulleted line belongs to that line, one inside a list to that list.
            line = bisect.bisect_left(starts, read.start) - 1
            if (line >= 0 and read.start < bullets[line][1]) or (reads and read.start < reads[-1].end):
                continue
            if read.status == "bad":
                if may_be_data(body, read.start):
                    lists += self._mend(body, read, repairer)
                    reads.append(read)
                continue
            reads.append(read)
            items = self._items(read)
            if items is not None:
                items.repairs |= read.repairs
                lists.append(items)
            elif isinstance(read.value, dict) and _has_task(read.value) and not read.open:
                loose.append(read.value)
        if loose and not any(items.good for items in lists):
            items = self._items(Read(value=loose))
            if items is not None:
                items.repairs.add("several_lists")
                lists = [items]
        good = [items for items in lists if items.good]
        if good:
            if self.is_amid_talk(body[: reads[0].start], body[reads[-1].end :]):
                return DRAFT
            return _collect(good, repairs | around(body, reads))
        if lines is not None and lines.good and not any(read.status == "cut" for read in reads):
            return DRAFT if lines.is_amid_talk else _collect([lines], repairs)
        if lists:
            return _collect(lists[:1], repairs)
        return self.nothing_found(body, reads, repairer, "a list of strings")

    def _mend(self, body: str, read: Read, repairer: Repairer) -> list[_Items]:
        """Repairs a broken list if possible, and corrects where it ends."""
        start = read.start
        read.end = max(read.end, body.rfind("]") + 1)
        closer = "]" if body[start] == "[" else "}"
        mended: list[_Items] = []
        for repaired in repairer.repairs(start, closer, _ENDS_LINE[closer]):
            items = self._items(Read(value=repaired.value), repaired) if repaired.keeps_all else None
            if items is not None and items.good:
                items.repairs.add("syntax")
                mended = [items]
                read.end, read.status = repaired.end, "ok"
                if not items.is_cut:
                    break
        return mended

    def _items(self, read: Read, repaired: Repaired | None = None) -> _Items | None:
        """Takes the items of the list that a value is or holds; None if there is no list.

        An item of json_repair that cannot be found whole in the text is refused with its neighbours, which may be other
        parts of the same string.
        """
        items = _Items()
        entries = _find_list(read.value, items)
        if entries is None:
            return None if not items.refused else items
        root, entries = entries, list(entries)
        if any(root is container for container in read.open):
            is_innermost = read.open[-1] is root
            is_complete = is_innermost and read.after_value and self.finish_reason == "stop"
            if entries and not is_complete and (not is_innermost or read.after_value):
                entries.pop()
            items.is_cut = not is_complete
            items.repairs.add("missing_close" if is_complete else "cut_list")
        elif read.open:
            items.repairs.add("missing_close")
        is_split = [repaired is not None and not repaired.stands(entry) for entry in entries]
        for place, entry in enumerate(entries):
            if repaired is not None and repaired.is_cut(entry):
                items.is_cut = True
                items.repairs.add("cut_list")
            else:
                _add_item(items, entry, any(is_split[max(place - 1, 0) : place + 2]))
        return items


def _find_list(root: Any, items: _Items) -> list[object] | None:
    """Finds the list that a value is or holds; two different lists of one name are refused."""
    while True:
        if isinstance(root, dict):
            inner = _lists_in(root)
            if any(as_json(other) != as_json(inner[0]) for other in inner[1:]):
                if getattr(root, "earlier", ()):
                    detail = "two lists in one object: a key twice, with other values"
                    items.refused = [("wrong_shape", detail, as_json(other)) for other in inner]
                return None
            if not inner:
                return None
            root = inner[0]
            items.repairs.add("wrapped_list")
            continue
        only = root[0] if isinstance(root, list) and len(root) == 1 else None
        if any(isinstance(inner, list) for inner in (only.values() if isinstance(only, dict) else [only])):
            root = only
            items.repairs.add("one_element_list")
        elif (decoded := _list_in_string(only)) is not None:
            root = decoded
            items.repairs.add("json_string")
        else:
            return root if isinstance(root, list) else None


def _add_item(items: _Items, entry: object, is_split: bool) -> None:
    """Adds an entry to the good or to the refused items."""
    if isinstance(entry, str) and entry.lstrip().startswith("{"):
        known, decoded = read_exact(entry)
        if known and isinstance(decoded, dict) and _has_task(decoded):
            entry = decoded
            items.repairs.add("json_string")
    value = entry
    if isinstance(entry, dict):
        if entry.keys() == {"type"}:  # of JSON Schema
            items.refused.append(("wrong_shape", "a schema: the item says what is to stand there", as_json(entry)))
            return
        pairs = pairs_of(entry)
        named = _named(entry, "task")
        if not named:
            texts = [text for _, text in pairs if len(entry) == 1 or isinstance(text, str)]
            named = texts if len(texts) == 1 or len(entry) == 1 else [entry]
        value = named[0]
        if not all(is_same_text(value, other) for other in named[1:]):
            detail = "two items in one object: a key twice, with other values"
            items.refused.append(("wrong_shape", detail, as_json([dict([pair]) for pair in pairs])))
            return
    good = clean_text(value).strip() if isinstance(value, str) else ""
    if not isinstance(value, str):
        items.refused.append(("wrong_type", f"an item is {kind_of(value)}, not a string", as_json(entry)))
    elif is_split:
        items.refused.append(("wrong_type", "quotation marks too broken to tell items apart", as_json(entry)))
    elif not good:
        items.refused.append(("empty_field", "an item is blank", as_json(entry)))
    else:
        if value is not entry:
            items.repairs.add("object_items")
        if good != value.strip():
            items.repairs.add("surrogates")
        items.good.append(good)


def _lists_in(root: Mapping[str, Any]) -> list[Any]:
    """Lists the lists in an object, or else the objects and JSON strings that may hold one."""
    if isinstance(root.get("properties"), dict):  # a JSON Schema, maybe with a list in the place of its type
        return [root["properties"]]
    for name in _LIST_KEYS:
        named = [value for value in _named(root, name) if isinstance(value, list)]
        if named:
            return named
    values = [value for _, value in pairs_of(root)]
    lists = [value for value in values if isinstance(value, list)]
    if lists or _has_task(root):
        return lists
    if all(isinstance(value, str) for value in values) and len(root) == len(values) > 1:
        names = {_NUMBERED.sub("", key) if _NUMBERED.search(key) else None for key in root}
        if len(names) == 1 and None not in names:
            return [values]
    inner = [value for value in values if isinstance(value, dict)]
    return inner or [found for found in map(_list_in_string, values) if found is not None]


def _named(candidate: Mapping[str, Any], name: str) -> list[Any]:
    """Lists the values of a name in any spelling."""
    return [value for key, value in pairs_of(candidate) if key_form(key) == name]


def _has_task(candidate: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) for value in _named(candidate, "task"))


def _list_in_string(value: object) -> list[Any] | dict[str, Any] | None:
    """Reads the list, or the object with lists, that a string holds as JSON; None if it holds none."""
    if not isinstance(value, str) or not JSON_START.match(value):
        return None
    for _ in range(MAX_STRINGS):
        value = read_exact(value)[1] if isinstance(value, str) else None
        if isinstance(value, list) or (isinstance(value, dict) and _lists_in(value)):
            return value
    return None


def _collect(lists: Sequence[_Items], repairs: set[str]) -> Parsed[tuple[str, ...]] | Refusal:
    """Joins lists, or says why they have no good item."""
    good = [item for items in lists for item in items.good]
    refused = [entry for items in lists for entry in items.refused]
    if not good:
        if refused:
            reason, detail, _ = refused[0]
            return Refusal(reason=reason, detail=detail_line(f"no good item among {len(refused)}; the first: {detail}"))
        if any(items.is_cut for items in lists):
            return Refusal(reason="truncated", detail="the reply ends inside the first item of its list")
        return Refusal(reason="wrong_shape", detail="the list is empty")
    mended = repairs.union(*(items.repairs for items in lists))
    if len(lists) > 1:
        mended.add("several_lists")
    return Parsed(value=tuple(good), repairs=tuple(sorted(mended)), refused=tuple(refused))


def _lines(text: str, finish_reason: FinishReason) -> _Items | None:
    """Takes the texts of numbered or bulleted lines, each with the indented lines below; None if there are none."""
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
    items = _Items(repairs={"line_list"}, is_amid_talk=before and after and finish_reason == "length")
    if before or after:
        items.repairs.add("prose")
    if "```" in text:
        items.repairs.add("fence")
    if finish_reason == "length" and continues and not text.endswith("\n"):
        found.pop()
        items.is_cut = True
        items.repairs.add("cut_list")
    for item in found:
        cleaned = clean_text(_unwrap(item))
        if cleaned:
            items.good.append(cleaned)
        else:
            items.refused.append(("empty_field", "an item is blank", as_json(item)))
    return items


def _unwrap(item: str) -> str:
    """Removes the comma, bold marks and quotes around a whole line."""
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
