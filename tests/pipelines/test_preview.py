"""The preview: its options, what it says of checks, what it paid for; and how it is shown."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import textmint.pipelines.preview
from msgspec.structs import replace
from textmint.pipelines.cli.preview import as_json
from textmint.pipelines.graph.preview import Collected
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.preview import Preview, asked_after, checks_made, outcomes, parse_preview, preview, rounds_of
from textmint.pipelines.preview_views import as_html, as_text
from textmint.transforms.core.elements import Reject, Relabel, Verdict
from textmint.transforms.dataset.schema import to_record

from tests.pipelines.cli.test_terminal import EVIL, check_shown
from tests.support.helpers import make_example, make_reject

STYLE = re.compile(r"\x1b\[[0-9;]*m")
MARKUP = '[red]not red[/red] [link=http://x]y[/] [/] :smile: <script>alert(1)</script> & "quoted"'


def config_of(tmp_path: Path, *flags: str) -> Config:
    return parse_preview([f"--output={tmp_path / 'out'}", *flags]).config


# --- options

DATAFLOW = ("--runner=DataflowRunner", "--project=p-1", "--region=europe-west4", "--temp_location=gs://bucket/tmp")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--rows=0"], "--rows=0: it must be from 1 to 1,000"),
        (["--rows=-1"], "--rows=-1: it must be from 1 to 1,000"),
        (["--rows=1001"], "--rows=1001: it must be from 1 to 1,000"),
        (["--rows=x"], "argument --rows: invalid int value: 'x'"),
        (["--row=5"], "unknown option --row"),
        (["--verify_model=m", "--license=X Y"], "--license is 'X Y'; name one by its"),
        (
            [*DATAFLOW, "--dry_run=True", "--output=gs://bucket/out"],
            "--dry_run: a preview asks the model",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_written(flags: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        parse_preview([f"--output={tmp_path / 'out'}", *flags])
    assert caught.value.problems[0].startswith(told)
    assert len(caught.value.problems) == (2 if "--license=X Y" in flags else 1)
    assert not (tmp_path / "out").exists()


def test_options_of_python_are_those_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(textmint.pipelines.preview, "run_preview", seen.append)
    preview(
        rows=3,
        output=tmp_path / "out",
        difficulty={"college": 0.5, "PhD": 1},
        clarity=["clear", "ambiguous"],
        examples_per_task=7,
        offline_fault_rate=0.25,
        verify=True,
        keep_raw=False,
        max_tasks=None,
    )
    flags = ["--difficulty=college:0.5,PhD:1", "--clarity=clear,ambiguous", "--examples_per_task=7", "--verify"]
    asked = parse_preview([*flags, "--rows=3", "--offline_fault_rate=0.25", f"--output={tmp_path / 'out'}"])
    assert seen[0].config == asked.config and seen[0].rows == 3
    with pytest.raises(OptionError, match="unknown option --modle: did you mean --model"):
        preview(modle="m")
    with pytest.raises(OptionError, match="num_words: is true, which is no value for it"):
        preview(num_words=True)
    with pytest.raises(OptionError, match="tasks: a set is no value for an option"):
        preview(tasks={"a"})


def test_it_runs_on_this_machine_whatever_the_engine(tmp_path: Path) -> None:
    options = parse_preview(["--runner=FlinkRunner", "--flink_master=h:1", f"--output={tmp_path}"])
    assert options.beam.get_all_options()["runner"] == "FnApiRunner"
    options = parse_preview(["--direct_num_workers=4", f"--output={tmp_path}"])
    assert options.beam.get_all_options()["direct_num_workers"] == 1


@pytest.mark.parametrize(
    ("rows", "requests", "rounds"), [(10, 5, [1, 2, 4]), (10, 1, [1]), (11, 3, [2, 3]), (100, 50, [10, 20, 40])]
)
def test_rounds_are_as_many_as_are_needed(rows: int, requests: int, rounds: list[int], tmp_path: Path) -> None:
    assert list(rounds_of(config_of(tmp_path, f"--task_requests={requests}"), rows)) == rounds


# --- verdicts

GOOD = make_example("Sort mail", num_words="any", input_text="The harbour pilot asked for a second boat.")
BAD = replace(GOOD, label="boat", misleading_label="Boat.", num_words="at least 100")


def test_every_check_is_told_not_only_the_first_that_failed(tmp_path: Path) -> None:
    config = config_of(tmp_path, "--checks=echo,labels_equal,label_in_text,wrong_length,near_duplicate")
    reject = make_reject("Sort mail", reason="labels_equal")
    made = checks_made(BAD, config, replace(reject, stage="CheckQuality"), ())
    assert list(made) == ["echo", "labels_equal", "label_in_text", "wrong_length"]  # it was compared with nobody
    assert made["echo"] is None and made["labels_equal"] == "both labels are 'boat'"
    assert made["label_in_text"] == "the label 'boat' stands in the text"
    assert made["wrong_length"] == "8 words where at least 100 were asked for"
    passed = ["echo", "labels_equal", "label_in_text", "wrong_length", "duplicate", "near_duplicate"]
    assert checks_made(GOOD, config, None, ()) == dict.fromkeys(passed)


def test_verification_and_comparisons_are_told_where_they_were_made(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("A text of a benchmark.")
    config = config_of(tmp_path, "--verify", f"--exclude={tmp_path / 'test.txt'}")
    last = ["label_disputed", "duplicate", "near_duplicate", "contaminated"]
    assert list(checks_made(GOOD, config, None, ()))[-4:] == last
    disputed = replace(make_reject(reason="label_disputed"), stage="VerifyLabels", detail="the label is 'x'")
    made = checks_made(GOOD, config, disputed, ())
    assert made["label_disputed"] == "the label is 'x'" and "duplicate" not in made
    unread = replace(disputed, reason="not_json")
    assert "label_disputed" not in checks_made(GOOD, config, unread, ())
    verdicts = [
        Verdict(id=GOOD.id, stage="FindDuplicates", reason="duplicate", detail="of a"),
        Verdict(id=GOOD.id, stage="FindNearDuplicates", reason="near_duplicate", detail="1.0 like a"),
    ]
    made = checks_made(GOOD, config, replace(disputed, stage="FindDuplicates", reason="duplicate"), verdicts)
    assert (made["label_disputed"], made["contaminated"]) == (None, None)
    assert (made["duplicate"], made["near_duplicate"]) == ("of a", "1.0 like a")


def test_outcomes(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    twin = replace(make_example("Sort mail", 1), input_text=GOOD.input_text)
    unread = make_reject("Read mail", reason="not_json")
    refused = Reject.of_example(BAD, stage="CheckQuality", reason="labels_equal", detail="d", can_retry=True)
    first = make_example("A first task", num_words="any")
    streams = {
        "parsed": [first, BAD, twin, unread],
        "examples": [first, refused, twin, unread],
        "verdicts": [
            Verdict(id=twin.id, stage="FindDuplicates", reason="duplicate", detail="of a"),
            Relabel(id=first.id, label="Right", misleading_label="wrong"),
        ],
    }
    kept, rejects = outcomes(Collected(streams, {}), config)
    assert [(row["task"], row["label"], set(row["checks"].values())) for row in kept] == [
        ("A first task", "Right", {None})
    ]
    assert [reject["reason"] for reject in rejects] == ["not_json", "labels_equal", "duplicate"]
    assert "checks" not in rejects[0] and rejects[0]["raw_reply"] == ""
    assert rejects[1]["label"] == "boat" and rejects[1]["checks"]["wrong_length"]
    assert rejects[2]["checks"]["duplicate"] == "of a" and rejects[2]["input_text"] == GOOD.input_text


def test_a_second_pass_counts_no_reply_twice() -> None:
    def line(sent: int, from_ledger: int, failed: int = 0) -> dict[str, Any]:
        rejected = {"request_failed": failed} if failed else {}
        return {"requests": {"sent": sent, "retries": failed, "from_ledger": from_ledger}, "rejected": rejected}

    first = asked_after({}, {"TaskGenerate": line(1, 2), "LLMCall": line(6, 0, failed=1), "Flatten": {}})
    assert first["examples"]["replies"] == 4  # six were sent, one of them twice, and one never answered
    both = asked_after(first, {"TaskGenerate": line(2, 3), "LLMCall": line(3, 4)})
    assert both["task lists"] == {"requests": 3, "replies": 3, "from_ledger": 2}
    assert both["examples"]["from_ledger"] == 0


# --- what is shown


def hostile() -> Preview:
    nasty = f"{MARKUP} {EVIL}"
    row = {**to_record(GOOD), **dict.fromkeys(("task", "input_text", "label", "misleading_label", "prompt"), nasty)}
    reject = {**to_record(make_reject()), "raw_reply": nasty, "detail": nasty, "task": nasty, "prompt": nasty}
    return Preview(
        rows=10,
        examples=[{**row, "checks": {"echo": None, "wrong_length": nasty}}],
        rejects=[
            reject,
            {**reject, "replica": None, "stage": "TaskGenerate"},
            *[{**reject, "replica": None, "stage": "Flatten", "reason": "duplicate"}] * 300,
        ],
        asked={"examples": dict.fromkeys(("requests", "replies", "from_ledger"), 2)},
        spending={"prompt_tokens": 2_000, "output_tokens": 1, "cost_usd": None, "price": None},
        show_prompt=True,
    )


def test_nothing_of_a_reply_rules_a_terminal() -> None:
    text = as_text(hostile())
    check_shown(text)
    styled = as_text(hostile(), styled=True)
    assert STYLE.search(styled)
    check_shown(STYLE.sub("", styled))
    for shown in (text, STYLE.sub("", styled)):
        words = " ".join(shown.split())
        assert words.count("[red]not red[/red] [link=http://x]y[/] [/] :smile: <script>") == 14
        assert "1 of 2 examples kept; 10 were wanted, and the tasks that came have no more" in words
        assert "refused before that: 300 duplicate, 1 empty asked for: 2 examples; from the ledger: 2 replies" in words
        assert "paid for: 2,001 tokens (2,000 of prompts" in words
    assert "\x1b]8" not in styled


@pytest.mark.parametrize("width", [40, 100])
def test_lines_fit(width: int) -> None:
    assert max(map(len, as_text(hostile(), width=width).splitlines())) <= width


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_nothing_of_a_reply_is_html() -> None:
    parser = _Tags()
    text = as_html(hostile())
    parser.feed(text)
    assert parser.tags == {"table", "thead", "tbody", "tr", "th", "td", "p", "br"} and parser.names == {"style"}
    assert any("<script>alert(1)</script>" in each for each in parser.texts)
    check_shown(html.unescape(text))
    assert hostile()._repr_html_() == text and repr(hostile()) == str(hostile()) == as_text(hostile())


def test_json_has_all_and_is_ascii() -> None:
    text = as_json(hostile())
    assert text.isascii() and json.loads(text)["rejects"][0]["raw_reply"].startswith(MARKUP)
    assert json.loads(text)["asked"]["examples"]["requests"] == 2 and "show_prompt" not in json.loads(text)
