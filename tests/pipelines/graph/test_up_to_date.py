"""Is there anything to do? Whatever decides a row makes a run, whatever looks unusual too, and nothing else does."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from textmint.pipelines.cli.run import published_entry, versions
from textmint.pipelines.graph import up_to_date
from textmint.pipelines.graph.previous_run import PreviousRun, inspect_output
from textmint.pipelines.graph.up_to_date import KEY, is_up_to_date, run_key
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.parse import parse
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.ledger.writer import Ledger, open_writer
from textmint.transforms.llm.engine import close_engines
from textmint.transforms.llm.offline.backend import OfflineBackend
from textmint.transforms.storage import lease

from tests.support.helpers import Done, config_flag, entry_of, files_of, run_main
from tests.support.ledger_rows import add_file, add_journal, paid, rows_of_ledger

VERSIONS = {"python": "3.11.9", "pyarrow": "25.0"}

# Options that a run may change without changing a row: how it goes, where to, and who answers under the same name.
IRRELEVANT_OPTIONS = {
    *("price", "verify_price", "no_report"),
    *("output", "push_to_hub", "recompute", "rebuy", "replace", "max_reject_rate", "retry_rejects", "max_concurrency"),
    *("requests_per_minute", "tokens_per_minute", "request_timeout", "max_attempts", "base_url", "api_key_secret"),
    *("vertex_project", "vertex_location", "service_tier"),
}
FLAGS = ("--task_requests=2", "--seed=8", "--offline_fault_rate=0.3")


def config_of(output: Path | str, *flags: str) -> Config:
    return parse([f"--output={output}", *flags])[0]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("config")
    (folder / "tasks.txt").write_text("Sort bees\nGrade eggs\n")
    return config_of(folder / "out", f"--tasks={folder / 'tasks.txt'}")


def key(config: Config, previous: PreviousRun | None = None, versions: Mapping[str, str] = VERSIONS) -> str:
    return run_key(config, previous or PreviousRun(), versions)


# --- what is in the key


OPTIONS = sorted(parse([])[0].typed)


def test_the_same_run_has_the_same_key(config: Config) -> None:
    assert key(config) == key(config) == key(dataclasses.replace(config, typed=dict(reversed(config.typed.items()))))
    assert key(config, versions=dict(reversed(VERSIONS.items()))) == key(config)
    assert len(key(config)) == 32
    assert set(OPTIONS) >= IRRELEVANT_OPTIONS


def test_templates_topics_the_model_and_versions_are_in_it(config: Config) -> None:
    def longer(name: str) -> Any:
        template = getattr(config, name)
        return dataclasses.replace(template, text=f"{template.text} ")

    changes: list[dict[str, Any]] = [
        *({name: longer(name)} for name in ("brainstorm_template", "example_template")),
        *({"topics": topics} for topics in ((), ("bees",), ("bees", "ants"), ("ants", "bees"))),
        {"backend": OfflineBackend(0.25)},
    ]
    keys = {key(dataclasses.replace(config, **change)) for change in [{}, *changes]}
    keys |= {key(config, versions={**VERSIONS, "pyarrow": "26.0"}), key(config, versions={})}
    assert len(keys) == 1 + len(changes) + 2


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_in_the_key_or_known_not_to_matter(option: str, config: Config) -> None:
    """A new option is in it until somebody says otherwise."""
    changed = dataclasses.replace(config, typed={**config.typed, option: "another value"})
    assert (key(changed) == key(config)) == (option in IRRELEVANT_OPTIONS)


def test_values_of_options_are_told_apart_from_words(config: Config) -> None:
    def with_max_tasks(value: Any) -> str:
        return key(dataclasses.replace(config, typed={**config.typed, "max_tasks": value}))

    assert len({with_max_tasks(value) for value in (None, "None", 1, "1", 1.0, True)}) == 6


def test_the_content_of_task_files_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Sort bees\n")
    config = config_of(tmp_path / "out", f"--tasks={tmp_path}/*.txt")
    keys = [key(config)]
    (tmp_path / "a.txt").write_text("Sort ants\n")  # as long as before
    keys.append(key(config))
    (tmp_path / "b.txt").write_text("Sort bees\n")
    keys.append(key(config))
    (tmp_path / "b.txt").rename(tmp_path / "c.txt")
    keys.append(key(config))
    assert len(set(keys)) == 4
    (tmp_path / "notes.md").write_text("no task file")
    assert key(config) == keys[-1]


def test_what_other_labels_hold_is_in_it(config: Config) -> None:
    one, two = ("/d/tasks/refresh=one/part-1.parquet", "one"), ("/d/examples/refresh=two/part-2.parquet", "two")
    several = [
        PreviousRun(),
        PreviousRun(tasks=(one,)),
        PreviousRun(examples=(two,)),
        PreviousRun(tasks=(one,), examples=(two,)),
    ]
    several += [
        PreviousRun(tasks=((one[0], "uno"),)),
        PreviousRun(tasks=(("/d/tasks/refresh=one/part-2.parquet", "one"),)),
    ]
    assert len({key(config, previous) for previous in several}) == len(several)
    own = ("/d/tasks/refresh=base/part-1.parquet", "base", "3")  # which come out again
    assert key(config, PreviousRun(tasks=(one, own))) == key(config, PreviousRun(tasks=(one,)))
    moved = PreviousRun(tasks=(("gs://elsewhere/tasks/refresh=one/part-1.parquet", "one"),))
    assert key(config, moved) == key(config, PreviousRun(tasks=(one,)))  # names hold a digest of the content
    assert key(config, PreviousRun(ledger_replies=7, published_examples=9, was_mended=True)) == key(config)


def test_our_code_is_in_it(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pipelines/a.py", "transforms/llm/b.py", "tests/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(up_to_date, "__file__", str(tmp_path / "pipelines" / "graph" / "up_to_date.py"))
    keys = [key(config)]
    (tmp_path / "transforms/llm/b.py").write_text("x = 2\n")
    keys.append(key(config))
    (tmp_path / "pipelines/d.py").write_text("x = 2\n")
    keys.append(key(config))
    (tmp_path / "pipelines/d.py").rename(tmp_path / "pipelines/e.py")
    keys.append(key(config))
    (tmp_path / "pipelines/e.py").rename(tmp_path / "transforms/e.py")
    keys.append(key(config))
    assert len(set(keys)) == 5
    (tmp_path / "tests/c.py").write_text("x = 3\n")
    (tmp_path / "transforms/notes.txt").write_text("no code")
    assert key(config) == keys[-1]


def test_all_of_our_code_is_seen(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    content_of = Path.read_bytes

    def watched(path: Path) -> bytes:
        read.append(path.name)
        return content_of(path)

    monkeypatch.setattr(Path, "read_bytes", watched)
    key(config)
    assert {"up_to_date.py", "parse.py", "llm_call.py", "author.py", "texts.py"} <= set(read)


# --- what was found in the folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has come to its end, some of its replies unreadable."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    done = run_main("generate", f"--output={folder}", *FLAGS)
    assert done.code == 0, done.err
    assert entry_of(folder)["counts"]["rejects"] > 0
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def nothing_to_do(folder: Path | str, *flags: str) -> bool:
    """What the run would decide, without the run."""
    config = config_of(folder, *FLAGS, *flags)
    previous = inspect_output(config)
    return is_up_to_date(config, previous, run_key(config, previous, versions()), published_entry(config))


def data_files(folder: Path, kind: str = "examples") -> list[Path]:
    return sorted((folder / kind / "refresh=base").glob("*.parquet"))


def ledger_file(folder: Path) -> Path:
    return sorted((folder / "ledger").glob("*.parquet"))[0]


def edit_entry(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the manifest's entry of the label in place, as a user does who vouches for it."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    change(manifest["refreshes"]["base"])
    del manifest["refreshes"]["base"]["digest"]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def tampered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def test_a_finished_run_is_not_run_again(folder: Path) -> None:
    def there() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    before = there()
    assert nothing_to_do(folder)
    assert there() == before


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--recompute"], False),
        (["--retry_rejects"], False),
        (["--seed=7"], False),
        (["--keep_raw"], False),
        (["--examples_per_task=4"], False),
        (["--refresh=other"], False),
        (["--no_report"], True),
        (["--max_concurrency=3", config_flag(max_attempts=9)], True),
        (["--runner=DirectRunner", "--direct_num_workers=2"], True),
    ],
)
def test_options(flags: list[str], expected: bool, folder: Path) -> None:
    assert nothing_to_do(folder, *flags) is expected


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a byte of the examples": lambda folder: tampered(data_files(folder)[0]),
    "a byte of the tasks": lambda folder: tampered(data_files(folder, "tasks")[0]),
    "a byte of the rejects": lambda folder: tampered(data_files(folder, "rejects")[0]),
    "a file of the examples is gone": lambda folder: data_files(folder)[0].unlink(),
    "all examples are gone": lambda folder: shutil.rmtree(folder / "examples"),
    "the rejects are gone": lambda folder: shutil.rmtree(folder / "rejects" / "refresh=base"),
    "a file is cut short": lambda folder: data_files(folder)[0].write_bytes(data_files(folder)[0].read_bytes()[:-9]),
    "a file more": lambda folder: shutil.copy(data_files(folder)[0], data_files(folder)[0].with_name("more.parquet")),
    "a file under another name": lambda folder: data_files(folder)[0].rename(
        data_files(folder)[0].with_name("x.parquet")
    ),
    "no report": lambda folder: (folder / "report.html").unlink(),
    "no statistics": lambda folder: (folder / "statistics.json").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a foreign file in the ledger": lambda folder: (folder / "ledger" / "notes.txt").write_text("mine"),
    "another label came": lambda folder: shutil.copytree(
        folder / "examples" / "refresh=base", folder / "examples" / "refresh=other"
    ),
    "a request failed": lambda folder: edit_entry(
        folder, lambda entry: entry["steps"]["LLMCall"]["rejected"].update(request_failed=1)
    ),
    "a brainstorm request failed": lambda folder: edit_entry(
        folder, lambda entry: entry["steps"]["TaskGenerate"]["rejected"].update(request_failed=1)
    ),
    "no example was kept": lambda folder: edit_entry(folder, lambda entry: entry["counts"].update(examples=0)),
    "another key": lambda folder: edit_entry(folder, lambda entry: entry.update({KEY: "0" * 32})),
    "no key": lambda folder: edit_entry(folder, lambda entry: entry.pop(KEY)),
    "no steps": lambda folder: edit_entry(folder, lambda entry: entry.pop("steps")),
    "steps of another form": lambda folder: edit_entry(folder, lambda entry: entry.update(steps={"LLMCall": 3})),
    "no files": lambda folder: edit_entry(folder, lambda entry: entry.pop("files")),
    "files of another form": lambda folder: edit_entry(folder, lambda entry: entry["files"].update(examples=[3])),
    "files of no dataset": lambda folder: edit_entry(folder, lambda entry: entry.update(files={})),
    "files of some datasets": lambda folder: edit_entry(folder, lambda entry: entry["files"].pop("rejects")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_unusual_is_a_run(change: str, folder: Path) -> None:
    CHANGES[change](folder)
    assert not nothing_to_do(folder)


LOSSES: dict[str, Callable[[Path], Any]] = {
    "the ledger is gone": lambda folder: shutil.rmtree(folder / "ledger"),
    "a file of the ledger is gone": lambda folder: ledger_file(folder).unlink(),
    "a file of the ledger is cut short": lambda folder: ledger_file(folder).write_bytes(b"PAR1"),
    "a bit of a file of the ledger": lambda folder: tampered(ledger_file(folder)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_replies_that_are_missing_stop_the_run_until_it_may_pay_again(loss: str, folder: Path) -> None:
    LOSSES[loss](folder)
    before = tree_of(folder)
    paid = sum(entry_of(folder)["ledger"]["replies"].values())
    for _ in range(2):  # nothing was moved or mended meanwhile
        with pytest.raises(
            RunFailed, match=r"replies that were paid for are missing in .*ledger \(refresh=base: "
        ) as said:
            inspect_output(config_of(folder, *FLAGS))
        assert "--rebuy" in str(said.value)
        assert "a bit" in loss or f"{paid} replies" in str(said.value)
        with pytest.raises(RunFailed, match="--rebuy"):  # another label may need them too
            inspect_output(config_of(folder, *FLAGS, "--refresh=other"))
    assert tree_of(folder) == before
    assert not nothing_to_do(folder, "--rebuy")
    inspect_output(config_of(folder, *FLAGS))  # the loss is known now


@pytest.mark.parametrize(
    "content", ['{"refreshes": {"ba', "", "[]", "null", '{"refreshes": 3}', "[" * 100_000, "\xff\xfe"]
)
def test_a_manifest_that_is_damaged_stops_the_run(content: str, folder: Path) -> None:
    """It tells what was paid for, and of other labels; the next to publish would write over it."""
    (folder / "manifest.json").write_text(content, "latin-1")
    done = run_main("generate", f"--output={folder}", *FLAGS)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"{folder}/manifest.json is damaged, or not Textmint's; " in done.err
    assert (folder / "manifest.json").read_text("latin-1") == content


def test_an_entry_of_the_manifest_that_is_not_what_its_run_wrote_stops_the_run(folder: Path) -> None:
    """It tells how other labels number their examples; with a wrong number, other prompts would be paid for."""
    path = folder / "manifest.json"
    content, asked = path.read_text("utf-8"), '"examples_per_task": '
    assert asked in content
    path.write_text(content.replace(asked, f"{asked}1"), "utf-8")
    done = run_main("generate", f"--output={folder}", *FLAGS, "--refresh=other")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "manifest.json: its entry of refresh=base is damaged, or was edited; " in done.err
    assert 'if it is right as it is, delete its "digest"' in done.err
    edit_entry(folder, lambda entry: entry)
    inspect_output(config_of(folder, *FLAGS, "--refresh=other"))


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("manifest.json", "manifest.json is gone: "),
        ("tasks/refresh=base", "refresh=base: files of its tasks or examples are gone"),
        ("examples", "refresh=base: files of its tasks or examples are gone"),
    ],
)
def test_what_another_label_lacks_is_told(gone: str, said: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    inspect_output(config_of(folder, *FLAGS, "--refresh=other"))
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said in told


def put_in_place(path: Path, what: str, elsewhere: Path) -> None:
    """Puts something else in the place of a file that a run reads or writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere)


