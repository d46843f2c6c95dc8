"""Finds the tests that start processes or run whole pipelines, by their folder or by what their code refers to.

A test outside of `_FOLDERS` is one of them if it, a fixture of it, or a helper of the tests that these call refers to
one of `_PROCESSES` or `_WHOLE_RUNS`. A whole run in a fixture that tests share does not count: it costs its time once.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any, Final

import pytest

_FOLDERS: Final = tuple(
    f"tests/{folder}/"
    for folder in ("integration", "benchmarks", "examples", "pipelines/runners", "pipelines/beam_yaml")
)
"""Folders whose tests build and run whole pipelines."""

_Names = frozenset[tuple[Any, Any]]

_PROCESSES: Final[_Names] = frozenset(
    [("subprocess", None), ("multiprocessing", None), ("playwright.sync_api", "sync_playwright")]
)
_WHOLE_RUNS: Final[_Names] = frozenset(
    [("textmint.pipelines.__main__", "main"), ("textmint.pipelines.cli.run", "generate")]
)
"""A module, or a function of a module: whoever refers to it starts a process, or runs a whole pipeline."""


def is_process_test(item: pytest.Function) -> bool:
    """Returns whether a test starts processes, or runs a whole pipeline."""
    if item.nodeid.startswith(_FOLDERS):
        return True
    fixtures = [each for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
    if any(_reaches(each.func, _PROCESSES) for each in fixtures if each.scope != "function"):
        return True
    own = [item.function, *(each.func for each in fixtures if each.scope == "function")]
    return any(_reaches(function, _PROCESSES | _WHOLE_RUNS) for function in own)


@functools.cache
def _reaches(function: Any, wanted: _Names) -> bool:
    seen: set[Any] = set()
    left = [function]
    while left:
        for found in _referred(left.pop()):
            if isinstance(found, types.ModuleType):
                name = found.__name__, None
            else:
                name = getattr(found, "__module__", None), getattr(found, "__name__", None)
            if name in wanted:
                return True
            is_of_tests = str(name[0]).startswith("tests.") and isinstance(found, (type, types.FunctionType))
            if is_of_tests and found not in seen:
                seen.add(found)
                left.append(found)
    return False


def _referred(thing: Any) -> Iterator[Any]:
    """Yields what a function, or the methods of a class, refer to by global names, and by names in modules of tests."""
    if isinstance(thing, type):
        for member in vars(thing).values():
            if isinstance(member, types.FunctionType):
                yield from _referred(member)
        return
    function = getattr(thing, "__wrapped__", thing)
    if not isinstance(function, types.FunctionType):
        return
    names = set(_names_in(function.__code__))
    for name in names:
        found = function.__globals__.get(name)
        yield found
        if isinstance(found, types.ModuleType) and found.__name__.startswith("tests."):
            yield from (getattr(found, other, None) for other in names)


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)
