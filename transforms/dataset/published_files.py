"""Published files of a dataset folder: which there are, and what they hold once their digest is checked."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from textmint.transforms.dataset.manifest import read_entries
from textmint.transforms.dataset.schema import DatasetKind, content_digest
from textmint.transforms.storage.files import is_local, join, list_files, list_folders, open_file, read_file

PARTITION: Final = "refresh="
"""What the name of a folder with the files of one refresh begins with, in Hive's form."""
UNREADABLE: Final = (pa.ArrowException, OSError, KeyError, ValueError)
"""The errors of reading a file that is missing, damaged or not ours."""
_NAME: Final = re.compile(r"part-\d{5}-of-\d{5}-([0-9a-f]{16})\.parquet")
_ROW_BYTES: Final = 300  # compressed


def check_digest(path: str, content: bytes) -> None:
    """Raises a ValueError where the content of a published file does not fit the digest in its name, if it has one."""
    digest = _NAME.fullmatch(path.rpartition("/")[2])
    if digest is not None and digest[1] != content_digest(content):
        raise ValueError("damaged: its content is not what was written under its name")


def open_published(path: str) -> pq.ParquetFile:
    """Opens a published file after a check of its digest, since damaged Parquet can have any effect on its reader.

    This may raise one of UNREADABLE; so may reading on in a file without a digest.
    """
    content = read_file(path)
    check_digest(path, content)
    return pq.ParquetFile(io.BytesIO(content))


def published_files(output: str, kind: DatasetKind) -> list[tuple[str, str, int]]:
    """Lists the published files of one dataset as (path, refresh, rows). On an object store only the files in the
    manifest count. The rows of other files are guessed."""
    listed: dict[str, int] = {
        file["path"]: file["rows"] for entry in read_entries(output).values() for file in entry["files"].get(kind, ())
    }
    all_count = is_local(output) or not listed
    found = []
    for folder in list_folders(join(output, kind), PARTITION):
        for file in list_files(join(output, kind, folder), "*.parquet"):
            name = f"{kind}/{folder}/{file.name}"
            if not file.name.startswith(("_", ".")) and (all_count or name in listed):
                rows = listed.get(name, file.bytes // _ROW_BYTES)
                found.append((file.path, folder.removeprefix(PARTITION), rows))
    return found


def refreshes_lacking_files(output: str, found: Iterable[tuple[str, str, int]]) -> set[str]:
    """Returns the refreshes that lack a file of the manifest among their files of tasks and examples, which
    `published_files` found."""
    paths = {path for path, _, _ in found}
    return {
        refresh
        for refresh, entry in read_entries(output).items()
        for kind in ("tasks", "examples")
        for file in entry["files"].get(kind, ())
        if join(output, *file["path"].split("/")) not in paths
    }


def published_examples(output: str, refresh: str) -> int:
    """Counts the examples of a refresh by its files, not by the manifest. An unreadable file counts as empty: the next
    run of the refresh replaces it."""
    rows = 0
    for path, of_refresh, _ in published_files(output, "examples"):
        if of_refresh == refresh:
            with contextlib.suppress(*UNREADABLE):
                if is_local(path):
                    rows += open_published(path).metadata.num_rows
                else:  # its footer must do: the rest would be a download
                    with open_file(path) as file:
                        rows += pq.ParquetFile(file).metadata.num_rows
    return rows
