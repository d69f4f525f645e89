"""What the judge knows of a deployment: one e-process per metric over all of its steps, and the slice that is open.

The state travels in heartbeats, in the report of a watch and into the order of the next one: a watch that dies goes on
where it was, and what was seen at 5 % counts at 25 %. It changes only by `step`, `read` and `end`, which are functions:
the same reads give the same state, wherever each of them was taken.
"""

from datetime import datetime, timedelta

from models.base import WireModel
from models.judges.broken import Broken
from models.judges.latency import LatencyEvidence
from models.judges.power import Exposure
from models.judges.votes import Arm, Evidence, Tally
from models.release import Counters

# Between two reads: beyond this something was not seen as it happened, and is told.
GAP = timedelta(seconds=10)


class Reading(WireModel):
    """The router's counters of both revisions, at one moment.

    Attributes:
        starts: how often instances of the candidate were started, all together; a new one answers slowly at first.
    """

    at: datetime
    candidate: Counters = Counters()
    stable: Counters = Counters()
    starts: int = 0


class Settings(WireModel):
    """What a state is led by.

    Attributes:
        slice: how long one vote is collected.
        tolerated: how many times as many slow answers the candidate may have.
        warm_up: how long after the first answer of a new instance times do not count; None: times are not judged.
    """

    slice: timedelta = timedelta(seconds=10)
    tolerated: float = 1.25
    warm_up: timedelta | None = timedelta(seconds=30)


class Interruptions(WireModel):
    """What made reads incomparable, or rare.

    Attributes:
        resets: counters that were smaller than before; the slice was dropped.
        gaps: times without a read for more than ten seconds; the slice became longer.
        clock_jumps: reads older than the read before.
        restarts: attempts of a watch that went on with what another one had seen.
    """

    resets: int = 0
    gaps: int = 0
    clock_jumps: int = 0
    restarts: int = 0

    def plus(self, **more: int) -> "Interruptions":
        """The same, with more of these."""
        return self.model_copy(update={name: getattr(self, name) + number for name, number in more.items()})


class JudgeState(WireModel):
    """All that was seen of a deployment.

    Attributes:
        errors: the votes on errors.
        latency: the votes on times.
        broken: the quick test of the step that is watched.
        seen: what both answered in slices that were compared, over all steps.
        expected: the errors that the candidate would have had in these with stable's share in each of them.
        exposures: the slices of each step, for what they could have shown.
        began: the counters when the step began that is watched.
        opened: the counters when the open slice began, and when that was.
        last: the counters of the last read.
        warm_at: when times count again; None: no answer came since the last instance was started.
        starts: how often instances had been started.
    """

    errors: Evidence = Evidence()
    latency: LatencyEvidence = LatencyEvidence()
    broken: Broken = Broken()
    seen: Tally = Tally()
    expected: float = 0.0
    exposures: tuple[Exposure, ...] = ()
    began: Reading | None = None
    opened: Reading | None = None
    last: Reading | None = None
    warm_at: datetime | None = None
    starts: int = -1
    interruptions: Interruptions = Interruptions()

    @property
    def excess(self) -> float:
        """How much larger the candidate's share of errors was than stable's, each slice compared with itself."""
        answers = self.seen.candidate.answers
        return (self.seen.candidate.events - self.expected) / answers if answers else 0.0

    def step(self, began: Reading) -> "JudgeState":
        """The state at the beginning of a watch.

        Args:
            began: the counters when the step began. A watch that is extended began with the same ones, and goes on.
        """
        if self.began is None or _counts(self.began) != _counts(began):
            number = self.broken.number + (self.began is not None)
            return self.model_copy(
                update={
                    "broken": Broken(number=number, began=began.at),
                    "exposures": (*self.exposures, Exposure()),
                    "began": began,
                    "opened": began,
                    "last": began,
                }
            )
        return self

    def go_on(self) -> "JudgeState":
        """The state in the hands of another attempt."""
        return self.model_copy(update={"interruptions": self.interruptions.plus(restarts=1)})

    def read(self, now: Reading, by: Settings) -> "JudgeState":
        """The state after one more read of the counters."""
        if self.opened is None or self.last is None:
            return self.step(now)
        if _fell(self.last, now):
            again = self.interruptions.plus(resets=1)
            return self.model_copy(update={"opened": now, "last": now, "interruptions": again})
        since, interruptions = now.at - self.last.at, self.interruptions
        if since < timedelta(0):
            interruptions = interruptions.plus(clock_jumps=1)
        elif since > GAP:
            interruptions = interruptions.plus(gaps=1)
        update = {
            "broken": self.broken.read(_between(self.last, now), now.at),
            "last": now,
            "interruptions": interruptions,
            **self._warmth(now, by),
        }
        if since < timedelta(0):
            # The slice is as long as it was by the old clock.
            update["opened"] = self.opened.model_copy(update={"at": now.at - (self.last.at - self.opened.at)})
        return self.model_copy(update=update)._close(by.slice, by)

    def end(self, by: Settings) -> "JudgeState":
        """The state at the end of a watch: what follows it is no part of its last slice, however short that is."""
        return self._close(timedelta(0), by)

    def _warmth(self, now: Reading, by: Settings) -> dict[str, object]:
        assert self.last is not None  # noqa: S101  asked by `read` only
        answered = now.candidate.requests > self.last.candidate.requests
        if now.starts > self.starts:
            return {
                "starts": now.starts,
                "warm_at": now.at + by.warm_up if answered and by.warm_up is not None else None,
            }
        if self.warm_at is None and answered and by.warm_up is not None:
            return {"warm_at": now.at + by.warm_up}
        return {}

    def _close(self, length: timedelta, by: Settings) -> "JudgeState":
        if self.opened is None or self.last is None or self.last.at - self.opened.at < length:
            return self
        tally = _between(self.opened, self.last)
        if not tally.compares:
            return self
        latency = self.latency
        if by.warm_up is not None and self.warm_at is not None and self.opened.at >= self.warm_at:
            candidate = _since(self.opened.candidate, self.last.candidate)
            latency = latency.vote(candidate, _since(self.opened.stable, self.last.stable), by.tolerated)
        exposure = self.exposures[-1]
        exposure = Exposure(
            slices=exposure.slices + 1,
            answers=exposure.answers + tally.answers,
            candidate=exposure.candidate + tally.candidate.answers,
        )
        return self.model_copy(
            update={
                "errors": self.errors.vote(tally),
                "latency": latency,
                "seen": self.seen.plus(tally),
                "expected": self.expected + tally.candidate.answers * tally.stable.share,
                "exposures": (*self.exposures[:-1], exposure),
                "opened": self.last,
            }
        )


def _counts(reading: Reading) -> tuple[int, ...]:
    return (
        reading.candidate.requests,
        reading.candidate.errors,
        reading.stable.requests,
        reading.stable.errors,
    )


def _fell(before: Reading, now: Reading) -> bool:
    return any(was > is_ for was, is_ in zip(_counts(before), _counts(now), strict=True))


def _between(before: Reading, now: Reading) -> Tally:
    return Tally(
        candidate=_arm(_since(before.candidate, now.candidate)), stable=_arm(_since(before.stable, now.stable))
    )


def _since(before: Counters, now: Counters) -> Counters:
    return Counters(
        requests=now.requests - before.requests,
        errors=now.errors - before.errors,
        timed=max(0, now.timed - before.timed),
        within={edge: max(0, count - before.within.get(edge, 0)) for edge, count in now.within.items()},
    )


def _arm(counters: Counters) -> Arm:
    return Arm(answers=counters.requests, events=min(counters.errors, counters.requests))
