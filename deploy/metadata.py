"""Makes deploy/metadata.json from the option table: the parameters of the Flex Template, each with a pattern that
refuses a wrong value before a launcher is started. Options that only the file of --config may set are no parameters.

    python -m deploy.metadata            # writes the file
    python -m deploy.metadata --check    # says whether it is what it should be; exit code 1 where not

The fields are those of ParameterMetadata in
https://cloud.google.com/dataflow/docs/reference/rest/v1b3/projects.locations.flexTemplates/launch. RE2, Java and Python
read the patterns alike: no look-ahead, no look-behind, no class by name. A pattern accepts what `options.parse` does,
except paths, which must be gs:// here; rare forms of numbers (1e-3, 1_000, other scripts); and what one value cannot
show, such as whether options go together.

The help names defaults, but there is no `defaultValue`: the console would fill it in, and it would win over --config.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from textmint.pipelines.cli.terminal import tell
from textmint.pipelines.options.table import (
    ABOVE_ZERO,
    AT_LEAST_ONE,
    INT64,
    OPTIONS,
    SHARE,
    TEMPERATURES,
    THINKING,
    TOP_P,
    Option,
    Range,
)
from textmint.pipelines.options.validate import REFRESH
from textmint.transforms.core.attributes import ANY, CLARITIES, DIFFICULTIES, NUM_WORDS
from textmint.transforms.core.languages import XLM_R
from textmint.transforms.dataset.card import LICENSE
from textmint.transforms.dedup.verdicts import DUPLICATE_CHECKS
from textmint.transforms.llm.prices import PRICE
from textmint.transforms.llm.secrets import SECRET_VERSION
from textmint.transforms.quality.checks import CHECKS

FILE: Final = Path(__file__).with_name("metadata.json")

LEFT_OUT: Final[Mapping[str, str]] = {
    "push_to_hub": "the launcher ends when the job begins, so nothing could push when the job has ended",
    **dict.fromkeys(
        ("max_cost", "max_tokens", "target_examples", "max_waves"),
        "the launcher ends when the job begins, and these take several jobs",
    ),
}
"""Options that are no parameters, each with the reason."""

REQUIRED: Final = frozenset({"output"})
"""Its default is of no use there: a folder on the launcher's disk."""


# --- patterns of numbers


def up_to(most: int) -> str:
    """Returns a pattern of the whole numbers from 1 to one of two digits or more, without leading zeros."""
    digits = str(most)
    branches = [f"[1-9][0-9]{{0,{len(digits) - 2}}}"]
    for at, digit in enumerate(digits):
        lowest = 1 if at == 0 else 0
        if int(digit) > lowest:
            branches.append(f"{digits[:at]}[{lowest}-{int(digit) - 1}][0-9]{{{len(digits) - at - 1}}}")
    return f"({'|'.join([*branches, digits])})"


_COUNT: Final = "[+]?0*[1-9][0-9]*"
_INT64: Final = f"([+-]?0+|[+]?0*{up_to((1 << 63) - 1)}|-0*{up_to(1 << 63)})"
_FROM_MINUS_ONE: Final = "([+]?[0-9]+|-0*[01])"
_ABOVE_ZERO: Final = "[+]?(0*[1-9][0-9]*([.][0-9]*)?|0*[.]0*[1-9][0-9]*)"
_ONE: Final = "0*1([.]0*)?"
_ABOVE_ZERO_TO_ONE: Final = f"[+]?(0*[.]0*[1-9][0-9]*|{_ONE})"


def from_zero_to(most: int) -> str:
    """Returns a pattern of the decimal numbers from 0 to a digit."""
    below = f"0*[0-{most - 1}]([.][0-9]*)?|[.][0-9]+" if most > 1 else "0+([.][0-9]*)?|[.][0-9]+"
    return f"([+]?({below}|0*{most}([.]0*)?)|-(0+([.]0*)?|[.]0+))"


# --- patterns of names


def one_of(values: Iterable[str]) -> str:
    """Returns a pattern of texts as they stand."""
    return f"({'|'.join(map(_literal, values))})"


def _literal(text: str) -> str:
    return re.sub(r"[][().*+?{}|^$\\]", lambda found: f"\\{found[0]}", text)


def _spelled(names: Iterable[str]) -> str:
    """Returns a pattern of names with any number of spaces for one, a dash for an underscore or the other way, and with
    or without accents."""
    spellings = [spelling for name in names for spelling in (name, _plain(name))]
    patterns = [_literal(spelling) for spelling in dict.fromkeys(spellings)]
    return f"({'|'.join(re.sub('[_-]', '[_-]', pattern).replace(' ', ' +') for pattern in patterns)})"


