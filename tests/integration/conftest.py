"""What tests of the whole product share: one home with its stack, and scenarios that run side by side in it.

A deployment mostly waits: for processes to come up, for watches to end. So scenarios marked `side_by_side` are begun
together, a few at a time, each with a service of its own, and their tests wait for them one after the other.
"""

from collections.abc import AsyncIterator

import pytest

from tests.support.product_env import ProductEnv
from tests.support.scenarios import Playing, under_way

# Two cores: more at once would measure the machine.
AT_ONCE = 4


@pytest.fixture(scope="session")
async def living(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProductEnv]:
    """A home with its stack, for many services; gone without a trace afterwards."""
    home = ProductEnv(tmp_path_factory.mktemp("living"))
    try:
        await home.up()
        yield home
    finally:
        await home.end()


@pytest.fixture(scope="session")
async def playing(request: pytest.FixtureRequest, living: ProductEnv) -> AsyncIterator[Playing]:
    """All scenarios that were selected, under way."""
    async with under_way(request.session, "local", living, AT_ONCE) as found:
        yield found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios come last and together: a test in between that blocks the event loop would stop them all."""
    items.sort(key=lambda item: hasattr(getattr(item, "function", None), "scenario"))
