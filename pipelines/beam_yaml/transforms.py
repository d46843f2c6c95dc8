"""Offers the pipeline and its steps to Beam YAML, as transforms that take and give rows; `providers.yaml` lists them.

    python -m textmint.pipelines.beam_yaml       prints the path of that listing, for `providers: - include: PATH`

The config of each holds options of `generate`, under the same names and with the same defaults, in the form that they
have in a file of `--config`. What a step refuses goes to the output that `error_handling: {output: NAME}` names, as
rows with the columns of OUTPUT/rejects; without it refused rows are left out, and counted.
"""

# No `from __future__ import annotations`: Beam YAML reads the annotations of `__init__` as types.

import atexit
import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Optional

import apache_beam as beam
import pyarrow.parquet as pq
import yaml
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from msgspec.structs import replace
from textmint.pipelines.beam_yaml import rows as rows_of
from textmint.pipelines.cli.run import (
    before_paying,
    hold_refresh,
    known_to_workers,
    merge_when_ended,
    published_entry,
    target_of,
)
from textmint.pipelines.generate import build
from textmint.pipelines.graph.passes_checks import PassesChecks
from textmint.pipelines.graph.previous_run import inspect_output, prepare_to_ask
from textmint.pipelines.graph.up_to_date import KEY, is_up_to_date, run_key
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.parse import parse
from textmint.pipelines.options.table import OPTIONS
from textmint.pipelines.runners.choose import is_local
from textmint.transforms.build_prompt import BuildPrompt
from textmint.transforms.core.elements import Draft, Example, Prompt, Reject, Reply, Task, TaskList
from textmint.transforms.dataset.publish import Target
from textmint.transforms.dataset.schema import DatasetKind, schema_of
from textmint.transforms.flatten import Flatten, split_list
from textmint.transforms.ledger.join_ledger import JoinLedger
from textmint.transforms.llm.engine import close_engines
from textmint.transforms.llm_call import LLMCall
from textmint.transforms.parse_json import ParseJSON, is_example
from textmint.transforms.quality.check_quality import CheckQuality
from textmint.transforms.quality.checks import Checks
from textmint.transforms.sample_attributes import SampleAttributes
from textmint.transforms.storage import files
from textmint.transforms.task_generate import TaskGenerate, is_task_list, task_list_fault, task_seeds

_LOG = logging.getLogger("textmint")

PROVIDERS = Path(__file__).with_name("providers.yaml")
"""The listing, in the repository and in an installation."""

_MODEL = tuple(option.name for option in OPTIONS if option.group == "model" and option.name != "retry_rejects")
"""The options of whatever asks a model."""

_OF_A_LAUNCHER = frozenset(("config", "push_to_hub", "max_cost", "max_tokens", "target_examples", "max_waves"))
"""Options that a launcher sees to, which runs the graph several times; here it is a part of another."""

ErrorHandling = Optional[Mapping[str, str]]  # noqa: UP045  # read by Beam YAML on Python 3.10 too


def config_of(
    options: Mapping[str, Any],
    beam_options: PipelineOptions,
    *,
    output: Optional[str] = None,  # noqa: UP045
    of_a_run: bool = True,
) -> Config:
    """Parses and checks options of `generate` as they stand in YAML; `output` goes before the option of that name.

    Raises:
      OptionError: with everything that is wrong, a line each.
    """
    cloud = beam_options.view_as(GoogleCloudOptions)
    given = {"project": cloud.project, "region": cloud.region, **options, **({"output": output} if output else {})}
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".yaml") as file:
        yaml.safe_dump(given, file)
        file.flush()
        return parse([f"--config={file.name}"], of_a_run=of_a_run)[0]