@pytest.mark.parametrize("what", ["folder", "pipe", "link", "dangling link"])
@pytest.mark.parametrize("name", ["manifest.json", "_leases/refresh=base.json", "ledger/_journal/run-1-0.jsonl"])
def test_what_is_no_file_is_told_in_one_line_and_not_written_through(
    name: str, what: str, folder: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.txt"
    if what == "link":
        mine.write_text("mine")
    put_in_place(folder / name, what, mine)
    done = run_main("generate", f"--output={folder}", *FLAGS)
    if "journal" in name and what != "link":  # what is no file is no journal
        assert done.code == 0
    else:
        assert (done.code, done.err.count("\n")) == (1 if "journal" in name else 2, 1)
        assert name.rpartition("/")[2] in done.err
        assert str(folder) in done.err
    assert mine.exists() == (what == "link")
    assert what != "link" or mine.read_text() == "mine"


@pytest.mark.parametrize("what", ["folder", "pipe", "link", "[" * 100_000, "NaN", "\xff", '{"names": 3}'])
def test_a_plan_that_is_none_is_told_and_stops_nobody(what: str, folder: Path, tmp_path: Path) -> None:
    plan = folder / "_staging" / "refresh=other" / "run" / "publish.json"
    (tmp_path / "mine").write_text("{}")
    put_in_place(plan, what if len(what) > 3 and what.isalpha() else "folder", tmp_path / "mine")
    if not (len(what) > 3 and what.isalpha()):
        plan.rmdir()
        plan.write_text(what, "latin-1")
    done = run_main("generate", f"--output={folder}", *FLAGS)
    assert done.code == 0
    assert f"{plan} is left alone: it is no plan of what is to be published" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("what", ["of mine", "link"])
def test_pages_of_the_users_own_are_left_alone_without_a_word(what: str, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "page.md"
    mine.write_text("# My data\n")
    pages = [folder / "README.md", folder / "report.html"]
    for page in pages:
        page.unlink()
        page.symlink_to(mine) if what == "link" else page.write_text("# My data\n")
    done = run_main("generate", f"--output={folder}", *FLAGS, "--recompute")
    assert done.code == 0
    for page in pages:
        assert page.name not in done.err
        assert page.is_symlink() == (what == "link")
        assert page.read_text() == mine.read_text() == "# My data\n"


def tree_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def merged(folder: Path) -> None:
    (folder / "ledger" / "mine.parquet").write_bytes(ledger_file(folder).read_bytes())


HARMLESS: dict[str, Callable[[Path], Any]] = {
    "another file of the same replies": merged,
    "compacted": lambda folder: run_main("ledger", f"--output={folder}", "--compact"),
    "merged, then compacted": lambda folder: (merged(folder), run_main("ledger", f"--output={folder}", "--compact")),
    "under another name": lambda folder: ledger_file(folder).rename(folder / "ledger" / "mine.parquet"),
    "replies in a journal again": lambda folder: in_journal(folder),
    "a label that was deleted": lambda folder: [shutil.rmtree(path) for path in folder.glob("*/refresh=base")],
    "all but the ledger was deleted": lambda folder: [
        shutil.rmtree(path) if path.is_dir() else path.unlink() for path in folder.iterdir() if path.name != "ledger"
    ],
    "a manifest of an earlier version": lambda folder: edit_entry(folder, lambda entry: entry["ledger"].pop("replies")),
}


def in_journal(folder: Path) -> None:
    add_journal(folder / "ledger", rows_of_ledger(folder / "ledger"))
    ledger_file(folder).unlink()


@pytest.mark.parametrize("change", HARMLESS)
def test_what_users_do_with_a_ledger_is_no_loss(change: str, folder: Path) -> None:
    before = len({row["request_id"] for row in rows_of_ledger(folder / "ledger")})
    HARMLESS[change](folder)
    for label in ("base", "other"):
        previous = inspect_output(config_of(folder, *FLAGS, f"--refresh={label}"))
        assert previous.ledger_replies >= before


def test_compacting_does_not_hide_a_loss(folder: Path) -> None:
    rows = rows_of_ledger(folder / "ledger")
    ledger_file(folder).unlink()
    for part in (rows[:20], rows[10:30]):
        add_file(folder / "ledger", part)
    assert run_main("ledger", f"--output={folder}", "--compact").code == 0
    with pytest.raises(RunFailed, match=r"^\d+ replies that were paid for are missing"):
        inspect_output(config_of(folder, *FLAGS))


@pytest.mark.parametrize("entry", ["x", 3, [], None, ["key"]])
def test_a_manifest_that_was_mended_by_hand_is_a_run(entry: Any, folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"refreshes": {"base": entry}}))
    assert not nothing_to_do(folder)


