"""CheckQuality: rejects the examples that are no good."""

import dataclasses
import functools

import apache_beam as beam
from msgspec.structs import replace
from textmint.transforms.core.do_fns import CountedMap
from textmint.transforms.core.elements import Example, Reject
from textmint.transforms.quality.checks import Checks, Fault, find_fault

_STEP = "CheckQuality"
_found = functools.lru_cache(maxsize=64)(find_fault)  # LLMCall has just asked the same, of the same reply


def fault_in(example: Example, checks: Checks) -> Fault | None:
    """Finds the first check that an example fails by itself; None where it is good."""
    # No check reads the raw reply, and only one of the two callers has it.
    return _found(replace(example, raw_reply="") if example.raw_reply else example, checks)


def check_example(example: Example, checks: Checks) -> Example | Reject:
    """Returns an example that is good, or a Reject that says why it is not."""
    fault = fault_in(example, checks)
    if fault is None:
        return example
    return Reject.of_example(example, stage=_STEP, reason=fault.reason, detail=fault.detail, can_retry=True)


@dataclasses.dataclass(eq=False)
class CheckQuality(beam.PTransform):
    """Passes each Example on, or a Reject with the reason. Rejects pass through.

    Args:
      checks: which checks are made, and their thresholds.
    """

    checks: Checks = dataclasses.field(default_factory=Checks)

    def expand(self, examples: beam.PCollection[Example | Reject]) -> beam.PCollection[Example | Reject]:
        check = functools.partial(check_example, checks=self.checks)
        return examples | "Check" >> beam.ParDo(CountedMap(_STEP, check)).with_output_types(Example | Reject)
