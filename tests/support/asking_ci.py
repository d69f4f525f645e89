"""Asks the check `ci` as Temporal does, of GitHub's and GitLab's stand-ins (`tests/servers/ci.py`) or of a command."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from temporalio.testing import ActivityEnvironment

from activities.preflight import PreflightActivities
from home.paths import Home
from models.preflight.ci import CiQuestion, CiSpec
from models.verdict import CheckResult
from tests.servers.ci import REVISION, FakeWorkflow, standing_in


async def ask(spec: dict[str, Any], directory: Path | str = "/", wait: float | None = None) -> CheckResult:
    question = CiQuestion(
        ci=TypeAdapter[Any](CiSpec).validate_python(spec),
        revision=REVISION,
        service="shop",
        target="staging",
        version="1.1.0",
        directory=str(directory),
        deadline=None if wait is None else datetime.now(UTC) + timedelta(seconds=wait),
    )
    home = Home.from_environment()
    return await ActivityEnvironment().run(PreflightActivities(home).check_ci, question)


async def ask_github(stand_in: FakeWorkflow, wait: float | None = None, **spec: Any) -> CheckResult:
    async with standing_in(stand_in) as url:
        return await ask({"kind": "github", "repository": "octo-org/octo-repo", "url": url, **spec}, wait=wait)


async def ask_gitlab(stand_in: FakeWorkflow, wait: float | None = None, **spec: Any) -> CheckResult:
    async with standing_in(stand_in) as url:
        return await ask({"kind": "gitlab", "project": "group/shop", "url": url, **spec}, wait=wait)
