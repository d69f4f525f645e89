"""No image can be pulled: the few that the cluster needs are written by hand, in the format of `docker save`."""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

PAUSE = "docker.io/local/pause:1"
PYTHON = "docker.io/local/python:12"


def image_config(layers: Sequence[str], settings: Mapping[str, Any]) -> bytes:
    """An image's configuration; `layers` are the digests of the layers as they lie in the archive, uncompressed."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **settings},
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
    }
    return json.dumps(document, sort_keys=True).encode()


def archive(path: Path, name: str, layer: Path, **settings: Any) -> None:
    """Writes the archive of an image with one layer.

    Args:
        path: where to.
        name: the image's whole name.
        layer: a tar file.
        settings: of the image's configuration, like `Entrypoint`.
    """
    config = image_config([digest(layer)], settings)
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        add(tar, "config.json", config)
        add(tar, "manifest.json", json.dumps(manifest).encode())
        tar.add(layer, "layer.tar")


def program_layer(path: Path, program: Path) -> None:
    """A layer with nothing but one program in it, as `/pause`."""
    with tarfile.open(path, "w") as tar:
        add(tar, program.name, program.read_bytes(), 0o755)


def add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Adds a file, the same each time: no owner, no time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def digest(path: Path) -> str:
    """`sha256:…` of a file."""
    return _digest(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: Path, _: int) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def layer_of(folder: Path, where: str) -> Path:
    """A layer with the files of a folder, below `where`; a temporary file, the same bytes for the same files."""
    handle, name = tempfile.mkstemp(prefix="layer-", suffix=".tar")
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                add(tar, f"{where}/{path.relative_to(folder)}", path.read_bytes(), path.stat().st_mode & 0o777)
    return Path(name)
