"""Options that all tests share, and which tests `--platform` leaves over."""

import pytest

from tests.grounds import GROUNDS

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


# Before xdist looks which test belongs to which group.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `platform("kubernetes")` run for that platform, those marked `platform` alone for `none`."""
    for item in items:
        # Scenarios share a home and are played side by side already: where several processes test, one has them all.
        if "living" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("scenarios"))
    wanted = config.getoption("--platform")
    if wanted is None:
        return
    chosen = [item for item in items if (wanted in _names(item) if wanted != OTHERS else not _names(item))]
    dropped = [item for item in items if item not in chosen]
    config.hook.pytest_deselected(items=dropped)
    items[:] = chosen


def _names(item: pytest.Item) -> set[str]:
    return {name for marker in item.iter_markers("platform") for name in marker.args}
