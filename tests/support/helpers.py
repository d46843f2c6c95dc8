"""Helpers for tests of the steps: elements with sensible fields, and a way to run a step and see all it did."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.server
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_pipeline import TestPipeline
from msgspec.structs import replace
from textmint.pipelines.__main__ import main
from textmint.transforms.core.attributes import Attributes, parse_attributes
from textmint.transforms.core.elements import (
    Choice,
    Draft,
    Example,
    FinishReason,
    Prompt,
    Reject,
    Reply,
    Task,
    TaskList,
    TaskSeed,
    Usage,
)
from textmint.transforms.core.identity import stable_hash
from textmint.transforms.core.prompt_template import PromptTemplate
from textmint.transforms.core.tasks import task_id

TestPipeline.__test__ = False  # its name makes pytest take it for a class of tests
ROOT = Path(__file__).resolve().parents[2]
REPLY = '{"input_text": "It rains.", "label": "weather", "misleading_label": "sport"}'
TEMPLATE = PromptTemplate("mine", "{{ task }} | {{ language }} | {{ difficulty }} | {{ clarity }} | {{ num_words }}")
BRAINSTORM = PromptTemplate("ideas", "Tasks{% if topic %} on {{ topic }}{% endif %}")


def shipped_template(stem: str) -> PromptTemplate:
    return PromptTemplate(stem, (ROOT / "templates" / f"{stem}.jinja2").read_text("utf-8"))


def attributes(**chosen: str) -> Attributes:
    names = ("language", "difficulty", "clarity", "num_words")
    return parse_attributes(**{name: chosen.get(name) for name in names})


# --- elements


def make_seed(round_: int = 0, topic: str | None = "bees") -> TaskSeed:
    return TaskSeed(seed_id=stable_hash("task_seed", "base", round_, 42), round=round_, topic=topic, seed=42)


def make_list(*items: str, round_: int = 0, topic: str | None = "bees", **fields: Any) -> TaskList:
    known: dict[str, Any] = {"source": "brainstorm", "model": "m-1", "template": "ideas@0", **fields}
    return TaskList(round=round_, topic=topic, items=items, **known)


def make_task(text: str = "Sort mail by topic", round_: int = 0) -> Task:
    return Task(
        task_id=task_id(text),
        task=text,
        source="brainstorm",
        round=round_,
        topic="bees",
        model="m-1",
        template="ideas@0",
    )


def make_draft(text: str = "Sort mail by topic", replica: int = 0) -> Draft:
    return Draft(
        draft_id=stable_hash("draft", task_id(text), replica, 42),
        task_id=task_id(text),
        task=text,
        replica=replica,
        seed=42,
        language="English",
        difficulty="college",
        clarity="clear",
        num_words="at least 10",
    )


def make_prompt(text: str = "Sort mail by topic", replica: int = 0) -> Prompt:
    return Prompt(
        kind="example", subject=make_draft(text, replica), text=f"Do: {text} #{replica}", template="classify@0"
    )


def make_brainstorm_prompt(round_: int = 0) -> Prompt:
    return Prompt(kind="task_list", subject=make_seed(round_), text=f"Ideas #{round_}", template="ideas@0")


def make_reply(prompt: Prompt, text: str = REPLY, finish_reason: FinishReason = "stop") -> Reply:
    return Reply(
        prompt=prompt,
        request_id=stable_hash("request", prompt.prompt_id),
        text=text,
        finish_reason=finish_reason,
        model="m-1",
        prompt_tokens=7,
        output_tokens=5,
        usage=Usage(requests=1, prompt_tokens=7, output_tokens=5, latencies_ms=(20,)),
    )


def make_example(text: str = "Sort mail by topic", replica: int = 0, **fields: Any) -> Example:
    draft = make_draft(text, replica)
    copied = ("task_id", "task", "language", "difficulty", "clarity", "num_words", "replica", "seed")
    example = Example(
        id=draft.draft_id,
        **{name: getattr(draft, name) for name in copied},
        input_text=f"The text of {text}, {replica}.",
        label="right",
        misleading_label="wrong",
        prompt=f"Do: {text} #{replica}",
        template="classify@0",
        model="m-1",
        finish_reason="stop",
        prompt_tokens=7,
        output_tokens=5,
        raw_reply="",
    )
    return replace(example, **fields)


def make_reject(text: str = "Sort mail by topic", replica: int = 0, reason: str = "empty") -> Reject:
    return Reject.of_reply(make_reply(make_prompt(text, replica), ""), stage="ParseJSON", reason=reason, detail="none")


# --- running a step


_collected: dict[int, list[Any]] = {}
_runs = itertools.count()


class _Collect(beam.DoFn):
    """Keeps what arrives in this process, where the test can see it: the engine of the tests runs in it too."""

    def __init__(self, key: int) -> None:
        self._key = key

    def process(self, element: Any) -> None:
        _collected[self._key].append(element)


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a run gave: the elements, and the metrics by "Step/name"."""

    elements: list[Any]
    counters: dict[str, int]
    distributions: dict[str, Any]  # with sum, count, min and max

    def of(self, kind: type) -> list[Any]:
        return [element for element in self.elements if isinstance(element, kind)]


