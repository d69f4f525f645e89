"""With encryption on, plaintext never lies on the disk, and a backup is proven all the same. Needs age and gpg."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.database.restore import restore
from models.preflight.backup import BackupOrder
from models.spec import DeploymentSpec
from models.verdict import Verdict
from tests.integration.databases.conftest import Bench, passed
from tests.servers.cache import NotInstalledError, debian, unavailable

pytestmark = pytest.mark.platform
MARK = b"PGDMP"  # how a plain dump begins


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """What encrypts is installed."""
    try:
        debian("age", "gnupg")
    except NotInstalledError as error:
        unavailable(error)


@pytest.fixture
def age(tmp_path: Path) -> tuple[Path, Path]:
    """An identity, and its recipients."""
    identity, recipients = tmp_path / "identity", tmp_path / "recipients"
    subprocess.run(["age-keygen", "-o", identity], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", identity], check=True, capture_output=True).stdout
    recipients.write_bytes(public)
    return identity, recipients


@pytest.fixture
def other_identity(tmp_path: Path) -> Path:
    """Somebody else's."""
    path = tmp_path / "other"
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    return path


@pytest.fixture
def gpg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A key's fingerprint, in a keyring of its own."""
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    make = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "backups@example.org", "default", "encrypt"]
    subprocess.run(make, check=True, capture_output=True)
    ask = ["gpg", "--batch", "--with-colons", "--list-keys"]
    listed = subprocess.run(ask, check=True, capture_output=True, text=True)
    try:
        yield next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr"))
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=True, capture_output=True)


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def sealed(shop: Bench, spec: DeploymentSpec, kind: str) -> None:
    (shop.folder / "app.conf").write_text("very plain text")

    made = passed(await shop.backup(spec))

    folder = Path(made.evidence["folder"])
    assert made.evidence["encrypted"] == kind
    names = sorted(os.listdir(folder))
    assert names == [f"configuration.tar.{kind}", f"database.dump.{kind}", "manifest.json"]
    content = await asyncio.to_thread(on_disk, shop.home.path)
    assert MARK not in content
    assert b"very plain text" not in content
    assert shop.scratches() == []


async def test_age_with_an_identity(shop: Bench, age: tuple[Path, Path]) -> None:
    encrypt = {"age": str(age[1]), "identity": {"secret": f"file:{age[0]}"}}
    await sealed(shop, shop.spec({"encrypt": encrypt, "configuration": [str(shop.folder)]}), "age")


async def test_age_without_an_identity(shop: Bench, age: tuple[Path, Path]) -> None:
    spec = shop.spec({"encrypt": {"age": str(age[1])}, "configuration": [str(shop.folder)]})
    await sealed(shop, spec, "age")


async def test_gpg(shop: Bench, gpg: str) -> None:
    await sealed(shop, shop.spec({"encrypt": {"gpg": gpg}, "configuration": [str(shop.folder)]}), "gpg")


async def test_what_was_encrypted_can_be_restored(shop: Bench, age: tuple[Path, Path]) -> None:
    encrypt = {"age": str(age[1]), "identity": {"secret": f"file:{age[0]}"}}
    spec = shop.spec({"encrypt": encrypt}).preflight.backup
    made = passed(await shop.backup(shop.spec({"encrypt": {"age": str(age[1])}})))
    assert spec is not None
    order = BackupOrder(
        service=shop.name, target="staging", spec=spec, backup=made.evidence["id"], by="ann", reason="x", key="a_b"
    )

    restored = await restore(order, shop.home)
    again = await restore(order, shop.home)

    assert restored.rows == 1050
    assert shop.postgres.rows(f"{shop.name}_restored_a_b", "SELECT count(*)::int FROM people") == [(1000,)]
    assert again.database == restored.database


async def test_an_identity_that_does_not_open_it(shop: Bench, age: tuple[Path, Path], other_identity: Path) -> None:
    encrypt = {"age": str(age[1]), "identity": {"secret": f"file:{other_identity}"}}

    made = await shop.backup(shop.spec({"encrypt": encrypt}))

    assert made.verdict is Verdict.FAIL
    assert "age ended with exit code 1" in made.reason
    assert "AGE-SECRET-KEY" not in made.reason
    assert (shop.left(), shop.scratches()) == ([], [])


@pytest.mark.parametrize("encrypt", [{"age": "/nowhere/recipients"}, {"gpg": "0" * 40}])
async def test_a_recipient_that_is_not_there(shop: Bench, encrypt: dict[str, str]) -> None:
    made = await shop.backup(shop.spec({"encrypt": encrypt}))

    assert made.verdict is Verdict.ERROR
    assert shop.left() == []
