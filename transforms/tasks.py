"""Tasks as text: their normal form, their identity, and the files in which users keep their own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.elements import Task
from transforms.identity import stable_hash
from transforms.text_files import decoded_lines, json_lines
from transforms.texts import clean_text, normalise_text

MAX_TASK_CHARS: Final = 2_000
_TRAILING: Final = ".,;:!?…‥·。、｡､؟،؛۔।॥።՝ "  # what ends a sentence or a clause; not '#' or '+' ("C#", "C++")
TASK_SUFFIXES: Final = (".txt", ".jsonl", ".parquet", ".txt.gz", ".jsonl.gz")


class TaskFileError(ValueError):
    """A tasks file that cannot be used; the message says where in it and why."""


def tidy_task(text: str) -> str:
    """A task as it came -> as it is shown and sent: Unicode NFC, runs of white space made one space."""
    return " ".join(unicodedata.normalize("NFC", clean_text(text)).split())


def normalise_task(text: str) -> str:
    """A task -> its normal form, equal for tasks that differ only in case, spacing, trailing punctuation or Unicode
    form (NFKC; https://unicode.org/reports/tr15/)."""
    return normalise_text(text).rstrip(_TRAILING)


def task_id(text: str) -> str:
    """A task -> its id, the hash of its normal form."""
    return stable_hash("task", normalise_task(text))


def task_of(text: str) -> Task:
    """A task as it came -> the element that `SampleAttributes` takes, as `Flatten` would make it.

    Raises:
      ValueError: it is blank, or longer than MAX_TASK_CHARS.
    """
    if problem := _problem(text):
        raise ValueError(problem)
    return Task(task_id=task_id(text), task=tidy_task(text))


def _problem(text: str) -> str:
    """A task as it came -> why it cannot be one; "" where it can."""
    if not normalise_task(text):
        return "the task is blank"
    size = len(tidy_task(text))
    return f"the task has {size:,} characters, at most {MAX_TASK_CHARS:,} fit" if size > MAX_TASK_CHARS else ""


def read_tasks(file: IO[bytes], path: str) -> Iterator[str]:
    """An open file -> its tasks in order, one at a time: the lines of `.txt` (blank ones skipped), or what stands
    under `task` in each line of `.jsonl` or row of `.parquet`. Text is UTF-8.

    Args:
      file: opened in binary, already decompressed.
      path: tells the format by its ending.

    Raises:
      TaskFileError: another ending, text that is not UTF-8, a line that is no JSON object, a `task` that is missing,
        no string, blank or longer than MAX_TASK_CHARS. The message begins with the line or row.
    """
    name = path.lower().removesuffix(".gz")
    tasks: Iterator[tuple[str, object]]
    if name.endswith(".txt"):
        tasks = decoded_lines(file, TaskFileError)
    elif name.endswith(".jsonl"):
        tasks = _read_jsonl(file)
    elif name.endswith(".parquet"):
        tasks = _read_parquet(file)
    else:
        raise TaskFileError(f"is not one of {', '.join(TASK_SUFFIXES)}")
    for where, task in tasks:
        if not isinstance(task, str):
            raise TaskFileError(f"{where}: the task is {type(task).__name__}, not a string")
        if problem := _problem(task):
            raise TaskFileError(f"{where}: {problem}")
        yield task


def _read_jsonl(file: IO[bytes]) -> Iterator[tuple[str, object]]:
    for where, row in json_lines(file, TaskFileError):
        if not isinstance(row, dict) or "task" not in row:
            raise TaskFileError(f"{where}: no JSON object with a key 'task'")
        yield where, row["task"]


def _read_parquet(file: IO[bytes]) -> Iterator[tuple[str, object]]:
    try:
        parquet = pq.ParquetFile(file)
        if "task" not in parquet.schema_arrow.names:
            columns = ", ".join(parquet.schema_arrow.names) or "none"
            raise TaskFileError(f"has no column 'task'; its columns are {columns}")
        number = 0
        for batch in parquet.iter_batches(columns=["task"]):
            for value in batch.column(0):
                number += 1
                try:
                    task = value.as_py()
                except UnicodeDecodeError:
                    raise TaskFileError(f"row {number}: not UTF-8") from None
                yield f"row {number}", task
    except (pa.ArrowException, OSError) as error:
        raise TaskFileError(f"is no readable Parquet file ({str(error).splitlines()[0]})") from None


def read_topics(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines of a topics file -> the topics, in order, without repeats; blanks and lines that begin with # are
    skipped."""
    stripped = (" ".join(line.split()) for line in lines)
    return tuple(dict.fromkeys(topic for topic in stripped if topic and not topic.startswith("#")))


def topics_of_rounds(
    topics: Sequence[str], rounds: int, *, refresh: str, seed: int, start: int = 0
) -> list[str | None]:
    """How many brainstorm rounds -> the topic of each, in order; None for all where there are no topics.

    The list is put in an order by hash and each round takes the next one, so that no topic comes again before all
    were taken. From then on a round takes two topics together, another pair each time, so that its prompt still
    differs from all earlier ones (until every pair was taken).

    Args:
      topics: in any order.
      rounds: the first round that is not wanted any more.
      refresh: the label; each has an order of its own.
      seed: the user's; it changes the order too.
      start: the first round that is wanted.
    """
    if not topics:
        return [None] * (rounds - start)
    order = sorted(topics, key=lambda topic: stable_hash("topic", refresh, seed, topic))
    chosen: list[str | None] = []
    for round_ in range(start, rounds):
        cycle, place = divmod(round_, len(order))
        first, second = order[place], order[(place + cycle) % len(order)]
        chosen.append(first if first == second else f"{first}, where it meets {second}")
    return chosen
