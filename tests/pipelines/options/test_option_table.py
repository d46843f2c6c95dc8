"""The option table: switches with and without a value, and files of options that lie in an object store."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, StandardOptions
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.pipelines.options.table import GROUPS, OPTIONS, GenerateOptions
from textmint.transforms.storage.gcs import write

from tests.support.gcs_server import GcsServer

SWITCHES = ("verify", "retry_rejects", "recompute", "rebuy", "replace", "keep_raw", "no_report")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_of(*argv: str) -> Config:
    return parse(argv)[0]


def problem(*argv: str) -> str:
    with pytest.raises(OptionError) as error:
        parse(argv)
    (found,) = error.value.problems
    assert "\n" not in found
    return found


# --- the table


def test_it_is_beams() -> None:
    assert issubclass(GenerateOptions, PipelineOptions)
    assert list(dict.fromkeys(option.group for option in OPTIONS)) == list(GROUPS)


def test_which_options_are_switches() -> None:
    assert [option.name for option in OPTIONS if option.is_switch] == list(SWITCHES)


def test_every_option_explains_itself() -> None:
    for option in OPTIONS:
        assert option.help and (option.metavar or option.is_switch), option.name
        assert "%" not in option.help, "argparse would take it for a format"
        assert option.default in (*option.choices, None) or not option.choices


# --- switches, which a Flex Template passes as --name=value


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_with_and_without_a_value(name: str) -> None:
    assert config_of().typed[name] is False
    for flag, value in {"": True, "=true": True, "=True": True, "=false": False, "=FALSE": False}.items():
        assert config_of(f"--{name}{flag}").typed[name] is value
    assert config_of(f"--{name}", "--seed", "7").typed[name] is True  # it takes no option for its value
    assert config_of(f"--{name}", f"--{name}=false").typed[name] is False


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["maybe", "", "yes", "1", "true\n", "x\ny"])
def test_another_value_is_refused(name: str, value: str) -> None:
    assert problem(f"--{name}={value}") == f"argument --{name}: {value!r} is neither true nor false"


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_in_the_config_file(name: str) -> None:
    def of(text: str, *flags: str) -> object:
        Path("c.yaml").write_text(f"{name}: {text}")
        return config_of("--config=c.yaml", *flags).typed[name]

    assert [of(text) for text in ("true", "'true'", "false", "'false'")] == [True, True, False, False]
    assert of("true", f"--{name}=false") is False
    assert of("false", f"--{name}") is True
    Path("c.yaml").write_text(f"{name}: maybe")
    assert problem("--config=c.yaml") == f"argument --{name}: 'maybe' is neither true nor false"


def test_a_switch_that_is_on_reaches_what_is_sent_to_workers() -> None:
    """Beam writes options down as JSON, and makes flags of it again on the other side."""
    for flag in ("--verify", "--verify=true"):
        sent = parse([flag, "--keep_raw=false"])[1].get_all_options(drop_default=True)
        there = PipelineOptions.from_dictionary(json.loads(json.dumps(sent))).view_as(GenerateOptions)
        assert (there.verify, there.keep_raw) == (True, False)


def test_a_view_is_made_once_and_shows_what_is_set_later() -> None:
    options = parse(["--runner=FnApiRunner", "--experiments=one"])[1]
    view = options.view_as(DebugOptions)
    assert options.view_as(DebugOptions) is view
    assert options.view_as(StandardOptions).runner == "FnApiRunner"
    view.view_as(StandardOptions).runner = "PrismRunner"  # through a view that Beam itself made
    assert options.view_as(StandardOptions).runner == "PrismRunner"
    for copied in (copy.deepcopy(options), pickle.loads(pickle.dumps(options))):  # Beam's Pipeline copies its options
        there = copied.view_as(DebugOptions)
        there.experiments.append("two")
        assert copied.get_all_options()["experiments"] == ["one", "two"]
        assert view.experiments == ["one"]


def test_labels_as_a_template_passes_them() -> None:
    assert config_of("--label_plan=planned", "--keep_raw=true", '--labels={"team":"data"}').plans_labels is True
    assert config_of("--label_plan=free").plans_labels is False


# --- files of options in an object store, which are all that the launcher of a template has

OBJECTS = {
    "topics.txt": b"reefs\n",
    "e.jinja2": b"{{ task }}",
    "b.jinja2": b"Tasks",
    "c.yaml": b"seed: 9\nverify: true",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    """A bucket that holds them, and one that may not be read."""
    with GcsServer(tmp_path_factory.mktemp("store"), buckets=("a-bucket", "forbidden-bucket:create")) as started:
        yield started


@pytest.fixture
def gcs(store: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's real client, asking a server on this machine."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
    for name, content in OBJECTS.items():
        write(f"gs://a-bucket/in/{name}", content)


def test_files_of_options_may_lie_in_a_bucket(gcs: None) -> None:
    config = config_of(
        "--topics=gs://a-bucket/in/topics.txt",
        "--example_template=gs://a-bucket/in/e.jinja2",
        "--brainstorm_template=gs://a-bucket/in/b.jinja2",
        "--config=gs://a-bucket/in/c.yaml",
    )
    assert config.topics == ("reefs",)
    assert (config.example_template.stem, config.example_template.text) == ("e", "{{ task }}")
    assert (config.brainstorm_template.stem, config.brainstorm_template.text) == ("b", "Tasks")
    assert (config.seed, config.typed["verify"]) == (9, True)


@pytest.mark.parametrize("option", ["topics", "example_template", "brainstorm_template", "config"])
def test_a_file_in_a_bucket_that_is_missing_or_forbidden(option: str, gcs: None) -> None:
    for path, reason in {
        "gs://a-bucket/in/x": "there is no such file; check the path",
        "gs://no-such-bucket/x": "404 The specified bucket does not exist; name a bucket that is there",
        "gs://forbidden-bucket/x": "403 .* does not have storage.objects.get access .*; grant whoever runs this .*",
    }.items():
        told = re.escape(f"--{option} {path}: cannot be read: ") + reason
        assert re.fullmatch(told, problem(f"--{option}={path}"))
    assert problem(f"--{option}=gs://x/y").startswith(f"--{option} gs://x/y: 'x' is no name of a bucket, which has ")


def test_an_output_that_is_not_written_to_is_listed_only(
    gcs: None, store: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("it was written to")

    monkeypatch.setattr("textmint.transforms.storage.gcs.write", refused)
    assert parse(["--output=gs://a-bucket/out/"], asks=False)[0].output == "gs://a-bucket/out"
    with pytest.raises(OptionError, match=r"cannot be read: .*; name a bucket that is there"):
        parse(["--output=gs://no-bucket/out"], asks=False)
