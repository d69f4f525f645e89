"""Options that all tests share, which tests `--platform` leaves over, and who has which with `pytest -n`."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.harness import HARNESSES
from tests.support.extent import FULL
from tests.support.ledger import HERE, Ledger, left_over

# Scenarios share a home and are played side by side. What waits longest begins first.
SCENARIOS = tuple(
    f"tests/integration/local/test_{name}.py"
    for name in ("strategies", "emergencies", "decisions", "taking_turns", "frozen_targets")
)
# What shares something that takes long to come up: one process has all that begins so.
TOGETHER = (
    "tests/integration/compose/test_compose_hosts.py",
    "tests/integration/stack/",
    "tests/integration/compose/",
    "tests/integration/kubernetes/",
    "tests/chaos/",
)
# Each waits for a platform, for itself.
ONE_BY_ONE = ("tests/integration/platforms/",)
FIRST = pytest.StashKey[frozenset[str]]()
OTHERS = "none"
# What takes ten minutes to build for a few tests is asked for by its own name.
APART = ("cosign",)


def pytest_addoption(parser: pytest.Parser) -> None:
    said = f"only what needs these servers: {', '.join([*sorted(HARNESSES), *APART])}; {OTHERS}: any others"
    parser.addoption("--platform", default=None, help=said)
    parser.addoption("--ledger", default=None, metavar="NAME", help="note what ran and what did not, under this name")


def pytest_configure(config: pytest.Config) -> None:
    wanted = config.getoption("--platform")
    if wanted not in (None, OTHERS, *HARNESSES, *APART):
        raise pytest.UsageError(f"there is no platform {wanted}; there is {', '.join(sorted(HARNESSES))}")
    # Those that take longest begin first, which are not those that are most.
    config.option.loadscopereorder = False
    name = config.getoption("--ledger")
    if name and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Ledger(name, HERE / f"{name}.json"), "ledger")
    config.stash[FIRST] = frozenset(getattr(config, "workerinput", {}).get("first", ()) or left_over(name))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """All processes have to agree about the order: the first one reads it for all."""
    node.workerinput["first"] = sorted(node.config.stash[FIRST])


class AsTheyShare(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Tests that share servers are one process's: those of a file, and those of the scenarios with one home."""

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)


def share_of(nodeid: str) -> str:
    """What the test shares: all tests with the same are one process's."""
    if nodeid.startswith(SCENARIOS):
        return "scenarios"
    if nodeid.startswith(ONE_BY_ONE):
        return nodeid
    return next((each for each in TOGETHER if nodeid.startswith(each)), nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Whose turn it is, with `pytest -n`."""
    return AsTheyShare(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `platform("kubernetes")` run for that platform, those marked `platform` alone for `none`.

    What the last run had no time for comes first, then what takes longest.
    """
    for item in items:
        if hasattr(getattr(item, "function", None), "scenario") and share_of(item.nodeid).endswith(".py"):
            raise pytest.UsageError(
                f"scenarios share a home: SCENARIOS in tests/conftest.py must name {item.path.name}"
            )
    first = {share_of(nodeid) for nodeid in config.stash[FIRST]}
    items.sort(key=lambda item: (share_of(item.nodeid) not in first, not item.nodeid.startswith(SCENARIOS)))
    wanted = config.getoption("--platform")
    chosen = [item for item in items if _is_wanted(item, wanted)]
    dropped = set(items) - set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item in dropped])
    items[:] = chosen


def _is_wanted(item: pytest.Item, platform: str | None) -> bool:
    if item.get_closest_marker("full") and not FULL:
        return False
    return platform is None or (platform in _names(item) if platform != OTHERS else not _names(item))


def _names(item: pytest.Item) -> set[str]:
    return {name for marker in item.iter_markers("platform") for name in marker.args}
