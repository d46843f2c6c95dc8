"""File systems and object stores: can they be used? They are tried before anything is paid for or submitted, and who
cannot use them learns within seconds what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable
from typing import Final, Literal, TypeVar

from apache_beam.io.filesystems import FileSystems
from textmint.pipelines.options.errors import OptionError, reason_of
from textmint.transforms.core.errors import StoreError
from textmint.transforms.storage import gcs

PATIENCE_SECONDS: Final = 8.0
"""How long a store that does not answer is waited for."""
_REMOTE_SECONDS: Final = 30.0  # clients of object stores may wait for minutes where they find no credentials
# https://cloud.google.com/storage/docs/buckets#naming: 3 to 63 characters, or up to 222 with dots.
_BUCKET: Final = re.compile(r"(?=.{3,222}$)[a-z0-9][a-z0-9._-]*[a-z0-9]")
_BUCKET_PART: Final = 63
_LOG_IN: Final = "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS for a service account"
_ROLES: Final = {"written": "roles/storage.objectUser", "read": "roles/storage.objectViewer"}
_EXTRAS: Final = {"s3": ("aws", "boto3"), "azfs": ("azure", "azure.storage.blob"), "hdfs": ("hadoop", "hdfs")}
"""The file systems of Beam that need one of its extras, each with a module that the extra brings."""
_T = TypeVar("_T")

What = Literal["read", "written"]
"""What is tried."""


def check_scheme(option: str, path: str) -> None:
    """Checks that there is a file system for a path, and that what it needs is installed.

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


def try_store(option: str, path: str, what: What, attempt: Callable[[], _T]) -> _T:
    """Does something with a store, in a bounded time; returns its result.

    Raises:
      OptionError: it fails or takes too long; the message says what a person can do.
    """
    if problem := bucket_problem(path):
        raise OptionError(f"{option} {path}: {problem}")
    results: list[_T] = []
    failures: list[BaseException] = []

    def act() -> None:
        try:
            if gcs.is_gcs(path):
                gcs.settle_credentials(once=True)
            results.append(attempt())
        except BaseException as error:  # each file system raises its own
            failures.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(_REMOTE_SECONDS)
    if results:
        return results[0]
    error = failures[0] if failures else TimeoutError(f"no answer within {_REMOTE_SECONDS:.0f} s")
    raise OptionError(f"{option} {path}: cannot be {what}: {reason_of(error)}; {_remedy(path, what, error)}")


def bucket_problem(path: str) -> str:
    """Says what is wrong with the name of the bucket in a path; "" if nothing is, or the path is not on gs://."""
    bucket = path.removeprefix("gs://").partition("/")[0]
    is_name = _BUCKET.fullmatch(bucket) and all(len(part) <= _BUCKET_PART for part in bucket.split("."))
    if is_name or not gcs.is_gcs(path):
        return ""
    return (
        f"{bucket!r} is no name of a bucket, which has 3 to 63 small letters, digits, '-', '_' and '.'; "
        "write gs://BUCKET/FOLDER"
    )


def _remedy(path: str, what: What, error: BaseException) -> str:
    if not gcs.is_gcs(path):
        return "check the path and your credentials for it"
    if isinstance(error, FileNotFoundError):
        return "check the path"
    bucket = path.removeprefix("gs://").partition("/")[0]
    status = error.status if isinstance(error, StoreError) else None
    if status == 404 or (isinstance(error, StoreError) and gcs.NO_BUCKET in error.reason):
        made = f"make it (`gcloud storage buckets create gs://{bucket}`), or " if what == "written" else ""
        return f"{made}name a bucket that is there"
    if status == 401:
        return f"log in: {_LOG_IN}"
    if status == 403:
        return f"grant whoever runs this {_ROLES[what]} on gs://{bucket}, or log in as somebody else: {_LOG_IN}"
    emulator = os.environ.get(gcs.EMULATOR)
    if emulator and status is None:
        return f"{gcs.EMULATOR} is set: see whether {emulator} is up, or unset it"
    return "check the path, your credentials and the network"
