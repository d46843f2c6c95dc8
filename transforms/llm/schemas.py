"""JSON Schemas of what prompts ask for, for endpoints with structured output.

It says what the templates say in words, so the prompt stays the prompt; a reply without it is read all the same. Plain
dictionaries, for each back end to put into the form of its own protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from textmint.transforms.core.elements import Kind
from textmint.transforms.parsing.objects import EXAMPLE_FIELDS

OBJECTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "example": EXAMPLE_FIELDS,
    "planned_example": ("input_text",),
    "choice": ("label",),
}
"""Of what is asked for as an object of strings: its properties, in the order in which they are to be written."""

LISTS: Final[Mapping[Kind, str]] = {"task_list": "tasks", "label_set": "labels"}
"""Of what is asked for as a list of strings: the property that holds the list where a protocol wants an object at the
root, as OpenAI's structured output does."""

STRUCTURE_NAMES: Final[Mapping[Kind, str]] = {
    "task_list": "task_list",
    "label_set": "label_set",
    "example": "classification_example",
    "planned_example": "planned_example",
    "choice": "label_choice",
}
"""The name that a schema carries where a protocol wants one (OpenAI: letters, digits, `_` and `-`, at most 64)."""


def json_schema(kind: Kind) -> dict[str, Any]:
    """Makes the JSON Schema of a reply, always an object, a new one at each call.

    It keeps to the subset that OpenAI calls strict: every property required, no others allowed
    (https://platform.openai.com/docs/guides/structured-outputs). Properties stand in the order in which they are to be
    written: the text before its labels. It is the same for all prompts of a kind, so a choice does not name its two
    labels: endpoints take seconds to compile a schema that they see for the first time, and keep few of them.
    """
    properties: dict[str, Any]
    if kind in LISTS:
        properties = {LISTS[kind]: {"type": "array", "items": {"type": "string"}}}
    else:
        properties = {name: {"type": "string"} for name in OBJECTS[kind]}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
