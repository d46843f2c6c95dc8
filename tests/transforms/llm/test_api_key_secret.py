"""--api_key_secret: the key is read in the process that needs it, by Google's real client over a real socket, and is
found nowhere else."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import google.auth
import google.oauth2.credentials
import pytest
import requests
from google.auth.transport.requests import AuthorizedSession
from hypothesis import given
from hypothesis import strategies as st
from textmint.pipelines.cli.run import target_of
from textmint.pipelines.generate import build
from textmint.pipelines.options.backends import check_secret
from textmint.pipelines.options.config import Config
from textmint.pipelines.options.errors import OptionError
from textmint.pipelines.options.parse import parse
from textmint.transforms.llm import secrets as api_key
from textmint.transforms.llm.base import RequestError, Transient, fingerprint_of
from textmint.transforms.llm.gemini import GeminiBackend
from textmint.transforms.llm.openai import OpenAIBackend
from textmint.transforms.llm.secrets import SecretUnreadable, check_secret_version, fetch_key

from tests.integration.test_endpoints import KEY, TOKEN, holds_a_secret, layers, short_graph  # noqa: F401  a fixture
from tests.support.helpers import rows_of, run_main
from tests.support.llm_server import LlmServer
from tests.support.secret_manager import SecretManager

NAME = "projects/p-1/secrets/key/versions/3"
OTHER = "sk-textmint-of-the-environment-0000"
FLINK = ("--runner=FlinkRunner", "--flink_master=cluster:8081")  # an engine elsewhere, which needs no more options
PORTABLE = ("--runner=PortableRunner", "--job_endpoint=cluster:8099")
DATAFLOW = ("--runner=DataflowRunner", "--project=p-1", "--region=europe-west4", "--temp_location=gs://bucket/tmp")


def named(secret: str) -> str:
    return NAME.replace("/key/", f"/{secret}/")


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys, no credentials, and no look for those of a virtual machine."""
    variables = "OPENAI_API_KEY GEMINI_API_KEY GOOGLE_API_KEY OPENAI_BASE_URL GOOGLE_APPLICATION_CREDENTIALS"
    for name in (*variables.split(), "GOOGLE_CLOUD_PROJECT", "HTTP_PROXY", "http_proxy", api_key.EMULATOR_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretManager]:
    secrets = {"empty": b" \n", "words": b"my key", "binary": b"\xff\xfe", "none": b"", "other": OTHER.encode()}
    with SecretManager(key=f"{KEY}\n".encode(), **secrets) as running:
        monkeypatch.setenv(api_key.EMULATOR_VARIABLE, running.place)
        yield running


@pytest.fixture
def server(running: LlmServer) -> LlmServer:
    running.reset(require_key=KEY)
    return running


def problem_of(name: str) -> RequestError:
    with pytest.raises(RequestError) as error:
        fetch_key(name)
    assert error.value.__context__ is None  # nothing that holds a request or an answer travels along
    assert "\n" not in error.value.detail
    return error.value


def problem(*argv: str) -> str:
    with pytest.raises(OptionError) as error:
        parse(argv)
    (found,) = error.value.problems
    assert "\n" not in found
    assert list(Path().iterdir()) == []  # nothing was written, not even the output folder
    return found


def openai(*flags: str) -> list[str]:
    return ["--llm=openai", "--model=m-1", *flags]


def gemini(*flags: str) -> list[str]:
    return ["--llm=gemini", "--model=m-1", *flags]


# --- the name


@pytest.mark.parametrize(
    "name",
    [
        NAME,
        "projects/123456789012/secrets/openai_key-1/versions/latest",
        "projects/example.com:my-project/secrets/A/versions/prod",
    ],
)
def test_names(name: str) -> None:
    check_secret_version(name)


