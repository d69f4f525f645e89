"""With TLS a certificate of the stack's own authority lets somebody in; without one nobody deploys anything."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.docker_engine import Engine
from tests.servers.stack.running import Stack, running
from tests.servers.stack.services import OLD, Shop

pytestmark = [pytest.mark.platform("compose"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def stack_with_tls(docker_with_images: Engine) -> Iterator[Stack]:
    with running(docker_with_images, "--tls") as stack:
        yield stack


def certificate(folder: Path, name: str) -> dict[str, str]:
    """What a command needs in its environment to show this certificate."""
    return {
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(folder / "ca.crt"),
        "TEMPORAL_TLS_CLIENT_CERT_PATH": str(folder / f"{name}.crt"),
        "TEMPORAL_TLS_CLIENT_KEY_PATH": str(folder / f"{name}.key"),
        "TEMPORAL_TLS_SERVER_NAME": "temporal",
    }


@pytest.fixture
def certificates(stack_with_tls: Stack) -> Path:
    return stack_with_tls.checkout / "deploy" / "compose" / "secrets" / "tls"


def test_who_shows_a_certificate_deploys(stack_with_tls: Stack, certificates: Path) -> None:
    shop = Shop(stack_with_tls, "shop")

    done = stack_with_tls.command("deploy", shop.spec(OLD), "--json", given=certificate(certificates, "operator"))

    assert json.loads(done.stdout)["outcome"] == "deployed", done.stderr
    assert shop.serves(OLD)


@pytest.mark.parametrize("shown", ["nothing", "no TLS", "a stranger's"])
def test_nobody_else_is_let_in(stack_with_tls: Stack, certificates: Path, tmp_path: Path, shown: str) -> None:
    environment: dict[str, str] = {}
    if shown != "no TLS":
        environment = certificate(certificates, "operator")
    if shown == "nothing":
        del environment["TEMPORAL_TLS_CLIENT_CERT_PATH"], environment["TEMPORAL_TLS_CLIENT_KEY_PATH"]
    if shown == "a stranger's":
        made = [str(stack_with_tls.checkout / "deploy/compose/certificates"), str(tmp_path / "other")]
        subprocess.run(made, check=True, capture_output=True, timeout=60)
        environment |= certificate(tmp_path / "other", "operator")
        environment["TEMPORAL_TLS_SERVER_CA_CERT_PATH"] = str(certificates / "ca.crt")

    done = stack_with_tls.command("history", "shop/staging", given=environment)

    assert done.returncode not in (0, None)
    assert "Temporal" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_ui_shows_its_own_certificate(stack_with_tls: Stack) -> None:
    url = f"http://127.0.0.1:{stack_with_tls.ports['TEMPORAL_UI']}/api/v1/namespaces/default"

    assert httpx.get(url, timeout=30, trust_env=False).json()["namespaceInfo"]["name"] == "default"


def test_keys_are_in_no_variable_and_no_log(stack_with_tls: Stack, certificates: Path) -> None:
    keys = ["".join(path.read_text().splitlines()[1:-1]) for path in certificates.glob("*.key")]
    assert len(keys) == 5

    shown = "".join(
        json.dumps(stack_with_tls.inspect(name)) + stack_with_tls.logs(name)
        for name in ("temporal", "worker", "temporal-ui")
    )
    assert [key for key in keys if key in shown or key.splitlines()[0] in shown] == []
