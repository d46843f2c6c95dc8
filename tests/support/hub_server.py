"""A Hugging Face Hub on loopback, for tests: the endpoints that huggingface_hub calls to fill a dataset repository, and
the repositories in memory."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.server
import json
import threading
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit


@dataclasses.dataclass
class Repository:
    """What a repository holds."""

    private: bool
    files: dict[str, bytes] = dataclasses.field(default_factory=lambda: {".gitattributes": b""})
    commits: list[str] = dataclasses.field(default_factory=list)  # their first lines


class HubServer:
    """A Hub at `url` until the end of the `with` block.

    Args:
      token: the one that may write.
      answers: (status, message) that it answers to requests instead, by the beginning of their path.
    """

    def __init__(self, token: str = "hf_right", answers: dict[str, tuple[int, str]] | None = None) -> None:
        self.token = token
        self.answers = answers or {}
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []  # "METHOD /path"
        self._objects: dict[str, bytes] = {}  # by their SHA-256
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _handle(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                status, body = hub._answer(
                    self.command, urlsplit(self.path).path, self.rfile.read(size), self.headers.get("Authorization")
                )
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                if status >= 400:
                    self.send_header("X-Error-Message", str(body["error"]))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = _handle

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, method: str, path: str, body: bytes, authorization: str | None) -> tuple[int, Any]:
        self.requests.append(f"{method} {path}")
        for prefix, (status, message) in self.answers.items():
            if path.startswith(prefix):
                return status, {"error": message}
        if method == "PUT" and path.startswith("/objects/"):  # the storage, which knows no tokens
            oid = path.removeprefix("/objects/")
            if hashlib.sha256(body).hexdigest() != oid:
                return 400, {"error": "another content"}
            self._objects[oid] = body
            return 200, {}
        if authorization != f"Bearer {self.token}":
            return 401, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        name = "/".join(path.removeprefix("/api").removeprefix("/datasets/").split("/")[:2]).removesuffix(".git")
        repository = self.repositories.get(name)
        if repository is None:
            return 404, {"error": "Repository not found"}
        rest = path.split(name, 1)[1]
        if rest == "/tree/main":
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                for path, content in repository.files.items()
            ]
            return 200, entries
        if rest == "/preupload/main":
            return 200, {"files": [self._mode(repository, file["path"]) for file in json.loads(body)["files"]]}
        if rest == ".git/info/lfs/objects/batch":
            return 200, {"transfer": "basic", "objects": [self._upload(o) for o in json.loads(body)["objects"]]}
        if rest == "/commit/main":
            return self._commit(repository, name, [json.loads(line) for line in body.splitlines()])
        if rest in ("", "/revision/main"):
            return 200, {"id": name, "sha": "0" * 40}
        return 404, {"error": f"not played: {method} {path}"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        assert asked["type"] == "dataset"
        known = name in self.repositories
        if not known:
            self.repositories[name] = Repository(private=asked.get("visibility") == "private")
        answer = {"url": f"{self.url}/datasets/{name}", "error": "You already created this dataset repo"}
        return (409 if known else 200), answer

    def _mode(self, repository: Repository, path: str) -> dict[str, Any]:
        """What the Hub says of a file that is to come; of one that is there, what git calls it by."""
        content = repository.files.get(path)
        large = path.endswith(".parquet")
        if content is None:
            oid = None
        elif large:
            oid = hashlib.sha256(content).hexdigest()
        else:
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        oid = wanted["oid"]
        known = {"oid": oid, "size": wanted["size"]}
        if oid in self._objects:
            return known
        return {**known, "actions": {"upload": {"href": f"{self.url}/objects/{oid}"}}}

    def _commit(self, repository: Repository, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self._objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
            else:
                return 400, {"error": f"not played: {line['key']}"}
        return 200, {"commitUrl": f"{self.url}/datasets/{name}/commit/{'1' * 40}", "commitOid": "1" * 40}
