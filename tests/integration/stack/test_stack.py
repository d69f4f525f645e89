"""`docker-compose.yml` is the product for a team: it comes up with one command, deploys, and survives what dies in it.

The tests run in this order, on one stack, as its owner would: up, a deployment, a killed worker, a stop, down and up.
"""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from embedded import ports
from tests.servers.stack.running import ONCE, SERVICES, Stack
from tests.servers.stack.services import NEW, NEWER, OLD, PROCESSES, Containers, Shop, ask, until, users
from tests.support.free_ports import free_port
from workflows.wire_names import SEARCH_ATTRIBUTES

# The first of them builds or loads the images.
pytestmark = [pytest.mark.platform("compose"), pytest.mark.timeout(1800)]

# What appears with the first rollback, the first deployment that is open while somebody looks, the first error.
NOT_YET = {
    "deployment_last_verdict_to_stable_seconds",
    "deployment_last_rehearsal_seconds",
    "deployments_open",
    "service_error_with_type",
}


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    return Shop(stack, "shop")


@pytest.fixture(scope="module")
def containers(stack: Stack) -> Iterator[Containers]:
    containers = Containers(stack, "containers")
    yield containers
    containers.remove()


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
    said = stack.must("exec", "-T", "worker", "python", "-m", "home.worker_heartbeat")

    assert said == "the worker polls\n"
    assert time.monotonic() - began < 20  # with what it takes to get into a container


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
    assert shop.serves(OLD)
    assert not (stack.checkout / "no-home").exists()


def test_a_path_that_the_worker_does_not_see_is_a_sentence(stack: Stack, tmp_path: Path) -> None:
    spec = tmp_path / "deployment.yaml"
    spec.write_text(PROCESSES.format(service="elsewhere", version=OLD, port=free_port(), watch="1s"))

    done = stack.command("deploy", str(spec))

    assert done.returncode == 14
    assert re.search(r"artifacts: .*(seen from the worker|the worker cannot look into)", done.stderr), done.stderr


def test_prometheus_sees_the_worker_and_temporal(stack: Stack) -> None:
    def up() -> set[str]:
        answer = httpx.get(f"{stack.prometheus}/api/v1/targets", timeout=30, trust_env=False).json()
        return {target["labels"]["job"] for target in answer["data"]["activeTargets"] if target["health"] == "up"}

    until(lambda: up() == {"worker", "temporal", "prometheus"}, 120)
    ended = until(lambda: ask(stack, 'deployments_ended_total{service="shop", outcome="deployed"} > 0'), 120)
    assert ended[0]["value"][1] == "1"
    assert ask(stack, 'deployment_last_stage_seconds{service="shop", stage="deploy", verdict="pass"} > 0')


def test_every_panel_of_the_dashboard_and_every_rule_asks_for_what_is_there(stack: Stack) -> None:
    dashboard = json.loads((stack.checkout / "deploy/compose/grafana/dashboards/deployments.json").read_text())
    rules = httpx.get(f"{stack.prometheus}/api/v1/rules", timeout=30, trust_env=False).json()["data"]["groups"]
    asked = [query["expr"] for panel in dashboard["panels"] for query in panel.get("targets", ())]
    for name, value in {"$service": ".*", "$target": ".*", "$__rate_interval": "5m", "$__range": "1h"}.items():
        asked = [expression.replace(name, value) for expression in asked]
    asked += [rule["query"] for group in rules for rule in group["rules"]]

    for expression in asked:
        ask(stack, expression)  # Prometheus understands it
    without_labels = re.sub(r"\{.*?\}|by ?\(.*?\)", "", " ".join(asked))
    metrics = set(re.findall(r"\b(?:deployments?|temporal|service|persistence|memory)_[a-z_]+", without_labels))

    def known() -> set[str]:
        url = f"{stack.prometheus}/api/v1/label/__name__/values"
        return set(httpx.get(url, timeout=30, trust_env=False).json()["data"])

    assert len(metrics) > 10
    until(lambda: metrics - known() - NOT_YET == set(), 90)  # some are told once a minute


def test_no_secret_is_seen_in_what_docker_shows_or_services_print(stack: Stack) -> None:
    secrets = {stack.secret("postgres_password"), stack.secret("grafana_admin_password"), "hello-from-a-file"}
    assert all(len(secret) > 10 for secret in secrets)

    shown = "".join(json.dumps(stack.inspect(name)) + stack.logs(name) for name in SERVICES)
    shown += "".join(stack.must("top", name) for name in SERVICES if name not in ONCE)
    shown += stack.must("config")

    assert [secret for secret in secrets if secret in shown] == []


def test_a_worker_that_is_killed_comes_back_and_no_user_notices(stack: Stack, containers: Containers) -> None:
    first = stack.command("deploy", containers.spec(OLD), "--json", timeout=400)
    assert first.returncode == 0, first.stderr
    before = stack.inspect("worker")["RestartCount"]

    with users(containers) as load:
        deploying = stack.start_command("deploy", containers.spec(NEW, watch="5s"), "--json")
        try:
            until(lambda: NEW in stack.command("status", "containers/staging").stdout and containers.serves(NEW), 150)
            # Not `docker kill`: after that Docker would not start it again.
            os.kill(stack.inspect("worker")["State"]["Pid"], signal.SIGKILL)
            out, err = deploying.communicate(timeout=500)
        finally:
            deploying.kill()
            deploying.wait(10)

    assert json.loads(out)["outcome"] == "deployed", err
    assert containers.serves(NEW) and not containers.serves(OLD)
    assert stack.inspect("worker")["RestartCount"] == before + 1
    assert load.so_far().sent > 100
    assert load.so_far().failures == ()


def test_a_new_worker_and_a_new_server_take_over_in_the_middle(stack: Stack, containers: Containers) -> None:
    """An upgrade: other images, `docker compose up -d --wait`, while a deployment is under way."""
    ids = {name: stack.inspect(name)["Id"] for name in ("worker", "temporal")}
    with users(containers) as load:
        deploying = stack.start_command("deploy", containers.spec(NEWER, watch="5s"), "--json")
        try:
            until(lambda: containers.serves(NEWER), 150)
            with stack.other_images("WORKER_IMAGE", "TEMPORAL_IMAGE"):
                stack.up()
            out, err = deploying.communicate(timeout=500)
        finally:
            deploying.kill()
            deploying.wait(10)

    assert json.loads(out)["outcome"] == "deployed", err
    assert all(stack.inspect(name)["Id"] != before for name, before in ids.items())
    assert containers.serves(NEWER) and not containers.serves(NEW)
    assert load.so_far().sent > 100
    assert load.so_far().failures == ()


def test_a_worker_that_is_stopped_hands_its_work_back_in_time(stack: Stack) -> None:
    began = time.monotonic()
    stack.must("stop", "worker")
    took = time.monotonic() - began

    state = stack.inspect("worker")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert took < 25  # of the 30 seconds that Docker gives it
    assert "stopped; what was under way goes on" in stack.logs("worker")
    stack.up()


def test_what_was_deployed_is_known_after_down_and_up(stack: Stack, shop: Shop) -> None:
    known = json.loads(stack.command("history", "shop/staging", "--json").stdout)
    assert known

    stack.must("down")
    stack.up()

    assert json.loads(stack.command("history", "shop/staging", "--json").stdout) == known
