"""The OpenAI chat protocol, which a Vertex AI endpoint's chat route speaks too: bodies of requests, and their replies.

Source: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from textmint.transforms.core.elements import Kind
from textmint.transforms.llm.base import Request, Transient
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.error_meaning import fault_under_200
from textmint.transforms.llm.http import Reading, count_of
from textmint.transforms.llm.reply_text import choice_text, finish_of
from textmint.transforms.llm.sampling import Sampling
from textmint.transforms.llm.schemas import STRUCTURE_NAMES, json_schema


@functools.lru_cache(maxsize=256)
def _around_prompt(settings: Sampling, model: str, kind: Kind, sent: frozenset[str], limit: str) -> tuple[bytes, bytes]:
    fields: dict[str, Any] = {"model": model}
    for option in ("temperature", "top_p"):
        if option in sent:
            fields[option] = getattr(settings, option)
    if settings.max_output_tokens is not None:
        fields[limit] = settings.max_output_tokens
    if "structured_output" in sent:
        schema = {"name": STRUCTURE_NAMES[kind], "strict": True, "schema": json_schema(kind)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    head = json.dumps(fields)[:-1] + ', "messages": [{"role": "user", "content": '
    return head.encode(), b'}], "seed": %d}' if "send_seed" in sent else b"}]}"


def chat_body(
    settings: Sampling, model: str, request: Request, sent: frozenset[str], limit: str = "max_tokens"
) -> bytes:
    """Writes the body of a chat request.

    Args:
      settings: of the back end.
      model: as the endpoint names it.
      request: what is asked.
      sent: the options that may be sent, by their names in OPTIONS.
      limit: how the endpoint calls the limit of output tokens.
    """
    head, tail = _around_prompt(settings, model, request.kind, sent, limit)
    # ASCII, so that a lone surrogate in a prompt is an escape and not an error
    text = json.dumps(request.text).encode("ascii")
    return head + text + (tail % request.seed if "send_seed" in sent else tail)


def read_chat(value: Mapping[str, Any], headers: Mapping[str, str], place: str) -> Reading | Fault | None:
    """Reads a chat or text completion.

    Args:
      value: the body.
      headers: of the reply; an error in it may say how long to wait.
      place: who answered, for errors.

    Returns:
      The error that stands in the place of a reply; None: it is no completion.

    Raises:
      Throttled, Transient: the reply was broken off, or there is none.
    """
    choices = value.get("choices")
    if choices == [] or (not choices and "choices" in value and "usage" in value):
        raise Transient(f"{place} answered without a choice")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return None
    if choice.get("error"):
        return fault_under_200(headers, {"error": choice["error"]})
    finish = finish_of(choice.get("finish_reason"), place)
    message = choice.get("message")
    if isinstance(message, dict) and message.get("refusal"):
        finish = "reply_filter"
    text = choice_text(choice, finish)
    if text is None:
        return None
    usage = value.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, output, total = (count_of(counts.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if prompt is not None and total is not None and total >= prompt:
        # Some (Gemini, xAI) leave the tokens of reasoning out of completion_tokens, and none out of the total.
        output = max(output or 0, total - prompt)
    return Reading(text, finish, value.get("model"), prompt, output)
