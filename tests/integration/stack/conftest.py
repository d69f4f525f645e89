"""One stack for all its tests: it takes half a minute to come up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.docker_engine import Engine, engine
from tests.servers.stack import images
from tests.servers.stack.running import Stack, running

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.xdist_group("stack"))


@pytest.fixture(scope="session")
def docker_with_images() -> Iterator[Engine]:
    """Docker with the stack's images, and with a worker's image of this checkout."""
    with engine() as docker:
        images.provide(docker)
        images.build_worker(docker)
        yield docker


@pytest.fixture(scope="session")
def stack(docker_with_images: Engine) -> Iterator[Stack]:
    """The stack, up and healthy."""
    with running(docker_with_images, "--docker") as stack:
        yield stack
