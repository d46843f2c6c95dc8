"""LLMCall: prompts -> the model's replies. The only step that waits, pays and can be throttled."""

import dataclasses
import queue
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from transforms import progress
from transforms.attributes import ATTRIBUTES
from transforms.elements import Draft, Prompt, Reject, Reply
from transforms.identity import fraction, stable_hash
from transforms.llm.base import Backend, Request
from transforms.llm.engine import Done, Engine, engine_for
from transforms.metrics import StepCounters

_Token = tuple[Prompt, Request, Any, Any]  # ... its timestamp and its windows


def request_for(prompt: Prompt, backend: Backend, attempt: int = 0) -> Request:
    """A prompt and the back end it goes to -> the request, whose identity holds all that changes the answer.

    Args:
      attempt: counts the times that the prompt is asked because the reply before could not be used, from 0.
    """
    request_id = stable_hash("request", prompt.prompt_id, prompt.text, dict(backend.fingerprint()), attempt)
    subject = prompt.subject
    if isinstance(subject, Draft):
        variables = {"task": subject.task, **{name: getattr(subject, name) for name in ATTRIBUTES}}
    else:
        variables = {"topic": subject.topic or ""}
    return Request(
        request_id=request_id,
        kind=prompt.kind,
        text=prompt.text,
        seed=int(request_id[:8], 16) >> 1,
        variables=variables,
    )


class _Shard(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, prompt: Prompt | Reject) -> Iterator[tuple[str, Prompt | Reject]]:
        prompt_id = prompt.id if isinstance(prompt, Reject) else prompt.prompt_id
        yield f"{fraction('shard', prompt_id) % self._shards:04x}", prompt


class _Call(beam.DoFn):
    def __init__(self, backend: Backend, stage: str, max_concurrency: int) -> None:
        self._backend = backend
        self._stage = stage
        self._max_concurrency = max_concurrency
        self._counters = StepCounters(stage)
        self._is_step = stage == "LLMCall"  # inside another step, that one counts what went in and came out
        self._engine: Engine
        self._done: queue.SimpleQueue[Done[_Token]]
        self._outstanding: int

    def setup(self) -> None:
        self._engine = engine_for(self._backend, self._max_concurrency)

    def start_bundle(self) -> None:
        self._done = queue.SimpleQueue()
        self._outstanding = 0

    def process(
        self,
        group: tuple[str, Iterable[Prompt | Reject]],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Reply | Reject]:
        for prompt in group[1]:
            if isinstance(prompt, Reject):
                yield prompt
                continue
            if self._is_step:
                self._counters.add("in")
            request = request_for(prompt, self._backend)
            self._engine.submit(request, (prompt, request, timestamp, (window,)), self._done)
            self._outstanding += 1
            while self._outstanding >= 2 * self._max_concurrency or not self._done.empty():
                yield self._next()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._outstanding:
            yield self._next()
        progress.flush()

    def _next(self) -> WindowedValue:
        done = self._done.get()
        self._outstanding -= 1
        prompt, request, timestamp, windows = done.token
        result = self._result(prompt, request, done)
        if self._is_step:
            self._counters.outcome(result)
        progress.add(f"{self._stage}.{'failed' if isinstance(result, Reject) else 'replies'}")
        return WindowedValue(result, timestamp, windows)

    def _result(self, prompt: Prompt, request: Request, done: Done[_Token]) -> Reply | Reject:
        if done.answer is None:
            return Reject.of_prompt(
                prompt,
                stage=self._stage,
                reason="request_failed",
                detail=done.error or "",
                can_retry=True,
                raw="",
            )
        self._counters.add("tokens.prompt", done.answer.prompt_tokens)
        self._counters.add("tokens.output", done.answer.output_tokens)
        return Reply(
            prompt=prompt,
            request_id=request.request_id,
            text=done.answer.text,
            finish_reason=done.answer.finish_reason,
            model=done.answer.model,
            prompt_tokens=done.answer.prompt_tokens,
            output_tokens=done.answer.output_tokens,
            attempts=1,
        )


@dataclasses.dataclass(eq=False)
class LLMCall(beam.PTransform):
    """Prompt -> Reply, or a Reject where no reply could be had. Rejects pass through.

    Engines choose how many elements they hand over at once, and it can be as few as one. So prompts are first grouped
    by a hashed shard; the window of requests spans all the shards of a bundle.

    Args:
      backend: the model.
      stage: the step that rejects and counters name.
      max_concurrency: requests in flight in one process.
      shards: how many groups; the number of workers that can take part is at most that.
    """

    backend: Backend
    stage: str = "LLMCall"
    max_concurrency: int = 64
    shards: int = 256

    def expand(self, prompts: beam.PCollection[Prompt | Reject]) -> beam.PCollection[Reply | Reject]:
        return (
            prompts
            | "Shard" >> beam.ParDo(_Shard(self.shards))
            | "GroupByShard" >> beam.GroupByKey()
            | "Call" >> beam.ParDo(_Call(self.backend, self.stage, self.max_concurrency))
        )
