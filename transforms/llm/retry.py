"""What becomes of a request that was not answered: sent again, ended, or the end of the run. No clock is read here.

Until the first answer, requests are sent one at a time: these probes show whether the options are right and the
endpoint is up. Up to three prompts take turns: one that fails may be one that is never answered.
"""

from __future__ import annotations

import collections
import logging
import math
from typing import Final

from textmint.transforms.core.identity import UNIT, fraction
from textmint.transforms.llm.base import FatalError, Refused, RequestError, Throttled, Transient
from textmint.transforms.llm.jobs import Job
from textmint.transforms.llm.limiter import LONGEST_HOLD

_LOG = logging.getLogger("textmint")
_BACKOFF: Final = (0.25, 4.0, 60.0)  # seconds, factor, at most: five attempts outlast an outage of some ten seconds
_BACKOFF_WHEN_WELL: Final = (0.1, 2.0, 1.0)  # others are answered: a passing fault of one request should cost little
_MOST_STEPS: Final = 16  # the longest is reached long before, and a power without bound overflows
_REFUSALS: Final = 100  # of one request, while others are answered; then it has failed
_PROBES: Final = 3  # prompts that may go unanswered at the start before it is the endpoint's or the options' fault
_DENIED_IN_A_ROW: Final = 25
"""Requests that an endpoint which answered others may deny one after the other. Where it forbids half of all prompts,
so many in a row come once in 67 million."""
_RECENT: Final = 200  # requests of which more than half may not fail for good
_LONGEST_PROBE_WAIT: Final = 60.0  # seconds of Retry-After; nobody should look at a run that has not begun for longer
_LOGGED_WAIT: Final = 15.0  # seconds; a longer wait is logged
_LOGGED_AGAIN: Final = 60.0  # seconds until the next one is


def backoff(request_id: str, failures: int, is_well: bool = False) -> float:
    """Chooses how many seconds a request waits: exponential backoff with full jitter (AWS Architecture Blog,
    "Exponential Backoff And Jitter"), the jitter taken from its id. An endpoint `is_well` while it answers others."""
    return backoff_ceiling(failures, is_well) * fraction("backoff", request_id, failures) / UNIT


def backoff_ceiling(failures: int, is_well: bool) -> float:
    """Returns the seconds that `backoff` stays below."""
    first, factor, longest = _BACKOFF_WHEN_WELL if is_well else _BACKOFF
    return min(longest, first * factor ** min(failures - 1, _MOST_STEPS))


