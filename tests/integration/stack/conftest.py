"""One stack for all its tests: it takes half a minute to come up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.docker_engine import Engine, engine
from tests.servers.stack import images
from tests.servers.stack.running import Stack, running


@pytest.fixture(scope="session")
def docker_with_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Docker with the stack's images, and with a worker's image of this checkout."""
    with engine() as docker:
        images.provide(docker)
        folder: Path = tmp_path_factory.mktemp("worker-image")
        images.build_worker(docker, folder)
        yield docker


@pytest.fixture(scope="session")
def stack(docker_with_images: Engine) -> Iterator[Stack]:
    """The stack, up and healthy."""
    with running(docker_with_images, "--docker") as stack:
        yield stack