BAD_NAMES = [
    *("", " ", "key", KEY, "projects/p-1/secrets/key", "projects/p-1/secrets/key/versions/", f"{NAME}/", f"/{NAME}"),
    *(f"{NAME}\n", f" {NAME}", "projects/p-1/secrets/key/versions/0", "projects/p-1/secrets/key/versions/-1"),
    *("projects/p-1/secrets/a b/versions/1", "projects/p-1/secrets/../versions/1", "projects/../secrets/a/versions/1"),
    *("projects/p-1/locations/europe-west4/secrets/a/versions/1", "projects//secrets/a/versions/1", f"{NAME}:access"),
    *(f"https://secretmanager.googleapis.com/v1/{NAME}", "projects/p-1/secrets/a%2fb/versions/1", f"{NAME}?x=1"),
    *("projects/p-1/secrets/" + "a" * 256 + "/versions/1", "projects/Ünicode/secrets/a/versions/1"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_what_is_no_name_is_refused_and_not_quoted(name: str, manager: SecretManager) -> None:
    with pytest.raises(ValueError, match="projects/PROJECT/secrets/NAME/versions/NUMBER"):
        fetch_key(name)
    said = problem(*openai("--base_url=http://127.0.0.1:9/v1", f"--api_key_secret={name}"))
    assert said.startswith("--api_key_secret: a secret's version is named projects/")
    assert "sk-" not in said
    assert manager.asked == []


@given(st.text(alphabet="projects/v1-_.:?#%@\\ \n", max_size=60))
def test_no_name_leads_elsewhere(tail: str) -> None:
    """Whatever passes is three pairs of a word and a name, in which nothing has a meaning in a URL."""
    for name in (tail, f"projects/p-1/secrets/{tail}", f"projects/{tail}/secrets/a/versions/1"):
        try:
            check_secret_version(name)
        except ValueError:
            continue
        assert len(name.split("/")) == 6
        assert not re.search(r"[?#%@\\\s]|\.\./", name)


# --- reading it


def test_the_key_is_read_over_a_socket(manager: SecretManager) -> None:
    assert fetch_key(NAME) == KEY  # without the line break that `echo` leaves
    ((path, headers),) = manager.asked
    assert path == f"/v1/{NAME}:access"
    assert "secretmanager" not in headers["Host"]


def test_no_token_goes_to_a_stand_in(manager: SecretManager, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = google.oauth2.credentials.Credentials(TOKEN)  # type: ignore[no-untyped-call]
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (credentials, "p-1"))
    fetch_key(NAME)
    assert TOKEN not in str(manager.asked)


@pytest.fixture
def google_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[requests.Response, list[Any]]]:
    """What Google would answer, and a list of what it was asked."""
    answer, seen = requests.Response(), list[Any]()

    def request(self: AuthorizedSession, method: str, url: str, *_: object, **__: object) -> requests.Response:
        seen.append((method, url, self.credentials.token))
        return answer

    credentials = google.oauth2.credentials.Credentials(TOKEN)  # type: ignore[no-untyped-call]
    monkeypatch.setattr(google.auth, "default", lambda *_, **__: (credentials, "p-1"))
    monkeypatch.setattr(AuthorizedSession, "request", request)
    yield answer, seen


def test_without_a_stand_in_google_is_asked_with_default_credentials(
    google_answers: tuple[requests.Response, list[Any]],
) -> None:
    answer, seen = google_answers
    answer.status_code, answer._content = 200, b'{"payload": {"data": "aw=="}}'
    assert fetch_key(NAME) == "k"
    assert seen == [("GET", f"https://secretmanager.googleapis.com/v1/{NAME}:access", TOKEN)]


def test_credentials_that_are_not_taken(google_answers: tuple[requests.Response, list[Any]]) -> None:
    answer, seen = google_answers
    answer.request = requests.Request("GET", "https://secretmanager.googleapis.com").prepare()
    answer.status_code, answer._content = 401, b'{"error": {"code": 401, "message": "Bad credentials."}}'
    error = problem_of(NAME)
    assert isinstance(error, SecretUnreadable)
    assert (error.detail, error.is_forbidden) == ("Bad credentials", False)
    assert "gcloud auth application-default login" in error.remedy
    assert len(seen) == 1


UNREADABLE = {
    "missing": ("Secret [projects/17/secrets/missing] not found", "check the project, the secret and the version"),
    "forbidden": ("Permission 'secretmanager.versions.access' denied", "roles/secretmanager.secretAccessor"),
    "off": ("Secret Manager API has not been used in project 17", "gcloud services enable secretmanager"),
    "disabled": ("Secret Version [projects/17/secrets/s/versions/1] is in DISABLED state", "enable the version"),
    "empty": ("holds something else than a key", "the key alone"),
    "none": ("holds something else than a key", "the key alone"),
    "words": ("holds something else than a key", "the key alone"),
    "binary": ("holds something else than a key", "the key alone"),
}


@pytest.mark.parametrize("secret", UNREADABLE)
def test_what_cannot_be_read_is_told_with_its_remedy(secret: str, manager: SecretManager) -> None:
    error = problem_of(named(secret))
    assert isinstance(error, SecretUnreadable)
    said, remedy = UNREADABLE[secret]
    assert said in error.detail
    assert remedy in error.remedy
    assert error.is_forbidden is (secret in ("forbidden", "off"))
    assert len(manager.asked) == 1  # asking again would not help
    flags = openai("--base_url=http://127.0.0.1:9/v1", f"--api_key_secret={named(secret)}")
    line = problem(*flags)
    assert line == f"--api_key_secret={named(secret)}: {error.detail}; {error.remedy}"
    assert run_main("generate", *flags).code == 2
    assert list(Path().iterdir()) == []


def test_no_credentials() -> None:
    error = problem_of(NAME)
    assert isinstance(error, SecretUnreadable)
    assert "no application default credentials" in error.detail
    line = problem(*openai(f"--api_key_secret={NAME}"))
    assert "gcloud auth application-default login" in line


def test_a_service_that_is_down_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    with SecretManager(fails=1, key=KEY.encode()) as manager:
        monkeypatch.setenv(api_key.EMULATOR_VARIABLE, manager.place)
        assert fetch_key(NAME) == KEY
        assert len(manager.asked) == 2


def test_a_service_that_is_down(manager: SecretManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_key, "_SECONDS", 0.2)
    error = problem_of(named("down"))
    assert isinstance(error, Transient)
    assert error.detail == "Secret Manager failed: The service is currently unavailable"
    monkeypatch.setenv(api_key.EMULATOR_VARIABLE, "127.0.0.1:9")
    error = problem_of(NAME)
    assert isinstance(error, Transient)
    assert error.detail == "Secret Manager could not be reached (ConnectionError)"
    line = problem(*openai("--base_url=http://127.0.0.1:9/v1", f"--api_key_secret={NAME}"))
    assert line.endswith("could not be reached (ConnectionError); see whether the network lets it through")


def test_the_log_does_not_hold_it_at_any_level(
    manager: SecretManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("google", "google.cloud", "google.cloud.secretmanager_v1", "google.auth", "urllib3"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, logger=name)
    with caplog.at_level(logging.DEBUG):
        fetch_key(NAME)
    assert caplog.records  # such as the connection
    assert not [record for record in caplog.records if "secretmanager" in record.name]  # the client logs its answers
    assert not any(holds_a_secret(repr(vars(record)).encode()) for record in caplog.records)


# --- which options go together


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--llm=offline"], "--api_key_secret is an option of --llm=openai and --llm=gemini, not of --llm=offline"),
        (
            ["--llm=vertex-endpoint", "--vertex_endpoint=1", "--vertex_project=p-1", "--vertex_location=r"],
            "--api_key_secret is an option of --llm=openai and --llm=gemini, not of --llm=vertex-endpoint",
        ),
        (gemini("--vertex_project=p-1"), "--api_key_secret is for the Gemini API, and Vertex AI takes the workers'"),
        (
            gemini("--vertex_location=global"),
            "--api_key_secret is for the Gemini API, and Vertex AI takes the workers'",
        ),
    ],
)
def test_it_is_refused_where_no_key_is_taken(argv: list[str], said: str, manager: SecretManager) -> None:
    assert problem(*argv, f"--api_key_secret={NAME}").startswith(said)
    assert manager.asked == []


