"""Structure: what a prompt asks for -> the JSON Schema that an endpoint with structured output is held to.

It says what the templates say in words, so the prompt stays the prompt; a reply without it is read all the same. Plain
dictionaries, for each back end to put into the form of its own protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from transforms.elements import Kind
from transforms.parsing import EXAMPLE_FIELDS

STRUCTURE_NAMES: Final[Mapping[Kind, str]] = {"example": "classification_example", "task_list": "task_list"}
"""The name that a schema carries where a protocol wants one (OpenAI: letters, digits, `_` and `-`, at most 64)."""

TASKS: Final = "tasks"
"""The property that holds the list of tasks: OpenAI's structured output wants an object at the root."""


def json_schema(kind: Kind) -> dict[str, Any]:
    """What a prompt asks for -> the JSON Schema of its reply, an object in both cases, a new one at each call.

    It keeps to the subset that OpenAI calls strict: every property required, no others allowed
    (https://platform.openai.com/docs/guides/structured-outputs). Properties stand in the order in which they are to be
    written: the text before its labels.

    Args:
      kind: "example" for an object of three strings, "task_list" for an object that holds a list of strings.
    """
    properties: dict[str, Any]
    if kind == "example":
        properties = {name: {"type": "string"} for name in EXAMPLE_FIELDS}
    else:
        properties = {TASKS: {"type": "array", "items": {"type": "string"}}}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
