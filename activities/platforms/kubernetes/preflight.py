"""What a cluster will refuse half way is better known before anything changes: it is asked all of it beforehand.

Everything is asked side by side, and only read, or tried without being kept. What cannot be asked is no pass.
"""

import asyncio
from collections.abc import Awaitable, Callable

from activities.check_result import Finding
from activities.platforms.kubernetes.api import Json
from activities.platforms.kubernetes.capacity import lacking, surge
from activities.platforms.kubernetes.context import Target
from activities.platforms.kubernetes.diff import foresee
from activities.platforms.kubernetes.manifests import CHANGED, MANIFESTS_DIGEST
from activities.platforms.kubernetes.objects import IMAGE_DIGEST, choose_container
from activities.platforms.kubernetes.ownership import other_holder
from activities.platforms.kubernetes.pods import conditions
from activities.platforms.kubernetes.rbac import missing, needed
from activities.platforms.probes import ask_as_user
from activities.preflight.measured import UnreadableError, WrongError
from activities.preflight.registry import Registry
from activities.secrets.resolver import resolve
from models.checks import Examination, PreflightCheck
from models.errors import PlatformError, SecretUnresolvedError, UnavailableError
from models.platforms.kubernetes import Reach
from models.preflight.artifacts import ImageName
from models.verdict import CheckResult

# One answer that is late says nothing.
ASKED_AT_MOST = 3
TAG_TRAVELS = "{} is not pinned to a digest: {}. Its tag travels"


