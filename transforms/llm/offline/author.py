"""The embedded author: brainstorms tasks and writes examples from a grammar, to try the pipeline without a key.

Equal keys give equal text: every choice is read from `identity.choices(key)`. It writes English whatever language is
asked for, and it knows nothing: the rows show what the pipeline does, and are not for training.

A task is a point in a grid (document of a field, what it is about, label scheme). A point has one wording, so a
task that comes back is the same text and is dropped as a repeat instead of entering the data in another dress. The
way back from a text to its point is a lookup of its parts, verified by composing the task again.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from textmint.transforms.core.identity import choices, fraction
from textmint.transforms.llm.offline import domains as data
from textmint.transforms.llm.offline.domains import Field, Option, Scheme

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

# ---------------------------------------------------------------------------------------------------- words


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


_WORD: Final = re.compile(r"[^\W_]+")
_STOP_WORDS: Final = (
    "a an and are as at be by class classes classify decide determine identify label for from given in "
    "into is it its of on or out read tell text that the their this to what whether which who with how "
    "some text texts task sentence message about has was category categories following one kind type post "
    "note letter review call report"
)
_STOP: Final = frozenset(map(_stem, _STOP_WORDS.split()))


def _words(text: str) -> frozenset[str]:
    return frozenset(map(_stem, _WORD.findall(text.casefold()))) - _STOP


_VOWEL_SOUND: Final = re.compile(
    r"(?:[aeio]|u(?!n(?:i|ion)|s[ei]|t[ei])|hour|honest|heir)|(?!SIM\b)[FHLMNRSX][A-Z]|X-|[AEIO][A-Z]?"
)
_CONSONANT_SOUND: Final = re.compile(r"(?:eu|one\b|once\b|U[A-Z])")


def with_article(noun: str) -> str:
    """A noun -> "a" or "an", by the sound that the noun begins with, and the noun."""
    vowel = _VOWEL_SOUND.match(noun) and not _CONSONANT_SOUND.match(noun)
    return f"{'an' if vowel else 'a'} {noun}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + " or " + items[-1]


# ---------------------------------------------------------------------------------------------------- tasks

_WORDINGS: Final = (  # before, between and after document (D) and axis: as phrase (P), question (Q), with labels (L)
    ("Classify ", "D", " by ", "P"),
    ("Given ", "D", ", tell ", "Q"),
    ("Identify ", "P", ", given ", "D"),
    ("Read ", "D", " and decide ", "Q"),
    ("Predict ", "P", " on the basis of ", "D"),
    ("Decide ", "Q", " on reading ", "D"),
    ("Categorize ", "D", " according to ", "P"),
    ("Label ", "D", " with ", "L"),
    ("For ", "D", ", state ", "Q"),
    ("Work out ", "Q", " when shown ", "D"),
    ("Tag ", "D", " with ", "P"),
    ("Determine ", "L", ", judging by ", "D"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One task of the author's own, as indices into the data."""

    field: int
    kind: int
    thing: int  # -1: the document may be about anything
    scheme: int  # the field's own schemes first, then the shared ones


def _scheme(field: Field, index: int) -> Scheme:
    own = field.schemes
    return own[index] if index < len(own) else data.shared_schemes()[index - len(own)]


def _document(field: Field, kind: int, thing: int) -> str:
    noun = with_article(field.kinds[kind][1])
    # "mentions", as an own scheme of the field may say what the document is about
    return noun if thing < 0 else f"{noun} that mentions {with_article(field.things[thing])}"


def _form(scheme: Scheme, form: str) -> str:
    if form == "P":
        return scheme.phrase
    if form == "Q":
        return scheme.question
    return f"{scheme.phrase} ({_listed([option.label for option in scheme.options])})"


def compose(point: Point) -> str:
    """A point of the grid -> the one sentence that asks for it."""
    field = data.fields()[point.field]
    scheme = _scheme(field, point.scheme)
    document = _document(field, point.kind, point.thing)
    mixed = point.field * 7 + point.kind * 5 + point.thing + point.scheme * 11
    before, first, between, second = _WORDINGS[mixed % len(_WORDINGS)]
    parts = [document if part == "D" else _form(scheme, part) for part in (first, second)]
    return f"{before}{parts[0]}{between}{parts[1]}."


