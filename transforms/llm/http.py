"""What answers over HTTP mean: shared by all back ends that ask an endpoint.

Endpoints agree on little: the same fault is told by a status, by a code, by a sentence, under status 200, or by an
error of another provider that stands as a string inside. One table here says what each of them is for a run. A back end
adds its URL, its body, its reading of a good answer, and what the user can do about a fault (`Remedy`).

Sources: RFC 9110 (Retry-After), https://cloud.google.com/apis/design/errors (google.rpc),
https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
https://openrouter.ai/docs/api-reference/errors, https://api-docs.deepseek.com/quick_start/error_codes,
https://docs.bigmodel.cn/cn/faq/api-code, https://platform.minimaxi.com/docs/api-reference/errorcode,
https://help.aliyun.com/zh/model-studio/error-code, https://developers.cloudflare.com/support/troubleshooting (520-530),
and error bodies as users quote them in the trackers of clients and gateways.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import email.utils
import functools
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, unquote

from textmint.transforms.core.elements import FinishReason
from textmint.transforms.llm.base import FatalError, Refused, RequestError, Throttled, Transient

if TYPE_CHECKING:
    import aiohttp

# ------------------------------------------------------------------------------------------------- the size of a reply


class ReplyTooLarge(Refused):
    """A reply that is larger than a reply may be."""


def bounded(most_bytes: int) -> type[aiohttp.ClientResponse]:
    """Makes the `response_class` of an aiohttp session that holds no more of a body than is allowed.

    A body of 2 MB can decompress to many GB. aiohttp decompresses piece by piece, as far as it is read, so that memory
    holds what was allowed and one piece.

    Args:
      most_bytes: of a body, decompressed.

    Returns:
      A class whose `read`, and all that stands on it, raises ReplyTooLarge.
    """

    import aiohttp  # here, since options are read where nothing is asked

    class Bounded(aiohttp.ClientResponse):
        async def read(self) -> bytes:
            if self._body is not None:
                return await super().read()
            body = bytearray()
            try:
                async for piece in self.content.iter_any():
                    body += piece
                    if len(body) > most_bytes:
                        raise ReplyTooLarge(f"the reply is larger than --max_reply_bytes={most_bytes}")
            except BaseException:
                self.close()  # what is still to come is not wanted
                raise
            self._body = bytes(body)
            return self._body

    return Bounded


# -------------------------------------------------------------------------------------------------- texts of others

DETAIL_CHARS: Final = 300
_KEYS: Final = (
    r"\bsk-[\w-]{12,}",
    r"\bAIza[\w-]{20,}",  # Google's API keys, old and new, and its access tokens
    r"\bAQ\.[\w-]{20,}",
    r"\bya29\.[\w.-]+",
    r"\beyJ[\w-]+\.[\w-]+\.[\w-]+",  # JSON Web Tokens
    r"(?i:\bbearer\s+)[\w.~+/=-]{6,}",
)


def forms_of(secret: str) -> set[str]:
    """Lists the forms in which a secret can be quoted: as it is, as a part of a URL, in base64; each also as JSON
    writes it in a string, or in a string of a string."""
    if not secret:
        return set()
    coded = base64.b64encode(secret.encode()).decode()
    safe = coded.replace("+", "-").replace("/", "_")
    forms = {secret, quote(secret, safe=""), unquote(secret), coded, safe, coded.rstrip("="), safe.rstrip("=")}
    once = {escaped for form in forms for escaped in _in_json(form)}
    return forms | once | {escaped for form in once for escaped in _in_json(form)}


def _in_json(text: str) -> set[str]:
    """Writes a text as in a JSON string; PHP also escapes slashes, and Go what HTML knows."""
    plain = json.dumps(text)[1:-1]
    for_html = plain.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&"})
    return {plain, plain.replace("/", "\\/"), for_html}


_LEAST_MASKED: Final = 12  # characters
_MASK: Final = "[key]"


def masked(text: str, secrets: Iterable[str]) -> str:
    """Takes secrets out of a text that is kept.

    A word that stands in the place of a key ("EMPTY", "ollama", "not-needed") is no secret, and may be a word of the
    text: what is masked has 12 characters and a digit at least, or 20.
    """
    for secret in secrets:
        if len(secret) >= 20 or (len(secret) >= _LEAST_MASKED and any(map(str.isdigit, secret))):
            for form in _forms(secret):
                if form in text:
                    text = text.replace(form, _MASK)
    return text


_forms: Final = functools.lru_cache(maxsize=64)(lambda secret: tuple(sorted(forms_of(secret), key=len, reverse=True)))


def secret_pattern(secrets: Iterable[str] = ()) -> re.Pattern[str]:
    """Makes a pattern that finds what must not be shown.

    Args:
      secrets: keys, tokens and passwords that are known; whatever else looks like a key is found too.
    """
    # A word of a few letters is hidden only where it stands alone; it may be a part of others.
    exact = [
        re.escape(secret) if len(secret) >= 8 else rf"(?<![\w-]){re.escape(secret)}(?![\w-])"
        for secret in sorted(set(secrets), key=len, reverse=True)
        if secret
    ]
    return re.compile("|".join([*exact, *_KEYS]))


_LOOKS_LIKE_A_KEY: Final = secret_pattern()


def one_line(text: str, secrets: re.Pattern[str] = _LOOKS_LIKE_A_KEY) -> str:
    """Shortens a text of an endpoint or a client to one printable line of at most 300 characters, without keys."""
    line = secrets.sub("[key]", text)  # before it is cut: half a key would not be found
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in line).split())
    return line if len(line) <= DETAIL_CHARS else line[: DETAIL_CHARS - 1] + "…"


# ------------------------------------------------------------------------------------------------- reading an error


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What an answer that is none tells.

    Args:
      status: of HTTP; of an error under status 200 the one that its body names, or that its words mean.
      message: the endpoint's words as they came, those of the provider behind it among them.
      code: codes, types, states and reasons, in lower case.
      parameter: the part of the request that is blamed, in lower case.
      state: the word for the status, where the body has one (google.rpc), or else "".
      reasons: google.rpc reasons, as they came.
      retry_after: seconds that the endpoint asks to wait; None: it does not say.
      quota_is_zero: whether it says that there is a quota, and that it is none.
      is_html: whether the body is a page.
      flagged: who wrote what a filter found ("user", "assistant"), where the body says so in a field of its own.
    """

    status: int
    message: str = ""
    code: str = ""
    parameter: str = ""
    state: str = ""
    reasons: tuple[str, ...] = ()
    retry_after: float | None = None
    quota_is_zero: bool = False
    is_html: bool = False
    flagged: str = ""

    @property
    def words(self) -> str:
        """All that it says, in lower case."""
        return f"{self.message} {self.code}".lower()

    def says(self, words: re.Pattern[str]) -> bool:
        """Looks for words in the codes and in a short message; a longer one may quote the prompt, whose words mean
        nothing here."""
        return bool(words.search(self.code) or (len(self.message) <= _SHORT and words.search(self.message.lower())))


