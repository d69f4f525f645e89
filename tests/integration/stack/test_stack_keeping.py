"""What `docs/self-hosting.md` tells an owner to type is typed here: backup, restore, another password, down and up."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.servers.docker_engine import Engine
from tests.servers.stack.images import ROOT
from tests.servers.stack.running import SERVICES, Stack, running
from tests.servers.stack.services import NEW, OLD, Containers

pytestmark = [pytest.mark.platform("compose"), pytest.mark.timeout(1800)]

PAGE = ROOT / "docs" / "self-hosting.md"


@pytest.fixture(scope="module")
def kept(docker_with_images: Engine) -> Iterator[Stack]:
    """A stack of its own: it is thrown away and restored."""
    with running(docker_with_images, "--docker") as stack:
        yield stack


@pytest.fixture(scope="module")
def service(kept: Stack) -> Iterator[Containers]:
    service = Containers(kept, "kept")
    yield service
    service.remove()


def typed(stack: Stack, heading: str) -> None:
    """Types the last block of shell commands below a heading of the page."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[-1]
    # Grafana cannot be had here.
    commands = commands.replace("up -d --wait\n", f"up -d --wait --no-build {' '.join(SERVICES)}\n")
    done: subprocess.CompletedProcess[str] = stack.shell(commands)
    assert done.returncode == 0, done.stderr[-3000:]


def history(stack: Stack) -> list[object]:
    found: list[object] = json.loads(stack.command("history", "kept/staging", "--json").stdout)["runs"]
    return found


def test_a_lost_stack_is_restored_from_its_backup(kept: Stack, service: Containers) -> None:
    deployed = kept.command("deploy", service.spec(OLD), "--json", timeout=400)
    assert deployed.returncode == 0, deployed.stderr
    before = history(kept)

    typed(kept, "Backup")
    kept.must("down", "--volumes")
    assert service.serves(OLD)
    typed(kept, "Restore")

    assert history(kept) == before
    next_one = kept.command("deploy", service.spec(NEW), "--json", timeout=400)
    assert json.loads(next_one.stdout)["previous_version"] == OLD
    assert next_one.returncode == 0, next_one.stderr


def test_the_password_of_the_database_is_changed(kept: Stack) -> None:
    before = kept.secret("postgres_password")

    typed(kept, "Secrets")

    assert kept.secret("postgres_password") != before
    kept.up()
    kept.must("restart", "temporal")
    assert history(kept)


def test_down_and_up_keep_everything(kept: Stack, service: Containers) -> None:
    before = history(kept)

    typed(kept, "Stop, remove")

    assert history(kept) == before
    assert service.serves(NEW)
