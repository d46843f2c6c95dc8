"""Packing: elements <-> bytes, for a shuffle. An engine may take each element apart and put it together again several
times on its way through a shuffle; bytes it moves as they are, at a fraction of the time and memory. MessagePack, since
it can be read back without running anything, and at a tenth of what JSON takes; compressed, for much of a prompt is
its template."""

from __future__ import annotations

import dataclasses
import json
import operator
from typing import Any, Final

import msgspec
import pyarrow as pa
from textmint.transforms.core.elements import (
    Choice,
    Draft,
    Example,
    LabelSet,
    LabelSetSeed,
    PaidReply,
    Prompt,
    Reject,
    Relabel,
    Task,
    TaskSeed,
    TaskSettings,
    Usage,
    Verdict,
)

_CLASSES: Final[tuple[type, ...]] = (
    TaskSeed,
    Task,
    Draft,
    Prompt,
    Example,
    Reject,
    Usage,
    PaidReply,
    Verdict,
    LabelSetSeed,
    LabelSet,
    Choice,
    Relabel,
    TaskSettings,
)
_NUMBER: Final = {cls: number for number, cls in enumerate(_CLASSES)}
_FIELDS: Final = {cls: [(field.name, str(field.type)) for field in dataclasses.fields(cls)] for cls in _CLASSES}
_VALUES: Final = {cls: operator.attrgetter(*(name for name, _ in fields)) for cls, fields in _FIELDS.items()}
_ELEMENTS: Final = (
    "Subject",
    "Example",
    "Usage | None",
    "TaskSettings | None",
)  # annotations of what is an element itself
_INSIDE: Final = {cls: [at for at, (_, hint) in enumerate(_FIELDS[cls]) if hint in _ELEMENTS] for cls in _CLASSES}
_TUPLES: Final = {cls: [at for at, (_, hint) in enumerate(_FIELDS[cls]) if hint[:5] == "tuple"] for cls in _CLASSES}
_LISTS: Final = {cls: [at for at in _TUPLES[cls] if "PaidReply" in _FIELDS[cls][at][1]] for cls in _CLASSES}

_CODEC: Final = pa.Codec("lz4")  # 4 microseconds for 2 kB, against zlib's 100 and zstd's 23
_LENGTH_BYTES: Final = 4
_MESSAGE: Final = b"M"
_JSON: Final = b"J"  # for what MessagePack cannot hold: lone surrogates, and integers beyond 64 bits
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode
_encode_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _parts(element: Any) -> tuple[int, Any]:
    """An element -> the number of its class, and its values, those inside it taken apart too."""
    cls = type(element)
    number = _NUMBER[cls]
    values: Any = _VALUES[cls](element)
    if _INSIDE[cls] or _LISTS[cls]:
        values = list(values)
        for at in _INSIDE[cls]:
            if values[at] is not None:
                values[at] = _parts(values[at])
        for at in _LISTS[cls]:
            values[at] = [_parts(value) for value in values[at]]
    return number, values


def _whole(number: int, values: list[Any]) -> Any:
    cls = _CLASSES[number]
    for at in _INSIDE[cls]:
        if values[at] is not None:
            values[at] = _whole(*values[at])
    for at in _LISTS[cls]:
        values[at] = [_whole(*parts) for parts in values[at]]
    for at in _TUPLES[cls]:
        values[at] = tuple(values[at])
    element: Any = object.__new__(cls)
    element.__setstate__(values)
    return element


def pack(element: Any) -> bytes:
    """An element -> bytes that `unpack` reads.

    Raises:
      KeyError: it, or what it holds, is of another class than those that go through a shuffle.
    """
    parts = _parts(element)
    try:
        form, content = _MESSAGE, _encode(parts)
    except (UnicodeEncodeError, OverflowError):
        form, content = _JSON, _encode_json(parts).encode("utf-8", "surrogatepass")
    return b"".join((form, len(content).to_bytes(_LENGTH_BYTES, "big"), _CODEC.compress(content, asbytes=True)))


def unpack(packed: bytes) -> Any:
    """What `pack` made -> the element."""
    length = int.from_bytes(packed[1 : 1 + _LENGTH_BYTES], "big")
    content = _CODEC.decompress(packed[1 + _LENGTH_BYTES :], length, asbytes=True)
    if packed.startswith(_MESSAGE):
        return _whole(*_decode(content))
    return _whole(*json.loads(content.decode("utf-8", "surrogatepass")))
