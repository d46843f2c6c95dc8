"""The embedded model: what it writes, and how it plays bad replies. Keys are fixed, so every test is deterministic."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import itertools
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.transforms.core.elements import Kind
from textmint.transforms.core.identity import choices, stable_hash
from textmint.transforms.core.labels import clean_labels
from textmint.transforms.labels.choice import read_choice
from textmint.transforms.llm.base import Answer, Backend, FatalError, Request
from textmint.transforms.llm.offline import author as offline_author
from textmint.transforms.llm.offline import backend as offline
from textmint.transforms.llm.offline import domains as offline_domains
from textmint.transforms.parsing.replies import Refusal, parse_object, parse_string_list
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


GOLDEN_EXAMPLE = {
    "input_text": "Good day. As the branch manager has pointed out, nothing about the overdraft was worth the trouble.",
    "label": "negative",
    "misleading_label": "neutral",
}
GOLDEN_LIST_START = [
    "Determine the bank product concerned (home loan, credit card, deposit or currency exchange"
    "), judging by a chat with a bank's help desk that mentions a debit card.",
    "Given a chat with a bank's help desk that mentions a savings account, tell which bank product is concerned.",
]
GOLDEN_LIST_HASH = "c0beaef6233fcd2376efe233bf3ba190"  # end of golden values


def _request(kind: Kind, key: str, **variables: str) -> Request:
    return Request(request_id=key, kind=kind, text="A prompt of some length.", seed=1, variables=variables)


def _example_request(key: str, task: str = "Classify a bank review by the sentiment it expresses.") -> Request:
    return _request(
        "example", key, task=task, difficulty="college", clarity="clear", num_words="at least 50", language="English"
    )


@pytest.mark.parametrize("language", ["Thai", "German", "th", "Klingon", ""])
def test_it_answers_no_request_for_another_language(language: str) -> None:
    """Its rows would say that they are written in it: whoever makes drafts, options, a file of tasks or a program."""
    asked = _request("example", "k", task="Sort bees", language=language)
    with pytest.raises(FatalError, match="writes English only, and was asked for") as raised:
        asyncio.run(offline.OfflineSession(0.0).generate(asked))
    assert "--llm" in raised.value.remedy


@pytest.mark.parametrize("language", ["English", "en", "ENGLISH"])
def test_english_by_any_name_is_answered(language: str) -> None:
    asked = dataclasses.replace(
        _example_request("k"), variables={**_example_request("k").variables, "language": language}
    )
    assert asyncio.run(offline.OfflineSession(0.0).generate(asked)) == offline.answer(_example_request("k"))


def test_what_it_writes_is_taken_for_english() -> None:
    """So its rows are checked as all others are."""
    tasks = itertools.chain(*(offline_author.brainstorm("", f"round {round_}") for round_ in range(25)))
    rows = [offline_author.write_example(task, "PhD", "clear", "at least 10", "k") for task in tasks]
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
    return [task for round_ in range(100) for task in offline_author.brainstorm("", f"round {round_}")]


# ------------------------------------------------------------------------------------------------ the data


def test_the_data_is_whole() -> None:
    fields, shared = offline_domains.fields(), offline_domains.shared_schemes()
    assert len(fields) >= 48
    assert len({field.name for field in fields}) == len(fields)
    for field in fields:
        assert len(field.kinds) == 4 and len(field.things) == 6 and len(field.terms) >= 4 and len(field.schemes) >= 2
        assert {genre for genre, _ in field.kinds} <= set(offline_domains.OPENERS)
    for scheme in (*shared, *(scheme for field in fields for scheme in field.schemes)):
        labels = [option.label.casefold() for option in scheme.options]
        assert 3 <= len(labels) <= 8 and len(set(labels)) == len(labels), scheme.phrase
        for clause in (clause for option in scheme.options for clause in option.clauses):
            assert 4 <= len(clause.split()) <= 9, clause  # a text of less than ten words holds one clause
            assert not any(label in clause.casefold() for label in labels), (scheme.phrase, clause)


def test_every_slot_of_every_template_can_be_filled() -> None:
    field = offline_domains.fields()[0]
    frames = [f for group in (offline_domains.FRAMES, offline_domains.SHORT) for fs in group.values() for f in fs]
    groups = (
        offline_domains.OPENERS,
        offline_domains.CLOSERS,
        offline_domains.MENTIONS,
        offline_domains.FILLERS,
        offline_domains.KNOWN_CLASSES,
    )
    rest = [template for group in groups for templates in group.values() for template in templates]
    clauses = [
        clause
        for scheme in (*offline_domains.shared_schemes(), *(s for f in offline_domains.fields() for s in f.schemes))
        for option in scheme.options
        for clause in option.clauses
    ]
    for template in (*frames, *rest, *clauses, *offline_domains.UNKNOWN_CLASS, *offline_domains.ABSENT):
        pen = offline_author._Pen(choices(template), field)
        filled = pen.fill(template, c="it rains", m="it snows")
        assert "{" not in filled and "}" not in filled


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
    assert offline_author.with_article(noun) == expected


# ------------------------------------------------------------------------------------------------ tasks


def test_every_point_has_a_task_of_its_own_and_is_found_again() -> None:
    points = list(offline_author.points())
    texts = [offline_author.compose(point) for point in points]
    assert len({text.casefold() for text in texts}) == len(points) >= 4000
    for point, text in list(zip(points, texts, strict=True))[::7]:
        assert offline_author.recognise(text) == point
    # a step between may fold case, spacing and the end mark
    assert offline_author.recognise("  " + texts[5].upper().rstrip(".").replace(" ", "  ")) == points[5]


@pytest.mark.parametrize("text", ["", ".", "Classify", "Classify  by ", "Given , tell .", "Classify a by by by b."])
def test_a_foreign_task_is_not_recognised(text: str) -> None:
    assert offline_author.recognise(text) is None


def test_brainstorm_brings_enough_distinct_tasks() -> None:
    lists = [offline_author.brainstorm("", f"round {round_}") for round_ in range(800)]
    assert all(18 <= len(items) <= 22 and len(set(items)) == len(items) for items in lists)
    assert len(set(itertools.chain(*lists[:50]))) >= 700
    assert len(set(itertools.chain(*lists))) >= 3500


@pytest.mark.parametrize(
    ("topic", "name"),
    [("astronomy and telescopes", "astronomy"), ("Banking", "banking"), ("recipes and kitchens", "cooking")],
)
def test_brainstorm_leans_towards_the_topic(topic: str, name: str) -> None:
    items = [item for key in "abcdef" for item in offline_author.brainstorm(topic, key)]
    points = [offline_author.recognise(item) for item in items]
    names = collections.Counter(offline_domains.fields()[point.field].name for point in points if point)
    assert names[name] >= len(items) * 0.6


def test_an_unknown_topic_is_like_none() -> None:
    assert offline_author.brainstorm("zzgrbl", "k") == offline_author.brainstorm("", "k")


# ------------------------------------------------------------------------------------------------ examples


def test_golden() -> None:
    """Pinned, since paid-for rows are found again by request id: if the author changes what it answers to an equal
    request, `MODEL` has to change with it, or old and new rows would bear one name."""
    example = offline_author.write_example(
        "Classify a letter to a bank by the sentiment it expresses.", "college", "clear", "at least 10", "golden"
    )
    assert example == GOLDEN_EXAMPLE
    items = offline_author.brainstorm("banking", "golden")
    assert items[:2] == GOLDEN_LIST_START
    assert stable_hash("list", items) == GOLDEN_LIST_HASH


def test_equal_requests_get_equal_text_and_other_keys_other_text() -> None:
    write = offline_author.write_example
    arguments = ("Classify a bank review by the sentiment it expresses.", "PhD", "ambiguous", "at least 50")
    assert write(*arguments, "a") == write(*arguments, "a")
    assert len({write(*arguments, f"key {number}")["input_text"] for number in range(200)}) == 200


@pytest.mark.parametrize("num_words", BOUNDS)
def test_attributes_are_honoured_and_labels_hidden(num_words: str, tasks: list[str]) -> None:
    for number in range(700):
        task = tasks[(number * 13) % len(tasks)]
        difficulty, clarity = DIFFICULTIES[number % 3], CLARITIES[number // 3 % 3]
        example = offline_author.write_example(task, difficulty, clarity, num_words, f"{num_words} {number}")
        _check(example, num_words)
        point = offline_author.recognise(task)
        assert point is not None
        field = offline_domains.fields()[point.field]
        scheme = (*field.schemes, *offline_domains.shared_schemes())[point.scheme]
        labels = {option.label for option in scheme.options}
        assert {example["label"], example["misleading_label"]} <= labels


def test_texts_are_well_formed(tasks: list[str]) -> None:
    for number, (difficulty, clarity, num_words) in enumerate(ATTRIBUTES * 10):
        example = offline_author.write_example(tasks[number], difficulty, clarity, num_words, f"form {number}")
        text = example["input_text"]
        assert text == text.strip()
        assert text.replace("\n\n", "").isprintable()
        assert not text[0].islower()
        assert "{" not in text and "  " not in text and ".." not in text and " ," not in text
        assert "\x01" not in text and "\x02" not in text


def test_difficulty_is_visible(tasks: list[str]) -> None:
    """Longer words and longer sentences from one level to the next."""
    letters, sentences = [], []
    for difficulty in DIFFICULTIES:
        texts = [
            offline_author.write_example(task, difficulty, "clear", "at least 100", task)["input_text"]
            for task in tasks[:60]
        ]
        words = [word for text in texts for word in text.split()]
        letters.append(sum(map(len, words)) / len(words))
        sentences.append(len(words) / sum(text.count(". ") + 1 for text in texts))
    assert letters[0] < letters[1] < letters[2]
    assert sentences[0] * 1.3 < sentences[1]
    assert sentences[0] * 1.3 < sentences[2]


def test_ambiguous_texts_hint_at_the_misleading_label() -> None:
    task = "Classify a bank review by the sentiment it expresses."
    for number in range(30):
        example = offline_author.write_example(task, "high school", "ambiguous", "at least 50", f"hint {number}")
        options = {option.label: option for option in offline_domains.shared_schemes()[0].options}
        for side in ("label", "misleading_label"):
            clauses = options[example[side]].clauses
            stems = [max(offline_author._segments(clause)[::2], key=len).strip() for clause in clauses]
            assert any(stem in example["input_text"] for stem in stems), example


def test_near_duplicates_are_rare(tasks: list[str]) -> None:
    """Word 3-grams, Jaccard of 0.8 and more, exact over all pairs."""
    lengths = ("at least 10", "at least 50", "at least 100")
    grams = []
    for number in range(300):
        text = offline_author.write_example(
            tasks[number], DIFFICULTIES[number % 3], CLARITIES[number // 3 % 3], lengths[number // 9 % 3], f"n {number}"
        )["input_text"]
        words = text.lower().split()
        grams.append(frozenset(zip(words, words[1:], words[2:], strict=False)))
    near = sum(len(a & b) >= 0.8 * len(a | b) for a, b in itertools.combinations(grams, 2))
    assert near <= 300 * 0.02


def test_short_texts_vary(tasks: list[str]) -> None:
    examples = [
        offline_author.write_example(task, DIFFICULTIES[n % 3], CLARITIES[n // 3 % 3], "less than 10", f"s {n}")
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
def test_listed_classes(task: str, classes: tuple[str, ...]) -> None:
    assert offline_author.listed_classes(task) == classes


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
def test_listed_classes_become_labels(task: str) -> None:
    classes = offline_author.listed_classes(task)
    seen = set()
    for number, (difficulty, clarity, num_words) in enumerate(ATTRIBUTES * 2):
        example = offline_author.write_example(task, difficulty, clarity, num_words, f"listed {number}")
        _check(example, num_words)
        seen |= {example["label"], example["misleading_label"]}
    assert len(seen) == len(classes), "a class has one name in all rows"
    assert {label.removeprefix("class ") for label in seen} == set(classes)


def test_content_fits_the_classes_of_a_known_kind() -> None:
    example = offline_author.write_example("Sort e-mails into spam and ham", "college", "clear", "at least 50", "k")
    signs = {"spam": ("euros", "card", "account", "pills"), "ham": ("lunch", "minutes", "bring", "key")}
    assert any(word in example["input_text"].casefold() for word in signs[example["label"]])


def test_a_task_near_a_scheme_gets_its_labels() -> None:
    example = offline_author.write_example("Find the area of law of a legal document", "PhD", "clear", "any", "k")
    assert example["label"] in {"family law", "criminal law", "employment law", "property law"}
    example = offline_author.write_example("What is the sentiment of this tweet", "PhD", "clear", "any", "k")
    assert example["label"] in {"positive", "negative", "neutral", "mixed"}


def test_one_task_keeps_one_set_of_labels() -> None:
    seen = {
        offline_author.write_example("Grbl the zwonk", "college", "clear", "at least 10", f"k{n}")["label"]
        for n in range(60)
    }
    assert 3 <= len(seen) <= 5


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200), st.sampled_from(ATTRIBUTES), st.sampled_from(["", "as ", "into ", "(", ": ", "whether "]))
def test_no_task_breaks_it(text: str, attributes: tuple[str, str, str], lead: str) -> None:
    example = offline_author.write_example(f"Classify {lead}{text}", *attributes, key=text)
    _check(example, attributes[2])
    json.dumps(example, ensure_ascii=False).encode()  # no lone surrogate comes through


@pytest.mark.parametrize(
    "task",
    ["", " ", "ж" * 2000, "as a, " * 333, "whether is " * 181, "a or " * 400, "分类文本。", "\ud800"],
    ids=["empty", "blank", "cyrillic", "commas", "verbs", "joints", "chinese", "surrogate"],
)
def test_odd_tasks(task: str) -> None:
    for number, attributes in enumerate(ATTRIBUTES):
        _check(offline_author.write_example(task, *attributes, key=f"odd {number}"), attributes[2])
    assert offline_author.brainstorm(task, "odd")


# ------------------------------------------------------------------------------------------------ the back end


def test_good_replies_are_json() -> None:
    for number in range(100):
        reply = offline.answer(_example_request(f"good {number}"))
        assert set(json.loads(reply.text)) == {"input_text", "label", "misleading_label"}
        assert reply.finish_reason == "stop" and reply.model == offline.MODEL == "offline-1"
        assert reply.prompt_tokens == 6 and reply.output_tokens == -(-len(reply.text) // 4)
    items = json.loads(offline.answer(_request("task_list", "good", topic="")).text)
    assert 18 <= len(items) <= 22 and all(isinstance(item, str) for item in items)
    assert items == offline_author.brainstorm("", "good")


def test_the_backend_is_one_and_can_be_shipped() -> None:
    backend = offline.OfflineBackend(fault_rate=0.25)
    assert isinstance(backend, Backend)
    shipped = pickle.loads(pickle.dumps(backend))
    assert shipped == backend
    assert dict(shipped.fingerprint()) == {"backend": "offline", "model": "offline-1", "fault_rate": 0.25}
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


@pytest.mark.parametrize("kind", ["example", "task_list"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 1.0])
def test_shares_of_faults_and_forms(kind: Kind, rate: float) -> None:
    total = 4000
    requests = [_request(kind, f"share {number}") for number in range(total)]
    faults = collections.Counter(offline.fault_of(request, rate) for request in requests)
    good = faults.pop(None, 0)
    spread = (total * rate * (1 - rate)) ** 0.5
    assert abs(total - good - total * rate) <= 4 * spread
    kinds = offline.LIST_FAULTS if kind == "task_list" else offline.EXAMPLE_FAULTS
    if rate:
        even = (total - good) / len(kinds)
        assert set(faults) == set(kinds)
        assert all(abs(count - even) <= 4.5 * even**0.5 for count in faults.values())
    else:
        assert not faults
    remaining = [request for request in requests if offline.fault_of(request, rate) is None]
    forms = collections.Counter(offline.form_of(request, rate) for request in remaining)
    plain = forms.pop(None, 0)
    assert abs(good - plain - good * rate) <= 4 * (good * rate * (1 - rate)) ** 0.5
    if 0 < rate < 1:
        assert set(forms) == set(offline.LIST_FORMS if kind == "task_list" else offline.EXAMPLE_FORMS)


def _all(kind: Kind, fault: str | None = None, form: str | None = None, rate: float = 0.5) -> list[Answer]:
    """Answers of 40 requests whose lot is this fault or form."""
    found: list[Answer] = []
    for number in itertools.count():
        request = _example_request(f"lot {number}") if kind == "example" else _request(kind, f"lot {number}", topic="")
        if offline.fault_of(request, rate) == fault and (fault or offline.form_of(request, rate) == form):
            found.append(offline.answer(request, rate))
            if len(found) == 40:
                return found
    raise AssertionError


def test_faults_of_examples() -> None:
    assert {(a.text, a.finish_reason) for a in _all("example", "empty")} == {("", "stop")}
    assert {(a.text, a.finish_reason) for a in _all("example", "blocked")} == {("", "content_filter")}
    for reply in _all("example", "truncated"):
        assert reply.finish_reason == "length" and reply.text.startswith("{") and '"label"' not in reply.text
        with pytest.raises(json.JSONDecodeError):
            json.loads(reply.text)
        json.loads(reply.text.rstrip("\\") + '"}')  # cut within the string
    for reply in _all("example", "prose"):
        assert not set("{}[]") & set(reply.text) and len(reply.text.split()) > 10
    shapes = {type(json.loads(reply.text)) for reply in _all("example", "wrong_shape")}
    assert shapes == {list, int}
    gone, odd, blank = set(), set(), set()
    fields = {"input_text", "label", "misleading_label"}
    for reply in _all("example", "missing_field"):
        value = json.loads(reply.text)
        assert len(value) == 2
        gone |= fields - set(value)
    for reply in _all("example", "wrong_type"):
        odd |= {type(value) for value in json.loads(reply.text).values() if not isinstance(value, str)}
    for reply in _all("example", "blank_field"):
        blank |= {name for name, value in json.loads(reply.text).items() if not value.strip()}
    assert gone == blank == fields
    assert odd == {int, type(None)}


def test_forms_of_examples() -> None:
    for form in offline.EXAMPLE_FORMS:
        for reply in _all("example", form=form):
            text = reply.text
            assert reply.finish_reason == "stop"
            if form == "extra_key":
                assert len(json.loads(text)) == 4
            elif form == "one_element_list":
                assert len(json.loads(text)) == 1 and len(json.loads(text)[0]) == 3
            else:
                with pytest.raises(json.JSONDecodeError):
                    json.loads(text)
            if form == "fenced":
                assert json.loads(text.removeprefix("```json\n").removesuffix("\n```"))
            if form == "in_prose":
                assert json.loads(text[text.index("{") : text.rindex("}") + 1])
            if form == "python_dict":
                assert text.startswith("{'input_text': ")
            if form == "trailing_comma":
                assert json.loads(text[: text.rindex(",")] + "}")
            if form == "raw_newline":
                assert json.loads(text, strict=False)


def test_replies_to_lists() -> None:
    assert {(a.text, a.finish_reason) for a in _all("task_list", "empty")} == {("", "stop")}
    assert {(a.text, a.finish_reason) for a in _all("task_list", "blocked")} == {("", "content_filter")}
    assert all("cannot" in a.text and "[" not in a.text for a in _all("task_list", "prose"))
    assert {type(json.loads(a.text)) for a in _all("task_list", "wrong_shape")} == {dict, int}
    for reply in _all("task_list", "bad_items"):
        items = json.loads(reply.text)
        good = [item for item in items if isinstance(item, str) and item.strip()]
        assert len(items) - len(good) == 3 and len(good) >= 18
    for reply in _all("task_list", form="fenced"):
        assert json.loads(reply.text.removeprefix("```python\n").removesuffix("\n```"))
    assert all(a.text.startswith("1. ") and a.text.count("\n") >= 17 for a in _all("task_list", form="numbered"))
    assert all(a.text.startswith("- ") and a.text.count("\n") >= 17 for a in _all("task_list", form="bulleted"))
    assert all(a.text.startswith(("['", '["')) for a in _all("task_list", form="python_list"))


# ------------------------------------------------------------------------------------------------ planned labels


def test_every_task_has_labels(tasks: list[str]) -> None:
    for task in (*tasks[::7], "", "x", "Décide si le texte parle de chats", "Sort articles by topic", "a" * 5_000):
        labels = offline_author.label_set(task)
        assert clean_labels(labels) == tuple(labels), task
        assert 2 <= len(labels) <= 20
    assert offline_author.label_set("Tell whether a review is positive, negative or neutral") == [
        "positive",
        "negative",
        "neutral",
    ]
    assert offline_author.label_set("Grade essays as A, B or C") == ["class A", "class B", "class C"]


def test_the_labels_of_its_tasks_are_those_of_its_examples(tasks: list[str]) -> None:
    for task in tasks[::40]:
        labels = offline_author.label_set(task)
        written = [
            offline_author.write_example(task, "college", "clear", "at least 10", f"{task} {n}") for n in range(10)
        ]
        assert {example["label"].removeprefix("class ") for example in written} <= {
            label.removeprefix("class ") for label in labels
        }


@pytest.mark.parametrize(("difficulty", "clarity", "num_words"), ATTRIBUTES)
def test_a_planned_text_is_as_long_as_asked_for_and_names_no_label(
    tasks: list[str], difficulty: str, clarity: str, num_words: str
) -> None:
    for task in (*tasks[::200], "Sort articles by topic", "Tell spam from ham", "Label as quick or slow"):
        labels = offline_author.label_set(task)
        for label, misleading in zip(labels, (*labels[1:], labels[0]), strict=True):
            text = offline_author.write_planned(
                task, label, misleading, difficulty, clarity, num_words, f"{task} {label}"
            )
            _check({"input_text": text, "label": label, "misleading_label": misleading}, num_words)


def test_any_labels_get_a_text() -> None:
    for label, misleading in (("zorp", "blint"), ("the", "a"), ("", ""), ("x" * 9_000, "y"), ("\ud83d", "賛成")):
        text = offline_author.write_planned("Sort things", label, misleading, "", "", "at least 10", "key")
        assert text == offline_author.write_planned("Sort things", label, misleading, "", "", "at least 10", "key")
        assert text.strip()


def _planned_request(key: str) -> Request:
    labels = {"label": "negative", "misleading_label": "positive"}
    return _request("planned_example", key, **{**_example_request(key).variables, **labels})


def _choice_request(key: str) -> Request:
    labels = ("negative", "positive") if int(key) % 2 else ("positive", "negative")
    return _request("choice", key, first=labels[0], second=labels[1], label="negative")


def test_a_planned_reply_holds_the_text_alone() -> None:
    for key in map(str, range(20)):
        assert list(json.loads(offline.answer(_planned_request(key)).text)) == ["input_text"]


def test_choices_are_right_without_faults_whatever_the_order() -> None:
    texts = {offline.answer(_choice_request(str(key))).text for key in range(40)}
    assert [json.loads(text) for text in texts] == [{"label": "negative"}]
    unknown = offline.answer(_request("choice", "k", first="a", second="b"))
    assert json.loads(unknown.text) == {"label": "a"}


def test_faults_and_forms_of_choices_are_read_as_what_they_are() -> None:
    refusals = {
        "empty": "empty",
        "blocked": "blocked",
        "truncated": "truncated",
        "prose": "not_json",
        "wrong_shape": "wrong_shape",
    }
    seen = collections.Counter[str]()
    for request in (_choice_request(str(key)) for key in range(400)):
        answer = offline.answer(request, 0.5)
        fault, form = offline.fault_of(request, 0.5), offline.form_of(request, 0.5)
        found = read_choice(answer.text, answer.finish_reason, request.variables["first"], request.variables["second"])
        if isinstance(found, Refusal):
            assert fault is not None and found.reason == refusals[fault]
        else:
            wanted = {"wrong_label": "positive", "no_label": None}.get(fault or "", "negative")
            assert found.label == wanted, (fault, form, answer.text)
        seen[fault or f"form {form}"] += 1
    assert set(seen) == {*offline.CHOICE_FAULTS, *(f"form {form}" for form in (*offline.CHOICE_FORMS, None))}
    assert 160 <= sum(seen[fault] for fault in offline.CHOICE_FAULTS) <= 240  # of 400, 200 expected: 4 deviations


def test_faults_of_label_sets_and_planned_texts_are_read_as_what_they_are() -> None:
    list_reasons = {"empty": "empty", "blocked": "blocked", "prose": "not_json", "wrong_shape": "wrong_shape"}
    seen = set()
    for key in map(str, range(300)):
        request = _request("label_set", key, task="Tell whether a review is positive, negative or neutral")
        answer = offline.answer(request, 0.5)
        fault = offline.fault_of(request, 0.5)
        parsed = parse_string_list(answer.text, answer.finish_reason)
        if isinstance(parsed, Refusal):
            assert fault is not None and parsed.reason == list_reasons[fault]
        else:
            assert len(clean_labels(parsed.value)) == (1 if fault == "too_few_labels" else 3), (fault, answer.text)
        seen.add(fault)
        planned = _planned_request(key)
        reply, fault = offline.answer(planned, 0.5), offline.fault_of(planned, 0.5)
        text = parse_object(reply.text, reply.finish_reason, ("input_text",))
        assert isinstance(text, Refusal) == (fault is not None), (fault, reply.text)
        seen.add(fault)
    assert seen == {*offline.LABEL_SET_FAULTS, *offline.EXAMPLE_FAULTS, None}
