"""An API key in Google Secret Manager: the graph carries its name, and each process that asks a model fetches it.

The client speaks REST, one request a process: gRPC would bring threads of its own, and knows fewer forms of proxies.
Source: https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any, Final

from textmint.transforms.llm.base import FatalError, Transient
from textmint.transforms.llm.redaction import one_line

SECRET_VERSION: Final = (
    "projects/([a-z][a-z0-9.-]{0,61}[a-z0-9]:)?[a-z0-9][a-z0-9-]{0,61}[a-z0-9]"
    "/secrets/[A-Za-z0-9_-]{1,255}/versions/([1-9][0-9]{0,18}|[A-Za-z][A-Za-z0-9_-]{0,62})"
)
"""The resource name of a version. No part of it can lead to another path or host."""

EMULATOR_VARIABLE: Final = "SECRET_MANAGER_EMULATOR_HOST"
"""Names HOST:PORT of a stand-in, which is asked over plain HTTP and without credentials, so that it gets none."""

_TRY_SECONDS: Final = 10.0
_SECONDS: Final = 30.0  # for all tries


class SecretUnreadable(FatalError):
    """The key cannot be read; where that `is_forbidden`, another account may perhaps read it."""

    def __init__(self, detail: str, remedy: str, *, is_forbidden: bool = False) -> None:
        super().__init__(detail, remedy)
        self.is_forbidden = is_forbidden


def check_secret_version(name: str) -> None:
    """Raises ValueError for what is no resource name of a version. It is not quoted: it might be the key itself."""
    if not re.fullmatch(SECRET_VERSION, name):
        raise ValueError(
            "a secret's version is named projects/PROJECT/secrets/NAME/versions/NUMBER, or .../versions/latest"
        )


def fetch_key(name: str) -> str:
    """Reads the key that a version holds, with application default credentials. It waits for the network, for half a
    minute at most.

    Raises:
      SecretUnreadable: no credentials, no right, no such secret or version, a version that is off, or no key in it.
      Transient: Secret Manager could not be reached, or failed.
    """
    check_secret_version(name)
    # The exceptions of the client hold the request; what is raised for them is raised outside of `except`.
    problem: FatalError | Transient
    try:
        key = _access(name).decode("utf-8", "replace").strip()
        if re.fullmatch("[!-~]+", key):
            return key
        problem = SecretUnreadable(f"{name} holds something else than a key", "add a version that holds the key alone")
    except Exception as error:
        problem = _problem(error)
    raise problem


def _access(name: str) -> bytes:
    from google.api_core import retry
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import secretmanager_v1

    _keep_quiet()
    settings: dict[str, Any] = {}
    if place := os.environ.get(EMULATOR_VARIABLE):
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        settings = {"credentials": anonymous, "client_options": {"api_endpoint": f"http://{place}"}}
    with secretmanager_v1.SecretManagerServiceClient(transport="rest", **settings) as client:
        answer = client.access_secret_version(
            name=name,
            timeout=_TRY_SECONDS,
            retry=retry.Retry(retry.if_transient_error, initial=0.5, maximum=8.0, timeout=_SECONDS),
        )
    return bytes(answer.payload.data)


def _keep_quiet() -> None:
    """Turns off the client's log, which at level DEBUG may hold what it receives."""
    from google.cloud.secretmanager_v1.services.secret_manager_service import client
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import grpc, rest

    for module in (client, grpc, rest):
        logging.getLogger(module.__name__).disabled = True


def _problem(error: Exception) -> FatalError | Transient:
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError
    from textmint.transforms.llm.google_credentials import LOG_IN

    if isinstance(error, exceptions.RetryError) and isinstance(error.cause, Exception):
        return _problem(error.cause)
    said = _line(error)
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        # Its text may quote the file that holds a key.
        kind = type(error).__name__
        return SecretUnreadable(f"no application default credentials for Secret Manager ({kind})", LOG_IN)
    if isinstance(error, exceptions.NotFound):
        return SecretUnreadable(said, "check the project, the secret and the version, or add the secret")
    if isinstance(error, exceptions.Forbidden):
        remedy = "give whoever runs this roles/secretmanager.secretAccessor on the secret"
        if "SERVICE_DISABLED" in f"{error.details} {error.reason}" or "has not been used" in said:
            remedy = "enable it with `gcloud services enable secretmanager.googleapis.com`"
        return SecretUnreadable(said, remedy, is_forbidden=True)
    if isinstance(error, exceptions.Unauthorized):
        return SecretUnreadable(said, "run `gcloud auth application-default login` again")
    if isinstance(error, exceptions.BadRequest):
        return SecretUnreadable(said, "enable the version, or name one that is (`gcloud secrets versions list`)")
    if isinstance(error, exceptions.ClientError) and not isinstance(error, exceptions.TooManyRequests):
        return SecretUnreadable(said, "check the name")
    if isinstance(error, exceptions.GoogleAPICallError):
        return Transient(f"Secret Manager failed: {said}")
    return Transient(f"Secret Manager could not be reached ({type(error).__name__})")


def _line(error: Exception) -> str:
    """Shortens what Secret Manager said to one line, without the client's request."""
    text = re.sub(r"\b(?:GET|POST) https?://\S+: ", "", str(getattr(error, "message", error)))
    return one_line(text).rstrip(".") or type(error).__name__
