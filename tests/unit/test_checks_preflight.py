"""Preflight says no before anything has changed, and says why."""

import asyncio
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.traefik.state import FrontProxyRecord, TargetState
from activities.preflight import artifacts
from activities.preflight.address import check_address
from activities.preflight.environment import check_environment
from activities.secrets import resolver, vault
from home.paths import Home
from home.secret_store import SecretStore
from models.checks import PreflightCheck
from models.preflight.environment import fits
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict
from tests.support.serving import running_shop


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(resolver, "_known", set())
    monkeypatch.setattr(resolver, "_pattern", None)
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "home"))
    return Home.from_environment()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "app"
    path.mkdir()
    (path / "app.py").write_text("print('hello')\n")
    return path


def make_spec(directory: Path, platform: dict[str, Any] | None = None, **parts: Any) -> DeploymentSpec:
    own = {"kind": "local", "run": ["python3", "app.py"], "directory": str(directory), "listen": "127.0.0.1:8080"}
    spec = {"service": "shop", "target": "staging", "release": {"version": "1.1.0"}, "platform": own | (platform or {})}
    return DeploymentSpec.model_validate(spec | parts)


def check_artifacts(check: PreflightCheck) -> CheckResult:
    return asyncio.run(artifacts.check_artifacts(check))


def with_artifacts(directory: Path, *artifacts: dict[str, str]) -> DeploymentSpec:
    return make_spec(directory, release={"version": "1.1.0", "artifacts": list(artifacts)})


class TestArtifacts:
    def test_everything_is_measured(self, directory: Path) -> None:
        path = str(directory / "app.py")

        found = check_artifacts(PreflightCheck(spec=with_artifacts(directory, {"path": path})))

        assert found.verdict is Verdict.PASS
        assert found.evidence["digests"][path] == hashlib.sha256(b"print('hello')\n").hexdigest()
        assert len(found.evidence["digests"]["directory"]) == 64

    def test_what_was_planned_passes_again(self, directory: Path) -> None:
        spec = make_spec(directory)
        digests = check_artifacts(PreflightCheck(spec=spec)).evidence["digests"]

        assert check_artifacts(PreflightCheck(spec=spec, expected=digests)).verdict is Verdict.PASS

    def test_a_byte_that_changed_since_the_plan_fails(self, directory: Path) -> None:
        spec = make_spec(directory)
        digests = check_artifacts(PreflightCheck(spec=spec)).evidence["digests"]
        (directory / "app.py").write_text("print('hullo')\n")

        found = check_artifacts(PreflightCheck(spec=spec, expected=digests))

        assert (found.verdict, found.reason) == (Verdict.FAIL, "directory changed since the plan")

    def test_what_was_measured_and_is_gone_fails(self, directory: Path) -> None:
        spec = make_spec(directory)
        digests = check_artifacts(PreflightCheck(spec=spec)).evidence["digests"]

        found = check_artifacts(PreflightCheck(spec=spec, expected=digests | {"/gone": "0" * 64}))

        assert found.verdict is Verdict.FAIL
        assert "/gone was measured for the plan and is gone" in found.reason

    def test_another_sha256_fails_with_both(self, directory: Path) -> None:
        wanted = "0" * 64

        found = check_artifacts(
            PreflightCheck(spec=with_artifacts(directory, {"path": str(directory / "app.py"), "sha256": wanted}))
        )

        assert found.verdict is Verdict.FAIL
        assert wanted in found.reason
        assert hashlib.sha256(b"print('hello')\n").hexdigest() in found.reason

    @pytest.mark.parametrize(
        ("name", "cause"), [("missing.tar", "is not there"), ("folder", "no regular file"), ("pipe", "no regular file")]
    )
    def test_an_artifact_that_is_no_file_fails(self, tmp_path: Path, directory: Path, name: str, cause: str) -> None:
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")

        found = check_artifacts(PreflightCheck(spec=with_artifacts(directory, {"path": str(tmp_path / name)})))

        assert found.verdict is Verdict.FAIL
        assert cause in found.reason

    def test_everything_that_is_wrong_is_told_at_once(self, tmp_path: Path, directory: Path) -> None:
        spec = with_artifacts(directory, {"path": str(tmp_path / "a")}, {"path": str(tmp_path / "b")})

        reason = check_artifacts(PreflightCheck(spec=spec)).reason

        assert f"{tmp_path / 'a'} is not there" in reason
        assert f"{tmp_path / 'b'} is not there" in reason

    def test_a_directory_that_is_not_there_fails(self, tmp_path: Path) -> None:
        found = check_artifacts(PreflightCheck(spec=make_spec(tmp_path / "nowhere")))

        assert found.verdict is Verdict.FAIL
        assert "nowhere" in found.reason

    def test_a_program_that_is_nowhere_fails(self, directory: Path) -> None:
        found = check_artifacts(PreflightCheck(spec=make_spec(directory, {"run": ["no-such-program"]})))

        assert found.verdict is Verdict.FAIL
        assert "no-such-program" in found.reason

    @pytest.mark.parametrize("program", ["serve", "./serve"])
    def test_a_program_may_come_with_the_release(self, directory: Path, program: str) -> None:
        (directory / "serve").write_text("#!/bin/sh\n")
        spec = make_spec(directory, {"run": [program]})
        assert check_artifacts(PreflightCheck(spec=spec)).verdict is Verdict.FAIL  # it may not be executed

        (directory / "serve").chmod(0o700)

        assert check_artifacts(PreflightCheck(spec=spec)).verdict is Verdict.PASS


