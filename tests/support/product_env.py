"""The whole product in a home of its own, as its users have it: `starter.py` as a process, real servers, real users.

Users send requests during everything that a test does. Each request must be answered, unless the release under test
answered it badly itself: that is asserted whenever users leave.
"""

import asyncio
import json
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from temporalio.client import Client, WorkflowHandle

from activities.platforms.traefik.state import TargetState, TargetStore
from embedded.supervision.processes import identify, wait_for_end
from embedded.supervision.supervisor import Supervisor
from examples.load import Load, LoadResult, Record
from home.paths import VARIABLE, Home
from models.names import workflow_id
from models.report import DeploymentReport, Phase
from tests.support.cli_process import ENDS_WITHIN, STARTER, Command, Done
from tests.support.embedded_homes import processes_that_know
from tests.support.free_ports import free_port
from workflows.converter import strict_data_converter
from workflows.wire_names import STATUS

APP = Path(__file__).parents[1] / "apps" / "app.py"
RUN = [sys.executable, "-SE", "app.py"]
OLD, NEW, NEWER = "1.0.0", "1.1.0", "1.2.0"
RATE = 50.0
CANARY: dict[str, Any] = {
    "kind": "canary",
    "steps": [{"weight": 40, "watch": "1s"}, {"weight": 100, "watch": "1s"}],
    "bake": "1s",
}
ROLLING: dict[str, Any] = {"kind": "rolling", "watch": "1s", "bake": "1s"}
BLUE_GREEN: dict[str, Any] = {"kind": "blue-green", "watch": "2s", "bake": "1s"}
JUDGE = {"probe_every": "250ms"}


class ProductEnv:
    """A home with its stack.

    Attributes:
        patience: how long a command may take, in seconds.
    """

    patience = float(ENDS_WITHIN)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._client: Client | None = None
        self._commands: list[asyncio.subprocess.Process] = []
        self._services: list[tuple[asyncio.Task[Any] | None, Service]] = []

    def environment(self) -> dict[str, str]:
        """What commands run with: nothing of the tests' own, but where programs are found."""
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.folder), "USER": "ann", VARIABLE: str(self.home)}

    async def start(self, *arguments: str, **environment: str) -> Command:
        """Starts a command."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(STARTER),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment() | environment,
            cwd=self.folder,
            limit=1 << 20,
        )
        self._commands.append(process)
        return Command(process, self.patience)

    async def run(self, *arguments: str, **environment: str) -> Done:
        """Runs a command to its end."""
        return await (await self.start(*arguments, **environment)).done()

    async def up(self) -> None:
        """Starts the stack."""
        self.home.mkdir(parents=True, exist_ok=True)
        done = await self.run("up")
        assert done.code == 0, done.err

    async def components(self) -> dict[str, dict[str, Any]]:
        """What `doctor --json` says, by name."""
        document = (await self.run("doctor", "--json")).document
        return {each["name"]: each for each in document["components"]}

    async def pid(self, name: str) -> int:
        """The process of a component, once it is healthy."""
        deadline = time.monotonic() + 30
        while not (found := (await self.components()).get(name, {})).get("healthy"):
            assert time.monotonic() < deadline, f"{name} is not healthy: {found}"
        return int(found["pid"])

    async def healthy(self, seconds: float = 40) -> None:
        """Waits until everything that is there is well."""
        deadline = time.monotonic() + seconds
        while (done := await self.run("doctor", "--json")).code:
            assert time.monotonic() < deadline, done.document["missing"]

    async def client(self) -> Client:
        """A client of this home's Temporal."""
        if self._client is None:
            address = (await self.components())["temporal"]["address"]
            self._client = await Client.connect(address, data_converter=strict_data_converter)
        return self._client

    def service(self, strategy: Mapping[str, Any] = CANARY, **changes: Any) -> "Service":
        """A service of one's own; `changes` go into its spec file, like `platform={"instances": 3}`."""
        made = Service(self, strategy, changes)
        self._services.append((asyncio.current_task(), made))
        return made

    async def dismiss(self) -> None:
        """Nothing runs any more of the services that this task has made: the machine is for those that are tried."""
        mine = [made for task, made in self._services if task is asyncio.current_task()]
        supervisor = Supervisor(Home(self.home))
        for made in mine:
            names = await asyncio.to_thread(supervisor.states, f"{made.name}.")
            await asyncio.gather(*(asyncio.to_thread(supervisor.remove, name) for name in names))

    async def end(self) -> None:
        """Nothing of this home runs afterwards."""
        await self.end_commands()
        if not self.home.exists():
            return
        done = await self.run("down", "--all")
        assert done.code == 0, done.err
        assert self.processes() == []
        shutil.rmtree(self.folder, ignore_errors=True)

    async def end_commands(self) -> None:
        """No command runs any more."""
        for process in self._commands:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def processes(self) -> list[int]:
        """Every process that knows this home."""
        return processes_that_know(Home(self.home))


