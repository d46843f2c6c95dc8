"""As much of Secret Manager's REST API as reading a secret takes, on loopback, for Google's real client.

Source: https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access, and the errors
as users quote them.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

ERRORS: dict[str, tuple[int, str, str]] = {
    "missing": (404, "NOT_FOUND", "Secret [projects/17/secrets/missing] not found or has no versions."),
    "forbidden": (
        403,
        "PERMISSION_DENIED",
        "Permission 'secretmanager.versions.access' denied for resource 'projects/p-1/secrets/forbidden/versions/1' "
        "(or it may not exist).",
    ),
    "off": (
        403,
        "PERMISSION_DENIED",
        "Secret Manager API has not been used in project 17 before or it is disabled. Enable it by visiting "
        "https://console.developers.google.com/apis/api/secretmanager.googleapis.com/overview?project=17 then retry.",
    ),
    "disabled": (400, "FAILED_PRECONDITION", "Secret Version [projects/17/secrets/s/versions/1] is in DISABLED state."),
    "down": (503, "UNAVAILABLE", "The service is currently unavailable."),
}
"""What is answered for secrets of these names."""


class SecretManager:
    """A server that has secrets, until the `with` block ends.

    Args:
      secrets: the payloads.
      fails: how many requests are answered by 503 before the first that is not.
    """

    def __init__(self, fails: int = 0, **secrets: bytes) -> None:
        self.secrets = secrets
        self.fails = fails
        self.asked: list[tuple[str, dict[str, str]]] = []  # path, headers
        play = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body = play.answer(unquote(urlsplit(self.path).path), dict(self.headers))
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.place = f"127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.asked.append((path, headers))
        name = path.split("/")[5]
        if len(self.asked) <= self.fails:
            name = "down"
        if name in ERRORS or name not in self.secrets:
            code, status, message = ERRORS[name if name in ERRORS else "missing"]
            return code, {"error": {"code": code, "status": status, "message": message}}
        payload = {"data": base64.b64encode(self.secrets[name]).decode()}
        return 200, {"name": path[4:].removesuffix(":access"), "payload": payload}

    def __enter__(self) -> SecretManager:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
