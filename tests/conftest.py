"""Options that all tests share, and which tests `--platform` leaves over."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.grounds import GROUNDS

# What shares something that takes long to come up: the scenarios of a folder a home, others their servers.
TOGETHER = [
    "tests/integration/compose/test_compose_hosts.py",
    "tests/integration/stack/",
    *(f"tests/integration/{name}/" for name in GROUNDS),
]
OTHERS = "none"
# What takes ten minutes to build for a few tests is asked for by its own name.
APART = ("cosign",)


def pytest_addoption(parser: pytest.Parser) -> None:
    said = f"only what needs these servers: {', '.join([*sorted(GROUNDS), *APART])}; {OTHERS}: any others"
    parser.addoption("--platform", default=None, help=said)


def pytest_configure(config: pytest.Config) -> None:
    wanted = config.getoption("--platform")
    if wanted not in (None, OTHERS, *GROUNDS, *APART):
        raise pytest.UsageError(f"there is no platform {wanted}; there is {', '.join(sorted(GROUNDS))}")


class OneForThoseTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Scenarios share a home and are played side by side: where several processes test, one of them has them all."""

    def _split_scope(self, nodeid: str) -> str:
        return next((each for each in TOGETHER if nodeid.startswith(each)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Whose turn it is, with `pytest -n`."""
    return OneForThoseTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `platform("kubernetes")` run for that platform, those marked `platform` alone for `none`."""
    wanted = config.getoption("--platform")
    if wanted is None:
        return
    chosen = [item for item in items if (wanted in _names(item) if wanted != OTHERS else not _names(item))]
    dropped = [item for item in items if item not in chosen]
    config.hook.pytest_deselected(items=dropped)
    items[:] = chosen


def _names(item: pytest.Item) -> set[str]:
    return {name for marker in item.iter_markers("platform") for name in marker.args}
