"""What is handed out for clusters grants what the platform asks for, and not one verb more."""

from pathlib import Path

import yaml

from activities.platforms.kubernetes.rbac import NEEDED, READ_TOGETHER, THROUGH_THE_API, WITH_ITS_OWN_ROUTE

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def test_the_role_grants_exactly_what_preflight_asks_for() -> None:
    role = yaml.safe_load((FOLDER / "target" / "role.yaml").read_text())
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    wanted = {**NEEDED, **THROUGH_THE_API, **WITH_ITS_OWN_ROUTE}
    assert granted == {key: {*verbs, *READ_TOGETHER.get(key, ())} for key, verbs in wanted.items()}


def test_each_kustomization_lists_what_lies_beside_it() -> None:
    for kustomization in FOLDER.glob("*/kustomization.yaml"):
        listed = set(yaml.safe_load(kustomization.read_text())["resources"])
        if kustomization.parent.name == "overlay":
            assert listed == {"../worker"}
            continue
        assert listed == {path.name for path in kustomization.parent.glob("*.yaml")} - {"kustomization.yaml"}


def test_the_worker_is_nobody_who_may_do_anything() -> None:
    worker = yaml.safe_load((FOLDER / "worker" / "deployment.yaml").read_text())
    pod = worker["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
