"""`init`: a first spec file from what is there already."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.exits import CommandError
from cli.invocation import program
from cli.render.terminal import clean, say

if TYPE_CHECKING:
    from cli.spec.starters import Start

_COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_LARGEST = 4 << 20


@click.command()
@click.argument("source", nargs=-1, type=click.UNPROCESSED, metavar="[SOURCE]")
@click.option("--service", metavar="NAME", help="Which service of the Compose file, or which Deployment.")
@click.option("--target", default="staging", show_default=True, metavar="NAME", help="The target of the spec.")
@click.option("--context", metavar="NAME", help="Of the kubeconfig, for deployment/NAME.")
@click.option("--namespace", metavar="NAME", help="Of the Deployment, for deployment/NAME.")
@click.option("--to", default="deployment.yaml", show_default=True, metavar="FILE", help="The file that is written.")
def init(
    source: tuple[str, ...],
    service: str | None,
    target: str,
    context: str | None,
    namespace: str | None,
    to: str,
) -> None:
    r"""Write a first spec file from what is there, and the JSON Schema that editors check it with beside it.

    SOURCE is a Compose file; a file or folder with manifests; deployment/NAME in the cluster; or a command, after --.
    Without SOURCE, the Compose file of the current folder. No file that is there is written over.

    \b
    Example:
      deployment-specialist init docker-compose.yml --service web
      deployment-specialist init deployment/shop --namespace shops
      deployment-specialist init -- python3 app.py
    """
    from cli.spec.starters import SCHEMA_FILE, spec_text

    file = Path(to)
    if file.exists():
        raise CommandError(f"{clean(to)} is there already; --to FILE writes another one")
    text = spec_text(_start(source, file, service, context, namespace), target)
    schema = file.with_name(SCHEMA_FILE)
    _check(text)
    try:
        file.write_text(text, encoding="utf-8")
        if not schema.exists():
            schema.write_text(_schema(), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{clean(str(error.filename))} cannot be written: {error.strerror}") from None
    say(f"{to} is written; read it, above all the lines with a comment")
    say(f"  {program()} plan {to}")
    say(f"  {program()} deploy {to}")


def _start(
    source: tuple[str, ...], file: Path, service: str | None, context: str | None, namespace: str | None
) -> "Start":
    from cli.spec.starters import from_command, from_compose, from_kubernetes

    if not source:
        found = next((name for name in _COMPOSE_FILES if Path(name).is_file()), None)
        if found is None:
            raise CommandError(
                "there is no Compose file here; SOURCE is a file, deployment/NAME, or a command after --"
            )
        source = (found,)
    first = source[0]
    if len(source) == 1 and first.startswith(("deployment/", "deploy/", "deployment.apps/")):
        name = first.partition("/")[2]
        return from_kubernetes(_from_cluster(name, context, namespace), None, name, context)
    if len(source) == 1 and Path(first).exists():
        documents = _documents(Path(first))
        relative = os.path.relpath(first, file.parent or ".")
        if any(isinstance(each, dict) and isinstance(each.get("services"), dict) for each in documents):
            return from_compose(documents[0], relative, service)
        if any(isinstance(each, dict) and "kind" in each for each in documents):
            return from_kubernetes(documents, relative, service, context)
        raise CommandError(
            f"{clean(first)} is neither a Compose file nor has it a Deployment; "
            f"a command is given with its program: `{program()} init -- python3 {clean(first)}`"
        )
    return from_command(source, Path.cwd().name)


def _documents(path: Path) -> list[Any]:
    import yaml

    files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json")) if path.is_dir() else [path]
    documents: list[Any] = []
    for file in files:
        try:
            with file.open(encoding="utf-8") as opened:
                documents += [each for each in yaml.safe_load_all(opened.read(_LARGEST)) if each is not None]
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            if not path.is_dir():
                raise CommandError(f"{clean(str(file))} cannot be read: {clean(str(error), 200)}") from None
    return documents


def _from_cluster(name: str, context: str | None, namespace: str | None) -> list[Any]:
    """The Deployment, and the Services and HTTPRoutes of its namespace."""
    import kubernetes
    import urllib3
    from kubernetes.client import ApiException
    from kubernetes.config import ConfigException

    try:
        api = kubernetes.config.new_client_from_config(context=context)
        space = namespace or _namespace(kubernetes.config.list_kube_config_contexts(), context)
        deployment = kubernetes.client.AppsV1Api(api).read_namespaced_deployment(name, space, _request_timeout=10)
        services = kubernetes.client.CoreV1Api(api).list_namespaced_service(space, _request_timeout=10)
    except ApiException as error:
        raise CommandError(f"the cluster does not give deployment/{clean(name)}: {clean(str(error.reason))}") from None
    except (ConfigException, OSError, urllib3.exceptions.HTTPError) as error:
        raise CommandError(f"the cluster cannot be asked: {clean(str(error), 300)}") from None
    plain: Any = api.sanitize_for_serialization
    objects: list[Any] = [plain(deployment) | {"kind": "Deployment"}]
    objects += [plain(each) | {"kind": "Service"} for each in services.items]
    try:
        routes: Any = kubernetes.client.CustomObjectsApi(api).list_namespaced_custom_object(
            "gateway.networking.k8s.io", "v1", space, "httproutes", _request_timeout=10
        )
        objects += [{**each, "kind": "HTTPRoute"} for each in routes.get("items", ())]
    except (ApiException, urllib3.exceptions.HTTPError):
        say("the cluster shows no HTTPRoutes: traffic would be divided by the number of pods")
    return objects


def _namespace(contexts: Any, wanted: str | None) -> str:
    everything, current = contexts
    chosen = next((each for each in everything if each["name"] == wanted), current) if wanted else current
    return str(chosen.get("context", {}).get("namespace") or "default")


def _check(text: str) -> None:
    """What is written is a spec; paths are those of the machine that it is for."""
    import yaml
    from pydantic import ValidationError

    from models.errors import SpecError
    from models.spec import DeploymentSpec

    try:
        DeploymentSpec.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpecError(f"no spec can be made of it: {where}: {clean(str(first['msg']), 300)}") from None


def _schema() -> str:
    import json

    from cli.commands.deploy import spec_schema

    return json.dumps(spec_schema(), indent=2) + "\n"
