"""A name means one thing: no class of the product shares its name with another, and every error says that it is one."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from models import errors

ROOT = Path(__file__).parents[2]
PACKAGES = ("activities", "cli", "embedded", "home", "models", "workflows")


def classes() -> dict[str, list[str]]:
    """Where each class is defined, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in (each for package in PACKAGES for each in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def test_no_class_name_exists_twice() -> None:
    found = classes()
    assert len(found) > 300
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_every_error_is_called_one_and_is_in_the_tree_that_is_written_down() -> None:
    tree = errors.__doc__ or ""
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    for each in found:
        assert each.__name__.endswith("Error")
        assert each.__name__ in tree


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.FencedOutError, "Stale"),
        (errors.UnsafeChangeError, "Refused"),
        (errors.PreconditionError, "Impossible"),
        (errors.UnavailableError, "Unavailable"),
        (errors.WriteConflictError, "Conflict"),
        (errors.PlatformError, "PlatformError"),
    ],
)
def test_what_an_error_is_called_in_histories_stays(error: type[errors.DeploymentSpecialistError], name: str) -> None:
    assert error.wire_name == name
