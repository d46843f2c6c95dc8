"""A program that unpickles what a worker would unpickle of job protos, and prints a line of JSON that says what that
was and from where it was imported.

It runs in a process that has only the wheel (`wheel.python_with`), so it imports nothing of the repository.

    read_job.py JOB.pb ...
"""

from __future__ import annotations

import collections
import json
import sys
from collections.abc import Iterator
from typing import Any

from apache_beam.coders import coders
from apache_beam.internal import pickler
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.utils import proto_utils
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue

# The payloads that are messages themselves, with functions in them.
PAYLOADS = {
    "beam:transform:pardo:v1": api.ParDoPayload,
    "beam:transform:combine_per_key:v1": api.CombinePayload,
    "beam:transform:combine_per_key_precombine:v1": api.CombinePayload,
    "beam:transform:combine_per_key_merge_accumulators:v1": api.CombinePayload,
    "beam:transform:combine_per_key_extract_outputs:v1": api.CombinePayload,
    "beam:transform:combine_grouped_values:v1": api.CombinePayload,
    "beam:combinefn:packed_python:v1": api.CombinePayload,
}
# Those that hold nothing to unpickle: what runners do themselves, and coders and windows that every SDK knows.
PLAIN = {
    "",
    "beam:transform:flatten:v1",
    "beam:transform:generic_composite:v1",
    "beam:transform:group_by_key:v1",
    "beam:transform:impulse:v1",
    "beam:transform:reshuffle:v1",
    "beam:side_input:iterable:v1",
    "beam:side_input:multimap:v1",
    "beam:window_fn:global_windows:v1",
    "beam:display_data:labelled:v1",
}


def functions(message: Message) -> Iterator[api.FunctionSpec]:
    """Returns the functions in a message, at any depth."""
    if isinstance(message, api.FunctionSpec):
        yield message
        return
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        if not hasattr(value, "ListFields"):  # a map, or several
            values = value.values() if field.message_type.GetOptions().map_entry else value
        else:
            values = [value]
        for one in values:
            if isinstance(one, Message):
                yield from functions(one)


def unpickled(spec: api.FunctionSpec) -> Iterator[tuple[str, Any]]:
    """Returns the urn and the object of a function, and those of the functions within it.

    Raises:
      ValueError: its urn is not known, so something might be in it.
    """
    if spec.urn in PAYLOADS:
        for inner in functions(proto_utils.parse_Bytes(spec.payload, PAYLOADS[spec.urn])):
            yield from unpickled(inner)
    elif "pickled_python" in spec.urn:
        payload = spec.payload
        if payload.startswith(b"\n"):  # of what is pickled, a letter comes first
            payload = proto_utils.parse_Bytes(payload, BytesValue).value
        is_coder = spec.urn.startswith("beam:coder:")
        yield spec.urn, coders.deserialize_coder(payload) if is_coder else pickler.loads(payload)
    elif spec.urn not in PLAIN and not spec.urn.startswith("beam:coder:"):
        raise ValueError(f"what is a {spec.urn}?")


def names_of(thing: Any) -> Iterator[str]:
    """Returns the classes and functions in what was unpickled, as far down as tuples go."""
    if isinstance(thing, tuple):
        for each in thing:
            yield from names_of(each)
    else:
        named = thing if isinstance(thing, type) or hasattr(thing, "__qualname__") else type(thing)
        yield f"{named.__module__}.{named.__qualname__}"


def main(paths: list[str]) -> None:
    """Reads the jobs, and prints."""
    urns: collections.Counter[str] = collections.Counter()
    names: set[str] = set()
    for path in paths:
        with open(path, "rb") as file:
            job = api.Pipeline.FromString(file.read())
        for spec in functions(job):
            if spec.urn.startswith("beam:artifact:") or spec.urn.startswith("beam:env:"):
                continue
            for urn, thing in unpickled(spec):
                urns[urn] += 1
                names.update(names_of(thing))
    modules = {
        name: str(getattr(module, "__file__", None))
        for name, module in sys.modules.items()
        if getattr(module, "__file__", None)
    }
    print(json.dumps({"urns": urns, "names": sorted(names), "modules": modules, "path": sys.path}))


if __name__ == "__main__":
    main(sys.argv[1:])
