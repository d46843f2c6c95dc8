"""Tasks as text: their normal form, their identity, and the files in which users keep their own."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Final

import pyarrow as pa
from textmint.transforms.core.elements import Task, TaskSettings
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.labels import normal_form, own_labels
from textmint.transforms.core.languages import find_language
from textmint.transforms.core.text_files import SUFFIXES, decoded_lines, json_lines, parquet_rows
from textmint.transforms.core.texts import clean_text, columns_of, normalise_text

MAX_TASK_CHARS: Final = 2_000
MAX_EXAMPLES: Final = 1_000_000
"""How many examples a task may ask for in a file; more is a typing error."""
MAX_UNKNOWN: Final = 100
TASK_SUFFIXES: Final = SUFFIXES
_TRAILING: Final = ".,;:!?…‥·。、｡､؟،؛۔।॥።՝ "  # what ends a sentence or a clause; not '#' or '+' ("C#", "C++")


class TaskFileError(ValueError):
    """A tasks file that cannot be used; the message says where in it and why."""


def tidy_task(text: str) -> str:
    """Returns a task as it is shown and sent: in Unicode NFC, runs of white space made one space."""
    return " ".join(unicodedata.normalize("NFC", clean_text(text)).split())


def normalise_task(text: str) -> str:
    """Returns the normal form of a task, without case, spacing, trailing punctuation and Unicode forms (NFKC)."""
    return normalise_text(text).rstrip(_TRAILING)


def task_id(text: str) -> str:
    """Returns the id of a task, the hash of its normal form."""
    return stable_hash("task", normalise_task(text))


def task_of(text: str) -> Task:
    """Makes the element that `SampleAttributes` takes, as `Flatten` would.

    Raises:
      ValueError: it is blank, longer than MAX_TASK_CHARS, or holds a NUL character.
    """
    if problem := _problem(text):
        raise ValueError(problem)
    return Task(task_id=task_id(text), task=tidy_task(text))


def _problem(text: str) -> str:
    """Says why a text cannot be a task; "" where it can."""
    if not normalise_task(text):
        return "the task is blank"
    if "\0" in text:
        return "the task holds a NUL character"
    size = len(tidy_task(text))
    return f"the task has {size:,} characters, at most {MAX_TASK_CHARS:,} fit" if size > MAX_TASK_CHARS else ""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as it stands in a file."""

    text: str
    settings: TaskSettings | None
    where: str  # the line or row


def read_tasks(file: IO[bytes], path: str, unknown: set[str] | None = None) -> Iterator[TaskEntry]:
    """Yields the tasks of a file in order.

    In `.txt` each line is one, but for blank lines and those that begin with `#`. In `.jsonl` and `.parquet` it stands
    under `task`, optionally beside `labels` (a list of strings), `language` and `examples` (how many).

    Args:
      file: opened in binary, already decompressed.
      path: tells the format by its ending.
      unknown: gets the unknown keys or columns, MAX_UNKNOWN at most.

    Raises:
      TaskFileError: the file cannot be used; the message begins with the line or row.
    """
    name = path.lower().removesuffix(".gz")
    unknown = set() if unknown is None else unknown
    rows: Iterator[tuple[str, Mapping[str, object]]]
    if name.endswith(".txt"):
        lines = decoded_lines(file, TaskFileError)
        rows = ((where, {"task": line}) for where, line in lines if not line.lstrip().startswith("#"))
    elif name.endswith(".jsonl"):
        rows = _read_jsonl(file, unknown)
    elif name.endswith(".parquet"):
        rows = parquet_rows(file, TaskFileError, functools.partial(_columns, unknown))
    else:
        raise TaskFileError(f"is not one of {', '.join(SUFFIXES)}")
    for where, row in rows:
        task = row["task"]
        if not isinstance(task, str):
            raise TaskFileError(f"{where}: the task is {type(task).__name__}, not a string")
        if problem := _problem(task):
            raise TaskFileError(f"{where}: {problem}")
        yield TaskEntry(task, _settings_of(row, where) if len(row) > 1 else None, where)


def _settings_of(row: Mapping[str, object], where: str) -> TaskSettings | None:
    found: dict[str, Any] = {}
    for name, read in _SETTINGS.items():
        value = row.get(name)
        if value is not None:
            try:
                found[name] = read(value)
            except ValueError as error:
                raise TaskFileError(f"{where}: {name}: {error}") from None
    return TaskSettings(**found) if found else None


def _labels(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"is {type(value).__name__}, not a list of strings")
    return own_labels(value)


