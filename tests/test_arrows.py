"""Arrows: pipelines -> steps -> things -> libraries, read from the imports of every file. A step is a file of
transforms that defines a public PTransform; every other file there is a thing, plain Python."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Things that may import Beam, each with its reason.
BEAM_IN_THINGS = {
    "textmint.transforms.core.metrics": "wraps Beam's counters for the steps",
    "textmint.transforms.storage.files": "opens files on whatever file system Beam knows",
    "textmint.transforms.storage.gcs": "shares the credentials and options of Beam's own file system",
    "textmint.transforms.storage.listing": "is where two steps have their files from",
}

# Files whose second public PTransform is the same step from another source.
MORE_TRANSFORMS = {"textmint.transforms.task_generate": {"ReadTasks"}}

# Steps that take several streams by name, of which Beam checks none.
TAKE_STREAMS = {"textmint.transforms.dataset.count_elements", "textmint.transforms.dataset.write_dataset"}

# One module at most may import each of these: how a vendor is called stands in one place.
VENDORS = (
    "google.genai",
    "openai",
    "google.cloud.aiplatform",
    "google.cloud.secretmanager_v1",
    "google.cloud.storage",
    "vertexai",
    "anthropic",
    "httpx",
    "huggingface_hub",
)

# What would make a row depend on chance, on the moment or on the process, or would run data.
FORBIDDEN_MODULES = [
    "random",
    "uuid",
    "secrets",
    "time",
    "datetime",
    "pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "numpy.random",
    "imp",
    "importlib.util",
]
FORBIDDEN_CALLS = ("eval", "exec", "compile", "hash", "__import__", "literal_eval", "id")
ALLOWED = {
    ("textmint.pipelines.cli.run", "secrets"): "the name of the staging folder; no row depends on it",
    ("textmint.pipelines.cli.run", "time"): "when the run was started, for the manifest",
    ("textmint.pipelines.options.refresh_label", "time"): "the day of the launch, where the label is to be that",
    ("textmint.pipelines.graph.previous_run", "time"): "how long worker processes of a killed run are waited for",
    ("textmint.pipelines.cli.ledger", "secrets"): "the name of a holder of a lease; no row depends on it",
    ("textmint.transforms.storage.lease", "time"): "when a lease ends",
    ("textmint.transforms.ledger.writer", "time"): "when a reply came, for the ledger, and when a batch is due",
    ("textmint.transforms.dataset.write_dataset", "time"): "how long the run took, for the manifest",
    ("textmint.pipelines.cli.progress_line", "time"): "the rate that a person is shown",
    ("textmint.transforms.core.progress", "time"): "how often a worker tells how far it is",
    (
        "textmint.transforms.llm.http",
        "time",
    ): "Retry-After may name a moment; it decides when a request is sent, and no row",
    ("textmint.transforms.llm.http", "datetime"): "as for time",
    ("textmint.transforms.core.temporary", "time"): "how old is what a dead process may have left",
    ("textmint.pipelines.runners.local_worker", "time"): "how often a worker looks for its launcher",
    ("textmint.pipelines.cli.signals", "time"): "whether a second signal is the same request to end",
    (
        "textmint.pipelines.options.output_folder",
        "importlib.util",
    ): "whether what a file system needs is installed; nothing is run",
}

# Beam calls these; its own documentation says what they do.
BEAM_HOOKS = {"expand", "setup", "start_bundle", "process", "finish_bundle", "teardown"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("textmint", *(parts[:-1] if parts[-1] == "__init__" else parts)))


SOURCES = {
    module_name(path): path.read_text(encoding="utf-8")
    for folder in ("pipelines", "transforms", "templates")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TREES = {name: ast.parse(source) for name, source in SOURCES.items()}


@functools.cache
def imports_of(tree: ast.AST) -> set[str]:
    """A file -> the full names of what it imports, wherever in it: modules, and names out of modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def imports(tree: ast.AST, module: str) -> bool:
    """Whether a file imports a module or anything inside it."""
    return any(name == module or name.startswith(f"{module}.") for name in imports_of(tree))


