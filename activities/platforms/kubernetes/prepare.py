"""Before its first pod, a revision needs all that its pods are made of: a template, configuration, a Service.

What is to be made is written into the target's state first, then made. Whatever an attempt leaves when it dies is
found there, and made once: an object that exists is the one that an earlier attempt has made.
"""

import asyncio
import copy
from collections.abc import Mapping

from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.cluster import Cluster
from activities.platforms.kubernetes.config_copies import create_once, environment_secret, rewrite_references
from activities.platforms.kubernetes.manifests import (
    CHANGED,
    MANIFESTS_DIGEST,
    Manifests,
    apply_others,
    read_manifests,
)
from activities.platforms.kubernetes.names import HASH, MADE, NOBODY, REVISION, TRAFFIC, revision_name, target_label
from activities.platforms.kubernetes.objects import (
    choose_container,
    choose_port,
    labels_of,
    make_deployment,
    make_service,
    traffic_selector,
)
from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState, KubernetesTargetStore
from activities.platforms.kubernetes.traffic import Traffic
from models.errors import FencedOutError, PreconditionError, WriteConflictError
from models.platforms import KubernetesPlatformSpec
from models.release import Order, Revision

_OURS = frozenset({REVISION, TRAFFIC, HASH})


class Preparing:
    """Makes what a revision's pods need."""

    def __init__(self, cluster: Cluster, platform: KubernetesPlatformSpec, traffic: Traffic) -> None:
        self._cluster, self._platform, self._traffic = cluster, platform, traffic

    async def manifests(self) -> Manifests:
        """What the release's own manifests say."""
        return await asyncio.to_thread(read_manifests, self._platform, self._cluster.namespace)

    async def source(self, manifests: Manifests) -> Json:
        """The Deployment that the revision's pods are made after.

        Raises:
            PreconditionError: nobody says what they are made of.
        """
        name = self._platform.deployment
        found = manifests.deployment or await self._cluster.api.get(self._cluster.apps("deployments", name))
        if found is None:
            where = f"in {self._platform.manifests}, nor" if self._platform.manifests else "in platform.manifests, nor"
            raise PreconditionError(f"there is no Deployment {name} {where} in the namespace {self._cluster.namespace}")
        return found

    async def users_service(self, manifests: Manifests) -> Json:
        """The Service that users' requests go through, as it is or is going to be.

        Raises:
            PreconditionError: there is none, or it selects no pods.
        """
        found = await self._traffic.users_service() or manifests.service
        name = self._platform.service_name
        if found is None:
            raise PreconditionError(f"there is no Service {name} in the namespace {self._cluster.namespace}")
        if not found["spec"].get("selector"):
            raise PreconditionError(f"the Service {name} selects no pods: it cannot be led to a revision")
        return found

    async def prepare(self, store: KubernetesTargetStore, order: Order, revision: Revision) -> KubernetesRevisionRecord:
        """Make what is missing of a revision but its pods.

        Raises:
            PreconditionError: something that it needs is not there.
            SecretUnresolvedError: a secret of its environment cannot be read.
        """
        manifests = await self.manifests()
        pinned = revision.release.digests.get(MANIFESTS_DIGEST, manifests.digest)
        if pinned != manifests.digest:
            where = self._platform.manifests
            raise PreconditionError(CHANGED.format(manifests=where, was=pinned, now=manifests.digest))
        source, users = await asyncio.gather(self.source(manifests), self.users_service(manifests))
        kept = self.plan(revision, source, users)
        labels = labels_of(revision, store.label)
        template = copy.deepcopy(source["spec"]["template"])
        copies = await rewrite_references(self._cluster, template, manifests, revision, labels)
        secret = await asyncio.to_thread(environment_secret, revision, self._platform.deployment, labels)
        if secret is not None:
            copies.append((self._cluster.core("secrets"), secret))
        kept.copies = [f"{collection}/{thing['metadata']['name']}" for collection, thing in copies]
        # Values of its environment are in the Deployment; the state's ConfigMap has room for none.
        noted = kept.model_copy(update={"revision": revision.abridge()})
        await store.change(lambda state: state.revisions.setdefault(revision.id, noted))
        await self.surround(store, manifests)
        for collection, thing in copies:
            await create_once(self._cluster, collection, thing)
        deployment = make_deployment(source, template, kept, order, store.label)
        await create_once(
            self._cluster, self._cluster.core("services"), make_service(kept, users, store.label, order.fence)
        )
        await create_once(self._cluster, self._cluster.apps("deployments"), deployment)
        await self._still_ours(store, kept)
        state, _ = await store.change(lambda state: setattr(state.kept(revision.id), "prepared", True))
        return state.kept(revision.id)

    async def surround(self, store: KubernetesTargetStore, manifests: Manifests) -> None:
        """Make the users' Service and route where there are none yet, and apply the rest of the manifests."""
        target = target_label(store.service, store.target)
        mine: list[tuple[str, Json]] = []
        if manifests.service and await self._traffic.users_service() is None:
            # It leads to nobody until somebody has traffic.
            service = bound(manifests.service, {REVISION: NOBODY}, target)
            mine.append((self._cluster.core("services"), service))
        if manifests.route and await self._traffic.users_route() is None:
            collection = self._cluster.route("x").rpartition("/")[0]
            mine.append((collection, bound(manifests.route, None, target)))
        if self._platform.route and not manifests.route and await self._traffic.users_route() is None:
            raise PreconditionError(
                f"there is no HTTPRoute {self._platform.route} in the namespace {self._cluster.namespace}"
            )
        paths = [f"{collection}/{thing['metadata']['name']}" for collection, thing in mine]
        await store.change(lambda state: _note_made(state, paths))
        for collection, thing in mine:
            await self._create(collection, thing)
        applied = await apply_others(self._cluster, self._platform, manifests, target)
        paths = [path for path, _, now in applied if (now["metadata"].get("labels") or {}).get(MADE) == target]
        await store.change(lambda state: _note_made(state, paths))

    async def bind_users(self, store: KubernetesTargetStore) -> KubernetesTargetState:
        """Before a candidate's first pod: the users' Service leads to stable, and to nobody else."""
        users = await self._traffic.users_service()
        selector = dict(((users or {}).get("spec") or {}).get("selector") or {})
        bare = {key: value for key, value in selector.items() if key not in _OURS}

        def note(state: KubernetesTargetState) -> None:
            # What its owner has given it since counts; what we had bound it to does not.
            state.base = bare if bare or state.base is None else state.base
            state.bound = state.whole() or state.stable

        state, _ = await store.change(note)
        stable = state.revisions.get(state.stable or "")
        if users is not None and stable is not None and stable.adopted:
            service = make_service(stable, users, store.label, store.fence)
            await create_once(self._cluster, self._cluster.core("services"), service)
        # Without a route, pods that share the traffic share the users' Service.
        if self._platform.route or state.whole() or not state.weights:
            await self._traffic.bind(state, state.bound)
        return state

    async def remove(self, kept: KubernetesRevisionRecord) -> None:
        """Remove all objects of a revision but an adopted Deployment, which is not ours to remove."""
        api, cluster = self._cluster.api, self._cluster
        if not kept.adopted:
            await api.delete(cluster.apps("deployments", kept.deployment))
        await asyncio.gather(
            api.delete(cluster.core("services", kept.service)), *(api.delete(path) for path in kept.copies)
        )

    def plan(self, revision: Revision, source: Json, users: Json) -> KubernetesRevisionRecord:
        """How a revision is going to be known."""
        return KubernetesRevisionRecord(
            revision=revision,
            deployment=revision_name(self._platform.deployment, revision.id),
            service=revision_name(self._platform.service_name, revision.id),
            selector=traffic_selector(revision),
            container=choose_container(source["spec"]["template"], self._platform),
            port=choose_port(self._platform, users),
        )

    async def _create(self, collection: str, thing: Json) -> None:
        try:
            await self._cluster.api.create(collection, thing)
        except WriteConflictError:
            return  # somebody was faster: it is there

    async def _still_ours(self, store: KubernetesTargetStore, kept: KubernetesRevisionRecord) -> None:
        try:
            await store.check()
        except FencedOutError:
            # What was removed meanwhile by somebody newer must not come back through us.
            if kept.revision.id not in (await store.read()).revisions:
                await self.remove(kept)
            raise


def bound(thing: Json, extra: Mapping[str, str] | None, target: str) -> Json:
    """An object of the manifests as it is first made: marked as made by us, and leading where it should."""
    made = copy.deepcopy(thing)
    made["metadata"]["labels"] = {**(made["metadata"].get("labels") or {}), MADE: target}
    if extra is not None:
        made["spec"]["selector"] = {**(made["spec"].get("selector") or {}), **extra}
    return made


def _note_made(state: KubernetesTargetState, paths: list[str]) -> None:
    state.made = [*state.made, *(path for path in paths if path not in state.made)]