_SHORT: Final = 400  # characters
_DEPTH: Final = 8  # objects and strings of JSON within each other
_MESSAGES: Final = ("message", "Message", "error_msg", "status_msg", "msg", "error_description")
_WITHIN: Final = ("error", "errors", "Error", "detail", "innererror", "base_resp", "header", "Response")
_CODES: Final = ("code", "Code", "type", "status", "error_code", "error_type", "status_code", "http_code", "reason")


@dataclasses.dataclass(slots=True)
class _Found:
    messages: list[str] = dataclasses.field(default_factory=list)
    codes: list[str] = dataclasses.field(default_factory=list)
    parameters: list[str] = dataclasses.field(default_factory=list)
    details: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    flagged: str = ""


def fault_of(status: int, headers: Mapping[str, str], body: bytes | str) -> Fault:
    """Reads the body of an error, in any of the forms that servers give it.

    Args:
      status: of HTTP.
      headers: looked up as they are written here where they are no `CIMultiDict`.
      body: as it came.
    """
    text = (body.decode("utf-8", "replace") if isinstance(body, bytes) else body).strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if text[:1] == "<" or (status >= 300 and "html" in str(headers.get("Content-Type", "")).lower()):
            title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
            shown = "an HTML page" + (f", {title[1].strip()!r}" if title else "")
            return Fault(status=status, message=shown, is_html=True, retry_after=wait_of(headers))
        return Fault(status=status, message=text[:2000], retry_after=wait_of(headers))
    return fault_in(status, headers, value)


