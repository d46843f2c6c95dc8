"""The parameters of the Flex Template: every option of the table, and patterns that take what `options.parse` takes."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from apache_beam.io.filesystem import FileMetadata, MatchResult
from apache_beam.io.filesystems import FileSystems
from google.cloud.dataflow_v1beta3.types import ParameterType, TemplateMetadata
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from textmint.pipelines.options import stores
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.pipelines.options.table import BY_NAME, OPTIONS
from textmint.transforms.core.attributes import CLARITIES, DIFFICULTIES, NUM_WORDS
from textmint.transforms.core.languages import XLM_R
from textmint.transforms.dedup.verdicts import DUPLICATE_CHECKS
from textmint.transforms.llm.secrets import check_secret_version
from textmint.transforms.quality.checks import CHECKS

from deploy import metadata as ours
from deploy.metadata import FILE, LEFT_OUT, REQUIRED, from_zero_to, main, one_of, parameter, parameters, up_to

if sys.version_info >= (3, 11):
    import re._parser as sre_parse
else:
    import sre_parse

SECRET = "projects/p-1/secrets/key/versions/3"
PARAMETERS: dict[str, dict[str, Any]] = {
    each["name"]: each for each in json.loads(FILE.read_text("utf-8"))["parameters"]
}
PATTERNS = {name: re.compile(each["regexes"][0]) for name, each in PARAMETERS.items()}


def matches(name: str, value: str) -> bool:
    """Matches as RE2's full match and its partial match both would, since every pattern includes both ends."""
    return PATTERNS[name].search(value) is not None and not value.endswith("\n")


# --- the file


def test_the_file_is_checked_and_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err
    monkeypatch.setattr(ours, "FILE", tmp_path / "metadata.json")
    for content in (None, "{}", ours.text().replace("Textmint", "textmint")):
        if content is not None:
            ours.FILE.write_text(content, "utf-8")
        assert main(["--check"]) == 1
        assert "run `python -m deploy.metadata`" in capsys.readouterr().err
    assert main([]) == 0
    assert ours.FILE.read_bytes() == FILE.read_bytes()
    assert main(["--chek"]) == 2


def test_every_option_is_a_parameter_or_left_out_for_a_reason() -> None:
    assert list(PARAMETERS) == [each.name for each in OPTIONS if not (each.name in LEFT_OUT or each.config_only)]
    assert set(LEFT_OUT) <= set(BY_NAME)
    assert "labels" not in PARAMETERS  # which is Beam's
    with pytest.raises(KeyError):  # a new option needs a pattern
        parameter(dataclasses.replace(BY_NAME["model"], name="a_new_one"))


def test_dataflow_knows_every_field() -> None:
    read = TemplateMetadata.from_json(FILE.read_text("utf-8"), ignore_unknown_fields=False)
    assert read.name == "Textmint"
    assert [each.name for each in read.parameters] == list(PARAMETERS)
    for each in read.parameters:
        assert each.label and each.help_text and each.group_name in ("Data", "Quality", "Model", "Spending", "Output")
        assert each.is_optional is (each.name not in REQUIRED)
        assert len(each.regexes) == 1
        assert bool(each.enum_options) is (each.param_type == ParameterType.ENUM)
    types = {each.name: each.param_type for each in read.parameters}
    assert types["output"] == ParameterType.GCS_WRITE_FOLDER
    assert types["verify"] == ParameterType.BOOLEAN
    assert types["seed"] == types["temperature"] == ParameterType.NUMBER
    assert {name for name, kind in types.items() if kind == ParameterType.ENUM} == {
        *("label_plan", "llm", "safety_threshold", "service_tier")
    }


def test_help_is_the_tables_and_defaults_match_their_own_patterns() -> None:
    for option in parameters():
        if option.name not in ("output", "config"):
            assert parameter(option)["helpText"][1:] == option.help_with_default[1:]
        if option.default is not None and option.name not in REQUIRED:
            assert matches(option.name, str(option.default)), option.name
            assert matches(option.name, str(option.default).lower()), option.name


# --- the patterns, as other engines read them

# What RE2, Java and Python have in common, by the names of Python's own parser.
COMMON = {
    *("LITERAL", "NOT_LITERAL", "ANY", "IN", "BRANCH", "SUBPATTERN", "MAX_REPEAT", "AT", "NEGATE", "RANGE", "CATEGORY")
}


