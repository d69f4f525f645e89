"""Debian's docker-registry on loopback: open, with passwords, or with tokens; and images to put into it.

The token server is a small one of our own, written to distribution's published specification ("Token Authentication
Specification" and "Token Authentication Implementation"): the registry itself checks what it signs.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.servers.cache import debian, run
from tests.support.free_ports import free_port

USER, PASSWORD = "ada", "correct-horse"
# bcrypt, as htpasswd -B writes it; the registry takes no other.
_HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS\n"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


class RunningRegistry:
    """A registry that runs.

    Attributes:
        host: address and port.
        log: its output so far.
    """

    def __init__(self, host: str, client: httpx.Client, log: Path) -> None:
        self.host, self._client, self.log = host, client, log

    def push_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        """Puts a blob; gives its descriptor without a media type."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        begun = self._client.post(f"/v2/{repository}/blobs/uploads/")
        assert begun.status_code == 202, begun.text
        url = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
        done = self._client.put(url, content=content, headers={"Content-Type": "application/octet-stream"})
        assert done.status_code == 201, done.text
        return {"digest": digest, "size": len(content)}

    def push_manifest(self, repository: str, reference: str, document: dict[str, Any]) -> str:
        """Puts a manifest or an index under a tag or its digest; gives the digest."""
        content = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        done = self._client.put(
            f"/v2/{repository}/manifests/{reference or digest}",
            content=content,
            headers={"Content-Type": document["mediaType"]},
        )
        assert done.status_code == 201, done.text
        return digest

    def push_image(
        self, repository: str, tag: str = "", *, architecture: str = "amd64", created: str = "", **more: str
    ) -> str:
        """Puts an image of one small layer; gives its digest. Each call makes another one."""
        config = {"os": "linux", "architecture": architecture, **({"created": created} if created else {}), **more}
        layer = self.push_blob(repository, uuid.uuid4().bytes)
        told = self.push_blob(repository, json.dumps({**config, "rootfs": {"type": "layers"}}).encode())
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **told},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer}],
        }
        return self.push_manifest(repository, tag, document)

    def push_index(self, repository: str, tag: str, images: dict[str, str]) -> str:
        """Puts an index: platform → digest of an image that is there."""
        entries = []
        for platform, digest in images.items():
            system, architecture, *variant = platform.split("/")
            told = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
            size = int(
                self._client.head(f"/v2/{repository}/manifests/{digest}", headers={"Accept": MANIFEST}).headers[
                    "content-length"
                ]
            )
            entries.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": told})
        return self.push_manifest(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})


@contextmanager
def running_registry(folder: Path, guard: dict[str, Any] | None = None, **client: Any) -> Iterator[RunningRegistry]:
    """A registry with its data in `folder`; ends with the block."""
    debian("docker-registry")
    host = f"127.0.0.1:{free_port()}"
    configuration = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": host},
        **({"auth": guard} if guard else {}),
    }
    # JSON is YAML too.
    (folder / "config.yml").write_text(json.dumps(configuration))
    program = shutil.which("docker-registry") or "/usr/bin/docker-registry"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")],
            env={"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"},
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://{host}", trust_env=False, timeout=10, **client) as asking:
            _until_it_answers(asking, process, folder / "log")
            yield RunningRegistry(host, asking, folder / "log")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _until_it_answers(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        try:
            if client.get("/v2/").status_code in (200, 401):
                return
        except httpx.TransportError:
            time.sleep(0.05)


def with_passwords(folder: Path) -> dict[str, Any]:
    """The registry's `auth` for one user."""
    (folder / "htpasswd").write_text(_HTPASSWD)
    return {"htpasswd": {"realm": "registry", "path": str(folder / "htpasswd")}}


class TokenServer:
    """Signs tokens for what a user may do.

    Attributes:
        asked: the query of each request.
        auth: the registry's `auth` that trusts this server.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._key, self._certificate = folder / "key.pem", folder / "certificate.pem"
        name = ["-subj", "/CN=token-server"]
        files = ["-keyout", str(self._key), "-out", str(self._certificate)]
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *name, *files], timeout=60)
        self.asked: list[dict[str, str]] = []
        self.auth = {
            "token": {
                "realm": f"http://127.0.0.1:{port}/token",
                "service": "registry",
                "issuer": "token-server",
                "rootcertbundle": str(self._certificate),
            }
        }

    def answer(self, target: str, authorization: str) -> tuple[int, dict[str, Any]]:
        """The user's token; 401 for another password. Whoever does not say who it is may nothing."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        self.asked.append(query)
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if authorization and authorization != wanted:
            return 401, {"details": "incorrect username or password"}
        kind, name, actions = query.get("scope", "::").split(":")
        access = [{"type": kind, "name": name, "actions": actions.split(",")}] if authorization else []
        return 200, {"token": self.sign(access), "expires_in": 300}

    def sign(self, access: list[dict[str, Any]]) -> str:
        """A token with this access."""
        now = int(time.time())
        certificate = "".join(self._certificate.read_text().splitlines()[1:-1])
        header = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
        claims = {
            "iss": "token-server",
            "sub": USER,
            "aud": "registry",
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        text = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._key)], input=text, capture_output=True, check=True
        )
        return (text + b"." + _base64(signed.stdout)).decode()


def _base64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


@contextmanager
def running_token_server(folder: Path) -> Iterator[TokenServer]:
    """A token server; ends with the block."""
    debian("openssl")
    holder: list[TokenServer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = holder[0].answer(self.path, self.headers.get("Authorization", ""))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        holder.append(TokenServer(folder, server.server_address[1]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield holder[0]
        finally:
            server.shutdown()
            thread.join(10)
