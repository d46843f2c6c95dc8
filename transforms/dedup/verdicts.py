"""What becomes of examples and tasks whose texts were compared with each other.

Beside the texts of a run stand those of other refreshes and of files of excluded texts; `Text.source` tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from textmint.transforms.core.elements import Example, Reject, Task, Verdict
from textmint.transforms.dedup.minhash import NearDuplicate, Text

NEAR_DUPLICATE: Final = "near_duplicate"
CONTAMINATED: Final = "contaminated"
DUPLICATE_CHECKS: Final = (NEAR_DUPLICATE, CONTAMINATED)
"""The checks of examples that compare them with others, by the names of their reasons."""

STAGE: Final = "FindNearDuplicates"
_REFRESH: Final = "~refresh="  # sorts after every path: of two texts from elsewhere, an excluded one is named


def source_of(label: str) -> str:
    """Returns the source of the texts of another refresh."""
    return f"{_REFRESH}{label}"


def texts_of(row: Example | Reject) -> Iterator[Text]:
    """Yields the text of an example, to be compared; nothing of a reject."""
    if isinstance(row, Example):
        yield Text(id=row.id, text=row.input_text)


def verdicts_of(found: tuple[str, NearDuplicate], checks: tuple[str, ...]) -> Iterator[Verdict]:
    """Yields the verdict on an example, given by id, that has a near duplicate, if `checks` name the reason."""
    id_, other = found
    is_excluded = bool(other.source) and not other.source.startswith(_REFRESH)
    reason = CONTAMINATED if is_excluded else NEAR_DUPLICATE
    if reason in checks:
        yield Verdict(id=id_, stage=STAGE, reason=reason, detail=describe(other))


def describe(other: NearDuplicate) -> str:
    """Says in one line how alike a near duplicate is, whose it is and where from."""
    likeness = "the same text as" if other.similarity >= 1 else f"{other.similarity:.2f} like"
    where = other.source.removeprefix("~")
    return f"{likeness} {other.id}" + (f" of {where}" if where else "")


def text_of_task(task: Task) -> Text:
    """Returns the text of a task. Its id puts the earliest round first, so that more rounds change no earlier task."""
    return Text(id=f"{task.round:08d}-{task.task_id}", text=task.task)


def task_id_of(id_: str) -> str:
    """Returns the task_id in the id of a task's text, or an id of another kind as it is."""
    return id_.rpartition("-")[2]
