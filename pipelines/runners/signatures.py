"""Signatures of functions, looked up once.

Beam looks at the parameters of each method of each DoFn some eight times between building a graph and running it
(`userstate.get_dofn_specs`, 2.77): 15,000 signatures in a run of three rows, of 100 functions, a tenth of its CPU.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam.transforms import core

Parameters = tuple[list[str], list[Any]]


@contextlib.contextmanager
def remembering_signatures() -> Iterator[None]:
    """While its `with` block runs, Beam looks up the parameters of a method once. The answers are the same."""
    look_up: Callable[[Any], Parameters] | None = getattr(core, "get_function_args_defaults", None)
    if look_up is None:  # another Beam, which may have no need of it
        yield
        return
    found: dict[types.FunctionType, Parameters] = {}

    def remembered(function: Any) -> Parameters:
        # What a method takes depends on its function alone; of what is called otherwise this is not known.
        if not (isinstance(function, types.MethodType) and isinstance(function.__func__, types.FunctionType)):
            return look_up(function)
        if function.__func__ not in found:
            found[function.__func__] = look_up(function)
        names, defaults = found[function.__func__]
        return [*names], [*defaults]

    core.get_function_args_defaults = remembered
    try:
        yield
    finally:
        core.get_function_args_defaults = look_up
