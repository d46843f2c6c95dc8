"""What an endpoint says when it does not answer: by a status, a code, a sentence, under status 200, or as an error of
another provider in a string."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from textmint.transforms.llm.retry_after import duration, wait_of

_SHORT: Final = 400  # characters
_MOST_CHARS: Final = 2000  # of a text that is kept
_DEPTH: Final = 8  # objects and strings of JSON within each other
_MESSAGES: Final = ("message", "Message", "error_msg", "status_msg", "msg", "error_description")
_WITHIN: Final = ("error", "errors", "Error", "detail", "innererror", "base_resp", "header", "Response")
_CODES: Final = ("code", "Code", "type", "status", "error_code", "error_type", "status_code", "http_code", "reason")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What an answer says that is no reply."""

    status: int  # of HTTP; of an error under status 200 the one that its body names, or that its words mean
    message: str = ""  # the endpoint's words as they came, those of the provider behind it among them
    codes: tuple[str, ...] = ()  # codes, types, states and reasons, as they came
    parameter: str = ""  # the part of the request that is blamed, in lower case
    state: str = ""  # the word for the status, where the body has one (google.rpc), or else ""
    reasons: tuple[str, ...] = ()  # google.rpc reasons, as they came
    retry_after: float | None = None  # seconds that the endpoint asks to wait; None: it does not say
    quota_is_zero: bool = False  # whether it says that there is a quota, and that it is none
    is_html: bool = False  # whether the body is a page
    # who wrote what a filter found ("user", "assistant"), where the body says so in a field of its own.
    flagged: str = ""

    @property
    def code(self) -> str:
        """All its codes, in lower case."""
        return " ".join(self.codes).lower()

    @property
    def words(self) -> str:
        """All that it says, in lower case."""
        return f"{self.message.lower()} {self.code}"

    @property
    def short_message(self) -> str:
        """Its message in lower case, or "" for a long one: that may quote the prompt, whose words mean nothing here."""
        return self.message.lower() if len(self.message) <= _SHORT else ""

    def says(self, words: re.Pattern[str]) -> bool:
        """Looks for words in the codes and in a short message."""
        return bool(words.search(self.code) or words.search(self.short_message))


def fault_of(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """Reads the body of an error."""
    text = body.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        is_html = text[:1] == "<" or (status >= 300 and "html" in headers.get("Content-Type", "").lower())
        if is_html:
            title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
            text = f"an HTML page, {title[1].strip()!r}" if title else "an HTML page"
        return Fault(status=status, message=text[:_MOST_CHARS], is_html=is_html, retry_after=wait_of(headers))
    return fault_in(status, headers, value)


def fault_in(status: int, headers: Mapping[str, str], value: object) -> Fault:
    """Reads the body of an error that was JSON."""
    found = _Found()
    _gather(value, found, _DEPTH)
    message = "; ".join(dict.fromkeys(filter(None, (each.strip() for each in found.messages))))
    if not message and value:
        message = value if isinstance(value, str) else json.dumps(value)[:_MOST_CHARS]
    reasons = [str(each["reason"]) for each in found.details if each.get("reason")]
    delays = [duration(each.get("retryDelay")) for each in found.details]
    return Fault(
        status=status,
        message=message,
        codes=(*found.codes, *reasons),
        parameter=" ".join(found.parameters).lower(),
        state=next((code for code in found.codes if re.fullmatch("[A-Z_]{4,40}", code)), ""),
        reasons=tuple(reasons),
        retry_after=wait_of(headers, [delay for delay in delays if delay is not None]),
        quota_is_zero=any(map(_is_quota_of_zero, found.details)),
        flagged=found.flagged,
    )


@dataclasses.dataclass(slots=True)
class _Found:
    messages: list[str] = dataclasses.field(default_factory=list)
    codes: list[str] = dataclasses.field(default_factory=list)
    parameters: list[str] = dataclasses.field(default_factory=list)
    details: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    flagged: str = ""


def _gather(value: object, found: _Found, depth: int) -> None:
    """Collects what an error says, from the outside inwards."""
    if depth == 0:
        return
    if isinstance(value, str):
        inner = _json_in(value)
        if inner is None:
            found.messages.append(value[:_MOST_CHARS])
        else:
            _gather(inner, found, depth - 1)
    elif isinstance(value, list):
        for each in value[:8]:
            _gather(each, found, depth - 1)
    elif isinstance(value, dict):
        _gather_object(value, found, depth)


def _gather_object(value: Mapping[str, Any], found: _Found, depth: int) -> None:
    if "loc" in value and "msg" in value:
        found.messages.append(_pydantic_error(value))
        return
    for name in _CODES:
        code = value.get(name)
        if isinstance(code, (str, int)) and not isinstance(code, bool) and code not in ("", "error"):
            found.codes.append(str(code)[:200])
    if isinstance(value.get("param"), str):
        found.parameters.append(value["param"])
    for name in _MESSAGES + _WITHIN:
        if value.get(name):
            _gather(value[name], found, depth - 1)
    details = value.get("details")
    if isinstance(details, str) and details:
        found.messages.append(details[:_MOST_CHARS])
    found.details += _objects_in(details)
    metadata = _object_at(value, "metadata")  # of OpenRouter: the provider's own words, or what its moderation found
    if metadata.get("raw"):
        _gather(metadata["raw"], found, depth - 1)
    if metadata.get("reasons") or metadata.get("flagged_input"):
        found.flagged = "user"
    for each in _objects_in(value.get("contentFilter")):  # of Zhipu: who wrote it, without a text
        if isinstance(each.get("role"), str):
            found.flagged = "assistant" if each["role"] == "assistant" else "user"


def _objects_in(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _object_at(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _json_in(text: str) -> object:
    """Reads JSON that stands as a string inside JSON; None: it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text) or None
    except (ValueError, RecursionError):
        return None


def _pydantic_error(error: Mapping[str, Any]) -> str:
    """Says where pydantic found what error, without the input, which may be the prompt."""
    place = error.get("loc")
    shown = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{shown}: {error.get('msg', '')} ({error.get('type', '')})"


def _is_quota_of_zero(detail: Mapping[str, Any]) -> bool:
    values = [each.get("quotaValue") for each in _objects_in(detail.get("violations"))]
    values.append(_object_at(detail, "metadata").get("quota_limit_value"))
    return any(str(value) == "0" for value in values)


def tells_error(value: Mapping[str, Any]) -> bool:
    """Tells whether what came with status 200, and holds no reply, is an error in any provider's form."""
    base, header, response = (_object_at(value, name) for name in ("base_resp", "header", "Response"))
    message = value.get("message")
    has_message = isinstance(message, str) or isinstance(value.get("msg"), str)
    return (
        any(value.get(name) for name in ("error", "errors", "error_msg", "error_code", "detail", "error_message"))
        or "error" in (value.get("object"), value.get("type"))
        or value.get("success") is False
        or value.get("status") in ("error", "failed", "fail")
        or base.get("status_code") not in (None, 0, "0")
        or header.get("code") not in (None, 0, "0")
        or bool(response.get("Error"))
        or (has_message and value.get("code") not in (None, 0, 200, "0", "200", "success", "ok"))
        or (isinstance(message, str) and message != "" and len(value) <= 3)
    )
