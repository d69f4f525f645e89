"""Asks the check `artifacts` as Temporal does, for images in a registry."""

from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.preflight import PreflightActivities
from home.paths import Home
from models.checks import PreflightCheck
from models.spec import DeploymentSpec
from models.verdict import CheckResult
from tests.servers.registry import PASSWORD
from tests.support.serving import Behaviour, serving

LOGIN = {"username": "env:REGISTRY_USER", "password": "env:REGISTRY_PASSWORD"}


async def check(*artifacts: dict[str, Any], expected: dict[str, str] | None = None) -> CheckResult:
    directory = Home.from_environment().path.parent / "app"
    directory.mkdir(exist_ok=True)
    document = {
        "service": "shop",
        "target": "staging",
        "release": {"version": "1", "artifacts": list(artifacts)},
        "platform": {"kind": "local", "run": ["python3"], "directory": str(directory), "listen": "127.0.0.1:8080"},
    }
    question = PreflightCheck(spec=DeploymentSpec.model_validate(document), expected=expected or {})
    found: CheckResult = await ActivityEnvironment().run(
        PreflightActivities(Home.from_environment()).check_artifacts, question
    )
    assert PASSWORD not in found.model_dump_json()
    return found


async def ask_server(behaviour: Behaviour, **artifact: Any) -> CheckResult:
    """Asks for `shop:1` on a server that behaves like that."""
    async with serving(behaviour) as url:
        return await check({"image": f"{url.removeprefix('http://')}/shop:1", **artifact})
