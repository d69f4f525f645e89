"""Every test here runs on every platform of `tests.platform_grounds.GROUNDS`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.platform_grounds import GROUNDS, Ground
from tests.platform_target import Target


@pytest.fixture(scope="session", params=sorted(GROUNDS))
async def platform_under_test(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    ground = GROUNDS[request.param]()
    try:
        yield ground
    finally:
        await ground.aclose()


@pytest.fixture
async def target(platform_under_test: Ground, tmp_path: Path) -> AsyncIterator[Target]:
    found = Target(platform_under_test, tmp_path)
    try:
        yield found
    finally:
        await found.wipe()
