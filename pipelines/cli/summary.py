"""The last words of a run: where the data is, what it looks like, which replies were wasted, what to try next, or why
it failed."""

from __future__ import annotations

import collections
import errno
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow.parquet as pq
from textmint.pipelines.cli import terminal
from textmint.pipelines.graph.top_up import CAPPED
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import reason_of
from textmint.transforms.core.elements import HELD_BACK
from textmint.transforms.core.errors import RunFailed, StoreError
from textmint.transforms.core.texts import printable_line
from textmint.transforms.dataset.accounting import STEPS, SURPLUS
from textmint.transforms.dataset.manifest import TARGET, read_manifest
from textmint.transforms.dataset.pages import NO_REPORT, REPORT
from textmint.transforms.dataset.publish import Target
from textmint.transforms.llm.prices import format_usd
from textmint.transforms.storage import files

AFTERWARDS: Final = "what was published before is there, and what was paid for is kept; run the same command again"
"""What holds after any failure."""
_REASONS: Final = tuple(
    re.compile(rf"{kind.__name__}: (.*?)(?: \[while running|\n|$)") for kind in (RunFailed, StoreError)
)
_OS_ERROR: Final = re.compile(r"Error: \[Errno (\d+)\] ([^\n\[:]+?)(?= \[|[\n:]|$)(?:: '([^'\n]*)')?")
_DISK_REMEDIES: Final[Mapping[int, str]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "see that it can be read and written"),
    errno.EIO: "see whether the disk is well",
}
"""What is wrong with a disk or a folder, where a traceback would not help."""
_COLUMNS: Final = ("task", "input_text", "label", "misleading_label")
_WIDTH: Final = 100
_TOO_MANY: Final = 0.3  # of what was asked for
_PAID_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "lists of tasks": ("TaskGenerate",),
    "tasks": ("Flatten",),
    "label sets": ("PlanLabels",),
    "examples": ("LLMCall", *STEPS[STEPS.index("LLMCall") + 1 :]),
}
"""What is asked for, and the steps that it passes from there on; the first is the one that it goes into."""
_ONCE: Final = frozenset(
    (
        *("--examples_per_task", "--target_examples", "--refresh"),
        *("--replace", "--recompute", "--rebuy", "--retry_rejects"),
    )
)
"""Options that another run of more examples is given anew, or has no need of."""
_LOG: Final = logging.getLogger("textmint")


def show_summary(config: Config, target: Target, prog: str, argv: Sequence[str]) -> None:
    """Prints what a finished run has brought. If that cannot be printed, the run is no failure."""
    try:
        entry = read_manifest(config.output)["refreshes"][config.refresh]
        for line in (*warnings_of(entry["steps"]), *shortage(entry)):
            _LOG.warning("%s", line)
        text = summary(config, target, prog, argv)
    except Exception as error:  # somebody has taken the folder away, or changes it at this moment
        reason = "it is not what the run has left" if isinstance(error, KeyError) else reason_of(error)
        terminal.tell(f"{prog}: the run is complete, but {config.typed['output']} cannot be looked at: {reason}")
        return
    if problem := terminal.show(text):
        terminal.tell(f"{prog}: the data is in {config.typed['output']}; its summary cannot be printed: {problem}")


def reason_in(text: str) -> str | None:
    """Finds the reason for a person, and the remedy, in the text of an error, in whatever an engine has wrapped it;
    None if there is none."""
    for pattern in _REASONS:
        if found := pattern.search(text):
            return found[1] if pattern is _REASONS[0] else f"{found[1]}; {AFTERWARDS}"
    for found in _OS_ERROR.finditer(text):
        if remedy := _DISK_REMEDIES.get(int(found[1])):
            path = f"{found[3]}: " if found[3] else ""
            return f"{path}{found[2]}; {remedy}; {AFTERWARDS}"
    return None


