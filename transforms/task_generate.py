"""TaskGenerate: brainstorms lists of tasks with the model, or reads them from the user's own files."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import apache_beam as beam
from textmint.transforms.core import progress
from textmint.transforms.core.do_fns import MakePrompt
from textmint.transforms.core.elements import Prompt, Reject, Reply, TaskList, TaskSeed
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.core.prompt_template import PromptTemplate
from textmint.transforms.core.tasks import read_tasks, topics_of_rounds
from textmint.transforms.llm.base import Answer
from textmint.transforms.parsing.lists import parse_string_list
from textmint.transforms.parsing.results import Refusal
from textmint.transforms.storage import files

_STEP = "TaskGenerate"
_ROUNDS_PER_SPAN = 1_000
_TASKS_PER_LIST = 1_000  # of a file; bounds the size of an element


def task_seeds(
    rounds: int, *, topics: Iterable[str] = (), refresh: str = "base", seed: int = 42, start: int = 0
) -> list[TaskSeed]:
    """Makes a seed for each brainstorm round from `start` up to `rounds`.

    The label of the refresh is part of a seed's identity, so that each refresh brainstorms anew.

    Args:
      rounds: the first round that is not wanted any more.
      topics: the fields of life that rounds are steered to; none: the paper's bare prompt.
      refresh: the label of this refresh.
      seed: the user's.
      start: the round to begin with.
    """
    chosen = topics_of_rounds(tuple(topics), rounds, refresh=refresh, seed=seed, start=start)
    return [
        TaskSeed(seed_id=stable_hash("task_seed", refresh, round_, seed), round=round_, topic=topic, seed=seed)
        for round_, topic in enumerate(chosen, start=start)
    ]


def spans_of(rounds: int) -> list[tuple[int, int]]:
    """Splits brainstorm rounds into a few spans, each as its first round and the one after its last."""
    return [(first, min(first + _ROUNDS_PER_SPAN, rounds)) for first in range(0, rounds, _ROUNDS_PER_SPAN)]


@dataclasses.dataclass(frozen=True, slots=True)
class SeedsOf:
    """Makes the seeds of one of `spans_of`; the arguments are those of `task_seeds`."""

    topics: tuple[str, ...]
    refresh: str
    seed: int

    def __call__(self, span: tuple[int, int]) -> list[TaskSeed]:
        """Returns the seeds of a span, in order."""
        progress.add(f"{_STEP}.in", span[1] - span[0])
        progress.flush()
        return task_seeds(span[1], topics=self.topics, refresh=self.refresh, seed=self.seed, start=span[0])


def brainstorm_prompt(seed: TaskSeed, template: PromptTemplate) -> Prompt:
    """Makes the prompt that asks for a list of tasks."""
    return Prompt(kind="task_list", subject=seed, text=template.render({"topic": seed.topic}), template=template.name)


def read_task_list(reply: Reply) -> TaskList | Reject:
    """Reads the list of tasks in a reply to a brainstorm prompt, or says why there is none."""
    parsed = parse_string_list(reply.text, reply.finish_reason)
    if isinstance(parsed, Refusal):
        return Reject.of_reply(reply, stage=_STEP, reason=parsed.reason, detail=parsed.detail)
    seed = reply.prompt.subject
    if not isinstance(seed, TaskSeed):
        raise TypeError(f"a list of tasks was asked for by a {type(seed).__name__}")
    return TaskList(
        source="brainstorm",
        round=seed.round,
        topic=seed.topic,
        items=parsed.value,
        refused=parsed.refused,
        model=reply.model,
        template=reply.prompt.template,
        usage=reply.usage,
    )


def task_list_fault(prompt: Prompt, answer: Answer) -> Refusal | None:
    """Says why no list of tasks can be read from an answer; None where one can."""
    parsed = parse_string_list(answer.text, answer.finish_reason)
    return parsed if isinstance(parsed, Refusal) else None


def is_task_list(prompt: Prompt, answer: Answer) -> bool:
    """Says whether `read_task_list` would take an answer."""
    return task_list_fault(prompt, answer) is None


class _ReadTaskList(beam.DoFn):
    def __init__(self) -> None:
        self._counters = StepCounters(_STEP)

    def process(self, reply: Reply | Reject) -> Iterator[TaskList | Reject]:
        self._counters.add("in")
        result = reply if isinstance(reply, Reject) else read_task_list(reply)
        self._counters.outcome(result)
        yield result


def _read_task_file(path: str) -> Iterator[TaskList]:
    with files.open_text(path) as file:
        tasks = read_tasks(file, path)
        while entries := tuple(itertools.islice(tasks, _TASKS_PER_LIST)):
            settings = tuple(entry.settings for entry in entries)
            yield TaskList(items=tuple(entry.text for entry in entries), settings=settings if any(settings) else ())


@dataclasses.dataclass(eq=False)
class TaskGenerate(beam.PTransform):
    """Brainstorms tasks with the model: a TaskList for each seed, or a Reject for a reply that holds no list.

    Args:
      template: the brainstorm prompt.
      llm: what answers prompts, a `PTransform` from Prompt to Reply or Reject.
    """

    template: PromptTemplate
    llm: beam.PTransform

    def expand(self, seeds: beam.PCollection[TaskSeed]) -> beam.PCollection[TaskList | Reject]:
        prompt = beam.ParDo(MakePrompt(_STEP, brainstorm_prompt, self.template)).with_output_types(Prompt | Reject)
        return seeds | "Prompt" >> prompt | self.llm | "Parse" >> beam.ParDo(_ReadTaskList())


@dataclasses.dataclass(eq=False)
class ReadTasks(beam.PTransform):
    """Reads the user's own tasks from files, instead of `TaskGenerate`.

    Args:
      pattern: a path or pattern that Beam's FileSystems open; see `tasks.read_tasks` for the formats.
    """

    pattern: str

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection[TaskList]:
        return (
            pipeline
            | "Pattern" >> beam.Create([self.pattern])
            | "Match" >> beam.FlatMap(files.match_paths).with_output_types(str)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_read_task_file)
        )
