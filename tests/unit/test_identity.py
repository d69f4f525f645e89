"""Instances know which release they are, in the words of what they send; what a user has said is left as it is."""

from pathlib import Path
from typing import Any

import pytest

from activities.platforms.local import revision_files
from activities.platforms.traefik.state import TargetStore
from home.paths import Home
from models.identity import NAMES, of_instance
from models.plan import make_revision, with_identity
from models.release import Release, Revision
from tests.unit.test_kubernetes_revisions import container, made
from tests.unit.test_kubernetes_revisions import revision as of_kubernetes
from tests.workflows.conftest import make_spec

TOLD = {
    "OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,service.version=1.1.0,deployment.environment.name=staging,"
    "deployment.id=1.1.0-abcdef",
    "SENTRY_RELEASE": "shop@1.1.0",
    "SENTRY_ENVIRONMENT": "staging",
    "DD_SERVICE": "shop",
    "DD_VERSION": "1.1.0",
    "DD_ENV": "staging",
}


def revision(**changes: Any) -> Revision:
    spec = make_spec(**changes)
    made_of = Release(service="shop", version=spec.release.version)
    return with_identity(make_revision(spec, made_of, "0000abcdef"), spec)


def local(environment: dict[str, str]) -> dict[str, Any]:
    return {"kind": "local", "run": ["true"], "listen": "127.0.0.1:8080", "environment": environment}


def test_a_revision_is_told_who_it_is() -> None:
    assert revision().identity == TOLD
    assert set(TOLD) == set(NAMES)


def test_what_the_spec_sets_is_the_users() -> None:
    found = revision(platform=local({"SENTRY_RELEASE": "mine", "DD_ENV": ""})).identity

    assert found == {name: value for name, value in TOLD.items() if name not in ("SENTRY_RELEASE", "DD_ENV")}


def test_sentrys_environment_has_the_name_that_the_spec_gives_it() -> None:
    observe = {"sentry": {"dsn": "env:DSN", "environment": "pre-production"}}

    assert revision(observe=observe).identity["SENTRY_ENVIRONMENT"] == "pre-production"


def test_it_can_be_turned_off() -> None:
    assert revision(observe={"identity": False}).identity == {}


def test_an_outline_travels_without_it() -> None:
    assert revision().outline().identity == {}
    assert revision().abridge().identity == TOLD


def test_a_process_gets_it_and_the_name_of_its_instance(tmp_path: Path) -> None:
    store = TargetStore(Home(tmp_path), "shop", "staging")
    mine = revision(platform=local({"DD_ENV": "mine"}))
    store.revision_folder(mine.id).mkdir(parents=True)

    found = revision_files.environment(store, mine)
    one = of_instance(found, mine.identity, "shop.staging.1.1.0-abcdef.1")

    assert found["DD_ENV"] == "mine"
    assert found["SENTRY_RELEASE"] == "shop@1.1.0"
    assert one["OTEL_RESOURCE_ATTRIBUTES"].endswith(",service.instance.id=shop.staging.1.1.0-abcdef.1")
    assert of_instance({"OTEL_RESOURCE_ATTRIBUTES": "mine"}, mine.identity, "1") == {"OTEL_RESOURCE_ATTRIBUTES": "mine"}


def pods(identity: dict[str, str], **changes: Any) -> dict[str, str | None]:
    deployment = made(of_kubernetes().model_copy(update={"identity": identity}))
    return {each["name"]: each.get("value") for each in container(deployment)["env"]}


def test_a_pod_gets_it() -> None:
    found = pods(TOLD)

    assert {name: found[name] for name in TOLD} == TOLD
    assert not set(TOLD) & set(pods({}))


@pytest.mark.parametrize("before", [{}, TOLD], ids=["from the user", "from an earlier deployment"])
def test_a_pod_keeps_what_the_user_says_and_not_what_an_earlier_deployment_said(
    before: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit import test_kubernetes_revisions as fixtures

    theirs = [{"name": "DD_ENV", "value": "theirs"}] if not before else []
    ours = [{"name": name, "value": "old"} for name in before]
    mark = [{"name": "DEPLOYMENT_SPECIALIST_IDENTITY", "value": ",".join(before)}] if before else []
    whole = fixtures.source()
    whole["spec"]["template"]["spec"]["containers"][0]["env"] += [*theirs, *ours, *mark]
    monkeypatch.setattr(fixtures, "source", lambda: whole)

    found = pods(TOLD)

    assert found["SENTRY_RELEASE"] == "shop@1.1.0"
    assert found["DD_ENV"] == ("theirs" if theirs else "staging")


def test_a_pod_whose_variables_come_from_a_config_map_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit import test_kubernetes_revisions as fixtures

    whole = fixtures.source()
    whole["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    monkeypatch.setattr(fixtures, "source", lambda: whole)

    assert not set(TOLD) & set(pods(TOLD))