USUAL: dict[str, Callable[[Path], Any]] = {
    "notes beside the data": lambda folder: (folder / "examples" / "README.md").write_text("mine"),
    "what a Mac leaves": lambda folder: data_files(folder)[0].with_name("._x.parquet").write_bytes(b""),
    "more replies than needed": lambda folder: shutil.copy(ledger_file(folder), folder / "ledger" / "copy.parquet"),
    "how long it took": lambda folder: edit_entry(folder, lambda entry: entry.update(finished="1970-01-01")),
    "rejects of another kind": lambda folder: edit_entry(
        folder, lambda entry: entry["steps"]["LLMCall"]["rejected"].update(request_failed=0)
    ),
}


@pytest.mark.parametrize("change", USUAL)
def test_what_decides_no_row_is_no_run(change: str, folder: Path) -> None:
    USUAL[change](folder)
    assert nothing_to_do(folder)


def test_replies_of_a_run_that_was_cut_short_are_a_run(folder: Path) -> None:
    """It was killed while it asked for something, so there is something that this run may use."""
    close_engines()
    writer = open_writer(Ledger(folder=str(folder / "ledger"), refresh="base", run_id="killed"))
    writer.append(paid())
    writer.close()
    assert not nothing_to_do(folder)
    assert nothing_to_do(folder)  # they are in the ledger now; a run that fails keeps the key of the one before


