"""Exclusions: the files of texts that no example may share, and what is said of a file that cannot be used."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from textmint.transforms.dedup.exclusions import ExclusionFileError, read_exclusions
from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
from textmint.transforms.dedup.minhash import NearDuplicate, Text
from textmint.transforms.dedup.read_exclusions import ReadExclusions


def read(content: bytes | str, path: str = "a.txt") -> list[tuple[str, str]]:
    raw = content if isinstance(content, bytes) else content.encode()
    texts = list(read_exclusions(io.BytesIO(raw), path))
    assert {text.source for text in texts} <= {path}
    return [(text.id, text.text) for text in texts]


def parquet(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_lines_of_text() -> None:
    assert read("\ufeffOne\r\n\n  \nTwo \n") == [("line 1", "One\r\n"), ("line 4", "Two \n")]
    assert read("", "A.TXT.gz") == []


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"text": "a", "label": "b", "id": 7}, [("line 1", "a")]),
        ({"text": ["a", "b"]}, [("line 1, item 1", "a"), ("line 1, item 2", "b")]),
        ({"text": None, "label": "b"}, []),
        ({"text": " ", "label": "b"}, []),
        ({"sentence1": "a", "sentence2": "b", "score": 0.5}, [("line 1, sentence1", "a"), ("line 1, sentence2", "b")]),
        ({"s": ["a", None, "b"], "labels": [0, 1]}, [("line 1, s, item 1", "a"), ("line 1, s, item 2", "b")]),
        ({"_id": "q1", "title": "", "body": "b"}, [("line 1, _id", "q1"), ("line 1, body", "b")]),
        ({"body": "\ud800 b"}, [("line 1, body", "\ud800 b")]),
        ({"bo\0dy": "b"}, [("line 1, bo\ufffddy", "b")]),
    ],
)  # fmt: skip
def test_lines_of_jsonl(row: dict[str, object], texts: list[tuple[str, str]]) -> None:
    assert read(json.dumps(row), "a.jsonl") == texts
    assert read(json.dumps(row) + "\r\n\n", "a.jsonl.gz") == texts


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        ({"text": pa.array(["a", None, " "]), "other": pa.array(["b", "c", "d"])}, [("row 1", "a")]),
        ({"text": pa.array(["a", "a"]).dictionary_encode()}, [("row 1", "a"), ("row 2", "a")]),
        ({"n": pa.array([1]), "q": pa.array(["a"], pa.large_string())}, [("row 1, q", "a")]),
        ({"v": pa.array(["a"], pa.string_view()), "w": pa.array(["b"])}, [("row 1, v", "a"), ("row 1, w", "b")]),
        ({"s": pa.array([["a", "b"], None, []])}, [("row 1, s, item 1", "a"), ("row 1, s, item 2", "b")]),
        ({"text": pa.array([], pa.string())}, []),
    ],
)
def test_columns_of_parquet(columns: dict[str, pa.Array], texts: list[tuple[str, str]]) -> None:
    assert read(parquet(**columns), "a.parquet") == texts


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("a.jsonl", '\n["a"]', "line 2: no JSON object"),
        ("a.jsonl", '"a"', "line 1: no JSON object"),
        ("a.jsonl", '{"text": 7}', "line 1: the text is int, not a string"),
        ("a.jsonl", '{"text": ["a", 7]}', "line 1: the text is list, not a string"),
        ("a.jsonl", "{}", "line 1: no key 'text', nor any other that holds a string"),
        ("a.jsonl", '{"n": 7, "d": {"x": "a"}, "z": null}', "line 1: no key 'text', nor any other that holds a string"),
        ("a.parquet", parquet(text=pa.array([7])), "its column 'text' holds int64, not strings"),
        ("a.parquet", parquet(n=pa.array([7])), "has no column 'text', nor any other of strings; its columns are n"),
    ],
)
def test_files_that_are_refused(path: str, content: bytes | str, message: str) -> None:
    with pytest.raises(ExclusionFileError) as error:
        read(content, path)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_path_that_is_no_unicode_can_be_named() -> None:
    (text,) = read_exclusions(io.BytesIO(b"a"), "\udcff.txt")
    assert text == Text(id="line 1", text="a", source="\ufffd.txt")


def test_files_stand_beside_a_run(tmp_path: Path) -> None:
    long = " ".join(f"w{number}" for number in range(30))
    (tmp_path / "one.txt.gz").write_bytes(gzip.compress(f"Unlike anything\nYes!\n{long}\n".encode()))
    (tmp_path / "two.jsonl").write_text(json.dumps({"sentence1": f"Said she: {long}", "sentence2": "No."}), "utf-8")
    own = {"a": "yes", "b": "NO", "c": f"{long} more", "d": "maybe", "e": f"he said: {long}"}
    one, two = str(tmp_path / "one.txt.gz"), str(tmp_path / "two.jsonl")
    with TestPipeline("FnApiRunner") as pipeline:
        texts = pipeline | beam.Create([Text(id=id_, text=text) for id_, text in own.items()])
        found = (texts, pipeline | ReadExclusions(f"{tmp_path}/*")) | beam.Flatten() | FindNearDuplicates()
        expected = [
            ("a", NearDuplicate(id="line 2", source=one, similarity=1.0)),
            ("b", NearDuplicate(id="line 1, sentence2", source=two, similarity=1.0)),
            ("c", NearDuplicate(id="line 3", source=one, similarity=28 / 29)),
            ("e", NearDuplicate(id="line 3", source=one, similarity=28 / 30)),
        ]
        assert_that(found, equal_to(expected))
