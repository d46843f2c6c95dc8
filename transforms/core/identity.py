"""Identity: the same hash for the same parts on every machine, for ever.

These functions alone decide ids, attributes and orders, never `hash()`, `random` or a clock. Golden tests pin the
values: another encoding would change every id of every dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Union

Part = Union[str, bytes, int, float, bool, None, "Sequence[Part]", "Mapping[str, Part]"]

_ID_BYTES = 16  # 128 bits: a chance of 1.5e-21 that any two of 10**9 ids are equal (birthday bound)
UNIT = 1 << 64  # `fraction` counts in 1/UNIT
ID_DIGITS = 2 * _ID_BYTES  # of an id
SHARD_DIGITS = 8  # of an id, which decide on its shard


def encode(part: Part) -> bytes:
    """Encodes a value as bytes that no other value encodes to.

    Each value is a type letter, the byte length of its payload, a colon and the payload, as in netstrings
    (https://cr.yp.to/proto/netstrings.txt). Strings may hold lone surrogates; mappings are ordered by key.
    """
    kind = type(part)  # the usual ones first, by their exact class: this is called some fifty times a row
    if kind is str:
        payload = part.encode("utf-8", "surrogatepass")  # type: ignore[union-attr]
        return b"s%d:%b" % (len(payload), payload)
    if kind is tuple:
        payload = b"".join(map(encode, part))  # type: ignore[arg-type]
        return b"l%d:%b" % (len(payload), payload)
    if part is None:
        return b"n0:"
    if isinstance(part, bool):
        return b"b1:1" if part else b"b1:0"
    if isinstance(part, str):
        letter, payload = b"s", part.encode("utf-8", "surrogatepass")
    elif isinstance(part, int):
        letter, payload = b"i", b"%d" % part
    elif isinstance(part, float):
        letter, payload = b"f", part.hex().encode()
    elif isinstance(part, bytes):
        letter, payload = b"y", part
    elif isinstance(part, Mapping):
        letter = b"m"
        payload = b"".join(encode(key) + encode(part[key]) for key in sorted(part))
    elif isinstance(part, Sequence):
        letter, payload = b"l", b"".join(map(encode, part))
    else:
        raise TypeError(f"identity of a {type(part).__name__} is not defined: {part!r:.80}")
    return b"%b%d:%b" % (letter, len(payload), payload)


def stable_hash(domain: str, *parts: Part) -> str:
    """Makes an id of 32 hexadecimal digits; `domain` keeps ids of different things apart."""
    return hashlib.blake2b(encode((domain, *parts)), digest_size=_ID_BYTES).hexdigest()


def shard_of(element_id: str, shards: int) -> int:
    """Finds the shard of an id, from 0 to `shards` - 1, by its first 32 bits."""
    return int(element_id[:SHARD_DIGITS], 16) * shards >> 4 * SHARD_DIGITS


def fraction(domain: str, *parts: Part) -> int:
    """Makes a number in [0, UNIT) of a hash, evenly spread over all parts."""
    return int.from_bytes(hashlib.blake2b(encode((domain, *parts)), digest_size=8).digest(), "big")


def choices(key: str) -> Iterator[int]:
    """Yields numbers in [0, UNIT) without end, a pure function of the key: BLAKE2b in counter mode."""
    block = 0
    encoded = encode(key)
    while True:
        digest = hashlib.blake2b(encoded + block.to_bytes(8, "big"), digest_size=64).digest()
        for start in range(0, 64, 8):
            yield int.from_bytes(digest[start : start + 8], "big")
        block += 1


def text_digest(text: str | bytes) -> str:
    """Makes 12 hexadecimal digits that name the exact content of a text, such as a template."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(raw, digest_size=6).hexdigest()
