"""The cluster is shared: who comes later changes nothing for those who use it, and does not end it."""

import pytest

from tests.servers.kubernetes import cluster
from tests.servers.kubernetes.cluster import given, use
from tests.support.kubernetes_world import World

pytestmark = pytest.mark.platform("kubernetes")


def test_a_second_run_of_another_version_uses_the_cluster_that_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is tested is how the tests' own cluster is shared; one that was given is not theirs to share.
    if given() is not None:
        pytest.skip("the cluster is somebody else's")
    monkeypatch.setattr(cluster, "_fingerprint", lambda: "another version")
    with use() as second:
        assert second == world.cluster
    assert world.get("Namespace", "default", "") is not None
