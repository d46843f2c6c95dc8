"""The whole graph as Dataflow would get it: translated with every back end and a wide choice of options, without a
network and without credentials. Then, in a process that has only the wheel, everything in it is unpickled that a worker
would unpickle."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.dataflow.internal import apiclient
from google.protobuf.wrappers_pb2 import BytesValue
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.generate import build
from textmint.pipelines.graph.previous_run import NOTHING, PreviousRun, with_listings
from textmint.pipelines.options.parse import parse
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.storage.files import FoundFile

from tests.support.helpers import make_task
from tests.support.layers import forms_of, holds, layers
from tests.support.wheel import ROOT, python_with

OUTPUT = "mem://bucket/out"
MEGABYTE = 1_000_000
LIMIT = 10 * MEGABYTE
"""https://cloud.google.com/dataflow/docs/guides/common-errors, "job size exceeds limit"."""

DATAFLOW = (
    "--runner=DataflowRunner",
    "--dry_run=True",
    "--project=project-1",
    "--region=us-central1",
    "--temp_location=gs://bucket/tmp",  # under three letters Beam would wait for the network
    "--staging_location=gs://bucket/staging",
    "--job_name=textmint",
    "--sdk_container_image=gcr.io/project-1/textmint:1",
)
SECRETS = ("sk-marker-openai-0123456789", "marker-gemini-0123456789", "marker-google-0123456789", "hf_marker0123456789")

KEY = "--api_key_secret=projects/project-1/secrets/key/versions/1"

# Each factor's choices; every two choices of two factors come together in one of the cases.
FACTORS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "llm": {
        "offline": ("--llm=offline", "--offline_fault_rate=0.2"),
        "openai": ("--llm=openai", "--model=gpt-x", KEY, "--language=xlm-r"),
        "gemini": ("--llm=gemini", "--model=gemini-x", KEY, "--thinking_budget=0", "--safety_threshold=OFF"),
        "vertex": ("--llm=gemini", "--model=gemini-x", "--vertex_location=europe-west4", "--service_tier=flex"),
        "vertex-endpoint": ("--llm=vertex-endpoint", "--vertex_endpoint=123"),
    },
    "earlier": {"nothing": (), "many": ()},
    "verify": {"no": (), "yes": ("--verify",)},
    "checks": {"all": (), "some": ("--checks=echo,contaminated,wrong_length",)},
    "tasks": {"brainstormed": ("--task_requests=1000000",), "own": ("--tasks={tasks}",)},
    "labels": {"free": (), "planned": ("--label_plan=planned",)},
    "exclude": {"no": (), "yes": ("--exclude={texts}",)},
    "max_tasks": {"all": (), "few": ("--max_tasks=5",)},
    "templates": {"shipped": (), "own": ("--brainstorm_template={ideas}", "--topics=none")},
    "rows": {
        "plain": (),
        "more": ("--keep_raw", "--retry_rejects", "--parse_attempts=1", "--license=cc-by-4.0"),
    },
    "engine": {
        "default": (),
        "more": (
            "--experiments=use_runner_v2",
            "--number_of_worker_harness_threads=8",
            "--max_num_workers=10",
            "--labels=team=data",
        ),
    },
}


def pairs(case: Mapping[str, str]) -> set[frozenset[tuple[str, str]]]:
    return {frozenset(pair) for pair in itertools.combinations(case.items(), 2)}


