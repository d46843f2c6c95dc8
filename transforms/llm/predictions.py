"""What stands under `predictions` in the reply of a Vertex AI endpoint: each container has its own form.

Sources: https://cloud.google.com/vertex-ai/docs/predictions/get-online-predictions, and replies that users quote in
https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/2799,
https://github.com/langchain-ai/langchain-google/pull/406 and https://github.com/BerriAI/litellm/issues/10436.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from textmint.transforms.llm.chat_protocol import read_chat
from textmint.transforms.llm.error_body import Fault
from textmint.transforms.llm.http import Reading, count_of
from textmint.transforms.llm.reply_text import choice_text, content_text, finish_of

_TEXTS: Final = (
    "generated_text", "text", "content", "output", "output_text", "response", "completion", "prediction", "answer",
)  # fmt: skip
"""Where containers put the text of a prediction, the first that is there."""

_ELSEWHERE: Final = ("reasoning_content", "reasoning", "reasoning_details", "tool_calls", "function_call")
"""Where a text stands that is not in its place, see `reply_text`."""


def read_prediction(value: Any, prompt: str, headers: Mapping[str, str], place: str) -> Reading | Fault | None:
    """Reads the prediction for one instance: a string, an object, or a list of one of them.

    Args:
      value: what stands under `predictions`.
      prompt: what was asked, which many containers repeat before their answer.
      headers: of the reply.
      place: who answered, for errors.

    Returns:
      The error that stands in the place of a reply; None: no text can be found.

    Raises:
      Throttled, Transient: the reply was broken off.
    """
    for _ in range(3):  # TGI and pipelines of transformers nest their lists
        if isinstance(value, list) and value:
            value = value[0]
    if isinstance(value, str):
        return Reading(without_echo(value, prompt), "stop")
    if not isinstance(value, dict):
        return None
    if "choices" in value:
        return read_chat(value, headers, place)
    candidates = value.get("candidates")
    inner = value
    if isinstance(candidates, list) and candidates:
        inner = candidates[0] if isinstance(candidates[0], dict) else {"content": candidates[0]}
    details = inner.get("details")
    details = details if isinstance(details, dict) else {}
    reasons = (inner.get("finish_reason"), inner.get("finishReason"), details.get("finish_reason"))
    finish = finish_of(next((each for each in reasons if isinstance(each, str)), None), place)
    attributes = value.get("safetyAttributes")
    if isinstance(attributes, list) and attributes:
        attributes = attributes[0]
    if isinstance(attributes, dict) and attributes.get("blocked") is True:
        finish = "reply_filter"
    text = next((found for name in _TEXTS if (found := content_text(inner.get(name))) is not None), None)
    if not (text or "").strip() and any(inner.get(name) for name in _ELSEWHERE):
        text = choice_text({"message": inner}, finish)
    if text is None:
        outputs = inner.get("outputs")
        if isinstance(outputs, (list, str)) and outputs:
            return read_prediction(outputs, prompt, headers, place)
        if finish == "stop":
            return None
    tokens = count_of(details.get("generated_tokens"))
    return Reading(without_echo(text or "", prompt), finish, output_tokens=tokens)


def without_echo(text: str, prompt: str) -> str:
    """Takes off the prompt that Model Garden's containers repeat before what the model wrote: between lines
    "Prompt:" and "Output:" (vLLM), or as it is (pipelines of transformers)."""
    asked = prompt.strip()
    if text[:8].lower() == "prompt:\n":
        mark = "\noutput:\n"
        start = 8 + len(asked)
        if text[8:start] == asked and text[start : start + len(mark)].lower() == mark:
            return text[start + len(mark) :]
        # The container rewrote the prompt; its own mark comes after all those that are a part of the prompt.
        marks = 1 + len(re.findall(mark, f"\n{asked}", flags=re.I))
        pieces = re.split(mark, text, maxsplit=marks, flags=re.I)
        return pieces[marks] if len(pieces) > marks else text
    return text.removeprefix(prompt)
