"""What a plan rests on: prompts as they will be sent, what the ledger holds, what the last run of the refresh kept. It
writes nothing, asks nothing, and holds no lease."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from textmint.pipelines.graph.caps import caps_of, spent
from textmint.pipelines.graph.plan import (
    ASSUMED_LATENCY,
    CHARACTERS_A_TOKEN,
    ENOUGH,
    STEPS,
    TASKS_A_REQUEST,
    WHAT,
    Asked,
    CapLeft,
    Line,
    Pace,
    Plan,
    Seen,
    Stratum,
    line_of,
    output_of,
    text_tokens,
)
from textmint.pipelines.graph.waves import Cap
from textmint.pipelines.options.config import Config
from textmint.transforms.build_prompt import example_prompt
from textmint.transforms.core.attributes import Attributes
from textmint.transforms.core.elements import Kind, LabelSet, Task, TaskSettings
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.labels import label_id
from textmint.transforms.core.prompt_template import VERIFY_VARIABLES, PromptTemplate, TemplateError, Variables
from textmint.transforms.core.tasks import task_id, topics_of_rounds
from textmint.transforms.dataset.write_dataset import SHARD_BYTES
from textmint.transforms.ledger.compact import TokensPaid
from textmint.transforms.ledger.files import sound_files
from textmint.transforms.ledger.journal import waiting_replies
from textmint.transforms.ledger.table import LedgerFileError, read_replies
from textmint.transforms.llm.base import fingerprint_of
from textmint.transforms.sample_attributes import drafts_of
from textmint.transforms.storage import files

_SAMPLES: Final = 64  # prompts of each kind that are made to see how long they are
_TYPICAL_TASK: Final = "Classify a customer e-mail by the department that should answer it, or say that none should"
"""As long as tasks are that models brainstorm, on average."""
_TYPICAL_LABELS: Final = ("invoices", "deliveries", "returns", "complaints", "praise")
_LIST_TOKENS: Final = TASKS_A_REQUEST * (len(_TYPICAL_TASK) + 8) / CHARACTERS_A_TOKEN  # with the marks of JSON
_LABEL_SET_TOKENS: Final = 20.0
_CHOICE_TOKENS: Final = 8.0
_EXAMPLE_TOKENS: Final[Mapping[str, float]] = {"example": 25.0, "planned_example": 7.0}  # beside the text
_ENOUGH_ROWS: Final = 1_000  # whose size is not that of the files' schema
_PICKED: Final = 20_000  # replies whose attributes are looked up
_COLUMNS: Final = ("kind", "fingerprint", "draft_id", "attempt", "prompt_tokens", "output_tokens", "latency_ms")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a pass over the graph met that asks nothing.

    Args:
      tasks: how many the ledger, or the user's files, lead to.
      met: how many prompts of each kind, by what they ask for.
      held_back: how many of these the ledger cannot settle.
      to_label: how many examples there will be of tasks whose labels are held back.
      by_rank: how many examples have each rank (see core.admission), and how many of them the ledger answers.
    """

    tasks: int = 0
    met: Mapping[str, int] = dataclasses.field(default_factory=dict)
    held_back: Mapping[str, int] = dataclasses.field(default_factory=dict)
    to_label: int = 0
    by_rank: tuple[tuple[int, int], ...] = ()

    def answered_first(self, wanted: int) -> int:
        """Returns how many of the first so many examples the ledger answers; a target asks for these."""
        answered = 0
        for drafts, settled in self.by_rank:
            if wanted <= 0:
                break
            answered += min(settled, wanted)
            wanted -= drafts
        return answered