def fault_in(status: int, headers: Mapping[str, str], value: object) -> Fault:
    """Reads an error that was JSON; see `fault_of`."""
    found = _Found()
    _gather(value, found, _DEPTH)
    message = "; ".join(dict.fromkeys(filter(None, (each.strip() for each in found.messages))))
    if not message and value:
        message = value if isinstance(value, str) else json.dumps(value)[:2000]
    reasons = [str(each["reason"]) for each in found.details if each.get("reason")]
    codes = [*found.codes, *reasons]
    delays = [_duration(each.get("retryDelay")) for each in found.details]
    fault = Fault(
        status=status,
        message=message,
        code=" ".join(codes).lower(),
        parameter=" ".join(found.parameters).lower(),
        state=next((code for code in found.codes if re.fullmatch("[A-Z_]{4,40}", code)), ""),
        reasons=tuple(reasons),
        retry_after=wait_of(headers, [delay for delay in delays if delay is not None]),
        quota_is_zero=any(map(_is_zero, found.details)),
        flagged=found.flagged,
    )
    return fault if status != 200 else dataclasses.replace(fault, status=_status_in(fault, codes))


def _gather(value: object, found: _Found, depth: int) -> None:
    """Collects what an error says, from the outside inwards."""
    if depth == 0:
        return
    if isinstance(value, str):
        inner = _json(value)
        if inner is None:
            found.messages.append(value[:2000])
        else:
            _gather(inner, found, depth - 1)
    elif isinstance(value, list):
        for each in value[:8]:
            _gather(each, found, depth - 1)
    elif isinstance(value, dict):
        if "loc" in value and "msg" in value:
            found.messages.append(_place_and_fault(value))
            return
        for name in _CODES:
            word = value.get(name)
            if isinstance(word, (str, int)) and not isinstance(word, bool) and word != "" and word != "error":
                found.codes.append(str(word)[:200])
        if isinstance(value.get("param"), str):
            found.parameters.append(value["param"])
        for name in _MESSAGES + _WITHIN:
            if value.get(name):
                _gather(value[name], found, depth - 1)
        details = value.get("details")
        if isinstance(details, list):
            found.details += [each for each in details if isinstance(each, dict)]
        elif isinstance(details, str) and details:
            found.messages.append(details[:2000])
        metadata = value.get("metadata")
        if isinstance(metadata, dict):  # of OpenRouter: the provider's own words, or what its moderation found
            if metadata.get("raw"):
                _gather(metadata["raw"], found, depth - 1)
            if metadata.get("reasons") or metadata.get("flagged_input"):
                found.flagged = "user"
        filters = value.get("contentFilter")
        for each in filters if isinstance(filters, list) else ():  # of Zhipu: whose words are not wanted
            if isinstance(each, dict) and isinstance(each.get("role"), str):
                found.flagged = "assistant" if each["role"] == "assistant" else "user"


def _json(text: str) -> object:
    """Reads JSON that stands as a string inside JSON; None: it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (dict, list)) and value else None


def _place_and_fault(fault: Mapping[str, Any]) -> str:
    """Says where pydantic found what fault, without the input, which may be the prompt."""
    place = fault.get("loc")
    shown = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{shown}: {fault.get('msg', '')} ({fault.get('type', '')})"


def _is_zero(detail: Mapping[str, Any]) -> bool:
    """Does a google.rpc detail name a quota of zero?"""
    metadata, violations = detail.get("metadata"), detail.get("violations")
    if isinstance(metadata, dict) and str(metadata.get("quota_limit_value")) == "0":
        return True
    return any(
        isinstance(each, dict) and str(each.get("quotaValue")) == "0"
        for each in (violations if isinstance(violations, list) else ())
    )


# ---------------------------------------------------------------------------------------- errors that have status 200


def fault_under_200(headers: Mapping[str, str], value: object) -> Fault | None:
    """Finds the error in what came with status 200, in any provider's form.

    Args:
      headers: of the answer.
      value: its body, where that holds no answer.

    Returns:
      None: the body tells of no error, it is of another kind.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # Google wraps the errors of its chat route in a list of one
    if not isinstance(value, dict):
        return None
    base = value.get("base_resp")
    header = value.get("header")
    says_so = (
        any(value.get(name) for name in ("error", "errors", "error_msg", "error_code", "detail", "error_message"))
        or value.get("object") == "error"
        or value.get("type") == "error"
        or value.get("success") is False
        or value.get("status") in ("error", "failed", "fail")
        or (isinstance(base, dict) and base.get("status_code") not in (None, 0, "0"))
        or (isinstance(header, dict) and header.get("code") not in (None, 0, "0"))
        or (isinstance(value.get("Response"), dict) and bool(value["Response"].get("Error")))
        or (
            value.get("code") not in (None, 0, 200, "0", "200", "success", "ok")
            and any(isinstance(value.get(name), str) for name in ("message", "msg"))
        )
        or (isinstance(value.get("message"), str) and bool(value["message"]) and len(value) <= 3)
    )
    return fault_in(200, headers, value) if says_so else None


_STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "badrequesterror": 400,
    "bad_request": 400,
    "validation": 422,
    "authentication_error": 401,
    "unauthenticated": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "overloaded": 529,
    "overloaded_error": 529,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
}
"""Words for a status: of google.rpc, OpenAI, Anthropic, vLLM and TGI."""


def _status_in(fault: Fault, codes: Iterable[str]) -> int:
    """Reads the status of an error that came with status 200 from what it says. What nobody knows is a fault that may
    pass."""
    for code in codes:
        if re.fullmatch("[45][0-9]{2}", code):
            return int(code)
    if filter_of(fault):
        return 400
    if _is_unpaid(fault):
        return 402
    if fault.says(_NO_KEY):
        return 401
    if fault.says(_NO_MODEL) or fault.says(_NO_ROUTE):
        return 404
    if fault.says(_OVERLOAD):
        return 429
    for code in codes:
        if (status := _STATUSES.get(code.lower())) is not None:
            return status
    return 400 if STRUCTURE.search(fault.words) or fault.says(_BAD_REQUEST) else 500


# ------------------------------------------------------------------------------------------------------ what it means

Doom = Literal["key", "forbidden", "unpaid", "quota", "model", "route", "proxy", "place"]
"""Why no request can be answered: the key is not accepted; it may not do this, or this prompt may not be asked; nobody
paid; there is a quota of zero; there is no such model; nothing answers at this path; the proxy wants a password; the
country is not served."""

Meaning = Literal["throttled", "transient", "refused", "foreign", Doom]
"""What a fault is for a run. "foreign": it is no such endpoint, if it is so from the start."""

Remedy = Callable[[Doom, Fault], str]
"""What a back end tells the user to do, one line."""

_PASSING: Final = frozenset({408, 409, 424, 425, 499})
"""Statuses below 500 that pass: 424 is how TGI tells that generating failed, 499 how proxies and Google tell that a
request was cancelled."""

