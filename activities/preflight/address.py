"""Users come to one address. When somebody else already listens there, that is found before anything is started."""

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from activities.check_result import Finding
from activities.platforms.traefik.state import FrontProxyRecord, TargetStore
from home.paths import Home
from models.errors import PreconditionError
from models.platforms import LocalPlatformSpec
from models.spec import DeploymentSpec
from models.verdict import CheckResult


@dataclass(frozen=True)
class _Known:
    """A front proxy of this home."""

    service: str
    target: str
    proxy: FrontProxyRecord


def check_address(spec: DeploymentSpec, home: Home) -> CheckResult:
    """Sees that `platform.listen` is free, or that this target's own front proxy has it."""
    finding = Finding("address")
    if not isinstance(spec.platform, LocalPlatformSpec):
        return finding.skipped(f"the platform {spec.platform.kind} looks after its address itself")
    listen = spec.platform.listen
    host, _, port = listen.rpartition(":")
    try:
        doors = [known for known in _front_proxies(home) if known.proxy.listen == listen]
    except PreconditionError as error:
        return finding.not_asked(f"it cannot be told whose {listen} is: {error}", listen=listen)
    for known in doors:
        if (known.service, known.target) != (spec.service, spec.target):
            return finding.failed(
                f"{listen} is where users reach {known.service}/{known.target}; give {spec.service}/{spec.target} "
                "another platform.listen",
                listen=listen,
            )
        return _check_own(finding, listen, known.proxy)
    refused = _try_to_listen(host.strip("[]"), int(port))
    if refused is None:
        return finding.passed(f"{listen} is free", listen=listen)
    return finding.failed(f"{listen} cannot be used: {_explain(refused, listen)}", listen=listen)


def _front_proxies(home: Home) -> Iterator[_Known]:
    for file in sorted((home.path / "targets").glob("*/*/state.json")):
        service, target = file.parts[-3:-1]
        for proxy in TargetStore(home, service, target).read().doors.values():
            yield _Known(service, target, proxy)


def _check_own(finding: Finding, listen: str, proxy: FrontProxyRecord) -> CheckResult:
    """Our front proxy may be down and a stranger in its place: who listens must have the front proxy's own port too.

    The process that keeps the address open and its router share the address; only the router has the other port.
    """
    found = _connections()
    at_address, at_proxy = _listeners(listen, found), _listeners(f"127.0.0.1:{proxy.api_port}", found)
    if at_address and at_proxy and not at_address & at_proxy:
        said = ", ".join(map(_name, sorted(at_address)))
        return finding.failed(f"{listen} should be our own front proxy's, but {said} listens there", listen=listen)
    return finding.passed(f"{listen} is this target's own front proxy", listen=listen)


def _try_to_listen(host: str, port: int) -> OSError | None:
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as trial:
                # As the router does: connections that have ended lately do not count.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
                trial.listen(1)
    except OSError as error:
        return error
    return None


def _explain(error: OSError, listen: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{', '.join(map(_name, sorted(_listeners(listen, _connections())))) or 'another process'} listens there"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.EACCES:
        return "the worker may not listen on that port; ports from 1024 on need no privilege"
    return error.strerror or os.strerror(error.errno or 0)


def _connections() -> list[Any]:
    """Every connection of the machine: the slowest question of the check, asked once."""
    try:
        return list(psutil.net_connections(kind="tcp"))
    except (psutil.Error, OSError):
        return []


def _listeners(listen: str, found: list[Any]) -> set[int]:
    """Processes that listen at the address, or at all addresses; those of other users are not always shown."""
    host, _, port = listen.rpartition(":")
    at = {"127.0.0.1" if host == "localhost" else host.strip("[]"), "0.0.0.0", "::"}  # noqa: S104  looked for, not used
    return {
        connection.pid
        for connection in found
        if connection.status == psutil.CONN_LISTEN
        and connection.pid
        and connection.laddr
        and connection.laddr.port == int(port)
        and connection.laddr.ip in at
    }


def _name(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
