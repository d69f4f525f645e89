"""Registries that misbehave in one way each: nothing is read or asked that must not be, and each has its sentence.

Well-behaved ones are Debian's, in `test_checks_registry.py`.
"""

import base64
import hashlib
import json
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.preflight import registry
from activities.secrets import resolver
from models.verdict import Verdict
from tests.servers.registry import MANIFEST, PASSWORD, USER
from tests.support.asking_images import LOGIN, ask_server, check
from tests.support.serving import Behaviour, hanging_up, read_request, saying, serving, silent


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGISTRY_USER", USER)
    monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setattr(registry, "AGAIN_AFTER", 0.01)


async def head_says_a_gigabyte(reader: Any, writer: Any) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\nDocker-Content-Digest: sha256:" + b"0" * 64)
    writer.write(b"\r\nConnection: close\r\n\r\n")


class Gigabyte:
    """Sends a manifest of 1 GB to whoever reads it; counts what went out."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, reader: Any, writer: Any) -> None:
        request = await read_request(reader)
        head = f"Content-Type: {MANIFEST}\r\nConnection: close\r\n"
        if request.startswith(b"HEAD"):
            writer.write(f"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n{head}\r\n".encode())
            return
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {1 << 30}\r\n{head}\r\n".encode())
        for _ in range(1 << 14):
            writer.write(b" " * (1 << 16))
            await writer.drain()
            self.sent += 1 << 16


class TestMisbehaving:
    async def test_a_manifest_of_a_gigabyte_is_not_read(self) -> None:
        gigabyte = Gigabyte()

        found = await ask_server(gigabyte)

        assert found.verdict is Verdict.FAIL
        assert "is no manifest: the answer is larger than 4 MiB" in found.reason
        assert gigabyte.sent < 64 << 20  # what the kernel's buffers took

    async def test_one_that_is_announced_with_a_gigabyte_is_refused(self) -> None:
        found = await ask_server(head_says_a_gigabyte)

        assert (found.verdict, "1,073,741,824 bytes" in found.reason) == (Verdict.FAIL, True)

    @pytest.mark.parametrize(
        "location",
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://0.0.0.0/",
            "http://100.100.100.200/",
        ],
    )
    async def test_a_redirect_to_a_metadata_service_is_not_followed(self, location: str) -> None:
        found = await ask_server(saying("307 Temporary Redirect", "", f"Location: {location}"))

        assert found.verdict is Verdict.FAIL
        assert "leads elsewhere: " in found.reason

    @pytest.mark.parametrize("realm", ["http://169.254.169.254/token", "http://[fd00:ec2::254]/token"])
    async def test_a_token_server_at_a_metadata_service_is_not_asked(self, realm: str) -> None:
        challenge = f'WWW-Authenticate: Bearer realm="{realm}",service="x"'

        found = await ask_server(saying("401 Unauthorized", "", challenge), **LOGIN)

        assert (found.verdict, "token server leads elsewhere" in found.reason) == (Verdict.FAIL, True)

    async def test_a_password_does_not_follow_a_redirect(self) -> None:
        seen: list[bytes] = []

        async def elsewhere(reader: Any, writer: Any) -> None:
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        async with serving(elsewhere) as url:

            async def redirecting(reader: Any, writer: Any) -> None:
                authorized = b"authorization" in (await read_request(reader)).lower()
                head = f"307 Moved\r\nLocation: {url}/v2/" if authorized else "401 No\r\nWWW-Authenticate: Basic"
                writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

            found = await ask_server(redirecting, **LOGIN)

        assert found.verdict is Verdict.FAIL
        assert seen and not any(b"authorization" in request.lower() for request in seen)

    @pytest.mark.parametrize(
        ("behaviour", "verdict", "cause"),
        [
            (saying("503 Service Unavailable"), Verdict.ERROR, "answered 503, 3 times"),
            (saying("429 Too Many Requests", "", "Retry-After: 3600"), Verdict.ERROR, "asked again in 3600 s"),
            (hanging_up, Verdict.ERROR, "did not answer"),
            (silent, Verdict.ERROR, "no whole answer within 0.2s, 3 times"),
            (saying("200 OK", "[" * 1_000_000), Verdict.FAIL, "no JSON"),
            (saying("200 OK", "[]"), Verdict.FAIL, "no image manifest"),
            (saying("401 No", "", "WWW-Authenticate: Negotiate"), Verdict.ERROR, "not known here"),
            (saying("401 No", "", 'WWW-Authenticate: Bearer realm="not a url"'), Verdict.ERROR, "no valid address"),
            (saying("403 No", '{"errors": [{"code": "DENIED", "message": "no"}]}'), Verdict.ERROR, "(DENIED: no)"),
        ],
        ids=["503", "429", "hanging-up", "silent", "deep", "list", "negotiate", "realm", "denied"],
    )
    async def test_everything_else_has_its_cause(
        self, behaviour: Behaviour, verdict: Verdict, cause: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "WITHIN", timedelta(seconds=0.2 if behaviour is silent else 5))

        found = await ask_server(behaviour)

        assert (found.verdict, cause in found.reason) == (verdict, True), found.reason

    async def test_a_registry_that_knows_no_head_is_read(self) -> None:
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": {}}).encode()

        async def no_head(reader: Any, writer: Any) -> None:
            request = await read_request(reader)
            if request.startswith(b"HEAD"):
                writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
                writer.write(body)

        found = await ask_server(no_head)

        assert found.verdict is Verdict.PASS, found.reason
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        assert digest in found.evidence["digests"].values()

    async def test_a_manifest_that_is_not_what_its_digest_says_fails(self) -> None:
        async with serving(saying("200 OK", '{"mediaType": "x"}')) as url:
            image = f"{url.removeprefix('http://')}/shop@sha256:{'0' * 64}"
            found = await check({"image": image, "max_age": "1h"})

        assert (found.verdict, "is not what its digest" in found.reason) == (Verdict.FAIL, True)

    async def test_many_images_are_asked_side_by_side(self) -> None:
        said = saying("200 OK", "", f"Docker-Content-Digest: sha256:{'a' * 64}")
        async with serving(said) as url:
            host = url.removeprefix("http://")
            found = await check(*({"image": f"{host}/shop:{n}"} for n in range(20)))

        assert found.verdict is Verdict.PASS, found.reason
        images = [of for of in found.evidence["digests"] if of.startswith("oci:")]
        assert len(images) == 20


def temporary_folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("cosign-*"))


RECORDING = """#!/bin/sh
printf '%s\\n' "$@" > "{folder}/argv"
env > "{folder}/env"
ls -l "$DOCKER_CONFIG/config.json" > "{folder}/mode"
echo "$DOCKER_CONFIG" > "{folder}/where"
cat "$DOCKER_CONFIG/config.json" > "{folder}/login"
echo "said with {password}" >&2
exit {code}
"""


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(0, Verdict.PASS), (10, Verdict.FAIL), (12, Verdict.FAIL), (1, Verdict.ERROR), (137, Verdict.ERROR)],
)
async def test_the_program_says_it_by_its_exit_code_and_gets_the_password_in_a_file(
    tmp_path: Path, code: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is a stand-in that writes down how it was called; its exit codes are those of cosign's sources
    (cmd/cosign/errors/exit_codes.go). The real one is asked in `test_checks_registry.py`.
    """
    program = tmp_path / "bin" / "cosign"
    program.parent.mkdir()
    program.write_text(RECORDING.format(folder=tmp_path, code=code, password=PASSWORD))
    program.chmod(0o700)
    (tmp_path / "-key.pub").touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    found = await ask_server(
        saying("200 OK", "", f"Docker-Content-Digest: sha256:{'a' * 64}"),
        cosign={"key": str(tmp_path / "-key.pub"), "ignore_log": True},
        **LOGIN,
    )

    assert found.verdict is verdict, found.reason
    argv = (tmp_path / "argv").read_text().splitlines()
    assert argv[:3] == ["verify", "--key", str(tmp_path / "-key.pub")]
    assert argv[-1].endswith(f"/shop@sha256:{'a' * 64}") and "--insecure-ignore-tlog=true" in argv
    assert PASSWORD not in "".join(argv) + (tmp_path / "env").read_text()
    assert (tmp_path / "mode").read_text().startswith("-rw-------")
    assert base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() in (tmp_path / "login").read_text()
    assert (tmp_path / "where").read_text().strip() not in [str(each) for each in temporary_folders()]


async def test_a_signature_that_is_asked_for_needs_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    # Not what `which` finds: a version manager's is a script that needs more of the PATH.
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    found = await ask_server(
        saying("200 OK", "", f"Docker-Content-Digest: sha256:{'a' * 64}"), cosign={"key": "/keys/cosign.pub"}
    )

    assert found.verdict is Verdict.ERROR
    assert "there is no cosign on the worker's PATH" in found.reason