_NO_FILTER: Final = frozenset({401, 402, 404, 405, 407, 408, 429})  # that are about other things, whatever they say
_FILTER_CODES: Final = re.compile(
    r"content_?filter|content_?polic|content_?moderation|responsible_?ai|moderation|data_?inspection|invalid_prompt|"
    r"prohibited_content|sensitive|censor|safety_(block|check|violation|error)|policy_violation|usage_policy|"
    r"guardrail|risk_control|(?<![\w.-])1301(?![\w.-])"  # 1301: Zhipu
)
_FILTER_WORDS: Final = re.compile(
    r"content management policy|content ?polic|content[ _-]?filter|guardrail polic|unsafe (content|prompt|input)|"
    r"content exists risk|considered high risk|"
    r"usage (guideline|polic)|safety (system|polic|filter|check|guideline)|inappropriate content|"
    r"(input|prompt|content|message|request)\b.{0,30} flagged|flagged (as|for|by)|requires moderation|"
    r"content moderation|data_?inspection|sensitive (content|information|word|topic)|(input|output) (\w+ )?sensitive|"
    r"new_sensitive|harmful content|prohibited content|responsible ai|community guidelines|"
    r"(blocked|rejected|filtered|stopped) by .{0,40}(filter|guardrail|safety|moderation|polic)|"
    r"content .{0,40}(was|is|been) blocked|content .{0,20}violates|failed check: safety|"
    r"敏感|不安全|违规|不合规|内容安全|不当内容"
)
_OF_REPLY: Final = re.compile(
    r"^output .{0,40}(blocked|filter)|\boutput (text )?data may|output_?(text)?_?sensitive|output \w*_?sensitive|"
    r"(generated|response|model.s?) (text|content|output) .{0,40}(blocked|filtered|flagged)|outputtext"
)
_OF_ACCOUNT: Final = re.compile(
    r"\b(account|organi[sz]ation|api.?key|project|team|workspace|subscription|access)\b.{0,60}"
    r"(suspend|deactivat|terminat|disabled|banned|revoked|restricted|flagged)|账号|账户|封禁"
)
_UNPAID_CODES: Final = re.compile(
    r"insufficient_(user_)?(quota|balance|credits?|funds)|insufficient (quota|balance)|"
    r"billing_(not_active|hard_limit_reached)|billing_error|"
    r"exceeded_current_quota_error|arrearage|allocationquota|payment_required|out_of_credits?|credits?_exhausted|"
    r"(?<![\w.-])1113(?![\w.-])"  # 1113: Zhipu
)
_UNPAID_WORDS: Final = re.compile(
    r"insufficient.{0,20} (balance|credit|fund|quota)|(balance|credits?) (is |are )?(too low|insufficient|depleted|"
    r"exhausted|not enough)|not enough (balance|credit)|(out of|used all).{0,20} credits?\b|spending (cap|limit)|"
    r"payment required|account .{0,30}good standing|never purchased credits|requires more credits|"
    r"余额不足|欠费|billing (is )?not (active|enabled)"
)
_QUOTA_OF_ZERO: Final = re.compile(r"\blimit:? ?0(?![\d.]*\d)")
_NO_KEY: Final = re.compile(
    r"api_key_(invalid|expired)|invalid_api_key|invalidapikey|invalid_iam_token|authentication_error|"
    r"(invalid|incorrect|missing|wrong|no|expired) (api|access|auth\w*).?(key|token|credential)|"
    r"api.?key (is )?(not valid|invalid|missing|expired|not found|required)|login fail|unauthorized|"
    r"no auth credentials|(no|missing).{0,20}authorization header|auth_?failure|noautherror|"
    r"authentication (error|failed|failure|is required|required)|unauthenticated"
)
_NO_MODEL: Final = re.compile(
    r"model_?not_?found|not a valid model|(invalid|unknown|unsupported|no such) model\b|"
    r"\bmodel\b.{0,200}?(not exist|not found|not available|is not served|not loaded)|serves no model"
)
_NO_ROUTE: Final = re.compile(
    r"unexpected endpoint|invalid url|cannot post|page not found|unknown (request )?(url|route|path|endpoint)|"
    r"no (such )?(route|path|endpoint)\b|(route|path|url|resource|endpoint) (was )?not found|^not found\.?$|"
    r"method not allowed"
)
_WANTS_TLS: Final = re.compile(r"http request (was )?(sent )?to (an )?https")  # nginx, Go
_NO_PLACE: Final = re.compile(
    r"location is not supported|not available in your (country|region)|"
    r"(country|region|territory)\b.{0,20} not supported"
)
_BAD_REQUEST: Final = re.compile(
    r"invalid (request|param|argument|json)|bad request|badrequest|unsupported|validation|field required"
)
_OVERLOAD: Final = re.compile(
    r"overload|high demand|capacity|too many (concurrent )?(requests|connections)|rate.?limit|resource.?exhausted|"
    r"slow.?down|(request|qps|concurrency|token) limit (is |was )?(reached|exceeded)|"
    r"too busy|server.{0,9}busy|throttl|high traffic|queue is full|currently busy"
)
STRUCTURE: Final = re.compile(
    r"response.?format|response_?mime_?type|json.?schema|response_?schema|structured|guided|grammar|json mode|"
    r"controlled generation|output_config|json_object|text\.format",
    re.IGNORECASE,
)
"""How structured output is named by an endpoint that refuses it."""


