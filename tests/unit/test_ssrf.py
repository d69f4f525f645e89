"""Where an answer leads is looked at before anything is sent there, and what was looked at is what is asked."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from activities.http import client
from activities.http.client import CannotAskError, NoAnswerError, NoConnectionError
from activities.http.ssrf import ForbiddenError, NetworkZone, nearness, reach
from tests.support.serving import saying, serving

WITHIN = timedelta(seconds=5)


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("140.82.121.4", NetworkZone.PUBLIC),
        ("2606:50c0:8000::154", NetworkZone.PUBLIC),
        ("10.0.0.7", NetworkZone.PRIVATE),
        ("192.168.1.1", NetworkZone.PRIVATE),
        ("100.64.0.1", NetworkZone.PRIVATE),
        ("fd00::7", NetworkZone.PRIVATE),
        ("::ffff:10.0.0.7", NetworkZone.PRIVATE),
        ("127.0.0.1", NetworkZone.OWN),
        ("127.8.8.8", NetworkZone.OWN),
        ("::1", NetworkZone.OWN),
        ("::ffff:127.0.0.1", NetworkZone.OWN),
        ("64:ff9b::7f00:1", NetworkZone.OWN),
    ],
)
def test_every_address_is_public_private_or_our_own(address: str, near: NetworkZone) -> None:
    assert nearness(address) is near


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "0.0.0.0",  # noqa: S104  refused, not listened at
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "ff02::1",
    ],
)
def test_link_local_and_metadata_addresses_are_never_asked(address: str) -> None:
    with pytest.raises(ForbiddenError):
        nearness(address)


@pytest.mark.parametrize("origin", [NetworkZone.PUBLIC, NetworkZone.PRIVATE])
async def test_a_server_farther_away_does_not_lead_to_our_own_machine(origin: NetworkZone) -> None:
    async with serving(saying("200 OK", "secret of this machine")) as url:
        with pytest.raises(ForbiddenError, match="this machine itself"):
            await reach("GET", url, WITHIN, origin=origin)

        assert (await reach("GET", url, WITHIN, origin=NetworkZone.OWN)).answer.text == "secret of this machine"
        assert (await reach("GET", url, WITHIN)).answer.status == 200


async def test_a_name_is_resolved_once_and_that_address_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def first_here_then_elsewhere(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", first_here_then_elsewhere)
    async with serving(saying("200 OK", "here")) as url:
        reached = await reach("GET", url.replace("127.0.0.1", "rebinding.example"), WITHIN)

    assert reached.answer.text == "here"
    assert asked == ["rebinding.example"]


async def test_of_a_name_with_a_forbidden_address_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in ("127.0.0.1", "169.254.169.254")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    async with serving(saying("200 OK")) as url:
        with pytest.raises(ForbiddenError):
            await reach("GET", url.replace("127.0.0.1", "both.example"), WITHIN)


async def test_another_address_of_the_name_is_tried_when_one_takes_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, port)) for address in ("127.77.0.1", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    async with serving(saying("200 OK", "the second")) as url:
        reached = await reach("GET", url.replace("127.0.0.1", "two.example"), WITHIN)

    assert reached.answer.text == "the second"


@pytest.mark.parametrize("address", ["203.0.113.7", "10.0.0.7"])
async def test_without_encryption_nothing_leaves_this_machine(address: str) -> None:
    with pytest.raises(ForbiddenError, match="insecure: true"):
        await reach("GET", f"http://{address}/", WITHIN)


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/", "http://", "127.0.0.1", "http://u:hunter2@127.0.0.1/", "http://[::1", "file:///etc/passwd"],
)
async def test_what_is_no_address_is_not_asked_and_not_repeated(url: str) -> None:
    with pytest.raises(CannotAskError) as caught:
        await reach("GET", url, WITHIN)

    assert "hunter2" not in str(caught.value)


async def test_a_name_that_nobody_has_is_said() -> None:
    with pytest.raises(NoConnectionError, match="there is no host"):
        await reach("GET", "https://no-such-host.invalid/", WITHIN)


async def test_redirects_are_followed_as_often_as_allowed() -> None:
    async with serving(saying("302 Found", "", "Location: /again")) as url:
        reached = await reach("GET", url, WITHIN, redirects=3)

    assert (reached.answer.status, reached.url) == (302, f"{url}/again")


async def test_all_redirects_together_have_one_time() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with serving(slow) as url:
        with pytest.raises(NoAnswerError):
            await reach("GET", url, timedelta(seconds=0.5), redirects=50)


async def test_a_certificate_is_checked_against_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client._trusted.cache_clear()
    async with serving_tls(tmp_path) as port:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        try:
            reached = await reach("GET", f"https://localhost:{port}/", WITHIN)
            with pytest.raises(NoConnectionError, match="certificate"):
                await reach("GET", f"https://127.0.0.1:{port}/", WITHIN)
        finally:
            client._trusted.cache_clear()

    assert (reached.answer.status, reached.nearness) == (200, NetworkZone.OWN)


@asynccontextmanager
async def serving_tls(folder: Path) -> AsyncIterator[int]:
    """A server for the name localhost, with a certificate that only its own file vouches for; gives its port."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, now - timedelta(hours=1), now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    behaviour = saying("200 OK", "secure")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await behaviour(reader, writer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