class _Transform(beam.PTransform):
    """A transform whose config holds options of `generate`. They are checked as soon as a pipeline uses it."""

    options: ClassVar[tuple[str, ...]] = ()  # (): all but _OF_A_LAUNCHER
    refuses: ClassVar[bool] = True

    def __init__(self, error_handling: ErrorHandling = None, **options: Any) -> None:
        super().__init__()
        known = self.options or sorted(set(options) - _OF_A_LAUNCHER)  # the parser knows best which exist
        if unknown := [name for name in options if name not in known]:
            name = type(self).__name__
            raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known)}")
        if error_handling is not None and (set(error_handling) != {"output"} or not error_handling["output"]):
            raise ValueError("error_handling is {output: NAME}, the name of the output for what is refused")
        self._typed = options
        self._rejects = str(error_handling["output"]) if error_handling else None

    def _config(self, pipeline: beam.Pipeline) -> Config:
        """Returns the checked Config, of which a step uses its part. No folder is made for its output."""
        with tempfile.TemporaryDirectory() as folder:
            return config_of(self._typed, pipeline.options, output=folder, of_a_run=False)

    def _outputs(self, rows: Any, rejects: Any, columns: rows_of.Columns) -> Any:
        """Gives rows, and rows of rejects if they are asked for, their types."""
        rows.element_type = rows_of.row_type(columns)
        if self._rejects is None:
            if self.refuses:
                name = type(self).__name__
                _LOG.warning("%s leaves out what it refuses; error_handling: {output: NAME} keeps it", name)
            return rows
        rejects.element_type = rows_of.row_type(rows_of.REJECT)
        return {"good": rows, self._rejects: rejects}


_REJECTS = "rejects"


def _to_rows(element: Any, keep_raw: bool = False) -> Iterator[Any]:
    row = beam.Row(**rows_of.to_columns(element, keep_raw=keep_raw))
    yield beam.pvalue.TaggedOutput(_REJECTS, row) if isinstance(element, Reject) else row


class _Step(_Transform):
    """A step on rows. Subclasses say what it takes and gives; Beam YAML shows a user the Args of their docstrings."""

    takes: ClassVar[rows_of.Columns]  # columns that its input must have; others may be there, and are left behind
    gives: ClassVar[rows_of.Columns]
    from_row: ClassVar[Any]
    element: ClassVar[type]

    def expand(self, rows: Any) -> Any:
        """Converts rows to elements, applies the step, and converts back."""
        rows_of.check_columns(rows.element_type, self.takes)
        config = self._config(rows.pipeline)
        elements = rows | "FromRows" >> beam.Map(type(self).from_row).with_output_types(self.element)
        keep_raw = config.keep_raw and self.gives is rows_of.EXAMPLE
        columns = rows_of.example_columns(keep_raw) if keep_raw else self.gives
        to_rows = beam.FlatMap(_to_rows, keep_raw).with_outputs(_REJECTS, main="rows")
        kept, rejects = self._apply(elements, config) | "ToRows" >> to_rows
        return self._outputs(kept, rejects, columns)

    def _apply(self, elements: Any, config: Config) -> Any:
        raise NotImplementedError


class TextmintFlatten(_Step):
    """Makes tasks of rows with a column `task`: `task_id`, `task` and where it comes from, each task once. Blank and
    too long ones and repeats are refused.

    Args:
      error_handling: `output` names the output for what is refused.
      options: max_tasks, seed.
    """

    options = ("max_tasks", "seed")
    takes: ClassVar = {"task": str}
    gives = rows_of.TASK
    from_row = staticmethod(rows_of.to_task_list)
    element = TaskList

    def _apply(self, elements: Any, config: Config) -> Any:
        return elements | Flatten(config.max_tasks, config.seed)


class TextmintSampleAttributes(_Step):
    """Makes drafts of examples of tasks: `draft_id`, the task, `replica`, `seed`, `language`, `difficulty`, `clarity`,
    `num_words`.

    Args:
      error_handling: nothing is refused here.
      options: examples_per_task, language, difficulty, clarity, num_words, seed.
    """

    options = ("examples_per_task", "language", "difficulty", "clarity", "num_words", "seed")
    takes: ClassVar = {"task_id": str, "task": str}
    gives = rows_of.DRAFT
    from_row = staticmethod(rows_of.to_task)
    element = Task
    refuses = False

    def _apply(self, elements: Any, config: Config) -> Any:
        return elements | SampleAttributes(config.examples_per_task, config.attributes, config.seed)