def config_of(*argv: str) -> Config:
    return parse([*argv, "--output=../out"])[0]


def test_it_takes_the_place_of_a_key_in_the_environment(manager: SecretManager) -> None:
    assert config_of(*openai(f"--api_key_secret={NAME}")).backend == OpenAIBackend(
        model="m-1", base_url="https://api.openai.com/v1", api_key_secret=NAME
    )
    assert config_of(*gemini(f"--api_key_secret={NAME}")).backend == GeminiBackend(model="m-1", api_key_secret=NAME)
    # Beam's --project is there for Dataflow; who names a key wants the API that takes keys
    assert config_of(*gemini(f"--api_key_secret={NAME}", "--project=p-1")).backend == GeminiBackend(
        model="m-1", api_key_secret=NAME
    )
    verified = config_of(*openai(f"--api_key_secret={NAME}", "--verify", "--verify_model=m-2"))
    assert verified.verify_backend == dataclasses.replace(verified.backend, model="m-2")


def test_a_secret_is_looked_at_only_when_all_else_is_right(manager: SecretManager) -> None:
    problem(*openai(f"--api_key_secret={NAME}", "--seed=99999999999999999999"))
    assert manager.asked == []
    config_of(*openai(f"--api_key_secret={NAME}", "--verify"))
    assert len(manager.asked) == 1


