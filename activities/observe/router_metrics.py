"""The router's counters judge a canary: a counter that stands still while users come would pass everything.

The front proxy is asked a few times, and the counters of the revision that serves must rise by at least as many.
"""

import asyncio
import time

from activities.check_result import Finding
from activities.http.client import CannotAskError, NoAnswerError, ask
from activities.platforms.base import Platform
from models.checks import RouterCheck
from models.release import Counters, Fence, Order, Split
from models.verdict import CheckResult

REQUESTS = 5
COUNTED_WITHIN = 5.0
READ_EVERY = 0.1


async def check_router_metrics(check: RouterCheck, platform: Platform) -> CheckResult:
    """Counts before and after `REQUESTS` requests.

    Raises:
        UnavailableError: the router does not tell its counters right now.
    """
    finding = Finding("router_metrics")
    spec, revision = check.spec, check.revision
    if not (await platform.capabilities(spec.platform)).counts_requests:
        return finding.skipped("nobody counts requests here: the platform's spec names no counters")
    # The fence of a reader orders nothing.
    order = Order(service=spec.service, target=spec.target, platform=spec.platform, fence=Fence(epoch=0, sequence=0))
    path = revision.endpoints.version or revision.endpoints.health or "/"
    before = await platform.split(order)
    try:
        url = check.base_url.rstrip("/") + path
        await asyncio.gather(
            *(ask("GET", url, spec.verify.timeout, headers=revision.health.headers) for _ in range(REQUESTS))
        )
    except CannotAskError as error:
        return finding.not_asked(f"{path} could not be asked: {error}")
    except NoAnswerError as error:
        return finding.failed(f"{path} did not answer through the front proxy: {error}")
    after = await platform.split(order)
    deadline = time.monotonic() + COUNTED_WITHIN
    while _risen(revision.id, before, after) < REQUESTS and time.monotonic() < deadline:
        await asyncio.sleep(READ_EVERY)
        after = await platform.split(order)
    risen = _risen(revision.id, before, after)
    evidence = {
        "revision": revision.id,
        "asked": REQUESTS,
        "before": _counted(revision.id, before).requests,
        "after": _counted(revision.id, after).requests,
        "weights": after.weights,
    }
    if risen < REQUESTS:
        return finding.failed(
            f"the router counted {risen} of {REQUESTS} requests to {revision.id} within {COUNTED_WITHIN:g} s",
            **evidence,
        )
    return finding.passed(f"the router counted all {REQUESTS} requests", **evidence)


def _risen(revision: str, before: Split, after: Split) -> int:
    """Requests counted in between: of the revision while it has all the traffic, of all revisions otherwise."""
    counted = {revision} if after.weights.get(revision) == 100 else before.counters.keys() | after.counters.keys()
    return sum(_counted(name, after).requests - _counted(name, before).requests for name in counted)


def _counted(revision: str, split: Split) -> Counters:
    return split.counters.get(revision, Counters())
