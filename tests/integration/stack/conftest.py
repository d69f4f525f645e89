"""One stack for all its tests: it takes half a minute to come up."""

from collections.abc import Iterator

import pytest

from tests.servers.docker_engine import Engine, engine
from tests.servers.stack import images
from tests.servers.stack.running import Stack, running


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
