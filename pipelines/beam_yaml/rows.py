"""Converts elements to the flat Beam rows that Beam YAML moves between transforms, and back. What decides nothing that
follows, such as the time that a reply took, is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Optional, TypeAlias

import pyarrow as pa
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.typehints import is_consistent_with
from textmint.transforms.core.elements import Draft, Example, Prompt, Reply, Task, TaskList, Usage
from textmint.transforms.dataset.schema import EXAMPLES, REJECTS, TASKS, schema_of, to_record

Columns: TypeAlias = Mapping[str, Any]
"""The Python type of each column, `Optional` if it may be null."""

_PYTHON: Final = {pa.string(): str, pa.int64(): int, pa.bool_(): bool}


def columns_of(schema: pa.Schema) -> dict[str, Any]:
    """Returns the columns of a schema of `textmint.transforms.dataset.schema`."""
    return {
        field.name: Optional[_PYTHON[field.type]] if field.nullable else _PYTHON[field.type]  # noqa: UP045
        for field in schema
    }


TASK: Final[Columns] = columns_of(TASKS)
ITEM: Final[Columns] = {name: type_ for name, type_ in TASK.items() if name not in ("task_id", "first_replica")}
"""A task as the model listed it, not yet checked."""

DRAFT: Final[Columns] = {
    **dict.fromkeys(("draft_id", "task_id", "task"), str),
    **dict.fromkeys(("replica", "seed"), int),
    **dict.fromkeys(("language", "difficulty", "clarity", "num_words"), str),
}
PROMPT: Final[Columns] = {**DRAFT, "prompt": str, "template": str}
REPLY: Final[Columns] = {
    **PROMPT,
    **dict.fromkeys(("reply", "request_id", "finish_reason", "model"), str),
    **dict.fromkeys(("prompt_tokens", "output_tokens", "attempts"), int),
}
EXAMPLE: Final[Columns] = columns_of(EXAMPLES)
REJECT: Final[Columns] = columns_of(REJECTS)


def example_columns(keep_raw: bool) -> Columns:
    """Returns the columns of examples, which may keep their replies."""
    return columns_of(schema_of("examples", keep_raw=keep_raw))


def row_type(columns: Columns) -> Any:
    """Returns the type hint of rows that have these columns."""
    return RowTypeConstraint.from_fields(list(columns.items()))


def check_columns(found: Any, wanted: Columns) -> None:
    """Checks that what comes in, by its type hint, has the columns that are needed.

    Raises:
      ValueError: it has no rows, or a column is missing or of another type.
    """
    rows = found if isinstance(found, RowTypeConstraint) else RowTypeConstraint.from_user_type(found)
    if rows is None:
        raise ValueError(f"its input are no rows with a schema, but {found}")
    types = dict(rows._fields)
    if missing := [name for name in wanted if name not in types]:
        raise ValueError(f"its input lacks the columns {', '.join(missing)}; it has {', '.join(types)}")
    for name, type_ in wanted.items():
        if not is_consistent_with(types[name], Optional[type_]):  # noqa: UP045
            raise ValueError(f"column {name} of its input holds {types[name]}, not {type_.__name__}")


# --- from elements to rows


def to_columns(element: Any, *, keep_raw: bool = False) -> dict[str, Any]:
    """Returns the columns of a Task, Draft, Prompt, Reply, Example or Reject.

    Raises:
      TypeError: a prompt is for something else than a draft.
    """
    if isinstance(element, Draft):
        return {name: getattr(element, name) for name in DRAFT}
    if isinstance(element, Prompt):
        if not isinstance(element.subject, Draft):
            raise TypeError(f"a prompt for a {type(element.subject).__name__} has no row")
        return {**to_columns(element.subject), "prompt": element.text, "template": element.template}
    if isinstance(element, Reply):
        own = {name: getattr(element, name) for name in REPLY if name not in PROMPT and name != "reply"}
        return {**to_columns(element.prompt), "reply": element.text, **own}
    return to_record(element, keep_raw=keep_raw and isinstance(element, Example))


# --- from rows to elements


def _values(row: Any, columns: Columns) -> dict[str, Any]:
    found = {}
    for name, type_ in columns.items():
        value = getattr(row, name)
        if type_ is int and isinstance(value, (int, float)) and value == int(value):
            value = int(value)  # what a mapping in between has computed may be another kind of number
        if not isinstance(value, type_):
            raise TypeError(f"column {name} holds {value!r:.80}, which is no {type_.__name__}")
        found[name] = value
    return found


def to_task_list(row: Any) -> TaskList:
    """Makes a list of one task from a row with a column `task`, and maybe columns that say where it comes from."""
    known = {name: getattr(row, name, None) for name in ("source", "round", "topic", "model", "template")}
    return TaskList(
        items=(_values(row, {"task": str})["task"],),
        **{name: value for name, value in known.items() if value is not None},
    )


def to_task(row: Any) -> Task:
    """Makes a task from a row with the columns `task_id` and `task`."""
    return Task(**_values(row, {"task_id": str, "task": str}))


def to_draft(row: Any) -> Draft:
    """Makes a draft from a row with the columns DRAFT."""
    return Draft(**_values(row, DRAFT))


def to_prompt(row: Any) -> Prompt:
    """Makes a prompt from a row with the columns PROMPT."""
    values = _values(row, PROMPT)
    text, template = values.pop("prompt"), values.pop("template")
    return Prompt(kind="example", subject=Draft(**values), text=text, template=template)


def to_reply(row: Any) -> Reply:
    """Makes a reply from a row with the columns REPLY."""
    own = _values(row, {name: type_ for name, type_ in REPLY.items() if name not in PROMPT})
    return Reply(prompt=to_prompt(row), text=own.pop("reply"), usage=Usage(), **own)


_EXAMPLE_FIELDS: Final[Columns] = {
    name: type_
    for name, type_ in EXAMPLE.items()
    if name not in ("label_id", "misleading_label_id")  # which follow
}


def to_example(row: Any) -> Example:
    """Makes an example from a row with the columns EXAMPLE, and maybe `raw_reply`."""
    return Example(**_values(row, _EXAMPLE_FIELDS), raw_reply=str(getattr(row, "raw_reply", "") or ""))
