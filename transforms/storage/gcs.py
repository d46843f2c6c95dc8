"""Google Cloud Storage: whole objects, and the changes of an object that nobody else's can undo.

Each write gives an object a new generation, and a write may demand the one that it was made from: of two that change a
file at the same moment, the second fails and reads again. Beam's file systems cannot do that, and connect anew for
every call. Functions that take `patience` try again for so many seconds; None stands for PATIENCE_SECONDS. All of them
raise what `translate_errors` does.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Final

import google.auth
from apache_beam.internal.gcp import auth
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp.gcsio import create_storage_client
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from google.api_core.exceptions import (
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    RequestRangeNotSatisfiable,
    RetryError,
)
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.cloud.storage.fileio import BlobReader
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter
from textmint.transforms.core.errors import FileChangedError, StoreError

ABSENT: Final = 0
"""The generation of an object that is not there."""

PATIENCE_SECONDS = 120.0
"""How long an operation is tried again while the store cannot be reached or fails; Google's default."""

EMULATOR: Final = "STORAGE_EMULATOR_HOST"
"""The environment variable with the URL of a store other than Google's. It takes no credentials."""

NO_BUCKET: Final = "bucket does not exist"
"""What the store says of a missing bucket; its status alone could also mean a missing object."""

_SCHEME: Final = "gs://"
REQUEST: Final = re.compile(r"\b(?:GET|POST|PUT|PATCH|DELETE) https?://\S+: ")
"""What Google's clients put before what they say."""
_RETRY: Final = DEFAULT_RETRY.with_delay(initial=0.5, maximum=8.0, multiplier=2.0)
_CONNECT_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 60.0  # Google's default, for each part of an answer
_AT_ONCE: Final = 16  # operations on many objects
_CONNECTIONS: Final = 32  # kept open; there are readers of the ledger, its writer and the lease beside those
_CHUNK_BYTES: Final = 16 << 20  # of an object that is read bit by bit; Beam's
_UNAUTHENTICATED: Final = 401
# The client asks for the bucket's metadata, for traces that nobody has asked for. That takes a permission
# (storage.buckets.get) which whoever may read and write objects need not have.
_NO_BUCKET_METADATA: Final = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"


def is_gcs(path: str) -> bool:
    """Says whether a path or URL is in Google Cloud Storage."""
    return path.startswith(_SCHEME)


# --- the client


def settle_credentials(*, once: bool = False) -> None:
    """Saves Beam a search for credentials that cannot succeed, which takes 23 s and more.

    Where there are no credentials, or with an emulator, Beam then connects without.

    Args:
      once: whether to search for credentials and to believe the first answer. Workers must not: the metadata server of
        a machine that has just started may need several calls.
    """
    os.environ.setdefault(_NO_BUCKET_METADATA, "true")
    known = auth._Credentials
    if not known._credentials_init and (os.environ.get(EMULATOR) or (once and not _has_credentials())):
        with known._credentials_lock:
            known._credentials_init = True


def _has_credentials() -> bool:
    log = logging.getLogger("google.auth")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it logs every try to find a metadata server
    try:
        google.auth.default(scopes=_options().view_as(GoogleCloudOptions).gcp_oauth_scopes)
    except DefaultCredentialsError:
        return False
    finally:
        log.setLevel(level)
    return True


def _options() -> PipelineOptions:
    return FileSystems.get_filesystem(_SCHEME)._pipeline_options or PipelineOptions([])


@functools.lru_cache(maxsize=2)
def _client_of(process: int, emulator: str | None) -> Any:
    settle_credentials()
    client = create_storage_client(_options())
    for scheme in ("https://", "http://"):
        client._http.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS))
    return client


def _blob(path: str) -> Any:
    bucket, name = _parts(path)
    return _client_of(os.getpid(), os.environ.get(EMULATOR)).bucket(bucket).blob(name)


def _parts(path: str) -> tuple[str, str]:
    bucket, _, name = path.removeprefix(_SCHEME).partition("/")
    return bucket, name