def counters_of(result: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for counter in result.metrics().query()["counters"]:
        name = counter.key.metric
        key = f"{name.namespace}/{name.name}"
        found[key] = found.get(key, 0) + counter.committed
    return found


def distributions_of(result: Any) -> dict[str, Any]:
    """Returns the distributions; each step of ours that has one has it at one place in the graph."""
    return {
        f"{found.key.metric.namespace}/{found.key.metric.name}": found.committed
        for found in result.metrics().query()["distributions"]
    }


def run_graph(build: Callable[[beam.Pipeline], Any], *flags: str) -> Ran:
    """Runs the graph that a function puts on a pipeline; returns what came out at its end, and the counters."""
    key = next(_runs)
    _collected[key] = []
    pipeline = TestPipeline("FnApiRunner", options=PipelineOptions(list(flags)))
    _ = build(pipeline) | "CollectForTest" >> beam.ParDo(_Collect(key))
    result = pipeline.run()
    result.wait_until_finish()
    ours = {name: count for name, count in counters_of(result).items() if "/" in name and not name.startswith("apache")}
    return Ran(_collected.pop(key), ours, distributions_of(result))


def run_step(step: beam.PTransform, elements: Iterable[Any], kind: Any, *flags: str) -> Ran:
    """Runs a step on elements; returns what came out, and the counters.

    Args:
      kind: the class of the elements; rejects may stand among them.
    """
    entering = list(elements)
    mixed = any(isinstance(element, Reject) for element in entering)
    hint = Union[kind, Reject] if mixed else kind  # noqa: UP007

    def build(pipeline: beam.Pipeline) -> Any:
        return pipeline | "Elements" >> beam.Create(entering).with_output_types(hint) | step

    return run_graph(build, *flags)


@dataclasses.dataclass(eq=False)
class FakeLLM(beam.PTransform):
    """Answers a prompt as `answers` has it for its task; one for another task is refused.

    Args:
      answers: by task, the reply and why it ended.
      of: the class of the subjects that it is asked about.
      stage: of the refusals.
      usage: of a refused prompt.
    """

    answers: Mapping[str, tuple[str, FinishReason]]
    of: type
    stage: str
    usage: Usage

    def expand(self, prompts: beam.PCollection[Prompt | Reject]) -> beam.PCollection[Reply | Reject]:
        return prompts | beam.Map(fake_answer, self.answers, self.of, self.stage, self.usage)


def fake_answer(
    prompt: Prompt | Reject, answers: Mapping[str, tuple[str, FinishReason]], of: type, stage: str, usage: Usage
) -> Reply | Reject:
    if isinstance(prompt, Reject):
        return prompt
    assert isinstance(prompt.subject, of)
    subject: Any = prompt.subject
    task = subject.example.task if isinstance(subject, Choice) else subject.task
    if task in answers:
        return make_reply(prompt, *answers[task])
    told: dict[str, Any] = {"reason": "request_failed", "detail": "no route", "can_retry": True, "raw": ""}
    return Reject.of_prompt(prompt, stage=stage, attempts=usage.requests, usage=usage, **told)


# --- running the command


@dataclasses.dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


def config_flag(**options: Any) -> str:
    """Writes a file of options; returns the flag that names it, which is the same in every process."""
    text = "\n".join(f"{name}: {value}" for name, value in options.items())
    path = Path(tempfile.gettempdir(), f"textmint-tests-{os.getuid()}", f"{stable_hash('config', text)}.yaml")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)
    return f"--config={path}"


def run_main(*arguments: str) -> Done:
    """The command line in this process; it is several times faster than a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return Done(code, out.getvalue(), err.getvalue())


TWO_WORKERS = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


def generate(*flags: str) -> Done:
    """A run of `generate` that comes to a good end."""
    done = run_main("generate", *flags)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    return done


def start(*arguments: str, cwd: Path, path: Path = ROOT, script: str | None = None) -> subprocess.Popen[str]:
    """The command line as a user starts it, in a process group of its own.

    Args:
      path: the one folder that its PYTHONPATH holds.
      script: Python code that runs instead of `-m textmint.pipelines`.
    """
    program = ["-m", "textmint.pipelines"] if script is None else ["-c", script]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TEXTMINT_PROG")}
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


class Script:
    """A server whose replies a function makes: from method, path, headers and body to status, headers and body."""

    def __init__(
        self, reply: Callable[[str, str, Mapping[str, str], bytes], tuple[int, dict[str, str], bytes]]
    ) -> None:
        self.seen: list[tuple[str, str, Mapping[str, str], bytes]] = []
        script = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                script.seen.append((self.command, self.path, self.headers, body))
                status, headers, raw = reply(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_DELETE = do_CONNECT = _any

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()


def write_tasks(path: Path, count: int) -> Path:
    """Writes a file of so many tasks that are much alike; returns its path."""
    path.write_text("".join(f"Classify letters of drawer {number} by topic\n" for number in range(count)))
    return path


# --- the dataset folder


def files_of(folder: Path, label: str | None = None) -> dict[str, bytes]:
    """Returns the Parquet files of a dataset folder by path, of one refresh or of all; staging lies deeper."""
    pattern = f"*/refresh={label}/*" if label else "*/refresh=*/*"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern) if path.is_file()}
    return dict(sorted(found.items()))


def rows_of(folder: Path, kind: str, label: str = "base") -> list[dict[str, Any]]:
    """Returns the rows of one kind and refresh, in the order of its files."""
    paths = sorted((folder / kind / f"refresh={label}").glob("*.parquet"))
    return [row for path in paths for row in pq.ParquetFile(path).read().to_pylist()]


def entry_of(folder: Path, label: str = "base") -> dict[str, Any]:
    """Returns what the manifest says of a refresh."""
    entry: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))["refreshes"][label]
    return entry


def shuffled(items: Sequence[Any], key: str = "") -> list[Any]:
    """Returns the items in another order, always the same one."""
    return [item for _, item in sorted((stable_hash("shuffle", key, n), item) for n, item in enumerate(items))]


def tally(elements: Iterable[Any]) -> Iterator[tuple[str, int]]:
    """Counts rejects by reason."""
    yield from sorted(collections.Counter(element.reason for element in elements).items())
