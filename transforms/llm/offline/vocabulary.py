"""What the embedded author knows. It stands in the YAML files beside this module, which say what is what in them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, TypeAlias

import yaml

Texts: TypeAlias = tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """A label, and the clauses any of which makes it the right one."""

    name: str
    clauses: Texts


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """What to classify by, as a noun phrase, and the labels."""

    phrase: str
    labels: tuple[Label, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of life."""

    name: str
    words: str  # lead a topic, or a task of somebody else, here
    kinds: tuple[tuple[str, str], ...]  # of documents: the genre, and a noun without an article
    things: Texts
    roles: Texts
    sites: Texts
    terms: Texts
    details: Texts
    axes: tuple[Axis, ...]

    @property
    def label(self) -> Label:
        """The field as a label, for tasks that ask for the topic."""
        return Label(self.name, tuple(c for axis in self.axes for label in axis.labels for c in label.clauses))


@dataclasses.dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that the author knows."""

    fields: tuple[Field, ...]
    axes: tuple[Axis, ...]  # those that fit every field; the first is sentiment
    aliases: Mapping[str, str]  # labels that users name, to a label that the author knows
    known_labels: tuple[Label, ...]  # which no axis holds
    unknown_label: Texts  # clauses for a label that the author knows nothing of
    absent_label: Texts  # clauses for "not X"
    stop_words: str  # that lead a text nowhere
    given_names: Texts
    family_names: Texts
    places: Texts
    days: Texts
    months: Texts
    openers: Mapping[str, Texts]  # by genre
    closers: Mapping[str, Texts]
    frames: Mapping[str, Mapping[str, Texts]]  # by difficulty and clarity
    short_frames: Mapping[str, Mapping[str, Texts]]
    mentions: Mapping[str, Texts]  # by difficulty
    fillers: Mapping[str, Texts]


@functools.cache
def vocabulary() -> Vocabulary:
    """Reads the files, once a process and only when the author is asked for something."""
    fields, labels, sentences = map(_read, ("fields.yaml", "labels.yaml", "sentences.yaml"))
    aliases = {alias: name for name, names in labels.pop("aliases").items() for alias in names}
    return Vocabulary(
        fields=tuple(_field(name, given) for name, given in fields.items()),
        axes=_axes(labels.pop("axes")),
        aliases=aliases,
        known_labels=_labels(labels.pop("known_labels")),
        **labels,
        **sentences,
    )


_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast


def _read(name: str) -> dict[str, Any]:
    text = resources.files("textmint.transforms.llm.offline").joinpath(name).read_text("utf-8")
    loaded: dict[str, Any] = yaml.load(text, _LOADER)
    return loaded


def _field(name: str, given: Mapping[str, Any]) -> Field:
    kinds = tuple(item for kind in given["kinds"] for item in kind.items())
    return Field(**{**given, "name": name, "kinds": kinds, "axes": _axes(given["axes"])})


def _axes(given: Mapping[str, Mapping[str, list[str]]]) -> tuple[Axis, ...]:
    return tuple(Axis(phrase, _labels(labels)) for phrase, labels in given.items())


def _labels(given: Mapping[str, list[str]]) -> tuple[Label, ...]:
    return tuple(Label(name, tuple(clauses)) for name, clauses in given.items())
