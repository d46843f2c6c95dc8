"""Exclusions: the files in which users keep texts that no example may share, such as the test splits of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, Final

import pyarrow as pa
from textmint.transforms.core.text_files import SUFFIXES, decoded_lines, json_lines, parquet_rows
from textmint.transforms.core.texts import clean_text
from textmint.transforms.dedup.minhash import Text

EXCLUSION_SUFFIXES: Final = SUFFIXES
TEXT_COLUMN: Final = "text"


class ExclusionFileError(ValueError):
    """A file of excluded texts that cannot be used; the message says where in it and why."""


def read_exclusions(file: IO[bytes], path: str) -> Iterator[Text]:
    """Yields the texts of a file in order, each with the line or row (and column) as its id and the path as its source.

    They are the lines of `.txt`, or the texts of each line of `.jsonl` or row of `.parquet`: `text` where it is there,
    otherwise every string and list of strings, since benchmarks have many names for them (`sentence1`, `query`).

    Args:
      file: opened in binary, already decompressed.
      path: tells the format by its ending.

    Raises:
      ExclusionFileError: the file cannot be used; the message begins with the line or row.
    """
    name = path.lower().removesuffix(".gz")
    found: Iterator[tuple[str, str]]
    if name.endswith(".txt"):
        found = decoded_lines(file, ExclusionFileError)
    elif name.endswith(".jsonl"):
        found = _read_jsonl(file)
    elif name.endswith(".parquet"):
        found = _read_parquet(file)
    else:
        raise ExclusionFileError(f"is not one of {', '.join(SUFFIXES)}")
    source = _name(path)
    for where, text in found:
        if text.strip():
            yield Text(id=_name(where), text=text, source=source)


def _name(text: str) -> str:
    return clean_text(text).replace("\0", "\ufffd")


def _texts_of(value: object) -> list[str] | None:
    """Returns the texts in a value, none for null; None where it is something else."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) or item is None for item in value):
        return [item for item in value if item is not None]
    return None


def _labelled(where: str, texts: list[str]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(texts, start=1):
        yield where if len(texts) == 1 else f"{where}, item {number}", text


def _read_jsonl(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    for where, row in json_lines(file, ExclusionFileError):
        if not isinstance(row, dict):
            raise ExclusionFileError(f"{where}: no JSON object")
        if TEXT_COLUMN in row:
            texts = _texts_of(row[TEXT_COLUMN])
            if texts is None:
                raise ExclusionFileError(f"{where}: the text is {type(row[TEXT_COLUMN]).__name__}, not a string")
            yield from _labelled(where, texts)
            continue
        columns = {name: texts for name, value in row.items() if (texts := _texts_of(value)) is not None}
        if not any(isinstance(row[name], (str, list)) for name in columns):
            raise ExclusionFileError(f"{where}: no key 'text', nor any other that holds a string")
        for name, texts in columns.items():
            yield from _labelled(f"{where}, {name}", texts)


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_text(kind: Any) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return _is_text(kind.value_type) if is_list else _is_text(kind)


def _columns(schema: pa.Schema) -> list[str]:
    names = [field.name for field in schema if _holds_text(field.type)]
    if TEXT_COLUMN in schema.names:
        if TEXT_COLUMN not in names:
            raise ExclusionFileError(f"its column 'text' holds {schema.field(TEXT_COLUMN).type}, not strings")
        return [TEXT_COLUMN]
    if not names:
        columns = ", ".join(schema.names) or "none"
        raise ExclusionFileError(f"has no column 'text', nor any other of strings; its columns are {columns}")
    return names


def _read_parquet(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    for where, row in parquet_rows(file, ExclusionFileError, _columns):
        for name, value in row.items():
            yield from _labelled(where if name == TEXT_COLUMN else f"{where}, {name}", _texts_of(value) or [])
