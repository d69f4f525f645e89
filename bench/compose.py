"""The same questions on containers: how fast users are taken away from a bad release, what steps and a hand-over cost.

Docker is the machine's own, or one that is started for this, as in the tests.
"""

import asyncio
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from bench.rows import Row, make_row
from bench.traffic import FIVE, WATCH_LONG, last_answer_after, steps_beyond_readiness, verdict_at
from bench.world import SHOP, World, world
from examples.load import Load
from models.messages import Request
from models.outcome import Outcome
from models.spec import DeploymentSpec
from tests.servers.cache import run
from tests.servers.docker_engine import Engine, engine, images
from workflows import wire_names

TIMES = 5
FEW = 3
GOAL_P50, GOAL_P95 = 0.5, 1.0
GOAL_STEPS = 2.5
GOAL_GAP = 1.0
_DOCKERFILE = f'FROM {images.BASE}\nWORKDIR /app\nCOPY . .\nCMD ["python3", "app.py"]\n'
_PROJECT, _OURS = "deployment-specialist-bench", "deployment-specialist.target=bench"
_GAP = re.compile(r"connections were refused for ([0-9.]+) s")


async def on_compose(given: World) -> list[Row]:
    """All rows of the Compose platform, in a world whose worker finds Compose."""
    with engine() as docker, tempfile.TemporaryDirectory(prefix="bench-compose-") as folder:
        before = os.environ.get("DOCKER_CONFIG")
        os.environ["DOCKER_CONFIG"] = str(docker.config)
        try:
            async with world() as here:
                bench = _Bench(here, docker, Path(folder))
                try:
                    rows = [*await bench.verdicts(), *await bench.signals(), *await bench.steps()]
                    rows += await bench.hand_overs()
                finally:
                    await asyncio.to_thread(bench.remove)
                given.sent, given.lost = given.sent + here.sent, [*given.lost, *here.lost]
                return rows
        finally:
            if before is None:
                os.environ.pop("DOCKER_CONFIG")
            else:
                os.environ["DOCKER_CONFIG"] = before


class _Bench:
    def __init__(self, here: World, docker: Engine, folder: Path) -> None:
        self.here, self.docker, self.folder = here, docker, folder
        (folder / "Dockerfile").write_text(_DOCKERFILE)
        self.file = folder / "docker-compose.yml"
        self._write()

    def _write(self, **environment: str) -> None:
        web = {
            "build": {"context": str(SHOP), "dockerfile": str(self.folder / "Dockerfile")},
            "ports": [f"127.0.0.1:{self.here.port}:8080"],
            **({"environment": environment} if environment else {}),
        }
        self.file.write_text(json.dumps({"name": _PROJECT, "services": {"web": web}}))

    def spec(self, version: str, *, service: str = "shop", errors: float = 0.0, **changes: Any) -> DeploymentSpec:
        platform = {
            "kind": "compose",
            "files": [str(self.file)],
            "service": "web",
            "host": self.docker.host,
            "listen": f"127.0.0.1:{self.here.port}",
            "instances": 2,
            "drain": "5s",
            "stop": "2s",
            "proxy": {"image": images.TRAEFIK},
            "environment": {"ERROR_SHARE": f"{errors:g}"},
        }
        return self.here.spec(version, service=service, **{"platform": platform, **changes})

    async def verdicts(self) -> list[Row]:
        to_last = []
        await self._deployed("1.0.0")
        for n in range(TIMES):
            version = f"2.0.{n}"
            with Load(self.here.url, self.here.measured.rate) as load:
                report = await self.here.deploy(self.spec(version, errors=1.0, strategy=WATCH_LONG))
                seen = load.stop()
            assert report.outcome is Outcome.ROLLED_BACK, report.failure
            to_last.append(last_answer_after(seen, version, verdict_at(report.stages)))
            self.here.count(seen, bad=version)
        name = "compose: verdict → last answer from the candidate"
        return [make_row(name, "s", to_last, p50=GOAL_P50, p95=GOAL_P95)]

    async def signals(self) -> list[Row]:
        to_last = []
        for n in range(TIMES):
            version = f"3.0.{n}"
            with Load(self.here.url, self.here.measured.rate) as load:
                handle = await self.here.start(self.spec(version, strategy=WATCH_LONG))
                await self.here.until_weight(handle, 50)
                await handle.signal(wire_names.ROLLBACK, Request(by="bench", reason="measured"))
                report = await self.here.ended(handle)
                seen = load.stop()
            assert report.outcome is Outcome.ROLLED_BACK, report.failure
            arrived = next(each.at for each in report.decisions if each.what == "rollback")
            to_last.append(last_answer_after(seen, version, arrived.timestamp()))
            self.here.count(seen)
        name = "compose: rollback signal → last answer from the candidate"
        return [make_row(name, "s", to_last, p50=GOAL_P50, p95=GOAL_P95)]

    async def steps(self) -> list[Row]:
        overheads = []
        for n in range(FEW):
            with Load(self.here.url, self.here.measured.rate) as load:
                report = await self.here.deploy(self.spec(f"4.0.{n}", strategy=FIVE))
                seen = load.stop()
            assert report.outcome is Outcome.DEPLOYED, report.failure
            overheads.append(steps_beyond_readiness(report))
            self.here.count(seen)
        name = "compose: five canary steps, beyond readiness"
        return [make_row(name, "s", overheads, p50=GOAL_STEPS, p95=GOAL_STEPS)]

    async def hand_overs(self) -> list[Row]:
        """A stack that `docker compose up` has started, and its first deployment."""
        gaps = []
        for n in range(FEW):
            await asyncio.to_thread(self.remove)
            self._write(VERSION="0.9.0", PORT="8080", HOST="0.0.0.0")  # noqa: S104  inside its container
            command = ["docker", "compose", "-f", str(self.file), "up", "-d", "--build", "--wait"]
            environment = {**os.environ, **self.docker.environment}
            await asyncio.to_thread(run, command, timeout=120, env=environment)
            report = await self._deployed("1.0.0", service=f"adopted{n}")
            said = next(check.reason for stage in report.stages for check in stage.checks if check.name == "staged")
            found = _GAP.search(said)
            assert found is not None, said
            gaps.append(float(found[1]))
        return [make_row("compose: hand-over, nobody listens", "s", gaps, p50=GOAL_GAP, p95=GOAL_GAP)]

    async def _deployed(self, version: str, **more: Any) -> Any:
        report = await self.here.deploy(self.spec(version, **more))
        assert report.outcome is Outcome.DEPLOYED, report.failure
        return report

    def remove(self) -> None:
        """Nothing of the shop is left on the Docker."""
        client = self.docker.client()
        try:
            chosen: list[Any] = [{"label": label} for label in (_OURS, f"com.docker.compose.project={_PROJECT}")]
            for labels in chosen:
                for container in client.containers.list(all=True, filters=labels, ignore_removed=True):
                    container.remove(force=True, v=True)
            for labels in chosen:
                for network in client.networks.list(filters=labels):
                    network.remove()
                for volume in client.volumes.list(filters=labels):
                    volume.remove()
        finally:
            client.close()