class TextmintBuildPrompt(_Step):
    """Adds `prompt` to drafts, the text that is to be sent, and `template`, which made it. The rows are spread over
    workers in groups, so that the step that asks is kept busy on every engine.

    Args:
      error_handling: nothing is refused here.
      options: example_template.
    """

    options = ("example_template",)
    takes = rows_of.DRAFT
    gives = rows_of.PROMPT
    from_row = staticmethod(rows_of.to_draft)
    element = Draft
    refuses = False

    def _apply(self, elements: Any, config: Config) -> Any:
        return elements | JoinLedger() | BuildPrompt(config.example_template)


class TextmintLLMCall(_Step):
    """Adds `reply` to prompts, the model's answer, and what is known of it: `request_id`, `model`, `finish_reason`,
    `prompt_tokens`, `output_tokens`, `attempts`. Prompts that got no answer are refused. There is no ledger: a second
    run pays again.

    Args:
      error_handling: `output` names the output for what is refused.
      options: those of the group `model` of `generate --help`, but for retry_rejects.
    """

    options = _MODEL
    takes = rows_of.PROMPT
    gives = rows_of.REPLY
    from_row = staticmethod(rows_of.to_prompt)
    element = Prompt

    def _apply(self, elements: Any, config: Config) -> Any:
        return elements | LLMCall(
            config.backend,
            is_example,
            settings=config.settings,
            parse_attempts=config.parse_attempts,
            fault_of=PassesChecks(Checks(names=())).fault_of,  # the checks are another step's
        )


class TextmintParseJSON(_Step):
    """Reads replies as examples, with the columns of OUTPUT/examples. Replies that cannot be read are refused.

    Args:
      error_handling: `output` names the output for what is refused.
      options: keep_raw.
    """

    options = ("keep_raw",)
    takes = rows_of.REPLY
    gives = rows_of.EXAMPLE
    from_row = staticmethod(rows_of.to_reply)
    element = Reply

    def _apply(self, elements: Any, config: Config) -> Any:
        return elements | ParseJSON(config.keep_raw)


class TextmintCheckQuality(_Step):
    """Keeps the examples that pass the checks of one example by itself.

    Args:
      error_handling: `output` names the output for what is refused.
      options: checks, length_slack, max_label_columns, language_min_confidence; llm, for the embedded model writes
        English whatever it is asked for; keep_raw, where the column raw_reply is to stay.
    """

    options = ("checks", "length_slack", "max_label_columns", "language_min_confidence", "llm", "keep_raw")
    takes = rows_of.EXAMPLE
    gives = rows_of.EXAMPLE
    from_row = staticmethod(rows_of.to_example)
    element = Example

    def _apply(self, elements: Any, config: Config) -> Any:
        return elements | CheckQuality(config.checks)


class TextmintTaskGenerate(_Transform):
    """Lets the model brainstorm tasks: rows with a column `task`, for `TextmintFlatten`, and where they come from.

    Args:
      error_handling: `output` names the output for replies that hold no list.
      options: task_requests, topics, brainstorm_template, refresh, seed, and those of the group `model` of
        `generate --help`, but for retry_rejects.
    """

    options = ("task_requests", "topics", "brainstorm_template", "refresh", "seed", *_MODEL)
    _yaml_requires_inputs = False  # by which Beam YAML knows that it stands at a beginning

    def expand(self, begin: Any) -> Any:
        """Gives rows of tasks, and of rejects if they are asked for."""
        config = self._config(begin.pipeline)
        seeds = task_seeds(config.task_requests, topics=config.topics, refresh=config.refresh, seed=config.seed)
        call = LLMCall(
            config.backend,
            is_task_list,
            stage="TaskGenerate",
            settings=config.settings,
            parse_attempts=config.parse_attempts,
            fault_of=task_list_fault,
        )
        lists = begin | "Seeds" >> beam.Create(seeds) | JoinLedger() | TaskGenerate(config.brainstorm_template, call)
        rows, rejects = lists | "ToRows" >> beam.FlatMap(_to_items).with_outputs(_REJECTS, main="rows")
        return self._outputs(rows, rejects, rows_of.ITEM)


