"""Google Cloud Storage on loopback, for tests: the part of its JSON API that google-cloud-storage and Beam call, with
objects that outlive the process. It plays failing, throttled and forbidden stores.

As a process of its own (it prints one JSON line, `{"port": N}`, when it listens, and ends when the process that started
it is gone):

    python tests/support/gcs_server.py --folder objects --buckets data,other --port 0

From Python:

    with GcsServer(tmp_path, buckets=("data",)) as store:
        ...  # with STORAGE_EMULATOR_HOST=store.url
        store.kill(), store.start()  # SIGKILL, and the same objects on the same port again
        store.play({"match": "upload .*ledger", "status": 503, "times": 3})
        print(store.stats())

Objects are whole files that are renamed into their place, and so are the parts of resumable uploads: whatever was
answered is there after SIGKILL, as at Google's. The conditions `ifGenerationMatch` are kept under a lock, listings are
complete and come in pages. A bucket grants what the role `objectUser` grants, and so no `storage.buckets.get`.

gcp-storage-emulator of PyPI has no conditions, answers one request at a time, and may lose its objects to SIGKILL.

Sources: https://cloud.google.com/storage/docs/json_api/v1 and its page status-codes,
https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import dataclasses
import hashlib
import http.client
import http.server
import json
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import google_crc32c

_PAGE: Final = 1_000  # names of a listing, Google's default
_GRANTED: Final = ("create", "get", "list", "delete")  # what roles/storage.objectUser grants of what is played
_EMAIL: Final = "tests@textmint.iam.gserviceaccount.com"


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "code": status,
                "message": message,
                "errors": [{"message": message, "domain": "global", "reason": reason or http.client.responses[status]}],
            }
        }


@dataclasses.dataclass
class Answer:
    """What is sent back: JSON, or bytes as they are."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclasses.dataclass(frozen=True)
class Object:
    """An object, as it stands in its file after a line of JSON."""

    bucket: str
    name: str
    generation: int
    content_type: str
    content: bytes

    @property
    def resource(self) -> dict[str, Any]:
        where = f"{self.bucket}/{self.name}"
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.generation / 1e9)) + ".000Z"
        return {
            "kind": "storage#object",
            "id": f"{where}/{self.generation}",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(len(self.content)),
            "md5Hash": base64.b64encode(hashlib.md5(self.content).digest()).decode(),
            "crc32c": crc32c(self.content),
            "etag": base64.b64encode(str(self.generation).encode()).decode(),
            "timeCreated": when,
            "updated": when,
        }


def crc32c(content: bytes) -> str:
    """Returns the checksum as Google writes it."""
    return base64.b64encode(struct.pack(">I", google_crc32c.value(content))).decode()


def read(path: Path) -> dict[str, Any]:
    """Reads fields from a line of JSON, and `content` from the rest of the file."""
    head, _, content = path.read_bytes().partition(b"\n")
    return {**json.loads(head), "content": content}


def replace(path: Path, fields: Mapping[str, Any]) -> None:
    """Writes what `read` reads, under another name that is then renamed."""
    head = {key: value for key, value in fields.items() if key != "content"}
    part = path.with_suffix(f".part-{threading.get_ident()}")
    part.write_bytes(json.dumps(head).encode() + b"\n" + fields["content"])
    part.replace(path)


