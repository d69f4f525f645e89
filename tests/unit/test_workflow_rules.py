"""Finds the mistakes that left work running in workflows: what they cost stands in `workflows/concurrency.py`."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).parents[2] / "workflows"
# What starts work, or waits for some of it only, stands in these modules alone.
ALLOWED = {
    "workflows/concurrency.py": {
        *("asyncio.create_task", "asyncio.ensure_future", "asyncio.shield"),
        *("workflow.wait", "workflow.sleep", "workflow.wait_condition"),
    },
    "workflows/platform_client.py": {"workflow.execute_activity"},
    # Waiting for a task of an enclosing `Tasks` starts and leaves nothing.
    "workflows/deployment.py": {"workflow.wait"},
    "workflows/queueing.py": {"workflow.wait"},
    # It is meant to outlive the deployment, and learns of its end from Temporal.
    "workflows/announcing.py": {"workflow.start_child_workflow"},
}
_ASYNCIO = ("create_task", "ensure_future", "gather", "shield", "wait", "wait_for", "as_completed", "TaskGroup")
_ACTIVITY = ("activity", "activity_class", "activity_method", "local_activity", "local_activity_class")
FORBIDDEN = {
    *(f"asyncio.{name}" for name in (*_ASYNCIO, "timeout", "run", "Runner", "to_thread", "Event", "Queue")),
    *(f"workflow.{verb}_{name}" for verb in ("start", "execute") for name in (*_ACTIVITY, "child_workflow")),
    *(f"workflow.{name}" for name in ("wait", "as_completed", "sleep", "wait_condition")),
    "asyncio.sleep",
}


def _named(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def offences(source: str, allowed: Collection[str] = ()) -> Iterator[str]:
    """What the source does that only one place may do, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and (name := _named(node)) in FORBIDDEN and name not in allowed:
            yield f"{node.lineno}: {name}: use what workflows.concurrency has for it, or platform_client.execute"
        if isinstance(node, ast.ImportFrom) and node.module in ("asyncio", "temporalio.workflow"):
            for each in node.names:
                if f"{node.module.rpartition('.')[2]}.{each.name}" in FORBIDDEN:
                    yield f"{node.lineno}: from {node.module} import {each.name}"
        if isinstance(node, ast.ExceptHandler):
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            if "BaseException" in caught or caught == "Exception":
                yield f"{node.lineno}: except {caught}: name what is caught, a cancellation and an eviction go through"


@pytest.mark.parametrize(
    "name", [path.relative_to(WORKFLOWS.parent).as_posix() for path in sorted(WORKFLOWS.rglob("*.py"))]
)
def test_workflow_code_leaves_nothing_running(name: str) -> None:
    assert list(offences((WORKFLOWS.parent / name).read_text(), ALLOWED.get(name, ()))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nguard = asyncio.create_task(watch())",
        "import asyncio\nasync def f():\n    await asyncio.gather(a(), b())",
        "from asyncio import gather",
        "from temporalio.workflow import start_activity",
        "async def f():\n    await workflow.execute_activity('x')",
        "async def f():\n    await workflow.sleep(3600)",
        "async def f():\n    await workflow.wait_condition(lambda: False)",
        "async def f():\n    try:\n        await a()\n    except BaseException:\n        pass",
        "async def f():\n    try:\n        await a()\n    except:\n        pass",
    ],
)
def test_the_mistake_is_seen(source: str) -> None:
    assert list(offences(source))


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_no_exception_to_the_rule_is_left_over(name: str) -> None:
    source = (WORKFLOWS.parent / name).read_text()
    used = {_named(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert ALLOWED[name] <= used