def _patiently(patience: float | None) -> dict[str, Any]:
    seconds = PATIENCE_SECONDS if patience is None else patience
    return {
        "retry": _RETRY.with_timeout(seconds),
        "timeout": (min(_CONNECT_SECONDS, seconds), min(_ANSWER_SECONDS, seconds)),
    }


# --- errors


@contextlib.contextmanager
def translate_errors(path: str, what: str) -> Iterator[None]:
    """Translates the errors of Google's client, also those that Beam has wrapped, while its `with` block runs.

    Args:
      path: the object or folder.
      what: what is done to it, as in "cannot be read". Where nothing can be written or listed, there is no bucket.

    Raises:
      FileNotFoundError: there is no such object.
      FileChangedError: it has another generation than was demanded.
      StoreError: any other error.
    """
    try:
        yield
    except Exception as error:
        cause = _innermost(error)
        if isinstance(cause, NotFound) and NO_BUCKET not in str(cause) and what not in ("written", "listed"):
            raise FileNotFoundError(path) from error
        if isinstance(cause, PreconditionFailed):
            raise FileChangedError(path) from error
        if isinstance(cause, (FileNotFoundError, FileChangedError, StoreError)):
            raise
        reason = _reason(cause)
        raise StoreError(f"{path} cannot be {what}: {reason}", reason, _status(cause)) from error


def _innermost(error: BaseException) -> BaseException:
    details = error.exception_details if isinstance(error, BeamIOError) else None
    for inner in (details or {}).values():
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _status(error: BaseException | None) -> int | None:
    if isinstance(error, RetryError):
        return _status(error.cause)
    if isinstance(error, (RefreshError, DefaultCredentialsError)):  # the latter: there are none, and they were wanted
        return _UNAUTHENTICATED
    return int(error.code) if isinstance(error, GoogleAPICallError) and error.code else None


def _reason(error: BaseException | None) -> str:
    if isinstance(error, RetryError) and error.cause is not None:  # all of the time that it was tried again
        return _reason(error.cause)
    if isinstance(error, GoogleAPICallError):
        with contextlib.suppress(Exception):  # an answer that is no JSON
            return f"{error.code} {error.response.json()['error']['message'].rstrip('.')}"[:300]
        return f"{error.code} {' '.join(REQUEST.sub('', str(error.message)).split())}"[:300]
    if isinstance(error, DefaultCredentialsError):  # it was asked for some
        return "there are no credentials"
    if isinstance(error, GoogleAuthError):
        return f"credentials: {' '.join(str(error).split())}"[:300]
    if isinstance(error, ConnectionError) or type(error).__module__.startswith(("requests.", "urllib3.")):
        found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error))
        where = os.environ.get(EMULATOR) or "https://storage.googleapis.com"
        return f"{where} does not answer ({found[1] if found else type(error).__name__})"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


# --- objects


def read(path: str, most: int | None = None, *, patience: float | None = None) -> bytes:
    """Reads an object as it is stored; the first `most` bytes of it, or all."""
    return _download(path, patience, end=None if most is None else most - 1)


def read_version(path: str, *, patience: float | None = None) -> tuple[bytes, int | None]:
    """Reads an object and its generation; None for an emulator that has none, where no condition can be set."""
    with translate_errors(path, "read"):
        blob = _blob(path)
        content: bytes = blob.download_as_bytes(raw_download=True, **_patiently(patience))
        return content, None if blob.generation is None else int(blob.generation)


def read_end(path: str, count: int) -> bytes:
    """Reads the last `count` bytes of an object, or all of it where it is shorter."""
    return _download(path, None, start=-count) if count > 0 else b""


def _download(path: str, patience: float | None, **part: int | None) -> bytes:
    with translate_errors(path, "read"):
        try:
            content: bytes = _blob(path).download_as_bytes(raw_download=True, **part, **_patiently(patience))
        except RequestRangeNotSatisfiable:  # it is empty
            return b""
        return content


