"""Gemini's protocol: the schema of a reply, and what a reply says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textmint.transforms.core.elements import FinishReason, Kind
from textmint.transforms.llm.base import Transient
from textmint.transforms.llm.http import Reading, count_of, estimate_tokens
from textmint.transforms.llm.reply_text import content_text, finish_of, text_of_reply
from textmint.transforms.llm.schemas import LISTS, json_schema


def response_schema(kind: Kind) -> dict[str, Any]:
    """Makes the schema of a reply in Gemini's form, whose subset of OpenAPI needs the order of properties told
    (https://ai.google.dev/api/caching#Schema). A list is a list here, as the prompt has it.
    """
    schema = json_schema(kind)
    return _gemini_form(schema["properties"][LISTS[kind]] if kind in LISTS else schema)


def _gemini_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {"type": schema["type"].upper()}
    if "items" in schema:
        form["items"] = _gemini_form(schema["items"])
    if "properties" in schema:
        form["properties"] = {name: _gemini_form(each) for name, each in schema["properties"].items()}
        form["required"] = list(schema["required"])
        form["propertyOrdering"] = list(schema["properties"])
    return form


def read_reply(value: Mapping[str, Any], place: str) -> Reading | None:
    """Reads a GenerateContentResponse (https://ai.google.dev/api/generate-content#generatecontentresponse).

    A prompt that is blocked is a reply without text. Parts are joined, thoughts left out; thinking counts as output,
    for it is paid for.

    Args:
      value: the body.
      place: who answered, for errors.

    Returns:
      None: it is no such body.

    Raises:
      Throttled, Transient: the reply was broken off, or there is none.
    """
    candidates, feedback = value.get("candidates"), value.get("promptFeedback")
    text = ""
    finish: FinishReason
    if isinstance(candidates, list) and candidates and isinstance(candidates[0], dict):
        finish = finish_of(candidates[0].get("finishReason"), place)
        text = _text_of(candidates[0], finish)
    elif isinstance(feedback, dict) and feedback.get("blockReason"):
        finish = "content_filter"
    elif "usageMetadata" in value or "modelVersion" in value:
        raise Transient(f"{place} answered without a candidate")
    else:
        return None
    usage = value.get("usageMetadata")
    counts = usage if isinstance(usage, dict) else {}
    names = ("prompt", "candidates", "thoughts")
    prompt, made, thoughts = (count_of(counts.get(f"{name}TokenCount")) for name in names)
    # A count of 0 is left out of the JSON: it is missing only where there is something to count.
    output = (made or estimate_tokens(text)) + (thoughts or 0)
    return Reading(text, finish, value.get("modelVersion"), prompt or None, output)


def _text_of(candidate: Mapping[str, Any], finish: FinishReason) -> str:
    content = candidate.get("content")
    listed = content.get("parts") if isinstance(content, dict) else None
    parts = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    calls = [part["functionCall"] for part in parts if isinstance(part.get("functionCall"), dict)]
    message = candidate.get("finishMessage")  # such as the call that was malformed
    return text_of_reply(
        content_text(parts) or "",
        finish,
        arguments=[call.get("args") for call in calls],
        reasoning=[part.get("text") for part in parts if part.get("thought")],
        other=message if isinstance(message, str) else "",
        whole=content,
    )
