"""The file of statistics: the figures of the data of each refresh.

    OUTPUT/statistics.json    {"refreshes": {"base": {"format": 1, "rows": ..., "tasks": ..., ...}, ...}}

It is written with each publication, after the manifest. docs/dataset.md describes the figures.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from textmint.transforms.core.texts import clean_text
from textmint.transforms.dataset.manifest import read_entries
from textmint.transforms.storage.files import join, read_version, update_file

STATISTICS: Final = "statistics.json"
FORMAT: Final = 1
"""Of the figures; another shape gets another number."""
_LOG = logging.getLogger("textmint")


def read_statistics(output: str, entries: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Reads the figures of each refresh that the folder has, where they fit the data that the manifest lists.

    Args:
      output: the dataset folder.
      entries: of its manifest; None: they are read.
    """
    try:
        found = _parse(read_version(join(output, STATISTICS))[0])
    except OSError:
        return {}
    known = read_entries(output) if entries is None else entries
    return {refresh: figures for refresh, figures in found.items() if _fits(figures, known.get(refresh))}


def _parse(content: bytes | None) -> dict[str, dict[str, Any]]:
    try:
        refreshes = json.loads(content or b"")["refreshes"].items()
        return {refresh: figures for refresh, figures in refreshes if isinstance(figures["rows"]["examples"], int)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _fits(figures: Mapping[str, Any], entry: Mapping[str, Any] | None) -> bool:
    """Says whether figures may be of the data of an entry, and are of a form that is known. They are not of the data
    where a version without statistics has published since."""
    if entry is None or figures.get("format") != FORMAT:
        return False
    rows = {kind: sum(file["rows"] for file in files) for kind, files in entry["files"].items()}
    return all(figures["rows"].get(kind) == rows.get(kind, 0) for kind in ("examples", "rejects", "tasks"))


def format_statistics(refreshes: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Formats figures as the content of the file."""
    text = json.dumps({"refreshes": dict(sorted(refreshes.items()))}, indent=1, ensure_ascii=False)
    return f"{clean_text(text)}\n".encode()


def write_statistics(output: str, refresh: str, figures: Mapping[str, Any] | None) -> None:
    """Puts the figures of a refresh into the file; None: it has none, and those of its former data go.

    The data is published by now, so a file that cannot be written is logged and no more.
    """

    def replaced(old: bytes | None) -> bytes:
        entries = read_entries(output)  # after the old file, so that the last of two that publish knows both
        known = {name: value for name, value in _parse(old).items() if name in entries and name != refresh}
        return format_statistics(known if figures is None else {**known, refresh: figures})

    try:
        if figures is None and refresh not in _parse(read_version(join(output, STATISTICS))[0]):
            return
        update_file(join(output, STATISTICS), replaced)
    except OSError as error:
        _LOG.warning("%s was not written: %s", join(output, STATISTICS), error)
