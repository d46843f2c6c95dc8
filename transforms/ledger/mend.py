"""Damaged files of the ledger: which of their replies are whole."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Final

import pyarrow as pa
from textmint.transforms.ledger.table import (
    LedgerFileError,
    checked_groups,
    concat_replies,
    digest_in_name,
    has_digests,
    open_replies,
)

_END_BYTES: Final = 1 << 15  # of a file, in which a wrong bit is searched


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a file, and how many of its replies are kept and lost (None where nothing can be read)."""

    reason: str
    kept: int = 0
    lost: int | None = None

    def __str__(self) -> str:
        if self.lost is None:
            return self.reason
        return f"damaged: {self.kept:,} of its {self.kept + self.lost:,} replies are whole"


def salvage(content: bytes, name: str, reason: str) -> tuple[pa.Table | None, Damage]:
    """Reads the undamaged rows of a damaged file, and adds to the known reason what is wrong."""
    try:
        try:
            table, lost = _whole_rows(content)
        except LedgerFileError:
            repaired = _with_end_repaired(content, name)
            if repaired is None:
                raise
            table, lost = _whole_rows(repaired)
    except LedgerFileError as error:
        return None, Damage(reason if str(error) in reason else f"{reason} ({error})")
    return table, Damage(reason, table.num_rows, lost)


def _whole_rows(content: bytes) -> tuple[pa.Table, int]:
    file = open_replies(content)
    if not has_digests(file):
        raise LedgerFileError("of an earlier version, which has nothing to tell what of it is whole")
    groups = list(checked_groups(file))
    kept = concat_replies(table for _, table in groups if table is not None)
    return kept, sum(rows for rows, table in groups if table is None)


def _with_end_repaired(content: bytes, name: str) -> bytes | None:
    """Turns each bit of a file's end until it is what was written under its name: a wrong bit in its footer would cost
    all of the file. Takes some seconds."""
    wanted = digest_in_name(name)
    if not wanted:
        return None
    footer = int.from_bytes(content[-8:-4], "little") + 8  # or anything, where the damage is here
    start = max(0, len(content) - min(footer, _END_BYTES))
    before = hashlib.blake2b(content[:start], digest_size=10)
    for place in range(start, len(content)):
        rest = content[place + 1 :]
        for bit in range(8):
            byte = bytes([content[place] ^ 1 << bit])
            digest = before.copy()
            digest.update(byte + rest)
            if digest.hexdigest() == wanted:
                return content[:place] + byte + rest
        before.update(content[place : place + 1])
    return None
