"""The images of the tests, on a Docker that can pull none: the small Debian with Python, and the router on top of it.

What is made `FROM` these runs like the published images that users have; their names say whose they are.
"""

import io
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import docker
import docker.errors

from embedded import binaries
from tests.servers import base_image

BASE = "deployment-specialist-tests/base:12"
TRAEFIK = "deployment-specialist-tests/traefik:3.7.15"


def provide(client: docker.DockerClient) -> None:
    """Sees that both images are there."""
    if not has(client, BASE):
        tar, (name, tag) = base_image.root_file_system(), BASE.split(":")
        with tar.open("rb") as file:
            client.api.import_image(src=file, repository=name, tag=tag, changes=["CMD /bin/sh"])
    if not has(client, TRAEFIK):
        lines = f'FROM {BASE}\nCOPY traefik /usr/local/bin/traefik\nENTRYPOINT ["/usr/local/bin/traefik"]\n'
        build(client, TRAEFIK, {"Dockerfile": lines, "traefik": binaries.find("traefik")})


def build(client: docker.DockerClient, name: str, files: dict[str, str | Path]) -> str:
    """Builds an image from texts and files, without a network; gives its id."""
    with _tar(files) as context:
        image, _ = client.images.build(
            fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True, network_mode="none"
        )
    return str(image.id)


def _tar(files: dict[str, str | Path]) -> IO[bytes]:
    """A tar of these files, all of them executable."""
    file = tempfile.TemporaryFile()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if isinstance(content, Path):
                info.size = content.stat().st_size
                with content.open("rb") as source:
                    tar.addfile(info, source)
            else:
                data = content.encode()
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    file.seek(0)
    return file


def has(client: docker.DockerClient, name: str) -> bool:
    """Whether the image is there."""
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        return False
    return True
