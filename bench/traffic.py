"""How fast users are taken away from a bad release, what the steps cost, and whether a request was lost meanwhile."""

from collections.abc import Sequence
from datetime import datetime

from bench.rows import Row, make_row
from bench.world import World
from examples.load import Load, LoadResult
from models.messages import Request
from models.outcome import Outcome
from models.report import DeploymentReport
from models.verdict import Stage, StageResult
from workflows import wire_names

STEPS_TIMES = 5
GOAL_STEPS = 2.0
WATCH_LONG = {"kind": "canary", "steps": [{"weight": 50, "watch": "5m"}, {"weight": 100, "watch": "1s"}]}
FIVE = {
    "kind": "canary",
    "steps": [{"weight": weight, "watch": "0s"} for weight in (5, 25, 50, 75, 100)],
    "bake": "0s",
}


def last_answer_after(load: LoadResult, version: str, moment: float) -> float:
    """Seconds from the moment to the last answer that a user got from that version; 0 when there was none after it."""
    answers = [each.answered_at for each in load.records if each.version == version]
    return max(0.0, max(answers, default=moment) - moment)


async def verdict_to_stable(world: World) -> list[Row]:
    """From the failing verdict to the last answer of the candidate, as clients see it."""
    to_last, to_router = [], []
    await world.deploy(world.spec("1.0.0"))
    for n in range(world.measured.times):
        version = f"2.0.{n}"
        with Load(world.url, world.measured.rate) as load:
            report = await world.deploy(world.spec(version, errors=1.0, strategy=WATCH_LONG))
            seen = load.stop()
        assert report.outcome is Outcome.ROLLED_BACK, report.failure
        to_last.append(last_answer_after(seen, version, verdict_at(report.stages)))
        assert report.measured.verdict_to_stable is not None, report.failure
        to_router.append(report.measured.verdict_to_stable)
        world.count(seen, bad=version)
    return [
        _way_back(world, "verdict → last answer from the candidate", to_last),
        make_row(f"{world.measured.where}verdict → router confirms 100 % stable", "s", to_router),
    ]


def verdict_at(stages: Sequence[StageResult]) -> float:
    """When the first failing verdict was reached, in seconds since 1970."""
    for stage in stages:
        for check in stage.checks:
            if check.verdict == "fail" and "verdict_at" in check.evidence:
                return datetime.fromisoformat(str(check.evidence["verdict_at"])).timestamp()
    raise AssertionError("no watch had a failing verdict")


async def signal_to_stable(world: World) -> list[Row]:
    """From the arrival of the `rollback` signal to the last answer of the candidate, as clients see it."""
    to_last = []
    await world.deploy(world.spec("1.0.0"))
    for n in range(world.measured.times):
        version = f"3.0.{n}"
        with Load(world.url, world.measured.rate) as load:
            handle = await world.start(world.spec(version, strategy=WATCH_LONG))
            await world.until_weight(handle, 50)
            await handle.signal(wire_names.ROLLBACK, Request(by="bench", reason="measured"))
            report = await world.ended(handle)
            seen = load.stop()
        assert report.outcome is Outcome.ROLLED_BACK, report.failure
        arrived = next(each.at for each in report.decisions if each.what == "rollback")
        to_last.append(last_answer_after(seen, version, arrived.timestamp()))
        world.count(seen)
    return [_way_back(world, "rollback signal → last answer from the candidate", to_last)]


async def five_steps(world: World) -> list[Row]:
    """What five steps cost beyond the readiness of the candidate, when no time is spent watching."""
    overheads = []
    await world.deploy(world.spec("1.0.0"))
    for n in range(STEPS_TIMES):
        with Load(world.url, world.measured.rate) as load:
            report = await world.deploy(world.spec(f"4.0.{n}", strategy=FIVE))
            seen = load.stop()
        assert report.outcome is Outcome.DEPLOYED, report.failure
        overheads.append(steps_beyond_readiness(report))
        world.count(seen)
    name = f"{world.measured.where}five canary steps, beyond readiness"
    return [make_row(name, "s", overheads, p50=GOAL_STEPS, p95=GOAL_STEPS)]


def _way_back(world: World, name: str, seconds: list[float]) -> Row:
    here = world.measured
    return make_row(f"{here.where}{name}", "s", seconds, p50=here.p50, p95=here.p95)


def steps_beyond_readiness(report: DeploymentReport) -> float:
    """Seconds of the deploy stage in which the candidate was ready."""
    deploy = next(stage for stage in report.stages if stage.stage is Stage.DEPLOY)
    staged = next(check for check in deploy.checks if check.name == "staged")
    return deploy.seconds - float(staged.evidence["seconds"])


def lost(world: World) -> list[Row]:
    """Requests that failed in all of the above and were not answered badly by a candidate that was meant to."""
    count = float(len(world.lost))
    return [Row("failed user requests in all of this", f"of {world.sent}", 1, count, count, "0", count == 0)]