def _to_items(element: Any) -> Iterator[Any]:
    """Yields the items of a list, and those that are no tasks, which `Flatten` would otherwise refuse."""
    if isinstance(element, Reject):
        yield from _to_rows(element)
        return
    known = {name: getattr(element, name) for name in rows_of.ITEM if name != "task"}
    for text in element.items:
        yield beam.Row(**{name: text if name == "task" else known[name] for name in rows_of.ITEM})
    for refused in split_list(replace(element, items=())):
        yield from _to_rows(refused)


class TextmintGenerate(_Transform):
    """Gives rows of examples: the whole pipeline, as `generate` runs it, with its ledger and its dataset folder. The
    rows come when the folder is complete, and are those in OUTPUT/examples; a run that has nothing to do reads them.

    Args:
      error_handling: `output` names the output for OUTPUT/rejects.
      options: those of `generate`, see `generate --help`, but config, push_to_hub, max_cost, max_tokens,
        target_examples and max_waves.
    """

    _yaml_requires_inputs = False

    def expand(self, begin: Any) -> Any:
        """Gives rows of examples, and of rejects if they are asked for."""
        pipeline = begin.pipeline
        config = config_of(self._typed, pipeline.options)
        target = target_of(config)
        _hold_until_exit(config, target, is_local(pipeline.options))
        previous = inspect_output(config)
        key = run_key(config, previous, target.description["versions"])
        entry = published_entry(config)
        if is_up_to_date(config, previous, key, entry):
            entries = begin | "Entry" >> beam.Create([entry])
        else:
            described = {**target.description, KEY: key}
            target = dataclasses.replace(target, description=described, paid=previous.paid_by(config.refresh))
            before_paying(config, entry)
            entries = build(pipeline, config, target, prepare_to_ask(config, previous, target.staging))
        rows = entries | "Examples" >> _ReadRows("examples", config.output, config.keep_raw)
        rejects = entries | "Rejects" >> _ReadRows("rejects", config.output) if self._rejects else None
        return self._outputs(rows, rejects, rows_of.example_columns(config.keep_raw))


def _paths(entry: Any, kind: DatasetKind, output: str) -> Iterator[str]:
    for file in entry["files"][kind]:
        yield files.join(output, file["path"])


def _read(path: str, columns: list[str]) -> Iterator[Any]:
    with files.open_file(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=columns):
            for row in batch.to_pylist():
                yield beam.Row(**{name: row[name] for name in columns})


@dataclasses.dataclass(eq=False)
class _ReadRows(beam.PTransform):
    """Reads the rows of one of a run's datasets, by its entry in the manifest."""

    kind: DatasetKind
    output: str
    keep_raw: bool = False

    def expand(self, entries: Any) -> Any:
        columns = schema_of(self.kind, keep_raw=self.keep_raw).names
        return (
            entries
            | "Paths" >> beam.FlatMap(_paths, self.kind, self.output).with_output_types(str)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_read, columns)
        )


_HELD: dict[tuple[str, str], contextlib.ExitStack] = {}
"""What each refresh of each folder holds in this process. Beam YAML builds a pipeline and runs it afterwards, and tells
nobody when that has ended; so it lasts until the process ends, or builds another pipeline for the same refresh."""


def _hold_until_exit(config: Config, target: Target, local: bool) -> None:
    place = config.output, target.partition
    if place in _HELD:
        _HELD.pop(place).close()
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_refresh(target))
        stack.callback(merge_when_ended, config.ledger, target.run_id)
        stack.callback(close_engines)
        stack.enter_context(known_to_workers(local))
        _HELD[place] = stack.pop_all()


@atexit.register
def _let_go() -> None:
    while _HELD:
        _HELD.popitem()[1].close()