# --- the whole


def generate(folder: Path | str, *flags: str) -> tuple[Done, bool]:
    """Returns the finished command, and whether it found nothing to do."""
    done = run_main("generate", f"--output={folder}", *FLAGS, *flags)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    return done, "there is nothing to do" in done.err


def asked_for(folder: Path, label: str = "base") -> int:
    steps = entry_of(folder, label)["steps"]
    return sum(steps[step]["requests"]["sent"] for step in ("TaskGenerate", "LLMCall"))


def test_the_command_says_that_there_is_nothing_to_do_and_shows_what_is_there(folder: Path) -> None:
    manifest = (folder / "manifest.json").read_bytes()
    before = files_of(folder)
    done, idle = generate(folder)
    assert idle
    assert f"{folder}: {entry_of(folder)['counts']['examples']:,} examples of" in done.out
    assert (folder / "manifest.json").read_bytes() == manifest
    assert files_of(folder) == before


@pytest.mark.parametrize("change", [None, "a byte of the examples", "no manifest"])
def test_a_run_that_mends_gives_the_same_data_and_asks_for_nothing(change: str | None, folder: Path) -> None:
    before = files_of(folder)
    if change is not None:
        CHANGES[change](folder)
    _, idle = generate(folder, *([] if change else ["--recompute"]))
    assert not idle
    assert files_of(folder) == before
    assert asked_for(folder) == 0
    assert nothing_to_do(folder)


