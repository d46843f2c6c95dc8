"""The embedded author: writes texts of a label from a grammar, to try the pipeline without a key.

Equal keys give equal text: every choice is read from `identity.choices(key)`. It writes English, and it knows nothing:
the rows show what the pipeline does, and are not for training.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from textmint.transforms.core.identity import choices, fraction
from textmint.transforms.llm.offline.tasks import find_label, plan, with_article
from textmint.transforms.llm.offline.vocabulary import Field, Label, vocabulary

T = TypeVar("T")

_WORDS: Final[Mapping[str, tuple[int, int]]] = {
    "less than 10": (4, 9),
    "at least 10": (10, 30),
    "at least 50": (50, 80),
    "at least 100": (100, 160),
    "at least 200": (200, 320),
    "any": (10, 90),
}
"""Fewest and most words of a text: the most is 1.6 times the fewest, wider only where one sentence fills the room."""

_AMBIGUOUS: Final = "ambiguous"


def label_set(task: str) -> list[str]:
    """Lists the labels of a task, 2 to 20; `tasks.plan` says which."""
    return [_spelled_out(label.name) for label in plan(task[:2000]).labels]


def write_example(
    task: str, labels: Sequence[str], difficulty: str, clarity: str, num_words: str, key: str
) -> dict[str, str]:
    """Writes an example of a task: `input_text`, and of the labels `label` and `misleading_label`."""
    at = fraction("offline-label", key) % len(labels)
    further = 1 + fraction("offline-misleading-label", key) % (len(labels) - 1)
    right, wrong = labels[at], labels[(at + further) % len(labels)]
    text = write_planned(task, right, wrong, difficulty, clarity, num_words, key)
    return {"input_text": text, "label": right, "misleading_label": wrong}


def write_planned(
    task: str, label: str, misleading: str, difficulty: str, clarity: str, num_words: str, key: str
) -> str:
    """Writes a text of a label that could be mistaken for one of the misleading label.

    Neither label occurs in the text, unless it is so common a word that no sentence does without it.
    """
    wanted = plan(task[:2000])
    stream = choices(key)
    own = {_spelled_out(known.name): known for known in wanted.labels}
    right, wrong = (own.get(name) or find_label(name[:_LABEL_CHARS]) for name in (label, misleading))
    known = vocabulary().fields
    fields = wanted.fields or [field for field in known if field.name == label] or known
    field = fields[next(stream) % len(fields)]
    kind = wanted.kind if wanted.kind >= 0 else next(stream) % len(field.kinds)
    job = _Job(
        field,
        field.kinds[kind][0],
        wanted.thing,
        right,
        wrong,
        difficulty if difficulty in ("high school", "PhD") else "college",
        clarity if clarity in ("clear", _AMBIGUOUS) else "understandable with some effort",
        *_WORDS.get(num_words, _WORDS["any"]),
        banned=(label.casefold(), misleading.casefold()),
    )
    for _ in range(3):
        text = _compose(_Pen(stream, job), job)
        if job.allows(text) and job.fewest <= len(text.split()) <= job.most:
            return text
    return _compose(_Pen(stream, job), dataclasses.replace(job, banned=_NOTHING_BANNED))


_LABEL_CHARS: Final = 200
_NOTHING_BANNED: Final = ("\0", "\0")  # a letter that no text holds


@functools.lru_cache(maxsize=4096)
def _spelled_out(label: str) -> str:
    # Very short labels ("A", "1") and the smallest words occur in nearly every text; "no" can be avoided. It is decided
    # by the label alone, so that a label has one name in all rows of its task.
    folded = label.casefold()
    fillers = [text for texts in vocabulary().fillers.values() for text in texts]
    is_common = sum(folded in text.casefold() for text in fillers) > len(fillers) / 6
    return f"class {label}" if is_common or (len(label) < 3 and folded != "no") else label


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One text to be written."""

    field: Field
    genre: str
    thing: str  # that has to be mentioned; "": any of the field may be
    right: Label
    wrong: Label
    difficulty: str
    clarity: str
    fewest: int  # words
    most: int
    banned: tuple[str, str]  # what may not occur in the text, folded

    def allows(self, text: str) -> bool:
        folded = text.casefold()
        return self.banned[0] not in folded and self.banned[1] not in folded


