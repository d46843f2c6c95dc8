"""Packing of elements for a shuffle: engines pickle an element several times, but move bytes as they are.

They are MessagePack, which is safe to read back, compressed, for much of a prompt is its template.
"""

from __future__ import annotations

import json
from typing import Any, Final, Union

import msgspec
import pyarrow as pa
from textmint.transforms.core.elements import Element

ELEMENTS: Final = tuple(Element.__subclasses__())
_Any: Any = Union[ELEMENTS]  # noqa: UP007  (of classes that are not written out)

_CODEC: Final = pa.Codec("lz4")  # 4 microseconds for 2 kB, against zlib's 100 and zstd's 23
_LENGTH_BYTES: Final = 4
_MESSAGE: Final = b"M"
_JSON: Final = b"J"  # for what MessagePack cannot hold: lone surrogates, and integers beyond 64 bits
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Any).decode
_encode_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def pack(element: Any) -> bytes:
    """Makes bytes of an element, which `unpack` reads."""
    if type(element) not in ELEMENTS:
        raise TypeError(f"a {type(element).__name__} is no element")
    try:
        form, content = _MESSAGE, _encode(element)
    except (UnicodeEncodeError, OverflowError):
        form, content = _JSON, _encode_json(msgspec.to_builtins(element)).encode("utf-8", "surrogatepass")
    return form + compress(content)


def unpack(packed: bytes) -> Any:
    """Reads the element that `pack` made bytes of."""
    content = decompress(packed[1:])
    if packed.startswith(_MESSAGE):
        return _decode(content)
    return msgspec.convert(json.loads(content.decode("utf-8", "surrogatepass")), _Any)


def compress(content: bytes) -> bytes:
    """Makes fewer bytes, from which `decompress` brings the content back."""
    return len(content).to_bytes(_LENGTH_BYTES, "big") + bytes(_CODEC.compress(content, asbytes=True))


def decompress(packed: bytes) -> bytes:
    """Brings back what `compress` was given."""
    length = int.from_bytes(packed[:_LENGTH_BYTES], "big")
    return bytes(_CODEC.decompress(packed[_LENGTH_BYTES:], length, asbytes=True))