def test_a_ledger_that_is_gone_is_paid_for_again_and_gives_the_same_data(folder: Path) -> None:
    """The embedded model answers alike; with another one only what was published would be worth keeping."""
    before = files_of(folder)
    shutil.rmtree(folder / "ledger")
    stopped = run_main("generate", f"--output={folder}", *FLAGS)
    assert stopped.code == 1
    assert stopped.err.count("\n") == 1
    _, idle = generate(folder, "--rebuy")
    assert not idle
    assert asked_for(folder) > 0
    assert files_of(folder) == before
    assert nothing_to_do(folder)


def test_retried_rejects_stay_found_without_the_flag(folder: Path) -> None:
    kept = entry_of(folder)["counts"]["examples"]
    _, idle = generate(folder, "--retry_rejects")
    assert not idle
    assert entry_of(folder)["counts"]["examples"] > kept
    after = files_of(folder)
    assert generate(folder)[1]
    generate(folder, "--recompute")
    assert asked_for(folder) == 0
    assert files_of(folder) == after


def test_another_label_makes_one_run_of_the_first_which_changes_nothing(folder: Path) -> None:
    generate(folder, "--refresh=second")
    before = files_of(folder)
    assert not generate(folder)[1]
    assert asked_for(folder) == 0
    assert files_of(folder) == before
    assert generate(folder)[1]
    assert generate(folder, "--refresh=second")[1]


