"""One cluster and one home for all scenarios here; those that measure nothing are played side by side."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.kubernetes.product_env import ClusterEnv
from tests.servers.cache import NotInstalledError, unavailable
from tests.servers.kubernetes.cluster import use
from tests.support.kubernetes_world import World
from tests.support.scenarios import Playing, under_way

# Two cores, which the cluster needs as well.
AT_ONCE = 3


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster."""
    try:
        with use() as cluster:
            found = World(cluster, tmp_path_factory.mktemp("world"))
            try:
                yield found
            finally:
                found.close()
    except NotInstalledError as error:
        unavailable(error)


@pytest.fixture(scope="session")
async def living(tmp_path_factory: pytest.TempPathFactory, world: World) -> AsyncIterator[ClusterEnv]:
    """A home with its stack, for many services; gone without a trace afterwards."""
    home = ClusterEnv(Path(tmp_path_factory.mktemp("living")), world)
    try:
        await home.up()
        yield home
    finally:
        await home.end()


@pytest.fixture(scope="session")
async def playing(request: pytest.FixtureRequest, living: ClusterEnv) -> AsyncIterator[Playing]:
    """All scenarios that were selected, under way."""
    async with under_way(request.session, "kubernetes", living, AT_ONCE) as found:
        yield found
