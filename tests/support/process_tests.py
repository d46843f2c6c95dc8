"""Finds the tests that start processes or run the whole command, by what their code refers to.

A test is one of them if it, a fixture of it, or a helper of the tests that these call refers to one of `_STARTERS`.
What tests share, such as the fixtures of a module and the stand-in endpoint, does not count: it costs its time once.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any, Final

import pytest

_STARTERS: Final = (
    ("subprocess", None),
    ("multiprocessing", None),
    ("textmint.pipelines.__main__", "main"),
    ("textmint.pipelines.cli.run", "generate"),
)
"""Modules, or functions of modules: whoever refers to them starts a process or runs a whole pipeline."""
_SHARED: Final = "tests.support.llm_server"


def starts_processes(item: pytest.Function) -> bool:
    """Returns whether a test starts processes, or runs a whole pipeline from its command line."""
    fixtures = [each for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
    return any(map(_reaches_starter, [item.function, *(each.func for each in fixtures if each.scope == "function")]))


@functools.cache
def _reaches_starter(function: Any) -> bool:
    seen: set[Any] = set()
    left = [function]
    while left:
        for found in _referred(left.pop()):
            if isinstance(found, types.ModuleType):
                name = found.__name__, None
            else:
                name = getattr(found, "__module__", None), getattr(found, "__name__", None)
            if name in _STARTERS:
                return True
            is_of_tests = str(name[0]).startswith("tests.") and name[0] != _SHARED
            if is_of_tests and isinstance(found, (type, types.FunctionType)) and found not in seen:
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
