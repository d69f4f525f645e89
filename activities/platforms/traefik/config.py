"""Traffic is divided by Traefik: what it is told, in two files, written here and nowhere else.

The static file says where one router listens and is read when it starts. The dynamic file says who answers, with
which share; routers read it again within milliseconds whenever it is replaced. It carries the generation of the
target's state in a name that the router shows in its own API, so that "in force" is seen and never assumed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.health import HealthRule

ENTRY_POINT = "users"
SPLIT = "split"
RESCUE = "rescue"
LOADED = "loaded"
ANYBODY = "anybody"
NOBODY = "nobody"
GENERATION = "generation-"
# A revision's instances as they are asked whatever their health, and after those that are well; no revision's own
# name ends like this.
_UNWATCHED = "!"
_AT_LAST = "?"
INSTANCES = "instances"
# Without this header Traefik's client would ask for gzip itself, and unpack what the user did not ask to be packed.
_UNPACKED = "unpacked"
_ASKS_NOTHING = "PathPrefix(`/`) && !HeaderRegexp(`Accept-Encoding`, `.`)"
_EXPECTS = "PathPrefix(`/`) && HeaderRegexp(`Expect`, `.`)"
# An idle connection is closed long before any server closes its side: a request never meets a connection that is just
# going away, and while an instance is drained, connections that are left are requests under way.
IDLE = "1s"
ATTEMPTS = 3
DIAL = "2s"
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Backend:
    """A revision as the router sees it.

    Attributes:
        urls: of the instances that may be asked; may be empty.
        weight: percent; one with 0 is known to the router, and its health is watched, before it gets its first request.
        health: path; None when the revision has none.
        rule: what a healthy answer is; what it says of bodies, a router cannot ask.
        warm: it served before those that have the weight now, and is asked when all of these are ill.
    """

    name: str
    urls: tuple[str, ...]
    weight: int
    health: str | None
    warm: bool = False
    rule: HealthRule = field(default_factory=HealthRule)


def static_configuration(listen: str, api: str, dynamic: Path, trusted: Sequence[str] = ()) -> str:
    """Returns what a router is started with.

    Requests are passed on as they come: see docs/front-proxy.md for what Traefik changes all the same.

    Args:
        listen: the users' address.
        api: the address of its API and metrics.
        dynamic: the file with what changes while it runs.
        trusted: the addresses, or networks, of proxies that may say for whom they ask.
    """
    return _text(
        {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "WARN", "noColor": True},
            "entryPoints": {
                ENTRY_POINT: {
                    "address": listen,
                    # A path is passed on as it was sent (`//`, `/../`), and `;` in a query does not become `&`.
                    "http": {"sanitizePath": False, "encodeQuerySemicolons": True},
                    "forwardedHeaders": {"trustedIPs": list(trusted), "connection": ["Te"]},
                    # Reading a request may take as long as the user's upload: the default cuts it after a minute.
                    "transport": {
                        "respondingTimeouts": {"readTimeout": "0s", "writeTimeout": "0s", "idleTimeout": "180s"},
                        "lifeCycle": {"graceTimeOut": "10s"},
                    },
                },
                "traefik": {"address": api},
            },
            "api": {"insecure": True, "dashboard": False},
            "ping": {},
            "metrics": {
                "prometheus": {
                    "addServicesLabels": True,
                    "addEntryPointsLabels": True,
                    "buckets": list(LATENCY_BUCKETS),
                }
            },
            "providers": {
                "providersThrottleDuration": "20ms",
                "file": {"filename": str(dynamic), "watch": True},
            },
        }
    )


def dynamic_configuration(generation: int, backends: list[Backend], dial: str = DIAL) -> str:
    """Returns who answers users with which share; with no share anywhere they are told 503."""
    known = [backend for backend in backends if backend.urls]
    services: dict[str, Any] = {backend.name: _service(backend) for backend in known}
    if any(backend.weight for backend in known):
        asked, more = _divided(known)
        services |= more
    else:
        asked = NOBODY
        services |= {NOBODY: {"loadBalancer": {"servers": []}}}
    return _text(
        {
            "http": {
                "routers": _routers(f"{GENERATION}{generation}", asked),
                # Another instance is asked only when the first one could not be connected to: no request runs twice.
                "middlewares": {
                    f"{GENERATION}{generation}": {"retry": {"attempts": ATTEMPTS, "initialInterval": "5ms"}},
                    _UNPACKED: {"headers": {"customRequestHeaders": {"Accept-Encoding": "identity"}}},
                },
                "serversTransports": {
                    INSTANCES: {"forwardingTimeouts": {"dialTimeout": dial, "idleConnTimeout": IDLE}}
                },
                "services": services,
            }
        }
    )


def _routers(retrying: str, service: str) -> dict[str, Any]:
    """All requests go one way; they differ in what must be done so that they arrive as they were sent.

    A request that expects to be told to go on is not retried: with retries, a refusal does not reach the user before
    the body that the user withholds.
    """
    ways: tuple[tuple[str, str, list[str]], ...] = (
        ("users", "PathPrefix(`/`)", [retrying]),
        ("users-unpacked", _ASKS_NOTHING, [retrying, _UNPACKED]),
        ("users-expecting", _EXPECTS, []),
        ("users-expecting-unpacked", f"{_EXPECTS} && {_ASKS_NOTHING}", [_UNPACKED]),
    )
    routers: dict[str, Any] = {}
    for priority, (name, rule, middlewares) in enumerate(ways, 1):
        routers[name] = {"rule": rule, "priority": priority, "entryPoints": [ENTRY_POINT], "service": service}
        if middlewares:
            routers[name]["middlewares"] = middlewares
    return routers


def announced(listen: str, trusted: Sequence[str]) -> list[str]:
    """What people should know before proxies are trusted at an address, for the plan."""
    if not trusted:
        return []
    return [f"X-Forwarded headers are believed at {listen} when they come from {', '.join(trusted)}"]


def counted_for(service: str) -> str:
    """The revision that a service of the router asks."""
    return service.removesuffix("@file").removesuffix(_UNWATCHED).removesuffix(_AT_LAST)


def _divided(known: list[Backend]) -> tuple[str, dict[str, Any]]:
    """What users are given to, and the services that it leads to.

    A machine that is too busy fails the health checks of everybody. When nobody seems well, instances are asked all the
    same: what they answer is never worse than the router's word that nobody serves.
    """
    watched = [backend for backend in known if backend.health]
    services = {backend.name + _UNWATCHED: _service(backend, watched=False) for backend in watched}
    if len(watched) < len(known):
        # Only among revisions that are all watched the router passes over one that is wholly down.
        for backend in watched:
            services[backend.name + _AT_LAST] = _failover(backend.name, backend.name + _UNWATCHED)
        return SPLIT, services | {SPLIT: _split({each.name + _AT_LAST * bool(each.health): each for each in known})}
    warm = next((backend for backend in known if backend.warm), None)
    services[SPLIT] = _split({backend.name: backend for backend in known if not backend.warm})
    services[SPLIT]["weighted"]["healthCheck"] = {}
    if warm is not None:
        # Until the verdict on a candidate that has everything, the one before it answers for an ill one.
        services[RESCUE] = _failover(SPLIT, warm.name)
        services[RESCUE]["failover"]["healthCheck"] = {}
    services[LOADED] = _split({backend.name + _UNWATCHED: backend for backend in known})
    services[ANYBODY] = _failover(RESCUE if warm is not None else SPLIT, LOADED)
    return ANYBODY, services


def _failover(service: str, fallback: str) -> dict[str, Any]:
    return {"failover": {"service": service, "fallback": fallback}}


def _split(backends: dict[str, Backend]) -> dict[str, Any]:
    return {"weighted": {"services": [{"name": name, "weight": each.weight} for name, each in backends.items()]}}


def _service(backend: Backend, *, watched: bool = True) -> dict[str, Any]:
    balancer: dict[str, Any] = {
        "servers": [{"url": url} for url in backend.urls],
        "serversTransport": INSTANCES,
        "passHostHeader": True,
    }
    if backend.health and watched:
        balancer["healthCheck"] = _health_check(backend.health, backend.rule)
    return {"loadBalancer": balancer}


def _health_check(path: str, rule: HealthRule) -> dict[str, Any]:
    # Without a status, each from 200 to 399 counts; without being told so, redirects are followed.
    status = {} if rule.status is None else {"status": rule.status}
    host = {} if rule.host is None else {"hostname": rule.host}
    timeout = f"{round(rule.seconds * 1000)}ms"
    return {"path": path, "interval": "1s", "timeout": timeout, "followRedirects": False, **status, **host}


def _text(configuration: dict[str, Any]) -> str:
    # JSON is YAML, and needs no rules about which names must be quoted.
    return json.dumps(configuration, indent=1) + "\n"
