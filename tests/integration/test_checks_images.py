"""Images: a tag becomes a digest, whoever guards the registry, and only the digest travels on.

The registry is Debian's; servers that misbehave in one way each are small ones of our own.
"""

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import secrets
from activities.preflight import PreflightActivities, registry
from embedded.paths import Home
from models.checks import PreflightCheck
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict
from tests.servers.cache import go_build, run
from tests.servers.registry import (
    INDEX,
    MANIFEST,
    PASSWORD,
    USER,
    RunningRegistry,
    TokenServer,
    running_registry,
    running_token_server,
    with_passwords,
)
from tests.serving import Behaviour, hanging_up, read_request, saying, serving, silent

SERVERS = Path(__file__).parents[1] / "servers"
LOGIN = {"username": "env:REGISTRY_USER", "password": "env:REGISTRY_PASSWORD"}
real = pytest.mark.platform


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())
    monkeypatch.setattr(secrets, "_pattern", None)
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGISTRY_USER", USER)
    monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setattr(registry, "AGAIN_AFTER", 0.01)


async def check(*artifacts: dict[str, Any], expected: dict[str, str] | None = None) -> CheckResult:
    directory = Home.from_environment().path.parent / "app"
    directory.mkdir(exist_ok=True)
    document = {
        "service": "shop",
        "target": "staging",
        "release": {"version": "1", "artifacts": list(artifacts)},
        "platform": {"kind": "local", "run": ["python3"], "directory": str(directory), "listen": "127.0.0.1:8080"},
    }
    question = PreflightCheck(spec=DeploymentSpec.model_validate(document), expected=expected or {})
    found: CheckResult = await ActivityEnvironment().run(
        PreflightActivities(Home.from_environment()).check_artifacts, question
    )
    assert PASSWORD not in found.model_dump_json()
    return found


@pytest.fixture(scope="module")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("guarded")
    with running_registry(folder, with_passwords(folder), auth=(USER, PASSWORD)) as running:
        yield running


@pytest.fixture(scope="module")
def token_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with running_token_server(tmp_path_factory.mktemp("tokens")) as server:
        yield server


@pytest.fixture(scope="module")
def with_tokens(tmp_path_factory: pytest.TempPathFactory, token_server: TokenServer) -> Iterator[RunningRegistry]:
    may_push = {"Authorization": f"Bearer {token_server.sign([_access('shop')])}"}
    with running_registry(tmp_path_factory.mktemp("with-tokens"), token_server.auth, headers=may_push) as running:
        yield running


def _access(name: str) -> dict[str, Any]:
    return {"type": "repository", "name": name, "actions": ["pull", "push"]}