class TestEnvironment:
    def test_required_names_with_values_pass(self, home: Home, directory: Path) -> None:
        SecretStore(home).put("SHOP_DB", "postgres://user:hunter2@db")
        environment = {"LEVEL": "info", "DATABASE_URL": {"secret": "env:SHOP_DB"}}
        spec = make_spec(directory, {"environment": environment}, preflight={"environment": ["LEVEL", "DATABASE_URL"]})

        found = check_environment(spec)

        assert found.verdict is Verdict.PASS
        assert found.evidence == {"required": ["LEVEL", "DATABASE_URL"], "secrets": ["env:SHOP_DB"]}

    def test_missing_empty_and_unresolved_are_named_together(self, home: Home, directory: Path) -> None:
        environment = {"LEVEL": " ", "DATABASE_URL": {"secret": "env:SHOP_NO_SUCH"}}
        spec = make_spec(
            directory,
            {"environment": environment},
            preflight={"environment": ["LEVEL", "REGION"]},
            observe={"sentry": {"dsn": "file:/no/such/dsn"}},
        )

        found = check_environment(spec)

        assert found.verdict is Verdict.FAIL
        assert "REGION is required, and platform.environment does not give it" in found.reason
        assert "LEVEL is required, and its value is empty" in found.reason
        assert "platform.environment.DATABASE_URL: env:SHOP_NO_SUCH" in found.reason
        assert "observe.sentry.dsn: file:/no/such/dsn" in found.reason

    def test_a_value_of_another_form_fails_and_is_not_repeated(self, home: Home, directory: Path) -> None:
        SecretStore(home).put("SHOP_DB", "mysql://user:hunter2@db")
        environment = {"PORTS": "80,443", "LEVEL": "loud", "DATABASE_URL": {"secret": "env:SHOP_DB"}}
        required = [
            {"name": "PORTS", "pattern": "[0-9]+(,[0-9]+)*"},
            {"name": "LEVEL", "pattern": "debug|info"},
            {"name": "DATABASE_URL", "pattern": "postgres://.*"},
        ]

        found = check_environment(
            make_spec(directory, {"environment": environment}, preflight={"environment": required})
        )

        assert found.verdict is Verdict.FAIL
        assert found.reason == (
            "the value of LEVEL does not fit its pattern; the value of DATABASE_URL does not fit its pattern"
        )
        assert not any(value in found.model_dump_json() for value in ("hunter2", "loud", "80,443"))

    @pytest.mark.timeout(20)
    def test_no_pattern_stops_the_worker(self, home: Home, directory: Path) -> None:
        required = [{"name": "A", "pattern": "(a+)+b"}]
        environment = {"A": "a" * 4000}

        found = check_environment(
            make_spec(directory, {"environment": environment}, preflight={"environment": required})
        )

        assert found.verdict is Verdict.FAIL

    @pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{1,1000}{1,1000}{1,1000}"])
    def test_a_pattern_that_cannot_be_is_refused_in_the_spec(self, directory: Path, pattern: str) -> None:
        with pytest.raises(ValueError, match="no regular expression of the kind"):
            make_spec(directory, preflight={"environment": [{"name": "A", "pattern": pattern}]})

    def test_the_whole_value_counts_and_no_line_of_it(self, directory: Path) -> None:
        assert fits("a|bc", "bc") and not fits("a|bc", "ab") and not fits("a", "a\n") and not fits("a.c", "a\nc")

    def test_a_secret_that_stands_in_the_spec_is_found(self, home: Home, directory: Path) -> None:
        required = [{"name": "TOKEN", "secret": True}, "LEVEL"]
        environment = {"TOKEN": "hunter2", "LEVEL": "info"}

        found = check_environment(
            make_spec(directory, {"environment": environment}, preflight={"environment": required})
        )

        assert found.verdict is Verdict.FAIL
        assert found.reason == "TOKEN must be a reference to a secret, and its value is in the spec"
        assert found.evidence["required"] == ["TOKEN", "LEVEL"]

    def test_every_reference_of_the_whole_spec_is_read(self, home: Home, directory: Path) -> None:
        release = {
            "version": "1.1.0",
            "revision": "a" * 40,
            "artifacts": [{"image": "localhost:5000/shop:1", "username": "env:NO_U", "password": "env:NO_P"}],
        }
        ci = {"kind": "github", "repository": "a/b", "token": "env:NO_TOKEN"}

        found = check_environment(make_spec(directory, release=release, preflight={"ci": ci}))

        for place in ("release.artifacts.0.username: env:NO_U", "preflight.ci.token: env:NO_TOKEN"):
            assert place in found.reason
        assert found.evidence["secrets"] == ["env:NO_P", "env:NO_TOKEN", "env:NO_U"]

    def test_a_vault_that_does_not_answer_is_an_error_and_no_failure(
        self, home: Home, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vault, "_away", {})
        monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
        monkeypatch.setenv("VAULT_TOKEN", "hvs.token")
        environment = {"DATABASE_URL": {"secret": "vault:secret/shop#dsn"}}

        found = check_environment(make_spec(directory, {"environment": environment}))

        assert (found.verdict, "did not answer" in found.reason) == (Verdict.ERROR, True)

    def test_no_value_is_in_the_result(self, home: Home, directory: Path) -> None:
        SecretStore(home).put("SHOP_DB", "hunter2-and-more")
        environment = {"LEVEL": "verbose-value", "DATABASE_URL": {"secret": "env:SHOP_DB"}}

        found = check_environment(make_spec(directory, {"environment": environment}))

        assert "hunter2" not in found.model_dump_json()
        assert "verbose-value" not in found.model_dump_json()


