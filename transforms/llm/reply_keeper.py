"""The engine's side of the ledger: answers as they can be stored, kept before anybody sees them."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Final

from textmint.transforms.core.errors import system_reason
from textmint.transforms.core.texts import clean_name, clean_text
from textmint.transforms.ledger.writer import Ledger, now_ms, open_writer
from textmint.transforms.llm.base import Answer, FatalError, Request
from textmint.transforms.llm.redaction import masked

_LOG = logging.getLogger("textmint")
_MOST_TOKENS: Final = 1 << 40  # that an endpoint is believed; sums of counts stay far below 2**63
_LOGGED_SECONDS: Final = 5.0  # that the ledger may take no files before that is logged


def storable(answer: Answer, secrets: Sequence[str] = ()) -> Answer:
    """Makes an answer one that can be stored: clean text, counts that a column can hold, and none of the process's
    secrets, should the endpoint quote one. All that is written comes from here: the ledger, rows, rejects, the card."""
    text, model = clean_text(masked(answer.text, secrets)), clean_name(masked(answer.model, secrets))
    prompt, output = min(answer.prompt_tokens, _MOST_TOKENS), min(answer.output_tokens, _MOST_TOKENS)
    if (text, model, prompt, output) == (answer.text, answer.model, answer.prompt_tokens, answer.output_tokens):
        return answer
    return dataclasses.replace(answer, text=text, model=model, prompt_tokens=prompt, output_tokens=output)


class ReplyKeeper:
    """Keeps the answers of one engine in the ledger. What fails raises a FatalError, which ends the run."""

    def __init__(self, ledger: Ledger, fingerprint: str) -> None:
        self._ledger = ledger
        self._fingerprint = fingerprint
        self._behind_since: float | None = None
        self._is_logged = False
        try:
            self._writer = open_writer(ledger)
        except OSError as error:
            raise self._unwritable(error) from None

    def keep(self, request: Request, answer: Answer, latency: float) -> None:
        """Writes an answer that came after `latency` seconds."""
        row = {
            "request_id": request.request_id,
            "draft_id": request.prompt_id,
            "kind": request.kind,
            "refresh": self._ledger.refresh,
            "model": answer.model,
            "fingerprint": self._fingerprint,
            "attempt": request.attempt,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "output_tokens": answer.output_tokens,
            "latency_ms": round(latency * 1000),
            "time": now_ms(),
        }
        try:
            self._writer.append(row)
        except Exception as error:  # whatever it is, the element must not be lost
            raise self._unwritable(error) from None

    def is_behind(self, now: float) -> bool:
        """Tells whether the ledger has too much to write already, so that nothing more is paid for at this moment."""
        try:
            is_behind = self._writer.is_behind()
        except OSError as error:
            raise self._unwritable(error) from None
        if not is_behind:
            self._behind_since, self._is_logged = None, False
            return False
        if self._behind_since is None:
            self._behind_since = now
        if now - self._behind_since > _LOGGED_SECONDS and not self._is_logged:
            self._is_logged = True
            _LOG.warning("%s takes no files at this moment; no more is asked until it does", self._ledger.folder)
        return True

    def flush(self) -> None:
        """Waits until every answer is where another process finds it."""
        try:
            self._writer.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Writes what waits, and closes the ledger. An error is only logged: other ledgers must be closed too."""
        try:
            self._writer.close()
        except Exception as error:
            _LOG.warning("the last replies could not be kept in the ledger: %s", error)

    def _unwritable(self, error: Exception) -> FatalError:
        return FatalError(
            f"the ledger {self._ledger.folder} cannot be written: {system_reason(error)}",
            "what was paid for before is kept; make room or mend the folder, then run the same command again",
        )
