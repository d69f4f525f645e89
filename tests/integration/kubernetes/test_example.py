"""What a user of a cluster is given really runs there: the example's spec, and the worker's manifests."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.kubernetes.product_env import RATE, ClusterEnv
from tests.servers.kubernetes.gateway import listener
from tests.support.kubernetes_world import World
from tests.support.product_env import ended
from tests.support.scenarios import side_by_side

pytestmark = [pytest.mark.platform("kubernetes"), pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
SHOP = ROOT / "examples" / "shop"
DEPLOY = ROOT / "deploy" / "kubernetes"


@side_by_side
async def test_the_shop_deploys_with_only_its_platform_changed(living: ClusterEnv) -> None:
    service = living.service()
    spec, local = (yaml.safe_load((SHOP / name).read_text()) for name in ("kubernetes.yaml", "deployment.yaml"))
    assert {**spec, "platform": None} == {**local, "platform": None}
    lies_in = service.folder / "shop"
    lies_in.mkdir()
    (lies_in / "app.py").write_text((SHOP / "app.py").read_text())
    for version in ("1.0.0", "1.1.0"):
        living.world.image(f"{service.name}-{version}", lies_in)
    manifests = list(yaml.safe_load_all((SHOP / "kubernetes" / "shop.yaml").read_text()))
    namespace, _, gateway = living.world.cluster.gateway.partition("/")
    parent = {"name": gateway, "namespace": namespace, "sectionName": listener(int(service.listen.split(":")[1]))}
    manifests[2]["spec"]["parentRefs"] = [parent]
    (lies_in / "shop.yaml").write_text(yaml.safe_dump_all(manifests))
    spec["platform"] |= {
        "kubeconfig": living.world.kubeconfig,
        "namespace": service.namespace,
        "manifests": "shop.yaml",
        "image": service.image("{version}"),
        "url": f"http://{service.listen}",
        "counters": {"urls": [living.world.cluster.metrics]},
    }
    spec["service"] = service.name
    spec["strategy"] |= {
        "deadline": "2m",
        "bake": "1s",
        "steps": [{"weight": 50, "watch": "2s"}, {"weight": 100, "watch": "1s"}],
    }
    service.spec = lies_in / "kubernetes.yaml"
    service.spec.write_text(yaml.safe_dump(spec))
    ended(await service.deploy("1.0.0", "rehearse.enabled=false"), "deployed", 0)
    async with service.users(rate=RATE):
        ended(await service.deploy("1.1.0", "rehearse.enabled=false"), "deployed", 0)
        assert await service.answers() == {"1.1.0"}


def test_the_workers_manifests_are_what_the_cluster_wants(world: World) -> None:
    namespace = world.namespace("worker", granted=False)
    made: list[dict[str, Any]] = []
    for folder in ("worker", "target"):
        for path in sorted((DEPLOY / folder).glob("*.yaml")):
            document = yaml.safe_load(path.read_text())
            if document["kind"] not in ("Kustomization", "Namespace"):
                made.append(world.apply(document, namespace))
    assert {one["kind"] for one in made} == {"Deployment", "ServiceAccount", "Role", "RoleBinding"}
    world.remove_namespace(namespace)
