"""The output folder, and other places outside of this machine: can they be used? It is tried, before anything is paid
for or submitted, and whoever cannot use them learns within seconds what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import socket
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from apache_beam.io.filesystems import FileSystems
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.transforms.core.errors import StoreError
from textmint.transforms.core.texts import clean_text
from textmint.transforms.dataset.manifest import MANIFEST
from textmint.transforms.dataset.publish import STAGING
from textmint.transforms.dataset.schema import KINDS
from textmint.transforms.ledger import table as ledger
from textmint.transforms.ledger.journal import JOURNAL
from textmint.transforms.storage import files, gcs, lease

_REMOTE_SECONDS: Final = 30.0  # clients of object stores may wait for minutes where they find no credentials
_PATIENCE_SECONDS: Final = 8.0  # for a store that does not answer
_PROBE: Final = "write-test"
_FOLDERS: Final = (STAGING, ledger.FOLDER, f"{ledger.FOLDER}/{JOURNAL}", lease.FOLDER, *KINDS)  # that a run writes to
# https://cloud.google.com/storage/docs/buckets#naming: 3 to 63 characters, or up to 222 with dots.
_BUCKET: Final = re.compile(r"(?=.{3,222}$)[a-z0-9][a-z0-9._-]*[a-z0-9]")
_BUCKET_PART: Final = 63
_LOG_IN: Final = "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS for a service account"
_ROLES: Final = {"written": "roles/storage.objectUser", "read": "roles/storage.objectViewer"}
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_UNAUTHENTICATED: Final = 401

MAX_INPUT_BYTES: Final = 16 << 20
"""The largest file of options, topics or a template that is read: far above any that is meant, and no device or pipe
without end fills the memory."""

What = Literal["read", "written"]


def checked_output(path: str) -> str:
    """The folder as typed -> an absolute path or URL that can be written to. It is tried, and left as it was.

    Raises:
      OptionError: it cannot.
    """
    if not path.strip():
        raise OptionError("--output is empty; name a folder")
    return _remote_output(path) if "://" in path else _local_output(path)


def check_name(option: str, text: str) -> None:
    """Checks that a path, or another value, can be written down: in the manifest, in the card, and on its way to
    workers. Names of files need not be UTF-8 on Linux, and Python then holds them as lone surrogates.

    Args:
      option: that names it, for messages.
      text: the path.

    Raises:
      OptionError: it cannot.
    """
    if clean_text(text) != text:
        raise OptionError(f"{option}: {text!a} is not UTF-8, so it cannot be written down; rename it")


def check_scheme(option: str, path: str) -> None:
    """Checks that there is a file system for a path, and what that needs is installed.

    Args:
      option: that names it, for messages.
      path: a path, URL or pattern.

    Raises:
      OptionError: there is none, or something has to be installed first.
    """
    scheme, separator, _ = path.partition("://")
    if not separator:
        return
    extra, module = _EXTRAS.get(scheme, ("", ""))
    try:
        is_there = not module or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        is_there = False
    if not is_there:
        install = f"{shlex.quote(sys.executable)} -m pip install 'apache-beam[{extra}]'"
        raise OptionError(f"{option} {path}: {scheme}:// needs the extra `{extra}` of Apache Beam: {install}")
    try:
        FileSystems.get_filesystem(path)
    except ValueError:
        known = ", ".join(f"{name}://" for name in ("gs", *_EXTRAS))
        raise OptionError(
            f"{option} {path}: {scheme}:// is no file system that Apache Beam knows; there are {known}, and paths of "
            "this machine"
        ) from None


_EXTRAS: Final = {"s3": ("aws", "boto3"), "azfs": ("azure", "azure.storage.blob"), "hdfs": ("hadoop", "hdfs")}
"""The file systems of Beam that need one of its extras, each with a module that the extra brings."""


def check_input(option: str, pattern: str) -> None:
    """A path, URL or pattern -> where it is on gs://, it can be listed.

    Args:
      option: that names it, for messages.

    Raises:
      OptionError: it cannot.
    """
    if gcs.is_gcs(pattern):
        before_wildcards = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        _try(option, pattern, "read", lambda: gcs.check_listing(before_wildcards, patience=_PATIENCE_SECONDS))


def read_input(option: str, path: str) -> bytes:
    """Reads a small file that an option names.

    Args:
      option: for messages.
      path: a path or URL.

    Returns:
      The content.

    Raises:
      OptionError: it is larger than MAX_INPUT_BYTES, or on gs:// or no regular file and cannot be read.
      OSError: it is elsewhere, and cannot be read.
    """
    content: list[bytes] = []

    def read() -> None:
        if gcs.is_gcs(path):
            content.append(gcs.read(path, MAX_INPUT_BYTES + 1, patience=_PATIENCE_SECONDS))
            return
        with files.open_file(path) as file:
            content.append(file.read(MAX_INPUT_BYTES + 1))

    if gcs.is_gcs(path) or (os.path.exists(path) and not os.path.isfile(path)):  # a pipe may never be written to
        _try(option, path, "read", read)
    else:
        read()
    if len(content[0]) > MAX_INPUT_BYTES:
        raise OptionError(f"{option} {path}: is larger than {MAX_INPUT_BYTES >> 20} MB; is it another file?")
    return content[0]


def _local_output(path: str) -> str:
    made: list[Path] = []
    try:
        folder = Path(path).expanduser().absolute()
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        check_name("--output", str(folder))  # which may lie in a folder that is no UTF-8
        for inside in (folder, *(folder / name for name in _FOLDERS)):
            if inside.is_symlink() and not inside.exists():
                raise OSError(f"{inside.name} is a link to what is not there")
            if inside.exists() and not inside.is_dir():
                raise OSError(f"{inside.name} is no folder")
            if inside is folder or inside.exists():
                probe = inside / f".write-test-{os.getpid()}"
                probe.touch()
                probe.unlink()
        if os.path.lexists(folder / MANIFEST) and (what := _other_than_a_file(folder / MANIFEST)):
            raise OSError(f"{MANIFEST} is {what}")
    except (OSError, ValueError, RuntimeError, OptionError) as error:
        for parent in made:
            if parent.is_dir():
                parent.rmdir()
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"--output {path}: cannot be written: {reason_of(error)}; name a folder that can") from None
    return str(folder)


def _other_than_a_file(path: Path) -> str:
    """-> what is there in a file's place; "" where it is a file. A file that a run replaces must be no link, or it is
    not clear whether the link is to stay, and a pipe would be waited for."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "no regular file"