@real
@pytest.mark.timeout(300)
class TestRealRegistry:
    async def test_a_tag_becomes_its_digest(self, open_registry: RunningRegistry) -> None:
        digest = open_registry.push_image("team/shop", "1.1.0")
        image = f"{open_registry.host}/team/shop:1.1.0"

        found = await check({"image": image})

        assert found.verdict is Verdict.PASS, found.reason
        assert found.evidence["digests"][f"oci:{image}"] == digest
        assert found.evidence["signatures"][image].startswith("skipped: nobody asks")

    async def test_the_manifest_is_asked_for_and_not_read(self, open_registry: RunningRegistry) -> None:
        open_registry.push_image("head", "1")

        await check({"image": f"{open_registry.host}/head:1"})

        log = open_registry.log.read_text()
        assert '"HEAD /v2/head/manifests/1 HTTP/1.1" 200' in log
        assert '"GET /v2/head/manifests/1 ' not in log

    async def test_a_tag_that_moved_since_the_plan_fails(self, open_registry: RunningRegistry) -> None:
        open_registry.push_image("moving", "1")
        artifact = {"image": f"{open_registry.host}/moving:1"}
        planned = (await check(artifact)).evidence["digests"]
        assert (await check(artifact, expected=planned)).verdict is Verdict.PASS

        open_registry.push_image("moving", "1")
        found = await check(artifact, expected=planned)

        assert found.verdict is Verdict.FAIL
        assert f"oci:{open_registry.host}/moving:1 changed since the plan" in found.reason

    async def test_of_an_index_the_platforms_own_image_is_pinned(self, open_registry: RunningRegistry) -> None:
        images = {
            "linux/amd64": open_registry.push_image("multi"),
            "linux/arm64/v8": open_registry.push_image("multi", architecture="arm64", variant="v8"),
        }
        index = open_registry.push_index("multi", "1", images)
        image = f"{open_registry.host}/multi:1"

        amd = await check({"image": image, "platform": "linux/amd64"})
        arm = await check({"image": image, "platform": "linux/arm64"})
        whole = await check({"image": image})
        none = await check({"image": image, "platform": "linux/s390x"})
        aged = await check({"image": image, "max_age": "1h"})

        assert amd.evidence["digests"][f"oci:{image}"] == images["linux/amd64"], amd.reason
        assert arm.evidence["digests"][f"oci:{image}"] == images["linux/arm64/v8"], arm.reason
        assert whole.evidence["digests"][f"oci:{image}"] == index
        assert none.verdict is Verdict.FAIL
        assert "not there for linux/s390x, but for linux/amd64, linux/arm64" in none.reason
        assert "name one (platform): linux/amd64, linux/arm64" in aged.reason

    async def test_an_image_for_another_platform_fails(self, open_registry: RunningRegistry) -> None:
        open_registry.push_image("arm", "1", architecture="arm64")

        found = await check({"image": f"{open_registry.host}/arm:1", "platform": "linux/amd64"})

        assert (found.verdict, "it is for linux/arm64, not for linux/amd64" in found.reason) == (Verdict.FAIL, True)

    async def test_the_age_of_an_image_is_known(self, open_registry: RunningRegistry) -> None:
        made = datetime.now(UTC) - timedelta(hours=2)
        open_registry.push_image("aged", "1", created=made.isoformat().replace("+00:00", "Z"))
        open_registry.push_image("aged", "2")
        image = f"{open_registry.host}/aged:1"

        assert (await check({"image": image, "max_age": "3h"})).verdict is Verdict.PASS
        old = await check({"image": image, "max_age": "1h"})
        assert (old.verdict, "old, max_age is 1h" in old.reason) == (Verdict.FAIL, True)
        unknown = await check({"image": f"{open_registry.host}/aged:2", "max_age": "1h"})
        assert (unknown.verdict, "does not say when it was made" in unknown.reason) == (Verdict.FAIL, True)

    async def test_a_digest_in_the_name_is_looked_for(self, open_registry: RunningRegistry) -> None:
        digest = open_registry.push_image("pinned", "1")
        image = f"{open_registry.host}/pinned:1@{digest}"

        found = await check({"image": image}, {"image": f"{open_registry.host}/pinned@sha256:{'0' * 64}"})

        assert found.evidence["digests"][f"oci:{image}"] == digest
        assert (found.verdict, "it is not in the registry (MANIFEST_UNKNOWN" in found.reason) == (Verdict.FAIL, True)

    @pytest.mark.parametrize("name", ["nothing:1", "team/shop:2"])
    async def test_what_is_not_there_fails_with_the_registrys_own_words(
        self, open_registry: RunningRegistry, name: str
    ) -> None:
        found = await check({"image": f"{open_registry.host}/{name}"})

        assert (found.verdict, "_UNKNOWN: " in found.reason) == (Verdict.FAIL, True)

    async def test_a_password_opens_a_guarded_one(self, guarded: RunningRegistry) -> None:
        digest = guarded.push_image("shop", "1")
        image = f"{guarded.host}/shop:1"

        found = await check({"image": image, **LOGIN})

        assert found.evidence["digests"][f"oci:{image}"] == digest, found.reason
        assert PASSWORD not in guarded.log.read_text()

    async def test_without_it_or_with_another_nothing_is_said(
        self, guarded: RunningRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guarded.push_image("shop", "1")
        image = f"{guarded.host}/shop:1"

        nobody = await check({"image": image})
        monkeypatch.setenv("REGISTRY_PASSWORD", "wrong-horse")
        wrong = await check({"image": image, **LOGIN})
        monkeypatch.delenv("REGISTRY_PASSWORD")
        nowhere = await check({"image": image, **LOGIN})

        assert (nobody.verdict, "it wants a username and a password" in nobody.reason) == (Verdict.ERROR, True)
        assert (wrong.verdict, "username or password are wrong" in wrong.reason) == (Verdict.ERROR, True)
        assert (nowhere.verdict, "env:REGISTRY_PASSWORD" in nowhere.reason) == (Verdict.ERROR, True)
        assert "wrong-horse" not in wrong.model_dump_json()

    async def test_a_token_is_fetched_for_this_repository_and_no_more(
        self, with_tokens: RunningRegistry, token_server: TokenServer
    ) -> None:
        digest = with_tokens.push_image("shop", "1", created=datetime.now(UTC).isoformat())
        image = f"{with_tokens.host}/shop:1"
        token_server.asked.clear()

        found = await check({"image": image, "max_age": "1h", **LOGIN})

        assert found.evidence["digests"][f"oci:{image}"] == digest, found.reason
        assert token_server.asked == [{"service": "registry", "scope": "repository:shop:pull"}]

    async def test_a_token_that_may_nothing_is_told(
        self, with_tokens: RunningRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with_tokens.push_image("shop", "1")
        image = f"{with_tokens.host}/shop:1"

        nobody = await check({"image": image})
        monkeypatch.setenv("REGISTRY_PASSWORD", "wrong-horse")
        wrong = await check({"image": image, **LOGIN})

        assert (nobody.verdict, "it wants a username and a password" in nobody.reason) == (Verdict.ERROR, True)
        assert (wrong.verdict, "token server answered 401: username or password" in wrong.reason) == (
            Verdict.ERROR,
            True,
        )


def index_of(count: int) -> bytes:
    return json.dumps({"mediaType": INDEX, "manifests": [{"x": "y" * 1000}] * count}).encode()


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


async def ask_server(behaviour: Behaviour, **artifact: Any) -> CheckResult:
    async with serving(behaviour) as url:
        return await check({"image": f"{url.removeprefix('http://')}/shop:1", **artifact})


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
        assert len(found.evidence["digests"]) == 21


@pytest.fixture(scope="session")
def cosign() -> Path:
    """Built from its sources: several minutes the first time on a machine."""
    built = go_build("cosign", SERVERS / "cosign", ["github.com/sigstore/cosign/v2/cmd/cosign"], "-p", "2")
    return built / "cosign"


@real
@pytest.mark.timeout(3600)
class TestSignatures:
    @pytest.fixture
    def keys(self, tmp_path: Path, cosign: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("PATH", f"{cosign.parent}:{os.environ['PATH']}")
        for name in ("ours", "theirs"):
            own = {**os.environ, "COSIGN_PASSWORD": "", "HOME": str(tmp_path)}
            run([str(cosign), "generate-key-pair", "--output-key-prefix", str(tmp_path / name)], timeout=60, env=own)
        return tmp_path

    async def test_what_is_signed_with_the_key_passes_and_with_another_fails(
        self, keys: Path, cosign: Path, guarded: RunningRegistry
    ) -> None:
        digest = guarded.push_image("signed", "1")
        image = f"{guarded.host}/signed:1"
        asked = {"image": image, "cosign": {"key": str(keys / "ours.pub"), "ignore_log": True}, **LOGIN}
        before = await check(asked)
        (keys / "config.json").write_text(_docker_login(guarded.host))
        own = {**os.environ, "COSIGN_PASSWORD": "", "HOME": str(keys), "DOCKER_CONFIG": str(keys)}
        sign = ["sign", "--key", str(keys / "ours.key"), "--tlog-upload=false", "--allow-http-registry", "--yes"]
        run([str(cosign), *sign, f"{guarded.host}/signed@{digest}"], timeout=120, env=own)

        signed = await check(asked)
        other = await check({**asked, "cosign": {"key": str(keys / "theirs.pub"), "ignore_log": True}})

        assert (before.verdict, "is not signed with" in before.reason) == (Verdict.FAIL, True), before.reason
        assert signed.verdict is Verdict.PASS, signed.reason
        assert signed.evidence["signatures"] == {image: "signed with ours.pub"}
        assert (other.verdict, "is not signed with" in other.reason) == (Verdict.FAIL, True), other.reason


def _docker_login(host: str) -> str:
    return json.dumps({"auths": {host: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}})


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
    (cmd/cosign/errors/exit_codes.go). The real one is asked in `TestSignatures`.
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
    (tmp_path / "bin" / "python3").symlink_to(shutil.which("python3") or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    found = await ask_server(
        saying("200 OK", "", f"Docker-Content-Digest: sha256:{'a' * 64}"), cosign={"key": "/keys/cosign.pub"}
    )

    assert found.verdict is Verdict.ERROR
    assert "there is no cosign on the worker's PATH" in found.reason
