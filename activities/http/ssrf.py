"""An address in a spec is its author's; one in another server's answer is not, and may lead to what only we can reach.

A registry or a token server may redirect to a cloud's metadata service, or to a port of the worker's own machine. So
each name is resolved here, each address is looked at, and the connection goes to exactly the address that was looked
at: a name that points elsewhere a moment later changes nothing. Certificates are still checked against the name.
"""

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

from activities.check_result import quote
from activities.http.client import LARGEST_BODY, Answer, CannotAskError, NoAnswerError, NoConnectionError, ask

CONNECT_WITHIN = timedelta(seconds=4)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_THIS_NETWORK = ip_network("0.0.0.0/8")
_NAT64 = ip_network("64:ff9b::/96")
# Where clouds tell a machine its own secrets, besides the link-local addresses.
_METADATA = frozenset(
    ip_address(each) for each in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)


class ForbiddenError(CannotAskError):
    """The address leads to where nothing of a release comes from; nothing was sent there."""


class NetworkZone(IntEnum):
    """How close to the worker an address is. An answer may not lead us to a nearer one than its own."""

    PUBLIC = 0
    PRIVATE = 1
    OWN = 2


@dataclass(frozen=True)
class Reached:
    """An answer, and where it came from at last.

    Attributes:
        url: of the last request, after redirects.
    """

    answer: Answer
    url: str
    nearness: NetworkZone


def nearness(address: str) -> NetworkZone:
    """How near a numeric address is.

    Raises:
        ForbiddenError: it is link-local, a metadata service, or no address of a single machine.
    """
    ip = _plain(ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip in _METADATA:
        raise ForbiddenError(f"{ip} is a link-local or metadata address: it is never asked")
    if ip.is_multicast or ip.is_unspecified or (isinstance(ip, IPv4Address) and ip in _THIS_NETWORK):
        raise ForbiddenError(f"{ip} is no address of a server")
    if ip.is_loopback:
        return NetworkZone.OWN
    return NetworkZone.PUBLIC if ip.is_global else NetworkZone.PRIVATE


def _plain(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address only wraps."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


async def reach(
    method: str,
    url: str,
    within: timedelta,
    *,
    headers: Mapping[str, str] | None = None,
    secret_headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    largest: int = LARGEST_BODY,
    insecure: bool = False,
    origin: NetworkZone | None = None,
    redirects: int = 0,
) -> Reached:
    """Puts one request, and follows at most that many redirects, all within one time.

    Args:
        method: in capitals; a redirect keeps it.
        url: without a user's name in it.
        within: for all of it, redirects too.
        headers: are sent everywhere.
        content: the body.
        largest: bytes of the answer's body.
        redirects: how many are followed; after the last one its answer is the answer.
        secret_headers: are sent to the first origin only, never to where it redirects.
        insecure: plain HTTP may also leave this machine.
        origin: how near the server was that named this URL; None when the spec names it.

    Raises:
        ForbiddenError: it leads, itself or by a redirect, where nothing is asked.
        NoAnswerError: no whole answer within the time and the size.
        CannotAskError: the request is not valid.
    """
    ends = time.monotonic() + within.total_seconds()
    first = _origin_of(url)
    for left in range(redirects, -1, -1):
        addresses, near = await _locate(url, ends, origin=origin, insecure=insecure)
        known = dict(headers or {}) | (dict(secret_headers or {}) if _origin_of(url) == first else {})
        answer = await _ask_one_of(addresses, method, url, ends, headers=known, content=content, largest=largest)
        location = answer.headers.get("location", "")
        if answer.status not in _REDIRECTS or not location or not left:
            return Reached(answer, url, near)
        url, origin = _joined(url, location), near
    raise AssertionError  # the last round returns


def _parsed(url: str) -> httpx.URL:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        raise CannotAskError("this is no valid address") from None
    if parts.scheme not in ("http", "https") or not parts.host:
        raise CannotAskError("this is no valid address of an HTTP server")
    if parts.userinfo:
        raise CannotAskError("an address must not have a user name or a password in it")
    return parts


def _origin_of(url: str) -> tuple[str, str, int | None]:
    parts = _parsed(url)
    return parts.scheme, parts.host, parts.port


def _joined(url: str, location: str) -> str:
    try:
        return str(httpx.URL(url).join(location))
    except httpx.InvalidURL:
        raise CannotAskError("it redirects to what is no address") from None


async def _locate(
    url: str, ends: float, *, origin: NetworkZone | None, insecure: bool
) -> tuple[list[str], NetworkZone]:
    parts = _parsed(url)
    host = parts.host
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(_left(ends).total_seconds()):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise NoAnswerError(f"the name {quote(host)} was not resolved in time") from None
    except (OSError, UnicodeError):
        raise NoConnectionError(f"there is no host {quote(host)}") from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    # Of several addresses the nearest one counts: which of them answers is not ours to choose.
    near = max(nearness(address) for address in addresses)
    if origin is not None and near > origin:
        raise ForbiddenError(
            f"{quote(host)} is {'this machine itself' if near is NetworkZone.OWN else 'inside the own network'}, and a "
            "server farther away led there: it is not asked"
        )
    if parts.scheme == "http" and near is not NetworkZone.OWN and not insecure:
        raise ForbiddenError(f"{quote(host)} would be asked without encryption: only with `insecure: true`")
    return addresses, near


async def _ask_one_of(
    addresses: list[str],
    method: str,
    url: str,
    ends: float,
    *,
    headers: dict[str, str],
    content: bytes | None,
    largest: int,
) -> Answer:
    parts = _parsed(url)
    numeric = parts.host in addresses
    for n, address in enumerate(addresses):
        last = n + 1 == len(addresses)
        try:
            return await ask(
                method,
                str(parts.copy_with(host=address.partition("%")[0])),
                _left(ends),
                headers={**headers, "Host": parts.netloc.decode("ascii")},
                content=content,
                largest=largest,
                connect_within=None if last else CONNECT_WITHIN,
                tls_name=None if numeric else parts.raw_host.decode("ascii"),
            )
        except NoConnectionError:
            if last:
                raise
    raise NoConnectionError("it has no address")


def _left(ends: float) -> timedelta:
    left = ends - time.monotonic()
    if left <= 0:
        raise NoAnswerError("no whole answer in time")
    # In tenths, since the sentence about a time-out names it.
    return timedelta(seconds=max(0.1, round(left, 1)))
