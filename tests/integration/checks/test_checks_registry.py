"""Images in a real registry, Debian's: a tag becomes a digest, whoever guards it, and only the digest travels on."""

import base64
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest

from activities.check_result import Finding
from activities.platforms.kubernetes.objects import IMAGE_DIGEST
from activities.platforms.kubernetes.preflight import Examining
from activities.preflight import registry
from activities.secrets import resolver
from models.checks import PreflightCheck
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict
from tests.servers.cache import go_build, run
from tests.servers.registry import (
    PASSWORD,
    USER,
    RunningRegistry,
    TokenServer,
    running_registry,
    running_token_server,
    with_passwords,
)
from tests.support.asking_images import LOGIN, check

SERVERS = Path(__file__).parents[2] / "servers"


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REGISTRY_USER", USER)
    monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setattr(registry, "AGAIN_AFTER", 0.01)


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


async def _pinned_for_kubernetes(image: str, login: dict[str, str] | None) -> tuple[CheckResult, dict[str, str]]:
    """The check `image` of a deployment to a cluster, and the digests that it pins."""
    platform = {"kind": "kubernetes", "deployment": "shop", "image": image, "url": "http://127.0.0.1:8000"}
    spec = DeploymentSpec.model_validate(
        {
            "service": "shop",
            "target": "staging",
            "release": {"version": "1.1.0"},
            "platform": platform | ({"registry": login} if login else {}),
        }
    )
    examining = Examining(Mock(platform=spec.platform), PreflightCheck(spec=spec))
    digests: dict[str, str] = {}
    with patch.object(Examining, "_is_pulled", return_value=True):
        return await examining._image(Finding("image"), digests), digests


@pytest.mark.platform
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

    async def test_kubernetes_pins_the_digest_of_a_private_image(
        self, guarded: RunningRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digest = guarded.push_image("team/shop", "1.1.0")
        image = f"{guarded.host}/team/shop:{{version}}"

        found, pinned = await _pinned_for_kubernetes(image, LOGIN)
        nobody, nothing = await _pinned_for_kubernetes(image, None)
        missing, _ = await _pinned_for_kubernetes(f"{guarded.host}/team/other:1", LOGIN)
        monkeypatch.setenv("REGISTRY_PASSWORD", "wrong-horse")
        wrong, neither = await _pinned_for_kubernetes(image, LOGIN)

        assert (found.verdict, pinned) == (Verdict.PASS, {IMAGE_DIGEST: digest.removeprefix("sha256:")})
        assert (nobody.verdict, nothing, "Its tag travels" in nobody.reason) == (Verdict.SKIPPED, {}, True)
        assert (missing.verdict, "the registry has no image" in missing.reason) == (Verdict.FAIL, True)
        assert (wrong.verdict, neither, "password are wrong" in wrong.reason) == (Verdict.ERROR, {}, True)
        assert PASSWORD not in "".join(each.model_dump_json() for each in (found, nobody, missing, wrong))

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


@pytest.fixture(scope="session")
def cosign() -> Path:
    """Built from its sources: several minutes the first time on a machine."""
    built = go_build("cosign", SERVERS / "cosign", ["github.com/sigstore/cosign/v2/cmd/cosign"], "-p", "2")
    return built / "cosign"


@pytest.mark.platform("cosign")
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
