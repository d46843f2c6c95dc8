"""LLMCall: asks a model each prompt, and gives its reply. The only step that waits, pays and can be throttled."""

import dataclasses
import queue
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue
from msgspec.structs import replace
from textmint.transforms.core import progress
from textmint.transforms.core.admission import Admission
from textmint.transforms.core.elements import HELD_BACK, Prompt, Reject, Reply, Usage
from textmint.transforms.core.errors import RunFailed
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.ledger.writer import Ledger
from textmint.transforms.llm.attempts import (
    AttemptRules,
    IsReadable,
    NextStep,
    answer_fields,
    request_for,
    with_reply,
)
from textmint.transforms.llm.base import Answer, Backend, FatalError, Refused, Request, fingerprint_of
from textmint.transforms.llm.engine import Engine, Settings, engine_for
from textmint.transforms.llm.jobs import Done
from textmint.transforms.llm.prices import Price
from textmint.transforms.llm.reject_rate import Fault
from textmint.transforms.llm.request_counters import RequestCounters
from textmint.transforms.storage.lease import keep

FaultOf = Callable[[Prompt, Answer], Fault | None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt that is out, and what it took so far."""

    prompt: Prompt
    request: Request
    attempts: int  # how many replies may be asked for
    came: int  # how many came before this one, in this run
    usage: Usage
    timestamp: Any
    windows: tuple[Any, ...]


class _Call(beam.DoFn):
    def __init__(self, call: "LLMCall") -> None:
        self._backend = call.backend
        self._rules = AttemptRules(
            fingerprint_of(call.backend), call.is_readable, call.parse_attempts, call.retry_rejects, call.is_wanted
        )
        self._stage = call.stage
        self._settings = call.settings
        self._ahead = 2 * call.settings.limits.max_concurrency
        self._ledger = call.ledger
        self._fault_of = call.fault_of
        self._admission = call.admission
        self._counters = StepCounters(call.stage)
        self._requests = RequestCounters(self._counters, call.price)
        self._is_step = call.stage == "LLMCall"  # inside another step, that one counts what went in and came out
        self._engine: Engine | None
        self._done: queue.SimpleQueue[Done[_Asked]]
        self._out: int
        self._throttled_ms = 0.0  # that no reply has on it yet

    def setup(self) -> None:
        if self._ledger is not None and self._ledger.lease is not None:
            keep(self._ledger.lease)

    def start_bundle(self) -> None:
        self._engine = None  # a bundle that the ledger answers needs none
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
        step = self._rules.next_step(prompt)
        usage = Usage(
            from_ledger=step.from_ledger,
            ledger_prompt_tokens=step.prompt_tokens,
            ledger_output_tokens=step.output_tokens,
        )
        if self._is_held_back(prompt, step):
            yield self._held_back(prompt, step, usage)
            return
        if step.answer is not None:
            yield self._count(_reply(prompt, step.request_id, step.answer, step.attempt, usage))
            return
        self._ask(prompt, step, 0, usage, timestamp, (window,))
        # Twice the window: while this thread hands a reply on, the engine has as many more to send.
        while self._out >= self._ahead or not self._done.empty():
            yield from self._next()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        while self._out:
            yield from self._next()
        progress.flush()
        if self._engine is not None:
            try:
                self._engine.flush_ledger()  # what an engine takes for done is never computed, so never paid for, again
            except FatalError as error:
                raise _run_failed(error) from None

    def _is_held_back(self, prompt: Prompt, step: NextStep) -> bool:
        if self._admission is None or self._admission.admits(prompt.subject):
            return False
        return step.answer is None or not self._admission.with_paid

    def _held_back(self, prompt: Prompt, step: NextStep, usage: Usage) -> Reject:
        progress.add(f"{self._stage}.in", -1)  # nobody waits for its reply
        if self._admission is None or not self._admission.with_paid:
            usage = Usage()  # how far the next wave goes depends on what is admitted, not on what else was paid for
        reject = Reject.of_prompt(
            prompt,
            stage=self._stage,
            reason=HELD_BACK,
            detail="",
            can_retry=True,
            raw="",
            attempts=step.attempt,
            usage=usage,
        )
        return replace(reject, prompt=None)  # there may be a million, and they are only counted

    def _ask(
        self, prompt: Prompt, step: NextStep, came: int, usage: Usage, timestamp: Any, windows: tuple[Any, ...]
    ) -> None:
        if self._engine is None:
            self._engine = engine_for(self._backend, self._settings, self._ledger)
        request = request_for(prompt, self._rules.fingerprint, step.attempt)
        asked = _Asked(prompt, request, step.attempts, came, usage, timestamp, windows)
        self._engine.submit(request, asked, self._done)
        self._out += 1

    def _next(self) -> Iterator[WindowedValue]:
        """Waits for one request to end, and yields its result, or nothing when the prompt is asked again."""
        done = self._done.get()
        self._out -= 1
        if isinstance(done.error, FatalError):
            raise _run_failed(done.error)
        asked = done.token
        usage = asked.usage + self._usage(done)
        prompt, answer = asked.prompt, done.answer
        if answer is not None and self._fault_of is not None and self._engine is not None:
            doom = self._engine.count_reply(asked.request, answer, self._fault_of(prompt, answer))
            if doom is not None:
                raise _run_failed(doom)
        request_id, attempt = asked.request.request_id, asked.request.attempt
        if answer is not None and (prompt.subject.paid or not self._rules.is_enough(prompt, answer)):
            # Where an earlier reply was lost with its file, the ledger may have the next one.
            prompt = with_reply(prompt, request_id, answer)
            step = self._rules.next_step(prompt, asked.attempts)
            came = asked.came + 1
            usage = replace(
                usage,
                from_ledger=step.from_ledger - came,
                ledger_prompt_tokens=step.prompt_tokens - usage.prompt_tokens,
                ledger_output_tokens=step.output_tokens - usage.output_tokens,
            )
            if step.answer is None:
                usage = replace(usage, asked_again=usage.asked_again + 1)
                self._counters.add("requests.asked_again")
                self._ask(prompt, step, came, usage, asked.timestamp, asked.windows)
                return
            answer, request_id, attempt = step.answer, step.request_id, step.attempt
        result: Reply | Reject
        if answer is not None:
            result = _reply(prompt, request_id, answer, attempt, usage)
        else:
            result = Reject.of_prompt(
                prompt,
                stage=self._stage,
                reason="request_failed",
                detail=done.error.detail if done.error else "",
                can_retry=not isinstance(done.error, Refused),
                raw="",
                attempts=attempt + done.sent,
                usage=usage,
            )
        yield WindowedValue(self._count(result), asked.timestamp, asked.windows)

    def _count(self, result: Reply | Reject) -> Reply | Reject:
        if result.usage is not None and result.usage.from_ledger:
            self._counters.add("requests.from_ledger", result.usage.from_ledger)
        if self._is_step:
            self._counters.outcome(result)
        if isinstance(result, Reject):
            progress.add(f"{self._stage}.failed")
        else:
            progress.add(f"{self._stage}.replies")
            answer = Answer(**answer_fields(result))
            if self._fault_of is not None and self._fault_of(result.prompt, answer) is not None:
                progress.add(f"{self._stage}.refused")
        return result

    def _usage(self, done: Done[_Asked]) -> Usage:
        assert self._engine is not None, "it answered"
        self._throttled_ms += self._engine.take_throttled_seconds() * 1000
        throttled_ms, self._throttled_ms = divmod(self._throttled_ms, 1)
        answer = done.answer
        usage = Usage(
            requests=done.sent,
            retries=max(0, done.sent - 1),
            prompt_tokens=answer.prompt_tokens if answer else 0,
            output_tokens=answer.output_tokens if answer else 0,
            latencies_ms=(round(done.latency * 1000),) if answer else (),
            throttled_ms=int(throttled_ms),
            left_out=answer.left_out if answer else (),
            throttled=done.throttled,
        )
        self._requests.count(usage)
        return usage


def _reply(prompt: Prompt, request_id: str, answer: Answer, attempt: int, usage: Usage) -> Reply:
    return Reply(prompt=prompt, request_id=request_id, attempts=attempt + 1, usage=usage, **answer_fields(answer))


def _run_failed(error: FatalError) -> RunFailed:
    return RunFailed(f"{error.detail}; {error.remedy}")


def any_answer(prompt: Prompt, answer: Answer) -> bool:
    """Takes every answer as it comes."""
    return True


@dataclasses.dataclass(eq=False)
class LLMCall(beam.PTransform):
    """Asks a model: a Reply for each Prompt, or a Reject where no reply could be had. Rejects pass through. What the
    ledger has for a prompt (`paid` of its subject, see `JoinLedger`) is taken, not asked for again.

    The window of requests spans all elements of a bundle and all bundles of a process. It cannot span bundles of a few
    elements one after the other, so `JoinLedger` should stand before it, or before the step that builds its prompts.

    Args:
      backend: the model.
      is_readable: whether an answer can be used, a function at the top level of a module; one that cannot is asked
        for again.
      stage: the step that rejects and counters name.
      settings: how requests are sent.
      parse_attempts: how many times a prompt is asked at most because its reply could not be read.
      ledger: where every reply is kept; None: nowhere.
      retry_rejects: whether a prompt none of whose replies is wanted is asked again, `parse_attempts` times more.
      is_wanted: whether an answer that can be read is also wanted, as `is_readable`; None: all are. One that is not is
        taken all the same, for its reject, unless `retry_rejects` asks for another.
      fault_of: why no row comes of an answer, as `is_readable`; None there: one does. Of the replies that are paid for
        (not of those that the ledger has) at most `settings.max_reject_rate` may bring none. None: nothing is known.
      admission: which prompts may be asked; the others become rejects whose reason is HELD_BACK. None: all.

    Raises:
      ValueError: `parse_attempts` is less than 1.
      RunFailed: while it runs, when no request can be answered (a wrong key, model or URL), most fail, too many replies
        bring no row, or the ledger cannot be written.
    """

    backend: Backend
    is_readable: IsReadable = any_answer
    stage: str = "LLMCall"
    settings: Settings = dataclasses.field(default_factory=Settings)
    parse_attempts: int = 2
    ledger: Ledger | None = None
    retry_rejects: bool = False
    is_wanted: IsReadable | None = None
    fault_of: FaultOf | None = None
    price: Price | None = None
    admission: Admission | None = None

    def __post_init__(self) -> None:
        if self.parse_attempts < 1:
            raise ValueError(f"parse_attempts is {self.parse_attempts}, but must be 1 or more")

    def expand(self, prompts: beam.PCollection[Prompt | Reject]) -> beam.PCollection[Reply | Reject]:
        return prompts | "Call" >> beam.ParDo(_Call(self))
