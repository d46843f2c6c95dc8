"""Textmint's steps, and the things that one needs to use them: `from textmint.transforms import SampleAttributes`.

Nothing is imported before it is asked for (PEP 562), so whoever needs a thing does not wait for Beam, which takes a
second. Classes and functions keep the names of their own modules, under which they are pickled.
"""

# mypy: implicit-reexport
# ruff: noqa: F401

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textmint.transforms.build_prompt import BuildPrompt
    from textmint.transforms.core.attributes import Attributes, ChoiceError, parse_attributes
    from textmint.transforms.core.elements import (
        REASONS,
        Choice,
        Draft,
        Example,
        LabelSet,
        LabelSetSeed,
        PaidReply,
        Prompt,
        Reject,
        Relabel,
        Reply,
        Task,
        TaskList,
        TaskSeed,
        TaskSettings,
        Usage,
        Verdict,
    )
    from textmint.transforms.core.errors import RunFailed
    from textmint.transforms.core.prompt_template import PromptTemplate, TemplateError, shipped_template
    from textmint.transforms.core.tasks import TaskFileError, task_of
    from textmint.transforms.dataset.count_elements import CountElements
    from textmint.transforms.dataset.publish import Target
    from textmint.transforms.dataset.schema import schema_of, to_record
    from textmint.transforms.dataset.write_dataset import WriteDataset
    from textmint.transforms.dedup.find_duplicates import FindDuplicates
    from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
    from textmint.transforms.dedup.minhash import NearDuplicate, Text
    from textmint.transforms.dedup.read_exclusions import ReadExclusions
    from textmint.transforms.dedup.read_published import ReadPublished
    from textmint.transforms.dedup.verdicts import DUPLICATE_CHECKS, texts_of, verdicts_of
    from textmint.transforms.flatten import Flatten
    from textmint.transforms.labels.agree_labels import AgreeLabels
    from textmint.transforms.labels.plan_labels import PlanLabels, is_label_set
    from textmint.transforms.labels.verify_labels import VerifyLabels, is_choice
    from textmint.transforms.ledger.join_ledger import JoinLedger, shards_for
    from textmint.transforms.ledger.read_ledger import ReadLedger
    from textmint.transforms.ledger.writer import Ledger
    from textmint.transforms.llm.base import (
        Answer,
        Backend,
        FatalError,
        Refused,
        Request,
        RequestError,
        Session,
        Throttled,
        Transient,
    )
    from textmint.transforms.llm.engine import Settings
    from textmint.transforms.llm.gemini import GeminiBackend
    from textmint.transforms.llm.limiter import Limits
    from textmint.transforms.llm.offline.backend import OfflineBackend
    from textmint.transforms.llm.openai import OpenAIBackend
    from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend
    from textmint.transforms.llm_call import LLMCall, any_answer
    from textmint.transforms.parse_json import ParseJSON, is_example
    from textmint.transforms.quality.check_quality import CheckQuality
    from textmint.transforms.quality.checks import CHECKS, Checks, parse_checks
    from textmint.transforms.sample_attributes import SampleAttributes, drafts_of
    from textmint.transforms.task_generate import ReadTasks, TaskGenerate, is_task_list, task_seeds

_HOMES = {  # the same for the interpreter; a test holds that they agree
    "labels.agree_labels": "AgreeLabels",
    "core.attributes": "Attributes ChoiceError parse_attributes",
    "build_prompt": "BuildPrompt",
    "quality.check_quality": "CheckQuality",
    "dataset.count_elements": "CountElements",
    "core.elements": "REASONS Choice Draft Example LabelSet LabelSetSeed PaidReply Prompt Reject Relabel Reply Task "
    "TaskList TaskSeed TaskSettings Usage Verdict",
    "core.errors": "RunFailed",
    "dedup.find_duplicates": "FindDuplicates",
    "dedup.find_near_duplicates": "FindNearDuplicates",
    "flatten": "Flatten",
    "ledger.join_ledger": "JoinLedger shards_for",
    "dedup.verdicts": "DUPLICATE_CHECKS texts_of verdicts_of",
    "ledger.writer": "Ledger",
    "llm.base": "Answer Backend FatalError Refused Request RequestError Session Throttled Transient",
    "llm.engine": "Settings",
    "llm.gemini": "GeminiBackend",
    "llm.limiter": "Limits",
    "llm.offline.backend": "OfflineBackend",
    "llm.openai": "OpenAIBackend",
    "llm.vertex_endpoint": "VertexEndpointBackend",
    "llm_call": "LLMCall any_answer",
    "dedup.minhash": "NearDuplicate Text",
    "parse_json": "ParseJSON is_example",
    "labels.plan_labels": "PlanLabels is_label_set",
    "core.prompt_template": "PromptTemplate TemplateError shipped_template",
    "quality.checks": "CHECKS Checks parse_checks",
    "dedup.read_exclusions": "ReadExclusions",
    "ledger.read_ledger": "ReadLedger",
    "dedup.read_published": "ReadPublished",
    "sample_attributes": "SampleAttributes drafts_of",
    "dataset.publish": "Target",
    "dataset.schema": "schema_of to_record",
    "task_generate": "ReadTasks TaskGenerate is_task_list task_seeds",
    "core.tasks": "TaskFileError task_of",
    "labels.verify_labels": "VerifyLabels is_choice",
    "dataset.write_dataset": "WriteDataset",
}
_HOME_OF = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)

if not TYPE_CHECKING:  # so that a name that there is not is an error to mypy too

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOME_OF[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