def make_plan(
    config: Config,
    *,
    processes: int = 1,
    seen: Mapping[str, Seen] | None = None,
    settled: Settled | None = None,
    entry: Mapping[str, Any] | None = None,
    paid: TokensPaid | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Works out what a run will ask, and what that takes.

    Args:
      config: of the run.
      processes: that ask at once.
      seen: what the ledger holds, by kind of prompt.
      settled: what it answers; None: nothing.
      entry: of the refresh in the manifest; None: there is none.
      paid: tokens that the refresh has paid for.
      notes: on these.
    """
    entry = entry or {}
    kept = share_kept(entry)
    tasks, prompts = prompts_of(config, settled, kept, share_verified(entry))
    asked = [_asked(config, each, (seen or {}).get(each.kind, Seen())) for each in prompts]
    limits = config.settings.limits
    pace = Pace(
        max_concurrency=limits.max_concurrency,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        processes=processes,
    )
    lines = tuple(line_of(each, pace) for each in asked)
    output = output_of(
        lines,
        tasks,
        kept,
        target=config.target_examples,
        bytes_a_row=bytes_a_row(entry),
        shard_bytes=SHARD_BYTES,
        plans_labels=config.plans_labels,
    )
    return Plan(
        lines=lines,
        pace=pace,
        output=output,
        target=config.target_examples,
        caps=tuple(_cap_left(cap, config, lines, paid or {}) for cap in caps_of(config)),
        notes=(*notes, *_notes(config, lines)),
    )


def _cap_left(cap: Cap, config: Config, lines: Sequence[Line], paid: TokensPaid) -> CapLeft:
    by_kind = {STEPS[step]: weights for step, weights in cap.meter.weights.items()}
    planned = sum(
        prompt * line.prompt_tokens + output * line.output_tokens
        for line in lines
        for prompt, output in [by_kind.get(line.what, (0, 0))]
    )
    unit = "usd" if cap.meter.name == "cost" else cap.meter.name
    return CapLeft(option=cap.option, unit=unit, most=cap.most, spent=spent(cap, config, paid), planned=planned)


def _notes(config: Config, lines: Sequence[Line]) -> Iterator[str]:
    estimated = [line.what for line in lines if line.requests and not line.measured_on]
    if estimated and config.typed["llm"] != "offline":
        yield (
            "what a model thinks before it answers is paid for as output, and is in no estimate: preview, with the "
            "same options, has it measured"
        )
    if any(language != "English" for language, _ in config.attributes.language.values) and "examples" in estimated:
        yield "tokens of other languages than English are estimated roughly; preview has them measured"


def share_kept(entry: Mapping[str, Any]) -> float | None:
    """Returns the share of replies to prompts of examples that became rows in the refresh's last run; None where its
    entry in the manifest does not say. Rows over a target were good ones."""
    try:
        steps = entry["steps"]
        kept = steps["SelectExamples"]["in"] if "SelectExamples" in steps else entry["counts"]["examples"]
        return min(1.0, float(kept / steps["LLMCall"]["kept"]))
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def share_verified(entry: Mapping[str, Any]) -> float | None:
    """Returns the share of these replies that led to a verification; None where the entry does not say."""
    try:
        return min(1.0, float(entry["steps"]["VerifyLabels"]["in"] / entry["steps"]["LLMCall"]["kept"]))
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def bytes_a_row(entry: Mapping[str, Any]) -> dict[str, float]:
    """Returns the size of a row of each dataset in the refresh's last publication, where it has enough of them."""
    sizes = {}
    for kind, listed in entry.get("files", {}).items():
        rows = sum(file["rows"] for file in listed)
        if rows >= _ENOUGH_ROWS:
            sizes[kind] = sum(file["bytes"] for file in listed) / rows
    return sizes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The prompts of one kind: how many there are in all, how many the ledger answers, and whether that is known."""

    kind: Kind
    total: int
    answered: int
    is_exact: bool


def prompts_of(
    config: Config, settled: Settled | None, kept: float | None = None, verified: float | None = None
) -> tuple[int, list[Prompts]]:
    """Works out how many prompts a run has.

    Args:
      config: of the run.
      settled: what the ledger answers; None: nothing.
      kept: the share of examples that become rows; None: not known, so all do.
      verified: the share of examples that are verified; None: not known, so all are.

    Returns:
      The number of tasks, and of each kind of prompt, in the order in which they are asked.
    """
    known = settled or Settled()
    met, held_back = collections.Counter(known.met), collections.Counter(known.held_back)
    answered = {what: number - held_back[what] for what, number in met.items()}
    a_task = ((config.expected_tasks - config.own_tasks) * config.examples_per_task + config.own_examples) / (
        config.expected_tasks
    )
    wanted = math.ceil(config.target_examples / (kept or 1.0)) if config.target_examples is not None else None
    found: list[Prompts] = []

    def add(kind: Kind, total: int, *, is_exact: bool) -> int:
        """Adds a kind of prompt; returns how many are to be asked."""
        is_answered = min(answered.get(WHAT[kind], 0), total)
        found.append(Prompts(kind=kind, total=total, answered=is_answered, is_exact=is_exact))
        return total - is_answered

    new_tasks = 0 if settled else config.expected_tasks
    is_exact = settled is not None
    if not config.tasks:
        lists, listed = config.task_requests, answered.get("task lists", 0)
        a_list = known.tasks / listed if listed >= ENOUGH and known.tasks else TASKS_A_REQUEST
        new_tasks = round((lists - listed) * a_list)
        if wanted is not None and config.max_tasks is None:  # where tasks run out, more are brainstormed
            missing = max(0, math.ceil(wanted / a_task) - known.tasks - new_tasks)
            lists, new_tasks = lists + math.ceil(missing / a_list), new_tasks + missing
        is_exact = not add("task_list", lists, is_exact=lists == config.task_requests) and is_exact
    if config.max_tasks is not None:
        new_tasks = min(new_tasks, max(0, config.max_tasks - known.tasks))
    tasks = known.tasks + new_tasks
    if wanted is not None:
        tasks, is_exact = min(tasks, wanted), False  # the first examples of all tasks come before the second ones
    if config.plans_labels:
        more = round(new_tasks * (1 - config.own_labelled / config.expected_tasks))
        total = met["label sets"] + more
        add("label_set", total if wanted is None else min(total, tasks), is_exact=is_exact)
    examples = met["examples"] + known.to_label + round(new_tasks * a_task)
    if wanted is not None:
        examples, answered["examples"] = wanted, known.answered_first(wanted)
    to_come = add(config.example_kind, examples, is_exact=is_exact and not held_back["label sets"])
    if config.verify_backend is not None:
        total = met["verifications"] + round(to_come * (1.0 if verified is None else verified))
        add("choice", min(total, examples), is_exact=is_exact and not to_come)
    return tasks, found


def _asked(config: Config, prompts: Prompts, seen: Seen) -> Asked:
    is_offline = config.typed["llm"] == "offline"  # it answers at once, in the process that asks
    return Asked(
        what=WHAT[prompts.kind],
        prompts=prompts.total,
        is_exact=prompts.is_exact,
        answered=prompts.answered,
        strata=_STRATA[prompts.kind](config),
        seen=seen,
        price=config.verify_price if prompts.kind == "choice" else config.price,
        latency=0.0 if is_offline else ASSUMED_LATENCY,
        latency_is_known=is_offline,
    )


# --- prompts as they will be sent


def _mean(characters: Iterable[int]) -> float:
    lengths = list(characters)
    return sum(lengths) / max(1, len(lengths)) / CHARACTERS_A_TOKEN


def _length(template: PromptTemplate, variables: Variables) -> Iterator[int]:
    try:
        yield len(template.render(variables))
    except TemplateError:  # of some tasks; they become rejects
        return


def _brainstorm_lengths(config: Config) -> Iterator[int]:
    rounds = min(config.task_requests, _SAMPLES)
    for topic in topics_of_rounds(config.topics, rounds, refresh=config.refresh, seed=config.seed):
        yield from _length(config.brainstorm_template, {"topic": topic})


def _sampled_tasks(config: Config) -> Sequence[Task]:
    entries = [(entry.text, entry.settings) for entry in config.own_sample] or [(_TYPICAL_TASK, None)]
    return [Task(task_id=task_id(text), task=text, settings=settings) for text, settings in entries]


def _label_set_lengths(config: Config) -> Iterator[int]:
    for task in _sampled_tasks(config):
        if not (task.settings and task.settings.labels):
            yield from _length(config.label_set_template, {"task": task.task})


def _example_lengths(config: Config) -> Iterator[int]:
    tasks = _sampled_tasks(config)
    for task in tasks:
        settings = task.settings or TaskSettings()
        asks_for = _with_labels(task, config.seed) if config.plans_labels else task
        drafts = drafts_of(
            asks_for,
            examples_per_task=-(-_SAMPLES // len(tasks)),
            attributes=config.attributes,
            seed=config.seed,
            refresh=config.refresh,
        )
        template = config.labelled_template if settings.labels and not config.plans_labels else config.example_template
        for draft in itertools.islice(drafts, _SAMPLES):
            try:
                yield len(example_prompt(draft, template).text)
            except TemplateError:
                continue


def _with_labels(task: Task, seed: int) -> LabelSet:
    labels = (task.settings.labels if task.settings else ()) or _TYPICAL_LABELS
    return LabelSet(
        task_id=task.task_id,
        task=task.task,
        labels=labels,
        label_ids=tuple(label_id(task.task_id, label) for label in labels),
        model="",
        template="",
        prompt_tokens=0,
        output_tokens=0,
        seed=seed,
        settings=task.settings,
    )


def _choice_lengths(config: Config) -> Iterator[int]:
    for task in _sampled_tasks(config):
        yield from _length(config.verify_template, {**VERIFY_VARIABLES, "task": task.task, "input_text": "-"})


def _task_list_strata(config: Config) -> Mapping[str, Stratum]:
    return _one(_brainstorm_lengths(config), _LIST_TOKENS)


def _label_set_strata(config: Config) -> Mapping[str, Stratum]:
    return _one(_label_set_lengths(config), _LABEL_SET_TOKENS)


def _one(characters: Iterable[int], output: float) -> Mapping[str, Stratum]:
    return {"": Stratum(share=1.0, prompt=_mean(characters), output=output)}


def _example_strata(config: Config) -> Mapping[str, Stratum]:
    """Divides the requests for examples by the language and the length of the texts that they ask for."""
    prompt, beside = _mean(_example_lengths(config)), _EXAMPLE_TOKENS[config.example_kind]
    texts = _texts(config.attributes)
    return {name: Stratum(share=share, prompt=prompt, output=beside + text) for name, (share, text) in texts.items()}


def _choice_strata(config: Config) -> Mapping[str, Stratum]:
    """Divides verifications by the texts that they show."""
    prompt, texts = _mean(_choice_lengths(config)), _texts(config.attributes)
    return {
        name: Stratum(share=share, prompt=prompt + text, output=_CHOICE_TOKENS) for name, (share, text) in texts.items()
    }


def _texts(attributes: Attributes) -> dict[str, tuple[float, float]]:
    """Returns the share and the estimated tokens of texts of each language and length."""
    return {
        _stratum(language, num_words): (float(of_language * of_length), text_tokens(num_words, language))
        for language, of_language in attributes.language.values
        for num_words, of_length in attributes.num_words.values
    }


def _stratum(language: str, num_words: str) -> str:
    return f"{language}, {num_words}"


_STRATA: Final[Mapping[Kind, Callable[[Config], Mapping[str, Stratum]]]] = {
    "task_list": _task_list_strata,
    "label_set": _label_set_strata,
    "example": _example_strata,
    "planned_example": _example_strata,
    "choice": _choice_strata,
}
"""How the requests of each kind are divided, and what each is estimated to take."""


# --- what the ledger holds


def replies_seen(config: Config) -> dict[str, Seen]:
    """Reads what the ledger holds of the replies of the run's models, by kind of prompt.

    Replies of all refreshes count. Those to prompts of examples, and to verifications of these, are divided by what
    the drafts asked for, which their ids tell.

    Raises:
      RunFailed: a file is damaged.
    """
    wanted = {fingerprint_of(config.backend): ("task_list", "label_set", config.example_kind)}
    if config.verify_backend is not None:
        verifier = fingerprint_of(config.verify_backend)
        wanted[verifier] = (*wanted.get(verifier, ()), "choice")
    tables: dict[str, list[pa.Table]] = {}
    for table in _tables(config.ledger):
        for fingerprint, kinds in wanted.items():
            of_model = table.filter(pc.equal(table["fingerprint"], fingerprint))
            for kind in kinds:
                found = of_model.filter(pc.equal(of_model["kind"], kind))
                if found.num_rows:
                    tables.setdefault(kind, []).append(found.select(_COLUMNS[2:]))
    joined = {kind: pa.concat_tables(found) for kind, found in tables.items()}
    drafts = _picked(joined[config.example_kind], config.attributes) if config.example_kind in joined else {}
    choices = {stable_hash("choice", draft_id): stratum for draft_id, stratum in drafts.items()}
    of_kind: Mapping[str, Mapping[str, str]] = {config.example_kind: drafts, "choice": choices}
    return {kind: _seen(table, of_kind.get(kind)) for kind, table in joined.items()}


def _picked(table: pa.Table, attributes: Attributes) -> dict[str, str]:
    """Returns the stratum of drafts, some of them where there are many."""
    ids = table["draft_id"].to_pylist()
    return {
        draft_id: _stratum(
            attributes.language.pick(draft_id, "language"), attributes.num_words.pick(draft_id, "num_words")
        )
        for draft_id in ids[:: -(-len(ids) // _PICKED)]
    }


def _tables(ledger: str) -> Iterator[pa.Table]:
    for file in sound_files(ledger):
        try:
            yield read_replies(files.read_file(file.path), _COLUMNS, name=file.name)
        except FileNotFoundError:  # merged by somebody at this moment
            continue
        except LedgerFileError as error:
            raise RunFailed(
                f"{file.path}, which holds replies that were paid for: {error}; bring it back from where you have a "
                "copy, or run generate with --rebuy, which keeps what is whole in it"
            ) from None
    if files.is_local(ledger):
        for table in waiting_replies(ledger):
            yield table.select(_COLUMNS)


def _seen(table: pa.Table, strata: Mapping[str, str] | None) -> Seen:
    """Sums up replies to prompts of one kind; `strata` has the stratum by draft, None where there is one alone."""

    def total(column: str) -> int:
        return int(pc.sum(table[column]).as_py())

    tokens = {"": (table.num_rows, total("prompt_tokens"), total("output_tokens"))}
    if strata is not None:
        sums: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0, 0])
        columns = (table[name].to_pylist() for name in ("draft_id", "prompt_tokens", "output_tokens"))
        for draft_id, prompt, output in zip(*columns, strict=True):
            if (stratum := strata.get(draft_id)) is not None:
                sums[stratum] = [so_far + more for so_far, more in zip(sums[stratum], (1, prompt, output), strict=True)]
        tokens = {name: (number, prompt, output) for name, (number, prompt, output) in sums.items()} or tokens
    return Seen(
        replies=table.num_rows,
        firsts=int(pc.sum(pc.equal(table["attempt"], 0)).as_py()),
        latency_ms=total("latency_ms"),
        tokens=tokens,
    )