def public_transforms(tree: ast.Module) -> set[str]:
    """A file -> its public PTransforms."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(re.fullmatch(r"(\w+\.)*PTransform", ast.unparse(base).split("[")[0]) for base in node.bases)
    }


def forbidden(tree: ast.AST) -> set[str]:
    """A file -> the names it uses that it must not."""
    found = {module for module in FORBIDDEN_MODULES if imports(tree, module)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.add(node.func.id)
        elif isinstance(node, ast.Attribute) and node.attr == "literal_eval":
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names if alias.name in FORBIDDEN_CALLS)
    return found


def undocumented(tree: ast.Module) -> Iterator[str]:
    """A file -> its public classes, functions and methods without a docstring."""
    for node in tree.body:
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node):
            yield node.name
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            public = isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and not part.name.startswith("_")
            if public and part.name not in BEAM_HOOKS and not ast.get_docstring(part):
                yield f"{node.name}.{part.name}"


STEPS = {name for name, tree in TREES.items() if name.startswith("textmint.transforms.") and public_transforms(tree)}
THINGS = {name for name in TREES if name.startswith("textmint.transforms.")} - STEPS


# --- that the reading itself sees what it should


def test_the_files_are_found() -> None:
    steps = "build_prompt count_elements flatten llm_call parse_json sample_attributes task_generate write_dataset"
    assert set(steps.split()) <= {name.rpartition(".")[2] for name in STEPS}
    things = (
        "core.identity core.elements core.languages core.attributes parsing.replies dataset.schema core.tasks "
        "dataset.accounting core.prompt_template llm.base"
    )
    assert set(things.split()) <= {name.removeprefix("textmint.transforms.") for name in THINGS}
    assert {
        "textmint.pipelines.generate",
        "textmint.pipelines.options.parse",
        "textmint.pipelines.cli.run",
        "textmint.pipelines.__main__",
    } <= set(TREES)
    assert all(f"textmint.{package}" in TREES for package in ("pipelines", "transforms", "transforms.llm", "templates"))


@pytest.mark.parametrize(
    ("source", "module", "found"),
    [
        ("import openai", "openai", True),
        ("import openai.types as t", "openai", True),
        ("from openai import AsyncOpenAI", "openai", True),
        ("from google import genai", "google.genai", True),
        ("from google.genai import types", "google.genai", True),
        ("def f():\n    import openai", "openai", True),
        ("if TYPE_CHECKING:\n    from textmint.transforms import flatten", "textmint.transforms.flatten", True),
        ("import openai_like", "openai", False),
        ("from google import auth", "google.genai", False),
    ],
)
def test_imports_are_seen(source: str, module: str, found: bool) -> None:
    assert imports(ast.parse(source), module) is found


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import random", {"random"}),
        ("from random import choice", {"random"}),
        ("import numpy.random", {"numpy.random"}),
        ("from numpy import random", {"numpy.random"}),
        ("import uuid, pickle", {"uuid", "pickle"}),
        ("x = eval('1')", {"eval"}),
        ("def f():\n    exec('x')", {"exec"}),
        ("x = hash('a')", {"hash"}),
        ("import ast\nast.literal_eval('1')", {"literal_eval"}),
        ("from ast import literal_eval", {"literal_eval"}),
        ("import re\nre.compile('a')\nstable_hash('a')\nself.hash('a')", set()),
    ],
)
def test_forbidden_names_are_seen(source: str, names: set[str]) -> None:
    assert forbidden(ast.parse(source)) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("class A(beam.PTransform): pass", {"A"}),
        ("class A(PTransform[int, str]): pass\nclass _B(beam.PTransform): pass", {"A"}),
        ("@dataclasses.dataclass(eq=False)\nclass A(apache_beam.PTransform): pass", {"A"}),
        ("class A(beam.DoFn): pass", set()),
    ],
)
def test_transforms_are_seen(source: str, names: set[str]) -> None:
    assert public_transforms(ast.parse(source)) == names


def test_missing_docstrings_are_seen() -> None:
    source = (
        "def f(): pass\nasync def g(): pass\ndef _h(): pass\nclass A:\n    def m(self): pass\n"
        "    def __init__(self): pass\nclass B:\n    'text'\n    def expand(self): pass"
    )
    assert list(undocumented(ast.parse(source))) == ["f", "g", "A", "A.m"]


# --- the arrows


@pytest.mark.parametrize("name", sorted(STEPS | THINGS))
def test_nothing_in_transforms_imports_pipelines(name: str) -> None:
    assert not imports(TREES[name], "textmint.pipelines")


@pytest.mark.parametrize("name", sorted(STEPS | THINGS))
def test_nothing_in_transforms_imports_a_step(name: str) -> None:
    # steps do not know each other, and things do not know steps
    assert [step for step in sorted(STEPS) if imports(TREES[name], step)] == []


@pytest.mark.parametrize("name", sorted(THINGS))
def test_things_are_plain_python(name: str) -> None:
    assert imports(TREES[name], "apache_beam") == (name in BEAM_IN_THINGS)


@pytest.mark.parametrize("name", sorted(TREES))
def test_nothing_imports_tests(name: str) -> None:
    assert not any(imports(TREES[name], module) for module in ("tests", "pytest", "hypothesis", "conftest"))


@pytest.mark.parametrize("vendor", VENDORS)
def test_one_module_knows_a_vendor(vendor: str) -> None:
    assert len([name for name, tree in TREES.items() if imports(tree, vendor)]) <= 1


def test_the_entry_is_dispatch_only() -> None:
    assert {
        name for name in imports_of(TREES["textmint.pipelines.__main__"]) if name.startswith("textmint.transforms")
    } == set()


# --- what no file may do


@pytest.mark.parametrize("name", sorted(TREES))
def test_no_chance_no_clock_no_evaluation(name: str) -> None:
    assert forbidden(TREES[name]) == {what for module, what in ALLOWED if module == name}


@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_step_is_named_after_its_transform(name: str) -> None:
    own = public_transforms(TREES[name]) - MORE_TRANSFORMS.get(name, set())
    assert [transform.lower() for transform in own] == [name.rpartition(".")[2].replace("_", "")]
    assert MORE_TRANSFORMS.get(name, set()) <= public_transforms(TREES[name])


@pytest.mark.parametrize("name", sorted(STEPS - TAKE_STREAMS))
def test_what_a_step_takes_is_told_to_beam(name: str) -> None:
    """Beam reads `expand`'s annotations as they are; as texts it takes them for Any, and no wrong order is refused."""
    assert not imports(TREES[name], "__future__")


@pytest.mark.parametrize("name", sorted(name for name, source in SOURCES.items() if source.strip()))
def test_everything_public_is_documented(name: str) -> None:
    assert ast.get_docstring(TREES[name])
    assert list(undocumented(TREES[name])) == []