def points() -> Iterator[Point]:
    """-> every point of the grid, each with a task of its own."""
    for index, field in enumerate(data.fields()):
        for kind in range(len(field.kinds)):
            for thing in range(-1, len(field.things)):
                for scheme in range(len(field.schemes) + len(data.shared_schemes())):
                    yield Point(index, kind, thing, scheme)


@functools.cache
def _documents() -> dict[str, tuple[int, int, int]]:
    return {
        _document(field, kind, thing).casefold(): (index, kind, thing)
        for index, field in enumerate(data.fields())
        for kind in range(len(field.kinds))
        for thing in range(-1, len(field.things))
    }


@functools.cache
def _axes() -> dict[str, list[tuple[int, int]]]:
    """-> (field, scheme) of each form of an axis; field -1 stands for the shared ones."""
    found: dict[str, list[tuple[int, int]]] = {}
    owners = [(index, field.schemes) for index, field in enumerate(data.fields())]
    for owner, schemes in [*owners, (-1, data.shared_schemes())]:
        for index, scheme in enumerate(schemes):
            for form in "PQL":
                found.setdefault(_form(scheme, form).casefold(), []).append((owner, index))
    return found


def recognise(task: str) -> Point | None:
    """A task's text -> the point of the grid it was composed from, or None if it is not the author's own.

    Letter case, spacing and the end mark do not matter.
    """
    folded = " ".join(task.casefold().split()).rstrip(".!?;: ")
    if len(folded) > 400:  # longer than any composed task
        return None
    for before, first, between, _ in _WORDINGS:
        if not folded.startswith(before.casefold()):
            continue
        rest = folded[len(before) :]
        at = rest.find(between)
        while at >= 0:
            halves = rest[:at], rest[at + len(between) :]
            document, axis = halves if first == "D" else halves[::-1]
            place = _documents().get(document)
            for owner, index in _axes().get(axis, ()) if place else ():
                assert place is not None
                if owner in (-1, place[0]):
                    own = len(data.fields()[place[0]].schemes) if owner < 0 else 0
                    point = Point(*place, own + index)
                    if compose(point).casefold()[:-1] == folded:
                        return point
            at = rest.find(between, at + 1)
    return None


@functools.cache
def _vocabulary() -> dict[str, dict[int, int]]:
    """-> word to fields, each with a weight: 3 for the field's name and lead words, 1 for its nouns."""
    found: dict[str, dict[int, int]] = {}
    for index, field in enumerate(data.fields()):
        lead = _words(" ".join((field.name, *field.words)))
        nouns = _words(" ".join((*(kind[1] for kind in field.kinds), *field.things, *field.roles, *field.terms)))
        for word in lead | nouns:
            found.setdefault(word, {})[index] = 3 if word in lead else 1
    return found


@functools.lru_cache(maxsize=1024)
def _nearest(text: str) -> tuple[int, ...]:
    """A text -> the fields that share most with it, none if nothing is shared."""
    score: dict[int, int] = {}
    for word in sorted(_words(text)):
        for field, weight in _vocabulary().get(word, {}).items():
            score[field] = score.get(field, 0) + weight
    best = max(score.values(), default=0)
    return tuple(sorted(field for field, value in score.items() if value == best))


# ---------------------------------------------------------------------------------------------------- writing


_FIRST, _SECOND = "\x01", "\x02"  # stand for two people until the order of sentences is settled
_COUNTED: Final = re.compile(r"\{n\}(?= (?:years|weeks|hours|times|tries))")


