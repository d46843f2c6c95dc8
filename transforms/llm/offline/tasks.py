"""Tasks of the embedded author, and what any task asks for.

A task of its own is a point in a grid: a document of a field, what it mentions, an axis. A point has one wording, so a
task that comes back is the same text and is dropped as a repeat.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Final

from textmint.transforms.core.identity import choices, fraction
from textmint.transforms.llm.offline.vocabulary import Field, Label, vocabulary

_WORD: Final = re.compile(r"[^\W_]+")


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@functools.cache
def _stop_words() -> frozenset[str]:
    return frozenset(map(_stem, vocabulary().stop_words.split()))


def _words(text: str) -> frozenset[str]:
    return frozenset(map(_stem, _WORD.findall(text.casefold()))) - _stop_words()


_VOWEL_SOUND: Final = re.compile(
    r"(?!eu|one\b|once\b|U[A-Z]|SIM\b)"
    r"(?:[aeioAEIO]|u(?!ni|s[ei]|t[ei])|hour|honest|heir|[FHLMNRSX][A-Z]|X-)"
)


def with_article(noun: str) -> str:
    """Puts "a" or "an" before a noun, by the sound that it begins with."""
    return f"{'an' if _VOWEL_SOUND.match(noun) else 'a'} {noun}"


_WORDINGS: Final = (
    "Classify {document} by {axis}.",
    "Given {document}, name {axis}.",
    "Identify {axis}, given {document}.",
    "Read {document} and state {axis}.",
    "Predict {axis} from {document}.",
    "Recognize {axis} in {document}.",
    "Categorize {document} according to {axis}.",
    "Label {document} with {axis} ({labels}).",
    "For {document}, give {axis}.",
    "Work out {axis} when shown {document}.",
    "Tag {document} with {axis}.",
    "Determine {axis} ({labels}), judging by {document}.",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a task asks for."""

    fields: tuple[Field, ...]  # those it may be set in; empty: any
    labels: tuple[Label, ...]
    kind: int = -1  # of the field's documents; -1: any
    thing: str = ""  # that is mentioned; "": any


def _compose(field: int, kind: int, thing: int, axis: int) -> str:
    """Writes the task of a point of the grid; a thing of -1 stands for none."""
    phrase, labels = _axis_and_labels(field, axis)
    mixed = field * 7 + kind * 5 + thing + axis * 11
    wording = _WORDINGS[mixed % len(_WORDINGS)]
    return wording.format(document=_document(field, kind, thing), axis=phrase, labels=labels)


@functools.cache
def _document(field: int, kind: int, thing: int) -> str:
    known = vocabulary().fields[field]
    document = with_article(known.kinds[kind][1])
    # "mentions", as an axis of the field may say what the document is about
    return document if thing < 0 else f"{document} that mentions {with_article(known.things[thing])}"


@functools.cache
def _axis_and_labels(field: int, axis: int) -> tuple[str, str]:
    found = (*vocabulary().fields[field].axes, *vocabulary().axes)[axis]
    *labels, last = (label.name for label in found.labels)
    return found.phrase, f"{', '.join(labels)} or {last}"


@functools.cache
def own_tasks() -> dict[str, Plan]:
    """Lists all tasks of the author's own, in lower case and without the end mark, and what they ask for."""
    found = {}
    for at, field in enumerate(vocabulary().fields):
        for number, axis in enumerate((*field.axes, *vocabulary().axes)):
            for kind in range(len(field.kinds)):
                for thing, name in enumerate(("", *field.things), -1):
                    task = _compose(at, kind, thing, number)
                    found[task.casefold().rstrip(".")] = Plan((field,), axis.labels, kind, name)
    return found


def brainstorm(topic: str, key: str, count: int = 20) -> list[str]:
    """Lists about `count` distinct tasks, up to two more or fewer.

    Three in four come from the fields that share words with the topic, if there are any; the others from anywhere. A
    third use an axis of their field.
    """
    stream = choices(key)
    fields = vocabulary().fields
    near = [fields.index(field) for field in _nearest(topic[:2000])]
    wanted = max(1, count - 2 + next(stream) % 5)
    found: dict[str, None] = {}
    while len(found) < wanted:
        index = near[next(stream) % len(near)] if near and next(stream) % 4 else next(stream) % len(fields)
        field = fields[index]
        own = len(field.axes)
        axis = own + next(stream) % len(vocabulary().axes) if next(stream) % 3 else next(stream) % own
        kind = next(stream) % len(field.kinds)
        thing = next(stream) % (len(field.things) + 1) - 1
        found[_compose(index, kind, thing, axis)] = None
    return list(found)


