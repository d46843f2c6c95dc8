"""The manifest and the published files: what is damaged or edited hides nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from textmint.transforms.dataset.manifest import DIGEST, examples_asked, read_manifest, recorded_replies
from textmint.transforms.dataset.published_files import open_published, published_examples, published_files
from textmint.transforms.storage.files import write_file

from tests.support.dataset_runs import BUCKET, NEW, OLD, make_target, publish_data
from tests.support.helpers import entry_of, files_of


def test_files_of_all_refreshes(tmp_path: Path) -> None:
    assert published_files(str(tmp_path), "examples") == []
    publish_data(make_target(tmp_path), OLD)
    publish_data(make_target(tmp_path, "base.2"), OLD, parts=2)
    publish_data(make_target(tmp_path, "other"), NEW)
    found = published_files(str(tmp_path), "examples")
    assert [(refresh, rows) for _, refresh, rows in found] == [
        ("base", 10),
        ("base.2", 5),
        ("base.2", 5),
        ("other", 13),
    ]
    assert {str(Path(path).relative_to(tmp_path)) for path, _, _ in found} == {
        path for path in files_of(tmp_path) if path.startswith("examples/")
    }
    assert [refresh for _, refresh, _ in published_files(str(tmp_path), "tasks")] == [
        "base",
        "base.2",
        "base.2",
        "other",
    ]


def test_what_readers_skip_is_no_published_file(tmp_path: Path) -> None:
    """A Mac leaves `._name` files on other disks; a copy that is under way has a name of its own."""
    publish_data(make_target(tmp_path), OLD)
    (path,) = (tmp_path / "examples" / "refresh=base").iterdir()
    for name in (f"._{path.name}", "_part-1-x.parquet", ".hidden.parquet", "notes.txt"):
        path.with_name(name).write_bytes(b"no table")
    assert [found for found, _, _ in published_files(str(tmp_path), "examples")] == [str(path)]


MANIFESTS = [
    "",
    "[]",
    '{"refreshes": []}',
    '{"refreshes": {"base": 3}}',
    '{"refreshes": {"base": "x"}}',
    '{"refreshes": {"base": {}}}',
    '{"refreshes": {"base": {"files": []}}}',
    '{"refreshes": {"base": {"files": {"examples": 3}}}}',
    '{"refreshes": {"base": {"files": {"examples": ["x", 3, null]}}}}',
    '{"refreshes": {"base": {"files": {"examples": [{"path": "x"}]}}}}',
    '{"refreshes": {"base": {"files": {"examples": [{"path": [], "rows": "many"}]}}}}',
]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_what_was_edited_by_hand_hides_no_file_and_stops_no_other_refresh(
    manifest: str, tmp_path: Path, store: dict[str, bytes]
) -> None:
    for output in (str(tmp_path), BUCKET):
        publish_data(make_target(output), OLD)
        write_file(f"{output}/manifest.json", manifest.encode())
        ((path, refresh, rows),) = published_files(output, "examples")
        assert path.startswith(f"{output}/examples/refresh=base/part-")
        assert refresh == "base"
        assert rows > 0  # a guess
        entry = publish_data(make_target(output, "other"), NEW)
        assert read_manifest(output) == {"refreshes": {"other": entry}}


def test_a_wrong_bit_in_a_published_file_makes_it_unreadable_and_no_more(tmp_path: Path) -> None:
    """Arrow reads on where it can, and raises whatever it likes; in a name of a column it is a UnicodeDecodeError."""
    publish_data(make_target(tmp_path), OLD)
    ((path, _, rows),) = published_files(str(tmp_path), "examples")
    content = Path(path).read_bytes()
    assert published_examples(str(tmp_path), "base") == open_published(path).metadata.num_rows == rows
    for name in (Path(path).name, "of-somebody-else.parquet"):
        Path(path).unlink(missing_ok=True)
        renamed = Path(path).with_name(name)
        for place in range(len(content) - 4_000, len(content), 41):  # the footer
            changed = bytearray(content)
            changed[place] ^= 0x80
            renamed.write_bytes(changed)
            assert published_examples(str(tmp_path), "base") in ((0,) if renamed == Path(path) else (0, rows))


def test_a_wrong_bit_in_the_manifest_is_told_or_changes_nothing(tmp_path: Path) -> None:
    for refresh in ("base", "base.0", "base.1"):  # of which one bit makes another
        publish_data(make_target(tmp_path, refresh), OLD)
    path = tmp_path / "manifest.json"
    content, before = path.read_bytes(), read_manifest(str(tmp_path))["refreshes"]
    recorded_replies(str(tmp_path))
    ends = [content.index(b"base.0") + 5, content.index(b"base.1") + 5]
    for place in (*range(0, len(content), 5), *ends):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8 * (place not in ends)]) + content[place + 1 :]
        )
        with contextlib.suppress(ValueError):
            recorded_replies(str(tmp_path))
            for refresh, entry in read_manifest(str(tmp_path))["refreshes"].items():
                assert {name: entry.get(name) for name in before[refresh] if name != DIGEST}.items() <= before[
                    refresh
                ].items()


def test_on_a_store_the_manifest_says_which_files_count(store: dict[str, bytes]) -> None:
    publish_data(make_target(BUCKET), OLD)
    publish_data(make_target(BUCKET, "other"), NEW)
    store[f"{BUCKET}/examples/refresh=other/part-00000-of-00001-0.parquet"] = b"of a run that did not come to its end"
    of_base, (path, refresh, rows) = published_files(BUCKET, "examples")
    assert of_base[1:] == ("base", len(OLD.examples))
    assert (path.removeprefix(f"{BUCKET}/"), refresh, rows) == (
        read_manifest(BUCKET)["refreshes"]["other"]["files"]["examples"][0]["path"],
        "other",
        len(NEW.examples),
    )


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({"options": {"examples_per_task": 3}}, 3),
        ({"options": {"examples_per_task": 3}, "target": {"examples_per_task": 7}}, 7),
        ({"options": {"examples_per_task": True}, "target": {"examples_per_task": "7"}}, None),
        ({"options": {}}, None),
        ({"options": None, "target": []}, None),
    ],
)
def test_how_many_examples_of_each_task_were_asked_for(tmp_path: Path, told: Any, asked: int | None) -> None:
    """For a target it may have been more than the options say; later refreshes number on from there."""
    publish_data(dataclasses.replace(make_target(tmp_path), description=told), OLD)
    assert examples_asked(str(tmp_path)).get("base") == asked


@pytest.mark.parametrize("content", ["", "{", "[]", '{"refreshes": 3}', '{"other": {}}'])
def test_a_manifest_that_cannot_be_read_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    publish_data(make_target(tmp_path), OLD)
    assert entry_of(tmp_path)["counts"]["examples"] == len(OLD.examples)