def _plain(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


_WEIGHT: Final = "( *: *[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?)?"


def _list(names: str, weight: str = "") -> str:
    item = f" *{names}{weight} *"
    return f"{item}(,{item})*"


def _choice(names: Iterable[str]) -> str:
    return _list(_spelled(names), _WEIGHT)


_LANGUAGES: Final = [name for language in XLM_R for name in (language.name, language.code, *language.aliases)]
_BUCKET: Final = "gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"  # https://cloud.google.com/storage/docs/buckets#naming
_GS_FILE: Final = rf"{_BUCKET}/[^\r\n]+"
_GS_FOLDER: Final = rf"{_BUCKET}(/[^\r\n*?\[\]]*)?"  # in which Beam would see a pattern
_PORT: Final = f"(0*{up_to(65_535)})?"
_HOST: Final = r"([^\s/?#@:\[\]\\]+|\[[0-9A-Fa-f:.]+\])"
_URL: Final = (
    rf"[Hh][Tt][Tt][Pp][Ss]?://{_HOST}(:{_PORT})?(/[^\s?#@]*)?([?](api-version=[A-Za-z0-9_.-]+)?)?#?"  # no key in it
)
_PROJECT: Final = "[A-Za-z0-9_.:-]+"
_ENDPOINT_ID: Final = "[A-Za-z0-9]([A-Za-z0-9_-]{0,126}[A-Za-z0-9])?"
_ENDPOINT: Final = (
    f"({_ENDPOINT_ID}|/?projects/([a-z0-9.-]+:)?[a-z0-9][a-z0-9-]*/locations/[a-z][a-z0-9-]*/endpoints/{_ENDPOINT_ID})"
)
_NOT_BLANK: Final = r".*\S.*"
_ANY_CASE: Final = "(?i)"


# --- the parameters

_RANGES: Final[Mapping[Range, str]] = {
    AT_LEAST_ONE: _COUNT,
    ABOVE_ZERO: _ABOVE_ZERO,
    SHARE: from_zero_to(1),
    TEMPERATURES: from_zero_to(2),
    TOP_P: _ABOVE_ZERO_TO_ONE,
    THINKING: _FROM_MINUS_ONE,
    INT64: _INT64,
}

_PATTERNS: Final[Mapping[str, str]] = {
    "tasks": _GS_FILE,
    "language": f"{_ANY_CASE}( *xlm-r *|{_choice(_LANGUAGES)})",
    "difficulty": _ANY_CASE + _choice(DIFFICULTIES),
    "clarity": _ANY_CASE + _choice(CLARITIES),
    "num_words": _ANY_CASE + _choice((*NUM_WORDS, ANY)),
    "topics": f"(none|{_GS_FILE})",
    "brainstorm_template": _GS_FILE,
    "example_template": _GS_FILE,
    "config": _GS_FILE,
    "checks": f"{_ANY_CASE}( *(all|none) *|{_list(_spelled((*CHECKS, *DUPLICATE_CHECKS)))})",
    "verify_model": _NOT_BLANK,
    "price": PRICE.pattern,
    "verify_price": PRICE.pattern,
    "exclude": _GS_FILE,
    "model": _NOT_BLANK,
    "base_url": _URL,
    "api_key_secret": SECRET_VERSION,
    "vertex_project": _PROJECT,
    "vertex_location": "[a-z0-9-]+",
    "vertex_endpoint": _ENDPOINT,
    "output": _GS_FOLDER,
    "refresh": REFRESH.pattern,
    "license": LICENSE.pattern,
}

_TYPES: Final[Mapping[str, str]] = {
    "brainstorm_template": "GCS_READ_FILE",
    "example_template": "GCS_READ_FILE",
    "config": "GCS_READ_FILE",
    "output": "GCS_WRITE_FOLDER",
}
"""Of options whose type does not follow from the table. --tasks and --exclude may be patterns, and so are no files."""

_HELP: Final[Mapping[str, str]] = {
    "output": "the dataset folder, such as gs://bucket/minted",
    "config": "read options from a YAML file; parameters win over it",
}
"""What replaces the help of the table, which is about local paths and flags."""

_LABELS: Final[Mapping[str, str]] = {
    "api_key_secret": "API key secret",
    "base_url": "Base URL",
    "config": "Configuration file",
    "llm": "LLM",
}


def parameter(option: Option) -> dict[str, Any]:
    """Returns the ParameterMetadata of an option.

    Raises:
      KeyError: it has no pattern yet.
    """
    name = option.name
    text = _HELP.get(name, option.help_with_default)
    found: dict[str, Any] = {
        "name": name,
        "label": _LABELS.get(name, name.replace("_", " ").capitalize()),
        "helpText": text[0].upper() + text[1:],
        "groupName": option.group.capitalize(),
        "isOptional": name not in REQUIRED,
    }
    if option.is_switch:
        return {**found, "paramType": "BOOLEAN", "regexes": [f"{_ANY_CASE}^(true|false)$"]}
    if option.choices:
        enum = [{"value": value, "label": value} for value in option.choices]
        return {**found, "paramType": "ENUM", "enumOptions": enum, "regexes": [f"^{one_of(option.choices)}$"]}
    kind = "NUMBER" if option.type in (int, float) else _TYPES.get(name, "TEXT")
    pattern = _RANGES[option.range] if option.range else _PATTERNS[name]
    flags = _ANY_CASE if pattern.startswith(_ANY_CASE) else ""  # Python wants them first
    return {**found, "paramType": kind, "regexes": [f"{flags}^({pattern.removeprefix(flags)})$"]}


def parameters() -> list[Option]:
    """Returns the options that are parameters, in the order of the table."""
    return [option for option in OPTIONS if not option.config_only and option.name not in LEFT_OUT]


def text() -> str:
    """Returns the content of the file: TemplateMetadata."""
    metadata = {
        "name": "Textmint",
        "description": "Mints text classification data with a large language model, to train embedding models on.",
        "parameters": [parameter(option) for option in parameters()],
    }
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def main(argv: Sequence[str]) -> int:
    """Writes or checks the file; returns the exit code, 1 where `--check` finds another content."""
    if list(argv) not in ([], ["--check"]):
        tell("usage: python -m deploy.metadata [--check]")
        return 2
    if not argv:
        FILE.write_text(text(), "utf-8")
    elif not FILE.is_file() or FILE.read_text("utf-8") != text():
        tell("deploy/metadata.json is not what the option table says: run `python -m deploy.metadata`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
