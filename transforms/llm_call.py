"""LLMCall: prompts -> the model's replies. The only step that waits, pays and can be throttled."""

import dataclasses
import queue
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from transforms import progress
from transforms.attributes import ATTRIBUTES
from transforms.elements import Draft, Prompt, Reject, Reply, Usage
from transforms.errors import RunFailed
from transforms.identity import stable_hash
from transforms.llm.base import Answer, Backend, Doomed, Refused, Request
from transforms.llm.engine import Done, Engine, Settings, engine_for
from transforms.metrics import StepCounters

IsReadable = Callable[[Prompt, Answer], bool]


def fingerprint_of(backend: Backend) -> str:
    """A back end -> one word for its model and every parameter that changes the answer."""
    return stable_hash("backend", dict(backend.fingerprint()))


def request_for(prompt: Prompt, fingerprint: str, attempt: int = 0) -> Request:
    """A prompt and the `fingerprint_of` the back end it goes to -> the request, whose identity holds all that changes
    the answer.

    Args:
      attempt: counts the times that the prompt is asked because the reply before could not be read, from 0.
    """
    request_id = stable_hash("request", prompt.prompt_id, prompt.text, fingerprint, attempt)
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


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt that is out, and what it took so far."""

    prompt: Prompt
    request: Request
    attempt: int
    usage: Usage
    timestamp: Any
    windows: tuple[Any, ...]


class _Call(beam.DoFn):
    def __init__(
        self, backend: Backend, stage: str, settings: Settings, is_readable: IsReadable, parse_attempts: int
    ) -> None:
        self._backend = backend
        self._fingerprint = fingerprint_of(backend)
        self._stage = stage
        self._settings = settings
        self._ahead = 2 * settings.limits.max_concurrency
        self._is_readable = is_readable
        self._parse_attempts = parse_attempts
        self._counters = StepCounters(stage)
        self._is_step = stage == "LLMCall"  # inside another step, that one counts what went in and came out
        self._engine: Engine
        self._done: queue.SimpleQueue[Done[_Asked]]
        self._out: int
        self._throttled = 0.0  # seconds that were not yet counted

    def start_bundle(self) -> None:
        self._engine = engine_for(self._backend, self._settings)
        self._done = queue.SimpleQueue()
        self._out = 0

    def process(
        self,
        prompt: Prompt | Reject,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Reply | Reject]:
        if isinstance(prompt, Reject):
            yield prompt
            return
        if self._is_step:
            self._counters.add("in")
        self._ask(prompt, 0, Usage(), timestamp, (window,))
        # Twice the window: while this thread hands a reply on, the engine has as many more to send.
        while self._out >= self._ahead or not self._done.empty():
            yield from self._next()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._out:
            yield from self._next()
        progress.flush()

    def _ask(self, prompt: Prompt, attempt: int, usage: Usage, timestamp: Any, windows: tuple[Any, ...]) -> None:
        request = request_for(prompt, self._fingerprint, attempt)
        self._engine.submit(request, _Asked(prompt, request, attempt, usage, timestamp, windows), self._done)
        self._out += 1

    def _next(self) -> Iterator[WindowedValue]:
        """Waits for one request to end -> its result, or nothing when the prompt is asked again."""
        done = self._done.get()
        self._out -= 1
        if isinstance(done.error, Doomed):
            raise RunFailed(f"{done.error.detail}; {done.error.remedy}")
        asked = done.token
        usage = asked.usage + self._usage(done)
        answer = done.answer
        if answer is not None and not self._is_good_enough(asked, answer):
            usage = dataclasses.replace(usage, asked_again=usage.asked_again + 1)
            self._counters.add("requests.asked_again")
            self._ask(asked.prompt, asked.attempt + 1, usage, asked.timestamp, asked.windows)
            return
        result = self._result(asked, done, usage)
        if self._is_step:
            self._counters.outcome(result)
        progress.add(f"{self._stage}.{'failed' if isinstance(result, Reject) else 'replies'}")
        yield WindowedValue(result, asked.timestamp, asked.windows)

    def _is_good_enough(self, asked: _Asked, answer: Answer) -> bool:
        """Is it readable, or is there no sense in asking again? What a filter withheld it will withhold again."""
        return (
            asked.attempt + 1 >= self._parse_attempts
            or answer.finish_reason == "content_filter"
            or self._is_readable(asked.prompt, answer)
        )

    def _usage(self, done: Done[_Asked]) -> Usage:
        throttled = self._engine.take_throttled_seconds()
        self._throttled += throttled
        seconds = int(self._throttled)  # Beam's counter is in whole seconds; the rest waits for the next
        self._throttled -= seconds
        answer = done.answer
        usage = Usage(
            requests=done.sent,
            retries=max(0, done.sent - 1),
            prompt_tokens=answer.prompt_tokens if answer else 0,
            output_tokens=answer.output_tokens if answer else 0,
            latencies_ms=(round(done.latency * 1000),) if answer else (),
            throttled_ms=round(throttled * 1000),
        )
        self._counters.add("requests.sent", usage.requests)
        self._counters.add("requests.retries", usage.retries)
        self._counters.add("tokens.prompt", usage.prompt_tokens)
        self._counters.add("tokens.output", usage.output_tokens)
        if seconds:
            # The name under which Dataflow's autoscaler looks for time that more workers would not help with
            # (apache_beam/ml/inference/base.py, RemoteModelHandler).
            self._counters.add("cumulativeThrottlingSeconds", seconds)
        return usage

    def _result(self, asked: _Asked, done: Done[_Asked], usage: Usage) -> Reply | Reject:
        if done.answer is None:
            return Reject.of_prompt(
                asked.prompt,
                stage=self._stage,
                reason="request_failed",
                detail=done.error.detail if done.error else "",
                can_retry=not isinstance(done.error, Refused),
                raw="",
                usage=usage,
            )
        return Reply(
            prompt=asked.prompt,
            request_id=asked.request.request_id,
            text=done.answer.text,
            finish_reason=done.answer.finish_reason,
            model=done.answer.model,
            prompt_tokens=done.answer.prompt_tokens,
            output_tokens=done.answer.output_tokens,
            usage=usage,
        )


def any_answer(prompt: Prompt, answer: Answer) -> bool:
    """Takes every answer as it comes."""
    return True


@dataclasses.dataclass(eq=False)
class LLMCall(beam.PTransform):
    """Prompt -> Reply, or a Reject where no reply could be had. Rejects pass through.

    The window of requests spans all elements of a bundle and all bundles of a process. It cannot span bundles of a few
    elements one after the other, so `ShardElements` should stand before it, or before the step that builds its prompts.

    Args:
      backend: the model.
      is_readable: whether an answer can be used, a function at the top level of a module; one that cannot is asked
        for again.
      stage: the step that rejects and counters name.
      settings: how requests are sent.
      parse_attempts: how many times a prompt is asked at most because its reply could not be read.

    Raises:
      RunFailed: while it runs, when no request can be answered (a wrong key, model or URL), or most fail.
    """

    backend: Backend
    is_readable: IsReadable = any_answer
    stage: str = "LLMCall"
    settings: Settings = dataclasses.field(default_factory=Settings)
    parse_attempts: int = 2

    def expand(self, prompts: beam.PCollection[Prompt | Reject]) -> beam.PCollection[Reply | Reject]:
        call = _Call(self.backend, self.stage, self.settings, self.is_readable, self.parse_attempts)
        return prompts | "Call" >> beam.ParDo(call)