def nodes(tree: Any) -> Iterator[tuple[str, Any]]:
    for operation, argument in tree:
        yield str(operation), argument
        for inner in argument if isinstance(argument, (tuple, list)) else ():
            for part in inner if isinstance(inner, list) and not isinstance(inner, sre_parse.SubPattern) else (inner,):
                if isinstance(part, sre_parse.SubPattern):
                    yield from nodes(part)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_pattern_is_what_all_engines_read(name: str) -> None:
    pattern = PATTERNS[name].pattern
    assert re.fullmatch(r"(\(\?i\))?\^\(.*\)\$", pattern)  # whole, whether an engine searches or matches
    rest = pattern.removeprefix("(?i)")
    assert "(?" not in rest  # look-around, names, and groups that catch nothing
    assert set(re.findall(r"\\(.)", rest)) <= set("[](){}|^$.*+?\\srnS")  # engines agree on these
    bare = re.sub(r"\\.", "x", rest)
    assert "[[" not in bare and "&&" not in bare and "--" not in bare  # Java counts with sets
    assert not re.search(r"[*+?}][+?]", re.sub(r"\[[^\]]*\]", "x", bare))  # lazy and possessive ones
    found = list(nodes(sre_parse.parse(pattern)))
    assert {operation for operation, _ in found} <= COMMON
    # RE2 has no more than 1,000 of anything
    counts = [argument[1] for operation, argument in found if operation == "MAX_REPEAT"]
    assert all(most is sre_parse.MAXREPEAT or int(most) <= 1_000 for most in counts)


def test_what_other_engines_do_not_read_would_be_found() -> None:
    for pattern in ("(?=a)b", "(?<!a)b", r"(a)\1"):
        assert not {operation for operation, _ in nodes(sre_parse.parse(pattern))} <= COMMON


@given(st.integers(10, 10**20), st.integers(0, 10**21))
def test_up_to(most: int, number: int) -> None:
    for each in (number, most - 1, most, most + 1, number % (2 * most), 0, 1):
        assert bool(re.fullmatch(up_to(most), str(each))) == (1 <= each <= most)


@given(st.integers(1, 9), st.from_regex(r"[+-]?[0-9]{0,3}\.?[0-9]{0,3}", fullmatch=True))
@example(1, ".")
@example(1, "-0.")
@example(2, "+.")
def test_from_zero_to(most: int, text: str) -> None:
    try:
        wanted = 0 <= float(text) <= most
    except ValueError:
        wanted = False
    assert bool(re.fullmatch(from_zero_to(most), text)) == wanted


def test_one_of_takes_texts_as_they_stand() -> None:
    texts = ["a.b", "c|d", "(e)", "f+", "[g]", "h\\", "^i$", "{2}"]
    assert all(re.fullmatch(one_of(texts), text) for text in texts)
    assert not re.fullmatch(one_of(texts), "aXb")


# --- the patterns, beside options.parse

ALIKE = {  # other options that a value needs beside it
    "verify_model": ["--llm=openai", "--model=m", "--verify"],
    "verify_price": ["--llm=openai", "--model=m", "--verify", "--verify_model=v"],
    "base_url": ["--llm=openai", "--model=m"],
    "language": ["--llm=openai", "--model=m", "--base_url=http://127.0.0.1:9"],
    "model": ["--llm=openai"],
    "api_key_secret": ["--llm=openai", "--model=m"],
    "safety_threshold": ["--llm=gemini", "--model=m", "--vertex_project=p"],
    "service_tier": ["--llm=gemini", "--model=m", "--vertex_project=p"],
    "thinking_budget": ["--llm=gemini", "--model=m", "--vertex_project=p"],
    "vertex_project": ["--llm=gemini", "--model=m"],
    "vertex_location": ["--llm=gemini", "--model=m", "--vertex_project=p"],
    "vertex_endpoint": ["--llm=vertex-endpoint", "--vertex_project=p", "--vertex_location=r"],
    "llm": ["--model=offline-2", "--vertex_project=p", "--vertex_location=r", "--base_url=http://127.0.0.1:9"],
}


