"""A backup of a database of one GiB, restored and compared: how long it takes, and what it adds to the worker."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from typing import Any

from bench.rows import Row, make_row
from bench.world import ROOT, World
from models.checks import PreflightCheck
from models.verdict import CheckResult, Verdict
from tests.servers.postgres import Postgres, running_postgres

# Some of it packs well and some does not, as in most databases.
SHAPE = "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL, customer text, note text)"
FILL = (
    "INSERT INTO orders SELECT n, now() - n * interval '1 s', md5(n::text) || md5((n * 7)::text), "
    "repeat(md5((n * 13)::text), 9) FROM generate_series(1, 2550000) n"
)
GOAL_MIB = 64.0
LONGEST = 1200


async def backup(world: World) -> list[Row]:
    """In a process that does what the worker does: its memory is then that of the backup alone."""
    with running_postgres("-c", "max_wal_size=4GB") as postgres:
        name = f"BENCH_{secrets.token_hex(4).upper()}"
        url = await asyncio.to_thread(postgres.make, "orders", SHAPE, FILL)
        gib = await asyncio.to_thread(_size, postgres)
        own = {"database": {"secret": f"env:{name}"}, "programs": str(postgres.programs), "timeout": f"{LONGEST}s"}
        check = PreflightCheck(spec=world.spec("1.0.0", preflight={"backup": own}))
        found = await asyncio.to_thread(_alone, check, str(world.home.path), {name: url})
    made = CheckResult.model_validate(found["made"])
    assert made.verdict is Verdict.PASS, made.reason
    return [
        make_row("database that is backed up", "GiB", [gib]),
        make_row("backup and its proof", "s", [found["seconds"]]),
        make_row("  its file", "MiB", [made.evidence["bytes"] / 2**20]),
        make_row("  added to the worker's memory", "MiB", [found["added"] / 2**20], p95=GOAL_MIB),
    ]


def _alone(check: PreflightCheck, home: str, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.backup_process", home],
        input=check.model_dump_json(by_alias=True),
        env=os.environ | environment | {"DEPLOYMENT_SPECIALIST_HOME": home},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=LONGEST + 60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _size(postgres: Postgres) -> float:
    ((size,),) = postgres.rows("orders", "SELECT pg_database_size('orders')::bigint")
    return int(str(size)) / 2**30
