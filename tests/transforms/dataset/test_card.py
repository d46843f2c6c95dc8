"""Dataset card: load_dataset reads what its front matter says, and nothing that a model or a user wrote spoils it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.transforms.core.elements import REASONS
from textmint.transforms.dataset.card import (
    CARD,
    COUNTED,
    TEXTS,
    dataset_card,
    language_codes,
    size_category,
)
from textmint.transforms.dataset.markdown import inline
from textmint.transforms.dataset.pages import MARK
from textmint.transforms.dataset.public_manifest import public_manifest, shown_options
from textmint.transforms.dataset.schema import schema_of, to_parquet
from textmint.transforms.dataset.triplets import TRIPLETS

from tests.support.helpers import rows_of, run_main

Manifest = dict[str, Any]
ANY_TEXT = st.text(st.characters()) | st.sampled_from(
    [
        "",
        "---",
        "\n---\n",
        "a | b",
        "```\n# x",
        "<script>",
        "![x](http://e.example/p.png)",
        "\ud800",
        "\u202eabc",
        "x" * 9_999,
    ]
)


def statistics_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """As the manifest of an earlier version has them."""
    return {"values": {column: dict(Counter(row[column] for row in rows)) for column in COUNTED}}


def make_entry(**changes: Any) -> dict[str, Any]:
    rows = {"examples": 3, "triplets": 3, "tasks": 2, "rejects": 1}
    entry = {
        "started": "2026-11-25T15:39:06Z",
        "finished": "2026-11-25T15:39:07Z",
        "options": {"seed": 42, "llm": "openai", "model": "m-1", "language": "English,German", "keep_raw": False},
        "attributes": {"language": {"English": 0.5, "German": 0.5}},
        "templates": {"example": "classify@d09b810b3aa3"},
        "backend": {"backend": "openai", "model": "m-1"},
        "versions": {"textmint": "0.1.0"},
        "steps": {"ParseJSON": {"in": 4, "kept": 3, "rejected": {"not_json": 1}}},
        "files": {kind: [{"path": f"{kind}/x.parquet", "rows": count, "bytes": 9}] for kind, count in rows.items()},
        "statistics": statistics_of(ROWS),
    }
    return {**entry, **changes}


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "task_id": f"t{number % 2}",
        "task": f"Sort texts of kind {number % 2}",
        "input_text": f"A text, number {number}.",
        "label": "good",
        "misleading_label": "bad",
        "language": "German" if number else "English",
        "difficulty": "college",
        "clarity": "clear",
        "num_words": "at least 10",
        "model": "m-1-2026",
    }
    return {**row, **changes}


ROWS = [make_row(number) for number in range(3)]


def make_manifest(**entries: Any) -> Manifest:
    return {"refreshes": entries or {"base": make_entry()}}


def front_matter(card: str) -> dict[str, Any]:
    """Returns the front matter, split off as `datasets` does it: by lines."""
    lines = card.splitlines()
    assert lines[0] == "---"
    fields: dict[str, Any] = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    return fields


def tables(card: str) -> list[list[list[str]]]:
    """Returns the tables of a card, each a list of lines of cells, as GitHub's Markdown splits them."""
    found: list[list[list[str]]] = [[]]
    for line in card.split("\n"):
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def headings(card: str) -> list[str]:
    return [line for line in card.split("\n") if line.startswith("#")]


# --- what datasets makes of it


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs, one with rejects and raw replies, with all that may lie there too."""
    folder = tmp_path_factory.mktemp("card") / "output"
    common = ["generate", "--task_requests=2", f"--output={folder}"]
    assert run_main(*common, "--refresh=base", "--task_requests=1").code == 0
    assert run_main(*common, "--refresh=later", "--seed=7", "--offline_fault_rate=0.5", "--keep_raw").code == 0
    (folder / "empty.parquet").write_bytes(to_parquet([], schema_of("rejects")))  # as a run without rejects leaves it
    for stray in ("ledger/refresh=base/x.jsonl", "_staging/refresh=base/run/examples/x.parquet", "report.html"):
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).write_bytes(b"neither JSON nor Parquet")
    return folder


LOAD = """
import json, sys
import datasets
datasets.disable_progress_bars()
found = {}
for config in datasets.get_dataset_config_names(sys.argv[1]):
    loaded = datasets.load_dataset(sys.argv[1], config)
    rows = loaded["train"].to_list()
    found[config] = {"splits": list(loaded), "columns": loaded["train"].column_names, "rows": rows}
