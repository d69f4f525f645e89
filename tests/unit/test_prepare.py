"""What the stack's owner runs once makes secrets: new, hidden from others, never replaced by a second run."""

import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
SCRIPTS = Path(__file__).parents[2] / "deploy" / "compose"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout" / "deploy" / "compose"
    folder.mkdir(parents=True)
    for name in ("prepare", "certificates"):
        shutil.copy2(SCRIPTS / name, folder / name)
    return tmp_path / "checkout"


def prepare(checkout: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(checkout / "deploy" / "compose" / "prepare"), *options]
    clean = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60)


def openssl(*words: str) -> str:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_passwords_are_long_different_and_behind_a_closed_door(checkout: Path) -> None:
    done = prepare(checkout)

    secrets = checkout / "deploy" / "compose" / "secrets"
    values = {(secrets / name).read_text() for name in ("postgres_password", "grafana_admin_password")}
    assert done.returncode == 0
    assert len(values) == 2 and all(len(value) == 48 for value in values)
    assert mode(secrets) == 0o700
    assert not any(value in done.stdout + done.stderr for value in values)


def test_a_second_run_changes_nothing(checkout: Path) -> None:
    prepare(checkout, DEPLOYMENTS="/srv/elsewhere")
    files = [path for path in checkout.rglob("*") if path.is_file()]
    before = {path: path.read_text() for path in files}

    again = prepare(checkout)

    assert again.returncode == 0
    assert {path: path.read_text() for path in checkout.rglob("*") if path.is_file()} == before
    assert (checkout / ".env").read_text() == "DEPLOYMENTS=/srv/elsewhere\n"


def test_docker_is_given_to_the_worker_only_on_request(checkout: Path, tmp_path: Path) -> None:
    prepare(checkout)
    assert "DOCKER" not in (checkout / ".env").read_text()

    address = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        done = prepare(checkout, "--docker", DOCKER_SOCKET=str(address))

    assert done.returncode == 0, done.stderr
    said = (checkout / ".env").read_text().splitlines()
    assert f"DOCKER_SOCKET={address}" in said
    assert f"DOCKER_GID={address.stat().st_gid}" in said


def test_a_socket_that_is_not_there_is_a_sentence(checkout: Path) -> None:
    done = prepare(checkout, "--docker", DOCKER_SOCKET="/nowhere/docker.sock")

    assert (done.returncode, done.stderr) == (
        1,
        "there is no Docker socket at /nowhere/docker.sock; set DOCKER_SOCKET\n",
    )


def test_an_unknown_option_is_answered_with_how_to_use_it(checkout: Path) -> None:
    done = prepare(checkout, "--help")

    assert done.returncode == 2
    assert "deploy/compose/prepare [--docker] [--tls]" in done.stdout
    assert not (checkout / ".env").exists()


@needs_openssl
def test_certificates_are_for_what_they_are_for(checkout: Path) -> None:
    done = prepare(checkout, "--tls")
    folder = checkout / "deploy" / "compose" / "secrets" / "tls"

    assert done.returncode == 0, done.stderr
    assert "COMPOSE_FILE=docker-compose.yml:deploy/compose/tls.yml" in (checkout / ".env").read_text()
    authority = ["-CAfile", str(folder / "ca.crt")]
    openssl("verify", *authority, "-purpose", "sslserver", "-verify_hostname", "temporal", str(folder / "temporal.crt"))
    for client in ("worker", "ui", "operator", "temporal"):
        openssl("verify", *authority, "-purpose", "sslclient", str(folder / f"{client}.crt"))
    refused = ["openssl", "verify", *authority, "-purpose", "sslserver", str(folder / "operator.crt")]
    assert subprocess.run(refused, capture_output=True, timeout=30).returncode != 0
    assert mode(folder / "ca.key") == 0o600


@needs_openssl
def test_a_server_may_have_more_names(checkout: Path) -> None:
    prepare(checkout, "--tls")
    folder = checkout / "deploy" / "compose" / "secrets" / "tls"
    authority = (folder / "ca.crt").read_bytes()
    (folder / "temporal.crt").unlink()

    script = str(checkout / "deploy" / "compose" / "certificates")
    subprocess.run([script, str(folder), "temporal.example", "192.0.2.7"], check=True, capture_output=True, timeout=60)

    names = openssl("x509", "-in", str(folder / "temporal.crt"), "-noout", "-ext", "subjectAltName")
    assert "DNS:temporal.example" in names and "IP Address:192.0.2.7" in names and "IP Address:127.0.0.1" in names
    assert (folder / "ca.crt").read_bytes() == authority
