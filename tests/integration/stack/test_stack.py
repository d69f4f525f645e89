"""`docker-compose.yml` is the product for a team: it comes up with one command, deploys, and survives what dies in it.

The tests run in this order, on one stack, as its owner would: up, a deployment, a killed worker, a stop, down and up.
"""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from embedded import ports
from tests.servers.stack.running import ONCE, SERVICES, Stack
from workflows.contract import SEARCH_ATTRIBUTES

# The first of them builds or loads the images.
pytestmark = [pytest.mark.platform("compose"), pytest.mark.timeout(1800)]

T = TypeVar("T")
OLD, NEW = "1.0.0", "1.1.0"
SPEC = """\
service: {service}
target: staging
release: {{version: "{version}"}}
platform:
  kind: local
  run: ["python3", "app.py"]
  listen: 127.0.0.1:{port}
  environment:
    GREETING: {{secret: "file:/run/deployments/greeting"}}
strategy: {{kind: rolling, watch: {watch}, bake: 1s}}
"""


def until(condition: Callable[[], T], seconds: float) -> T:
    """Waits for something true and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.1)
    return found


class Shop:
    """A service that the stack deploys, from the folder that the worker sees too."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack, self.name, self.port = stack, name, ports.choose()[0]
        self.folder = stack.deployments / name
        self.folder.mkdir()
        app = stack.checkout / "examples" / "shop" / "app.py"
        (self.folder / "app.py").write_text(app.read_text())
        (stack.checkout / "deploy/compose/secrets/deployments/greeting").write_text("hello-from-a-file\n")

    def spec(self, version: str, watch: str = "1s") -> str:
        path = self.folder / f"{version}.yaml"
        path.write_text(SPEC.format(service=self.name, version=version, port=self.port, watch=watch))
        return str(path)

    def version(self) -> str:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/version", timeout=5, trust_env=False)
        return str(answer.json()["version"])


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    return Shop(stack, "shop")


