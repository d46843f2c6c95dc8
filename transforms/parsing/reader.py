"""Readers of JSON: an exact one, and a tolerant one that also takes Python literals, trailing commas, raw line breaks,
comments and the punctuation of other scripts, and knows whether a text is broken or ends too early."""

from __future__ import annotations

import contextlib
import dataclasses
import decimal
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NoReturn

from textmint.transforms.parsing.values import RepeatedKeys

_MAX_DEPTH: Final = 64  # containers in one another; an example needs 2, a list of tasks 3
_MAX_DIGITS: Final = 600  # Python can be told to refuse int() of more than 640 digits, and never of fewer


def _integer(digits: str) -> int | decimal.Decimal:
    return int(digits) if len(digits) <= _MAX_DIGITS else decimal.Decimal(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else RepeatedKeys(pairs)


_DECODER: Final = json.JSONDecoder(parse_int=_integer, object_pairs_hook=_object)


def read_exact(text: str) -> tuple[bool, Any]:
    """Returns whether a text is JSON and nothing else, and its value."""
    try:
        return True, _DECODER.decode(text)
    except (ValueError, RecursionError):
        return False, None


_OPENER: Final = re.compile(r"[\[{｛［]")
_OPENERS: Final = frozenset("{[｛［")
_SPACE: Final = re.compile(r"[\s\ufeff\u200b]*")
_TOKEN: Final = re.compile(r"[^\W\d][\w$-]*|[-+]?[0-9.][\w.+-]*|-")
_BARE_KEY: Final = re.compile(r"[^\W\d](?:[\w$-]|\\_| (?=[^\W\d][\w ]{0,30}[:：]))*")
_PLAIN: Final = frozenset("[]{},:\"'")
_GOES_ON: Final = re.compile(r"[ \t]*\w")  # no notation has a word behind a string: this quotation mark closes nothing
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|U[0-9a-fA-F]{8}|\r\n|.)", re.DOTALL)
_JSON_ESCAPE: Final = re.compile(r"\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})")
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
"""For each quotation mark that opens a string: what closes it, and the backslash."""
_LITERALS: Final[Mapping[str, object]] = {
    **{"True": True, "False": False, "None": None, "undefined": None},
    **{"NaN": float("nan"), "Infinity": float("inf")},
}

Container = RepeatedKeys | list[object]


@dataclasses.dataclass(slots=True)
class Read:
    """What was read from one opening bracket on; by default a complete value."""

    value: Any = None
    start: int = 0
    end: int = 0  # behind the value, or where reading stopped
    status: Literal["ok", "cut", "bad"] = "ok"  # complete; the text ended before it did; not this notation
    open: list[Container] = dataclasses.field(default_factory=list)  # what was not closed, the outermost first
    key: str = ""  # the last key that was read; its value may be missing
    after_value: bool = False  # the innermost open container had just got a whole value, with nothing behind it
    is_data: bool = False  # a comma or colon was read, so this is no bracket in prose
    repairs: set[str] = dataclasses.field(default_factory=set)


class _Stop(Exception):
    """Reading cannot go on."""