class RetryPolicy:
    """Decides about the requests of one engine.

    Args:
      max_attempts: tries of one request.
      is_open: whether the endpoint has answered this run before, so that no probe is needed.
    """

    def __init__(self, max_attempts: int, is_open: bool = False) -> None:
        self._max_attempts = max_attempts
        self.is_open = is_open  # has any request been answered?
        self.probe_after = -math.inf  # the next probe is not sent before
        self._answers = 0
        self._probes = 0  # prompts that were sent before any was answered
        self._probes_lost = 0  # of these, ended without an answer
        self._probes_failed = 0  # tries of these that may go right the next time
        self._probes_take_turns = False  # the last one may have failed for its prompt
        self._denied = 0  # in a row, with no answer between
        self._logged_at = -math.inf
        self._recent: collections.deque[bool] = collections.deque(maxlen=_RECENT)  # whether each failed for good

    @property
    def prefers_new_probe(self) -> bool:
        """Whether another prompt should be the next probe, rather than one that has failed."""
        return self._probes_take_turns and self._probes < _PROBES

    def count_sent(self, job: Job) -> None:
        """Takes note that a request is sent."""
        self._probes += not self.is_open and not job.sent
        job.sent += 1

    def count_answer(self) -> None:
        """Takes note that a request was answered."""
        self._answers += 1
        self.is_open = True
        self._denied = 0

    def count_end(self, error: RequestError | None) -> FatalError | None:
        """Takes note that a request has ended, and returns why the run is to end, where too many fail."""
        self._recent.append(error is not None)
        if len(self._recent) < _RECENT or sum(self._recent) <= _RECENT // 2:
            return None
        detail = f"more than half of the last {_RECENT} requests failed for good"
        if error is not None:
            detail += f", the last one with: {error.detail}"
        return FatalError(detail, "see whether the endpoint is well, then run the same command again")

    def decide(self, job: Job, error: RequestError, now: float, others_wait: bool) -> float | RequestError:
        """Returns the seconds until a request that was not answered is sent again, or the error that it ends with. A
        FatalError ends the run."""
        if isinstance(error, FatalError):
            if error.may_be_prompt:
                return self._forbidden(job, error, now, others_wait)
            if error.may_pass and self.is_open:
                return self._denied_in_passing(job, error, now, others_wait)
            return error
        if isinstance(error, Refused):
            return self._lost(
                error, FatalError(error.detail, "the endpoint refuses the first prompts: check the model's options")
            )
        if isinstance(error, Transient) and error.dooms_probe and not self.is_open:
            return FatalError(error.detail, error.remedy or "check --base_url, --model and the network")
        return self._retry(job, error, now, others_wait)

    def _forbidden(self, job: Job, error: FatalError, now: float, others_wait: bool) -> float | RequestError:
        """What is said of a key, but may be meant of a prompt, is of the key where nobody is answered with it."""
        if self.is_open:
            return self._too_many_denied(error, _DENIED_IN_A_ROW) or Refused(error.detail)
        if self._probes_lost or others_wait:
            return self._lost(Refused(error.detail), error)
        if job.sent >= _PROBES:
            return error
        # Others may be about to come: the first prompt is often sent before the second one is queued.
        return self._retry_probe(error, now, backoff_ceiling(job.sent, False))

    def _denied_in_passing(self, job: Job, error: FatalError, now: float, others_wait: bool) -> float | RequestError:
        """What would end a run at its start is tried again where others were answered, unless nobody is any more."""
        is_spent = job.failures + 1 >= self._max_attempts
        most = max(self._max_attempts, _PROBES) if is_spent else _DENIED_IN_A_ROW
        return self._too_many_denied(error, most) or self._retry(job, Transient(error.detail), now, others_wait)

    def _too_many_denied(self, error: FatalError, most: int) -> FatalError | None:
        """Counts a denial after answers; so many in a row end the run."""
        self._denied += 1
        if self._denied < most:
            return None
        detail = f"{self._denied} requests in a row were refused, after others were answered; the last one with"
        return FatalError(f"{detail}: {error.detail}", error.remedy)

    def _lost(self, error: RequestError, doom: FatalError) -> RequestError:
        """Ends a request; at the start of a run, one of too many that are not answered ends the run."""
        if self.is_open:
            return error
        self._probes_lost += 1
        return doom if self._probes_lost >= _PROBES else error

    def _retry(self, job: Job, error: RequestError, now: float, others_wait: bool) -> float | RequestError:
        is_throttled = isinstance(error, Throttled)
        is_well = self._answers > job.answered_before
        job.answered_before = self._answers
        if is_throttled and is_well:
            # Others are answered, so the endpoint is well and merely full: patience costs nothing. The limiter sets the
            # pace then; a long wait of its own would only make the last requests of a run late.
            job.refusals += 1
        else:
            job.failures += 1
        steps = job.refusals if is_throttled and is_well else job.failures
        is_spent = job.failures >= self._max_attempts or job.refusals >= _REFUSALS
        if not self.is_open:
            self._probes_failed += 1
            steps = self._probes_failed
            if steps >= max(self._max_attempts, _PROBES) or (is_spent and not others_wait):
                return self._nobody_answered(job, error)
        if is_spent:
            return self._lost(error, self._nobody_answered(job, error))
        wait = backoff(job.request.request_id, steps, is_well)
        named: float | None = getattr(error, "retry_after", None)
        if named is not None:  # and a little more, so that not all come back at the same instant
            wait = min(named, LONGEST_HOLD) + wait / 10
        elif is_throttled:  # full jitter can be next to nothing, and the endpoint has just said that it has no room
            wait = wait / 2 + backoff_ceiling(steps, is_well) / 2
        if not self.is_open:
            if named is not None and named > _LONGEST_PROBE_WAIT:
                remedy = f"the endpoint asks to wait {named:.0f} s: run the same command again then"
                return FatalError(error.detail, remedy)
            return self._retry_probe(error, now, wait)
        if wait > _LOGGED_WAIT and now - self._logged_at > _LOGGED_AGAIN:
            self._logged_at = now
            _LOG.warning("waiting %.0f s before a request is sent again: %s", wait, error.detail)
        return wait

    def _retry_probe(self, error: RequestError, now: float, wait: float) -> float:
        """Lets a request wait while nobody was answered: no other is sent before it may be."""
        self.probe_after = now + wait
        self._probes_take_turns = not isinstance(error, Throttled)
        _LOG.warning("the first request failed (%s); trying again in %.1f s", error.detail, wait)
        return wait

    def _nobody_answered(self, job: Job, error: RequestError) -> FatalError:
        if self._probes > 1:
            tries = max(self._probes_failed, self._probes)
            detail = f"none of the first {self._probes} prompts was answered in {tries} tries; the last: {error.detail}"
        else:
            detail = f"the first request failed {job.sent} times, at last with: {error.detail}"
        return FatalError(detail, "see whether the endpoint is up, then run the same command again")