def ask(stack: Stack, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers to a query now."""
    answer = httpx.get(f"{stack.prometheus}/api/v1/query", params={"query": query}, timeout=5, trust_env=False)
    document = answer.json()
    assert document["status"] == "success", document
    result: list[dict[str, Any]] = document["data"]["result"]
    return result


def test_everything_comes_up_healthy(stack: Stack) -> None:
    states = {name: stack.inspect(name)["State"] for name in SERVICES}

    for name, state in states.items():
        if name in ONCE:
            assert (state["Status"], state["ExitCode"]) == ("exited", 0), name
        else:
            assert (state["Status"], state["Health"]["Status"]) == ("running", "healthy"), name


def test_nothing_is_published_beyond_this_host(stack: Stack) -> None:
    bound = [
        binding["HostIp"]
        for name in SERVICES
        for bindings in stack.inspect(name)["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]

    assert bound and set(bound) == {"127.0.0.1"}
    on_the_host = {stack.ports["WORKER_METRICS"], stack.ports["PROMETHEUS"]}
    elsewhere = [port for port in on_the_host if not ports.is_free(port, "127.0.0.2")]
    assert elsewhere == []


def test_no_service_but_the_database_is_root_or_may_become_it(stack: Stack) -> None:
    for name in set(SERVICES) - {"postgres"}:
        found = stack.inspect(name)

        assert found["HostConfig"]["CapDrop"] == ["ALL"], name
        assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"], name
        assert found["Config"]["User"] not in ("", "0", "root"), name


def test_the_worker_polls_and_says_so_quickly(stack: Stack) -> None:
    began = time.monotonic()
    said = stack.must("exec", "-T", "worker", "python", "-m", "embedded.pulse")

    assert said == "the worker polls\n"
    assert time.monotonic() - began < 5


def test_the_namespace_keeps_deployments_and_finds_them_by_their_attributes(stack: Stack) -> None:
    listed = stack.must("run", "--rm", "-T", "temporal-namespace", "temporal", "operator", "search-attribute", "list")
    described = stack.must(
        *("run", "--rm", "-T", "temporal-namespace", "temporal", "operator", "namespace", "describe"),
        *("--namespace", "default", "--output", "json"),
    )

    for key in SEARCH_ATTRIBUTES:
        assert re.search(rf"\b{key.name}\s+Keyword\b", listed), key.name
    retention = json.loads(described)["config"]["workflowExecutionRetentionTtl"]
    assert timedelta(seconds=float(retention.removesuffix("s"))) == timedelta(days=30)


def test_a_deployment_passes_through_it(stack: Stack, shop: Shop) -> None:
    done = stack.command("deploy", shop.spec(OLD), "--json")

    document = json.loads(done.stdout)
    assert (done.returncode, document["outcome"]) == (0, "deployed"), done.stderr
    assert shop.version() == OLD
    assert not (stack.checkout / "no-home").exists()


def test_a_path_that_the_worker_does_not_see_is_a_sentence(stack: Stack, tmp_path: Path) -> None:
    spec = tmp_path / "deployment.yaml"
    spec.write_text(SPEC.format(service="elsewhere", version=OLD, port=ports.choose()[0], watch="1s"))

    done = stack.command("deploy", str(spec))

    assert done.returncode == 14
    assert re.search(r"artifacts: .*(seen from the worker|the worker cannot look into)", done.stderr), done.stderr


def test_prometheus_sees_the_worker_and_temporal(stack: Stack) -> None:
    def up() -> set[str]:
        answer = httpx.get(f"{stack.prometheus}/api/v1/targets", timeout=5, trust_env=False).json()
        return {target["labels"]["job"] for target in answer["data"]["activeTargets"] if target["health"] == "up"}

    until(lambda: up() == {"worker", "temporal", "prometheus"}, 40)
    ended = until(lambda: ask(stack, 'deployments_ended_total{service="shop", outcome="deployed"} > 0'), 40)
    assert ended[0]["value"][1] == "1"
    assert ask(stack, 'deployment_last_stage_seconds{service="shop", stage="deploy", verdict="pass"} > 0')


def test_every_panel_of_the_dashboard_and_every_rule_asks_for_what_is_there(stack: Stack) -> None:
    dashboard = json.loads((stack.checkout / "deploy/compose/grafana/dashboards/deployments.json").read_text())
    variables = {"$service": ".*", "$target": ".*", "$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}
    metrics: set[str] = set()
    for panel in dashboard["panels"]:
        for query in panel.get("targets", ()):
            expression = query["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            ask(stack, expression)  # Prometheus understands it
            metrics |= set(re.findall(r"\b(?:deployments?|temporal|service|persistence|memory)_[a-z_]+", expression))

    rules = httpx.get(f"{stack.prometheus}/api/v1/rules", timeout=5, trust_env=False).json()["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
    known = httpx.get(f"{stack.prometheus}/api/v1/label/__name__/values", timeout=5, trust_env=False).json()["data"]
    # These appear with the first rollback, and with the first deployment that is open while somebody looks.
    later = {"deployment_last_verdict_to_stable_seconds", "deployment_last_rehearsal_seconds", "deployments_open"}
    assert metrics - set(known) - later == set()


def test_no_secret_is_seen_in_what_docker_shows_or_services_print(stack: Stack) -> None:
    secrets = {stack.secret("postgres_password"), stack.secret("grafana_admin_password"), "hello-from-a-file"}
    assert all(len(secret) > 10 for secret in secrets)

    shown = "".join(json.dumps(stack.inspect(name)) + stack.logs(name) for name in SERVICES)
    shown += "".join(stack.must("top", name) for name in SERVICES if name not in ONCE)
    shown += stack.must("config")

    assert [secret for secret in secrets if secret in shown] == []


def test_a_worker_that_is_killed_comes_back_and_the_deployment_ends_well(stack: Stack, shop: Shop) -> None:
    before = stack.inspect("worker")["RestartCount"]
    deploying = stack.start_command("deploy", shop.spec(NEW, watch="8s"), "--json")
    try:
        until(lambda: "watched for" in stack.command("status", "shop/staging").stdout, 60)
        os.kill(stack.inspect("worker")["State"]["Pid"], signal.SIGKILL)
        out, err = deploying.communicate(timeout=150)
    finally:
        deploying.kill()
        deploying.wait(10)

    document = json.loads(out)
    # Processes of `kind: local` die with their container: a candidate may be judged bad, then the old version is back.
    assert document["outcome"] in ("deployed", "rolled-back"), err
    assert shop.version() == (NEW if document["outcome"] == "deployed" else OLD)
    assert stack.inspect("worker")["RestartCount"] == before + 1


def test_a_worker_that_is_stopped_hands_its_work_back_in_time(stack: Stack) -> None:
    began = time.monotonic()
    stack.must("stop", "worker")
    took = time.monotonic() - began

    state = stack.inspect("worker")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert took < 15
    assert "stopped; what was under way goes on" in stack.logs("worker")
    stack.up()


def test_what_was_deployed_is_known_after_down_and_up(stack: Stack, shop: Shop) -> None:
    known = json.loads(stack.command("history", "shop/staging", "--json").stdout)
    assert known

    stack.must("down")
    stack.up()

    assert json.loads(stack.command("history", "shop/staging", "--json").stdout) == known