def cases() -> list[dict[str, str]]:
    """Returns few cases in which every choice of a factor meets every choice of each other factor.

    Each starts from two choices, and takes, factor by factor, the choice with the most pairs not yet seen."""
    wanted = {
        frozenset([(one, a), (other, b)])
        for one, other in itertools.combinations(FACTORS, 2)
        for a in FACTORS[one]
        for b in FACTORS[other]
    }

    def begun_with(pair: frozenset[tuple[str, str]]) -> dict[str, str]:
        case = dict(sorted(pair))
        for factor in (factor for factor in FACTORS if factor not in case):
            meets = {
                choice: sum(frozenset([(factor, choice), chosen]) in wanted for chosen in case.items())
                for choice in FACTORS[factor]
            }
            case[factor] = max(meets, key=meets.__getitem__)
        return {factor: case[factor] for factor in FACTORS}

    found: list[dict[str, str]] = []
    while wanted:
        begun = [begun_with(pair) for pair in sorted(wanted, key=sorted)]
        found.append(max(begun, key=lambda case: len(pairs(case) & wanted)))
        wanted -= pairs(found[-1])
    return found


PLAIN = {factor: next(iter(choices)) for factor, choices in FACTORS.items()}
CASES = [*cases(), {**PLAIN, "checks": "none"}, {**PLAIN, "verify": "other", "llm": "openai", "labels": "planned"}]
MORE = {"none": ("--checks=none",), "other": ("--verify", "--verify_model=gpt-y")}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, store: dict[str, bytes]) -> None:
    """A key for each back end; the output folder lies in a store in memory, which is as remote as gs://."""
    for name in ("OPENAI_BASE_URL", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    for name, secret in zip(("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "HF_TOKEN"), SECRETS, strict=True):
        monkeypatch.setenv(name, secret)


TASKS = "".join(f"Classify letter {number:,} by its tone\n" for number in range(10_000)).encode()
TEXTS = b"It rains.\n"


@pytest.fixture
def own(tmp_path: Path, store: dict[str, bytes]) -> dict[str, str]:
    """The user's files: tasks, ten thousand of them, and excluded texts, where workers read them; a template,
    which travels in the graph."""
    template = tmp_path / "ideas.txt"
    template.write_text("Write tasks on {{ topic }}", "utf-8")
    store.update({"mem://bucket/in/tasks.txt": TASKS, "mem://bucket/in/texts.txt": TEXTS})
    return {"tasks": "mem://bucket/in/tasks.txt", "texts": "mem://bucket/in/texts.txt", "ideas": str(template)}


def left(ledger: int, published: int) -> PreviousRun:
    """What earlier runs left, so many files of it."""
    examples, tasks = (
        tuple(
            (f"{OUTPUT}/{kind}/refresh={n // 10}/part-{n % 10:05d}-{stable_hash(kind, n)[:16]}.parquet", f"{n // 10}")
            for n in range(published)
        )
        for kind in ("examples", "tasks")
    )
    found = (FoundFile(f"{OUTPUT}/ledger/replies-{stable_hash(n)[:20]}.parquet", 50_000 + n) for n in range(ledger))
    return PreviousRun(
        ledger=tuple(found),
        ledger_replies=200 * ledger,
        tasks=tasks,
        examples=examples,
        published_examples=100_000 * published,
    )


EARLIER = {"nothing": NOTHING, "many": left(20_000, 5_000)}


@dataclasses.dataclass(frozen=True)
class Translated:
    """A graph on its way to Dataflow."""

    job: Any
    options: PipelineOptions
    target: Any

    @property
    def proto(self) -> api.Pipeline:
        return self.job.proto_pipeline

    @property
    def labels(self) -> list[str]:
        """The labels of the steps at the top of the graph, in order."""
        (root,) = self.proto.root_transform_ids
        transforms = self.proto.components.transforms
        return [transforms[step].unique_name for step in transforms[root].subtransforms]

    @property
    def all_labels(self) -> list[str]:
        return [transform.unique_name for transform in self.proto.components.transforms.values()]

    def coder(self, coder_id: str) -> str:
        """Returns the name of a coder, such as kv(string_utf8,bytes)."""
        coder = self.proto.components.coders[coder_id]
        inner = ",".join(map(self.coder, coder.component_coder_ids))
        name = coder.spec.urn.split(":")[-2]
        if name == "pickled_python":
            name = BytesValue.FromString(coder.spec.payload).value.partition(b"$")[0].decode()
        return f"{name}({inner})" if inner else name


def translate(flags: list[str], previous: PreviousRun) -> Translated:
    config, options = parse([*DATAFLOW, f"--output={OUTPUT}", *flags])
    pipeline = beam.Pipeline(options=options)
    target = target_of(config)
    build(pipeline, config, target, with_listings(previous, target.staging))
    return Translated(pipeline.run().job, options, target)


def flags_of(case: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    return [
        flag.format_map(own)
        for factor, choice in case.items()
        for flag in (MORE[choice] if choice in MORE else FACTORS[factor][choice])
    ]


def steps_of(case: Mapping[str, str]) -> set[str]:
    """Returns the labels of the steps that the graph of a case must have."""
    steps = {"AgreeLabels", "BuildPrompt", "CheckQuality", "CountElements", "FindDuplicates", "Flatten", "JoinLedger"}
    steps |= {"LLMCall", "ParseJSON", "SampleAttributes", "Verdicts", "WriteDataset"}
    if case["tasks"] == "brainstormed":
        steps |= {"Rounds", "Seeds", "JoinSeeds", "TaskGenerate"}
    else:
        steps.add("ReadTasks")
    if case["labels"] == "planned":
        steps.add("PlanLabels")
    if case["verify"] != "no":
        steps.add("VerifyLabels")
    if case["checks"] == "all" or (case["checks"] == "some" and case["exclude"] == "yes"):
        steps |= {"TextsOfExamples", "NearCopies", "Judge"}
    return steps


def inner_of(case: Mapping[str, str]) -> set[str]:
    """Returns the labels of the optional parts that the graph of a case must have."""
    joins = {"JoinLedger"}
    joins |= {"JoinSeeds"} if case["tasks"] == "brainstormed" else set()
    joins |= {"PlanLabels/JoinLedger"} if case["labels"] == "planned" else set()
    joins |= {"VerifyLabels/JoinLedger"} if case["verify"] != "no" else set()
    inner: set[str] = set()
    if case["earlier"] != "nothing":
        inner |= {f"{join}/Ledger" for join in joins} | {"FindDuplicates/Published", "Flatten/Published"}
        if case["checks"] == "all":
            inner.add("NearCopies/PublishedTexts")
            if case["tasks"] == "brainstormed":  # those of the user's own are wanted in every refresh
                inner.add("Flatten/NearCopies/PublishedTasks")
    if case["exclude"] == "yes":
        inner.add("NearCopies/ExcludedTexts")
    if case["checks"] == "all":
        inner.add("Flatten/NearCopies")
    if case["max_tasks"] == "few":
        inner |= {"Flatten/Smallest", "Flatten/TakeUpTo"}
    if case["labels"] == "planned":
        inner.add("WriteDataset/AssignLabel_SetsFromLabel_Sets")
    return inner


SOMETIMES = {part for case in CASES for part in inner_of(case)}


def name_of(case: Mapping[str, str]) -> str:
    return "-".join(case.values())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of the cases leave their jobs, for the one that unpickles them all."""
    return tmp_path_factory.mktemp("jobs")


def test_every_two_choices_meet() -> None:
    met = set().union(*map(pairs, cases()))
    sizes = [len(choices) for choices in FACTORS.values()]
    assert len(met) == sum(one * other for one, other in itertools.combinations(sizes, 2))
    assert len(cases()) <= 12  # at least ten there must be: five back ends with two of the rest


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_graph_translates(case: dict[str, str], own: dict[str, str], written: Path) -> None:
    translated = translate(flags_of(case, own), EARLIER[case["earlier"]])
    (written / f"{name_of(case)}.pb").write_bytes(translated.proto.SerializeToString())

    assert set(translated.labels) == steps_of(case)
    assert SOMETIMES & set(translated.all_labels) == inner_of(case)
    assert len(set(translated.all_labels)) == len(translated.all_labels)
    check_whole(translated.proto)
    check_keys(translated)
    check_secrets(translated)
    assert translated.proto.ByteSize() < MEGABYTE // 2  # a twentieth of the limit, whatever earlier runs left
    environments = [str(environment) for environment in translated.proto.components.environments.values()]
    assert not any("main_session" in environment for environment in environments)
    assert any("gcr.io/project-1/textmint:1" in environment for environment in environments)


def check_whole(proto: api.Pipeline) -> None:
    """Every step of the proto hangs on its root, and whatever is read was written by one of them."""
    transforms = proto.components.transforms

    def below(step: str) -> Iterator[str]:
        yield step
        for each in transforms[step].subtransforms:
            yield from below(each)

    reached = [step for root in proto.root_transform_ids for step in below(root)]
    assert sorted(reached) == sorted(transforms)
    leaves = [transforms[step] for step in reached if not transforms[step].subtransforms]
    produced = {output for leaf in leaves for output in leaf.outputs.values()}
    for leaf in leaves:
        assert leaf.spec.urn, leaf.unique_name
        assert set(leaf.inputs.values()) <= produced, leaf.unique_name
    assert produced <= set(proto.components.pcollections)


def check_keys(translated: Translated) -> None:
    """What is grouped has keys that are the same bytes on every worker."""
    components = translated.proto.components
    groups = [each for each in components.transforms.values() if each.spec.urn == "beam:transform:group_by_key:v1"]
    assert len(groups) >= 10
    for group in groups:
        (source,) = group.inputs.values()
        coder = translated.coder(components.pcollections[source].coder_id)
        if "/ReshufflePerKey/" in group.unique_name:
            assert coder.startswith("kv(varint,"), group.unique_name
        elif "/Smallest/" in group.unique_name:  # one key for all, of Beam's own
            assert coder.startswith("kv(DeterministicFastPrimitivesCoderV2,"), group.unique_name
        else:
            assert coder.startswith("kv(string_utf8,"), (group.unique_name, coder)


def check_secrets(translated: Translated) -> None:
    proto = translated.proto.SerializeToString()
    environment = apiclient.Environment(
        packages=[],
        options=translated.options,
        environment_version="0",
        proto_pipeline_staged_url="gs://bucket/staging/pipeline.pb",
        proto_pipeline=translated.proto,
    )
    assert OUTPUT in str(environment.proto)  # it holds our options as well as Beam's
    for told in (
        proto,
        str(environment.proto).encode(),
        str(translated.job).encode(),
        repr(translated.options.get_all_options()).encode(),
        repr(translated.options.display_data()).encode(),
        repr(translated.target).encode(),
    ):
        assert not holds(told, *SECRETS)
    for layer in layers(proto):
        assert b"__main__" not in layer
        # The places of functions that are pickled by their code are told; only Beam's own may be among them.
        places = re.findall(re.escape(f"{ROOT}/".encode()) + rb"[\w./-]*", layer)
        assert all(b"/site-packages/apache_beam/" in place for place in places), places


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_a_graph_would_be_found(secret: str) -> None:
    pipeline = beam.Pipeline("FnApiRunner")
    _ = pipeline | beam.Create([1]) | beam.Map(_held, ({"deep": secret},))
    assert holds(pipeline.to_runner_api().SerializeToString(), *SECRETS)


def _held(element: int, held: Any) -> Any:
    return held


# --- sizes, and labels


LARGE_JOB = "large.pb"
LARGE = ("--task_requests=1000", "--label_plan=planned", "--verify", "--max_tasks=5", "--exclude={texts}")


def test_a_large_job_is_far_below_the_limit_and_its_labels_are_the_same_everywhere(
    own: dict[str, str], written: Path
) -> None:
    """Dataflow knows a step by its label, from one run to the next, so the same graph built again has the same. The
    cases above have a million requests for tasks, or ten thousand tasks of the user's own."""
    flags = ["--llm=openai", "--model=gpt-x", KEY, *(flag.format_map(own) for flag in LARGE)]
    one = translate(flags, EARLIER["many"])
    (written / LARGE_JOB).write_bytes(one.proto.SerializeToString())
    print(f"{one.proto.ByteSize():,} bytes")
    assert 100_000 < one.proto.ByteSize() < LIMIT // 20
    assert len(str(one.job)) < 100_000  # what goes to Dataflow beside it
    config, options = parse(
        [f"--output={OUTPUT}", *(flag for flag in flags if flag != KEY)]
    )  # which would be looked for
    pipeline = beam.Pipeline(options=options)
    target = target_of(config)
    build(pipeline, config, target, with_listings(EARLIER["many"], target.staging))
    local = {each.unique_name for each in pipeline.to_runner_api().components.transforms.values()}
    assert len(local) > 300
    # Beam makes another Create of it for Dataflow
    left_out = [label for label in local - set(one.all_labels) if not re.search("/Create/|/MaybeReshuffle$", label)]
    assert left_out == []


# --- unpickled where there is only the wheel


def read(installed: Path, folder: Path, *jobs: Path) -> subprocess.CompletedProcess[str]:
    here = folder / "empty"
    here.mkdir()
    command = [*python_with(installed, folder), str(ROOT / "tests" / "support" / "read_job.py"), *map(str, jobs)]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=120)


def test_all_that_is_pickled_is_read_with_the_wheel_alone(
    written: Path, installed_wheel: Path, tmp_path: Path, own: dict[str, str]
) -> None:
    if not (written / LARGE_JOB).exists():  # this test was chosen alone
        flags = ["--llm=openai", "--model=gpt-x", KEY, *(flag.format_map(own) for flag in LARGE)]
        (written / LARGE_JOB).write_bytes(translate(flags, EARLIER["many"]).proto.SerializeToString())
    done = read(installed_wheel, tmp_path, *sorted(written.glob("*.pb")))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["urns"]["beam:dofn:pickled_python_info:v1"] > 100
    assert set(told["urns"]) >= {
        "beam:coder:pickled_python:v1",
        "beam:combinefn:pickled_python:v1",
        "beam:transform:pickled_python:v1",
        "beam:view_fn:pickled_python_data:v1",
        "beam:window_mapping_fn:pickled_python:v1",
    }
    names = {name for name in told["names"] if not name.startswith(("apache_beam.", "builtins."))}
    assert names and {name.rpartition(".")[0].partition(".transforms")[0] for name in names} == {"textmint"}
    steps = {
        "llm_call._Call",
        "parse_json._Parse",
        "dataset.write_dataset._Publish",
        "ledger.read_ledger._Read",
        "labels.plan_labels._Seed",
    }
    assert {f"textmint.transforms.{step}" for step in steps} <= names
    modules = told["modules"]
    ours = {name: place for name, place in modules.items() if name.split(".")[0] == "textmint"}
    assert {
        "textmint.transforms.llm.openai",
        "textmint.transforms.llm_call",
        "textmint.pipelines.graph.passes_checks",
    } <= ours.keys()
    assert all(Path(place).is_relative_to(installed_wheel) for place in ours.values())
    assert "tests" not in modules
    assert {place for place in modules.values() if is_of_the_repository(place)} <= {
        str(ROOT / "tests/support/read_job.py")
    }
    assert not [place for place in told["path"] if is_of_the_repository(place)]


def is_of_the_repository(place: str) -> bool:
    path = Path(place)
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts


def test_a_function_that_is_not_in_the_wheel_is_noticed(installed_wheel: Path, tmp_path: Path) -> None:
    pipeline = beam.Pipeline("FnApiRunner")
    _ = pipeline | beam.Create([make_task()]) | beam.Map(forms_of)
    (tmp_path / "job.pb").write_bytes(pipeline.to_runner_api().SerializeToString())
    done = read(installed_wheel, tmp_path, tmp_path / "job.pb")
    assert done.returncode != 0
    assert "No module named 'tests'" in done.stderr
