"""An image registry on the loopback, because images are named by digest, and only a registry gives an image one.

The layers are large and the same each time: what is pushed is a configuration, a small layer, and a base that the
registry has already.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers.kubernetes.images import digest, image_config
from tests.servers.kubernetes.processes import Servers

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class Registry:
    """A registry; `address` is how images in it are named, without a scheme."""

    def __init__(self, folder: Path, servers: Servers, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._folder, self._servers = folder, servers

    def start(self) -> None:
        """Starts it; it answers when this returns."""
        config = self._folder / "registry.yaml"
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self._folder / "registry")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address},
        }
        config.write_text(yaml.safe_dump(settings))
        self._servers.start("registry", "docker-registry", "serve", config)
        self._servers.wait("registry", self._answers)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/v2/", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def push(address: str, name: str, tag: str, layers: list[Path], **settings: Any) -> str:
    """Makes an image of these layers (tar files) and pushes it.

    Args:
        address: of the registry.
        name: of the image, without the registry.
        tag: under which it is found, beside its digest.
        layers: tar files, the base first.
        settings: of the image's configuration, like `Cmd`.

    Returns:
        the digest of its manifest.
    """
    with httpx.Client(base_url=f"http://{address}/v2/{name}", timeout=60, trust_env=False) as client:
        digests = [digest(layer) for layer in layers]
        for layer, known in zip(layers, digests, strict=True):
            _upload(client, known, layer.read_bytes)
        config = image_config(digests, settings)
        config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        _upload(client, config_digest, lambda: config)
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(config), "digest": config_digest},
            "layers": [
                {"mediaType": _LAYER, "size": layer.stat().st_size, "digest": known}
                for layer, known in zip(layers, digests, strict=True)
            ],
        }
        answer = client.put(f"/manifests/{tag}", content=json.dumps(document), headers={"Content-Type": _MANIFEST})
        answer.raise_for_status()
        return str(answer.headers["Docker-Content-Digest"])


def _upload(client: httpx.Client, known: str, content: Callable[[], bytes]) -> None:
    if client.head(f"/blobs/{known}").status_code == 200:
        return
    begun = client.post("/blobs/uploads/")
    begun.raise_for_status()
    url = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": known})
    headers = {"Content-Type": "application/octet-stream"}
    client.put(url, content=content(), headers=headers).raise_for_status()
