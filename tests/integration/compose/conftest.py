"""One Docker and one home for all scenarios; those that hurt the Docker itself bring their own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers.docker_engine import Engine, engine
from tests.support.compose_env import ComposeEnv, provide_redis
from tests.support.scenarios import Playing, under_way

# Each has users, containers and commands of its own: more at once would measure the machine.
AT_ONCE = 2
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.platform("compose"))
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """A Docker with Compose and all images."""
    with engine() as found:
        client = found.client()
        try:
            provide_redis(client)
        finally:
            client.close()
        yield found


@pytest.fixture(scope="session")
async def living(tmp_path_factory: pytest.TempPathFactory, docker_engine: Engine) -> AsyncIterator[ComposeEnv]:
    """A home with its stack, for many services; gone without a trace afterwards."""
    home = ComposeEnv(tmp_path_factory.mktemp("living"), docker_engine)
    try:
        await home.up()
        yield home
    finally:
        await home.end()
        home.docker.close()


@pytest.fixture(scope="session")
async def playing(request: pytest.FixtureRequest, living: ComposeEnv) -> AsyncIterator[Playing]:
    """All scenarios of this folder that were selected, under way."""
    async with under_way(request.session, "compose", living, AT_ONCE) as found:
        yield found
