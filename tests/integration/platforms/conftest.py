"""Every test here runs on every platform of `tests.harness.HARNESSES`, or on the one of `--platform`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import HARNESSES, Harness
from tests.harness.target import Target


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "platform_under_test" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("--platform")
    # What the slowest of them needs, on a machine that does other things as well.
    patience = pytest.mark.timeout(300)
    names = [name for name in sorted(HARNESSES) if wanted in (None, name)]
    chosen = [pytest.param(name, marks=(pytest.mark.platform(name), patience)) for name in names]
    metafunc.parametrize("platform_under_test", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
async def platform_under_test(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    ground = HARNESSES[request.param]()
    try:
        yield ground
    finally:
        await ground.aclose()


@pytest.fixture
async def target(platform_under_test: Harness, tmp_path: Path) -> AsyncIterator[Target]:
    found = Target(platform_under_test, tmp_path)
    try:
        yield found
    finally:
        await found.wipe()