@pytest.fixture(scope="module", autouse=True)
def store() -> Iterator[None]:
    """A bucket that holds whatever is asked for, and takes what it is given."""

    def opened(path: str, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(b"seed: 1\n" if path.endswith(".yaml") else b"x\n")

    def matched(patterns: list[str]) -> list[MatchResult]:
        return [MatchResult(pattern, [FileMetadata("gs://bucket/x.txt", 2)]) for pattern in patterns]

    def tried(option: str, path: str, *_: object) -> None:
        if problem := stores.bucket_problem(path):  # all that can be known without the store
            raise OptionError(f"{option} {path}: {problem}")

    with pytest.MonkeyPatch.context() as patch:
        for module in ("output_folder", "input_files"):
            patch.setattr(f"textmint.pipelines.options.{module}.try_store", tried)
        patch.setattr("textmint.transforms.storage.gcs.read", lambda path, **_: opened(path).getvalue())
        for module in ("validate", "config_file"):
            patch.setattr(
                f"textmint.pipelines.options.{module}.read_text", lambda _, path: opened(path).read().decode()
            )
        patch.setattr("textmint.transforms.storage.gcs.open_object", opened)
        patch.setattr(FileSystems, "match", lambda patterns, *_: matched(patterns))
        patch.setattr("textmint.pipelines.options.validate.check_secret", lambda *_: None)
        patch.setenv("OPENAI_API_KEY", "k")
        for name in ("OPENAI_BASE_URL", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
            patch.delenv(name, raising=False)
        yield


def accepts(name: str, value: str, *beside: str) -> bool:
    flags = [*(beside or ALIKE.get(name, ())), f"--{name}={value}"]
    if name != "output":
        flags.append("--output=gs://bucket/out")
    try:
        parse(flags)
    except OptionError:
        return False
    return True


some = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
of = {option.name: option.type for option in parameters()}
INTEGERS = [name for name, kind in of.items() if kind is int]
SWITCHES = [name for name, each in PARAMETERS.items() if each["paramType"] == "BOOLEAN"]
DECIMALS = [name for name, kind in of.items() if kind is float]
decimal = st.from_regex(
    r"[+-]?[0-9]{0,4}|[+-]?[0-9]{0,3}\.?[0-9]{0,3}|[+-]?0{0,3}[0-2](\.0{0,3}[0-9]?)?|[a-z+-]{0,2}", fullmatch=True
)


@pytest.mark.parametrize("name", [*INTEGERS, *DECIMALS])
@settings(max_examples=8)
@given(value=decimal)
@example(value="0")
@example(value="1")
@example(value="-1")
@example(value="-2")
@example(value="+007")
@example(value="1.0")
@example(value="2.001")
@example(value=".3")
@example(value="0.29")
@example(value="nan")
def test_numbers(name: str, value: str) -> None:
    assert accepts(name, value) == matches(name, value)


@pytest.mark.parametrize("distance", range(-2, 3))
def test_seeds_fit_64_bits(distance: int) -> None:
    for border in (-(1 << 63), 0, 10**18, (1 << 63) - 1):
        value = str(border + distance)
        assert accepts("seed", value) == matches("seed", value)
        assert matches("seed", value.replace("-", "-00")) == matches("seed", value)


@pytest.mark.parametrize("name", SWITCHES)
@settings(max_examples=10)
@given(value=st.sampled_from(["true", "false", "True", "FALSE", "tRuE", "yes", "1", "", " true", "truefalse", "maybe"]))
def test_switches(name: str, value: str) -> None:
    assert accepts(name, value) == matches(name, value)


@pytest.mark.parametrize("name", [name for name, each in PARAMETERS.items() if each["paramType"] == "ENUM"])
def test_enumerations(name: str) -> None:
    values = [option["value"] for option in PARAMETERS[name]["enumOptions"]]
    assert len(values) >= 2
    for value in values:
        beside = [*ALIKE.get(name, ["--seed=1"]), *(["--vertex_endpoint=1"] if value == "vertex-endpoint" else [])]
        if name == "llm" and value == "offline":
            beside = ["--seed=1"]
        assert matches(name, value)
        assert accepts(name, value, *beside), value
    for value in ("", "x", values[0].upper() + "X", f"{values[0]} ", f" {values[0]}", "".join(values)):
        assert not matches(name, value)
        assert not accepts(name, value)


label_text = st.text(st.sampled_from("aZ09._-+/ é:"), max_size=8) | st.sampled_from(
    ["a" * 64, "a" * 65, "a" * 40, "a" * 41]
)


@pytest.mark.parametrize("name", ["refresh", "license", "model", "verify_model"])
@some
@given(value=label_text)
def test_names(name: str, value: str) -> None:
    assume(value != "--")  # which argparse takes for the end of all options
    assert accepts(name, value) == matches(name, value)


CHOICES: dict[str, list[str]] = {
    "difficulty": list(DIFFICULTIES),
    "clarity": list(CLARITIES),
    "num_words": [*NUM_WORDS, "any"],
    "language": [name for language in XLM_R for name in (language.name, language.code, *language.aliases)],
}
spoilt = st.sampled_from(
    ["{}", "{}", "{}", " {} ", "{}:1", "{}:0.25", "{} : .5", "{}:2e-1", "{}:", "{}:x", "{}x", "", ":1"]
)


@st.composite
def items(draw: st.DrawFn, names: list[str]) -> str:
    name = draw(st.sampled_from(names))
    changed = draw(st.sampled_from([name, name.upper(), name.lower(), name.replace(" ", "  ")]))
    return draw(spoilt).format(changed)


@pytest.mark.parametrize("name", ["price", "verify_price"])
@some
@given(value=st.text(st.sampled_from("019., -+e"), max_size=9) | st.just("0.40,1.60"))
def test_prices(name: str, value: str) -> None:
    assume(value != "--")
    assert accepts(name, value) == matches(name, value)


@pytest.mark.parametrize("name", CHOICES)
@some
@given(data=st.data())
def test_choices(name: str, data: st.DataObject) -> None:
    """What is accepted matches. What matches is refused only for its weights, or for a value that comes twice."""
    value = ",".join(data.draw(st.lists(items(CHOICES[name]), min_size=1, max_size=3)))
    assume(value.isascii() or name == "language")
    accepted, matching = accepts(name, value), matches(name, value)
    assert matching or not accepted
    if matching and not accepted:
        with pytest.raises(OptionError, match=r"weights|is given twice"):
            parse([*ALIKE.get(name, ()), f"--{name}={value}"])


@pytest.mark.parametrize("spelling", ["Espanol", "Español", "norwegian bokmal", "hi_latn", "zh-tw", "XLM-R", " xlm-r"])
def test_languages(spelling: str) -> None:
    assert accepts("language", spelling)
    assert matches("language", spelling)


@some
@given(st.lists(items([*CHECKS, *DUPLICATE_CHECKS, "all", "none", "ecko"]), min_size=1, max_size=3))
@example(["all"])
@example(["None"])
@example(["label-in-text", " Echo "])
def test_checks(names: list[str]) -> None:
    value = ",".join(names)
    assert accepts("checks", value) == matches("checks", value)


@st.composite
def urls(draw: st.DrawFn) -> str:
    return "".join(
        draw(st.sampled_from(part))
        for part in (
            ["http://", "http://", "https://", "HTTP://", "ftp://", "", "//"],
            ["", "", "", "me@", "me:pw@"],
            ["h", "a-b.example", "127.0.0.1", "[::1]", "", "a b"],
            ["", "", ":", ":8000", ":080", ":0", ":65535", ":65536", ":x"],
            ["", "/", "/v1", "/v1/", "/a@b/v1", "/a b"],
            ["", "", "", "?", "?api-version=2024-10-21", "?api-version=", "?key=1", "?api-version=1&key=2"],
            ["", "", "", "", "#", "#x"],
        )
    )


@settings(max_examples=100)
@given(urls())
@example("http://h/a@b/v1")  # `a` may be the end of a password
def test_urls(url: str) -> None:
    assert accepts("base_url", url) == matches("base_url", url)


place = st.text(st.sampled_from("az09-_.: é/A"), max_size=6)


@pytest.mark.parametrize("name", ["vertex_project", "vertex_location"])
@some
@given(value=place)
def test_places(name: str, value: str) -> None:
    assume(value.isascii() and value not in ("", "--"))
    beside = ALIKE["vertex_endpoint"]
    elsewhere = ["--vertex_endpoint=1", *(flag for flag in beside if not flag.startswith(f"--{name}="))]
    assert (accepts(name, value) or accepts(name, value, *elsewhere)) == matches(name, value)


@some
@given(st.tuples(place, place, place), st.booleans(), st.sampled_from(["p", "example.com:p", "1"]))
@example(("mg-endpoint-1", "us-central1", "17"), True, "p")
def test_endpoints(texts: tuple[str, str, str], is_full: bool, project: str) -> None:
    assume("".join(texts).isascii())
    endpoint, location, _ = texts
    value = f"projects/{project}/locations/{location}/endpoints/{endpoint}" if is_full else endpoint
    assert accepts("vertex_endpoint", value) == matches("vertex_endpoint", value)


@some
@given(st.text(st.sampled_from("p1-_./:"), max_size=5), st.text(st.sampled_from("aZ9_-./"), max_size=3), place)
def test_secrets(project: str, secret: str, version: str) -> None:
    value = f"projects/{project}/secrets/{secret}/versions/{version}"
    assert accepts("api_key_secret", value) == matches("api_key_secret", value)


def test_names_of_secrets() -> None:
    check_secret_version(SECRET)  # no stub
    assert matches("api_key_secret", SECRET)
    assert matches("api_key_secret", SECRET.replace("/3", "/latest"))


PATHS = [name for name, each in PARAMETERS.items() if "gs://" in each["regexes"][0]]


@pytest.mark.parametrize("name", PATHS)
@settings(max_examples=8)
@given(tail=st.text(st.sampled_from("aZ9._-/ é=*?[]{}%&"), min_size=1, max_size=8))
def test_paths(name: str, tail: str) -> None:
    value = f"gs://bucket/{tail}{'.yaml' if name == 'config' else '.txt'}"
    assert accepts(name, value) == matches(name, value)


def test_paths_and_numbers_are_found() -> None:
    assert set(PATHS) == {
        *("tasks", "topics", "brainstorm_template", "example_template", "config", "exclude", "output")
    }
    assert matches("topics", "none") and matches("output", "gs://bucket") and matches("output", "gs://bucket/")
    assert {"task_requests", "seed", "thinking_budget", "max_output_tokens"} <= set(INTEGERS)
    assert {"temperature", "top_p", "offline_fault_rate"} <= set(DECIMALS)


# --- what no pattern may take

_GS = [
    *("", "out", "/tmp/out", "file:///tmp/x", "s3://bucket/x", "gs:/bucket/x", "gs://", "gs://B/x", "gs://-b/x"),
    "GS://bucket/x",
]
_COUNT = ["", "0", "-1", "1.5", "x", "1e3", "0x10", " 5", "5 ", "5,", "1;2", "½"]
_ANY = ["", "\n", "x\n--seed=1"]
BAD: dict[str, list[str]] = {
    **{name: [*_GS, "gs://bucket/a\nb", "prefix gs://bucket/x"] for name in PATHS},
    **{name: [*_COUNT, *_ANY] for name in INTEGERS},
    **{name: ["", ".", "+", "-1", "-0.1", "inf", "nan", "x", "1,5", " 1", "1 ", "0x1", *_ANY] for name in DECIMALS},
    "seed": ["", "1.0", "9223372036854775808", "-9223372036854775809", "x", "--1", "1e3"],
    "thinking_budget": ["", "-2", "-10", "x", "0.5"],
    "temperature": ["2.1", "2.0001", "3", "20", "-0.1", "nan", "1e9"],
    "top_p": ["0", "0.0", ".0", "1.01", "2", "-1", "10"],
    "offline_fault_rate": ["1.1", "-0.1", "11"],
    "requests_per_minute": ["0", "0.0", "-1", "inf"],
    "language": [
        *("", "Germn", "English,", ",English", "English:-1", "English:x", "English;German", "xlm-r,English", "no-Name")
    ],
    "difficulty": ["colege", "PhD:", "PhD,,college", "high", "PhD college"],
    "clarity": ["clearly", "clear:1:1"],
    "num_words": ["at least 5", "10", "at least 100 words"],
    "label_plan": ["plan", "team=data", '{"a":"b"}', "free,planned"],
    "checks": ["", "ecko", "all,echo", "echo,", "none none", "near_duplicates"],
    "llm": ["", "Gemini", "openai ", "gpt-4"],
    "base_url": [
        *("", "127.0.0.1:8000", "ftp://h/v1", "http://", "http://me:pw@h/v1", "http://h/v1?key=1", "http://h/v1#k"),
        *("http://h:99999/v1", "http://h /v1", "http://h/v1?api-version=1&key=2", "javascript:alert(1)"),
    ],
    "api_key_secret": [
        *("", "sk-abcdefghijklmnop", "projects/p/secrets/s", f"{SECRET}/", f"/{SECRET}", f"{SECRET}?x=1"),
        *("projects/p-1/secrets/../versions/1", "projects/p-1/secrets/key/versions/0"),
        "projects/p-1/locations/r/secrets/key/versions/1",
    ],
    "vertex_project": ["", "a b", "p/q", "p;q"],
    "vertex_location": ["", "US", "x.evil/", "us central1"],
    "vertex_endpoint": ["", "a b", "projects/p", "projects/p/locations/r/endpoints/", "-1", "1-"],
    "model": ["", " ", "a\nb"],
    "verify_model": ["", "  "],
    **{name: ["", "1", "1,2,3", "-1,2", "a,b", "nan,1", "1;2", "1,1e3"] for name in ("price", "verify_price")},
    "refresh": ["", "a/b", "..", ".a", "a" * 65, "a b", "a\n"],
    "license": ["", "MIT License", "CC-BY", "a" * 65],
    **{name: ["", "maybe", "yes", "1", "true ", "true,false", "on"] for name in SWITCHES},
    **{name: ["", "x", "flex ", "auto,never", "off"] for name in ("safety_threshold", "service_tier")},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_bad_values_are_refused(name: str) -> None:
    assert BAD[name]
    for value in BAD[name]:
        assert not matches(name, value), value
        assert not PATTERNS[name].fullmatch(value), value
