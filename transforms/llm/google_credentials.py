"""Application default credentials of Google Cloud, and access tokens from them."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.transport.requests
from textmint.transforms.llm.base import FatalError, RequestError, Transient

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"  # what Vertex AI's REST reference asks for
LOG_IN: Final = (
    "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file"
)
_RENEWAL_PAUSE: Final = 30.0  # seconds between tries to renew a token that still serves


async def default_credentials(remedy: str = LOG_IN) -> google.auth.credentials.Credentials:
    """Finds application default credentials, on a thread, or raises a FatalError with this remedy. Where the metadata
    server cannot be reached it raises Transient."""
    problem: RequestError
    try:
        found, _ = await asyncio.to_thread(google.auth.default, scopes=[SCOPE])
        return found
    except google.auth.exceptions.TransportError as error:
        problem = Transient(f"no credentials yet: {type(error).__name__}", dooms_probe=True)
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        # Not the error's words: those of a broken key file may quote it.
        problem = FatalError(f"no application default credentials ({type(error).__name__})", remedy)
    raise problem


def credentials_error(error: Exception) -> RequestError:
    """Says in our words why credentials gave no token. The error's own words may quote one; only its code is shown."""
    code = re.match("[a-z]+(_[a-z]+)+", str(error.args[0]) if error.args else "")
    said = type(error).__name__ + (f", {code[0]}" if code else "")
    if isinstance(error, google.auth.exceptions.TransportError):
        return Transient(f"the token server cannot be reached: {said}", dooms_probe=True)
    if not isinstance(error, google.auth.exceptions.GoogleAuthError):
        return Transient(f"no token: {said}")
    if getattr(error, "retryable", False):
        return Transient(f"the token server failed: {said}")
    return FatalError(f"the credentials give no token: {said}", LOG_IN)


class Tokens:
    """Access tokens, renewed on a thread, once for all requests that wait."""

    def __init__(self, credentials: google.auth.credentials.Credentials) -> None:
        self.credentials = credentials
        self.known: list[str] = []  # every token there was, to be struck out of texts
        self.accepted: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._not_before = 0.0  # of the loop's clock, in seconds

    async def current(self) -> str:
        """Gives a token that is valid now. Raises FatalError where the credentials are not valid any more, Transient
        where the token server cannot be reached."""
        state = self.credentials.token_state
        if state is google.auth.credentials.TokenState.INVALID:
            # Shielded, so that the cancelling of one request does not take the token from the others.
            await asyncio.shield(self._renewal())
        elif state is google.auth.credentials.TokenState.STALE:  # it serves for some minutes yet
            now = asyncio.get_running_loop().time()
            if now >= self._not_before:
                self._not_before = now + _RENEWAL_PAUSE
                self._renewal()
        token = self.credentials.token or ""
        if token not in self.known:
            self.known.append(token)
        return token

    def drop(self, token: str) -> None:
        """Forgets a token that is not accepted any more: the next request fetches another."""
        if self.credentials.token == token:
            self.credentials.token = None

    def close(self) -> None:
        """Cancels a renewal."""
        if self._renewing is not None:
            self._renewing.cancel()

    def _renewal(self) -> asyncio.Task[None]:
        if self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew())
            self._renewing.add_done_callback(self._renewed)
        return self._renewing

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewing = None
        if not task.cancelled():
            task.exception()  # seen by those who wait; if nobody does, the old token still serves

    async def _renew(self) -> None:
        problem: RequestError
        try:
            await asyncio.to_thread(self.credentials.refresh, google.auth.transport.requests.Request())
            return
        except Exception as error:
            problem = credentials_error(error)
        raise problem