def filter_of(fault: Fault) -> FinishReason | None:
    """Tells whether a provider's filter is what refused.

    Returns:
      "content_filter" where it dislikes the prompt, "reply_filter" where it disliked what was written this time, None
      where the fault is something else.
    """
    if fault.status in _NO_FILTER or fault.is_html:
        return None
    if fault.flagged:
        return "reply_filter" if fault.flagged == "assistant" else "content_filter"
    message = fault.message.lower() if len(fault.message) <= _SHORT else ""
    if not _FILTER_CODES.search(fault.code) and not _FILTER_WORDS.search(message):
        return None
    if _OF_ACCOUNT.search(message):
        return None  # who was banned for what was asked before is not told so about a prompt
    return "reply_filter" if _OF_REPLY.search(message) or _OF_REPLY.search(fault.code) else "content_filter"


def _is_unpaid(fault: Fault) -> bool:
    return fault.status == 402 or bool(_UNPAID_CODES.search(fault.code)) or fault.says(_UNPAID_WORDS)


def meaning_of(fault: Fault, model: str = "") -> Meaning:
    """Tells what a fault that no filter made is for a run.

    Args:
      fault: read by `fault_of`, `fault_in` or `fault_under_200`.
      model: what was asked for; a 404 that names it is about it.
    """
    status, words = fault.status, fault.words
    if status in (403, 429) and (fault.quota_is_zero or _QUOTA_OF_ZERO.search(words)):
        return "quota"
    if status == 402 and fault.retry_after is not None:
        return "throttled"  # OpenRouter: what is in flight may cost all that there is
    if _is_unpaid(fault):
        return "unpaid"
    if status in (400, 401, 403) and fault.says(_NO_KEY):
        return "key"
    if status == 403 and re.search("rate_limit_exceeded|resource_exhausted", fault.code):
        return "throttled"
    if status == 529 or (status >= 500 and _OVERLOAD.search(words)):
        return "throttled"
    if status in _PASSING or status >= 500:
        # 501 is how a web server that knows no POST answers.
        return "foreign" if status == 501 else "transient"
    if status == 429:
        return "refused" if "request too large" in words else "throttled"
    if status < 400:
        return "foreign"
    if status in (400, 403, 451) and fault.says(_NO_PLACE):
        return "place"
    if status == 401:
        return "key"
    if status == 403:
        return "forbidden"
    if status in (400, 404, 422) and (fault.says(_NO_MODEL) or (status == 404 and _names(model, fault.message))):
        return "model"
    if status in (404, 405) or (status == 400 and fault.says(_WANTS_TLS)):
        return "route"
    if status == 407:
        return "proxy"
    if "json_validate_failed" in fault.code:  # Groq: what this sample wrote did not fit the schema
        return "transient"
    return "refused"


def _names(model: str, text: str) -> bool:
    return bool(model) and bool(re.search(rf"(?<![\w/-]){re.escape(model)}(?![\w/-])", text))


def error_of(fault: Fault, detail: str, remedy: Remedy, model: str = "") -> RequestError:
    """Makes the error that a fault is.

    Args:
      fault: that no filter made.
      detail: one line for a person, without keys.
      remedy: the back end's.
      model: as for `meaning_of`.
    """
    meaning = meaning_of(fault, model)
    if meaning == "throttled":
        return Throttled(detail, fault.retry_after)
    if meaning == "transient":
        return Transient(detail, fault.retry_after)
    if meaning == "foreign":
        return Transient(detail, fault.retry_after, dooms_probe=True)
    if meaning == "refused":
        return Refused(detail)
    may_be_prompt = fault.status == 403 and meaning in ("key", "forbidden")
    may_pass = not may_be_prompt and meaning not in ("unpaid", "quota")  # which others of the run would meet as well
    return FatalError(detail, remedy(meaning, fault), may_be_prompt=may_be_prompt, may_pass=may_pass)


# ---------------------------------------------------------------------------------------------------- how long to wait

_LONGEST_TOLD: Final = 7 * 86_400.0  # seconds; no rate limit lasts longer, so a greater number is of another unit
_FIRST_MOMENT: Final = 1e9  # seconds since 1970: September 2001
_RATE_LIMIT_HEADERS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
)


