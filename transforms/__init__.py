"""Textmint's steps, and what else a pipeline needs: `from textmint.transforms import Flatten`.

Nothing is imported before it is used (PEP 562), so that whoever needs a template does not wait for Beam.
"""

# mypy: implicit-reexport
# ruff: noqa: F401

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textmint.transforms.build_prompt import BuildPrompt
    from textmint.transforms.core.attributes import parse_attributes
    from textmint.transforms.core.elements import Draft, Example, Prompt, Reject, Reply, Task
    from textmint.transforms.core.prompt_template import PromptTemplate, shipped_template
    from textmint.transforms.core.tasks import task_of
    from textmint.transforms.dataset.schema import schema_of, to_record
    from textmint.transforms.dedup.find_duplicates import FindDuplicates
    from textmint.transforms.dedup.find_near_duplicates import FindNearDuplicates
    from textmint.transforms.flatten import Flatten
    from textmint.transforms.labels.agree_labels import AgreeLabels
    from textmint.transforms.labels.plan_labels import PlanLabels, is_label_set
    from textmint.transforms.labels.verify_labels import VerifyLabels, is_choice
    from textmint.transforms.ledger.join_ledger import JoinLedger
    from textmint.transforms.llm.gemini import GeminiBackend
    from textmint.transforms.llm.offline.backend import OfflineBackend
    from textmint.transforms.llm.openai import OpenAIBackend
    from textmint.transforms.llm.vertex_endpoint import VertexEndpointBackend
    from textmint.transforms.llm_call import LLMCall
    from textmint.transforms.parse_json import ParseJSON, is_example
    from textmint.transforms.quality.check_quality import CheckQuality
    from textmint.transforms.quality.checks import parse_checks
    from textmint.transforms.sample_attributes import SampleAttributes
    from textmint.transforms.task_generate import ReadTasks, TaskGenerate, is_task_list, task_seeds


def _read_homes() -> dict[str, str]:
    """Reads which module each name is from, in the block above: so it is listed once, for type checkers and for us."""
    tree = ast.parse(Path(__file__).read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: str(node.module)
        for node in imports
        if str(node.module).startswith(f"{__name__}.")
        for alias in node.names
    }


_HOMES = _read_homes()
__all__ = sorted(_HOMES)

if not TYPE_CHECKING:  # or a type checker would take any name for one that there is

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