class _Pen:
    """Choices of one key, and the slots that are filled by them. People and places stay the same within a text."""

    def __init__(self, stream: Iterator[int], field: Field, thing: int = -1) -> None:
        self._stream = stream
        self.field = field
        self.thing = field.things[thing] if thing >= 0 else self.pick(field.things)
        at, step = self.below(len(data.GIVEN)), 1 + self.below(len(data.GIVEN) // 4)
        # steps of less than a quarter of the list: four given names that differ
        self.given = [data.GIVEN[(at + step * turn) % len(data.GIVEN)] for turn in range(4)]
        self.names = [f"{given} {self.pick(data.FAMILY)}" for given in self.given[:3]]
        self.details = [*self.order(field.details)]
        self.places = (self.pick(data.PLACES), self.pick(data.PLACES))
        self.role = self.pick(field.roles)
        self.site = self.pick(field.sites)
        self.fixed: dict[str, str] = {
            "thing": self.thing,
            "Thing": _capital(self.thing),
            "a_thing": with_article(self.thing),
            "role": self.role,
            "a_role": with_article(self.role),
            "site": self.site,
            "sender": self.names[2],
            "given": self.given[3],
            "name": _FIRST,
            "other": _SECOND,
        }

    def pick(self, items: Sequence[T]) -> T:
        return items[next(self._stream) % len(items)]

    def below(self, bound: int) -> int:
        return next(self._stream) % bound

    def order(self, items: Sequence[T]) -> Iterator[T]:
        """-> all items once, in an order of this key's choosing."""
        rest = list(items)
        while rest:
            at = next(self._stream) % len(rest)
            rest[at], rest[-1] = rest[-1], rest[at]
            yield rest.pop()

    def slot(self, name: str) -> str:
        fixed = self.fixed.get(name)
        if fixed is not None:
            return fixed
        if name == "place":
            return self.places[self.below(2)]
        if name == "n":
            return str(3 + self.below(87))
        if name == "few":
            return str(3 + self.below(10))
        if name == "day":
            return self.pick(data.DAYS)
        if name == "month":
            return self.pick(data.MONTHS)
        if name == "date":
            return f"{1 + self.below(28)} {self.pick(data.MONTHS)}"
        if name == "time":
            return f"{7 + self.below(14)}:{5 * self.below(12):02d}"
        if name == "term":
            return self.pick(self.field.terms)
        if name == "Term":
            return _capital(self.pick(self.field.terms))
        if name == "detail":
            return self.fill(self.details.pop())
        raise KeyError(name)

    def fill(self, template: str, **given: str) -> str:
        """A template -> its text. `term_two` differs from the `term` of the same sentence."""
        parts = _segments(template)
        if len(parts) == 1:
            return template
        out = list(parts)
        term = ""
        for at in range(1, len(parts), 2):
            name = parts[at]
            if name in given:
                out[at] = given[name]
            elif name == "term_two":
                others = [item for item in self.field.terms if item != term]
                out[at] = self.pick(others)
            else:
                out[at] = self.slot(name)
                if name == "term":
                    term = out[at]
        return "".join(out)

    def introduce(self, text: str) -> str:
        """A text with marks for people -> it with the full name at the first mention and the given name later."""
        for mark, full, given in zip((_FIRST, _SECOND), self.names, self.given, strict=False):
            text = text.replace(mark, full, 1).replace(mark, given)
        return text


@functools.cache
def _segments(template: str) -> tuple[str, ...]:
    """A template -> literal, slot, literal, slot, ..., literal."""
    return tuple(re.split(r"\{(\w+)\}", _COUNTED.sub("{few}", template)))


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """What a task text asks for: the fields it may be set in, its documents and its options."""

    fields: tuple[int, ...]  # empty: any
    kind: int  # -1: any of the field
    thing: int
    options: tuple[Option, ...]  # empty: the fields themselves are the classes


_GENERIC: Final = (0, 2, 1)  # sentiment, intention, urgency: what can be told of nearly every text


@functools.lru_cache(maxsize=4096)
def _plan(task: str) -> _Plan:
    point = recognise(task)
    if point is not None:
        scheme = _scheme(data.fields()[point.field], point.scheme)
        return _Plan((point.field,), point.kind, point.thing, scheme.options)
    near = _nearest(task)
    listed = listed_classes(task)
    if listed:
        return _Plan(near, -1, -1, tuple(_option(label, near) for label in listed))
    words = _words(task)
    if words & {"topic", "subject", "theme"}:
        return _Plan((), -1, -1, ())
    shared = data.shared_schemes()
    scored: list[tuple[int, int, tuple[int, ...], Scheme]] = []
    for order, scheme in enumerate(shared):
        scored.append((2 * len(words & _scheme_words(scheme)), -order, near, scheme))
    for field in near:
        for scheme in data.fields()[field].schemes:
            scored.append((2 * len(words & _scheme_words(scheme)) + 1, -99, (field,), scheme))
    score, _, fields, scheme = max(scored, key=lambda item: item[:2])
    if score < 2:  # nothing is shared: one axis for this task, whichever the key
        scheme, fields = shared[_GENERIC[fraction("offline-generic", task) % len(_GENERIC)]], near
    return _Plan(fields, -1, -1, scheme.options)


@functools.cache
def _scheme_words(scheme: Scheme) -> frozenset[str]:
    return _words(" ".join((scheme.phrase, *scheme.words, *(option.label for option in scheme.options))))


@functools.cache
def _by_label() -> dict[str, list[tuple[int, Option]]]:
    found: dict[str, list[tuple[int, Option]]] = {}
    owners = [(-1, data.shared_schemes()), *((index, field.schemes) for index, field in enumerate(data.fields()))]
    for owner, schemes in owners:
        for scheme in schemes:
            for option in scheme.options:
                found.setdefault(option.label.casefold(), []).append((owner, option))
    return found


def _option(label: str, near: Sequence[int]) -> Option:
    """A class that a user listed -> it with clauses: those of a label the author knows, or such as fit any class."""
    name = " ".join(label.casefold().split())
    known = data.KNOWN_CLASSES.get(name)
    if known:
        return Option(label, known)
    if name.startswith("not "):
        return Option(label, data.ABSENT)
    fields = [field for field in data.fields() if name == field.name or _stem(name) in map(_stem, field.words)]
    exact = [field for field in fields if _stem(name) in (_stem(field.name), _stem(field.words[0]))]
    if exact:
        return Option(label, _field_clauses(exact[0]))
    for candidate in (name, data.ALIASES.get(name, ""), _stem(name)):
        holders = _by_label().get(candidate, [])
        if holders:
            best = min(holders, key=lambda item: (item[0] >= 0 and item[0] not in near, item[0]))
            return Option(label, best[1].clauses)
    if fields:
        return Option(label, _field_clauses(fields[0]))
    return Option(label, data.UNKNOWN_CLASS)


def _field_clauses(field: Field) -> tuple[str, ...]:
    return tuple(clause for scheme in field.schemes for option in scheme.options for clause in option.clauses)


# ---------------------------------------------------------------------------------------------------- listed classes

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


def listed_classes(task: str) -> tuple[str, ...]:
    """A user's task -> the classes that it lists ("as positive, negative or neutral"), or none.

    A list needs a lead (as, into, between, among, whether, a colon, a bracket), a joint (comma, slash, or, and) and
    two to twenty items of at most five words and 40 characters.
    """
    for lead in _LEAD.finditer(task[:2000]):
        rest = task[lead.end() :][:400]
        start = lead.group().strip()
        end = re.search(r"\)" if start == "(" else r"[.?!)](?:\s|$)|\n", rest)
        rest = rest[: end.start()] if end else rest
        if start in ("whether", "if"):
            if not re.search(r"\bor\b", rest) or re.search(r"\bor not\s*$", rest):
                rest = re.sub(r"\s*,?\s*\bor not\s*$", "", rest)
                quality = _VERB.match(rest)
                label = _item(_TAIL.sub("", rest[quality.end() :])) if quality else ""
                if label and not label.startswith("not "):
                    return (label, f"not {label}")
                continue
            quality = _VERB.match(rest.partition(" or ")[0].partition(",")[0] + " ")
            rest = rest[quality.end() :] if quality else rest
        rest = _TAIL.sub("", rest)
        if start == ":" or re.search(r"\s(?:or|and|vs\.?|versus)\s", rest) or start == "(" or "/" in rest:
            items = [_item(part) for part in _JOINT.split(rest)]
            distinct = {item.casefold(): item for item in reversed(items)}
            if 2 <= len(distinct) <= 20 and len(distinct) == len(items) and "" not in distinct:
                return tuple(items)
    return ()


_AROUND: Final = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb*[]() \t.!?:"  # quotes, brackets and marks around a class


def _item(text: str) -> str:
    """A piece of a list -> the class it names, "" if it cannot be one."""
    text = re.sub(r"^(?:either |an? |the )", "", text.strip(_AROUND))
    good = 1 <= len(text) <= 40 and len(text.split()) <= 5 and all(char.isprintable() for char in text)
    return text if good and re.search(r"\w", text) else ""


# ---------------------------------------------------------------------------------------------------- examples


def brainstorm(topic: str, key: str, count: int = 20) -> list[str]:
    """A topic ("" for none) and a key -> about `count` distinct tasks (up to two more or fewer).

    Three tasks in four come from the fields that share words with the topic, if there are any; the others from
    anywhere. Half of the tasks use a scheme of their field, half a shared one.
    """
    stream = choices(key)
    fields = data.fields()
    shared = len(data.shared_schemes())
    near = _nearest(topic[:2000]) if topic else ()
    wanted = max(1, count - 2 + next(stream) % 5)
    found: dict[str, None] = {}
    while len(found) < wanted:
        index = near[next(stream) % len(near)] if near and next(stream) % 4 else next(stream) % len(fields)
        field = fields[index]
        own = len(field.schemes)
        scheme = next(stream) % own if next(stream) % 2 else own + next(stream) % shared
        kind = next(stream) % len(field.kinds)
        thing = next(stream) % (len(field.things) + 1) - 1
        found[compose(Point(index, kind, thing, scheme))] = None
    return list(found)


def write_example(task: str, difficulty: str, clarity: str, num_words: str, key: str) -> dict[str, str]:
    """A task, the attributes asked for and a key -> input_text, label and misleading_label, all in English.

    The number of words (pieces between white space) is within the bounds of `num_words`; neither label occurs in the
    text, in any letter case. An attribute value that is not known counts as the middle one.

    Args:
      task: any sentence. The author's own tasks get exactly their labels; of others the listed classes are used,
        or else the nearest scheme by shared words.
    """
    plan = _plan(task[:2000])
    stream = choices(key)
    fields = data.fields()
    index = plan.fields[next(stream) % len(plan.fields)] if plan.fields else next(stream) % len(fields)
    field = fields[index]
    if plan.options:
        at = next(stream) % len(plan.options)
        right = plan.options[at]
        wrong = plan.options[(at + 1 + next(stream) % (len(plan.options) - 1)) % len(plan.options)]
    else:
        other = fields[(index + 1 + next(stream) % (len(fields) - 1)) % len(fields)]
        right, wrong = Option(field.name, _field_clauses(field)), Option(other.name, _field_clauses(other))
    label, misleading = _spelled_out(right.label), _spelled_out(wrong.label)
    style = _style(difficulty, clarity, num_words)
    genre = field.kinds[plan.kind if plan.kind >= 0 else next(stream) % len(field.kinds)][0]
    text = _tried(stream, field, plan, right, wrong, style, genre, (label.casefold(), misleading.casefold()))
    if text is None:
        # A class so common a word that no sentence does without it: name it as a class instead.
        label, misleading = (name if name.startswith("class ") else f"class {name}" for name in (label, misleading))
        banned = (label.casefold(), misleading.casefold())
        pen = _Pen(stream, field, plan.thing)
        text = _compose_text(pen, right, wrong, *style[:2], genre, *style[2:], banned, plan.thing >= 0)
    return {"input_text": text, "label": label, "misleading_label": misleading}


def label_set(task: str) -> list[str]:
    """A task -> its labels, 2 to 20: of the author's tasks exactly its own, of others those that the task lists, or
    else those of the nearest scheme by shared words."""
    plan = _plan(task[:2000])
    if plan.options:
        return [_spelled_out(option.label) for option in plan.options]
    fields = data.fields()  # a task that asks for the topic
    first, step = fraction("offline-labels", task) % len(fields), 1
    return [fields[(first + step * turn) % len(fields)].name for turn in range(_TOPICS)]


def write_planned(
    task: str, label: str, misleading: str, difficulty: str, clarity: str, num_words: str, key: str
) -> str:
    """A task, the label and the misleading label that are wanted, the attributes and a key -> a text of that label.

    As `write_example`, with labels that are given: those of `label_set(task)` get what the author has to say of them,
    others what can be said of any class. A label so common a word that no sentence does without it stands in the text.
    """
    plan = _plan(task[:2000])
    stream = choices(key)
    fields = data.fields()
    own = {_spelled_out(option.label): option for option in plan.options}
    right, wrong = (
        own.get(name) or _option(name[:_LABEL_CHARS], plan.fields or _nearest(task[:2000]))
        for name in (label, misleading)
    )
    named = [index for index, field in enumerate(fields) if not plan.options and field.name == label]
    places = named or plan.fields or range(len(fields))
    field = fields[places[next(stream) % len(places)]]
    style = _style(difficulty, clarity, num_words)
    genre = field.kinds[plan.kind if plan.kind >= 0 else next(stream) % len(field.kinds)][0]
    text = _tried(stream, field, plan, right, wrong, style, genre, (label.casefold(), misleading.casefold()))
    if text is None:
        pen = _Pen(stream, field, plan.thing)
        text = _compose_text(pen, right, wrong, *style[:2], genre, *style[2:], _NOTHING_BANNED, plan.thing >= 0)
    return text


_TOPICS: Final = 8  # labels of a task that asks for the topic
_LABEL_CHARS: Final = 200
_NOTHING_BANNED: Final = ("\0", "\0")  # a letter that no text holds


def _style(difficulty: str, clarity: str, num_words: str) -> tuple[str, str, int, int]:
    """Attributes -> level, mood, and the fewest and the most words."""
    level = difficulty if difficulty in (data.HIGH_SCHOOL, data.PHD) else data.COLLEGE
    mood = clarity if clarity in (data.CLEAR, data.AMBIGUOUS) else data.EFFORT
    return (level, mood, *_WORDS.get(num_words, _WORDS["any"]))


def _tried(
    stream: Iterator[int],
    field: Field,
    plan: _Plan,
    right: Option,
    wrong: Option,
    style: tuple[str, str, int, int],
    genre: str,
    banned: tuple[str, str],
) -> str | None:
    """-> a text that is as it should be, or None where three attempts brought none."""
    level, mood, fewest, most = style
    for _ in range(3):
        pen = _Pen(stream, field, plan.thing)
        text = _compose_text(pen, right, wrong, level, mood, genre, fewest, most, banned, plan.thing >= 0)
        if _clean(text, banned) and fewest <= len(text.split()) <= most:
            return text
    return None


_TOO_COMMON: Final = frozenset(["and", "are", "for", "has", "one", "that", "the", "this", "was", "with"])


def _spelled_out(label: str) -> str:
    # One or two characters ("A", "1") and the smallest words occur in nearly every text; "no" can be avoided. It is
    # decided by the label alone, so that a class has one name in all rows of its task.
    folded = label.casefold()
    return f"class {label}" if (len(label) < 3 and folded != "no") or folded in _TOO_COMMON else label


def _clean(text: str, banned: tuple[str, str]) -> bool:
    folded = text.casefold()
    return banned[0] not in folded and banned[1] not in folded


def _clauses(pen: _Pen, option: Option, banned: tuple[str, str]) -> list[str]:
    filled = [pen.fill(clause) for clause in pen.order(option.clauses[:40])]
    return [clause for clause in filled if _clean(clause, banned)] or [
        clause for clause in map(pen.fill, pen.order(data.UNKNOWN_CLASS)) if _clean(clause, banned)
    ]


def _sentence(text: str) -> str:
    return _capital(text)


def _compose_text(
    pen: _Pen,
    right: Option,
    wrong: Option,
    level: str,
    mood: str,
    genre: str,
    fewest: int,
    most: int,
    banned: tuple[str, str],
    named: bool,
) -> str:
    clauses = _clauses(pen, right, banned)
    hints = _clauses(pen, wrong, banned) if mood == data.AMBIGUOUS else []
    if not clauses or (mood == data.AMBIGUOUS and not hints):
        return ""
    if most < 10:
        return _short(pen, clauses, level, mood, most, banned, named)
    most -= 2  # a full name is a word more than its mark
    room = most - fewest
    target = fewest + pen.below(max(1, room // 3))
    core: list[str] = []
    frames = [*pen.order(data.FRAMES[level, mood])]
    if mood == data.AMBIGUOUS:
        frames.append(data.TIGHT_AMBIGUOUS)
    for frame in frames:
        sentence = _sentence(pen.fill(frame, c=clauses[0], m=hints[0] if hints else ""))
        if _clean(sentence, banned) and len(sentence.split()) <= most:
            core.append(sentence)
            break
    if not core:
        return ""
    size = len(core[0].split())
    # A second sign of the label helps where the text is long enough to bury the first.
    if len(clauses) > 1 and target >= 50 and mood != data.AMBIGUOUS:
        second = _sentence(pen.fill(frames[-1], c=clauses[1]))
        if frames[-1] != frame and _clean(second, banned):
            core.append(second)
            size += len(second.split())
    opener = pen.fill(pen.pick(data.OPENERS[genre]))
    closer = pen.fill(pen.pick(data.CLOSERS[genre]))
    ends = []
    for end in (opener, closer):
        fits = end and _clean(end, banned) and size + len(end.split()) <= most and (target >= 20 or pen.below(2))
        ends.append(end if fits else "")
        size += len(ends[-1].split())
    body: list[str] = []
    mentions: list[str] = []
    if named or target >= 50:
        mentions = [pen.fill(pen.pick(data.MENTIONS[level]))]
    pool: Iterator[str] = iter(())
    passes = 0
    while size < target or mentions:
        if mentions:
            sentence = mentions.pop()
        else:
            template = next(pool, None)
            if template is None:
                passes += 1
                if passes > 3:
                    return ""
                # PhD prose falls back on the college register only when its own sentences are used up
                spare = data.FILLERS[data.COLLEGE] if passes > 1 and level == data.PHD else data.FILLERS[level]
                details = pen.field.details if level == data.HIGH_SCHOOL else ()
                pool = pen.order((*spare, *(["{detail}."] * len(details))))
                continue
            if "{detail}" in template and not pen.details:
                continue
            sentence = pen.fill(template)
        length = len(sentence.split())
        if size + length <= most and _clean(sentence, banned):
            body.append(_sentence(sentence))
            size += length
    lead = pen.below(min(4, len(body) + 1))
    if len(core) > 1 and len(body) > lead:
        cut = lead + pen.below(len(body) - lead + 1)
        sentences = [*body[:lead], core[0], *body[lead:cut], core[1], *body[cut:]]
    else:
        sentences = [*body[:lead], *core, *body[lead:]]
    # Letters break the line after the salutation; elsewhere everything is one paragraph.
    gap = "\n\n" if genre == "mail" else " "
    return pen.introduce(gap.join(part for part in (ends[0], " ".join(sentences), ends[1]) if part))


def _short(
    pen: _Pen, clauses: Sequence[str], level: str, mood: str, most: int, banned: tuple[str, str], named: bool
) -> str:
    frames = [*pen.order(data.SHORT[level, mood])]
    if named:  # a stable sort: the forms that name the thing come first
        frames = [*(["{Thing}: {c}."] if mood == data.CLEAR else []), *frames]
    for frame in (*frames, "{c}."):
        for clause in clauses:
            # "Debit card: the debit card ..." says it twice
            if "{Thing}" in frame and pen.thing in clause:
                continue
            text = pen.introduce(_sentence(pen.fill(frame, c=clause)))
            if 4 <= len(text.split()) <= most and _clean(text, banned):
                return text
    return ""