def wait_of(headers: Mapping[str, str], delays: Iterable[float] = ()) -> float | None:
    """Reads for how long an endpoint asks to be left alone.

    Retry-After is seconds, an HTTP date, or what servers also write there: seconds or milliseconds since 1970, and
    milliseconds. Whoever waits bounds it.

    Args:
      headers: of the answer.
      delays: seconds of google.rpc.RetryInfo in its body.

    Returns:
      Seconds from 0, finite; None: it does not say, or nothing that can be.
    """
    lower = {name.lower(): str(value).strip() for name, value in headers.items()}
    sent = _moment(lower.get("date", ""))
    now = time.time() if sent is None else sent  # by the server's clock where it tells it: the two need not agree
    found = [_number(lower.get("retry-after-ms", ""), 1e-3), _wait(lower.get("retry-after", ""), now), *delays]
    told = [_plausible(each, now) for each in found if each is not None]
    waits = [each for each in told if each is not None]
    if waits:
        return waits[0]
    resets = [
        _plausible(seconds, now)
        for remaining, reset in _RATE_LIMIT_HEADERS
        if _number(lower.get(remaining, "")) == 0 and (seconds := _wait(lower.get(reset, ""), now)) is not None
    ]
    return max((each for each in resets if each is not None), default=None)


def _wait(text: str, now: float) -> float | None:
    """Reads a number of seconds, a span such as 1m30.5s or 250ms, or a date."""
    seconds = _number(text)
    if seconds is None and text:
        seconds = _span(text)
    if seconds is None and text:
        moment = _moment(text)
        seconds = None if moment is None else max(0.0, moment - now)
    return seconds


def _plausible(seconds: float, now: float) -> float | None:
    """Turns moments and milliseconds, which are too large to be seconds, into seconds from now."""
    for moment in (seconds, seconds / 1000):
        if _FIRST_MOMENT <= moment < 10 * _FIRST_MOMENT:
            seconds = max(0.0, moment - now)
            break
    if seconds > _LONGEST_TOLD:
        seconds /= 1000
    return seconds if seconds <= _LONGEST_TOLD else None


def _number(text: str, unit: float = 1.0) -> float | None:
    try:
        value = float(text) * unit
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _span(text: str) -> float | None:
    if not re.fullmatch(r"(\d{1,9}(\.\d{1,9})?(ms|s|m|h|d))+", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text))


def _duration(value: object) -> float | None:
    """Reads a google.protobuf.Duration in JSON, such as "25.5s"."""
    return _number(value[:-1]) if isinstance(value, str) and value.endswith("s") else None


def _moment(text: str) -> float | None:
    """Reads an HTTP date as seconds since 1970."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


# --------------------------------------------------------------------------------------------------- why a reply ended

_FINISHES: Final[Mapping[str, FinishReason]] = {
    **dict.fromkeys(
        ("length", "max_tokens", "max_length", "max_output_tokens", "model_length", "continuation"),
        "length",
    ),
    **dict.fromkeys(
        (
            "content_filter", "content_filtered", "guardrail_intervened", "sensitive", "safety", "recitation",
            "language", "prohibited_content", "blocklist", "spii", "model_armor", "refusal", "blocked",
            "image_safety", "image_prohibited_content", "image_recitation",
        ),
        "reply_filter",
    ),
}  # fmt: skip
"""Reasons of OpenAI, Gemini, Anthropic, Bedrock, Zhipu, vLLM and TGI, in lower case. Every other one (stop, eos_token,
stop_sequence, OTHER, ...) is an end of the model's own, or no limit and no filter: what came is read, and asked for
again where it cannot be."""

_OVERLOADED: Final = frozenset({"insufficient_system_resource"})  # DeepSeek
_UNFINISHED: Final = _OVERLOADED | {"error", "abort", "aborted", "cancelled", "canceled", "network_error", "timeout"}
"""OpenRouter, vLLM, SGLang, Zhipu: what came is no answer, and the same request may get one."""


def finish_of(reason: object, place: str) -> FinishReason:
    """Reads why a reply ended.

    Args:
      reason: as the endpoint words it; whatever is no string counts as "stop".
      place: who says so, for the error.

    Raises:
      Throttled, Transient: it did not end, but was broken off.
    """
    word = reason.lower() if isinstance(reason, str) else "stop"
    if word in _UNFINISHED:
        stopped = f"{place} stopped in the middle of an answer: {word}"
        raise Throttled(stopped) if word in _OVERLOADED else Transient(stopped)
    return _FINISHES.get(word, "stop")
