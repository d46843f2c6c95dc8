"""The figures of a refresh: they are right, show faults, and depend on the rows alone."""

from __future__ import annotations

import collections
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from textmint.transforms.core.elements import Example, Reject
from textmint.transforms.statistics import accumulate, figures, summary, task_labels
from textmint.transforms.statistics.task_labels import entropy

from tests.support.described_rows import GERMAN, TWIN, described, example_of, make_rows, planted_rows
from tests.support.helpers import make_example, make_reject

ROWS = make_rows()
EXAMPLES = [row for row in ROWS if isinstance(row, Example)]
REJECTS = [row for row in ROWS if isinstance(row, Reject)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that some hundred rows reach."""
    for module in (summary, accumulate, figures):
        monkeypatch.setattr(module, "SAMPLE_ROWS", 30)
        monkeypatch.setattr(module, "DIVERSITY_ROWS", 20)
    monkeypatch.setattr(accumulate, "_PRUNE_AT", 60)
    monkeypatch.setattr(accumulate, "SHARE_ROWS", 25)
    monkeypatch.setattr(summary, "VALUES", 5)


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("order", ["x", "y"])
def test_figures_depend_on_the_rows_alone(bounded: bool, order: str, request: pytest.FixtureRequest) -> None:
    if bounded:
        request.getfixturevalue("small")
    rows = [replace(row, model=f"m{n % 40}") if isinstance(row, Example) else row for n, row in enumerate(ROWS)]
    alone = as_json(described(rows))
    for bundles, shares in ((1, 7), (2, 1), (13, 5), (len(rows), 2)):
        assert as_json(described(rows, bundles=bundles, shares=shares, order=order)) == alone


def test_what_is_counted_is_what_is_there() -> None:
    found = described(ROWS)
    assert found["rows"] == {"examples": len(EXAMPLES), "rejects": len(REJECTS), "tasks": 20}
    (reject,) = found["rejects"]
    assert (reject["stage"], reject["reason"], reject["count"]) == ("ParseJSON", "empty", len(REJECTS))
    assert len(reject["samples"]) == 3
    ids = {row.id for row in REJECTS}
    assert {sample["id"] for sample in reject["samples"]} <= ids
    assert found["attributes"]["num_words"] == {
        value: {
            "asked": sum(row.num_words == value for row in (*EXAMPLES, *REJECTS)),
            "kept": sum(row.num_words == value for row in EXAMPLES),
        }
        for value in ("at least 10", "at least 50")
    }
    assert found["models"] == {"m-1": len(EXAMPLES)}
    labels = collections.Counter(row.label for row in EXAMPLES)
    assert {line["label"]: line["count"] for line in found["labels"]["most_frequent"]} == labels
    assert found["labels"]["distinct"] == 3
    per_task = collections.Counter(row.task_id for row in EXAMPLES)
    assert found["tasks"]["with_examples"] == len(per_task) == 20
    assert found["tasks"]["without_examples"] == 0
    assert found["tasks"]["examples"]["mean"] == pytest.approx(len(EXAMPLES) / 20, abs=1e-4)
    assert found["tasks"]["examples"]["quantiles"]["max"] == max(per_task.values())
    for of_length, asked in zip(found["lengths"].values(), ("at least 10", "at least 50"), strict=True):
        words = [len(row.input_text.split()) for row in EXAMPLES if row.num_words == asked]
        assert of_length["examples"] == len(words)
        assert of_length["mean"] == pytest.approx(sum(words) / len(words), abs=0.01)
        assert (of_length["quantiles"]["min"], of_length["quantiles"]["max"]) == (min(words), max(words))
        assert sum(bin_["count"] for bin_ in of_length["histogram"]) == len(words)
    longest = sorted((len(row.input_text.split()) for row in EXAMPLES), reverse=True)[:10]
    assert [row["words"] for row in found["samples"]["longest"]] == longest
    assert len({row["id"] for row in found["samples"]["random"]}) == 10


def test_planted_faults_are_seen() -> None:
    """Each of these faults is to be seen in its section of the report."""
    sound, found = described(ROWS), described(planted_rows())
    tasks = found["tasks"]
    assert sound["tasks"]["one_label"] == 0 and tasks["one_label"] == 1
    worst = tasks["most_unbalanced"][0]
    assert (worst["task"], worst["labels"], worst["largest_share"]) == ("One label only", 1, 1.0)
    assert worst["most_frequent"] == [{"label": "same", "count": 2}]
    assert (
        tasks["largest_share"]["histogram"][-1]["count"]
        == sound["tasks"]["largest_share"]["histogram"][-1]["count"] + 1
    )
    assert tasks["without_examples"] == 1

    first = found["similarity"]["pairs"][0]
    assert first["similarity"] == 1.0
    assert first["first"]["text"] == first["second"]["text"] == f"{TWIN} end"
    assert found["similarity"]["histogram"][-1]["count"] >= 2 > sound["similarity"]["histogram"][-1]["count"]
    assert found["similarity"]["at_threshold"] > sound["similarity"]["at_threshold"]

    (wrong,) = found["languages"]["wrong"]
    assert (wrong["asked"], wrong["found"], wrong["text"]) == ("English", "German", GERMAN)
    assert {"asked": "English", "found": "German", "verdict": "wrong", "count": 1} in found["languages"]["found"]
    assert not sound["languages"]["wrong"]

    assert found["lengths"]["at least 200"]["too_short"] == 2
    assert found["lengths"]["at least 200"]["histogram"][0] == {"from": 0, "to": 5, "count": 2}
    assert found["lengths"]["at least 10"]["too_short"] == sound["lengths"]["at least 10"]["too_short"]


def test_a_text_that_is_too_long_and_one_that_just_fits() -> None:
    texts = ("one two three four five six seven eight nine", "one two three four five six seven eight nine ten")
    found = described([make_example("L", n, num_words="less than 10", input_text=text) for n, text in enumerate(texts)])
    assert found["lengths"]["less than 10"]["too_long"] == 1
    found = described([make_example("L", n, num_words="at least 10", input_text=text) for n, text in enumerate(texts)])
    assert found["lengths"]["at least 10"]["too_short"] == 1


def test_disputed_labels_are_counted_by_task() -> None:
    disputed = [
        replace(make_reject("Quarrel", n), stage="VerifyLabels", reason="label_disputed", detail="no") for n in range(3)
    ]
    found = described([*ROWS, *disputed])
    assert found["labels"]["disputed"] == 3
    (line,) = found["tasks"]["most_disputed"]
    assert (line["task"], line["disputed"], line["examples"]) == ("Quarrel", 3, 0)
    assert found["tasks"]["with_examples"] == 20  # the other has none


def test_labels_that_differ_in_spelling_only_are_one() -> None:
    labels = ["Non-profit"] * 3 + ["non profit"] * 2 + ["other"]
    found = described([make_example(f"T{n}", 0, label=label) for n, label in enumerate(labels)])
    assert found["labels"]["most_frequent"] == [{"label": "Non-profit", "count": 5}, {"label": "other", "count": 1}]
    assert found["labels"]["distinct"] == 2


def test_of_many_values_those_that_are_kept_have_their_whole_count(small: None) -> None:
    rows = [make_example("T", n, model=f"m{n % 12}") for n in range(120)]
    found = described(rows, bundles=7)["models"]
    assert len(found) == 5 and set(found.values()) == {10}


def test_values_of_an_endpoint_take_no_more_memory_than_are_kept(small: None) -> None:
    rows = accumulate.Accumulator(1)
    for n in range(2_000):
        rows.add_example(make_example("T", n, model=f"{n:0200}"))
        list(rows.take_parts(at_end=False))
    assert len(pickle.dumps(rows)) < 150_000  # the names alone are 400,000


def test_no_rows() -> None:
    found = described([])
    assert found["rows"] == {"examples": 0, "rejects": 0, "tasks": 0}
    assert found["tasks"]["examples"]["mean"] is None and found["tasks"]["examples"]["quantiles"] == {}
    assert found["similarity"]["sample"] == 0 and found["diversity"] == {} and found["samples"]["random"] == []


ANY = st.text(st.characters() | st.sampled_from("\ud800\udfff\u0000\u202eaé漢ไ 　\n"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=6), ANY)
def test_any_text_is_described(texts: list[str], other: str) -> None:
    rows: list[Any] = [
        example_of(text, number, num_words=other, language=other, difficulty=other, clarity=other)
        for number, text in enumerate(texts)
    ]
    rows += [replace(make_reject("R", n), raw_reply=text, detail=other, task=text) for n, text in enumerate(texts)]
    found = described(rows)
    assert found["rows"]["examples"] == found["similarity"]["sample"] == len(texts)
    written = as_json(found).encode()  # so there are no lone surrogates
    assert json.loads(written) == found
    assert as_json(described(rows, bundles=2, shares=3, order="x")).encode() == written


@pytest.mark.parametrize("text", ["", " ", "\n" * 9, "x" * 300_000, "word " * 60_000, "漢" * 50_000, "\ud800" * 3_000])
def test_huge_and_empty_texts_are_described(text: str) -> None:
    rows = [example_of(text, 0), example_of(text, 1), replace(make_reject(), raw_reply=text, detail=text)]
    found = described(rows)
    assert len(as_json(found)) < 40_000
    assert found["similarity"]["pairs"][0]["similarity"] == 1.0
    assert found["samples"]["longest"][0]["characters"] == len(text)


def test_entropy() -> None:
    assert entropy([]) == entropy([7]) == 0
    assert entropy([5, 5]) == pytest.approx(1)
    assert entropy([1, 1, 2]) == pytest.approx(1.5)
    assert entropy([3, 1]) == pytest.approx(-0.75 * math.log2(0.75) - 0.25 * math.log2(0.25))


def test_tasks_are_divided_into_shares_that_a_worker_can_hold() -> None:
    assert [task_labels.shares_for(rows) for rows in (0, 1, 20_000, 20_001, 1_000_000)] == [1, 1, 1, 2, 50]
