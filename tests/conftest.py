"""Options that all tests share."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--platform", default=None, help="only this platform in the conformance suite, like local")