class Store:
    """The objects, in a folder."""

    def __init__(self, folder: Path, buckets: Mapping[str, tuple[str, ...]]) -> None:
        self._folder = folder
        self._buckets = buckets
        self._lock = threading.RLock()
        self._objects: dict[str, dict[str, Object]] = {name: {} for name in buckets}
        folder.mkdir(parents=True, exist_ok=True)
        self._last = 0  # generation
        for path in folder.glob("*.object"):
            found = Object(**read(path))
            self._objects.setdefault(found.bucket, {})[found.name] = found
            self._last = max(self._last, found.generation)

    def allow(self, bucket: str, what: str) -> None:
        """Raises what Google answers where the bucket is none, or does not grant this."""
        if bucket not in self._buckets:
            raise Refused(404, "The specified bucket does not exist.", "notFound")
        granted = self._buckets[bucket]
        if what in granted:
            return
        kind = "buckets" if what == "buckets.get" else "objects"
        permission = "storage.buckets.get" if kind == "buckets" else f"storage.objects.{what}"
        refusal = (401, "Anonymous caller", "required") if granted == ("login",) else (403, _EMAIL, "forbidden")
        status, who, reason = refusal
        denied = f"Permission '{permission}' denied on resource (or it may not exist)."
        raise Refused(status, f"{who} does not have {permission} access to the {kind[:-1]}. {denied}", reason)

    def names(self, bucket: str) -> list[str]:
        with self._lock:
            return sorted(self._objects[bucket])

    def find(self, bucket: str, name: str) -> Object:
        found = self._objects[bucket].get(name)
        if found is None:
            raise Refused(404, f"No such object: {bucket}/{name}", "notFound")
        return found

    def put(self, bucket: str, name: str, content: bytes, content_type: str, conditions: Mapping[str, str]) -> Object:
        with self._lock:
            self._check(bucket, name, conditions)
            self._last = max(self._last + 1, time.time_ns())
            made = Object(bucket, name, self._last, content_type, content)
            replace(self._path(bucket, name), dataclasses.asdict(made))
            self._objects[bucket][name] = made
            return made

    def delete(self, bucket: str, name: str, conditions: Mapping[str, str]) -> None:
        with self._lock:
            self.find(bucket, name)
            self._check(bucket, name, conditions)
            self._path(bucket, name).unlink()
            del self._objects[bucket][name]

    def session(self, upload: str) -> dict[str, Any]:
        try:
            return read(self._session(upload))
        except FileNotFoundError:
            raise Refused(404, "There is no such upload", "notFound") from None

    def save_session(self, upload: str, session: Mapping[str, Any]) -> None:
        replace(self._session(upload), session)

    def _session(self, upload: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]+", upload):
            raise Refused(400, "Invalid upload id")
        return self._folder / f"{upload}.upload"

    def _path(self, bucket: str, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(f'{bucket}/{name}'.encode()).hexdigest()}.object"

    def _check(self, bucket: str, name: str, conditions: Mapping[str, str]) -> None:
        wanted = conditions.get("ifGenerationMatch")
        found = self._objects[bucket].get(name)
        if wanted is not None and int(wanted) != (found.generation if found else 0):
            message = "At least one of the pre-conditions you specified did not hold."
            raise Refused(412, message, "conditionNotMet")