class Examining:
    """Everything that is asked of the cluster before one deployment."""

    def __init__(self, target: Target, check: PreflightCheck) -> None:
        self._target, self._check, self._spec = target, check, check.spec
        self._cluster, self._platform = target.cluster, target.platform

    async def examine(self) -> Examination:
        """All checks, the image's digest, and what is going to change."""
        checks = await asyncio.gather(
            *(
                self._asked(name, ask)
                for name, ask in {
                    "cluster": self._reachable,
                    "permissions": self._permissions,
                    "unclaimed": self._unclaimed,
                    "capacity": self._capacity,
                    "no_other_rollout": self._no_other_rollout,
                    "address": self._address,
                }.items()
            )
        )
        digests: dict[str, str] = {}
        image, (described, changes) = await asyncio.gather(
            self._asked("image", lambda finding: self._image(finding, digests)), self._changes(digests)
        )
        return Examination(checks=(*checks, image, described), digests=digests, changes=changes)

    async def _asked(self, name: str, ask: Callable[[Finding], Awaitable[CheckResult]]) -> CheckResult:
        finding = Finding(name)
        try:
            return await ask(finding)
        except UnavailableError as error:
            return finding.not_asked(str(error))
        except PlatformError as error:
            return finding.failed(str(error))

    async def _reachable(self, finding: Finding) -> CheckResult:
        said = await self._cluster.api.get("/version") or {}
        return finding.passed(f"Kubernetes {said.get('gitVersion')}, namespace {self._cluster.namespace}")

    async def _permissions(self, finding: Finding) -> CheckResult:
        manifests = await self._target.preparing.manifests()
        through_api = self._cluster.reach is Reach.API
        wanted = needed(self._platform, through_api=through_api, makes_route=manifests.route is not None)
        denied = await missing(self._cluster, wanted)
        if denied:
            return finding.failed(f"this account may not {', '.join(denied)} in {self._cluster.namespace}")
        return finding.passed(f"all {sum(len(verbs) for verbs in wanted.values())} are granted")

    async def _unclaimed(self, finding: Finding) -> CheckResult:
        holder = await other_holder(self._cluster, self._platform, self._spec.service, self._spec.target)
        if holder:
            return finding.failed(f"{self._platform.deployment}, its Service or its route belongs to {holder}")
        return finding.passed("no other target has the Deployment, the Service or the route")

    async def _capacity(self, finding: Finding) -> CheckResult:
        source = await self._target.preparing.source(await self._target.preparing.manifests())
        state = await self._target.known()
        stable = state.revisions.get(state.stable or "")
        more = surge(self._spec, all_stay=stable is not None and stable.adopted)
        short, unseen = await lacking(self._cluster, source["spec"]["template"], more)
        if short:
            return finding.failed("; ".join(short))
        return finding.passed(f"there is room for {more} more pods{f'; {unseen}' if unseen else ''}", surge=more)

    async def _no_other_rollout(self, finding: Finding) -> CheckResult:
        state = await self._target.known()
        stable = state.revisions.get(state.stable or "")
        if stable is None:
            return finding.passed("nothing serves yet")
        deployment = await self._target.staging.deployment(stable)
        wrong = _under_way(deployment)
        if wrong:
            return finding.failed(f"the Deployment {stable.deployment} {wrong}")
        return finding.passed(f"the Deployment {stable.deployment} is as it is meant to be")

    async def _address(self, finding: Finding) -> CheckResult:
        if (await self._target.known()).stable is None:
            return finding.passed("nothing serves yet")
        for _ in range(ASKED_AT_MOST):
            verify = self._spec.verify
            status, _ = await ask_as_user(self._target.direct, self._platform.base_url, verify.endpoints, verify.rule)
            if status:
                return finding.passed(f"the worker reaches {self._platform.base_url}", status=status)
        return finding.not_asked(
            f"{self._platform.base_url} does not answer the worker, which will ask there, as users do, whether the "
            "release is well: platform.url has to lead to the gateway from where the worker runs"
        )

    async def _image(self, finding: Finding, digests: dict[str, str]) -> CheckResult:
        reference = self._platform.image_of(self._spec.release.version)
        expected = self._check.expected.get(IMAGE_DIGEST)
        try:
            digest = await self._digest_of(ImageName.of_runtime(reference))
        except WrongError as error:
            if await self._is_pulled():
                return finding.failed(f"the registry has no image {reference}: {error}")
            return finding.skipped(TAG_TRAVELS.format(reference, "it is not pulled"))
        except (UnreadableError, ValueError) as error:
            if self._platform.registry is None:
                return finding.skipped(TAG_TRAVELS.format(reference, error))
            return finding.not_asked(f"{reference} cannot be pinned to a digest: {error}")
        except SecretUnresolvedError as error:
            return finding.not_asked(f"platform.registry: {error}")
        if expected and expected != digest:
            return finding.failed(f"{reference} was sha256:{expected[:12]}…, and is sha256:{digest[:12]}… now")
        digests[IMAGE_DIGEST] = digest
        return finding.passed(f"{reference} is sha256:{digest[:12]}…", digest=digest)

    async def _digest_of(self, image: ImageName) -> str:
        """What its name says, or its registry, without `sha256:`."""
        if image.digest:
            return image.digest.removeprefix("sha256:")
        login = None
        if (asked := self._platform.registry) is not None:
            login = (
                await asyncio.to_thread(resolve, asked.username),
                await asyncio.to_thread(resolve, asked.password),
            )
        digest = await Registry(image, login).resolve(str(image.tag))
        kind, _, value = digest.partition(":")
        if kind != "sha256":
            raise UnreadableError(f"the registry's digest is {kind}, not sha256")
        return value

    async def _is_pulled(self) -> bool:
        source = await self._target.preparing.source(await self._target.preparing.manifests())
        name = choose_container(source["spec"]["template"], self._platform)
        container = next(each for each in source["spec"]["template"]["spec"]["containers"] if each["name"] == name)
        return str(container.get("imagePullPolicy")) != "Never"

    async def _changes(self, digests: dict[str, str]) -> tuple[CheckResult, tuple[str, ...]]:
        changes: list[str] = []

        async def ask(finding: Finding) -> CheckResult:
            digest = (await self._target.preparing.manifests()).digest
            expected = self._check.expected.get(MANIFESTS_DIGEST, digest)
            if digest:
                digests[MANIFESTS_DIGEST] = digest
            if expected != digest:
                return finding.failed(CHANGED.format(manifests=self._platform.manifests, was=expected, now=digest))
            changes.extend(await foresee(self._target, self._spec))
            return finding.passed(f"the cluster would take all {len(changes)} changes")

        return await self._asked("changes", ask), tuple(changes)


def _under_way(deployment: Json) -> str:
    """Whose hands the Deployment is in; empty when it is in nobody's."""
    spec, status = deployment["spec"], deployment.get("status", {})
    if spec.get("paused"):
        return "is paused"
    if int(status.get("observedGeneration") or 0) < int(deployment["metadata"].get("generation") or 0):
        return "has just been changed: its controller has not seen that yet"
    wanted, updated = int(spec.get("replicas") or 0), int(status.get("updatedReplicas") or 0)
    if updated < wanted or int(status.get("replicas") or 0) > updated:
        said = next((one.get("message") for one in conditions(deployment) if one.get("type") == "Progressing"), "")
        return f"is being rolled out by somebody else: {updated} of {wanted} pods are new. {said}".strip()
    return ""
