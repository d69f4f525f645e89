"""Decides what a healthy answer is, once, for everybody who asks.

Staging, the probes of a watch, the router's health check and verify ask with the same path, `Host`, time limit, status
and body. Where one of them was kinder than another, users were moved to a release that the next one refused.
"""

import json
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, field_validator

from models.base import SpecModel, WireModel
from models.units import Duration

WITHIN = timedelta(seconds=1.5)
HEALTHY = 200
# What a router and a kubelet take for healthy unless they are told a status.
ANY = range(200, 400)
# What `status` says in Spring's actuator, MicroProfile Health, health+json and by habit, when all is well.
GOOD = (
    "alive",
    "available",
    "green",
    "healthy",
    "live",
    "ok",
    "okay",
    "online",
    "operational",
    "pass",
    "passed",
    "passing",
    "ready",
    "running",
    "serving",
    "success",
    "up",
)
_BAD = frozenset(
    "critical,dead,down,error,fail,failed,failing,failure,not healthy,not ok,not ready,not_ready,notready,offline,"
    "out_of_service,red,unavailable,unhealthy".split(",")
)
_YES = ("alive", "available", "healthy", "live", "ok", "ready", "success", "up")
_WORDS = ("health", "state")
_LONGEST_QUOTE = 200
# The endpoints that a `HealthRule` judges.
JUDGED = ("health", "ready", "live")

Word = Annotated[str, Field(min_length=1, max_length=100)]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class HealthRule(WireModel):
    """What a healthy answer is, as it is asked for; without any word, what was healthy before there was a rule.

    Attributes:
        status: the one that is healthy; None: any from 200 to 399.
        also: others that are, of an endpoint that no router asks.
        words: what `status` may say in a JSON body; None: the body says nothing.
        within: the longest time for a whole answer.
        host: the `Host` header; None: that of the address.
    """

    status: int | None = None
    also: tuple[int, ...] = ()
    words: tuple[str, ...] | None = None
    within: Duration = WITHIN
    host: str | None = None

    @property
    def seconds(self) -> float:
        """The longest time for a whole answer."""
        return self.within.total_seconds()

    @property
    def headers(self) -> dict[str, str]:
        """What a question carries because of this rule."""
        return {"Host": self.host} if self.host else {}

    def without_verdict(self) -> Self:
        """The same way to ask, of what nobody has written a rule for."""
        return self.model_copy(update={"status": None, "words": None})

    def accepts(self, status: int) -> bool:
        """Whether the status of an answer is healthy."""
        return status in ANY if self.status is None else status in (self.status, *self.also)

    def beside(self) -> Self:
        """The same for an endpoint that is asked beside the router's: there 200 is always healthy."""
        return self if self.status in (None, HEALTHY) else self.model_copy(update={"also": (HEALTHY,)})

    def wrong(self, endpoint: str, path: str, status: int, body: bytes = b"", location: str = "") -> str:
        """Says why an answer is not healthy, and which key would change that; empty when it is.

        Args:
            endpoint: health, ready or live.
            path: that was asked.
            status: of the answer; a redirect is not followed.
            body: nothing where it was too large to say anything.
            location: where a redirect leads.
        """
        if not self.accepts(status):
            wanted = "200 to 399" if self.status is None else " or ".join(map(str, (self.status, *self.also)))
            return wrong_status(endpoint, path, status, wanted, body=body, location=location, host=self.host)
        if self.words is None:
            return ""
        said = contradiction(body, self.words)
        return f"{path} answered {status}, but {said} (verify.health.body)" if said else ""


def wrong_status(
    endpoint: str,
    path: str,
    status: int,
    wanted: str = "200",
    *,
    body: bytes = b"",
    location: str = "",
    host: str | None = None,
) -> str:
    """Says that a status is not the expected one, and what may help."""
    said = f"{path} answered {status}, expected {wanted}"
    if status in (404, 405, 501):
        return f"{said}; {absent(endpoint)}"
    if 300 <= status < 400:
        where = f"to {_quote(location)}" if location else "nowhere"
        return f"{said}; it redirects {where}, which is not followed"
    if status in (400, 403, 421) and host is None:
        return f"{said}; if the service serves only hosts that it knows, name one: verify: {{host: shop.example.com}}"
    if 200 <= status < 300 and endpoint in JUDGED:
        return f"{said}; if that is healthy, say so: verify: {{health: {{status: {status}}}}}"
    return f"{said}: {_quote(body.decode(errors='replace'))}" if body.strip() else said


def absent(*endpoints: str) -> str:
    """The line of the spec for a service that does not have these endpoints."""
    such = "endpoint" if len(endpoints) == 1 else "endpoints"
    named = " and ".join(f"verify.endpoints.{each}" for each in endpoints)
    keys = ", ".join(f"{each}: null" for each in endpoints)
    return f"if the service has no such {such}, set {named} to null: verify: {{endpoints: {{{keys}}}}}"


def contradiction(body: bytes, words: tuple[str, ...]) -> str:
    """What a body says against the status it came with; empty when it says nothing against it.

    A JSON object is asked for its `status`, which must be one of the words, and for what is plainly no, like
    `{"healthy": false}`. Of other bodies only one that is nothing but a well-known word for ill counts.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if text.lower() in {word.encode() for word in _BAD}:
        return f"says {_quote(text.decode())}"
    if not text.startswith((b"{", b'"')):
        return ""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(document, str) and document.lower() in _BAD:
        return f"says {_quote(document)}"
    return _denied(document, words) if isinstance(document, dict) else ""


def _denied(document: dict[str, Any], words: tuple[str, ...]) -> str:
    if "status" in document and not _is_good(document["status"], words):
        return f"says status {_quote(document['status'])}, expected one of {', '.join(words)}"
    for name in _YES:
        if document.get(name) is False:
            return f"says that it is not {name}: {_quote(json.dumps(document))}"
    for name in _WORDS:
        word = document.get(name)
        if isinstance(word, str) and word.lower() in _BAD:
            return f"says {name} {_quote(word)}"
    return ""


def _is_good(said: Any, words: tuple[str, ...]) -> bool:
    if isinstance(said, bool):
        return said
    if isinstance(said, int):
        return 200 <= said < 300
    return isinstance(said, str) and said.strip().lower() in {word.lower() for word in words}


def _quote(said: Any) -> str:
    text = " ".join(str(said).split())
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"


class HealthSpec(SpecModel):
    """When an answer of `health`, `ready` and `live` is healthy; asked by everybody alike."""

    status: Annotated[StrictInt, Field(ge=200, le=599)] | Literal["any"] = Field(
        default=HEALTHY, description="the status that is healthy, or any: each from 200 to 399"
    )
    body: Annotated[tuple[Word, ...], BeforeValidator(_tuple), Field(min_length=1, max_length=100)] | None = Field(
        default=GOOD, description="what status may say in a JSON body; null: the body is not looked at"
    )
    within: Duration = Field(default=WITHIN, description="for the whole answer")

    @field_validator("within")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= timedelta(seconds=10):
            raise ValueError("within is between 100ms and 10s")
        return value

    def rule(self, host: str | None) -> HealthRule:
        """The rule that everybody asks by."""
        status = None if self.status == "any" else self.status
        return HealthRule(status=status, words=self.body, within=self.within, host=host)
