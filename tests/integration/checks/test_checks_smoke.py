"""A smoke test names every expectation that was not met, and a command of the user's cannot outlive it."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from temporalio.testing import ActivityEnvironment

from activities.http.client import Answer
from activities.secrets import resolver
from activities.secrets.resolver import remember
from activities.verify import VerifyActivities
from activities.verify.smoke import is_same, look_up
from models.checks import SmokeCheck
from models.spec import SmokeTest
from models.verdict import CheckResult, Verdict
from tests.support.serving import endless, read_request, running_shop, saying, serving, silent


def make_check(test: dict[str, Any], base_url: str = "http://127.0.0.1:1", directory: str = "/") -> SmokeCheck:
    return SmokeCheck(
        test=SmokeTest.model_validate({"name": "check-out", **test}),
        base_url=base_url,
        directory=directory,
        service="shop",
        target="staging",
        version="1.1.0",
    )


async def run(test: dict[str, Any], base_url: str = "http://127.0.0.1:1", directory: str = "/") -> CheckResult:
    return await ActivityEnvironment().run(VerifyActivities().run_smoke_test, make_check(test, base_url, directory))


class TestRequest:
    async def test_a_checkout_in_the_shop_passes(self) -> None:
        request = {"method": "POST", "path": "/checkout", "json": {"sku": "A1"}}
        expect = {
            "json": {"sku": "A1", "cents": 450.0},
            "header": {"x-VERSION": "1.1.0"},
            "body": "order",
            "within": "5s",
        }

        with running_shop() as (base_url, _):
            found = await run({"request": request, "expect": expect}, base_url)

        assert (found.verdict, found.name) == (Verdict.PASS, "smoke_check-out"), found.reason

    async def test_every_mismatch_is_named_with_what_was_found(self) -> None:
        expect = {
            "status": 201,
            "body": "welcome",
            "json": {"items.0.id": 8, "items.7.id": 1, "total": "1"},
            "header": {"X-Version": "1.1.0", "X-Missing": "yes"},
        }
        answer = saying("200 OK", '{"items": [{"id": 7}], "total": 1}', "X-Version: 1.0.0")

        async with serving(answer) as base_url:
            found = await run({"request": {"path": "/"}, "expect": expect}, base_url)

        assert found.verdict is Verdict.FAIL
        for part in (
            "status 200, expected 201",
            "does not contain welcome",
            "json items.0.id is 7, expected 8",
            "json items.7.id is missing, expected 1",
            'json total is 1, expected "1"',
            "header X-Version is 1.0.0, expected 1.1.0",
            "header X-Missing is missing, expected yes",
        ):
            assert part in found.reason
        assert found.evidence["mismatches"] == 7

    async def test_an_answer_that_comes_too_late_fails(self) -> None:
        async with serving(silent) as base_url:
            found = await run({"request": {"path": "/"}, "expect": {"within": "200ms"}}, base_url)

        assert (found.verdict, found.reason) == (
            Verdict.FAIL,
            "GET / was not answered: no whole answer within 0.2s",
        )

    async def test_an_endless_answer_fails(self) -> None:
        async with serving(endless) as base_url:
            found = await run({"request": {"path": "/"}, "expect": {"within": "30s"}}, base_url)

        assert "larger than 1 MiB" in found.reason

    async def test_a_redirect_is_an_answer_like_any_other(self) -> None:
        async with serving(saying("302 Found", "", "Location: /elsewhere")) as base_url:
            expect = {"status": 302, "header": {"location": "/elsewhere"}}
            found = await run({"request": {"path": "/"}, "expect": expect}, base_url)

        assert found.verdict is Verdict.PASS

    async def test_a_body_that_is_no_json_is_quoted(self) -> None:
        async with serving(saying("200 OK", "<h1>It\nworks</h1>")) as base_url:
            found = await run({"request": {"path": "/"}, "expect": {"json": {"a": 1}}}, base_url)

        assert "the body is no JSON: <h1>It works</h1>" in found.reason

    async def test_a_long_body_is_cut_in_the_reason(self) -> None:
        async with serving(saying("200 OK", "x" * 100_000)) as base_url:
            found = await run({"request": {"path": "/"}, "expect": {"body": "y"}}, base_url)

        assert len(found.reason) < 500

    async def test_what_is_sent_is_what_was_written(self) -> None:
        got: list[bytes] = []

        async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        async with serving(keep) as base_url:
            await run(
                {"request": {"method": "PUT", "path": "/a?b=c", "headers": {"X-A": "b"}, "body": "grüße"}}, base_url
            )
            await run({"request": {"method": "POST", "path": "/", "json": [1]}}, base_url)

        assert got[0].startswith(b"PUT /a?b=c HTTP/1.1\r\n")
        assert b"X-A: b\r\n" in got[0]
        assert got[0].endswith("grüße".encode())
        assert b"Content-Type: application/json\r\n" in got[1]
        assert got[1].endswith(b"\r\n\r\n[1]")

    async def test_a_header_that_cannot_be_sent_is_an_error(self) -> None:
        async with serving(saying("200 OK")) as base_url:
            found = await run({"request": {"path": "/", "headers": {"X-A": "a\r\nX-B: b"}}}, base_url)

        assert found.verdict is Verdict.ERROR

    async def test_a_secret_in_the_answer_stays_out_of_the_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resolver, "_known", set())
        monkeypatch.setattr(resolver, "_pattern", None)
        remember("hunter2-echoed")

        async with serving(saying("500 Oops", "token=hunter2-echoed")) as base_url:
            found = await run({"request": {"path": "/"}, "expect": {"body": "fine"}}, base_url)

        assert "token=***" in found.reason
        assert "hunter2" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        ("1", 1, False),
        (None, None, True),
        ([1, {"a": 2.0}], [1.0, {"a": 2}], True),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": True}, {"a": 1}, False),
    ],
)
def test_json_values_are_compared_as_json(found: object, expected: object, same: bool) -> None:
    assert is_same(found, expected) is same


@pytest.mark.parametrize(
    ("path", "value"),
    [("a.b.1.c", 3), ("a.b", [{}, {"c": 3}]), ("x.y", "whole"), ("x.y.z", "deep"), ("n.0", "key")],
)
def test_dotted_paths_lead_into_objects_and_lists(path: str, value: object) -> None:
    document = {"a": {"b": [{}, {"c": 3}]}, "x.y": "whole", "x": {"y.z": "deep"}, "n": {"0": "key"}}

    assert look_up(document, path) == value


@pytest.mark.parametrize("path", ["a.b.2", "a.b.-1", "a.b.x", "a.c", "", "a.b.1.c.d", "a.b.²"])
def test_paths_that_lead_nowhere_equal_nothing(path: str) -> None:
    found = look_up({"a": {"b": [{}, {"c": 3}]}}, path)

    nothing: list[object] = [None, "", 0, {}, []]
    assert not any(is_same(found, value) for value in nothing)


def test_an_unknown_encoding_is_read_all_the_same() -> None:
    assert Answer(200, httpx.Headers(), b"hello", 0.1, "no-such-encoding").text == "hello"


class TestCommand:
    async def test_exit_code_0_passes(self, tmp_path: Path) -> None:
        found = await run({"command": [sys.executable, "-c", "pass"]}, directory=str(tmp_path))

        assert found.verdict is Verdict.PASS

    async def test_it_is_told_what_is_deployed_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORKER_TOKEN", "of-the-worker")
        code = "import json, os; json.dump([dict(os.environ), os.getcwd()], open('seen.json', 'w'))"

        await run({"command": [sys.executable, "-c", code]}, "http://127.0.0.1:8080", str(tmp_path))

        seen = (tmp_path / "seen.json").read_text()
        for part in (
            '"BASE_URL": "http://127.0.0.1:8080"',
            '"VERSION": "1.1.0"',
            '"SERVICE": "shop"',
            '"TARGET": "staging"',
        ):
            assert part in seen
        assert str(tmp_path) in seen
        assert "WORKER_TOKEN" not in seen

    async def test_another_exit_code_fails_with_its_last_words(self, tmp_path: Path) -> None:
        code = "import sys; print('a' * 100000); print('order 7 was lost', file=sys.stderr); sys.exit(3)"

        found = await run({"command": [sys.executable, "-c", code]}, directory=str(tmp_path))

        assert found.verdict is Verdict.FAIL
        assert "ended with exit code 3; it said last: " in found.reason
        assert found.reason.endswith("order 7 was lost")
        assert len(found.reason) < 1200
        assert found.evidence == {"exit_code": 3}

    async def test_an_end_by_signal_is_told(self, tmp_path: Path) -> None:
        code = "import os; os.kill(os.getpid(), 9)"

        found = await run({"command": [sys.executable, "-c", code]}, directory=str(tmp_path))

        assert "was ended by signal 9" in found.reason

    async def test_a_program_that_hangs_is_ended_with_all_its_children(self, tmp_path: Path) -> None:
        found = await run(
            {"command": ["sh", "-c", "sleep 600 & echo $! > child; echo waiting; wait"], "expect": {"within": "500ms"}},
            directory=str(tmp_path),
        )

        assert found.verdict is Verdict.FAIL
        assert found.reason == "sh did not end within 0.5s; it said last: waiting"
        assert is_gone(tmp_path / "child")

    async def test_children_that_a_program_leaves_behind_are_ended(self, tmp_path: Path) -> None:
        began = time.monotonic()

        found = await run({"command": ["sh", "-c", "sleep 600 & echo $! > child"]}, directory=str(tmp_path))

        assert found.verdict is Verdict.PASS
        assert time.monotonic() - began < 5
        assert is_gone(tmp_path / "child")

    async def test_cancelling_the_activity_ends_the_program(self, tmp_path: Path) -> None:
        environment = ActivityEnvironment()
        check = make_check({"command": ["sh", "-c", "echo $$ > child; exec sleep 600"]}, directory=str(tmp_path))
        running = asyncio.create_task(environment.run(VerifyActivities().run_smoke_test, check))
        await until_written(tmp_path / "child")

        environment.cancel()

        with pytest.raises(asyncio.CancelledError):
            await running
        assert is_gone(tmp_path / "child")

    async def test_output_without_end_is_read_and_forgotten(self, tmp_path: Path) -> None:
        code = "import sys\nfor _ in range(400): sys.stdout.write('x' * 65536)\nprint('end')"

        found = await run({"command": [sys.executable, "-c", code + "\nsys.exit(1)"]}, directory=str(tmp_path))

        assert found.reason.endswith("end")

    @pytest.mark.parametrize("command", ["no-such-program", "/etc/passwd", "nul\0inside"])
    async def test_a_program_that_cannot_be_run_is_an_error(self, tmp_path: Path, command: str) -> None:
        found = await run({"command": [command]}, directory=str(tmp_path))

        assert found.verdict is Verdict.ERROR

    async def test_a_directory_that_is_gone_is_an_error(self, tmp_path: Path) -> None:
        found = await run({"command": ["true"]}, directory=str(tmp_path / "gone"))

        assert found.verdict is Verdict.ERROR
        assert "there is no directory" in found.reason

    async def test_no_file_descriptor_is_left_open(self, tmp_path: Path) -> None:
        await run({"command": ["true"]}, directory=str(tmp_path))
        before = psutil.Process().num_fds()

        for command in ("true", "false", "no-such-program"):
            await run({"command": [command]}, directory=str(tmp_path))

        assert psutil.Process().num_fds() <= before


def read_pid(path: Path) -> int | None:
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text else None


async def until_written(path: Path) -> int:
    deadline = time.monotonic() + 10
    while (pid := read_pid(path)) is None:
        assert time.monotonic() < deadline, f"{path} was never written"
        await asyncio.sleep(0.01)
    return pid


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_gone(path: Path) -> bool:
    """Whether the process whose id is in the file has ended, or ends within some seconds."""
    pid, deadline = read_pid(path), time.monotonic() + 5
    assert pid is not None
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)
