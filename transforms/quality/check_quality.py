"""CheckQuality: rejects the examples that are no good."""

import dataclasses
import functools
from collections.abc import Iterator

import apache_beam as beam
from msgspec.structs import replace
from textmint.transforms.core.elements import Example, Reject
from textmint.transforms.core.metrics import StepCounters
from textmint.transforms.quality.checks import Checks, Fault, find_fault

_STEP = "CheckQuality"
_found = functools.lru_cache(maxsize=64)(find_fault)  # LLMCall has just asked the same, of the same reply


def fault_in(example: Example, checks: Checks) -> Fault | None:
    """Finds the first check that an example fails by itself; None where it is good."""
    # no check looks at the reply as it came, and only one of the two who ask has it
    return _found(replace(example, raw_reply="") if example.raw_reply else example, checks)


def check_example(example: Example, checks: Checks) -> Example | Reject:
    """Returns an example that is good, or a Reject that says why it is not."""
    fault = fault_in(example, checks)
    if fault is None:
        return example
    # asked again, a model may well write a better one
    return Reject.of_example(example, stage=_STEP, reason=fault.reason, detail=fault.detail, can_retry=True)


class _Check(beam.DoFn):
    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._counters = StepCounters(_STEP)

    def process(self, example: Example | Reject) -> Iterator[Example | Reject]:
        if isinstance(example, Reject):
            yield example
            return
        self._counters.add("in")
        result = check_example(example, self._checks)
        self._counters.outcome(result)
        yield result


@dataclasses.dataclass(eq=False)
class CheckQuality(beam.PTransform):
    """Passes each Example on, or a Reject with the reason. Rejects pass through.

    Args:
      checks: which checks are made, and their thresholds.
    """

    checks: Checks = dataclasses.field(default_factory=Checks)

    def expand(self, examples: beam.PCollection[Example | Reject]) -> beam.PCollection[Example | Reject]:
        return examples | "Check" >> beam.ParDo(_Check(self.checks))
