"""A stand-in for HashiCorp Vault: it is in no registry that the tests may install from.

Made from its published HTTP API ("KV secrets engine - version 2 (API)", read secret version, and "HTTP status codes"):
the answer's nesting, 404 with the metadata of a deleted version, 403 for a token that may not, namespaces by header.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hvs.CAESIJlWh1Y0bQ5tR9vQv7nXn4c3mQ"


@dataclass
class StandInVault:
    """What it keeps, and how it behaves.

    Attributes:
        secrets: (namespace, mount, path) → what is there; None: a deleted version.
        status: is answered to everything, when it is set.
        asked: the path of each request.
    """

    secrets: dict[tuple[str, str, str], dict[str, Any] | None] = field(default_factory=dict)
    status: int | None = None
    body: bytes | None = None
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str, token: str, namespace: str) -> tuple[int, Any]:
        """The answer to one request."""
        self.asked.append(path)
        if self.status is not None:
            return self.status, {"errors": ["1 error occurred: * as the test wants it"]}
        if token != TOKEN:
            return 403, {"errors": ["permission denied"]}
        _, _, mount, data, *rest = path.split("/")
        key = (namespace, mount, "/".join(rest))
        if data != "data" or key not in self.secrets:
            return 404, {"errors": []}
        metadata = {"created_time": "2018-03-22T02:24:06.945319214Z", "deletion_time": "", "destroyed": False}
        found = self.secrets[key]
        if found is None:
            metadata["deletion_time"] = "2018-03-22T02:36:43.986212308Z"
            return 404, {"data": {"data": None, "metadata": {**metadata, "version": 2}}}
        return 200, {"request_id": "1", "data": {"data": found, "metadata": {**metadata, "version": 2}}}


@contextmanager
def running_vault(vault: StandInVault) -> Iterator[str]:
    """The stand-in on a free port; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = self.headers.get("X-Vault-Token", ""), self.headers.get("X-Vault-Namespace", "")
            status, document = vault.answer(self.path, *told)
            body = vault.body if vault.body is not None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)