class _Reader(BlobReader):
    """Google's reader, with our errors."""

    mode = "rb"  # which Beam looks at where it decompresses

    def read(self, size: int = -1) -> bytes:
        with translate_errors(f"{_SCHEME}{self._blob.bucket.name}/{self._blob.name}", "read"):
            content: bytes = super().read(size)
            return content


def open_object(path: str) -> IO[bytes]:
    """Opens an object to be read in parts."""
    with translate_errors(path, "read"):
        blob = _blob(path)
        blob.reload(**_patiently(None))
        reader: IO[bytes] = _Reader(blob, _CHUNK_BYTES, raw_download=True, **_patiently(None))
        return reader


def exists(path: str) -> bool:
    """Says whether there is such an object."""
    with translate_errors(path, "read"):
        return bool(_blob(path).exists(**_patiently(None)))


def write(path: str, content: bytes, *, generation: int | None = None, patience: float | None = None) -> None:
    """Writes an object, whole or not at all, if it has the generation (ABSENT: if it is missing; None: always)."""
    with translate_errors(path, "written"):
        options = {"content_type": "application/octet-stream", "if_generation_match": generation}
        _blob(path).upload_from_string(content, **options, **_patiently(patience))


def delete(path: str, *, generation: int | None = None, patience: float | None = None) -> None:
    """Deletes an object, if it has the generation; a missing one is no error."""
    with translate_errors(path, "deleted"), contextlib.suppress(NotFound):
        _blob(path).delete(if_generation_match=generation, **_patiently(patience))


def delete_all(paths: Iterable[str]) -> None:
    """Deletes objects, several at a time; a missing one is no error."""
    _at_once(delete, [(path,) for path in paths])


def move_all(pairs: Iterable[tuple[str, str]]) -> None:
    """Renames objects, given as (from, to), within their bucket. All are copied before any is deleted."""
    both = list(pairs)
    _at_once(_copy, both)
    delete_all(source for source, _ in both)


def _copy(source: str, destination: str) -> None:
    with translate_errors(source, f"copied to {destination}"):
        blob = _blob(source)
        blob.bucket.copy_blob(blob, blob.bucket, _parts(destination)[1], **_patiently(None))


def _at_once(act: Callable[..., None], arguments: Sequence[tuple[str, ...]]) -> None:
    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(arguments)))) as pool:
        for done in [pool.submit(act, *each) for each in arguments]:
            done.result()


# --- listing


def list_objects(folder: str, pattern: str = "*") -> list[tuple[str, int]]:
    """Lists path and bytes of the objects directly in a folder whose names match, by path."""
    prefix = f"{folder.rstrip('/')}/"
    found = _listed(prefix, delimiter="/")[0]
    return [file for file in found if file[0] != prefix and fnmatch.fnmatchcase(file[0][len(prefix) :], pattern)]


def list_below(folder: str) -> list[tuple[str, int]]:
    """Lists path and bytes of all objects in a folder and in its folders, by path."""
    return _listed(f"{folder.rstrip('/')}/", delimiter=None)[0]


def list_folders(folder: str, prefix: str) -> list[str]:
    """Lists the names of the folders in a folder that begin with a prefix, sorted."""
    whole = f"{folder.rstrip('/')}/"
    return sorted(path[len(whole) :].rstrip("/") for path in _listed(f"{whole}{prefix}", delimiter="/")[1])


def check_listing(path: str, *, patience: float) -> None:
    """Checks that objects may be listed there, before anything else is done."""
    _listed(path, delimiter="/", patience=patience, most=1)


def _listed(
    path: str, *, delimiter: str | None, patience: float | None = None, most: int | None = None
) -> tuple[list[tuple[str, int]], list[str]]:
    bucket, prefix = _parts(path)
    with translate_errors(path, "listed"):
        found = _client_of(os.getpid(), os.environ.get(EMULATOR)).list_blobs(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            max_results=most,
            fields="items(name,size),prefixes,nextPageToken",
            **_patiently(patience),
        )
        objects = sorted((f"{_SCHEME}{bucket}/{blob.name}", int(blob.size)) for blob in found)
        return objects, [f"{_SCHEME}{bucket}/{name}" for name in found.prefixes]