found["default"] = datasets.load_dataset(sys.argv[1], split="train").column_names
found["one"] = datasets.load_dataset(
    sys.argv[1], "triplets", data_files="triplets/refresh=later/*.parquet", split="train").num_rows
found["empty"] = datasets.load_dataset(
    sys.argv[1], "rejects", data_files="empty.parquet", streaming=True, split="train").take(9).column_names
found["streamed"] = sum(1 for _ in datasets.load_dataset(sys.argv[1], "examples", streaming=True, split="train"))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded(output: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `datasets` finds in the folder, offline, called from the folder above it by its relative name."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path_factory.mktemp("hf"))}
    environment.pop("HF_TOKEN", None)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, output.name], cwd=output.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows_on_disk(output: Path, kind: str) -> list[dict[str, Any]]:
    return [row for label in ("base", "later") for row in rows_of(output, kind, label)]


def test_every_config_loads_as_it_stands(output: Path, loaded: dict[str, Any]) -> None:
    assert loaded["empty"] == schema_of("rejects").names
    assert set(loaded) - {"default", "one", "streamed", "empty"} == {"examples", "triplets", TEXTS, "tasks", "rejects"}
    assert rows_of(output, "rejects", "later")
    for kind in ("triplets", "tasks", "rejects"):
        assert loaded[kind]["splits"] == ["train"]
        assert loaded[kind]["rows"] == rows_on_disk(output, kind)
    # no column of the label: the files hold none, and `datasets` reads none out of their folder
    assert loaded["triplets"]["columns"] == TRIPLETS.names
    assert loaded["one"] == len(rows_of(output, "triplets", "later")) < len(rows_on_disk(output, "triplets"))


def test_refreshes_of_other_columns_load_together(output: Path, loaded: dict[str, Any]) -> None:
    rows = loaded["examples"]["rows"]
    kept = [row["raw_reply"] for row in rows if row["seed"] == 7]
    assert len(kept) > 1 and all(kept)
    assert {row["raw_reply"] for row in rows if row["seed"] == 42} == {None}  # of the run without --keep_raw
    without = [{name: value for name, value in row.items() if name != "raw_reply"} for row in rows]
    on_disk = [
        {name: value for name, value in row.items() if name != "raw_reply"} for row in rows_on_disk(output, "examples")
    ]
    assert without == on_disk
    assert loaded["streamed"] == len(rows)
    assert loaded["default"] == loaded["examples"]["columns"]


def test_a_config_for_losses_that_train_on_every_column(output: Path, loaded: dict[str, Any]) -> None:
    assert loaded[TEXTS]["columns"] == ["anchor", "positive", "negative"]
    assert len(loaded[TEXTS]["rows"]) == len(loaded["triplets"]["rows"]) > 1
    example, triplet = loaded["examples"]["rows"][0], loaded[TEXTS]["rows"][0]
    assert triplet == {
        "anchor": f"Instruct: {example['task']}\nQuery: {example['input_text']}",
        "positive": example["label"],
        "negative": example["misleading_label"],
    }


def test_the_hub_client_reads_the_front_matter(output: Path) -> None:
    from huggingface_hub import DatasetCard, metadata_load

    card = DatasetCard.load(output / CARD)
    assert card.data.language == ["en"]
    assert card.data.license == "unknown"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.task_categories == ["text-classification", "sentence-similarity", "feature-extraction"]
    assert MARK in card.text and card.text.lstrip().startswith(MARK)
    assert metadata_load(output / CARD) == front_matter((output / CARD).read_text("utf-8"))


