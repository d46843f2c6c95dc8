"""The file of --config: what it says is taken as it stands; what is hostile or says two things is told in one line."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textmint.pipelines.options.config_file import MAX_CHARS, MAX_DEPTH, ConfigFileError, read_config

LEVELS = "abcdefghijklmnopqrstuvwxyz"
LAUGHS = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9 if before else ['lol'] * 9)}]\n"
    for before, name in zip(["", *LEVELS], LEVELS, strict=False)
)


def complaint(text: str) -> str:
    began = time.monotonic()
    with pytest.raises(ConfigFileError) as error:
        read_config(text)
    assert time.monotonic() - began < 5
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    return str(error.value)


def test_options_in_their_order() -> None:
    text = "tasks: a.txt\nlanguage: {English: 0.5, German: 0.5}\nexamples_per_task: 10\nkeep_raw: true\n"
    assert list(read_config(text).items()) == [
        ("tasks", "a.txt"),
        ("language", {"English": "0.5", "German": "0.5"}),
        ("examples_per_task", "10"),
        ("keep_raw", True),
    ]


@pytest.mark.parametrize(
    "value", ["010", "1:30", "1.10", "2026_11_23", "2026-13-45", "0x10", "1e3", "=", "<<", "9" * 5_000]
)
def test_a_bare_value_is_taken_as_it_stands(value: str) -> None:
    """As a flag would be. To YAML 1.1, and so to PyYAML, most of these are numbers that look otherwise."""
    assert read_config(f"refresh: {value}\nlanguage: [{value}]") == {"refresh": value, "language": [value]}


def test_an_alias_of_a_single_value_is_fine() -> None:
    assert read_config("brainstorm_template: &mine a.jinja2\nexample_template: *mine\n") == {
        "brainstorm_template": "a.jinja2",
        "example_template": "a.jinja2",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nllm: offline\nseed: 2\n", "line 3: 'seed' stands in line 1 already; leave one of them"),
        ("{seed: 1, seed: 1}", "line 1: 'seed' stands in line 1 already"),
        ("language: {English: 0.5,\n  English: 0.3}", "line 2: 'English' stands in line 1 already"),
        ("language:\n- {Thai: 1, Thai: 2}", "line 2: 'Thai' stands in line 2 already"),
        ("seed: " + "[" * 100_000, f"line 1: lists and mappings are nested deeper than {MAX_DEPTH}"),
        ("seed: " + "{a: " * 50_000, f"line 1: lists and mappings are nested deeper than {MAX_DEPTH}"),
        ("\n".join(f"{'  ' * depth}a:" for depth in range(300)), "line 11: lists and mappings are nested deeper"),
        (LAUGHS, "line 2: *a repeats a list or mapping; write it out"),
        ("a: &a [*a]", "line 1: *a repeats a list or mapping"),
        ("a: &a {b: 1}\nc:\n  <<: *a", "line 3: *a repeats a list or mapping"),
        ("seed: *nowhere", "line 1: no YAML: found undefined alias"),
        ("seed: 1\n" + "#" * MAX_CHARS, "is larger than 256 kB"),
        ("a: 1\nb: \0", "line 2: holds a NUL character"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: no YAML: could not determine a constructor"),
        ("a: !mine 1", "line 1: no YAML: could not determine a constructor"),
        ("a: !!bool maybe", "no YAML: "),
        ("a: !!int ''", "no YAML: "),
        ("a: !!timestamp soon", "no YAML: "),
        ("a: [1", "line 1: no YAML: "),
        ("a: 1\n b: 2", "line 2: no YAML: "),
        ("a: 1\n---\nb: 2", "line 2: no YAML: but found another document"),
        ("", "expected `option: value` lines"),
        ("- seed", "expected `option: value` lines"),
        ("seed", "expected `option: value` lines"),
        ("? [a]\n: 1", "line 1: a list or mapping is no name"),
        ("1: a", "'1' is no name of an option"),
        ("<<: {a: 1}", "'<<' is no name of an option"),
        ("no: a", "False is no name of an option"),
        ("seed=3: 4", "'seed=3' is no name of an option"),
        ("--seed: 4", "'--seed' is no name of an option"),
        ('"seed\\n": 4', "'seed\\n' is no name of an option"),
    ],
    ids=lambda value: value[:40],
)
def test_what_is_wrong_is_told_in_one_line(text: str, message: str) -> None:
    assert complaint(text).startswith(message)


@given(st.text(max_size=60) | st.text("ab:&*[]{}!-,? \n", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(read_config(text), dict)
    except ConfigFileError as error:
        assert str(error) and "\n" not in str(error)
