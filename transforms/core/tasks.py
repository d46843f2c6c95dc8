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
"""How many examples a task may ask for in a file; more is a slip of the pen."""
MAX_UNKNOWN: Final = 100
TASK_SUFFIXES: Final = SUFFIXES
_COMMENT: Final = "#"
_TRAILING: Final = ".,;:!?…‥·。、｡､؟،؛۔।॥።՝ "  # what ends a sentence or a clause; not '#' or '+' ("C#", "C++")


class TaskFileError(ValueError):
    """A tasks file that cannot be used; the message says where in it and why."""


def tidy_task(text: str) -> str:
    """Returns a task as it is shown and sent: in Unicode NFC, runs of white space made one space."""
    return " ".join(unicodedata.normalize("NFC", clean_text(text)).split())


def normalise_task(text: str) -> str:
    """Returns the normal form of a task, equal for tasks that differ only in case, spacing, trailing punctuation or
    Unicode form (NFKC; https://unicode.org/reports/tr15/)."""
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
    """A task as it stands in a file.

    Args:
      text: of the task, as it came.
      settings: what else the user wants of it; None where nothing stands there.
      where: the line or row.
    """

    text: str
    settings: TaskSettings | None
    where: str


def read_tasks(file: IO[bytes], path: str, unknown: set[str] | None = None) -> Iterator[TaskEntry]:
    """Yields the tasks of a file in order.

    Of `.txt` each line is one, but for those that are blank or begin with `#`. Of `.jsonl` and `.parquet` it stands
    under `task`, and beside it, where the user wants so, SETTINGS: `labels` (a list of strings), `language`, and
    `examples`, how many; null counts as absent. Text is UTF-8.

    Args:
      file: opened in binary, already decompressed.
      path: tells the format by its ending.
      unknown: gets the keys or columns that mean nothing here, MAX_UNKNOWN at most.

    Raises:
      TaskFileError: another ending, text that is not UTF-8, a line that is no JSON object, a `task` that is missing,
        no string, blank, with a NUL character or longer than MAX_TASK_CHARS, a setting that cannot be used, compressed
        data that is cut off. The message begins with the line or row.
    """
    name = path.lower().removesuffix(".gz")
    unknown = set() if unknown is None else unknown
    rows: Iterator[tuple[str, Mapping[str, object]]]
    if name.endswith(".txt"):
        lines = decoded_lines(file, TaskFileError)
        rows = ((where, {"task": line}) for where, line in lines if not line.lstrip().startswith(_COMMENT))
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
"""What a file may say of a task beside its text."""
_KNOWN: Final = frozenset(("task", *SETTINGS))


def _note(unknown: set[str], names: Iterable[str]) -> None:
    """Keeps names that mean nothing here, up to a limit: a hostile file may have another one in each line."""
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


class TaskSurvey:
    """Checks all task files of a run before anything is paid for.

    Attributes:
      tasks: how many there are.
      own_tasks: how many say themselves how many examples they want.
      own_examples: how many examples those want, together.
      labelled: how many have labels.
      widest: the columns of the widest label.
      languages: that tasks want, each with where it first stands.
      unknown: keys and columns that mean nothing here.
    """

    def __init__(self) -> None:
        self.tasks = self.own_tasks = self.own_examples = self.labelled = self.widest = 0
        self.languages: dict[str, str] = {}
        self.unknown: set[str] = set()
        self._seen: dict[str, tuple[str, tuple[Any, ...]]] = {}  # of tasks with settings: where, and which

    def read(self, file: IO[bytes], path: str) -> Iterator[TaskEntry]:
        """Reads a file as `read_tasks` does.

        Raises:
          TaskFileError: as there, or a task has been read before with other settings.
        """
        for entry in read_tasks(file, path, self.unknown):
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
    """Returns the topics in the lines of a file, in order and without repeats; blanks and lines with # are skipped."""
    stripped = (" ".join(line.split()) for line in lines)
    return tuple(dict.fromkeys(topic for topic in stripped if topic and not topic.startswith("#")))


def topics_of_rounds(
    topics: Sequence[str], rounds: int, *, refresh: str, seed: int, start: int = 0
) -> list[str | None]:
    """Returns the topic of each brainstorm round, in order; None for all where there are no topics.

    Topics are put in an order by hash and each round takes the next one, so that none comes again before all were
    taken. From then on a round takes two topics together, another pair each time, so that its prompt still differs from
    all earlier ones (until every pair was taken).

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