def _language(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {type(value).__name__}, not a string")
    return find_language(value).name


def _examples(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"is {type(value).__name__}, not a number")
    if not 1 <= value <= MAX_EXAMPLES or value != int(value):
        raise ValueError(f"is {value!s:.20}; it must be a whole number from 1 to {MAX_EXAMPLES:,}")
    return int(value)


_SETTINGS: Final[Mapping[str, Callable[[object], object]]] = {
    "labels": _labels,
    "language": _language,
    "examples": _examples,
}
SETTINGS: Final = tuple(_SETTINGS)
"""What a file may say about a task beside its text."""
_KNOWN: Final = frozenset(("task", *SETTINGS))


def _note(unknown: set[str], names: Iterable[str]) -> None:
    """Keeps unknown names, up to a limit: a hostile file may have another one in each line."""
    unknown.update(itertools.islice(names, MAX_UNKNOWN - len(unknown)))


def _read_jsonl(file: IO[bytes], unknown: set[str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    for where, row in json_lines(file, TaskFileError):
        if not isinstance(row, dict) or "task" not in row:
            raise TaskFileError(f"{where}: no JSON object with a key 'task'")
        _note(unknown, row.keys() - _KNOWN)
        yield where, row


def _columns(unknown: set[str], schema: pa.Schema) -> list[str]:
    names = schema.names
    if "task" not in names:
        raise TaskFileError(f"has no column 'task'; its columns are {', '.join(names) or 'none'}")
    if twice := sorted(name for name in _KNOWN if names.count(name) > 1):
        raise TaskFileError(f"has the column {twice[0]!r} twice")
    _note(unknown, set(names) - _KNOWN)
    return [name for name in ("task", *SETTINGS) if name in names]


_MOST_SAMPLED: Final = 64


class TaskSurvey:
    """Checks all task files of a run before anything is paid for."""

    def __init__(self) -> None:
        self.tasks = self.labelled = 0  # how many there are, and have labels
        self.own_tasks = self.own_examples = 0  # how many say how many examples they want, and how many those are
        self.widest = 0  # the columns of the widest label
        self.languages: dict[str, str] = {}  # of tasks, each with where it first stands
        self.unknown: set[str] = set()  # keys and columns
        self.sample: list[TaskEntry] = []  # of all tasks, evenly
        self._every = 1  # how many tasks one of the sample stands for
        self._seen: dict[str, tuple[str, tuple[Any, ...]]] = {}  # of tasks with settings: where, and which

    def read(self, file: IO[bytes], path: str) -> Iterator[TaskEntry]:
        """Reads a file as `read_tasks` does, and refuses a task that has been read before with other settings."""
        for entry in read_tasks(file, path, self.unknown):
            if self.tasks % self._every == 0:
                self.sample.append(entry)
                if len(self.sample) > _MOST_SAMPLED:
                    self.sample = self.sample[::2]
                    self._every *= 2
            self.tasks += 1
            if entry.settings is not None:
                self._take(entry, entry.settings, path)
            yield entry

    def _take(self, entry: TaskEntry, settings: TaskSettings, path: str) -> None:
        labels = stable_hash("label_set", sorted(map(normal_form, settings.labels)))  # a set may be large
        values = (labels, settings.language, settings.examples)
        where, known = self._seen.setdefault(task_id(entry.text), (f"{path}: {entry.where}", values))
        if known != values:
            other = next(name for name, mine, theirs in zip(SETTINGS, values, known, strict=True) if mine != theirs)
            raise TaskFileError(f"{entry.where}: the same task stands in {where} with other {other}; leave one of them")
        if settings.language is not None:
            self.languages.setdefault(settings.language, f"{path}: {entry.where}")
        self.labelled += bool(settings.labels)
        self.widest = max((self.widest, *map(columns_of, settings.labels)))
        if settings.examples is not None:
            self.own_tasks += 1
            self.own_examples += settings.examples


def read_topics(lines: Iterable[str]) -> tuple[str, ...]:
    """Returns the topics in the lines of a file, in order, without repeats, blank lines and lines with #."""
    stripped = (" ".join(line.split()) for line in lines)
    return tuple(dict.fromkeys(topic for topic in stripped if topic and not topic.startswith("#")))


def topics_of_rounds(
    topics: Sequence[str], rounds: int, *, refresh: str, seed: int, start: int = 0
) -> list[str | None]:
    """Returns the topic of each brainstorm round from `start` up to `rounds`; None where there are no topics.

    Rounds take the topics in an order by hash of refresh, seed and topic. When all were taken, a round takes two topics
    together, another pair each time, so that prompts still differ until every pair was taken.
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