@pytest.mark.parametrize("make", [openai, gemini])
def test_where_the_key_comes_from_is_no_part_of_a_request(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, KEY)
    backend: Any = config_of(*make()).backend
    assert fingerprint_of(backend) == fingerprint_of(dataclasses.replace(backend, api_key_secret=NAME))


def test_vertex_takes_no_key() -> None:
    with pytest.raises(ValueError, match="Developer API"):
        GeminiBackend(model="m-1", project="p-1", api_key_secret=NAME)


# --- workers elsewhere


def test_who_starts_a_run_elsewhere_need_not_read_it(manager: SecretManager, caplog: pytest.LogCaptureFixture) -> None:
    for flags in (FLINK, (*PORTABLE, "--environment_type=EXTERNAL")):
        caplog.clear()
        parsed, _ = parse([*openai(f"--api_key_secret={named('forbidden')}"), *flags, "--output=../out"])
        assert parsed.backend.api_key_secret == named("forbidden")  # type: ignore[attr-defined]
        (record,) = [record for record in caplog.records if record.name == "textmint"]
        assert record.levelno == logging.WARNING
        assert "cannot be read from here" in record.getMessage()
        assert "service account" in record.getMessage()
    for secret in ("missing", "disabled", "empty"):
        assert named(secret) in problem(*openai(f"--api_key_secret={named(secret)}"), *FLINK)


def test_a_worker_on_this_machine_has_to_read_it(manager: SecretManager) -> None:
    with pytest.raises(OptionError, match="secretAccessor"):
        check_secret(named("forbidden"), "here")
    for flags in ((), (*PORTABLE, "--environment_type=LOOPBACK"), ("--runner=FlinkRunner", "--flink_master=[local]")):
        problem(*openai(f"--api_key_secret={named('forbidden')}"), *flags)


REMEDY = "keep the key in Secret Manager and name it by --api_key_secret=projects/PROJECT/secrets/NAME/versions/NUMBER"


def problems_on(runner: tuple[str, ...], argv: list[str]) -> str:
    with pytest.raises(OptionError) as error:
        parse([*argv, *runner])
    assert list(Path().iterdir()) == []
    return "\n".join(error.value.problems)


@pytest.mark.parametrize("runner", [FLINK, DATAFLOW, PORTABLE], ids=["flink", "dataflow", "portable"])
def test_a_key_of_this_machine_is_none_to_workers_elsewhere(
    runner: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = problems_on(runner, openai())
    assert f"workers of this --runner do not have this machine's environment, so not OPENAI_API_KEY: {REMEDY}" in said
    said = problems_on(runner, openai("--base_url=http://10.0.0.7:8000/v1"))
    assert f"{REMEDY}; or unset it, if this endpoint wants none" in said
    assert KEY not in said
    if runner is not DATAFLOW:  # which has a project
        monkeypatch.setenv("GEMINI_API_KEY", KEY)
        assert f"so not GEMINI_API_KEY: {REMEDY}; or set --vertex_project" in problems_on(runner, gemini())
    monkeypatch.delenv("OPENAI_API_KEY")
    assert REMEDY in problems_on(runner, openai())


def test_workers_elsewhere_that_need_no_key_or_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    vertex = parse([*gemini("--vertex_project=p-1"), *FLINK, "--output=../out"])[0]
    assert vertex.backend == GeminiBackend(model="m-1", project="p-1", location="global")
    parse([*openai("--base_url=http://10.0.0.7:8000/v1"), *FLINK, "--output=../out"])
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for environment in ("EXTERNAL", "PROCESS", "LOOPBACK"):
        parse([*openai(), *PORTABLE, f"--environment_type={environment}", "--output=../out"])


# --- whole runs


def run_flags(llm: str, server: LlmServer, output: Path, *flags: str) -> list[str]:
    place = f"{server.base_url}/v1" if llm == "openai" else server.base_url
    sizes = ("--task_requests=1", "--examples_per_task=1", "--checks=none", "--keep_raw")
    return [f"--llm={llm}", "--model=m-1", f"--base_url={place}", *sizes, f"--output={output}", *flags]


@pytest.mark.parametrize("llm", ["openai", "gemini"])
def test_a_run_with_a_key_from_secret_manager_leaves_no_trace_of_it(
    llm: str,
    server: LlmServer,
    manager: SecretManager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OTHER)  # the named one wins
    monkeypatch.setenv("GEMINI_API_KEY", OTHER)
    with caplog.at_level(logging.DEBUG):
        done = run_main("generate", *run_flags(llm, server, tmp_path / "out", f"--api_key_secret={NAME}"))
    assert done.code == 0, done.err
    stats = server.stats()
    assert stats["by_status"] == {"200": 21}
    assert len(manager.asked) == 2  # once to see that it is there, and once by the engine
    assert all(OTHER not in str(sent["headers"]) for sent in server.recent())
    rows = [rows_of(tmp_path / "out", kind) for kind in ("examples", "tasks", "rejects")]
    assert len(rows[0]) == 20
    files = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert (
        json.loads((tmp_path / "out/manifest.json").read_text())["refreshes"]["base"]["options"]["api_key_secret"]
        == NAME
    )
    said = (done.out, done.err, caplog.text, *capfd.readouterr(), repr(rows))
    assert not any(holds_a_secret(text.encode()) for text in said)
    assert not any(holds_a_secret(content) for content in files)


@pytest.mark.parametrize("llm", ["openai", "gemini"])
def test_no_key_travels_with_the_graph(llm: str, manager: SecretManager, tmp_path: Path) -> None:
    flags = [f"--llm={llm}", "--model=m-1", f"--api_key_secret={NAME}", f"--output={tmp_path / 'out'}"]
    config, options = parse(flags)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, config, target_of(config))
    proto = pipeline.to_runner_api().SerializeToString()
    assert any(NAME.encode() in layer for layer in layers(proto))  # what the graph holds is found
    assert not holds_a_secret(proto)
    assert not holds_a_secret(pickle.dumps(config.backend))
    told = [options.get_all_options(), options.display_data(), vars(options), target_of(config).description]
    for each in (*told, config, config.backend, config.backend.fingerprint()):
        assert not holds_a_secret(repr(each).encode())


