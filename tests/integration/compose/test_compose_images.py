"""Images from a registry, and a Docker without what it needs."""

import asyncio
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from activities.platforms.compose.platform import ComposePlatform
from home.paths import Home
from models.checks import Examination, PreflightCheck
from models.spec import DeploymentSpec
from models.verdict import Verdict
from tests.servers.cache import debian
from tests.servers.docker_engine import Engine, images
from tests.servers.registry import running_registry
from tests.support.compose_env import ComposeEnv, Shop
from tests.support.product_env import NEW, OLD, ROLLING, ended, found
from tests.support.scenarios import side_by_side

_PAGES = ("health", "ready", "healthz")
_DOCKERFILE = """
FROM scratch
COPY busybox /bin/busybox
COPY {pages} version /www/
VOLUME /cache
CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
"""


def push(client: docker.DockerClient, name: str, version: str, said: str = "") -> str:
    """Puts a small image with a web server into the registry of its name, and nowhere else; gives its id."""
    debian("busybox-static")
    files: dict[str, str | Path] = dict.fromkeys(_PAGES, said or version)
    files["version"] = f'{{"version": "{version}"}}'
    files["busybox"] = Path("/bin/busybox").resolve()
    files["Dockerfile"] = _DOCKERFILE.format(pages=" ".join(_PAGES))
    id = images.build(client, f"{name}:{version}", files)
    for said_so in client.images.push(name, tag=version, stream=True, decode=True):
        assert "error" not in said_so, said_so
    client.images.remove(f"{name}:{version}")
    return id


def from_registry(living: ComposeEnv, name: str) -> Shop:
    """A shop whose Compose file names an image, and gives it a volume."""
    endpoints = {"endpoints": {"metrics": None}}
    shop = living.shop(ROLLING, platform={"image": f"{name}:{{version}}"}, verify=endpoints)
    document: dict[str, Any] = yaml.safe_load(shop.compose_file.read_text())
    web = document["services"]["web"]
    del web["build"]
    web |= {"image": f"{name}:latest", "volumes": ["files:/files"]}
    document["volumes"]["files"] = {}
    shop.compose_file.write_text(yaml.safe_dump(document))
    return shop


def runs(shop: Shop) -> set[str]:
    """The images that the running containers are made from."""
    return {str(each.attrs["Image"]) for each in shop.containers(role="instance") if each.status == "running"}


def mounted(shop: Shop) -> set[str]:
    """The volumes that its containers have."""
    mounts = [mount for each in shop.containers(role="instance") for mount in each.attrs["Mounts"]]
    return {str(mount["Name"]) for mount in mounts if mount["Type"] == "volume"}


@side_by_side
async def test_an_image_is_the_one_that_was_there_when_it_was_checked(living: ComposeEnv) -> None:
    folder = living.folder / "registry"
    folder.mkdir()
    with running_registry(folder) as registry:
        name = f"{registry.host}/web"
        shop = from_registry(living, name)
        old, new = [await asyncio.to_thread(push, living.docker, name, version) for version in (OLD, NEW)]
        await shop.serving()
        assert runs(shop) == {old}
        volumes = mounted(shop)
        # One of the Compose file for both instances, and one without a name for each.
        assert len(volumes) == 3

        # Somebody gives the old tag to something else: whoever goes back gets what was there.
        moved = await asyncio.to_thread(push, living.docker, name, OLD, "something else")
        document = ended(await shop.deploy(NEW), "deployed", 0)
        assert "at its registry" in found(document, "preflight", "image")["reason"]
        assert runs(shop) == {new}
        back = await shop.rollback()
        assert back.code == 10, back.err
        assert runs(shop) == {old}
        assert old != moved

    # Its registry is gone: what is on the host can be deployed again, and what is nowhere changes nothing.
    ended(await shop.deploy("1.3.0"), "preflight-failed", 14)
    assert runs(shop) == {old}
    # No volume went with a container, not even one without a name.
    assert volumes <= {each.name for each in living.docker.volumes.list()}


@pytest.mark.parametrize(
    ("there", "sentence"),
    [(False, "there is no program docker on the worker's PATH"), (True, "the worker's docker has no Compose v2")],
    ids=["no docker", "docker without Compose"],
)
async def test_without_compose_it_is_said_how_to_get_it(
    docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, sentence: str
) -> None:
    if there:
        # Where Docker's command line looks for Compose cannot be emptied on a machine that has it for everybody.
        (tmp_path / "docker").write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2; exit 1\n")
        (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    examination = await _examine(docker_engine, tmp_path)
    check = next(each for each in examination.checks if each.name == "compose")
    assert check.verdict is Verdict.FAIL
    assert sentence in check.reason
    assert "Install Docker's command line with Compose v2" in check.reason


async def _examine(engine: Engine, folder: Path) -> Examination:
    platform = {"kind": "compose", "service": "web", "listen": "127.0.0.1:1", "host": engine.host}
    spec = {"service": "shop", "target": "staging", "release": {"version": OLD}, "platform": platform}
    compose = ComposePlatform(Home(folder / "home"))
    try:
        return await compose.examine(PreflightCheck(spec=DeploymentSpec.model_validate(spec)))
    finally:
        await compose.aclose()
