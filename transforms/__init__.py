"""Textmint's steps, and the things that one needs to use them: `from transforms import SampleAttributes`.

Nothing is imported before it is asked for (PEP 562), so whoever needs a thing does not wait for Beam, which takes a
second. Classes and functions keep the names of their own modules, under which they are pickled.
"""

# mypy: implicit-reexport
# ruff: noqa: F401

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transforms.agree_labels import AgreeLabels
    from transforms.attributes import Attributes, ChoiceError, parse_attributes
    from transforms.build_prompt import BuildPrompt
    from transforms.check_quality import CheckQuality
    from transforms.count_elements import CountElements
    from transforms.elements import (
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
    from transforms.errors import RunFailed
    from transforms.find_duplicates import FindDuplicates
    from transforms.find_near_duplicates import FindNearDuplicates
    from transforms.flatten import Flatten
    from transforms.join_ledger import JoinLedger, shards_for
    from transforms.judging import DUPLICATE_CHECKS, texts_of, verdicts_of
    from transforms.ledger_writer import Ledger
    from transforms.llm.base import (
        Answer,
        Backend,
        Doomed,
        Refused,
        Request,
        RequestError,
        Session,
        Throttled,
        Transient,
    )
    from transforms.llm.engine import Settings
    from transforms.llm.gemini import GeminiBackend
    from transforms.llm.limiter import Limits
    from transforms.llm.offline import OfflineBackend
    from transforms.llm.openai import OpenAIBackend
    from transforms.llm.vertex_endpoint import VertexEndpointBackend
    from transforms.llm_call import LLMCall, any_answer
    from transforms.near_duplicates import Text, Twin
    from transforms.parse_json import ParseJSON, is_example
    from transforms.plan_labels import PlanLabels, is_label_set
    from transforms.prompt_template import PromptTemplate, TemplateError, shipped_template
    from transforms.quality import CHECKS, Checks, parse_checks
    from transforms.read_exclusions import ReadExclusions
    from transforms.read_ledger import ReadLedger
    from transforms.read_published import ReadPublished
    from transforms.sample_attributes import SampleAttributes, drafts_of
    from transforms.schema import schema_of, to_record
    from transforms.task_generate import ReadTasks, TaskGenerate, is_task_list, task_seeds
    from transforms.tasks import TaskFileError, task_of
    from transforms.verify_labels import VerifyLabels, is_choice
    from transforms.write_dataset import Target, WriteDataset

_HOMES = {  # the same for the interpreter; a test holds that they agree
    "agree_labels": "AgreeLabels",
    "attributes": "Attributes ChoiceError parse_attributes",
    "build_prompt": "BuildPrompt",
    "check_quality": "CheckQuality",
    "count_elements": "CountElements",
    "elements": "REASONS Choice Draft Example LabelSet LabelSetSeed PaidReply Prompt Reject Relabel Reply Task "
    "TaskList TaskSeed TaskSettings Usage Verdict",
    "errors": "RunFailed",
    "find_duplicates": "FindDuplicates",
    "find_near_duplicates": "FindNearDuplicates",
    "flatten": "Flatten",
    "join_ledger": "JoinLedger shards_for",
    "judging": "DUPLICATE_CHECKS texts_of verdicts_of",
    "ledger_writer": "Ledger",
    "llm.base": "Answer Backend Doomed Refused Request RequestError Session Throttled Transient",
    "llm.engine": "Settings",
    "llm.gemini": "GeminiBackend",
    "llm.limiter": "Limits",
    "llm.offline": "OfflineBackend",
    "llm.openai": "OpenAIBackend",
    "llm.vertex_endpoint": "VertexEndpointBackend",
    "llm_call": "LLMCall any_answer",
    "near_duplicates": "Text Twin",
    "parse_json": "ParseJSON is_example",
    "plan_labels": "PlanLabels is_label_set",
    "prompt_template": "PromptTemplate TemplateError shipped_template",
    "quality": "CHECKS Checks parse_checks",
    "read_exclusions": "ReadExclusions",
    "read_ledger": "ReadLedger",
    "read_published": "ReadPublished",
    "sample_attributes": "SampleAttributes drafts_of",
    "schema": "schema_of to_record",
    "task_generate": "ReadTasks TaskGenerate is_task_list task_seeds",
    "tasks": "TaskFileError task_of",
    "verify_labels": "VerifyLabels is_choice",
    "write_dataset": "Target WriteDataset",
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
