"""Where endpoints put what a model wrote, and why it ended.

The place is `content`, but not always: a server that takes reasoning apart puts the whole answer into the reasoning
where the model never closed it (vLLM's reasoning parsers, DeepSeek, OpenRouter), and one that turns structured output
into a tool call puts it into the arguments of that. Such places count where the content is empty, and only there. What
came is passed on in any case, so that the ledger and a reject hold what was paid for.

Sources: https://platform.openai.com/docs/api-reference/chat/object, https://ai.google.dev/api/caching#Part,
https://docs.vllm.ai/en/latest/features/reasoning_outputs.html, https://openrouter.ai/docs/use-cases/reasoning-tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from textmint.transforms.core.elements import FinishReason
from textmint.transforms.llm.base import Throttled, Transient
from textmint.transforms.parsing.answers import start_of_answer
from textmint.transforms.parsing.reasoning import has_only_marks

_DEPTH: Final = 8  # objects within each other
_SPOKEN: Final = ("text", "output_text")  # types of parts; those of reasoning have others
_TEXTS: Final = ("text", "thinking", "summary", "content", "reasoning")
_THOUGHTS: Final = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
_NO_TEXT: Final = frozenset(
    {"role", "type", "id", "call_id", "index", "name", "refusal", "content", "finish_reason", "finishReason"}
)
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

_OPEN: Final = "<think>\n"
_CLOSE: Final = "\n</think>\n"
"""Marks of models themselves, around the part of a reasoning that is no answer: the drafts in it are not read."""


def finish_of(reason: object, place: str) -> FinishReason:
    """Reads why a reply ended. What is no string counts as "stop". Raises Throttled or Transient where it was broken
    off."""
    word = reason.lower() if isinstance(reason, str) else "stop"
    if word in _UNFINISHED:
        stopped = f"{place} stopped in the middle of an answer: {word}"
        raise Throttled(stopped) if word in _OVERLOADED else Transient(stopped)
    return _FINISHES.get(word, "stop")


def text_of_reply(
    content: str,
    finish: FinishReason,
    *,
    arguments: Iterable[object] = (),
    other: str = "",
    reasoning: Iterable[object] = (),
    whole: object = None,
) -> str:
    """Finds the text of a reply: the first place that holds some.

    Content counts unless it is blank or nothing but marks, and is followed by the arguments of tool calls where it is
    mere words. Next come these arguments, `other`, the reasoning, and the `whole` of the reply as JSON.
    """
    has_content = bool(content) and not content.isspace() and not has_only_marks(content)
    if has_content and ("{" in content or "[" in content):
        return content
    called = "\n".join(filter(None, map(_argument, arguments)))
    if has_content:  # maybe words before a call: "I will use the tool."
        return f"{content}\n{called}" if called else content
    if called or other.strip():
        return called or other
    thought = "".join(text for each in reasoning for text in _texts_in(each, _DEPTH))
    if thought.strip():
        return _marked(thought, finish)
    return json.dumps(whole, ensure_ascii=False) if _holds_text(whole, _DEPTH) else content


def _marked(thought: str, finish: FinishReason) -> str:
    """Puts a model's marks of reasoning around all but the value that it ends with."""
    start = None if finish == "length" else start_of_answer(thought)
    if start is None:
        return f"{_OPEN}{thought}"
    return f"{_OPEN}{thought[:start]}{_CLOSE}{thought[start:]}" if start else thought


def choice_text(choice: Mapping[str, Any], finish: FinishReason) -> str | None:
    """Finds the text of a choice in the chat or the completions protocol; None: it is no choice."""
    message = next((choice[name] for name in ("message", "delta") if choice.get(name) is not None), None)
    text = choice.get("text")
    other = text if isinstance(text, str) else ""
    if isinstance(message, str):
        message = {"content": message}
    if not isinstance(message, dict):
        return other if isinstance(text, str) else None
    content = message.get("content")
    if content is not None and not isinstance(content, (str, list, dict)):
        return json.dumps(content)
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    calls = message.get("tool_calls")
    called = [message.get("function_call"), *(calls if isinstance(calls, list) else [calls]), *parts]
    refusal = message.get("refusal")
    return text_of_reply(
        content_text(content) or "",
        finish,
        arguments=map(_arguments_of, called),
        other=other.strip() or (refusal if isinstance(refusal, str) else ""),
        reasoning=_thoughts_in(choice, message, parts),
        whole=message,
    )


def content_text(value: object) -> str | None:
    """Reads a message's content, a string or parts, without its thoughts; None: there is no text in it."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return content_text(value.get("parts", [value]))
    if isinstance(value, list):
        spoken = [part if isinstance(part, str) else _spoken(part) for part in value]
        found = [text for text in spoken if text is not None]
        return "".join(found) if found or not value else None
    return None


def _spoken(part: object) -> str | None:
    if not isinstance(part, dict) or part.get("thought") or part.get("type", "text") not in _SPOKEN:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _thoughts_in(
    choice: Mapping[str, Any], message: Mapping[str, Any], parts: Iterable[Mapping[str, Any]]
) -> Iterator[object]:
    """Finds the reasoning of a choice when it is read, which is seldom. Gateways send the same under several names, of
    which the first counts."""
    yield from (part for part in parts if part.get("type", "text") not in _SPOKEN)
    for holder in (message, choice):
        for name in _THOUGHTS:
            if "".join(_texts_in(holder.get(name), _DEPTH)).strip():
                yield holder[name]
                return


def _arguments_of(call: object) -> object:
    """Finds the arguments of a tool call: of OpenAI's form, old or new, or a part of Anthropic's."""
    if not isinstance(call, dict):
        return None
    inner = next((call[name] for name in ("function", "custom") if isinstance(call.get(name), dict)), call)
    return next((inner[name] for name in ("arguments", "input", "parameters") if inner.get(name)), None)


def _argument(value: object) -> str:
    if isinstance(value, str):
        return "" if value.strip() in ("", "{}", "[]", "null") else value
    return json.dumps(value, ensure_ascii=False) if value and isinstance(value, (dict, list)) else ""


def _texts_in(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, list):
        for each in value:
            yield from _texts_in(each, depth - 1)
    elif depth and isinstance(value, dict):
        for name in _TEXTS:
            if value.get(name):
                yield from _texts_in(value[name], depth - 1)
                return


def _holds_text(value: object, depth: int) -> bool:
    """Is there a text that is not blank in it, other than names and types?"""
    if isinstance(value, str):
        return bool(value.strip())
    if not depth:
        return False
    if isinstance(value, list):
        return any(_holds_text(each, depth - 1) for each in value)
    if isinstance(value, dict):
        if isinstance(value.get("content"), (list, dict)) and _holds_text(value["content"], depth - 1):
            return True
        return any(_holds_text(each, depth - 1) for name, each in value.items() if name not in _NO_TEXT)
    return False
