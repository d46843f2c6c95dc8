"""What bytes hold, however often they were packed: a search for what must not be in them."""

from __future__ import annotations

import base64
import binascii
import bz2
import contextlib
import re
import zlib
from collections.abc import Callable, Iterator


def layers(blob: bytes, depth: int = 0) -> Iterator[bytes]:
    """Returns the bytes, and whatever they hold in base64 or compressed, at any depth."""
    yield blob
    if depth > 6:
        return
    openers: tuple[Callable[[bytes], bytes], ...] = (bz2.decompress, zlib.decompress)
    for opener in openers:
        with contextlib.suppress(OSError, ValueError, EOFError, zlib.error):
            yield from layers(opener(blob), depth + 1)
    for run in re.findall(rb"[A-Za-z0-9+/_-]{16,}={0,2}", blob):
        plain = run.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
        with contextlib.suppress(binascii.Error):
            found = base64.b64decode(plain + b"=" * (-len(plain) % 4))
            if found[:3] == b"BZh" or found[:1] in b"x\x80" or found.isascii():
                yield from layers(found, depth + 1)


def forms_of(text: str) -> Iterator[bytes]:
    """Returns a text as it is, and in base64 at each of its possible offsets."""
    yield text.encode()
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + text.encode())
        yield coded[4:-4]
        yield base64.urlsafe_b64encode(b"\0" * offset + text.encode())[4:-4]


def holds(blob: bytes, *texts: str) -> bool:
    """Says whether the bytes hold one of the texts, at any depth."""
    wanted = [form for text in texts for form in forms_of(text)]
    return any(form in layer for layer in layers(blob) for form in wanted)