class Service:
    """A service with its target, its spec file and its users."""

    def __init__(self, living: ProductEnv, strategy: Mapping[str, Any], changes: dict[str, Any]) -> None:
        self.living = living
        self.name = f"s{uuid.uuid4().hex[:8]}"
        self.target = changes.pop("target", "staging")
        self.folder = living.folder / self.name
        self.folder.mkdir()
        (self.folder / "app").mkdir()
        shutil.copy(APP, self.folder / "app" / "app.py")
        self.sick, self.crash = self.folder / "sick", self.folder / "crash"
        self.listen = self._address()
        self.spec = self.folder / "deployment.yaml"
        self.spec.write_text(yaml.safe_dump(self._spec(strategy, changes)))

    @property
    def subject(self) -> str:
        """As commands call it."""
        return f"{self.name}/{self.target}"

    @property
    def url(self) -> str:
        """Where users go."""
        return f"http://{self.listen}/products"

    def _address(self) -> str:
        return f"127.0.0.1:{free_port()}"

    def _platform(self) -> dict[str, Any]:
        return {
            "kind": "local",
            "run": RUN,
            "directory": "app",
            "instances": 2,
            "listen": self.listen,
            "drain": "3s",
            "stop": "2s",
        }

    def _spec(self, strategy: Mapping[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        platform = {**self._platform(), **changes.pop("platform", {})}
        return {
            "service": self.name,
            "target": self.target,
            "release": {"version": OLD},
            "platform": platform,
            "strategy": {"deadline": "20s", "judge": JUDGE, **strategy},
            "rehearse": {"enabled": False},
            # Whatever else the machine does while tests run is no reason against a deployment.
            "preflight": {"load_per_core": 1000, **changes.pop("preflight", {})},
            **changes,
        }

    # Commands.

    async def deploying(self, version: str, *settings: str, more: tuple[str, ...] = (), **environment: str) -> Command:
        """Starts a deployment; what it prints is JSON."""
        chosen = [part for setting in settings for part in ("--set", setting)]
        return await self.living.start(
            "deploy", str(self.spec), "--version", version, *chosen, "--json", *more, **environment
        )

    async def deploy(self, version: str, *settings: str, more: tuple[str, ...] = (), **environment: str) -> Done:
        """Deploys, to the end."""
        return await (await self.deploying(version, *settings, more=more, **environment)).done()

    async def serving(self, version: str = OLD) -> None:
        """The first release is there."""
        done = await self.deploy(version)
        assert done.code == 0, done.err

    async def rollback(self, *more: str) -> Done:
        """The emergency, from the command line."""
        return await self.living.run("rollback", self.subject, "--reason", "users complain", "--json", *more)

    # Looking.

    async def handle(self) -> WorkflowHandle[Any, Any]:
        """The newest deployment in Temporal."""
        return (await self.living.client()).get_workflow_handle(workflow_id(self.name, self.target))

    async def until(
        self, condition: Callable[[DeploymentReport], object], seconds: float = 40, also_finished: bool = False
    ) -> DeploymentReport:
        """Waits until the status of the deployment under way is such."""
        from temporalio.service import RPCError

        handle, deadline, last = await self.handle(), time.monotonic() + seconds, "it never answered"
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(2):
                    report: DeploymentReport = await handle.query(STATUS, result_type=DeploymentReport)
            except (RPCError, TimeoutError) as error:
                last = repr(error)
            else:
                last = f"{report.stage} {report.doing!r} {report.outcome} {report.failure}"
                if condition(report) and (also_finished or report.phase is not Phase.FINISHED):
                    return report
            await asyncio.sleep(0.1)
        raise AssertionError(f"it did not come to that within {seconds} s; last: {last}")

    async def doing(self, words: str, seconds: float = 40) -> DeploymentReport:
        """Waits until the deployment does this."""
        return await self.until(lambda report: words in report.doing, seconds)

    def state(self) -> TargetState:
        """What the platform keeps of the target."""
        return self._store().read()

    def _store(self) -> TargetStore:
        return TargetStore(Home(self.living.home), self.name, self.target)

    def fenced(self) -> str:
        """The highest fence that the target has seen."""
        return (self.living.home / "fences" / f"{self.name}.{self.target}.json").read_text()

    def weights(self) -> dict[str, int]:
        """Version → percent, as asked for."""
        state = self.state()
        return {state.revisions[id].revision.release.version: weight for id, weight in state.weights.items()}

    def stable(self) -> str | None:
        """The version that is stable."""
        state = self.state()
        return state.revisions[state.stable].revision.release.version if state.stable else None

    def instances(self, version: str) -> dict[str, int]:
        """Instance → pid, of what runs of a version."""
        found = {}
        for process in psutil.process_iter():
            try:
                about = process.environ()
                ours = about.get("SERVICE") == self.name and about.get("TARGET") == self.target
                if ours and about.get("VERSION") == version and process.cmdline()[-1:] == ["app.py"]:
                    found[about["PORT"]] = process.pid
            except psutil.Error:
                continue
        return found

    async def answers(self, count: int = 20) -> set[str]:
        """The versions that users meet right now."""
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answers = [await client.get(self.url) for _ in range(count)]
        assert all(answer.status_code == 200 for answer in answers), answers
        return {answer.headers["X-Version"] for answer in answers}

    async def is_old(self, version: str = OLD) -> None:
        """Fully old: traffic, stable, processes; nothing of anything else is left."""
        assert await self.answers() == {version}
        assert self.weights() == {version: 100}
        assert self.stable() == version
        living = {kept.revision.release.version for kept in self.state().revisions.values() if kept.instances}
        assert living == {version}

    is_new = is_old

    @asynccontextmanager
    async def users(
        self, bad: str = "", rate: float = RATE, forgiven: Callable[[Record], bool] = lambda _: False
    ) -> AsyncIterator[Load]:
        """Users come and go. `bad` is the version that may answer badly; `forgiven` says which else may fail."""
        load = Load(self.url, rate)
        await asyncio.to_thread(load.start)
        began = time.monotonic()
        try:
            yield load
        except BaseException:  # whatever it was goes on; only the users must not go on asking
            await asyncio.to_thread(load.stop)
            raise
        result = await asyncio.to_thread(load.stop)
        assert result.sent > 0.5 * rate * (time.monotonic() - began), f"only {result.sent} requests were sent"
        assert {record.kept_alive for record in result.records} == {True, False}
        lost = [record for record in losses(result, bad) if not forgiven(record)]
        assert not lost, f"{len(lost)} of {result.sent} requests were lost, the first: {lost[:5]}"


def losses(result: LoadResult, bad: str = "") -> list[Record]:
    """Requests that failed, and that `bad` did not answer badly itself."""
    return [record for record in result.failures if not (bad and record.version == bad)]


def found(document: Mapping[str, Any], stage: str, check: str) -> dict[str, Any]:
    """One check of a stage, of a report."""
    stages = {each["stage"]: each for each in document["stages"]}
    assert stage in stages, f"no stage {stage}, only {list(stages)}"
    checks = {each["name"]: each for each in stages[stage]["checks"]}
    assert check in checks, f"no check {check}, only {list(checks)}"
    result: dict[str, Any] = checks[check]
    return result


def ended(done: Done, outcome: str, code: int) -> dict[str, Any]:
    """The document of a deployment that ended like this."""
    document = done.document
    assert (document["outcome"], done.code, document["exit_code"]) == (outcome, code, code), (
        f"{json.dumps(document['failure'])}\n{done.err}"
    )
    return document


async def kill(pid: int, number: int) -> None:
    """Sends a signal to exactly this process; one that ends it is waited for."""
    process = identify(pid)
    assert process is not None, f"{pid} is gone already"
    psutil.Process(pid).send_signal(number)
    if number == 9:
        assert await asyncio.to_thread(wait_for_end, process, 5)
