"""Rules of the house that ruff and import-linter cannot check, most of them Beam's: who imports it, how a step is
called, what a step tells Beam. What may import what stands in pyproject.toml."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Modules of transforms that hold no step and import Beam all the same.
IMPORT_BEAM = {
    "textmint.transforms.core.do_fns": "holds what several steps share",
    "textmint.transforms.core.metrics": "wraps Beam's counters for the steps",
    "textmint.transforms.storage.files": "opens files on whatever file system Beam knows",
    "textmint.transforms.storage.gcs": "shares the credentials and options of Beam's own file system",
    "textmint.transforms.storage.listing": "is where two steps have their files from",
}

# Files whose second public PTransform is the same step from another source.
MORE_TRANSFORMS = {"textmint.transforms.task_generate": {"ReadTasks"}}

# Steps that take several streams by name, of which Beam checks none.
TAKE_STREAMS = {
    f"textmint.transforms.{name}"
    for name in (
        *("dataset.count_elements", "dataset.select_examples", "dataset.write_dataset"),
        "statistics.describe_rows",
    )
}

# Built-in functions that run data, or whose result differs between processes; ruff bans modules only.
FORBIDDEN_CALLS = {"eval", "exec", "compile", "hash", "__import__", "id"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("textmint", *(parts[:-1] if parts[-1] == "__init__" else parts)))


TREES = {
    module_name(path): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("pipelines", "transforms", "templates")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports(tree: ast.AST, module: str) -> bool:
    """Whether a file imports a module or anything inside it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return any(name == module or name.startswith(f"{module}.") for name in names)


def public_transforms(tree: ast.Module) -> set[str]:
    """The names of a file's public PTransforms."""
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(re.fullmatch(r"(\w+\.)*PTransform", ast.unparse(base).split("[")[0]) for base in node.bases)
    }


def forbidden_calls(tree: ast.AST) -> set[str]:
    """The built-in functions that a file calls and must not."""
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return called & FORBIDDEN_CALLS


TRANSFORMS = {name for name in TREES if name.startswith("textmint.transforms.")}
STEPS = {name for name in TRANSFORMS if public_transforms(TREES[name])}


@pytest.mark.parametrize(
    ("source", "transforms", "calls", "beam"),
    [
        ("import apache_beam as beam\nclass A(beam.PTransform): pass", {"A"}, set(), True),
        (
            "from apache_beam import io\nclass A(PTransform[int, str]): pass\nclass _B(PTransform): pass",
            {"A"},
            set(),
            True,
        ),
        ("@dataclasses.dataclass(eq=False)\nclass A(apache_beam.PTransform): pass", {"A"}, set(), False),
        ("def f():\n    import apache_beam.io\nclass A(beam.DoFn): pass", set(), set(), True),
        ("import apache_beam_like\nx = eval('1')\ndef f():\n    exec('x')", set(), {"eval", "exec"}, False),
        ("import re\nre.compile('a')\nstable_hash('a')\nself.hash('a')\nhash('a')", set(), {"hash"}, False),
    ],
)
def test_the_reading_sees_what_it_should(source: str, transforms: set[str], calls: set[str], beam: bool) -> None:
    tree = ast.parse(source)
    assert (public_transforms(tree), forbidden_calls(tree), imports(tree, "apache_beam")) == (transforms, calls, beam)


def test_the_files_are_found() -> None:
    six_steps = {"task_generate", "flatten", "sample_attributes", "build_prompt", "llm_call", "parse_json"}
    assert six_steps <= {name.removeprefix("textmint.transforms.") for name in STEPS}
    assert {"textmint.pipelines.generate", "textmint.pipelines.__main__", "textmint.templates"} <= set(TREES)


@pytest.mark.parametrize("name", sorted(TRANSFORMS - STEPS))
def test_only_steps_import_beam(name: str) -> None:
    assert imports(TREES[name], "apache_beam") == (name in IMPORT_BEAM)


@pytest.mark.parametrize("name", sorted(TREES))
def test_nothing_is_evaluated_and_no_row_depends_on_the_process(name: str) -> None:
    assert forbidden_calls(TREES[name]) == set()


@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_step_is_named_after_its_transform(name: str) -> None:
    own = public_transforms(TREES[name]) - MORE_TRANSFORMS.get(name, set())
    assert [transform.lower() for transform in own] == [name.rpartition(".")[2].replace("_", "")]


@pytest.mark.parametrize("name", sorted(STEPS - TAKE_STREAMS))
def test_what_a_step_takes_is_told_to_beam(name: str) -> None:
    """Beam reads `expand`'s annotations as they are; as texts it takes them for Any, and no wrong order is refused."""
    assert not imports(TREES[name], "__future__")