@functools.lru_cache(maxsize=4096)
def plan(task: str) -> Plan:
    """Finds out what any text asks for: the labels that it lists, or else those of the axis that shares most words."""
    known = vocabulary()
    # A step between may fold case, spacing and the end mark.
    if own := own_tasks().get(" ".join(task.casefold().split()).rstrip(".!?;: ")):
        return own
    near = _nearest(task)
    if listed := listed_labels(task):
        return Plan(near, tuple(map(find_label, listed)))
    words = _words(task)
    if words & {"topic", "subject", "theme"}:
        first = fraction("offline-labels", task)
        turned = [known.fields[(first + turn) % len(known.fields)] for turn in range(_TOPICS)]
        return Plan((), tuple(field.label for field in turned))
    # Where nothing is shared: one axis for this task, whichever the key.
    best, fields, most = known.axes[fraction("offline-generic", task) % _GENERIC_AXES], near, 0
    candidates = [(axis, near) for axis in known.axes]
    candidates += [(axis, (field,)) for field in known.fields for axis in field.axes]
    for axis, owners in candidates:
        shared = len(words & _words(" ".join((axis.phrase, *(label.name for label in axis.labels)))))
        if shared > most:
            best, fields, most = axis, owners, shared
    return Plan(fields, best.labels)


_TOPICS: Final = 8  # labels of a task that asks for the topic
_GENERIC_AXES: Final = 3  # sentiment, urgency, intention: what can be told of nearly every text


@functools.cache
def _words_of_fields() -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    found = []
    for field in vocabulary().fields:
        nouns = (*(noun for _, noun in field.kinds), *field.things, *field.roles, *field.terms)
        found.append((_words(f"{field.name} {field.words}"), _words(" ".join(nouns))))
    return tuple(found)


def _nearest(text: str) -> tuple[Field, ...]:
    """Finds the fields that share most words with a text, above all lead words; none where nothing is shared."""
    words = _words(text)
    scores = [3 * len(words & lead) + len(words & nouns) for lead, nouns in _words_of_fields()]
    best = max(scores)
    return tuple(field for field, score in zip(vocabulary().fields, scores, strict=True) if score == best > 0)


@functools.cache
def _known_labels() -> dict[str, Label]:
    known = vocabulary()
    axes = (*known.axes, *(axis for field in known.fields for axis in field.axes))
    fields = (Label(word, field.label.clauses) for field in known.fields for word in (field.name, *field.words.split()))
    found: dict[str, Label] = {}
    for label in (*known.known_labels, *(label for axis in axes for label in axis.labels), *fields):
        found.setdefault(_stem(label.name.casefold()), label)
    return found


def find_label(name: str) -> Label:
    """Gives a label that a user named its clauses: those of a label that the author knows, or such as fit any label."""
    folded = " ".join(name.casefold().split())
    known = vocabulary()
    if label := _known_labels().get(_stem(known.aliases.get(folded, folded))):
        return Label(name, label.clauses)
    return Label(name, known.absent_label if folded.startswith("not ") else known.unknown_label)


_LEAD: Final = re.compile(
    r"(?::|\(|\bas (?:either )?|\binto |\bbetween |\bamong |\bwhether |\bif |\beither |\bone of |\bclasses |\blabels )"
)
_JOINT: Final = re.compile(r"\s*,\s*(?:or|and)\s+|\s+(?:or|and|vs\.?|versus)\s+|\s*[,/|;]\s*")
_TAIL: Final = re.compile(
    r"\s+(?:by|based on|for|according|given|using|with respect|from|in (?:a|an|the|their|its)|depending|on the basis)"
    r"\b.*$"
)
_VERB: Final = re.compile(
    r"^.*\b(?:is|are|was|were|be|being|expresses|shows|contains|describes|concerns|belongs to|about|has|sounds|conveys|"
    r"supports|reports|refers to|means)\s+(?:an? |the )?(?:either )?"
)


def listed_labels(task: str) -> tuple[str, ...]:
    """Reads the labels that a user's task lists ("as positive, negative or neutral").

    A list needs a lead (as, into, between, among, whether, a colon, a bracket), a joint (comma, slash, or, and) and
    two to twenty items of at most five words and 40 characters.
    """
    for lead in _LEAD.finditer(task[:2000]):
        rest = task[lead.end() :][:400]
        start = lead.group().strip()
        end = re.search(r"\)" if start == "(" else r"[.?!)](?:\s|$)|\n", rest)
        rest = rest[: end.start()] if end else rest
        if start in ("whether", "if"):
            rest, is_or_not = re.subn(r"\s*,?\s*\bor not\s*$", "", rest)
            verb = _VERB.match(re.split(r" or |,", rest)[0] + " ")
            rest = rest[verb.end() :] if verb else rest
            if is_or_not or not re.search(r"\bor\b", rest):
                label = _item(_TAIL.sub("", rest)) if verb else ""
                if label and not label.startswith("not "):
                    return (label, f"not {label}")
                continue
        rest = _TAIL.sub("", rest)
        if start in (":", "(") or re.search(r"/|\s(?:or|and|vs\.?|versus)\s", rest):
            items = [_item(part) for part in _JOINT.split(rest)]
            distinct = {item.casefold() for item in items}
            if 2 <= len(distinct) <= 20 and len(distinct) == len(items) and "" not in distinct:
                return tuple(items)
    return ()


_AROUND: Final = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb*[]() \t.!?:"  # quotes, brackets and marks around a label


def _item(text: str) -> str:
    """Reads the label in a piece of a list; "" if it cannot be one."""
    text = re.sub(r"^(?:either |an? |the )", "", text.strip(_AROUND))
    good = 1 <= len(text) <= 40 and len(text.split()) <= 5 and all(char.isprintable() for char in text)
    return text if good and re.search(r"\w", text) else ""