def summary(config: Config, target: Target, prog: str, argv: Sequence[str] = ()) -> str:
    """Returns the text that a finished run ends with: where the data is, how much, what it looks like, what next."""
    entry = read_manifest(config.output)["refreshes"][config.refresh]
    counts = entry["counts"]
    folder = config.typed["output"]
    lines = [
        "",
        f"{folder}: {counts['examples']:,} examples of {counts['tasks']:,} tasks, {counts['rejects']:,} rejects",
    ]
    if reasons := reject_reasons(entry["steps"]):
        lines.append("  rejected: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()))
    if entry.get("started") == target.description["started"]:  # else there was nothing to do
        lines += [f"  {line}" for line in _paid(entry)]
    if held_back := held_back_by_caps(entry):
        lines.append(f"  held back: {held_back}")
    lines += [f"  {line}" for line in shortage(entry)]
    for row in _first_rows(config.output, entry, 3):
        lines += ["", *(_field(name, row[name]) for name in _COLUMNS)]
    # a shell would take ~ in an option as it stands, and Textmint does not
    shown = config.output if folder.startswith("~") else folder
    if files.exists(files.join(config.output, REPORT)) and not config.typed[NO_REPORT]:
        lines += ["", f"Report:      {files.join(shown, REPORT)}  (open it in a browser)"]
    else:
        lines += [""]
    lines += [f"Look at it:  {_look_command(shown)}", *_hints(config, command_of(prog), argv, entry)]
    return "\n".join(lines)


def warnings_of(steps: Mapping[str, Any]) -> list[str]:
    """Returns a line, with the reasons, for each kind of prompt of whose replies more than `_TOO_MANY` brought nothing.
    Takes the manifest's table of steps."""
    lines = []
    for asked_for, names in _PAID_FOR.items():
        of_kind = {name: steps[name] for name in names if name in steps}
        asked = of_kind[names[0]]["in"] if names[0] in of_kind else 0
        reasons = {reason: count for reason, count in reject_reasons(of_kind).items() if reason not in SURPLUS}
        refused = sum(reasons.values())
        if refused > _TOO_MANY * asked:
            listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            share = f"{refused:,} of {asked:,} {asked_for} ({refused / asked:.0%})" if asked else f"{refused:,}"
            lines.append(f"{share} were refused: {listed}; rejects/ holds each, with its reply if one came")
    return lines


def shortage(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yields how many examples are missing of those that `--target_examples` asked for, and why."""
    if target := entry.get(TARGET):
        missing = target["examples"] - entry["counts"]["examples"]
        if missing > 0:
            yield f"{missing:,} of the {target['examples']:,} examples asked for are missing: {target['stopped_by']}"


def _paid(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yields what the run has asked for, and what that has cost."""
    requests = [step["requests"] for step in entry["steps"].values() if "requests" in step]
    # waves that were stopped had no end at which to count
    more = sum(int(wave["replies"]) for wave in entry.get("waves", ()) if "stopped_by" in wave)
    paid = sum(int(each["sent"]) - int(each["retries"]) for each in requests) + more
    found = max(0, sum(int(each["from_ledger"]) for each in requests) - more)
    yield f"asked for: {paid:,} replies; from the ledger: {found:,}"
    if tokens := tokens_paid_for(entry["spending"]):
        yield f"paid for: {tokens}"


_HELD_BACK: Final[Mapping[str, str]] = {
    "TaskGenerate": "lists of tasks",
    "PlanLabels": "label sets",
    "SampleAttributes": "drafts",
    "LLMCall": "drafts",
    "VerifyLabels": "choices between labels",
}
"""What is held back where a cap is reached, by step."""


def held_back_by_caps(entry: Mapping[str, Any]) -> str:
    """Says what the caps of a run did not let be asked, and what is spent; "" if nothing. Takes its entry."""
    found: collections.Counter[str] = collections.Counter()
    for step, what in _HELD_BACK.items():
        found[what] += int(entry["steps"].get(step, {}).get(HELD_BACK, 0))
    if not found.total() or entry.get(TARGET, {"stopped_by": CAPPED})["stopped_by"] != CAPPED:
        return ""
    name, cap = _fullest(entry)
    spent = format_usd(round(cap["spent"] * 10**12)) if name == "max_cost" else f"{cap['spent']:,}"
    listed = ", ".join(f"{count:,} {what}" for what, count in found.items() if count)
    return f"{listed}, by --{name}={cap['cap']:.12g} ({spent} spent); a higher cap asks for what is missing"


def _fullest(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Returns the name of the cap that is nearest to its end, and what the manifest says of it."""
    caps: Mapping[str, Mapping[str, Any]] = entry["caps"]
    return max(caps.items(), key=lambda each: (each[1]["spent"] / each[1]["cap"], each[0]))


def tokens_paid_for(spent: Mapping[str, Any]) -> str:
    """Says how many tokens were paid for, and what they cost; "" if none were. Takes what a manifest says of it."""
    tokens = spent["prompt_tokens"] + spent["output_tokens"]
    of_each = f"{spent['prompt_tokens']:,} of prompts, {spent['output_tokens']:,} of replies"
    return f"{tokens:,} tokens ({of_each}), {_cost(spent)}" if tokens else ""


def _cost(spent: Mapping[str, Any]) -> str:
    if spent["cost_usd"] is None:
        options = [f"--{name}=IN,OUT" for name in ("price", "verify_price") if spent.get(name, {}) is None]
        return f"at a price that is not known (tell it: {', '.join(options)})"
    sources = dict.fromkeys(spent[name]["source"] for name in ("price", "verify_price") if spent.get(name))
    return f"{format_usd(round(spent['cost_usd'] * 10**12))} by {'; '.join(sources)}"


def reject_reasons(steps: Mapping[str, Any]) -> dict[str, int]:
    """Counts the rejects of each reason, the most first."""
    reasons: dict[str, int] = {}
    for line in steps.values():
        for reason, count in line["rejected"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _first_rows(output: str, entry: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    first = next((file for file in entry["files"]["examples"] if file["rows"]), None)
    if first is None:
        return []
    with files.open_file(files.join(output, first["path"])) as file:
        batches = pq.ParquetFile(file).iter_batches(batch_size=count)
        rows: list[dict[str, Any]] = next(batches).to_pylist()
    return rows


def _field(name: str, value: str) -> str:
    line = printable_line(value)  # cut by characters: not every script puts spaces between words
    return f"  {name:<17} {line if len(line) <= _WIDTH - 20 else line[: _WIDTH - 24].rstrip() + ' ...'}"


def _look_command(folder: str) -> str:
    """Returns a command that works as it stands, whatever the folder's name holds. It prints a line a row, with nothing
    in it that a terminal would obey."""
    if ":" in folder and files.is_local(folder) and not os.path.isabs(folder):
        folder = f"./{folder}"  # pyarrow would take it for a URI
    code = (
        f'import pyarrow.dataset as d; t = d.dataset({_double_quoted(folder + "/examples")}, partitioning="hive")'
        f".head(5, columns=[{', '.join(map(_double_quoted, _COLUMNS))}]); "
        'print(*(" | ".join(f"{v!r:<34.34}" for v in r) for r in [t.column_names, *zip(*t.to_pydict().values())]), '
        'sep="\\n")'
    )
    return f"{_python()} -c {shlex.quote(code)}"


def _double_quoted(text: str) -> str:
    """Writes a text as a Python literal, in double quotes if possible, which a shell leaves alone in single ones."""
    quoted = repr(text)
    return f'"{quoted[1:-1]}"' if quoted[0] == "'" and '"' not in quoted else quoted


def _python() -> str:
    """Returns the running Python as a shell takes it from the same folder."""
    here = os.path.relpath(sys.executable)
    return shlex.quote(sys.executable if here.startswith(os.pardir) or os.sep not in here else here)


def command_of(prog: str) -> str:
    """Returns how a shell calls the program once more from the same folder."""
    called = sys.argv[0]
    if "TEXTMINT_PROG" in os.environ:
        return shlex.quote(prog)
    if os.path.basename(called) == "__main__.py":
        return f"{_python()} -m textmint.pipelines"
    return prog if shutil.which(prog) or not os.path.exists(called) else shlex.quote(called)


def _hints(config: Config, command: str, argv: Sequence[str], entry: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yields commands that work as they stand and fit what was run."""
    typed = config.typed
    if typed["llm"] == "offline":
        is_first = typed["refresh"] == "base" and config.tasks is None and not typed["keep_raw"]
        if is_first:
            yield f"Next:        {command} generate --task_requests=20 --examples_per_task=10 --keep_raw --output=more"
        elif not typed["offline_fault_rate"]:
            yield f"Next:        {command} generate --offline_fault_rate=0.3 --output=faults"
        real = f"{command} generate --llm=gemini --model=gemini-2.5-flash --output=real"
        yield f"To train on: {real}  (and GEMINI_API_KEY; README has other models)"
        return
    if "@" not in (typed["base_url"] or "") and config.own_tasks < config.expected_tasks:  # a password is not repeated
        refresh = [] if config.refresh == "base" else [f"--refresh={config.refresh}"]  # today is another one tomorrow
        if entry and held_back_by_caps(entry):
            name, cap = _fullest(entry)
            higher = f"--{name}={2 * cap['cap']:.12g}"
            more = [*without(argv, {f"--{name}", "--refresh", "--recompute", "--rebuy"}), *refresh, higher]
            yield f"Go on:       {command} generate {shlex.join(more)}  (pays for the difference)"
            return
        amount = f"--examples_per_task={2 * config.examples_per_task}"
        if config.target_examples is not None:
            amount = f"--target_examples={2 * config.target_examples}"
        larger = [*without(argv, _ONCE), *refresh, amount]
        yield f"More of it:  {command} generate {shlex.join(larger)}  (pays for the difference)"
    yield f"Paid for:    {command} ledger --output={shlex.quote(typed['output'])}"


def without(argv: Sequence[str], options: Container[str]) -> Iterator[str]:
    """Yields a command line without some options and their values."""
    is_kept = True
    for given in argv:
        if given.startswith("--"):
            is_kept = given.partition("=")[0] not in options
        if is_kept:
            yield given