def test_kinds_without_rows_have_no_config() -> None:
    """`datasets` refuses a config all of whose files are empty, unless it is streamed; so are rejects."""
    entry = make_entry()
    entry["files"]["tasks"][0]["rows"] = entry["files"]["rejects"][0]["rows"] = 0
    entry["files"]["label_sets"] = [{"path": "label_sets/x.parquet", "rows": 4, "bytes": 1}]
    del entry["files"]["triplets"]
    card = dataset_card(make_manifest(base=entry))
    configs = front_matter(card)["configs"]
    assert [config["config_name"] for config in configs] == ["examples", "label_sets", "rejects"]
    assert 'rejects = load_dataset(DATASET, "rejects", split="train", streaming=True)' in card
    assert ["`rejects`", "0"] in [line[:2] for table in tables(card) for line in table]
    assert configs[1]["data_files"] == [{"split": "train", "path": "label_sets/refresh=*/*.parquet"}]


def test_without_any_row_it_is_a_card_still() -> None:
    card = dataset_card({"refreshes": {}})
    assert front_matter(card)["size_categories"] == ["n<1K"]
    assert "0 examples of 0 text classification tasks" in card


# --- what a person reads


def test_counts_and_reasons() -> None:
    refused = {"ParseJSON": {"not_json": 2, "empty": 4}, "CheckQuality": {"x|y": 1}}
    later = make_entry(steps={step: {"rejected": reasons} for step, reasons in refused.items()})
    card = dataset_card(make_manifest(base=make_entry(), later=later), ROWS)
    found = {tuple(table[0]): table[2:] for table in tables(card)}
    assert found["refresh", "examples", "triplets", "tasks", "rejects"] == [
        ["base", "3", "3", "2", "1"],
        ["later", "3", "3", "2", "1"],
        ["all", "6", "6", "4", "2"],
    ]
    assert found["language", "examples", "share", "base", "later"] == [
        ["German", "4", "66.7 %", "2", "2"],
        ["English", "2", "33.3 %", "1", "1"],
    ]
    assert found["step", "reason", "count", "meaning"] == [
        ["`ParseJSON`", "`empty`", "4", REASONS["empty"]],
        ["`ParseJSON`", "`not_json`", "3", REASONS["not_json"]],
        ["`CheckQuality`", r"x\|y", "1", ""],
    ]
    assert ["`model`", "`m-1`", "all"] in found["what", "value", "refreshes"]


def test_two_samples_of_different_tasks_cut_where_they_are_long() -> None:
    other = make_row(1, label="第二", input_text="一\u3000二\nهر\u200cهفته")
    rows = [make_row(0, input_text="a" * 5_000), make_row(2), other]
    card = dataset_card(make_manifest(), rows)
    samples = [json.loads(block) for block in re.findall(r"^```json\n(.*?)\n```$", card, re.DOTALL | re.MULTILINE)]
    assert [sample["label"] for sample in samples] == ["good", "第二"]
    assert samples[0]["input_text"] == "a" * 600 + " …"
    assert samples[1]["input_text"] == rows[2]["input_text"]  # nothing of it is changed, joiners included


def test_the_embedded_author_is_marked() -> None:
    warned = dataset_card(
        make_manifest(base=make_entry(), later=make_entry(backend={"backend": "offline", "model": "o"}))
    )
    assert "**Not for training.**" in warned
    assert "**Not for training.**" not in dataset_card(make_manifest())


def test_the_license() -> None:
    card = dataset_card(make_manifest(), license="cc-by-4.0")
    assert front_matter(card)["license"] == "cc-by-4.0"
    assert "No license is claimed" in dataset_card(make_manifest()) and "No license is claimed" not in card
    for wrong in ("", "cc by", "a\nb: c", "CC-BY-4.0", "x" * 65):
        with pytest.raises(ValueError, match="license is"):
            dataset_card(make_manifest(), license=wrong)


def test_the_citation_is_bibtex_of_the_paper() -> None:
    assert re.search(
        r"```bibtex\n@misc\{wang2024improving,\n(  \w+ += \{.*\},?\n)+\}\n```", dataset_card(make_manifest())
    )


