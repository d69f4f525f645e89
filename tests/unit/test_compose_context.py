"""What an image is built from has one digest: over what Docker is given, and nothing else."""

import socket
from pathlib import Path
from typing import Any

import pytest

from activities.platforms.compose.build_context import context_digest, taken_from_elsewhere
from activities.platforms.compose.project import Project
from models.errors import PreconditionError
from models.platforms import ComposePlatformSpec


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "modules").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM base\nCOPY . .\n")
    (folder / "app.py").write_text("print(1)")
    (folder / "modules" / "large").write_text("1")
    (folder / "modules" / "needed").write_text("1")
    return folder


def project(context: Path | str, **build: Any) -> Project:
    platform = ComposePlatformSpec.model_validate({"kind": "compose", "service": "web", "listen": "127.0.0.1:8080"})
    model = {"name": "shop", "services": {"web": {"build": {"context": str(context), **build}}}}
    return Project(platform, "shop", model)


def digest(context: Path | str, **build: Any) -> str:
    return context_digest(project(context, **build))


def test_it_changes_with_each_file_and_with_the_dockerfile(context: Path) -> None:
    seen = [digest(context)]
    (context / "app.py").write_text("print(2)")
    seen.append(digest(context))
    (context / "app.py").chmod(0o755)
    seen.append(digest(context))
    (context / "link").symlink_to("/somewhere/else")
    seen.append(digest(context))
    (context / "Dockerfile").write_text("FROM other\n")
    seen.append(digest(context))
    seen.append(digest(context, target="production"))
    assert len(set(seen)) == len(seen)


def test_what_is_not_sent_does_not_count(context: Path) -> None:
    (context / ".dockerignore").write_text("# large\nmodules\n!modules/needed\n*.log\n")
    before = digest(context)
    (context / "modules" / "large").write_text("2")
    (context / "today.log").write_text("2")
    (context / ".git").mkdir()
    (context / ".git" / "index").write_text("2")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(context / "s"))
        assert digest(context) == before
    (context / "modules" / "needed").write_text("2")
    assert digest(context) != before


def test_a_dockerfile_may_have_a_list_of_its_own(context: Path) -> None:
    (context / ".dockerignore").write_text("*.log\n")
    (context / "Dockerfile.dockerignore").write_text("modules\n")
    before = digest(context)
    (context / "modules" / "large").write_text("2")
    assert digest(context) == before
    (context / "today.log").write_text("2")
    assert digest(context) != before


def test_another_folder_that_it_is_built_from_counts_too(context: Path) -> None:
    shared = context.parent / "shared"
    shared.mkdir()
    (shared / "rules").write_text("1")
    named = {"shared": str(shared), "base": "docker-image://base:1", "stage": "service:other"}
    before = digest(context, additional_contexts=named)
    assert before == digest(context, additional_contexts=named) != digest(context)
    (shared / "rules").write_text("2")
    assert digest(context, additional_contexts=named) != before
    with pytest.raises(PreconditionError, match=r"none, from which the image is built too"):
        digest(context, additional_contexts={"none": str(shared / "none")})


def test_what_an_image_takes_from_elsewhere_is_named(context: Path) -> None:
    (context / "Dockerfile").write_text(
        "FROM --platform=linux/amd64 node:22 AS build\nRUN make\nfrom build as test\nFROM scratch\n"
        f"FROM base@sha256:{'a' * 64}\nCOPY --from=build /app /app\n"
    )
    found = project(context, additional_contexts={"x": "docker-image://base:1", "y": str(context)})
    assert taken_from_elsewhere(found) == ["the image node:22 that it is built on", "docker-image://base:1"]


def test_what_a_service_reads_from_the_host_is_named(context: Path) -> None:
    found = project(context)
    found.model["services"]["web"] |= {
        "volumes": [{"type": "bind", "source": "/srv/conf"}, {"type": "volume", "source": "data"}],
        "configs": [{"source": "rules"}, {"source": "inline"}],
        "secrets": [{"source": "token"}, {"source": "given"}],
    }
    found.model["configs"] = {"rules": {"file": "/srv/rules"}, "inline": {"content": "1"}, "other": {"file": "/x"}}
    found.model["secrets"] = {"token": {"file": "/srv/token"}, "given": {"environment": "TOKEN"}}
    assert found.mounted == ["/srv/conf", "/srv/rules", "/srv/token"]
    assert project(context).mounted == []


def test_what_cannot_be_built_from_is_told(context: Path) -> None:
    with pytest.raises(PreconditionError, match="is no directory, seen from the worker"):
        digest(context / "none")
    with pytest.raises(PreconditionError, match="name its image"):
        digest("https://example.com/shop.git")
    with pytest.raises(PreconditionError, match=r"Dockerfile\.web cannot be read"):
        digest(context, dockerfile="Dockerfile.web")
