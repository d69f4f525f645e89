"""Specs that are as large as they may be, each by another part of it."""

from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

from models.carrying import LARGEST_SPEC
from models.spec import DeploymentSpec

LONGEST = 4096
Document = dict[str, Any]


def _local(**platform: Any) -> Document:
    own = {"kind": "local", "run": ["python3", "app.py"], "listen": "127.0.0.1:8080"}
    return {"service": "big", "target": "staging", "release": {"version": "1.0.0"}, "platform": own | platform}


def _pieces(size: int, longest: int = LONGEST, *, letter: str = "x") -> list[str]:
    whole, rest = divmod(size, longest)
    return [letter * longest] * whole + ([letter * rest] if rest else [])


def _environment(size: int, letter: str = "x") -> Document:
    return _local(environment={f"V{n}": text for n, text in enumerate(_pieces(size, letter=letter))})


def _smoke(size: int) -> Document:
    tests = [
        {"name": f"t{n}", "request": {"method": "POST", "path": "/", "body": text}}
        for n, text in enumerate(_pieces(size, 12_000))
    ]
    return _local() | {"verify": {"smoke": tests}}


def _json(size: int) -> Document:
    inner: Any = {f"k{n}": {"text": text, "list": [1, True, None]} for n, text in enumerate(_pieces(size))}
    return _local() | {"verify": {"smoke": [{"name": "t", "request": {"method": "POST", "path": "/", "json": inner}}]}}


def _run(size: int) -> Document:
    return _local(run=["python3", *_pieces(min(size, 190 * LONGEST))], environment=_rest(size - 190 * LONGEST))


def _rest(size: int) -> dict[str, str]:
    return {f"V{n}": text for n, text in enumerate(_pieces(max(0, size)))}


def _exclude(size: int) -> Document:
    return _local(exclude=_pieces(size, 20_000))


def _artifacts(size: int) -> Document:
    paths = _pieces(min(size, 99 * (LONGEST - 10)), LONGEST - 10)
    spec = _local(environment=_rest(size - 99 * (LONGEST - 10)))
    return spec | {"release": {"version": "1.0.0", "artifacts": [{"path": f"{n:05}{p}"} for n, p in enumerate(paths)]}}


def _approvers(size: int) -> Document:
    return _local() | {"approvals": {"by": [f"{n:06}" for n in range(size // 10)]}}


def _disks(size: int) -> Document:
    spec = _local(environment=_rest(size - 49 * LONGEST))
    return spec | {"preflight": {"disk_paths": _pieces(min(size, 49 * LONGEST))}}


def _compose(size: int) -> Document:
    own = {"kind": "compose", "service": "web", "listen": "127.0.0.1:8080", "files": _pieces(19 * (LONGEST - 1))}
    spec = _local()
    return spec | {"platform": own | {"environment": _rest(size - 19 * LONGEST)}}


def _kubernetes(size: int) -> Document:
    urls = [f"http://g{n}:9100/{'m' * 1900}" for n in range(32)]
    own: Document = {
        "kind": "kubernetes",
        "deployment": "big",
        "image": "big:{version}",
        "url": "http://127.0.0.1:8080",
    }
    own |= {"counters": {"kind": "traefik", "urls": urls}, "manifests": "m" * LONGEST, "kubeconfig": "k" * LONGEST}
    return _local() | {"platform": own | {"environment": _rest(size - 32 * 2000 - 2 * LONGEST)}}


def _everything(size: int) -> Document:
    spec = _compose(size // 3)
    spec["verify"] = _smoke(size // 3)["verify"]
    spec["approvals"] = _approvers(size // 3)["approvals"]
    spec["strategy"] = {"kind": "canary", "steps": [{"weight": n, "watch": "1s"} for n in range(1, 101)]}
    spec["freeze"] = [{"cron": "0 18 * * 5", "for": "60h", "timezone": "Europe/Berlin", "reason": "weekend"}] * 100
    return spec


SHAPES: dict[str, Callable[[int], Document]] = {
    "environment": _environment,
    "environment in another script": lambda size: _environment(size // 3, "漢"),
    "environment of line breaks": lambda size: _environment(size // 2, "\n"),
    "environment of control characters": lambda size: _environment(size // 6, "\x01"),
    "smoke tests": _smoke,
    "one JSON body": _json,
    "arguments": _run,
    "exclude": _exclude,
    "artifacts": _artifacts,
    "approvers": _approvers,
    "disk paths": _disks,
    "compose": _compose,
    "kubernetes": _kubernetes,
    "a bit of everything": _everything,
}


def travels(document: Document) -> int:
    """How many bytes a spec has as it travels."""
    return len(to_json(DeploymentSpec.model_validate(document)))


def just_fits(shape: Callable[[int], Document]) -> Document:
    """The largest spec of this shape that is not too large."""
    low, high = 1, 2 * LARGEST_SPEC
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(shape(middle)) else (low, middle)
    return shape(low)


def _fits(document: Document) -> bool:
    try:
        return travels(document) <= LARGEST_SPEC
    except ValueError:  # more of one thing than the schema has room for
        return False
