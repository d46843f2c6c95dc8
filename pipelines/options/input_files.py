"""Files that options name: can they be read, and what do they hold?"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from typing import IO, Final

from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.pipelines.options.stores import PATIENCE_SECONDS, try_store
from textmint.transforms.core.texts import clean_text
from textmint.transforms.storage import files, gcs

MAX_INPUT_BYTES: Final = 16 << 20
"""The largest file of options, topics or a template that is read. It is far above any that is meant, and a device or
pipe without end does not fill the memory."""


def check_name(option: str, text: str) -> None:
    """Checks that a path, or another value, is UTF-8, so that it can be written into the manifest and the card. Names
    of files need not be on Linux.

    Raises:
      OptionError: it is not.
    """
    if clean_text(text) != text:
        raise OptionError(f"{option}: {text!a} is not UTF-8, so it cannot be written down; rename it")


def check_listing(option: str, pattern: str) -> None:
    """Checks that files of a pattern can be listed, if it is on gs://.

    Raises:
      OptionError: they cannot.
    """
    if gcs.is_gcs(pattern):
        before_wildcards = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        try_store(option, pattern, "read", lambda: gcs.check_listing(before_wildcards, patience=PATIENCE_SECONDS))


def read_text(option: str, path: str) -> str:
    """Reads a small file that an option names.

    Raises:
      OptionError: it cannot be read, is larger than MAX_INPUT_BYTES, or is not UTF-8.
    """

    def read() -> bytes:
        if gcs.is_gcs(path):
            return gcs.read(path, MAX_INPUT_BYTES + 1, patience=PATIENCE_SECONDS)
        with files.open_file(path) as file:
            return file.read(MAX_INPUT_BYTES + 1)

    try:
        may_hang = gcs.is_gcs(path) or (os.path.exists(path) and not os.path.isfile(path))  # such as an idle pipe
        content = try_store(option, path, "read", read) if may_hang else read()
    except OSError as error:
        raise unreadable(option, path, error) from None
    if len(content) > MAX_INPUT_BYTES:
        raise OptionError(f"{option} {path}: is larger than {MAX_INPUT_BYTES >> 20} MB; is it another file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"{option} {path}: not UTF-8 (byte {error.start})") from None


def unreadable(option: str, path: str, error: BaseException) -> OptionError:
    """Makes an OptionError of the exception that reading a file raised."""
    reason = reason_of(error)
    if "://" in path:
        reason = f"{reason.rstrip('.')}; check the path, and that the credentials here may read it"
    return OptionError(f"{option} {path}: cannot be read: {reason}")


def as_pattern(path: str) -> str:
    """Makes a pattern of what was typed. A file of exactly this name is meant, even if the name holds wildcards."""
    if "://" in path or glob.escape(path) == path:
        return path
    if os.path.isfile(path):
        return glob.escape(os.path.abspath(path))
    # Beam looks for wildcards in the first part of a path only where there is a folder before it.
    is_placed = path.partition(os.sep)[0] in ("", os.curdir, os.pardir)
    return path if is_placed else os.path.join(os.curdir, path)


def count_items(
    option: str,
    pattern: str,
    read: Callable[[IO[bytes], str], Iterator[object]],
    refusal: type[ValueError],
    suffixes: tuple[str, ...],
) -> int:
    """Counts the items in the files of a pattern: `read` yields those of an open file and its path, and raises
    `refusal` if the file cannot be used.

    Raises:
      OptionError: there is no file, one does not end in one of `suffixes`, or one cannot be used.
    """
    check_listing(option, pattern)
    try:
        found_files = files.match_files(as_pattern(pattern))
    except Exception as error:  # each file system raises its own
        raise unreadable(option, pattern, error) from None
    if not found_files:
        raise OptionError(f"{option} {pattern}: there is no such file")
    found = 0
    for path in (file.path for file in found_files):
        check_name(option, path)
        if not path.lower().endswith(suffixes):
            raise OptionError(f"{option} {path}: is not one of {', '.join(suffixes)}")
        if files.is_local(path) and not os.path.isfile(path):
            raise OptionError(f"{option} {path}: is no regular file")
        try:
            with files.open_text(path) as file:
                found += sum(1 for _ in read(file, path))
        except refusal as error:
            raise OptionError(f"{option} {path}: {error}") from None
        except Exception as error:
            raise unreadable(option, path, error) from None
    return found
