"""The file of `--config`: YAML becomes flags. The file may come from anywhere, so nothing in it may take more than a
moment, and every value is taken as it stands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import yaml
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.input_files import check_name, read_text
from textmint.pipelines.options.stores import check_scheme
from textmint.pipelines.options.table import BY_NAME

MAX_CHARS: Final = 256 << 10
"""A file of options is some kB; PyYAML takes seconds for each MB."""
MAX_DEPTH: Final = 10
"""`language: [{English: 0.5}]` is 3 deep."""
_NAME: Final = re.compile(r"[A-Za-z][\w-]*", re.ASCII)


class ConfigFileError(ValueError):
    """A file of options that cannot be used; the message says where in it and why, in one line."""


def flags_of_file(argv: Sequence[str], parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the flags that the file named by `--config` in a command line stands for.

    Raises:
      OptionError: the file cannot be used.
    """
    paths = _paths_in(argv, parser)
    if not paths:
        return
    if len(paths) > 1:
        raise OptionError("--config is given more than once; put all options into one file")
    (path,) = paths
    check_name("--config", path)
    check_scheme("--config", path)
    try:
        values = read_config(read_text("--config", path))
    except ConfigFileError as error:
        raise OptionError(f"--config {path}: {error}") from None
    dests = {name: action.dest for action in parser._actions for name in action.option_strings}
    seen: dict[str, str] = {}
    for name, value in values.items():
        if name in ("config", "help"):
            what = "name another one" if name == "config" else "ask for help"
            raise OptionError(f"--config {path}: a config file cannot {what}")
        flag = f"--{name.replace('-', '_')}"
        option = dests.get(flag, flag)
        if option in seen:
            raise OptionError(f"--config {path}: {seen[option]} and {name} are one option; leave one of them out")
        seen[option] = name
        yield from flags_of(f"--config {path}: {name}", name, value)


def _paths_in(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    finder = type(parser)(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", action="append", default=[])
    return list(finder.parse_known_args(argv)[0].config)


def flags_of(where: str, name: str, value: Any) -> Iterator[str]:
    """Yields the flags that the value of an option stands for: one, or none.

    Args:
      where: begins messages.
      name: of the option.
      value: as `read_config` reads it.

    Raises:
      OptionError: it is no value for an option.
    """
    if value is None:
        return
    elif isinstance(value, bool):
        if name in BY_NAME and not BY_NAME[name].is_switch:
            raise _bare_word(where, value)
        if value:  # no option of ours is on by default
            yield f"--{name}"
    elif isinstance(value, (dict, list)):
        yield f"--{name}={','.join(_choices_of(where, value))}"
    elif isinstance(value, str):
        yield f"--{name}={value}"
    else:
        raise OptionError(f"{where}: a {type(value).__name__} is no value for an option")


def _choices_of(where: str, value: dict[Any, Any] | list[Any]) -> Iterator[str]:
    """Writes `{English: 0.5, German: 0.5}`, `[English, German]` or `[English: 0.5, German]` as a flag lists them."""
    for item in value.items() if isinstance(value, dict) else value:
        parts = item if isinstance(item, tuple) else (item,)
        if isinstance(item, dict):
            yield from _choices_of(where, item)
        elif all(isinstance(part, str) for part in parts):
            yield ":".join(parts)
        elif bools := [part for part in parts if isinstance(part, bool)]:
            raise _bare_word(where, bools[0])
        else:
            raise OptionError(f"{where}: expected names, each with an optional weight, not {item!r:.80}")


def _bare_word(where: str, value: bool) -> OptionError:
    word = "true" if value else "false"
    return OptionError(f"{where}: is {word}, which is no value for it; put quotes around words such as `no`")


def read_config(text: str) -> dict[str, Any]:
    """Reads the options in the text of a file: by name, as text, True, False, None, or lists and mappings of these.

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
    """Checks the structure before values are built of it. PyYAML's parser keeps a list of states, so it does not
    overflow where the constructor would."""
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
