"""Pages that a run writes into the dataset folder for people, and that a user may make their own, such as the card."""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Callable
from importlib import resources
from typing import Final

import jinja2
from textmint.transforms.storage.files import is_local, read_file, update_file

REPORT: Final = "report.html"
NO_REPORT: Final = "no_report"
"""The option of a run that writes no report."""
MARK: Final = "<!-- Written by textmint at the end of a run. Without this line, later runs leave the file alone. -->"
"""What a page holds that a later run may replace."""

_LOG = logging.getLogger("textmint")


@functools.cache
def page_template(file: str, finalize: Callable[[object], object]) -> jinja2.Template:
    """Reads a template of a page.

    Args:
      file: its name in the folder of templates.
      finalize: makes each value fit to stand in the page; what is no markup then is escaped as HTML.
    """
    environment = jinja2.Environment(
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string((resources.files("textmint.templates") / file).read_text("utf-8"))


def write_page(path: str, make: Callable[[], str]) -> None:
    """Writes a page as `replace_page` does. The data is published by now: a page that cannot be made, because somebody
    edited the manifest, is logged and no more."""
    try:
        replace_page(path, make)
    except Exception as error:  # each file system, and each edited entry, raises its own
        _LOG.warning("%s was not written: %s", path, error)


def replace_page(path: str, make: Callable[[], str]) -> bool:
    """Writes a page unless the user has made it their own.

    Args:
      path: of the page, local or remote.
      make: makes the text. It is called after the old page was read, so that the last of two runs that publish at the
        same time describes both.

    Returns:
      Whether it was written: False where the page is the user's, or a link to one.
    """
    if is_local(path) and os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        return False

    def change(old: bytes | None) -> bytes:
        if old is not None and MARK.encode() not in old:
            raise _NotOurs
        return make().encode()

    try:
        update_file(path, change)
    except _NotOurs:
        return False
    return True


def is_page_of_ours(path: str) -> bool:
    """Says whether there is a page at a path, and a run wrote it."""
    try:
        return MARK.encode() in read_file(path)
    except OSError:
        return False


class _NotOurs(OSError):
    """The page is the user's. (An OSError, since `update_file` turns every other error into one.)"""