class TestAddress:
    @pytest.fixture
    def listener(self) -> Any:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            yield server

    def test_a_free_address_passes(self, home: Home, directory: Path, listener: socket.socket) -> None:
        address = port_of(listener)
        listener.close()

        assert ask(home, directory, address).verdict is Verdict.PASS

    def test_who_listens_there_is_named(self, home: Home, directory: Path, listener: socket.socket) -> None:
        found = ask(home, directory, port_of(listener))

        assert found.verdict is Verdict.FAIL
        assert f"(process {os.getpid()}) listens there" in found.reason

    def test_an_address_of_another_machine_fails(self, home: Home, directory: Path) -> None:
        found = ask(home, directory, "203.0.113.7:8080")

        assert found.verdict is Verdict.FAIL
        assert "this machine has no such address" in found.reason

    def test_our_own_front_door_passes(self, home: Home, directory: Path, listener: socket.socket) -> None:
        put_door(home, "shop", "staging", port_of(listener), api=listener.getsockname()[1])

        found = ask(home, directory, port_of(listener))

        assert (found.verdict, found.reason) == (
            Verdict.PASS,
            f"{port_of(listener)} is this target's own front proxy",
        )

    def test_a_stranger_in_our_doors_place_fails(self, home: Home, directory: Path, listener: socket.socket) -> None:
        # The front proxy's process lives on its own port, and is not the one that listens where users come.
        with running_shop() as (base_url, _):
            put_door(home, "shop", "staging", port_of(listener), api=int(base_url.rpartition(":")[2]))
            found = ask(home, directory, port_of(listener))

        assert found.verdict is Verdict.FAIL
        assert "should be our own front proxy's" in found.reason

    def test_the_door_of_another_target_is_named(self, home: Home, directory: Path) -> None:
        put_door(home, "web", "production", "127.0.0.1:8080", api=1)

        found = ask(home, directory, "127.0.0.1:8080")

        assert found.verdict is Verdict.FAIL
        assert "web/production" in found.reason

    def test_a_damaged_state_is_an_error(self, home: Home, directory: Path) -> None:
        (home.target("shop", "staging") / "state.json").write_text("{")

        assert ask(home, directory, "127.0.0.1:8080").verdict is Verdict.ERROR


def ask(home: Home, directory: Path, listen: str) -> CheckResult:
    return check_address(make_spec(directory, {"listen": listen}), home)


def port_of(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


def put_door(home: Home, service: str, target: str, listen: str, api: int) -> None:
    state = TargetState(doors={listen: FrontProxyRecord(listen=listen, program="door", api_port=api)})
    (home.target(service, target) / "state.json").write_text(json.dumps(state.model_dump()))
