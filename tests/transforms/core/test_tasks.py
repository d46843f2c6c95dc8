"""Tasks: one identity for all spellings, the files of users read or refused line by line, a topic for each round."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.transforms.core.tasks import (
    MAX_TASK_CHARS,
    TaskFileError,
    TaskSurvey,
    normalise_task,
    read_tasks,
    read_topics,
    task_id,
    tidy_task,
    topics_of_rounds,
)

TOPICS = read_topics((Path(__file__).parents[3] / "templates" / "topics.txt").read_text(encoding="utf-8").splitlines())
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
# characters whose case or form is a special one, more often than chance would bring them
ODD_TEXT = st.text("aZßẞİıIſﬁΣσςͅᾳ①²ﾊﾟÅÅé\u0301\u00a0\u3000 .!?。\u200b\t\n\ud800", max_size=12)


# --- normal form

PLAIN = "classify a café's review by its tone"
SPELLINGS = [
    "Classify a café's review by its tone",
    "CLASSIFY A CAFÉ'S REVIEW BY ITS TONE",
    "  Classify\ta  café's\nreview by its tone\r\n",
    "Classify a café's review by its tone.",
    "Classify a café's review by its tone!?…",
    "Classify a café's review by its tone 。",
    "Classify\u00a0a\u3000café's review by its tone",
    unicodedata.normalize("NFD", "Classify a café's review by its tone"),
    unicodedata.normalize("NFKC", "Classify a café's review by its tone"),
    "Classify a café's review by its tone".translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}),  # full width
    "Classify a café's review by its t\uff4fne；",
]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=range(len(SPELLINGS)))
def test_spellings_of_one_task_are_one(spelling: str) -> None:
    assert normalise_task(spelling) == PLAIN
    assert task_id(spelling) == task_id(PLAIN)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Classify snippets of C# code", "Classify snippets of C code"),
        ("Tell apart C and C#", "Tell apart C and C++"),
        ("Tell whether a text is in C#", "Tell whether a text is in C"),
        ("Tell whether a text is in C++", "Tell whether a text is in C"),
        ("Classify a cafe's review", "Classify a café's review"),
        ("Classify re-sent mail", "Classify resent mail"),
        ("Is it up? Or down", "Is it up. Or down"),  # only the end is trimmed
        ("Score from -1 to 1", "Score from 1 to 1"),
    ],
)
def test_different_tasks_stay_two(left: str, right: str) -> None:
    assert task_id(left) != task_id(right)


def test_task_id_is_pinned() -> None:
    # Another value means that every task of every dataset is a new one: a breaking change, to be told in CHANGELOG.md.
    assert task_id("Classify e-mails.") == "e52e908d6ba2eb0b23934a6488fe5707"


@pytest.mark.parametrize("text", ["İstanbul", "ISPARTA", "ısı", "Straße", "ﬁnance", "ΣΊΣΥΦΟΣ", "ᾳ", "\u0345"])
def test_odd_cases_do_not_break(text: str) -> None:
    assert normalise_task(normalise_task(text)) == normalise_task(text)
    assert normalise_task(text)


def test_sharp_s_and_final_sigma_fold() -> None:
    # Unicode's full case folding, https://www.unicode.org/Public/UNIDATA/CaseFolding.txt
    assert task_id("Straße") == task_id("STRASSE") == task_id("strasse")
    assert task_id("Σίσυφος") == task_id("ΣΊΣΥΦΟΣ")
    assert task_id("İ") != task_id("I")


@given(ANY_TEXT | ODD_TEXT)
def test_normal_form_is_one_form(text: str) -> None:
    normal = normalise_task(text)
    assert normalise_task(normal) == normal
    assert task_id(tidy_task(text)) == task_id(text)
    assert tidy_task(tidy_task(text)) == tidy_task(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert normalise_task(unicodedata.normalize(form, text)) == normal
    assert normalise_task(f"\n {text} .. ") == normal
    tidy_task(text).encode()  # can be stored


def test_tidy_keeps_what_a_person_wrote() -> None:
    assert tidy_task("  Classify\n a  cafe\u0301's Review! ") == "Classify a café's Review!"
    assert tidy_task("Ｆull width ①") == "Ｆull width ①"
    assert tidy_task("lone \ud800 surrogate") == "lone \ufffd surrogate"


# --- files


def read(content: bytes | str, path: str = "my.txt") -> list[str]:
    raw = content.encode() if isinstance(content, str) else content
    return [tidy_task(entry.text) for entry in read_tasks(io.BytesIO(raw), path)]


def parquet(column: pa.Array | pa.ChunkedArray, name: str = "task") -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"other": pa.nulls(len(column), pa.int32()), name: column}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        "Task one\nTask two\n",
        "Task one\nTask two",
        "Task one\r\nTask two\r\n",
        "\ufeffTask one\nTask two\n",
        "\n\n  \nTask one\n\t\nTask two\n\n",
        "\ufeff\r\nTask one\r\n\r\nTask two\r\n",
    ],
)
def test_lines_of_text(content: str) -> None:
    assert read(content) == ["Task one", "Task two"]


@pytest.mark.parametrize("path", ["a.txt", "A.TXT", "gs://bucket/x/a.txt", "a.txt.gz"])
def test_ending_tells_the_format(path: str) -> None:
    assert read("Task one", path) == ["Task one"]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("path", ["a.txt", "a.jsonl"])
def test_files_without_tasks(content: str, path: str) -> None:
    assert read(content, path) == []


def test_lines_of_jsonl() -> None:
    rows = [{"task": "Task one", "id": 7}, {"task": "Zwei Umlaute: äö"}, {"task": "lone \ud800 surrogate"}]
    plain = "\n".join(map(json.dumps, rows))
    expected = ["Task one", "Zwei Umlaute: äö", "lone \ufffd surrogate"]
    assert read(plain, "a.jsonl") == expected
    assert read(f"\ufeff{plain}\n", "a.jsonl.gz") == expected
    assert read(plain.replace("\n", "\r\n\r\n"), "a.jsonl") == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["Task one", "Task two"]),
        pa.array(["Task one", "Task two"], pa.large_string()),
        pa.array(["Task one", "Task two"]).dictionary_encode(),
        pa.chunked_array([["Task one"], [], ["Task two"]]),
        pa.array(["Task one", "Task two"], pa.string_view()),
    ],
    ids=["string", "large_string", "dictionary", "chunks", "string_view"],
)
def test_columns_of_parquet(column: pa.Array | pa.ChunkedArray) -> None:
    assert read(parquet(column), "a.parquet") == ["Task one", "Task two"]


def test_parquet_without_rows() -> None:
    assert read(parquet(pa.array([], pa.string())), "a.parquet") == []


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("a.txt", "Task one\n...\n", "line 2: the task is blank"),
        ("a.jsonl", '{"task": "a"}\n\n["b"]\n', "line 3: no JSON object with a key 'task'"),
        ("a.jsonl", '{"tasks": "a"}', "line 1: no JSON object with a key 'task'"),
        ("a.jsonl", '{"task": null}', "line 1: the task is "),
        ("a.jsonl", '{"task": 7}', "line 1: the task is int, not a string"),
        ("a.jsonl", '{"task": ["a"]}', "line 1: the task is list, not a string"),
        ("a.jsonl", '{"task": " \\n"}', "line 1: the task is blank"),
        ("a.parquet", parquet(pa.array(["a"]), "text"), "has no column 'task'; its columns are other, text"),
        ("a.parquet", parquet(pa.array(["a", None])), "row 2: the task is "),
        ("a.parquet", parquet(pa.array([b"a"])), "row 1: the task is bytes, not a string"),
        ("a.parquet", parquet(pa.array(["a", "b", " "])), "row 3: the task is blank"),
        ("a.parquet", parquet(pa.array([{"x": "a"}])), "row 1: the task is dict, not a string"),
        ("a.parquet", parquet(pa.array(["a" * 2_001])), "row 1: the task has 2,001 characters, at most 2,000 fit"),
    ],
)
def test_files_that_are_refused(path: str, content: bytes | str, message: str) -> None:
    with pytest.raises(TaskFileError) as error:
        read(content, path)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def _text(task: str) -> tuple[bytes, str]:
    return task.encode(), "a.txt"


def _jsonl(task: str) -> tuple[bytes, str]:
    return json.dumps({"task": task}).encode(), "a.jsonl"


def _parquet(task: str) -> tuple[bytes, str]:
    return parquet(pa.array([task])), "a.parquet"


@pytest.mark.parametrize("write", [_text, _jsonl, _parquet])
def test_length_at_its_limit(write: Callable[[str], tuple[bytes, str]]) -> None:
    assert MAX_TASK_CHARS == 2_000
    fits = "ä" * 1_999 + "z"
    assert read(*write(fits)) == [fits]
    assert read(*write(f"  {fits}  ")) == [fits]  # what is sent counts, not how it is spaced
    assert len(read(*write(unicodedata.normalize("NFD", fits)))[0]) == 2_000
    with pytest.raises(TaskFileError, match=r"1: the task has 2,001 characters, at most 2,000 fit"):
        read(*write(fits + "z"))


# --- topics


def test_topics_file() -> None:
    lines = ["# a comment", "", "  coral   reefs ", "tax appeals\n", "coral reefs", "   ", "C# programming"]
    assert read_topics(lines) == ("coral reefs", "tax appeals", "C# programming")
    assert read_topics([]) == ()


def rounds(count: int, topics: tuple[str, ...] = TOPICS, refresh: str = "base", seed: int = 42) -> list[str | None]:
    return topics_of_rounds(topics, count, refresh=refresh, seed=seed)


def test_a_thousand_rounds_have_a_thousand_topics() -> None:
    topics = rounds(1_000)
    assert len(topics) == len(set(topics)) == 1_000
    assert set(topics) <= set(TOPICS)


def test_more_rounds_than_topics_stay_distinct() -> None:
    topics = rounds(10 * len(TOPICS))
    assert set(topics[: len(TOPICS)]) == set(TOPICS)
    assert len(set(topics)) == len(topics)
    assert topics[len(TOPICS)] == f"{topics[0]}, where it meets {topics[1]}"


def test_fewer_rounds_are_the_first_of_more() -> None:
    many = rounds(3 * len(TOPICS))
    assert all(rounds(count) == many[:count] for count in (0, 1, 7, len(TOPICS), len(TOPICS) + 1))


def test_refresh_and_seed_change_the_order() -> None:
    orders = [rounds(20), rounds(20, refresh="2026-12"), rounds(20, seed=43)]
    assert all(len(set(places)) == 3 for places in zip(*orders, strict=True))


def test_order_of_the_file_changes_nothing() -> None:
    assert rounds(50, tuple(reversed(TOPICS))) == rounds(50)


def test_without_topics() -> None:
    assert rounds(3, ()) == [None, None, None]


@given(st.integers(1, 6))
def test_every_ordered_pair_is_taken_once(count: int) -> None:
    topics = tuple(f"topic {number}" for number in range(count))
    assert len(set(rounds(count * count, topics))) == count * count


@pytest.mark.parametrize("count", [0, 1, 64, 65, 129, 1_000])
def test_a_survey_keeps_some_tasks_evenly_from_all(count: int) -> None:
    survey = TaskSurvey()
    file = io.BytesIO("".join(f"Sort bees of hive {number}\n" for number in range(count)).encode())
    assert sum(1 for _ in survey.read(file, "tasks.txt")) == survey.tasks == count
    kept = [int(entry.text.rpartition(" ")[2]) for entry in survey.sample]
    assert min(count, 32) <= len(kept) <= 64
    step = 1 if count <= 64 else kept[1]
    assert kept == list(range(0, count, step))
