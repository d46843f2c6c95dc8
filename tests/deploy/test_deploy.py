"""deploy/: the image has the locked Beam, the commands name options that exist, and the Terraform is complete and
grants no more than it must."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from textmint.pipelines.options.parse import full_parser, parse
from textmint.pipelines.runners import worker_code
from textmint.pipelines.runners.dataflow_options import LAUNCH_SCRIPT

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
README = (DEPLOY / "README.md").read_text("utf-8")
TERRAFORM = {path.name: path.read_text("utf-8") for path in sorted((DEPLOY / "terraform").glob("*.tf"))}


def options() -> set[str]:
    """Returns every option of ours and of Beam's."""
    return {name for action in full_parser()._actions for name in action.option_strings}


def parameters_of_template() -> set[str]:
    metadata = json.loads((DEPLOY / "metadata.json").read_text("utf-8"))
    return {parameter["name"] for parameter in metadata["parameters"]}


# --- the image


def instructions() -> list[tuple[str, str]]:
    """Returns the Dockerfile's instructions, and their arguments."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def test_beam_is_the_locked_one_and_python_one_that_textmint_runs_on() -> None:
    (locked,) = re.findall(r"^apache-beam==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    arguments = dict(what.split("=", 1) for name, what in instructions() if name == "ARG" and "=" in what)
    assert arguments["BEAM_VERSION"] == locked
    assert ("FROM", "apache/beam_python${PYTHON_VERSION}_sdk:${BEAM_VERSION} AS base") in instructions()
    version = arguments["PYTHON_VERSION"]
    assert f"python{version.replace('.', '')}-template-launcher-base" in DOCKERFILE
    assert (3, 10) <= tuple(map(int, version.split("."))) < (3, 14)


def test_what_is_copied_is_there_and_is_sent() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    copied = [what.split()[:-1] for name, what in instructions() if name == "COPY" and "--from" not in what]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert source in sent, f"{source} is kept from the build by .dockerignore"
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "examples", "deploy"}
    assert packages <= {source for sources in copied for source in sources}


def test_what_is_sent_to_cloud_build_is_enough() -> None:
    lines = (ROOT / ".gcloudignore").read_text("utf-8").splitlines()
    docker = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line for line in docker if line.startswith("!")} <= set(lines)
    assert {"!deploy/Dockerfile", "!deploy/cloudbuild.yaml", "!.dockerignore"} <= set(lines)


def test_dependencies_come_before_the_code_so_that_their_layers_stay() -> None:
    runs = [what for _, what in instructions()]
    install = "--require-hashes --no-deps --only-binary=:all: -r requirements.lock"
    locked = next(at for at, what in enumerate(runs) if install in what)
    code = next(at for at, what in enumerate(runs) if what.startswith("pipelines"))
    assert locked < code


def test_it_is_image_of_workers_and_launcher() -> None:
    every = instructions()
    stage = every[max(at for at, (name, _) in enumerate(every) if name == "FROM") :]
    assert ("ENTRYPOINT", '["/opt/apache/beam/boot"]') in stage
    assert any(name == "COPY" and "/opt/google/dataflow/python_template_launcher" in what for name, what in stage)
    variables = dict(what.split("=", 1) for name, what in stage if name == "ENV")
    assert variables == {LAUNCH_SCRIPT: "/template/launch.py", worker_code.IMAGE: "${IMAGE}"}
    assert ("COPY", "deploy/launch.py /template/launch.py") in stage


def test_cloud_build_gives_the_image_its_name() -> None:
    build = yaml.safe_load((DEPLOY / "cloudbuild.yaml").read_text("utf-8"))
    (step,) = build["steps"]
    assert {"--build-arg=IMAGE=$_IMAGE", "--tag=$_IMAGE", "--file=deploy/Dockerfile"} <= set(step["args"])
    assert build["images"] == ["$_IMAGE"]


def test_the_launch_script_defines_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands in __main__ is not found on workers."""
    tree = ast.parse((DEPLOY / "launch.py").read_text("utf-8"))
    assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)) for node in ast.walk(tree))
    monkeypatch.setattr(sys, "argv", ["launch.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(DEPLOY / "launch.py"), run_name="__main__")
    assert ended.value.code == 0
    assert "generate [--option=value ...]" in capsys.readouterr().out


# --- the commands of deploy/README.md


def commands() -> Iterator[list[str]]:
    """Yields the words of each command."""
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        block = re.sub(r"<<JSON.*?\nJSON\n", "\n", block, flags=re.DOTALL)
        for line in block.splitlines():
            yield shlex.split(line, comments=True)


def launch_body() -> dict[str, Any]:
    (body,) = re.findall(r"<<JSON\n(.*?)\nJSON\n", README, re.DOTALL)
    found: dict[str, Any] = json.loads(body)
    return found


def parameters_of_readme() -> Iterator[str]:
    for words in commands():
        for word in words:
            if word.startswith("--parameters="):
                yield from (pair.split("=", 1)[0] for pair in word.partition("=")[2].split(","))
    yield from launch_body()["launchParameter"]["parameters"]
    yield from re.findall(r"`(\w+)=[^`$]*`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))


def test_our_commands_are_ones_that_there_are() -> None:
    ours = [words for words in commands() if words[:1] == ["./run.sh"]]
    assert {words[1] for words in ours} == {"generate", "ledger"}
    for words in ours:
        if words[1] == "generate":
            assert {word.split("=")[0] for word in words[2:]} <= options()
        else:
            assert {word.split("=")[0] for word in words[2:]} <= {"--output", "--compact"}


def test_the_command_from_a_laptop_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with the variables that are set above it."""
    (words,) = [words for words in commands() if "--runner=DataflowRunner" in words]
    values = {"$PROJECT": "my-project", "$REGION": "europe-west4", "$BUCKET": "my-bucket", "$WORKER": "w@p"}
    argv = [re.sub(r"\$[A-Z]+", lambda found: values[found[0]], word) for word in words[2:]]
    config, _ = parse(argv)
    assert config.output == "gs://my-bucket/minted"


def test_parameters_are_options_of_ours_and_of_the_template() -> None:
    names = set(parameters_of_readme())
    assert {"output", "refresh", "llm", "model", "task_requests", "verify"} <= names
    assert {f"--{name}" for name in names} <= options()
    assert names <= parameters_of_template()


def test_files_that_the_commands_name_are_there() -> None:
    named = {name for words in commands() for word in words for name in re.findall(r"\bdeploy/[\w./]+", word)}
    assert {"deploy/Dockerfile", "deploy/cloudbuild.yaml", "deploy/metadata.json", "deploy/terraform"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_option_in_the_text_exists() -> None:
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    named = set(re.findall(r"`(--\w+)[=`]", text)) - {"--compact", "--parameters"}
    assert {"--dry_run", "--setup_file", "--sdk_container_image", "--no_wait_until_finish", "--push_to_hub"} <= named
    assert sorted(named - options() - {"--build"}) == []  # which is Docker's


# --- the Terraform


def strings(value: Any) -> Iterator[str]:
    """Yields every string in what was parsed, names among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inside in value.items():
            if name != "__comments__":
                yield name
                yield from strings(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from strings(inside)


PARSED = {name: hcl2.loads(text) for name, text in TERRAFORM.items()}
EVERYTHING = "\n".join(text for parsed in PARSED.values() for text in strings(parsed))


def blocks(kind: str) -> Iterator[dict[str, Any]]:
    for parsed in PARSED.values():
        yield from parsed.get(kind, [])


def resources() -> dict[tuple[str, str], dict[str, Any]]:
    """Returns what the Terraform says of each resource, by type and name."""
    return {
        (kind.strip('"'), name.strip('"')): body
        for block in blocks("resource")
        for kind, named in block.items()
        for name, body in named.items()
    }


def names_of(kind: str) -> set[str]:
    return {name.strip('"') for block in blocks(kind) for name in block if not name.startswith("__")}


def test_everything_is_declared_and_used() -> None:
    assert set(TERRAFORM) == {"main.tf", "monitoring.tf", "variables.tf", "outputs.tf", "versions.tf"}
    assert set(re.findall(r"\bvar\.(\w+)", EVERYTHING)) == names_of("variable")
    assert all("description" in body for block in blocks("variable") for body in block.values())
    assert set(re.findall(r"\blocal\.(\w+)", EVERYTHING)) == names_of("locals")
    referred = set(re.findall(r"\b(google_\w+)\.(\w+)\b", EVERYTHING))
    assert len(referred) > 5
    assert referred <= set(resources())


GRANTED = {
    ("google_project_iam_member", "scheduler"): {"dataflow.developer"},
    ("google_project_iam_member", "worker"): {"dataflow.worker", "aiplatform.user"},
    ("google_service_account_iam_member", "scheduler"): {"iam.serviceAccountUser"},
    ("google_storage_bucket_iam_member", "worker"): {"storage.objectUser", "storage.legacyBucketReader"},
    ("google_storage_bucket_iam_member", "scheduler"): {"storage.objectViewer"},
    ("google_secret_manager_secret_iam_member", "worker"): {"secretmanager.secretAccessor"},
    ("google_artifact_registry_repository_iam_member", "worker"): {"artifactregistry.reader"},
}


def roles(kind: str, name: str) -> set[str]:
    return set(re.findall(r"roles/([\w.]+)", "\n".join(strings(resources()[kind, name]))))


def test_nobody_may_do_more_than_they_must() -> None:
    members = {(kind, name) for kind, name in resources() if "_iam_" in kind}  # a binding would take from others
    assert {(kind, name): roles(kind, name) for kind, name in members} == GRANTED


def test_the_roles_are_those_of_the_readme() -> None:
    in_loops = " ".join(re.findall(r"for role in ([^;]+);", README))
    named = set(re.findall(r"roles/([\w.]+)", README)) | set(re.findall(r"[\w.]+", in_loops))
    assert {role for kind, name in resources() for role in roles(kind, name)} <= named


def test_the_bucket_is_closed_and_forgets_what_jobs_leave() -> None:
    bucket = resources()["google_storage_bucket", "data"]
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == '"enforced"'
    prefixes = [rule["condition"][0].get("matches_prefix") for rule in bucket["lifecycle_rule"]]
    assert ['"tmp/"', '"staging/"'] in prefixes
    assert "/minted" in TERRAFORM["main.tf"], "the dataset lies elsewhere"


def test_the_scheduler_launches_the_template() -> None:
    target = resources()["google_cloud_scheduler_job", "nightly"]["http_target"][0]
    assert target["uri"].strip('"') == (
        "https://dataflow.googleapis.com/v1b3/projects/${var.project}/locations/${var.region}/flexTemplates:launch"
    )
    assert "google_service_account.scheduler.email" in target["oauth_token"][0]["service_account_email"]
    assert set(re.findall(r"\b(launchParameter|jobName|containerSpecGcsPath|parameters) =", target["body"])) == {
        *launch_body(),
        *(name for name in launch_body()["launchParameter"] if name != "environment"),
    }


def test_the_scheduler_gives_options_of_ours_and_of_the_template() -> None:
    (default,) = [
        body["default"] for block in blocks("variable") for name, body in block.items() if name == '"parameters"'
    ]
    body = resources()["google_cloud_scheduler_job", "nightly"]["http_target"][0]["body"]
    merged = body[body.index("merge(") :]
    names = {name for name in default if not name.startswith("__")} | set(re.findall(r"\b(\w+) = ", merged))
    assert {"output", "refresh", "llm", "model", "task_requests"} <= names
    assert {f"--{name}" for name in names - {"api_key_secret"}} <= options()
    assert names <= parameters_of_template()


def test_the_template_is_made_of_the_same_metadata() -> None:
    spec = resources()["google_storage_bucket_object", "template"]["content"]
    assert 'file("${path.module}/../metadata.json")' in spec
    assert "sdkContainerImage = var.image" in spec
    assert Path(DEPLOY / "terraform" / ".." / "metadata.json").resolve() == DEPLOY / "metadata.json"
