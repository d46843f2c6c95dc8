"""Dataflow on loopback: what Beam's real client asks of the service and of the bucket it stages to, and a job that is
really run, out of the graph that was staged."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import google_crc32c
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from tests.support.helpers import Script

JOB_ID = "2026-11-25_01_02_03-4567890123456789012"
_JOBS = re.compile(r"/v1b3/projects/([^/]+)/locations/([^/]+)/jobs(?:/([^/]+))?(/messages)?")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)")
_OBJECT = re.compile(r"/storage/v1/b/([^/]+)/o/(.+)")
_UPLOAD = re.compile(r"/upload/storage/v1/b/([^/]+)/o")

Ends = Callable[["DataflowServer"], tuple[str, str]]


class DataflowServer:
    """The service.

    Args:
      ends: returns the end state of a job, and the error in its messages; it may run the graph.
      refusal: what the service answers to a new job instead: an HTTP status, and a text.
    """

    def __init__(self, ends: Ends, refusal: tuple[int, str] | None = None) -> None:
        self._ends = ends
        self.refusal = refusal
        self.objects: dict[str, bytes] = {}
        """Returns what was staged, by gs:// URL."""
        self.jobs: list[dict[str, Any]] = []
        """The requests for new jobs."""
        self.state = "JOB_STATE_PENDING"
        self.error = ""
        self.requests: list[str] = []
        self.thread: threading.Thread | None = None
        self.url = ""

    def begin(self) -> None:
        """Runs the job that was asked for."""
        self.thread = threading.Thread(target=self._run, name="job", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.state = "JOB_STATE_RUNNING"
        self.state, self.error = self._ends(self)

    def staged(self, name: str) -> bytes:
        """Returns the content of the one object of that name."""
        (found,) = [content for path, content in self.objects.items() if path.endswith(f"/{name}")]
        return found

    def run_graph(self) -> tuple[str, str]:
        """Runs the staged graph on Beam's local engine, and ends as `ends` says."""
        proto = beam_runner_api_pb2.Pipeline.FromString(self.staged("pipeline.pb"))
        for environment in proto.components.environments.values():
            environment.urn = python_urns.EMBEDDED_PYTHON
            environment.payload = b""
            del environment.dependencies[:]
        try:
            FnApiRunner().run_via_runner_api(proto, PipelineOptions([])).wait_until_finish()
        except Exception as error:  # as the service tells it: the worker's traceback, as text
            return "JOB_STATE_FAILED", f"Error message from worker: Traceback (most recent call last):\n  ...\n{error}"
        return "JOB_STATE_DONE", ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Any:
        """Returns status, headers and JSON of the answer to a request."""
        self.requests.append(f"{method} {path}")
        if found := _JOBS.fullmatch(path):
            return self._jobs(method, found, json.loads(body) if body else {})
        if found := _UPLOAD.fullmatch(path):
            bucket = found[1]
            if method == "POST":
                name = query.get("name", [""])[0] or json.loads(body)["name"]
                place = f"{self.url}{path}?name={urllib.parse.quote(name, safe='')}&upload_id=1"
                return 200, {"Location": place}, {}
            name = query["name"][0]
            self.objects[f"gs://{bucket}/{name}"] = body
            checksum = base64.b64encode(google_crc32c.Checksum(body).digest()).decode()
            return 200, {}, {"name": name, "bucket": bucket, "size": str(len(body)), "crc32c": checksum}
        if found := _OBJECT.fullmatch(path):
            return 404, {}, {"error": {"code": 404, "message": "No such object"}}
        if found := _BUCKET.fullmatch(path):
            if found[1].startswith("absent"):
                return 404, {}, {"error": {"code": 404, "message": "The specified bucket does not exist."}}
            return 200, {}, {"kind": "storage#bucket", "id": found[1], "name": found[1]}
        return 404, {}, {"error": {"code": 404, "message": f"{method} {path}"}}

    def _jobs(self, method: str, found: re.Match[str], body: dict[str, Any]) -> Any:
        project, region, job, messages = found.groups()
        if messages:
            message = {"id": "1", "time": "2026-11-25T01:02:03Z", "messageImportance": "JOB_MESSAGE_ERROR"}
            return 200, {}, {"jobMessages": [{**message, "messageText": self.error}] if self.error else []}
        if method == "POST":
            if self.refusal:
                status, text = self.refusal
                return status, {}, {"error": {"code": status, "message": text}}
            self.jobs.append(body)
            self.begin()
        state = "JOB_STATE_PENDING" if method == "POST" else self.state
        return 200, {}, {"id": job or JOB_ID, "projectId": project, "location": region, "currentState": state}


@contextlib.contextmanager
def serving(ends: Ends = DataflowServer.run_graph, refusal: tuple[int, str] | None = None) -> Iterator[DataflowServer]:
    """While its `with` block runs, there is a Dataflow at its `url`."""
    service = DataflowServer(ends, refusal)

    def reply(method: str, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, str], bytes]:
        where = urllib.parse.urlsplit(path)
        query = urllib.parse.parse_qs(where.query)
        status, more, found = service.answer(method, urllib.parse.unquote(where.path), query, body)
        return status, more, json.dumps(found).encode()

    with Script(reply) as script:
        service.url = script.url.replace("127.0.0.1", "localhost")  # the only host without https that Beam takes
        yield service
    if service.thread:
        service.thread.join(60)
