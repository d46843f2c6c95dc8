"""JSON Schemas of what prompts ask for, for endpoints with structured output. They say what the templates say in
words; a reply without structure is read all the same.
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
"""The properties of an object of strings, in the order in which they are to be written."""

LISTS: Final[Mapping[Kind, str]] = {"task_list": "tasks", "label_set": "labels"}
"""The property that holds a list of strings where a protocol wants an object at the root, as OpenAI's does."""

STRUCTURE_NAMES: Final[Mapping[Kind, str]] = {
    "task_list": "task_list",
    "label_set": "label_set",
    "example": "classification_example",
    "planned_example": "planned_example",
    "choice": "label_choice",
}
"""The name that a schema carries where a protocol wants one (OpenAI: letters, digits, `_` and `-`, at most 64)."""


def json_schema(kind: Kind) -> dict[str, Any]:
    """Makes the JSON Schema of a reply, an object whose properties are all required
    (https://platform.openai.com/docs/guides/structured-outputs), the text before its labels.

    It is the same for all prompts of a kind, so a choice does not name its two labels: endpoints take seconds to
    compile a new schema, and keep few of them.
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