def test_equal_manifests_give_equal_cards_whenever_they_were_written() -> None:
    entries = {label: make_entry() for label in ("b", "a", "c")}
    card = dataset_card({"refreshes": entries}, ROWS)
    later = {label: make_entry(started="2030-01-01T00:00:00Z", finished="2030-01-01T00:00:01Z") for label in "cab"}
    assert dataset_card({"refreshes": later}, ROWS) == card
    assert "2026-11-25" not in card


def test_a_text_of_the_user_is_known() -> None:
    card = dataset_card(make_manifest())
    assert MARK in card


def test_figures_come_from_the_statistics_where_there_are_any() -> None:
    counted = {"college": {"asked": 9, "kept": 7}, "PhD": {"asked": 2, "kept": 0}}
    languages = {"Thai": {"asked": 7, "kept": 7}}
    attributes = {"language": languages, "difficulty": counted, "clarity": {}, "num_words": {}}
    figures = {"base": {"attributes": attributes, "models": {"m-2": 7}}}
    card = dataset_card(make_manifest(base=make_entry(), old=make_entry()), statistics=figures)
    found = {table[0][0]: {line[0]: line[1:] for line in table[2:]} for table in tables(card)}
    assert found["difficulty"]["college"] == ["10", "100.0 %", "7", "3"]  # 3 of the refresh of an earlier version
    assert "PhD" not in found["difficulty"]
    assert found["model"] == {"m-2": ["7", "70.0 %", "7", "0"], "m-1-2026": ["3", "30.0 %", "0", "3"]}
    assert front_matter(card)["language"] == ["de", "en", "th"]


def test_a_thousand_refreshes_and_values_stay_readable() -> None:
    many = {f"week-{n:04d}": make_entry() for n in range(1_000)}
    many["zz"] = make_entry(statistics=statistics_of([make_row(n, model=f"m-{n}") for n in range(500)]))
    card = dataset_card({"refreshes": many})
    assert max(len(table) for table in tables(card)) < 150
    assert len(card) < 60_000


# --- what nobody else may see


def test_paths_urls_and_projects_are_not_shown() -> None:
    options = {
        "output": "/home/me/secret-1",
        "base_url": "http://secret-2.example/v1",
        "vertex_project": "secret-3",
        "vertex_endpoint": "secret-4",
        "an_option_to_come": "secret-5",
        "tasks": "/home/secret-6/tasks.txt",
        "exclude": ["gs://secret-7/mteb.jsonl?key=secret-8", r"C:\secret-9\tests.txt"],
        "seed": 0,
        "max_tasks": None,
    }
    entry = make_entry(
        options=options, backend={"model": "m", "base_url": "http://secret-2.example", "endpoint": "projects/secret-4"}
    )
    manifest = make_manifest(base=entry)
    assert shown_options(entry) == {"seed": 0, "tasks": "tasks.txt", "exclude": "mteb.jsonl, tests.txt"}
    public = public_manifest(manifest)
    assert "secret" not in dataset_card(manifest)
    assert "secret" not in json.dumps(public)
    assert public["refreshes"]["base"]["backend"] == {"model": "m"}
    assert public["refreshes"]["base"]["files"] == entry["files"]
    assert "secret-1" in json.dumps(manifest)  # which is as it was


def test_tokens_are_shown_and_costs_are_not() -> None:
    asked = {"in": 5, "kept": 5, "rejected": {}, "tokens": {"prompt": 70, "output": 30}}
    entry = make_entry(steps={"LLMCall": {**asked, "cost_usd": 1.5}}, spending={"cost_usd": 1.5})
    public = public_manifest(make_manifest(base=entry))["refreshes"]["base"]
    assert public["steps"] == {"LLMCall": asked}
    assert "usd" not in json.dumps(public)


# --- what a model or a user wrote