class Faults:
    """What is played: rules, of which the first that matches a request and is not used up counts."""

    def __init__(self) -> None:
        self._rules: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def play(self, rules: Iterable[Mapping[str, Any]]) -> None:
        with self._lock:
            self._rules = [dict(rule) for rule in rules]

    def next(self, line: str) -> dict[str, Any] | None:
        with self._lock:
            for rule in self._rules:
                if rule.get("times", 1) != 0 and re.search(rule["match"], line):
                    rule["times"] = rule.get("times", 1) - 1  # -1 is without end
                    return dict(rule)
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"
    store: Store
    faults: Faults
    counts: collections.Counter[str]
    log: list[str]
    guard: threading.Lock

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            answer = self._control(body) or self._answer(self.command, self.path, self.headers, body)
        except Refused as refused:
            answer = Answer(refused.status, refused.body)
        except ConnectionResetError:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        content = answer.content
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in {"Content-Type": "application/json; charset=UTF-8", **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

    def _control(self, body: bytes) -> Answer | None:
        if self.path == "/stats":
            with self.guard:
                return Answer(body={"counts": dict(self.counts), "log": list(self.log)})
        if self.path == "/play":
            self.faults.play(json.loads(body))
            with self.guard:
                self.counts.clear()
                self.log.clear()
            return Answer(body={})
        return None

    def _answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        what, bucket, name, to = self._parsed(method, url.path, query, body)
        line = f"{what} {bucket}/{name}"
        with self.guard:
            self.counts[what] += 1
            self.log.append(line)
        fault = self.faults.next(line) or {}
        time.sleep(fault.get("delay", 0))
        if not fault.get("done"):
            self._play(fault)
        answer = self._do(what, bucket, name, to, query, headers, body)
        self._play(fault)  # it is done, and the answer is lost
        return answer

    def _play(self, fault: Mapping[str, Any]) -> None:
        status = fault.get("status")
        if status == "reset":
            raise ConnectionResetError
        if status is not None:
            raise Refused(int(status), fault.get("message", http.client.responses[int(status)]))

    def _parsed(
        self, method: str, path: str, query: Mapping[str, str], body: bytes
    ) -> tuple[str, str, str, tuple[str, str]]:
        """Returns what is wanted, of which bucket and object, and to which second one."""
        nothing = "", ""
        if found := re.fullmatch(r"/(?:resumable/)?upload/storage/v1/b/([^/]+)/o", path):
            if "upload_id" in query:
                session = self.store.session(query["upload_id"])
                return "continue", session["bucket"], session["name"], nothing
            bucket = unquote(found[1])
            if query.get("uploadType") == "resumable":
                return "start", bucket, json.loads(body)["name"], nothing
            return "upload", bucket, json.loads(self._parts(self.headers, body)[0][1])["name"], nothing
        found = re.fullmatch(r"(/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path)
        if found is None:
            raise Refused(404, f"not played: {method} {path}")
        bucket, rest = unquote(found[2]), found[3] or ""
        if not rest and not path.rstrip("/").endswith("/o"):
            return "bucket", bucket, "", nothing
        if not rest:
            return "list", bucket, query.get("prefix", ""), nothing
        if copied := re.fullmatch(r"([^/]+)/copyTo/b/([^/]+)/o/([^/]+)", rest):
            return "copy", bucket, unquote(copied[1]), (unquote(copied[2]), unquote(copied[3]))
        name = unquote(rest)
        if method == "DELETE":
            return "delete", bucket, name, nothing
        if method == "GET":
            is_media = bool(found[1]) or query.get("alt") == "media"
            return ("download" if is_media else "get"), bucket, name, nothing
        raise Refused(404, f"not played: {method} {path}")

    def _do(
        self,
        what: str,
        bucket: str,
        name: str,
        to: tuple[str, str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        store = self.store
        if what == "bucket":
            store.allow(bucket, "buckets.get")
            return Answer(body={"kind": "storage#bucket", "id": bucket, "name": bucket})
        if what == "upload":
            store.allow(bucket, "create")
            (_, told), (kind, content) = self._parts(headers, body)
            self._may_replace(bucket, name)
            return self._put((bucket, name), content, kind, json.loads(told), query)
        if what == "start":
            store.allow(bucket, "create")
            self._may_replace(bucket, name)
            upload = os.urandom(12).hex()
            kind = headers.get("X-Upload-Content-Type", "application/octet-stream")
            session = {"bucket": bucket, "name": name, "kind": kind, "query": dict(query), "told": json.loads(body)}
            store.save_session(upload, {**session, "content": b""})
            host = headers.get("Host")
            place = f"http://{host}/resumable/upload/storage/v1/b/{quote(bucket, safe='')}/o?upload_id={upload}"
            return Answer(headers={"Location": place, "X-GUploader-UploadID": upload})
        if what == "continue":
            return self._continue(query["upload_id"], headers, body)
        if what == "list":
            store.allow(bucket, "list")
            return Answer(body=self._list(bucket, query))
        if what in ("get", "download"):
            store.allow(bucket, "get")
            found = store.find(bucket, name)
            return Answer(body=found.resource) if what == "get" else self._download(found, headers)
        if what == "delete":
            store.allow(bucket, "delete")
            store.delete(bucket, name, query)
            return Answer(204)
        store.allow(bucket, "get")
        store.allow(to[0], "create")
        source = store.find(bucket, name)
        return Answer(body=store.put(*to, source.content, source.content_type, query).resource)

    def _may_replace(self, bucket: str, name: str) -> None:
        """An object that is there is deleted when it is replaced."""
        if name in self.store.names(bucket):
            self.store.allow(bucket, "delete")

    def _put(self, where: tuple[str, str], content: bytes, kind: str, told: Any, query: Mapping[str, str]) -> Answer:
        if told.get("crc32c", crc32c(content)) != crc32c(content):
            raise Refused(400, "Provided CRC32C does not match")
        return Answer(body=self.store.put(*where, content, kind, query).resource)

    def _parts(self, headers: Mapping[str, str], body: bytes) -> list[tuple[str, bytes]]:
        """Returns (type, content) of each part of a multipart body. Not by `email`, which changes line ends."""
        found = re.search(r'boundary="?([^";]+)"?', headers.get("Content-Type", ""))
        if found is None:
            raise Refused(400, "not multipart")
        parts = []
        for part in body.split(b"--" + found[1].encode())[1:-1]:
            head, _, content = part.removeprefix(b"\r\n").removeprefix(b"\n").partition(b"\r\n\r\n")
            kind = re.search(rb"(?i)content-type: *([^\r\n]+)", head)
            content = content.removesuffix(b"\r\n")
            parts.append((kind[1].decode() if kind else "", content))
        return parts

    def _continue(self, upload: str, headers: Mapping[str, str], body: bytes) -> Answer:
        session = self.store.session(upload)
        if "made" in session:  # the answer to the last part was lost
            return Answer(body=self.store.find(session["bucket"], session["name"]).resource)
        told = re.fullmatch(r"bytes (?:\*|(\d+)-(\d+))/(\*|\d+)", headers.get("Content-Range", ""))
        content = session["content"]
        if told and told[1] is not None:
            start = int(told[1])
            if start > len(content):
                raise Refused(503, "a part is missing")
            content = content[:start] + body
        elif told is None:
            content = body
        session["content"] = content
        size = told[3] if told else str(len(content))
        if size == "*" or len(content) < int(size):
            self.store.save_session(upload, session)
            done = {"Range": f"bytes=0-{len(content) - 1}"} if content else {}
            return Answer(308, b"", done)
        where = session["bucket"], session["name"]
        answer = self._put(where, content, session["kind"], session["told"], session["query"])
        self.store.save_session(upload, {**session, "content": b"", "made": True})
        return answer

    def _list(self, bucket: str, query: Mapping[str, str]) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, bool] = {}  # by name, whether it stands for a folder
        for name in self.store.names(bucket):
            if name.startswith(prefix):
                head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                entries[prefix + head + delimiter if found else name] = bool(found)
        after = base64.b64decode(query["pageToken"]).decode() if "pageToken" in query else ""
        left = [name for name in sorted(entries) if name > after]
        size = min(int(query.get("maxResults") or _PAGE), _PAGE)
        page = left[:size]
        listed: dict[str, Any] = {"kind": "storage#objects"}
        with contextlib.suppress(Refused):  # deleted meanwhile
            listed["items"] = [self.store.find(bucket, name).resource for name in page if not entries[name]]
        listed["prefixes"] = [name for name in page if entries[name]]
        if len(left) > size:
            listed["nextPageToken"] = base64.b64encode(page[-1].encode()).decode()
        return listed

    def _download(self, found: Object, headers: Mapping[str, str]) -> Answer:
        content, size = found.content, len(found.content)
        told = {
            "Content-Type": found.content_type,
            "X-Goog-Generation": str(found.generation),
            "X-Goog-Hash": f"crc32c={crc32c(content)},md5={found.resource['md5Hash']}",
            "X-Goog-Stored-Content-Length": str(size),
        }
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", ""))
        if wanted is None:
            return Answer(200, content, told)
        if wanted[1]:
            start, end = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)
        else:
            start, end = max(0, size - int(wanted[2])), size - 1
        if start >= size or start > end:
            error = {"code": 416, "message": "Requested range not satisfiable"}
            return Answer(416, {"error": error}, {"Content-Range": f"bytes */{size}"})
        return Answer(206, content[start : end + 1], {**told, "Content-Range": f"bytes {start}-{end}/{size}"})


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def main() -> None:
    """Serves until it is killed, or until its parent is gone."""
    parser = argparse.ArgumentParser(description="Google Cloud Storage for tests.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument(
        "--buckets", required=True, help="names joined by commas; NAME:get+list grants these alone, NAME:login nothing"
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--parent", type=int, default=os.getppid(), help="the process whose end ends this one")
    given = parser.parse_args()
    granted = {}
    for bucket in given.buckets.split(","):
        name, _, rights = bucket.partition(":")
        granted[name] = tuple(right for right in rights.split("+") if right) if ":" in bucket else _GRANTED
    Handler.store = Store(given.folder, granted)
    Handler.faults, Handler.counts, Handler.log, Handler.guard = Faults(), collections.Counter(), [], threading.Lock()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    threading.Thread(target=_end_with, args=(given.parent,), daemon=True).start()
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever()


class GcsServer:
    """Runs the store in a process of its own until the end of the `with` block.

    Args:
      folder: where it keeps its objects.
      buckets: their names; `NAME:get+list` grants just these (of create, get, list, delete), `NAME:login` nothing to
        whoever has no credentials.
    """

    def __init__(self, folder: Path, buckets: Iterable[str] = ("data",)) -> None:
        self._folder = folder
        self._buckets = ",".join(buckets)
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, with what it held and on the port that it had."""
        arguments = [f"--folder={self._folder}", f"--buckets={self._buckets}", f"--port={self.port}"]
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), *arguments, f"--parent={os.getpid()}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            raise RuntimeError("the store for tests did not start")
        self.port = json.loads(line)["port"]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> GcsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def stats(self) -> dict[str, Any]:
        """Returns `counts` of requests by what they did, and the `log` of them, since the start or the last `play`."""
        found: dict[str, Any] = self._ask("GET", "/stats")
        return found

    def play(self, *rules: Mapping[str, Any]) -> None:
        """Plays these rules and no others, and forgets what was counted.

        Args:
          *rules: `match`, a pattern of lines such as `upload data/out/manifest.json`; `times` that it is played (1; -1:
            always); `status`, a number or "reset"; `message`; `delay`, seconds; `done`, whether what was asked is done
            all the same.
        """
        self._ask("POST", "/play", list(rules))

    def objects(self, bucket: str = "data") -> dict[str, bytes]:
        """Returns the contents of objects by name, as they lie in the folder, whether it runs or not."""
        found = {}
        for fields in map(read, self._folder.glob("*.object")):
            if fields["bucket"] == bucket:
                found[fields["name"]] = fields["content"]
        return dict(sorted(found.items()))

    def clear(self) -> None:
        """Starts anew, without any object."""
        self.kill()
        shutil.rmtree(self._folder)
        self.start()


if __name__ == "__main__":
    main()
