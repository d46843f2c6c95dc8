"""The manifest: what each run that published says of itself, by the name of its refresh.

    OUTPUT/manifest.json    {"refreshes": {"base": {"options": ..., "counts": ..., "files": ..., "digest": ...}, ...}}

On an object store it also decides which files count. An unusable entry stops nobody from reading the others.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from textmint.transforms.core.texts import clean_text
from textmint.transforms.ledger.table import Paid
from textmint.transforms.storage.files import is_local, join, read_file, update_file

MANIFEST: Final = "manifest.json"
DIGEST: Final = "digest"
"""The key under which an entry holds a digest of everything else in it."""
TARGET: Final = "target"
"""The key under which an entry tells what was asked for to reach `--target_examples`."""


def read_manifest(output: str) -> dict[str, Any]:
    """Reads the manifest of a dataset folder as {"refreshes": {name: entry}}, even where there is none yet.

    Raises:
      OSError: it cannot be read.
      ValueError: it is not JSON, or has the same key twice.
    """
    try:
        manifest: dict[str, Any] = json.loads(read_file(join(output, MANIFEST)), object_pairs_hook=_unique_keys)
    except FileNotFoundError:
        return {"refreshes": {}}
    return manifest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # a damaged bit can turn the name of a refresh into that of another, and hide it
        raise ValueError("the same key twice")
    return found


def read_entries(output: str) -> dict[str, Any]:
    """Reads the usable entries of a manifest, by refresh. It raises nothing but an OSError."""
    try:
        return parse_entries(read_file(join(output, MANIFEST)))
    except FileNotFoundError:
        return {}


def parse_entries(manifest: bytes | None) -> dict[str, Any]:
    """Parses the usable entries of a manifest; those of another form are left out, and all of a damaged file."""
    try:
        return _usable(json.loads(manifest or b"")["refreshes"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _usable(refreshes: Any) -> dict[str, Any]:
    return {refresh: entry for refresh, entry in dict(refreshes).items() if _is_usable(entry)}


def _is_usable(entry: Any) -> bool:
    try:
        files = [file for listed in entry["files"].values() for file in listed]
        return all(type(file["path"]) is str and type(file["rows"]) is int for file in files)
    except (KeyError, TypeError, AttributeError):
        return False


def format_manifest(refreshes: Mapping[str, Any]) -> bytes:
    """Formats entries as the content of a manifest."""
    text = json.dumps({"refreshes": dict(sorted(refreshes.items()))}, indent=2, ensure_ascii=False)
    return f"{clean_text(text)}\n".encode()  # an entry of an earlier version may hold what is not UTF-8


def with_entry(manifest: bytes | None, refresh: str, entry: Mapping[str, Any]) -> bytes:
    """Replaces the entry of a refresh in the content of a manifest, and keeps the usable others."""
    return format_manifest({**parse_entries(manifest), refresh: entry})


@contextlib.contextmanager
def locked(output: str) -> Iterator[None]:
    """Keeps other processes from changing the manifest of a local folder while its `with` block runs."""
    if not is_local(output):
        yield
        return
    folder = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def digest_of(refresh: str, entry: Mapping[str, Any]) -> str:
    """Computes the digest of an entry, which does not depend on how the file is laid out."""
    content = json.loads(clean_text(json.dumps(entry, ensure_ascii=False)))
    content.pop(DIGEST, None)
    return hashlib.blake2b(json.dumps([refresh, content], sort_keys=True).encode(), digest_size=10).hexdigest()


def is_as_written(refresh: str, entry: Any) -> bool:
    """Says whether an entry holds what its run wrote. One without a digest counts as unchanged."""
    return not isinstance(entry, dict) or DIGEST not in entry or entry[DIGEST] == digest_of(refresh, entry)


def examples_asked(output: str) -> dict[str, int]:
    """Reads how many examples of each task a refresh asked for, where its entry says so; for a target it may be
    more than its options say."""
    asked = {}
    for refresh, entry in read_entries(output).items():
        told = [entry[name] for name in ("options", TARGET) if isinstance(entry.get(name), dict)]
        numbers = [each.get("examples_per_task") for each in told]
        asked[refresh] = max((number for number in numbers if type(number) is int), default=0)
    return {refresh: number for refresh, number in asked.items() if number > 0}


def recorded_replies(output: str) -> Paid:
    """Reads how many replies the ledger must hold at least, by refresh and kind.

    Raises:
      ValueError: the manifest is damaged, or not Textmint's.
    """
    path = join(output, MANIFEST)
    try:
        refreshes = read_manifest(output)["refreshes"]
        if not isinstance(refreshes, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f"{path} is damaged, or not Textmint's; bring it back from where you have a copy, or take it away"
        ) from None
    for refresh, entry in refreshes.items():
        if not is_as_written(refresh, entry):
            raise ValueError(
                f"{path}: its entry of refresh={refresh} is damaged, or was edited; bring it back from where you have "
                f'a copy or, if it is right as it is, delete its "{DIGEST}"'
            )
    return _recorded_in(_usable(refreshes))


def _recorded_in(entries: Mapping[str, Any]) -> Paid:
    recorded: Paid = collections.Counter()
    for refresh, entry in entries.items():
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):  # edited by hand
            replies = entry["ledger"]["replies"].items()
            recorded.update({(refresh, str(kind)): int(count) for kind, count in replies})
    return recorded


def lower_recorded_replies(output: str, found: Paid, left_out: Paid | None = None) -> None:
    """Lowers the numbers of replies that the manifest records to what the ledger holds.

    Args:
      output: the dataset folder.
      found: how many replies its ledger holds, by refresh and kind.
      left_out: by how many to lower the numbers at most; None: by all that are missing.
    """

    def lower(old: bytes | None) -> bytes:
        entries = parse_entries(old)
        intact = [name for name, entry in entries.items() if DIGEST in entry and is_as_written(name, entry)]
        for (refresh, kind), count in _recorded_in(entries).items():
            least = found[refresh, kind]
            if left_out is not None:
                least = max(least, count - left_out[refresh, kind])
            entries[refresh]["ledger"]["replies"][kind] = min(count, least)
        for refresh in intact:
            entries[refresh][DIGEST] = digest_of(refresh, entries[refresh])
        return format_manifest(entries)

    if _recorded_in(read_entries(output)):
        with locked(output):
            update_file(join(output, MANIFEST), lower)