@settings(max_examples=60)
@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_no_value_gets_out_of_its_place(label: str, model: str, text: str, option: str, reason: str) -> None:
    rows = [make_row(0, label=label, model=model, input_text=text, task=text, language=option)]
    entry = make_entry(
        options={"seed": 42, "model": model, "language": option, "tasks": option},
        backend={"backend": "openai", "model": model},
        templates={option: model},
        versions={"textmint": model},
        steps={model: {"rejected": {reason: 1}}},
        statistics=statistics_of(rows),
    )
    card = dataset_card(make_manifest(base=entry), rows)
    plain = dataset_card(make_manifest())
    card.encode()
    assert {**front_matter(card), "language": 0, "multilinguality": 0} == {
        **front_matter(plain),
        "language": 0,
        "multilinguality": 0,
    }
    assert all(len(line) == len(table[0]) for table in tables(card) for line in table)
    assert headings(card) == [*headings(plain)[:1], "## An example", *headings(plain)[1:]]
    fences = [line for line in card.split("\n") if line.startswith("```")]
    assert len(fences) == len([line for line in plain.split("\n") if line.startswith("```")]) + 2
    outside = re.sub(r"^```.*?^```$", "", card.split("---\n", 2)[2], flags=re.DOTALL | re.MULTILINE).replace(MARK, "")
    assert not re.search(r"(?<!\\)<", outside)
    assert len(card) < len(plain) + 9_000


@given(ANY_TEXT)
def test_a_value_is_one_line_of_visible_text(value: str) -> None:
    shown = inline(value)
    assert len(shown.splitlines()) == 1
    assert shown.replace("\u200c", "").replace("\u200d", "").isprintable()
    # every letter that Markdown, HTML or a table could take for its own is escaped
    assert shown == '""' or not re.search(r"(?<!\\)[`*_\[\]()<>#|~$&@!]", shown.replace(r"\\", ""))


def test_what_is_harmless_stays_as_it_is() -> None:
    for value in ("refund", "très positif", "กฎหมาย", "خیلی خوب", "می\u200cشود", "1. good - better", "C"):
        assert inline(value) == value
    assert inline("https://e.example www.e.example") == r"https\://e.example www\.e.example"
    assert inline("a\u202eb\u0000c\n\nd\ud800") == "ab c d\ufffd"
    assert inline(0.25) == "0.25" and inline(["a"]) == r"\[" '"a"' r"\]" and inline("") == '""'


# --- the small things


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (9_999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (123_456_789, "100M<n<1B"),
        (999_999_999_999, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_size_categories(rows: int, category: str) -> None:
    assert size_category(rows) == category


def test_language_codes() -> None:
    names = [
        "Thai",
        "English",
        "Chinese (Traditional)",
        "Burmese (Zawgyi)",
        "Hindi Romanized",
        "Klingon",
        "",
        "English",
    ]
    assert language_codes(names) == ["en", "hi-Latn", "my-x-zawgyi", "th", "zh-Hant"]
    rows = [make_row(0, language=name) for name in names]
    card = dataset_card(make_manifest(base=make_entry(statistics=statistics_of(rows))))
    # `language` of the Hub takes ISO 639 codes; full tags stand in `language_details`
    # (https://github.com/huggingface/hub-docs/blob/main/datasetcard.md)
    assert front_matter(card)["language"] == ["en", "hi", "my", "th", "zh"]
    assert front_matter(card)["language_details"] == ["en", "hi-Latn", "my-x-zawgyi", "th", "zh-Hant"]
    assert "language_details" not in front_matter(dataset_card(make_manifest()))


@pytest.mark.parametrize("license_", ["gpl-2.0+", "cc-by-4.0", "no", "1.0", "0x1", "null", "a" * 64])
def test_a_license_that_the_options_take_stands_in_the_card(license_: str, tmp_path: Path) -> None:
    """It would be left without one, with a warning at the end of a run that was paid for."""
    parse([f"--license={license_}", f"--output={tmp_path}"])
    assert front_matter(dataset_card(make_manifest(), license=license_))["license"] == license_


@pytest.mark.parametrize("license_", ["", "MIT", "mit\n", "-mit", "a" * 65, "x: y"])
def test_what_is_no_license_is_refused_by_both(license_: str) -> None:
    with pytest.raises(OptionError, match="--license is"):
        parse([f"--license={license_}"])
    with pytest.raises(ValueError, match="license is"):
        dataset_card(make_manifest(), license=license_)
