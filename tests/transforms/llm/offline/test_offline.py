"""The embedded model: what it writes, and how it plays bad replies. Keys are fixed, so every test is deterministic."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import itertools
import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import Kind
from textmint.transforms.core.identity import choices, stable_hash
from textmint.transforms.core.labels import clean_labels
from textmint.transforms.labels.choice import read_choice
from textmint.transforms.llm.base import Answer, Backend, FatalError, Request
from textmint.transforms.llm.offline import author
from textmint.transforms.llm.offline import backend as offline
from textmint.transforms.llm.offline.tasks import brainstorm, listed_labels, own_tasks, plan, with_article
from textmint.transforms.llm.offline.vocabulary import vocabulary
from textmint.transforms.parsing.lists import parse_string_list
from textmint.transforms.parsing.objects import parse_object
from textmint.transforms.parsing.results import Refusal
from textmint.transforms.quality.language_id import check_language

DIFFICULTIES = ("high school", "college", "PhD")
CLARITIES = ("clear", "understandable with some effort", "ambiguous")
BOUNDS = {
    "less than 10": (4, 9),
    "at least 10": (10, 30),
    "at least 50": (50, 80),
    "at least 100": (100, 160),
    "at least 200": (200, 320),
    "any": (4, 320),
}
ATTRIBUTES = tuple(itertools.product(DIFFICULTIES, CLARITIES, BOUNDS))
GOLDEN_EXAMPLE_HASH = "0200ef5bebc2858dd38efdc0f85e1754"
GOLDEN_LIST_HASH = "5e7550a4eb72ecdb353e00b21c3fc8ca"


def _request(kind: Kind, key: str, **variables: str) -> Request:
    return Request(request_id=key, kind=kind, text="A prompt of some length.", seed=1, variables=variables)


def _example_request(key: str, task: str = "Classify a bank review by the sentiment it expresses.") -> Request:
    return _request(
        "example", key, task=task, difficulty="college", clarity="clear", num_words="at least 50", language="English"
    )


def _write(task: str, difficulty: str, clarity: str, num_words: str, key: str) -> dict[str, str]:
    return author.write_example(task, author.label_set(task), difficulty, clarity, num_words, key)


@pytest.mark.parametrize("language", ["Thai", "German", "th", "Klingon", ""])
def test_it_answers_no_request_for_another_language(language: str) -> None:
    """Its rows would say that they are written in it: whoever makes drafts, options, a file of tasks or a program."""
    asked = _request("example", "k", task="Sort bees", language=language)
    with pytest.raises(FatalError, match="writes English only, and was asked for") as raised:
        asyncio.run(offline.OfflineBackend().generate(asked))
    assert "--llm" in raised.value.remedy


@pytest.mark.parametrize("language", ["English", "en", "ENGLISH"])
def test_english_by_any_name_is_answered(language: str) -> None:
    asked = _example_request("k")
    named = dataclasses.replace(asked, variables={**asked.variables, "language": language})
    assert asyncio.run(offline.OfflineBackend().generate(named)) == offline.answer(asked)


def test_what_it_writes_is_taken_for_english() -> None:
    """So its rows are checked as all others are."""
    tasks = itertools.chain(*(brainstorm("", f"round {round_}") for round_ in range(25)))
    rows = [_write(task, "PhD", "clear", "at least 10", "k") for task in tasks]
    verdicts = [check_language(row["input_text"], "English").verdict for row in rows]
    assert "wrong" not in verdicts and verdicts.count("right") > 400


def _check(example: dict[str, str], num_words: str) -> None:
    text, label, misleading = example["input_text"], example["label"], example["misleading_label"]
    fewest, most = BOUNDS[num_words]
    assert fewest <= len(text.split()) <= most, (num_words, text)
    assert label.strip() and misleading.strip() and label.casefold() != misleading.casefold()
    assert label.casefold() not in text.casefold(), example
    assert misleading.casefold() not in text.casefold(), example


@pytest.fixture(scope="module")
def tasks() -> list[str]:
    return [task for round_ in range(100) for task in brainstorm("", f"round {round_}")]


# ------------------------------------------------------------------------------------------------ the vocabulary


def test_the_vocabulary_is_whole() -> None:
    known = vocabulary()
    assert 12 <= len(known.fields) <= 20
    for field in known.fields:
        assert len(field.kinds) == 4 and len(field.things) == 8 and len(field.terms) >= 4 and len(field.axes) >= 2
        assert {genre for genre, _ in field.kinds} <= set(known.openers) == set(known.closers)
    for axis in (*known.axes, *(axis for field in known.fields for axis in field.axes)):
        labels = [label.name.casefold() for label in axis.labels]
        assert 3 <= len(labels) <= 8 and len(set(labels)) == len(labels), axis.phrase
        for clause in (clause for label in axis.labels for clause in label.clauses):
            assert 4 <= len(clause.split()) <= 9, clause  # a text of less than ten words holds one clause
            assert not any(label in clause.casefold() for label in labels), (axis.phrase, clause)


def test_every_slot_of_every_template_can_be_filled() -> None:
    known = vocabulary()
    groups: list[dict[str, tuple[str, ...]]] = [known.openers, known.closers, known.mentions, known.fillers]
    groups += [*known.frames.values(), *known.short_frames.values()]
    axes = (*known.axes, *(axis for field in known.fields for axis in field.axes))
    labels = (*known.known_labels, *(label for axis in axes for label in axis.labels))
    templates = [template for group in groups for templates in group.values() for template in templates]
    templates += [*known.unknown_label, *known.absent_label]
    templates += [clause for label in labels for clause in label.clauses]
    field, label = known.fields[0], labels[0]
    job = author._Job(field, "mail", "", label, label, "PhD", "clear", 10, 30, ("\0", "\0"))
    for template in templates:
        pen = author._Pen(choices(template), job)
        filled = pen.fill(template, c="it rains", m="it snows")
        assert "$" not in filled and "{" not in filled
    levels, clarities = set(DIFFICULTIES), set(CLARITIES)
    assert set(known.frames) == set(known.short_frames) == set(known.mentions) == set(known.fillers) == levels
    assert {
        clarity for group in (known.frames, known.short_frames) for by in group.values() for clarity in by
    } == clarities


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("e-mail", "an e-mail"),
        ("SIM card", "a SIM card"),
        ("X-ray", "an X-ray"),
        ("MRI scan", "an MRI scan"),
        ("user manual", "a user manual"),
        ("hour", "an hour"),
        ("underwriter", "an underwriter"),
        ("union delegate", "a union delegate"),
        ("union", "a union"),
        ("oil painting", "an oil painting"),
        ("house", "a house"),
    ],
)
def test_article(noun: str, expected: str) -> None:
    assert with_article(noun) == expected


# ------------------------------------------------------------------------------------------------ tasks


def test_every_point_of_the_grid_has_a_task_of_its_own() -> None:
    fields, shared = vocabulary().fields, len(vocabulary().axes)
    grid = sum(len(field.kinds) * (len(field.things) + 1) * (len(field.axes) + shared) for field in fields)
    assert len(own_tasks()) == grid >= 4000


def test_its_own_tasks_are_found_again(tasks: list[str]) -> None:
    for task in tasks[::7]:
        assert plan(task) is own_tasks()[task.casefold().rstrip(".")]
    # a step between may fold case, spacing and the end mark
    assert plan("  " + tasks[5].upper().rstrip(".").replace(" ", "  ")) is plan(tasks[5])


def test_brainstorm_brings_enough_distinct_tasks() -> None:
    lists = [brainstorm("", f"round {round_}") for round_ in range(400)]
    assert all(18 <= len(items) <= 22 and len(set(items)) == len(items) for items in lists)
    assert len(set(itertools.chain(*lists[:50]))) >= 700
    assert len(set(itertools.chain(*lists))) >= 3000


@pytest.mark.parametrize(
    ("topic", "name"),
    [("astronomy and telescopes", "astronomy"), ("Banking", "banking"), ("recipes and kitchens", "cooking")],
)
def test_brainstorm_leans_towards_the_topic(topic: str, name: str) -> None:
    items = [item for key in "abcdef" for item in brainstorm(topic, key)]
    names = collections.Counter(plan(item).fields[0].name for item in items)
    assert names[name] >= len(items) * 0.6


def test_an_unknown_topic_is_like_none() -> None:
    assert brainstorm("zzgrbl", "k") == brainstorm("", "k")


# ------------------------------------------------------------------------------------------------ examples


def test_golden() -> None:
    """Pinned, since paid-for rows are found again by request id: if the author changes what it answers to an equal
    request, `MODEL` has to change with it, or old and new rows would bear one name."""
    example = _write("Classify a letter to a bank by the sentiment it expresses.", "college", "clear", "any", "golden")
    assert stable_hash("example", [*example.values()]) == GOLDEN_EXAMPLE_HASH
    assert stable_hash("list", brainstorm("banking", "golden")) == GOLDEN_LIST_HASH


def test_equal_requests_get_equal_text_and_other_keys_other_text() -> None:
    write = _write
    arguments = ("Classify a bank review by the sentiment it expresses.", "PhD", "ambiguous", "at least 50")
    assert write(*arguments, "a") == write(*arguments, "a")
    assert len({write(*arguments, f"key {number}")["input_text"] for number in range(200)}) == 200


@pytest.mark.parametrize("num_words", BOUNDS)
def test_attributes_are_honoured_and_labels_hidden(num_words: str, tasks: list[str]) -> None:
    for number in range(700):
        task = tasks[(number * 13) % len(tasks)]
        difficulty, clarity = DIFFICULTIES[number % 3], CLARITIES[number // 3 % 3]
        example = _write(task, difficulty, clarity, num_words, f"{num_words} {number}")
        _check(example, num_words)
        assert {example["label"], example["misleading_label"]} <= {label.name for label in plan(task).labels}


def test_texts_are_well_formed(tasks: list[str]) -> None:
    for number, (difficulty, clarity, num_words) in enumerate(ATTRIBUTES * 10):
        example = _write(tasks[number], difficulty, clarity, num_words, f"form {number}")
        text = example["input_text"]
        assert text == text.strip()
        assert text.replace("\n\n", "").isprintable()
        assert not text[0].islower()
        assert "  " not in text and ".." not in text and " ," not in text
        assert "\x01" not in text and "\x02" not in text and "$" not in text


def test_difficulty_is_visible(tasks: list[str]) -> None:
    """Longer words and longer sentences from one level to the next."""
    letters, sentences = [], []
    for difficulty in DIFFICULTIES:
        texts = [_write(task, difficulty, "clear", "at least 100", task)["input_text"] for task in tasks[:60]]
        words = [word for text in texts for word in text.split()]
        letters.append(sum(map(len, words)) / len(words))
        sentences.append(len(words) / sum(text.count(". ") + 1 for text in texts))
    assert letters[0] < letters[1] < letters[2]
    assert sentences[0] * 1.3 < sentences[1]
    assert sentences[0] * 1.3 < sentences[2]


def test_ambiguous_texts_hint_at_the_misleading_label() -> None:
    task = "Classify a bank review by the sentiment it expresses."
    for number in range(30):
        example = _write(task, "high school", "ambiguous", "at least 50", f"hint {number}")
        clauses = {label.name: label.clauses for label in vocabulary().axes[0].labels}
        for side in ("label", "misleading_label"):
            stems = [max(author._segments(clause)[::2], key=len).strip() for clause in clauses[example[side]]]
            assert any(stem in example["input_text"] for stem in stems), example


def test_near_duplicates_are_rare(tasks: list[str]) -> None:
    """Word 3-grams, Jaccard of 0.8 and more, exact over all pairs."""
    lengths = ("at least 10", "at least 50", "at least 100")
    grams = []
    for number in range(300):
        text = _write(
            tasks[number], DIFFICULTIES[number % 3], CLARITIES[number // 3 % 3], lengths[number // 9 % 3], f"n {number}"
        )["input_text"]
        words = text.lower().split()
        grams.append(frozenset(zip(words, words[1:], words[2:], strict=False)))
    near = sum(len(a & b) >= 0.8 * len(a | b) for a, b in itertools.combinations(grams, 2))
    assert near <= 300 * 0.02


def test_short_texts_vary(tasks: list[str]) -> None:
    examples = [
        _write(task, DIFFICULTIES[n % 3], CLARITIES[n // 3 % 3], "less than 10", f"s {n}")
        for n, task in enumerate(tasks)
    ]
    assert len({example["input_text"] for example in examples}) >= 0.85 * len(tasks)


# ------------------------------------------------------------------------------------------------ users' tasks


@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("Classify tweets as positive, negative or neutral.", ("positive", "negative", "neutral")),
        ("Classify tweets as positive, negative, or neutral", ("positive", "negative", "neutral")),
        ("Sort the message by: billing, delivery or other", ("billing", "delivery", "other")),
        ("Sort e-mails into spam and ham", ("spam", "ham")),
        ("Decide whether a product review is genuine or fake", ("genuine", "fake")),
        ("Determine if a sentence is sarcastic.", ("sarcastic", "not sarcastic")),
        ("Is it news? Label it (sports, politics, technology).", ("sports", "politics", "technology")),
        ("Identify the language: Python/Java/C++", ("Python", "Java", "C++")),
        ("Rate a movie review as 1, 2, 3, 4 or 5", ("1", "2", "3", "4", "5")),
        ("Classify the mood of a song as 'happy' or 'sad' based on its lyrics", ("happy", "sad")),
        ("Detect hate speech in comments", ()),
        ("Identify the area of law, given a contract", ()),
        ("", ()),
    ],
)
def test_listed_labels(task: str, classes: tuple[str, ...]) -> None:
    assert listed_labels(task) == classes


@pytest.mark.parametrize(
    "task",
    [
        "Classify tweets as positive, negative or neutral.",
        "Sort e-mails into spam and ham",
        "Determine if a sentence is sarcastic.",
        "Answer as yes or no",
        "Classify as a, e or t",
        "Label it as the, and, of or is",
        "Classify as the or it",
    ],
)
def test_listed_labels_become_labels(task: str) -> None:
    classes = listed_labels(task)
    seen = set()
    for number, (difficulty, clarity, num_words) in enumerate(ATTRIBUTES * 2):
        example = _write(task, difficulty, clarity, num_words, f"listed {number}")
        _check(example, num_words)
        seen |= {example["label"], example["misleading_label"]}
    assert len(seen) == len(classes), "a class has one name in all rows"
    assert {label.removeprefix("class ") for label in seen} == set(classes)


def test_content_fits_the_classes_of_a_known_kind() -> None:
    example = _write("Sort e-mails into spam and ham", "college", "clear", "at least 50", "k")
    signs = {"spam": ("euros", "card", "account", "pills"), "ham": ("lunch", "minutes", "bring", "key")}
    assert any(word in example["input_text"].casefold() for word in signs[example["label"]])


def test_a_task_near_a_scheme_gets_its_labels() -> None:
    example = _write("Find the area of law of a legal document", "PhD", "clear", "any", "k")
    assert example["label"] in {"family law", "criminal law", "employment law", "property law"}
    example = _write("What is the sentiment of this tweet", "PhD", "clear", "any", "k")
    assert example["label"] in {"positive", "negative", "neutral", "mixed"}


def test_one_task_keeps_one_set_of_labels() -> None:
    seen = {_write("Grbl the zwonk", "college", "clear", "at least 10", f"k{n}")["label"] for n in range(60)}
    assert 3 <= len(seen) <= 5


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200), st.sampled_from(ATTRIBUTES), st.sampled_from(["", "as ", "into ", "(", ": ", "whether "]))
def test_no_task_breaks_it(text: str, attributes: tuple[str, str, str], lead: str) -> None:
    example = _write(f"Classify {lead}{text}", *attributes, key=text)
    _check(example, attributes[2])
    json.dumps(example, ensure_ascii=False).encode()  # no lone surrogate comes through


@pytest.mark.parametrize(
    "task",
    ["", " ", "ж" * 2000, "as a, " * 333, "whether is " * 181, "a or " * 400, "分类文本。", "\ud800"],
    ids=["empty", "blank", "cyrillic", "commas", "verbs", "joints", "chinese", "surrogate"],
)
def test_odd_tasks(task: str) -> None:
    for number, attributes in enumerate(ATTRIBUTES):
        _check(_write(task, *attributes, key=f"odd {number}"), attributes[2])
    assert brainstorm(task, "odd")


# ------------------------------------------------------------------------------------------------ the back end


def test_good_replies_are_json() -> None:
    for number in range(100):
        reply = offline.answer(_example_request(f"good {number}"))
        assert set(json.loads(reply.text)) == {"input_text", "label", "misleading_label"}
        assert reply.finish_reason == "stop" and reply.model == offline.MODEL == "offline-2"
        assert reply.prompt_tokens == 6 and reply.output_tokens == -(-len(reply.text) // 4)
    items = json.loads(offline.answer(_request("task_list", "good", topic="")).text)
    assert 18 <= len(items) <= 22 and all(isinstance(item, str) for item in items)
    assert items == brainstorm("", "good")


def test_the_backend_is_one_and_can_be_shipped() -> None:
    backend = offline.OfflineBackend(fault_rate=0.25)
    assert isinstance(backend, Backend)
    shipped = pickle.loads(pickle.dumps(backend))
    assert shipped == backend
    assert dict(shipped.fingerprint()) == {"backend": "offline", "model": "offline-2", "fault_rate": 0.25}
    request = _example_request("shipped")

    async def ask() -> Answer:
        session = await shipped.open()
        try:
            return await session.generate(request)
        finally:
            await session.aclose()

    assert asyncio.run(ask()) == offline.answer(request, 0.25)


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match="fault_rate"):
        offline.OfflineBackend(fault_rate=rate)


def test_blank_variables_are_no_error() -> None:
    assert json.loads(offline.answer(_request("example", "blank")).text)["label"]
    assert json.loads(offline.answer(_request("task_list", "blank")).text)


REQUESTS: dict[Kind, dict[str, str]] = {
    "task_list": {"topic": ""},
    "label_set": {"task": "Tell whether a review is positive, negative or neutral"},
    "example": dict(_example_request("").variables),
    "planned_example": {**_example_request("").variables, "label": "negative", "misleading_label": "positive"},
    "choice": {"first": "negative", "second": "positive", "label": "positive"},
}


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 1.0])
def test_shares_of_faults_and_forms(kind: Kind, rate: float) -> None:
    total = 4000
    requests = [_request(kind, f"share {number}") for number in range(total)]
    faults = collections.Counter(offline.fault_of(request, rate) for request in requests)
    good = faults.pop(None, 0)
    spread = (total * rate * (1 - rate)) ** 0.5
    assert abs(total - good - total * rate) <= 4 * spread
    if rate:
        even = (total - good) / len(offline.FAULTS[kind])
        assert set(faults) == set(offline.FAULTS[kind])
        assert all(abs(count - even) <= 4.5 * even**0.5 for count in faults.values())
    else:
        assert not faults
    remaining = [request for request in requests if offline.fault_of(request, rate) is None]
    forms = collections.Counter(offline.form_of(request, rate) for request in remaining)
    plain = forms.pop(None, 0)
    assert abs(good - plain - good * rate) <= 4 * (good * rate * (1 - rate)) ** 0.5
    if 0 < rate < 1:
        assert set(forms) == set(offline.FORMS[kind])


def _read(kind: Kind, answer: Answer) -> object:
    """What the pipeline reads in an answer: a value, or the reason why there is none."""
    parsed: Any
    if kind == "choice":
        found = read_choice(answer.text, answer.finish_reason, "negative", "positive")
        return found.reason if isinstance(found, Refusal) else {"label": found.label}
    if kind in ("task_list", "label_set"):
        parsed = parse_string_list(answer.text, answer.finish_reason)
    else:
        names = ("input_text", "label", "misleading_label") if kind == "example" else ("input_text",)
        parsed = parse_object(answer.text, answer.finish_reason, names)
    if isinstance(parsed, Refusal):
        return parsed.reason
    return dict(parsed.value) if isinstance(parsed.value, Mapping) else list(parsed.value)


REASONS = {"prose": "not_json", "blank_field": "empty_field"}
"""Why a reply with a fault is refused, where the reason has another name than the fault."""


@pytest.mark.parametrize("kind", REQUESTS)
def test_faults_and_forms_are_read_as_what_they_are(kind: Kind) -> None:
    seen = set()
    for number in range(600):
        request = _request(kind, f"lot {number}", **REQUESTS[kind])
        good: Any = json.loads(offline.answer(request).text)
        answer = offline.answer(request, 0.5)
        fault, form = offline.fault_of(request, 0.5), offline.form_of(request, 0.5)
        found: Any = _read(kind, answer)
        seen.add(fault or f"form {form}")
        if fault == "too_few_labels":
            assert len(found) == 1 and found[0] in good
        elif fault == "wrong_label":
            assert found == {"label": "negative"}
        elif fault == "no_label":
            assert found == {"label": None}
        elif fault in (None, "bad_items"):
            if form == "raw_newline" and not fault:
                found["input_text"] = found["input_text"].replace("\n", " ")
                good["input_text"] = good["input_text"].replace("\n", " ")
            assert found == good, (fault, form, answer.text)
        else:
            assert found == REASONS.get(fault, fault), answer.text
    assert seen == {*offline.FAULTS[kind], "form None", *(f"form {form}" for form in offline.FORMS[kind])}


def _answers(fault: str | None = None, form: str | None = None) -> list[Answer]:
    """Answers to 40 requests for an example whose lot is this fault or form."""
    requests = (_example_request(f"lot {number}") for number in itertools.count())
    drawn = (r for r in requests if offline.fault_of(r, 0.5) == fault and (fault or offline.form_of(r, 0.5) == form))
    return [offline.answer(request, 0.5) for request in itertools.islice(drawn, 40)]


def test_faults_of_examples_vary() -> None:
    fields = {"input_text", "label", "misleading_label"}
    for reply in _answers("truncated"):
        assert reply.finish_reason == "length" and '"label"' not in reply.text
        json.loads(reply.text.rstrip("\\") + '"}')  # cut within the string
    assert {type(json.loads(reply.text)) for reply in _answers("wrong_shape")} == {list, int}
    assert {name for reply in _answers("missing_field") for name in fields - set(json.loads(reply.text))} == fields
    values = [item for reply in _answers("wrong_type") for item in json.loads(reply.text).items()]
    odd = {(name, type(value)) for name, value in values if not isinstance(value, str)}
    assert {name for name, _ in odd} == fields and {kind for _, kind in odd} == {int, type(None)}
    values = [item for reply in _answers("blank_field") for item in json.loads(reply.text).items()]
    assert {name for name, value in values if not value.strip()} == fields


def test_forms_of_examples_need_mending() -> None:
    for form in offline.FORMS["example"]:
        for reply in _answers(form=form):
            if form == "extra_key":
                assert len(json.loads(reply.text)) == 4
            elif form == "one_element_list":
                assert len(json.loads(reply.text)) == 1
            else:
                with pytest.raises(json.JSONDecodeError):
                    json.loads(reply.text)


# ------------------------------------------------------------------------------------------------ planned labels


def test_every_task_has_labels(tasks: list[str]) -> None:
    for task in (*tasks[::7], "", "x", "Décide si le texte parle de chats", "Sort articles by topic", "a" * 5_000):
        labels = author.label_set(task)
        assert clean_labels(labels) == tuple(labels), task
        assert 2 <= len(labels) <= 20
    listed = author.label_set("Tell whether a review is positive, negative or neutral")
    assert listed == ["positive", "negative", "neutral"]
    assert author.label_set("Grade essays as A, B or C") == ["class A", "class B", "class C"]


def test_the_labels_of_its_tasks_are_those_of_its_examples(tasks: list[str]) -> None:
    for task in tasks[::40]:
        requests = (_example_request(f"{task} {n}", task) for n in range(10))
        written = {json.loads(offline.answer(request).text)["label"] for request in requests}
        assert written <= set(author.label_set(task))


@pytest.mark.parametrize(("difficulty", "clarity", "num_words"), ATTRIBUTES)
def test_a_planned_text_is_as_long_as_asked_for_and_names_no_label(
    tasks: list[str], difficulty: str, clarity: str, num_words: str
) -> None:
    for task in (*tasks[::200], "Sort articles by topic", "Tell spam from ham", "Label as quick or slow"):
        labels = author.label_set(task)
        for label, misleading in zip(labels, (*labels[1:], labels[0]), strict=True):
            text = author.write_planned(task, label, misleading, difficulty, clarity, num_words, f"{task} {label}")
            _check({"input_text": text, "label": label, "misleading_label": misleading}, num_words)


def test_any_labels_get_a_text() -> None:
    for label, misleading in (("zorp", "blint"), ("the", "a"), ("", ""), ("x" * 9_000, "y"), ("\ud83d", "賛成")):
        text = author.write_planned("Sort things", label, misleading, "", "", "at least 10", "key")
        assert text == author.write_planned("Sort things", label, misleading, "", "", "at least 10", "key")
        assert text.strip()


def _choice_request(key: str) -> Request:
    labels = ("negative", "positive") if int(key) % 2 else ("positive", "negative")
    return _request("choice", key, first=labels[0], second=labels[1], label="negative")


def test_choices_are_right_without_faults_whatever_the_order() -> None:
    texts = {offline.answer(_choice_request(str(key))).text for key in range(40)}
    assert [json.loads(text) for text in texts] == [{"label": "negative"}]
    unknown = offline.answer(_request("choice", "k", first="a", second="b"))
    assert json.loads(unknown.text) == {"label": "a"}