def test_on_an_object_store(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """There sizes must do: reading all that was published would be a download."""
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    bucket = "mem://bucket/data"
    assert not generate(bucket)[1]
    objects = dict(store)
    assert generate(bucket)[1]
    assert nothing_to_do(bucket)
    assert store == objects
    (path,) = [path for path in store if "/examples/" in path]
    (paid, *_) = [path for path in store if "/ledger/" in path]
    changes: list[Callable[[], Any]] = [
        lambda: store.update({path: objects[path] + b"x"}),
        lambda: store.pop(path),
        lambda: store.update({path.replace("part-00000", "part-00001"): objects[path]}),
        lambda: store.update({f"{bucket}/ledger/notes.txt": b"mine"}),
        lambda: store.pop(f"{bucket}/manifest.json"),
    ]
    for number, change in enumerate(changes):
        change()
        assert not nothing_to_do(bucket), number
        store.clear()
        store.update(objects)
    assert nothing_to_do(bucket)
    store.pop(paid)
    with pytest.raises(RunFailed, match="replies that were paid for are missing in mem://bucket/data/ledger"):
        nothing_to_do(bucket)
    store.update(objects)
    store[path] += b"x"  # and the run mends it, though the name says that it is there
    assert not generate(bucket)[1]
    assert store[path] == objects[path]
    assert not any("/_staging/" in path for path in store)
