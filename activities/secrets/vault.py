"""HashiCorp Vault's KV engine, version 2, by HTTP: one secret, in one request, with the cause when there is none.

Whoever asks may be a rollback that has twenty secrets and can do without (it keeps the values it ran with): a Vault
that does not answer is therefore not asked again for some seconds. The API: developer.hashicorp.com/vault/api-docs,
"KV secrets engine - version 2 (API)", "Read secret version".
"""

import json
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from models.errors import SecretUnavailableError, SecretUnresolvedError

ATTEMPTS = 2
WITHIN = 4.0
LARGEST = 1 << 20
NOT_AGAIN_FOR = 10.0
_CAUSES = {
    400: "it does not understand the question: is this mount a KV engine of version 2?",
    403: "the token may not read it, or is wrong or has expired",
    404: "there is no such secret, or no such mount",
    412: "it has not seen the newest data yet",
    429: "it is a standby node, or has a limit on requests",
    472: "it is a standby node",
    473: "it is a standby node",
    501: "it is not initialized",
    503: "it is sealed, or down for maintenance",
}
# Worth another try, by the list of status codes of Vault's API.
_PASSING = frozenset({412, 429, 472, 473, 500, 502, 503, 504})

_away: dict[str, float] = {}


@dataclass(frozen=True)
class Vault:
    """A Vault server and who asks it.

    Attributes:
        namespace: of Vault Enterprise; empty: the root.
        certificates: a file with the certificates of a company's own; empty: those of the system.
    """

    address: str
    token: str
    namespace: str = ""
    certificates: str = ""

    def read(self, mount: str, path: str, key: str) -> str:
        """The newest version's value under the key.

        Raises:
            SecretUnavailableError: Vault did not answer.
            SecretUnresolvedError: there is no such value, or it may not be read.
        """
        host = self._host()
        status, document = self._ask(host, f"/v1/{quote(mount, safe='')}/data/{quote(path)}")
        if status in _PASSING:
            raise SecretUnavailableError(f"Vault at {host} answered {status}: {_CAUSES.get(status, 'its own error')}")
        if status != 200:
            cause = "the secret was deleted" if _is_deleted(document) else _CAUSES.get(status, "that is no answer")
            raise SecretUnresolvedError(f"Vault at {host} answered {status}: {cause}")
        values = _inner(_inner(document, "data"), "data")
        if not isinstance(values, dict):
            raise SecretUnresolvedError(f"Vault at {host}: {_CAUSES[400].partition(': ')[2]}")
        if key not in values:
            raise SecretUnresolvedError(
                f"Vault at {host}: the secret has no key of that name, but {len(values)} others"
            )
        value = values[key]
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise SecretUnresolvedError(f"Vault at {host}: the value under that key is neither text nor a number")
        return value if isinstance(value, str) else json.dumps(value)

    def _host(self) -> str:
        try:
            url = httpx.URL(self.address)
        except httpx.InvalidURL:
            raise SecretUnresolvedError("VAULT_ADDR is no address") from None
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise SecretUnresolvedError("VAULT_ADDR is no address like https://vault.example.org:8200")
        if url.scheme == "http" and url.host not in ("localhost", "127.0.0.1", "::1"):
            raise SecretUnresolvedError(
                "VAULT_ADDR must be https: a secret never leaves this machine without encryption"
            )
        return url.netloc.decode("ascii")

    def _ask(self, host: str, path: str) -> tuple[int, Any]:
        if time.monotonic() < _away.get(host, 0.0):
            raise SecretUnavailableError(f"Vault at {host} did not answer a moment ago")
        headers = {"X-Vault-Token": self.token, "X-Vault-Request": "true", "Accept-Encoding": "identity"}
        headers |= {"X-Vault-Namespace": self.namespace} if self.namespace else {}
        said = ""
        for _ in range(ATTEMPTS):
            try:
                with (
                    httpx.Client(timeout=WITHIN, trust_env=False, verify=self._trusted()) as client,
                    client.stream("GET", self.address.rstrip("/") + path, headers=headers) as answer,
                ):
                    return answer.status_code, _parse(_read(answer, host))
            except httpx.LocalProtocolError:
                # Its text may quote the header that was wrong, and with it the token.
                raise SecretUnresolvedError("VAULT_TOKEN or VAULT_NAMESPACE cannot be sent in a header") from None
            except (httpx.RequestError, TimeoutError) as error:
                said = type(error).__name__
        _away[host] = time.monotonic() + NOT_AGAIN_FOR
        raise SecretUnavailableError(f"Vault at {host} did not answer ({said})")

    def _trusted(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.certificates) if self.certificates else _system()
        except (OSError, ssl.SSLError):
            raise SecretUnresolvedError("VAULT_CACERT names no file with certificates") from None


def _system() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _read(answer: httpx.Response, host: str) -> bytes:
    ends, body = time.monotonic() + WITHIN, bytearray()
    for chunk in answer.iter_raw():
        body += chunk
        if len(body) > LARGEST:
            raise SecretUnresolvedError(f"Vault at {host} sent more than {LARGEST >> 20} MiB")
        if time.monotonic() > ends:
            raise TimeoutError
    return bytes(body)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _inner(document: Any, key: str) -> Any:
    return document.get(key) if isinstance(document, dict) else None


def _is_deleted(document: Any) -> bool:
    metadata = _inner(_inner(document, "data"), "metadata")
    return bool(_inner(metadata, "deletion_time") or _inner(metadata, "destroyed"))
