"""What a watch is asked and what it answers."""

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from models.base import WireModel
from models.judges.state import JudgeState
from models.release import Counters, Order, Revision, Split
from models.spec import JudgeSpec
from models.verdict import Verdict


class WatchOrder(Order):
    """Watch the candidate until the deadline; on a failing verdict take its weight to 0 at once, then report.

    Attributes:
        stable: where the traffic goes when the candidate fails; None when nothing else can serve.
        instances: how many candidate instances are probed.
        began: the counters when the step began; what they count beyond this is judged.
        restarts: the instances' restarts when the step began.
        weight: percent of the traffic that the candidate has; None: whoever asks does not say.
        slice: how long one vote is collected.
        state: what the judge knows of the deployment from the watches before.
        deadline: decided by the workflow; a retry goes on to the same moment.
        fence: also that of the shift to 0.
    """

    candidate: Revision
    stable: Revision | None
    instances: int
    judge: JudgeSpec
    min_requests: int
    began: dict[str, Counters] = Field(default_factory=dict)
    restarts: dict[str, int] = Field(default_factory=dict)
    weight: int | None = None
    slice: timedelta = timedelta(seconds=10)
    state: JudgeState | None = None
    deadline: datetime


class WatchReport(WireModel):
    """What the watch found.

    Attributes:
        verdict_at: when the verdict was reached.
        stable_at: when the router confirmed 100 % stable; None when the watch moved nothing.
        split: the split in force after that.
        stable_probed: stable answered its health probe a moment before the traffic went to it.
        state: what the judge knows of the deployment, for the next watch.
        could_not_see: it is inconclusive only because `judge.catch` could not have been seen.
    """

    verdict: Verdict
    reason: str
    evidence: dict[str, Any] = Field(default_factory=dict)
    verdict_at: datetime
    stable_at: datetime | None = None
    split: Split | None = None
    stable_probed: bool | None = None
    state: JudgeState | None = None
    could_not_see: bool = False