_FIRST, _SECOND = "\x01", "\x02"  # stand for two people until the order of sentences is settled
_COUNTED: Final = re.compile(r"\$n(?= (?:years|weeks|hours|times|tries))")


@functools.cache
def _segments(template: str) -> tuple[str, ...]:
    """Splits a template into literal, slot, literal, slot, ..., literal."""
    return tuple(re.split(r"\$(\w+)", _COUNTED.sub("$few", template)))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


class _Pen:
    """Choices of one key, and the slots that are filled by them. People and places stay the same within a text."""

    def __init__(self, stream: Iterator[int], job: _Job) -> None:
        self._stream = stream
        known, field = vocabulary(), job.field
        self.thing = job.thing or self.pick(field.things)
        at, step = self.below(len(known.given_names)), 1 + self.below(len(known.given_names) // 4)
        # steps of less than a quarter of the list: four given names that differ
        given = [known.given_names[(at + step * turn) % len(known.given_names)] for turn in range(4)]
        full = [f"{name} {self.pick(known.family_names)}" for name in given[:3]]
        self._people = ((_FIRST, full[0], given[0]), (_SECOND, full[1], given[1]))
        self.details = [*self.order(field.details)]
        role = self.pick(field.roles)
        self._fixed = {
            "thing": self.thing,
            "Thing": _capital(self.thing),
            "a_thing": with_article(self.thing),
            "role": role,
            "a_role": with_article(role),
            "site": self.pick(field.sites),
            "sender": full[2],
            "given": given[3],
            "name": _FIRST,
            "other": _SECOND,
        }
        self._lists: dict[str, Sequence[str]] = {
            "place": (self.pick(known.places), self.pick(known.places)),
            "day": known.days,
            "month": known.months,
            "term": field.terms,
        }

    def pick(self, items: Sequence[T]) -> T:
        return items[next(self._stream) % len(items)]

    def below(self, bound: int) -> int:
        return next(self._stream) % bound

    def order(self, items: Sequence[T]) -> Iterator[T]:
        """Yields all items once, in an order of this key's choosing."""
        rest = list(items)
        while rest:
            at = next(self._stream) % len(rest)
            rest[at], rest[-1] = rest[-1], rest[at]
            yield rest.pop()

    def slot(self, name: str) -> str:
        if name in self._fixed:
            return self._fixed[name]
        if name in self._lists:
            return self.pick(self._lists[name])
        if name == "n":
            return str(3 + self.below(87))
        if name == "few":
            return str(3 + self.below(10))
        if name == "date":
            return f"{1 + self.below(28)} {self.slot('month')}"
        if name == "time":
            return f"{7 + self.below(14)}:{5 * self.below(12):02d}"
        if name == "Term":
            return _capital(self.slot("term"))
        if name == "detail":
            return self.fill(self.details.pop())
        raise KeyError(name)

    def fill(self, template: str, c: str = "", m: str = "") -> str:
        """Fills a template. `$term_two` differs from the `$term` of the same sentence."""
        parts = list(_segments(template))
        term = ""
        for at in range(1, len(parts), 2):
            name = parts[at]
            if name == "c":
                parts[at] = c
            elif name == "m":
                parts[at] = m
            elif name == "term_two":
                parts[at] = self.pick([item for item in self._lists["term"] if item != term])
            else:
                parts[at] = self.slot(name)
                if name == "term":
                    term = parts[at]
        return "".join(parts)

    def introduce(self, text: str) -> str:
        """Names people in full at their first mention, and by the given name later."""
        for mark, full, given in self._people:
            text = text.replace(mark, full, 1).replace(mark, given)
        return text


def _compose(pen: _Pen, job: _Job) -> str:
    """Writes a text; "" where the labels leave nothing to say."""
    clauses = _clauses(pen, job.right, job)
    hints = _clauses(pen, job.wrong, job) if job.clarity == _AMBIGUOUS else [""]
    if not clauses or not hints:
        return ""
    if job.most < 10:
        return _short_text(pen, job, clauses)
    most = job.most - 2  # a full name is a word more than its mark
    target = job.fewest + pen.below(max(1, (most - job.fewest) // 3))
    core = _core(pen, job, clauses, hints[0], target)
    if not core:
        return ""
    size = sum(len(sentence.split()) for sentence in core)
    known = vocabulary()
    ends = []
    for templates in (known.openers[job.genre], known.closers[job.genre]):
        end = pen.fill(pen.pick(templates))
        fits = job.allows(end) and size + len(end.split()) <= most and (target >= 20 or pen.below(2))
        ends.append(end if fits else "")
        size += len(ends[-1].split())
    body = _body(pen, job, target, size)
    lead = pen.below(min(4, len(body) + 1))
    cut = lead + pen.below(len(body) - lead + 1)
    sentences = [*body[:lead], core[0], *body[lead:cut], *core[1:], *body[cut:]]
    # Letters break the line after the salutation; elsewhere everything is one paragraph.
    gap = "\n\n" if job.genre == "mail" else " "
    return pen.introduce(gap.join(part for part in (ends[0], " ".join(sentences), ends[1]) if part))


def _clauses(pen: _Pen, label: Label, job: _Job) -> list[str]:
    for templates in (label.clauses[:40], vocabulary().unknown_label):
        allowed = [clause for clause in map(pen.fill, pen.order(templates)) if job.allows(clause)]
        if allowed:
            return allowed
    return []


def _core(pen: _Pen, job: _Job, clauses: Sequence[str], hint: str, target: int) -> list[str]:
    """Writes the one or two sentences that decide the label."""
    frames = [*pen.order(vocabulary().frames[job.difficulty][job.clarity])]
    for frame in frames:
        sentence = _capital(pen.fill(frame, clauses[0], hint))
        if not job.allows(sentence) or len(sentence.split()) > job.most - 2:
            continue
        # A second sign of the label helps where the text is long enough to bury the first.
        if len(clauses) > 1 and target >= 50 and job.clarity != _AMBIGUOUS and frame != frames[-1]:
            second = _capital(pen.fill(frames[-1], clauses[1]))
            return [sentence, second] if job.allows(second) else [sentence]
        return [sentence]
    return []


def _body(pen: _Pen, job: _Job, target: int, size: int) -> list[str]:
    """Writes the sentences that say nothing of the label, from `size` words until there are `target`."""
    known, difficulty = vocabulary(), job.difficulty
    body: list[str] = []
    if job.thing or target >= 50:
        mention = pen.fill(pen.pick(known.mentions[difficulty]))
        if job.allows(mention) and size + len(mention.split()) <= job.most - 2:
            body.append(_capital(mention))
            size += len(mention.split())
    own = known.fillers[difficulty]
    # PhD prose falls back on the college register only when its own sentences are used up.
    spare = [*own, *known.fillers["college"]] if difficulty == "PhD" else own
    details = ["$detail."] * len(job.field.details) if difficulty == "high school" else []
    for templates in ((*own, *details), spare, spare):
        for template in pen.order(templates):
            if size >= target:
                return body
            if "$detail" in template and not pen.details:
                continue
            sentence = pen.fill(template)
            if size + len(sentence.split()) <= job.most - 2 and job.allows(sentence):
                body.append(_capital(sentence))
                size += len(sentence.split())
    return body


def _short_text(pen: _Pen, job: _Job, clauses: Sequence[str]) -> str:
    frames = [*pen.order(vocabulary().short_frames[job.difficulty][job.clarity]), "$c."]
    if job.thing:  # the forms that name the thing come first
        frames = [*(["$Thing: $c."] if job.clarity == "clear" else []), *frames]
    for frame in frames:
        for clause in clauses:
            # "Debit card: the debit card ..." says it twice
            if "$Thing" in frame and pen.thing in clause:
                continue
            text = pen.introduce(_capital(pen.fill(frame, clause)))
            if 4 <= len(text.split()) <= job.most and job.allows(text):
                return text
    return ""
