"""A registry is asked for one thing: which digest a name has now. It may want a token, be slow, or lead us elsewhere.

The OCI distribution specification (opencontainers/distribution-spec 1.1) says what is asked, distribution's token
specification (distribution.github.io, "Token Authentication") how a token is had. Bodies are bounded: a manifest of
more than 4 MiB is none, by the specification, and is not read.
"""

import asyncio
import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from activities.check_result import quote
from activities.http.client import Answer, CannotAskError, NoAnswerError, TooLargeError
from activities.http.ssrf import ForbiddenError, NetworkZone, Reached, reach
from activities.preflight.measured import UnreadableError, WrongError
from activities.secrets.resolver import remember
from models.preflight.artifacts import ImageName

WITHIN = timedelta(seconds=10)
TRIES = 3
AGAIN_AFTER = 1.0
LONGEST_WAIT = 10.0
LARGEST_MANIFEST = 4 << 20
LARGEST_CONFIG = 8 << 20
LARGEST_TOKEN = 256 << 10
REDIRECTS = 3
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)
_PARAMETER = re.compile(r'([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.ASCII)


@dataclass
class Registry:
    """One repository of a registry, as one of our checks asks it.

    Attributes:
        login: user name and password.
    """

    image: ImageName
    login: tuple[str, str] | None = None
    insecure: bool = False
    _authorization: str | None = field(default=None, repr=False)

    @property
    def plain(self) -> bool:
        """Whether it is asked without TLS: where the spec says so, and on this machine, as other clients do."""
        return self.insecure or _LOOPBACK.fullmatch(self.image.host) is not None

    async def resolve(self, reference: str) -> str:
        """The digest that a tag or digest has now, without reading the manifest where the registry can say it.

        Raises:
            WrongError: there is none, or it is none.
            UnreadableError: the registry could not be asked.
        """
        answer = await self._get(f"manifests/{reference}", LARGEST_MANIFEST, method="HEAD")
        if answer.status == 200:
            size = answer.headers.get("content-length", "")
            if size.isdecimal() and int(size[:18]) > LARGEST_MANIFEST:
                raise WrongError(f"its manifest is {int(size[:18]):,} bytes large: that is none")
            digest = answer.headers.get("docker-content-digest", "")
            if _DIGEST.fullmatch(digest):
                return str(digest)
        # Not every registry knows HEAD, or says the digest; and the cause of a refusal is in a body.
        return (await self.manifest(reference))[0]

    async def manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """Reads a manifest or an index; gives its digest, computed here, and its content.

        Raises:
            WrongError: there is none, it is none, or is not what its digest says.
            UnreadableError: the registry could not be asked.
        """
        answer = self._accepted(await self._get(f"manifests/{reference}", LARGEST_MANIFEST))
        digest = "sha256:" + hashlib.sha256(answer.body).hexdigest()
        if reference.startswith("sha256:") and digest != reference:
            raise WrongError(f"the registry's manifest is not what its digest {reference} says")
        document = _json(answer)
        if not isinstance(document, dict):
            raise WrongError("its manifest is no image manifest")
        document.setdefault("mediaType", answer.headers.get("content-type", "").partition(";")[0].strip())
        return digest, document

    async def config(self, digest: str) -> dict[str, Any]:
        """Reads an image's configuration.

        Raises:
            WrongError: it is not what its digest says.
            UnreadableError: the registry could not be asked.
        """
        answer = self._accepted(await self._get(f"blobs/{digest}", LARGEST_CONFIG))
        if digest.startswith("sha256:") and "sha256:" + hashlib.sha256(answer.body).hexdigest() != digest:
            raise WrongError(f"the image's configuration is not what its digest {digest} says")
        document = _json(answer)
        if not isinstance(document, dict):
            raise WrongError("the image's configuration is none")
        return document

    async def _get(self, what: str, largest: int, *, method: str = "GET") -> Answer:
        url = f"{'http' if self.plain else 'https'}://{self.image.host}/v2/{self.image.repository}/{what}"
        reached = await self._ask(method, url, largest, self._authorization)
        if reached.answer.status == 401 and self._authorization is None:
            challenge = reached.answer.headers.get("www-authenticate", "")
            self._authorization = await self._authorize(challenge, reached.nearness)
            reached = await self._ask(method, url, largest, self._authorization)
        return reached.answer

    async def _authorize(self, challenge: str, near: NetworkZone) -> str | None:
        scheme, _, rest = challenge.strip().partition(" ")
        told = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
        if scheme.lower() == "basic":
            return self._basic()
        if scheme.lower() != "bearer" or "realm" not in told:
            raise UnreadableError("the registry wants to know who asks, in a way that is not known here")
        query = {"scope": told.get("scope") or f"repository:{self.image.repository}:pull"}
        if "service" in told:
            query["service"] = told["service"]
        url = told["realm"] + ("&" if "?" in told["realm"] else "?") + urlencode(query)
        basic = self._basic() if self.login else None
        reached = await self._ask("GET", url, LARGEST_TOKEN, basic, near, whom="the registry's token server")
        if reached.answer.status != 200:
            raise UnreadableError(f"the registry's token server answered {reached.answer.status}{self._why(401)}")
        document = _json(reached.answer)
        token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,65536}", token):
            raise UnreadableError("the registry's token server gave no token")
        remember(token)
        return f"Bearer {token}"

    def _basic(self) -> str:
        if self.login is None:
            raise UnreadableError(f"the registry answered 401{self._why(401)}")
        encoded = base64.b64encode(":".join(self.login).encode()).decode()
        remember(encoded)
        return f"Basic {encoded}"

    async def _ask(
        self,
        method: str,
        url: str,
        largest: int,
        authorization: str | None,
        origin: NetworkZone | None = None,
        *,
        whom: str = "the registry",
    ) -> Reached:
        said = ""
        for n in range(TRIES):
            wait = AGAIN_AFTER * (n + 1)
            try:
                reached = await reach(
                    method,
                    url,
                    WITHIN,
                    headers={"Accept": ", ".join(INDEXES + MANIFESTS), "User-Agent": "deployment-specialist"},
                    secret_headers={"Authorization": authorization} if authorization else {},
                    largest=largest,
                    insecure=self.insecure,
                    origin=origin,
                    redirects=REDIRECTS if origin is None else 0,
                )
            except ForbiddenError as error:
                raise WrongError(f"{whom} leads elsewhere: {error}") from None
            except TooLargeError as error:
                raise WrongError(f"what {whom} sends is no manifest: {error}") from None
            except CannotAskError as error:
                raise UnreadableError(f"{whom} could not be asked: {error}") from None
            except NoAnswerError as error:
                said = f"did not answer: {error}"
            else:
                if reached.answer.status != 429 and reached.answer.status < 500:
                    return reached
                said = f"answered {reached.answer.status}"
                after = reached.answer.headers.get("retry-after", "")
                wait = float(after[:9]) if after.isdecimal() else wait
            if wait > LONGEST_WAIT:
                raise UnreadableError(f"{whom} {said}, and wants to be asked again in {wait:.0f} s")
            if n + 1 < TRIES:
                await asyncio.sleep(wait)
        raise UnreadableError(f"{whom} {said}, {TRIES} times")

    def _accepted(self, answer: Answer) -> Answer:
        if answer.status == 200:
            return answer
        code, said = _error(answer)
        if answer.status == 404:
            raise WrongError(f"it is not in the registry{said}")
        if answer.status in (401, 403):
            raise UnreadableError(f"the registry answered {answer.status}{self._why(answer.status)}{said}")
        raise UnreadableError(f"the registry answered {answer.status}{f' {code}' if code else ''}{said}")

    def _why(self, status: int) -> str:
        if self.login is None:
            return ": it wants a username and a password"
        return ": username or password are wrong" + (", or may not read this repository" if status else "")


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise WrongError("what the registry sends is no JSON") from None


def _error(answer: Answer) -> tuple[str, str]:
    """The first error's code and text, by the specification's form of errors."""
    try:
        document = json.loads(answer.body)
        first = document["errors"][0]
        return str(first["code"]), f" ({quote(first['code'], 60)}: {quote(first.get('message', ''))})"
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return "", ""
