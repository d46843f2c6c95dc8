"""What a fault of an endpoint is for a run: one table for all back ends.

Sources: https://cloud.google.com/apis/design/errors (google.rpc),
https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
https://openrouter.ai/docs/api-reference/errors, https://api-docs.deepseek.com/quick_start/error_codes,
https://docs.bigmodel.cn/cn/faq/api-code, https://platform.minimaxi.com/docs/api-reference/errorcode,
https://help.aliyun.com/zh/model-studio/error-code, https://developers.cloudflare.com/support/troubleshooting (520-530),
and error bodies as users quote them in the trackers of clients and gateways.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Final, Literal

from textmint.transforms.core.elements import FinishReason
from textmint.transforms.llm.base import FatalError, Refused, RequestError, Throttled, Transient
from textmint.transforms.llm.error_body import Fault, fault_in, tells_error
from textmint.transforms.llm.urls import PASS_PROXY

FatalCause = Literal["key", "forbidden", "unpaid", "quota", "model", "route", "proxy", "place"]
"""Why no request can be answered: the key is not accepted; it may not do this, or this prompt may not be asked; nobody
paid; there is a quota of zero; there is no such model; nothing answers at this path; the proxy wants a password; the
country is not served."""

Meaning = Literal["throttled", "transient", "refused", "foreign", FatalCause]
"""What a fault is for a run. "foreign": it is no such endpoint, if it is so from the start."""

Remedies = Callable[[Fault], Mapping[FatalCause, str]]
"""What a back end tells the user to do, one line each."""

_PASSING: Final = frozenset({408, 409, 424, 425, 499})
"""Statuses below 500 that pass: TGI says with 424 that generating failed, a proxy with 499 that a request was ended."""

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

_STATUSES: Final[Mapping[str, int]] = {
    word: status
    for status, words in {
        400: "invalid_request_error invalid_argument failed_precondition badrequesterror bad_request",
        401: "authentication_error unauthenticated",
        403: "permission_error permission_denied",
        404: "not_found_error notfounderror not_found",
        413: "request_too_large",
        422: "validation",
        429: "rate_limit_error rate_limit_exceeded resource_exhausted too_many_requests",
        503: "unavailable",
        504: "timeout_error deadline_exceeded",
        529: "overloaded overloaded_error",
    }.items()
    for word in words.split()
}
"""Words for a status: of google.rpc, OpenAI, Anthropic, vLLM and TGI."""


def fault_under_200(headers: Mapping[str, str], value: object) -> Fault | None:
    """Finds the error in a body that came with status 200, in any provider's form; None: there is none."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # Google wraps the errors of its chat route in a list of one
    if not isinstance(value, dict) or not tells_error(value):
        return None
    fault = fault_in(200, headers, value)
    return dataclasses.replace(fault, status=_status_in(fault))


def _status_in(fault: Fault) -> int:
    """Reads the status of an error that came with status 200 from what it says. What nobody knows is a fault that may
    pass."""
    for code in fault.codes:
        if re.fullmatch("[45][0-9]{2}", code):
            return int(code)
    if filter_of(fault):
        return 400
    if _is_unpaid(fault):
        return 402
    for status, words in ((401, _NO_KEY), (404, _NO_MODEL), (404, _NO_ROUTE), (429, _OVERLOAD)):
        if fault.says(words):
            return status
    for code in fault.codes:
        if found := _STATUSES.get(code.lower()):
            return found
    return 400 if STRUCTURE.search(fault.words) or fault.says(_BAD_REQUEST) else 500


def filter_of(fault: Fault) -> FinishReason | None:
    """Tells what a provider's filter refused: the prompt ("content_filter"), the reply ("reply_filter") or neither."""
    if fault.status in _NO_FILTER or fault.is_html:
        return None
    if fault.flagged:
        return "reply_filter" if fault.flagged == "assistant" else "content_filter"
    message = fault.short_message
    if not _FILTER_CODES.search(fault.code) and not _FILTER_WORDS.search(message):
        return None
    if _OF_ACCOUNT.search(message):
        return None  # an account that is banned for earlier prompts
    return "reply_filter" if _OF_REPLY.search(message) or _OF_REPLY.search(fault.code) else "content_filter"


def _is_unpaid(fault: Fault) -> bool:
    return fault.status == 402 or bool(_UNPAID_CODES.search(fault.code)) or fault.says(_UNPAID_WORDS)


def meaning_of(fault: Fault, model: str = "") -> Meaning:
    """Tells what a fault is for a run, if no filter made it. A 404 that names the model is about the model."""
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
    names_model = model and re.search(rf"(?<![\w/-]){re.escape(model)}(?![\w/-])", fault.message)
    if status in (400, 404, 422) and (fault.says(_NO_MODEL) or (status == 404 and names_model)):
        return "model"
    if status in (404, 405) or (status == 400 and fault.says(_WANTS_TLS)):
        return "route"
    if status == 407:
        return "proxy"
    if "json_validate_failed" in fault.code:  # Groq: what this sample wrote did not fit the schema
        return "transient"
    return "refused"


def error_of(fault: Fault, detail: str, remedies: Remedies, model: str = "") -> RequestError:
    """Makes the error that a fault is, if no filter made it. The detail is one line for a person, without keys."""
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
    remedy = {"proxy": PASS_PROXY, **remedies(fault)}[meaning]
    return FatalError(detail, remedy, may_be_prompt=may_be_prompt, may_pass=may_pass)
