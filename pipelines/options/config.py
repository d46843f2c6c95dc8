"""The file of `--config`: YAML in, option -> value out. It comes from wherever its user had it from, so nothing in it
may take more than a moment, or a value than it shows."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml

MAX_CHARS: Final = 256 << 10
"""A file of options is some kB; PyYAML takes seconds for each MB."""
MAX_DEPTH: Final = 10
"""`language: [{English: 0.5}]` is 3 deep."""
_NAME: Final = re.compile(r"[A-Za-z][\w-]*", re.ASCII)


class ConfigFileError(ValueError):
    """A file of options that cannot be used; the message says where in it and why, in one line."""


def read_config(text: str) -> dict[str, Any]:
    """Reads the options of a file.

    Args:
      text: its content.

    Returns:
      Name -> value, in the order of the file: text, True, False, None, or lists and mappings of these.

    Raises:
      ConfigFileError: it is no YAML, or no mapping from names of options, has a key twice, or could take up much time
        or memory: it is large, deeply nested, or repeats a list or mapping by an alias.
    """
    if len(text) > MAX_CHARS:
        raise ConfigFileError(f"is larger than {MAX_CHARS >> 10} kB, which no list of options is")
    if at := text.find("\0") + 1:
        raise ConfigFileError(f"line {text.count(chr(10), 0, at) + 1}: holds a NUL character; text must be UTF-8")
    try:
        _check_events(text)
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigFileError(f"{where}no YAML: {_line(error.problem or error.context)}") from None
    except ConfigFileError:
        raise
    except Exception as error:  # constructors of values raise what they like: KeyError for `!!bool maybe`, ...
        raise ConfigFileError(f"no YAML: {_line(error)}") from None
    if not isinstance(values, dict):
        raise ConfigFileError("expected `option: value` lines")
    for name in values:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigFileError(f"{name!r:.60} is no name of an option; write `option: value` lines")
    return values


def _line(message: object) -> str:
    return " ".join(str(message).split())[:200]


def _check_events(text: str) -> None:
    """Looks at the structure before anything is built of it. PyYAML's parser keeps a list of states, so it does not
    overflow where what builds values would."""
    depth = 0
    scalars: dict[str, bool] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigFileError(f"line {line}: lists and mappings are nested deeper than {MAX_DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent) and not scalars.get(event.anchor or "", True):
            raise ConfigFileError(f"line {line}: *{event.anchor} repeats a list or mapping; write it out")
        if isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.AliasEvent) and event.anchor:
            scalars[event.anchor] = isinstance(event, yaml.ScalarEvent)


_BARE: Final = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:null")


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which PyYAML takes the last, and takes bare values as they stand, as
    a flag does: to YAML 1.1 `010` is 8, `1:30` is 90, `1.10` is 1.1 and `2026_11_23` is 20261123."""

    yaml_implicit_resolvers: ClassVar[Any] = {  # type: ignore[misc]
        first: [(tag, pattern) for tag, pattern in known if tag in _BARE]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            try:
                first = seen.get(key)
                seen[key] = line
            except TypeError:
                raise ConfigFileError(f"line {line}: a list or mapping is no name") from None
            if first is not None:
                raise ConfigFileError(f"line {line}: {key!r:.60} stands in line {first} already; leave one of them")
        return super().construct_mapping(node, deep)