def few_tasks(folder: Path) -> str:
    path = folder / "tasks.txt"
    path.write_text("Sort letters by tone\nSort birds by size\nSort bees by mood\nSort eggs by age\n")
    return f"--tasks={path}"


@pytest.mark.usefixtures("short_graph")
def test_every_worker_process_fetches_it(server: LlmServer, manager: SecretManager, tmp_path: Path) -> None:
    processes = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    flags = run_flags("openai", server, tmp_path / "out", f"--api_key_secret={NAME}", few_tasks(tmp_path), *processes)
    done = run_main("generate", *flags)
    assert done.code == 0, done.err
    assert server.stats()["by_status"] == {"200": 4}
    assert len(manager.asked) == 3  # the launcher to see that it is there, and each of two workers


@pytest.mark.usefixtures("short_graph")
@pytest.mark.parametrize("llm", ["openai", "gemini"])
def test_a_key_that_the_endpoint_does_not_take_is_named_and_not_shown(
    llm: str, server: LlmServer, manager: SecretManager, tmp_path: Path
) -> None:
    server.reset(require_key="another", echo_key=True)
    secret = f"--api_key_secret={NAME}"
    done = run_main("generate", *run_flags(llm, server, tmp_path / "out", secret, few_tasks(tmp_path)))
    assert done.code == 1
    assert f"the secret {NAME}" in done.err
    assert not holds_a_secret(done.err.encode())


@pytest.mark.usefixtures("short_graph")
def test_a_secret_that_goes_away_ends_the_run_with_its_remedy(
    server: LlmServer, manager: SecretManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textmint.pipelines.options.validate.check_secret", lambda *_: None)
    secret = f"--api_key_secret={named('disabled')}"
    done = run_main("generate", *run_flags("openai", server, tmp_path / "out", secret, few_tasks(tmp_path)))
    assert done.code == 1
    assert "is in DISABLED state" in done.err
    assert "enable the version" in done.err
    assert "Traceback" not in done.err
    assert server.stats()["requests"] == 0


def test_a_session_does_not_show_its_key(manager: SecretManager) -> None:
    async def opened(backend: Any) -> str:
        session = await backend.open()
        try:
            return f"{session!r} {backend!r}"
        finally:
            await session.aclose()

    for backend in (OpenAIBackend(model="m", api_key_secret=NAME), GeminiBackend(model="m", api_key_secret=NAME)):
        assert KEY not in asyncio.run(opened(backend))
    assert len(manager.asked) == 2