class _Reader(Read):
    """Reads one object or list. It keeps a stack of its own, so that depth costs no recursion."""

    __slots__ = ("text",)

    def __init__(self, text: str, start: int) -> None:
        super().__init__(start=start, end=start)
        self.text = text
        with contextlib.suppress(_Stop):
            self._read()

    def _stop(self, status: Literal["cut", "bad"], at: int | None = None) -> NoReturn:
        self.status = status
        self.end = self.end if at is None else at
        raise _Stop

    def _read(self) -> None:
        self._open(self.text[self.end])
        while self.open:
            container = self.open[-1]
            closers = "}｝" if isinstance(container, dict) else "]］"
            char = self._next()
            if self.after_value:
                if char in closers:
                    self._close()
                elif char in _COMMAS:
                    self._punctuate(char)
                    self.after_value = False
                    if self._next() in closers:
                        self.repairs.add("trailing_comma")
                        self._close()
                else:
                    self._join(container, char)
            elif char in closers and not container:
                self._close()
            else:
                if isinstance(container, dict):
                    self.key = self._read_key(char)
                    colon = self._next()
                    if colon not in _COLONS:
                        self._stop("bad")
                    self._punctuate(colon)
                    char = self._next()
                if char in _OPENERS:
                    self._open(char)
                else:
                    self._put(self._read_scalar(char))
                    self.after_value = True

    def _next(self) -> str:
        """Goes to the next character that is neither space nor in a comment."""
        text = self.text
        if text[self.end : self.end + 1] in _PLAIN:  # the common case, without a regular expression
            return text[self.end]
        while True:
            match = _SPACE.match(text, self.end)
            self.end = match.end() if match else self.end
            if self.end == len(text) or text.startswith("```", self.end):
                self._stop("cut")
            char = text[self.end]
            if text.startswith("/*", self.end):
                end = text.find("*/", self.end + 2) + 2
                end = end if end >= 2 else len(text)
            elif char == "#" or text.startswith("//", self.end):
                end = text.find("\n", self.end)
                end = end if end >= 0 else len(text)
            elif char == "/" and self.end + 1 == len(text):
                self._stop("cut", len(text))
            else:
                return char
            self.repairs.add("comments")
            self.end = end

    def _punctuate(self, char: str) -> None:
        """Steps over a comma or colon; one of another script cannot be told from text with unescaped quotes."""
        if char not in ",:":
            self.repairs.add("punctuation")
            if "inner_quotes" in self.repairs:
                self._stop("bad")
        self.end += 1
        self.is_data = True

    def _open(self, bracket: str) -> None:
        if len(self.open) == _MAX_DEPTH:
            self._stop("bad")
        if bracket in "｛［":
            self.repairs.add("punctuation")
        container: Container = RepeatedKeys() if bracket in "{｛" else []
        if self.open:
            self._put(container)
        else:
            self.value = container
        self.open.append(container)
        self.after_value = False
        self.end += 1

    def _close(self) -> None:
        self.open.pop()
        self.key = ""
        self.after_value = True
        self.end += 1

    def _put(self, value: object) -> None:
        container = self.open[-1]
        if isinstance(container, list):
            container.append(value)
        else:
            container.put(self.key, value)

    def _read_key(self, char: str) -> str:
        if char in _STRING_STOPS:
            return self._read_string(char, is_key=True)
        word = self._match(_BARE_KEY)
        self.repairs.add("bare_keys")
        return word

    def _match(self, pattern: re.Pattern[str]) -> str:
        """Steps over a word."""
        word = pattern.match(self.text, self.end)
        if word is None:
            self._stop("bad")
        if word.end() == len(self.text):
            self._stop("cut", word.end())
        self.end = word.end()
        return word[0]

    def _read_scalar(self, char: str) -> object:
        if char in _STRING_STOPS:
            return self._read_string(char)
        begin = self.end
        token = self._match(_TOKEN)
        if token in _LITERALS:
            self.repairs.add("literals")
            return _LITERALS[token]
        known, value = read_exact(token)
        if not known:
            self._stop("bad", begin)
        return value

    def _read_string(self, quote: str, is_key: bool = False) -> str:
        text = self.text
        if quote in "\"'" and text.startswith(quote * 3, self.end):
            quote *= 3
        stops = _STRING_STOPS[quote]
        begin = at = self.end + len(quote)
        escaped = False
        depth = 0
        while True:
            match = stops.search(text, at)
            if match is None:
                self._stop("cut", len(text))
            at = match.end()
            if match[0] == "\\":
                escaped = True
                at += 1
            elif quote in _PAIRED and (match[0] == quote or depth):
                depth += 1 if match[0] == quote else -1
            elif len(quote) == 1 and not is_key and _GOES_ON.match(text, at):
                self.repairs.add("inner_quotes")
                if "punctuation" in self.repairs:
                    self._stop("bad", match.start())
            else:
                break
        raw = text[begin : match.start()]
        self.end = at
        if quote != '"':
            self.repairs.add("quotes")
        if _CONTROL.search(raw):
            self.repairs.add("raw_newline")
        if not escaped:
            return raw
        if any(not _JSON_ESCAPE.match(match[0]) for match in _ESCAPE.finditer(raw)):
            self.repairs.add("escapes")
        # Two escapes of a surrogate pair are one character, as in JSON.
        return unescape(raw).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

    def _join(self, container: Container, char: str) -> None:
        """Joins the next string to the value before it, as Python does; in a list, a comma is missing rather."""
        self.after_value = False
        value = container.get(self.key) if isinstance(container, dict) else None
        if not isinstance(container, dict) or not isinstance(value, str):
            self._stop("bad")
        if char == "+":
            self.end += 1
            char = self._next()
        elif self.text[self.end - 1] in _STRING_STOPS:  # strings that touch: unescaped quotation marks
            self._stop("bad")
        if char not in _STRING_STOPS:
            self._stop("bad")
        at = self.end
        joined = value + self._read_string(char)
        # Behind a key, what is missing is a comma; if others are not escaped, these may stand inside a text too.
        if self._next() == ":" or "inner_quotes" in self.repairs:
            self._stop("bad", at)
        container[self.key] = joined
        self.repairs.add("joined_strings")
        self.after_value = True


def unescape(text: str) -> str:
    """Reads the escapes of JSON and Python; an unknown one stays as it is."""
    return _ESCAPE.sub(_character, text)


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    if len(code) > 2 and int(code[1:], 16) <= 0x10FFFF:
        return chr(int(code[1:], 16))
    return escape[0]


def scan(text: str, *, rescan_cut: bool, start: int = 0) -> Iterator[Read]:
    """Reads a text from each opening bracket that is not part of something read before.

    `rescan_cut` also looks inside a bracket that was never closed and held no comma and no colon.
    """
    allowance = len(text) + 10_000  # of characters that are read again, which keeps time linear
    opener = _OPENER.search(text, start)
    while opener:
        read = _Reader(text, opener.start())
        yield read
        allowance -= read.end - read.start
        # A bracket in prose may have drawn the value into a string.
        inside = read.status == "bad" or (read.status == "cut" and rescan_cut)
        again = inside and not read.is_data and allowance > 0
        opener = _OPENER.search(text, read.start + 1 if again else max(read.end, read.start + 1))
