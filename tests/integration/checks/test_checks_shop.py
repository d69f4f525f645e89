"""The example app loses no request when it is stopped, fails as it is told to, and the load counts truly."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from cli.spec.reader import read_spec
from examples import load as load_module
from examples.load import Load, LoadResult
from tests.support.serving import SHOP, running_shop, saying, serving, silent


def test_every_answer_says_its_version() -> None:
    with running_shop(VERSION="2.0.0") as (base_url, _), httpx.Client(base_url=base_url, trust_env=False) as client:
        for path in ("/", "/products", "/health", "/ready", "/healthz", "/metrics", "/version", "/nowhere"):
            assert client.get(path).headers["X-Version"] == "2.0.0"
        assert client.get("/").json() == {"service": "shop", "version": "2.0.0"}
        assert client.get("/version").json() == {"version": "2.0.0"}
        assert client.get("/nowhere").status_code == 404
        assert client.delete("/").headers["X-Version"] == "2.0.0"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"sku": "A1"}', 200),
        ('{"sku": "Z9"}', 422),
        ("{}", 422),
        ("[]", 422),
        ("no json", 422),
        ('{"sku": []}', 422),
        ("", 422),
    ],
)
def test_a_checkout_wants_a_product(body: str, status: int) -> None:
    with running_shop() as (base_url, _):
        assert httpx.post(f"{base_url}/checkout", content=body, trust_env=False).status_code == status


def test_a_huge_checkout_is_refused_unread() -> None:
    with running_shop() as (base_url, _):
        connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", "/checkout")
        connection.putheader("Content-Length", "9" * 12)
        connection.endheaders()
        answer = connection.getresponse()
        connection.close()

    assert answer.status == 413


def test_errors_are_spread_evenly_and_spare_the_probes() -> None:
    with running_shop(ERROR_SHARE="0.1") as (base_url, _), httpx.Client(base_url=base_url, trust_env=False) as client:
        statuses = [client.get("/products").status_code for _ in range(100)]
        probes = {client.get(path).status_code for path in ("/health", "/ready", "/healthz", "/metrics", "/version")}

    assert [statuses[n : n + 10].count(500) for n in range(0, 100, 10)] == [1] * 10
    assert probes == {200}


def test_latency_is_for_users_only() -> None:
    with running_shop(LATENCY_MS="150") as (base_url, _), httpx.Client(base_url=base_url, trust_env=False) as client:
        assert client.get("/products").elapsed.total_seconds() >= 0.15
        assert client.get("/health").elapsed.total_seconds() < 0.15


def test_it_dies_when_it_is_told_to() -> None:
    with running_shop(CRASH_AFTER_S="0.1") as (_, process):
        assert process.wait(10) == 1


@pytest.mark.parametrize(("name", "value"), [("ERROR_SHARE", "2"), ("LATENCY_MS", "fast"), ("PORT", "99999")])
def test_a_wrong_knob_is_told_in_a_sentence(name: str, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(SHOP)], env={**os.environ, name: value}, capture_output=True, text=True, timeout=10
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{name} must be a number between")


def test_its_own_metrics_count_by_status() -> None:
    with running_shop(ERROR_SHARE="0.5") as (base_url, _), httpx.Client(base_url=base_url, trust_env=False) as client:
        for _ in range(4):
            client.get("/products")
        text = client.get("/metrics").text

    assert 'http_requests_total{status="200"} 2' in text
    assert 'http_requests_total{status="500"} 2' in text
    assert 'http_request_duration_seconds_bucket{le="+Inf"} 4' in text


async def test_a_stop_answers_what_is_under_way_and_exits_with_0() -> None:
    with running_shop(LATENCY_MS="1500") as (base_url, process):
        async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
            await client.get("/health")  # leaves an idle connection behind
            under_way = [asyncio.create_task(client.get("/products")) for _ in range(20)]
            await until_under_way(base_url, 20)

            process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*under_way)

        assert [answer.status_code for answer in answers] == [200] * 20
        assert await asyncio.to_thread(process.wait, 10) == 0


async def until_under_way(base_url: str, requests: int) -> None:
    deadline = time.monotonic() + 10
    async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
        while f"http_requests_in_flight {requests + 1}" not in (await client.get("/metrics")).text:
            assert time.monotonic() < deadline, "the requests never arrived"


async def test_a_stop_waits_for_no_idle_connection() -> None:
    with running_shop() as (base_url, process):
        host, _, port = base_url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
            await client.get("/health")
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)

            assert await asyncio.to_thread(process.wait, 10) == 0

        assert time.monotonic() - began < 3
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_it_answers_500_requests_a_second_over_one_connection() -> None:
    with running_shop() as (base_url, _):
        connection = http.client.HTTPConnection(base_url.removeprefix("http://"), timeout=10)
        # The best of some rounds: what else runs on the machine is not the shop's doing.
        best = max(requests_per_second(connection, 200) for _ in range(5))
        connection.close()

    assert best >= 500


def requests_per_second(connection: http.client.HTTPConnection, n: int) -> float:
    began = time.monotonic()
    for _ in range(n):
        connection.request("GET", "/products")
        assert b"A1" in connection.getresponse().read()
    return n / (time.monotonic() - began)


@pytest.mark.parametrize("name", ["minimal", "deployment", "production"])
def test_the_examples_specs_are_valid(name: str) -> None:
    spec = read_spec(str(SHOP.parent / f"{name}.yaml"), version="1.1.0")

    assert (spec.service, spec.platform.directory) == ("shop", str(SHOP.parent))
    assert bool(spec.approval_stages()) == (name == "production")


def test_the_way_to_fail_that_the_readme_tells_is_understood() -> None:
    override = "platform.environment.ERROR_SHARE=0.1"
    assert f"--set {override}" in (SHOP.parent / "README.md").read_text()

    spec = read_spec(str(SHOP.parent / "deployment.yaml"), overrides=[override])

    assert spec.platform.environment["ERROR_SHARE"] == "0.1"


def test_the_load_counts_every_request_by_version_and_status() -> None:
    with running_shop(ERROR_SHARE="0.1") as (base_url, _):
        result = Load(f"{base_url}/products", rate=200, seconds=0.5).start().wait()

    assert result.sent == 100
    assert result.failed == 10
    assert result.by_version() == {"1.1.0": {"200": 90, "500": 10}}
    assert sum(record.kept_alive for record in result.records) == 50
    assert all(record.sent_at <= record.answered_at for record in result.records)
    assert 0 < result.percentile(0.5) <= result.percentile(0.95)


async def test_the_load_goes_on_at_its_rate_when_nobody_answers() -> None:
    async with serving(silent) as base_url:
        result = await asyncio.to_thread(Load(base_url, rate=100, seconds=0.3, timeout=0.5).start().wait)

    assert (result.sent, result.failed) == (30, 30)
    assert {record.status for record in result.records} == {None}
    sent = sorted(record.sent_at for record in result.records)
    assert sent[-1] - sent[0] < 0.45


def test_a_stopped_load_has_every_answer() -> None:
    with running_shop() as (base_url, _), Load(base_url, rate=100) as load:
        deadline = time.monotonic() + 10
        while load.so_far().sent < 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        result = load.stop()

    assert result.sent >= 20
    assert result.failed == 0


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1e9, 1), (1, 0), (1, 1e9), (float("nan"), 1)])
def test_a_load_without_bounds_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="at most"):
        Load("http://127.0.0.1:1/", rate=rate, seconds=seconds)


async def test_the_program_prints_one_json_document_and_fails_with_the_requests(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving(saying("503 Busy")) as base_url:
        arguments = ["--url", base_url, "--rate", "20", "--seconds", "0.2", "--json"]
        code = await asyncio.to_thread(load_module.main, arguments)

    summary = json.loads(capsys.readouterr().out)
    assert code == 1
    assert (summary["sent"], summary["failed"], summary["by_version"]) == (4, 4, {"": {"503": 4}})


def test_an_empty_result_has_no_percentile() -> None:
    assert LoadResult(()).summary() == {"sent": 0, "failed": 0, "by_version": {}, "p50_ms": 0.0, "p95_ms": 0.0}
