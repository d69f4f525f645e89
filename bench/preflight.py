"""What preflight costs before anything moves: the checks overlap, so that the longest of them is the whole."""

from bench.rows import Row, make_row
from bench.world import SHOP, World
from models.outcome import Outcome
from models.verdict import Stage

TIMES = 12
GOAL = 2.0
BACKUP = "backup"
_AT_ONCE = {"kind": "blue-green", "watch": "0s", "bake": "0s"}
_ASKED = {
    "ci": {"kind": "command", "run": ["true"]},
    "environment": [{"name": "ERROR_SHARE", "pattern": r"[0-9.]+"}],
}


async def whole_stage(world: World) -> list[Row]:
    """The stage as the report has it, without the time of a backup."""
    stages = []
    for n in range(TIMES + 1):
        release = {"version": f"6.0.{n}", "revision": "a" * 40, "artifacts": [{"path": str(SHOP / "*")}]}
        report = await world.deploy(world.spec("", release=release, preflight=_ASKED, strategy=_AT_ONCE))
        assert report.outcome is Outcome.DEPLOYED, report.failure
        found = next(stage for stage in report.stages if stage.stage is Stage.PREFLIGHT)
        if n == 0:
            continue  # nothing serves yet: there is less to ask
        stages.append(found.seconds - sum(check.seconds for check in found.checks if check.name == BACKUP))
    return [make_row("preflight stage, beyond the backup", "s", stages, p50=GOAL, p95=GOAL)]
