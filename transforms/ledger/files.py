"""The files in the ledger's folder: each is checked, and what is no part of a ledger is set aside with the reason."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from textmint.transforms.core.texts import clean_text
from textmint.transforms.ledger.mend import Damage, salvage
from textmint.transforms.ledger.table import (
    FOOTER_BYTES,
    LedgerFileError,
    Paid,
    digest_in_name,
    open_replies,
    paid_by_footer,
    paid_in,
    read_replies,
    write_replies,
)
from textmint.transforms.storage import files

SET_ASIDE: Final = "_set_aside"
_REASON: Final = ".reason.txt"
_NAME_BYTES: Final = 255  # that a file's name may have on most disks
_CHECKERS: Final = 4  # of whole files
_READERS: Final = 16  # of file footers; object stores answer slowly, and many at once


def ledger_files(folder: str) -> list[files.FoundFile]:
    """Lists the files of a ledger by path, without those that begin with an underscore or a dot."""
    return [file for file in files.list_files(folder) if not file.name.startswith(("_", "."))]


def sound_files(folder: str) -> list[files.FoundFile]:
    """Lists the files of a ledger that are of one by their footers; unlike `check_files` it changes nothing."""
    with ThreadPoolExecutor(_READERS) as pool:
        found = ledger_files(folder)
        return [file for file, is_sound in zip(found, pool.map(_is_sound, found), strict=True) if is_sound]


def _is_sound(file: files.FoundFile) -> bool:
    try:
        open_replies(_read_footer(file.path))
    except (LedgerFileError, FileNotFoundError):  # the second: merged by somebody at this moment
        return False
    return file.name.endswith(".parquet")


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedFiles:
    """What a check of files found.

    Args:
      found: those that are of a ledger.
      paid: how many replies are in them, by refresh and kind.
      set_aside: the names of the others, and why each was set aside.
      damaged: the names of damaged files, which stay as they are unless they are in `set_aside` too.
    """

    found: tuple[files.FoundFile, ...] = ()
    paid: Paid = dataclasses.field(default_factory=collections.Counter)
    set_aside: Mapping[str, str] = dataclasses.field(default_factory=dict)
    damaged: Mapping[str, Damage] = dataclasses.field(default_factory=dict)

    @property
    def replies(self) -> int:
        """How many rows are in the files."""
        return self.paid.total()


def check_files(folder: str, *, mend: bool = True, thorough: bool | None = None) -> CheckedFiles:
    """Checks the files of a ledger, and sets aside those that are not of one.

    A file of another tool or an earlier version gets a name that holds its digest.

    Args:
      folder: the ledger's.
      mend: whether what is whole in a damaged file is kept in a new one, and the damaged one set aside; otherwise it is
        reported and stays as it is.
      thorough: whether each file is read to its end, not just its footer; None: on a local disk.
    """
    thorough = files.is_local(folder) if thorough is None else thorough
    with ThreadPoolExecutor(_CHECKERS if thorough else _READERS) as pool:
        checked = list(pool.map(functools.partial(_check, mend=mend, thorough=thorough), ledger_files(folder)))
    paid: Paid = collections.Counter()
    for each in checked:
        paid.update(each.paid)
    return CheckedFiles(
        found=tuple(sorted({file for each in checked for file in each.found})),
        paid=paid,
        set_aside=dict(item for each in checked for item in each.set_aside.items()),
        damaged=dict(item for each in checked for item in each.damaged.items()),
    )


def _check(file: files.FoundFile, *, mend: bool, thorough: bool) -> CheckedFiles:
    paid = None
    try:
        try:
            if not file.name.endswith(".parquet"):
                raise LedgerFileError("no Parquet file by its name")
            paid = paid_by_footer(open_replies(_read_footer(file.path)))
            if paid is not None and not thorough:
                return CheckedFiles((file,), paid)
            content = files.read_file(file.path)
            if digest_in_name(file.name) or paid is not None:
                return CheckedFiles((file,), paid_in(read_replies(content, ["refresh", "kind"], name=file.name)))
            table = read_replies(content)
        except LedgerFileError as error:
            if not digest_in_name(file.name) and paid is None:
                set_aside(file.path, str(error))
                return CheckedFiles(set_aside={file.name: str(error)})
            if mend:
                return mend_file(file, str(error))
            _, damage = salvage(files.read_file(file.path), file.name, str(error))
            return CheckedFiles(damaged={file.name: damage})
        named = write_replies(file.path.rpartition("/")[0], table)
        files.delete_files([file.path])
        return CheckedFiles((named,), paid_in(table))
    except FileNotFoundError:  # merged by somebody at this moment
        return CheckedFiles((file,))


def _read_footer(path: str) -> bytes:
    end = files.read_end(path, FOOTER_BYTES)
    footer = int.from_bytes(end[-8:-4], "little") + 8  # its length and "PAR1" end the file
    return files.read_end(path, footer) if footer > len(end) == FOOTER_BYTES else end


def mend_file(file: files.FoundFile, reason: str) -> CheckedFiles:
    """Keeps what is whole in a damaged file in a new one, and sets the damaged one aside."""
    table, damage = None, Damage(reason)
    with contextlib.suppress(FileNotFoundError):
        table, damage = salvage(files.read_file(file.path), file.name, reason)
    found: tuple[files.FoundFile, ...] = ()
    paid: Paid = collections.Counter()
    if table is not None and table.num_rows:
        found, paid = (write_replies(file.path.rpartition("/")[0], table),), paid_in(table)
    aside = {}
    if not found or found[0].path != file.path:  # else it was one wrong bit in its end
        aside[file.name] = str(damage)
        set_aside(file.path, str(damage))
    return CheckedFiles(found, paid, aside, {file.name: damage})


def set_aside(path: str, reason: str, *, folder: str = "") -> None:
    """Moves a file that cannot be used to `_set_aside`, with the reason beside it. A missing file is no error.

    Args:
      path: of the file.
      reason: why it cannot be used.
      folder: the ledger's; "" where the file is directly in it.
    """
    parent, _, name = path.rpartition("/")
    aside = files.join(folder or parent, SET_ASIDE, name)
    reason_path = files.join(folder or parent, SET_ASIDE, _reason_name(name))
    try:
        files.write_file(reason_path, f"{clean_text(reason)}\n".encode())
        files.move_file(path, aside)
    except OSError:
        if files.exists(path):
            raise
        if not files.exists(aside):  # it was not set aside by somebody else: it is merged, or deleted
            files.delete_files([reason_path])


def _reason_name(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) + len(_REASON) > _NAME_BYTES:
        cut = encoded[: _NAME_BYTES // 2].decode("utf-8", "ignore")
        name = f"{cut}-{hashlib.blake2b(encoded, digest_size=10).hexdigest()}"
    return name + _REASON


def files_set_aside(folder: str) -> dict[str, str]:
    """Returns why each file of a ledger was set aside, by its name."""
    found = {}
    for file in files.list_files(files.join(folder, SET_ASIDE), f"*{_REASON}"):
        name = clean_text(file.name.removesuffix(_REASON))  # a name on a disk can be any bytes
        found[name] = files.read_file(file.path).decode("utf-8", "replace").strip()
    return found