def _remote_output(path: str) -> str:
    """Lists, writes a small file, reads it and deletes it: what a run does, and so what it needs permission for."""
    output = path.rstrip("/")
    if found := re.search(r"[*?\[\]]", output):
        raise OptionError(f"--output {path}: Beam takes {found[0]!r} for a wildcard; name a folder without one")

    def attempt() -> None:
        probe = files.join(output, STAGING, f"{_PROBE}-{socket.gethostname()}-{os.getpid()}")
        if gcs.is_gcs(output):
            gcs.check_listing(f"{output}/", patience=_PATIENCE_SECONDS)
            gcs.write(probe, b"textmint", patience=_PATIENCE_SECONDS)
            gcs.read(probe, patience=_PATIENCE_SECONDS)
            gcs.delete(probe, patience=_PATIENCE_SECONDS)
        else:
            files.write_file(probe, b"textmint")
            files.delete_files([probe])

    _try("--output", path, "written", attempt)
    return output


def _try(option: str, path: str, what: What, attempt: Callable[[], None]) -> None:
    """Does something with a store, in a bounded time, and tells what a person can do where it fails."""
    if gcs.is_gcs(path):
        _check_bucket(option, path)
    failure: list[BaseException | None] = []

    def act() -> None:
        try:
            if gcs.is_gcs(path):
                gcs.settle_credentials(once=True)
            attempt()
            failure.append(None)
        except BaseException as error:  # each file system raises its own
            failure.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(_REMOTE_SECONDS)
    error = failure[0] if failure else TimeoutError(f"no answer within {_REMOTE_SECONDS:.0f} s")
    if error is not None:
        raise OptionError(f"{option} {path}: cannot be {what}: {reason_of(error)}; {_remedy(path, what, error)}")


def _check_bucket(option: str, path: str) -> None:
    bucket = path.removeprefix("gs://").partition("/")[0]
    if not _BUCKET.fullmatch(bucket) or any(len(part) > _BUCKET_PART for part in bucket.split(".")):
        raise OptionError(
            f"{option} {path}: {bucket!r} is no name of a bucket, which has 3 to 63 small letters, digits, '-', '_' "
            "and '.'; write gs://BUCKET/FOLDER"
        )


def _remedy(path: str, what: What, error: BaseException) -> str:
    if not gcs.is_gcs(path):
        return "check the path and your credentials for it"
    if isinstance(error, FileNotFoundError):
        return "check the path"
    bucket = path.removeprefix("gs://").partition("/")[0]
    status = error.status if isinstance(error, StoreError) else None
    if status == _NOT_FOUND or (isinstance(error, StoreError) and gcs.NO_BUCKET in error.reason):
        made = f"make it (`gcloud storage buckets create gs://{bucket}`), or " if what == "written" else ""
        return f"{made}name a bucket that is there"
    if status == _UNAUTHENTICATED:
        return f"log in: {_LOG_IN}"
    if status == _FORBIDDEN:
        return f"grant whoever runs this {_ROLES[what]} on gs://{bucket}, or log in as somebody else: {_LOG_IN}"
    emulator = os.environ.get(gcs.EMULATOR)
    if emulator and status is None:
        return f"{gcs.EMULATOR} is set: see whether {emulator} is up, or unset it"
    return "check the path, your credentials and the network"
