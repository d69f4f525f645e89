"""A backup of a database of one GiB, restored and compared: how long it takes, and what it adds to the worker."""

import asyncio
import os
import secrets
import threading
import time

import psutil

from activities.database.activities import check_backup, load
from bench.rows import Row, make_row
from bench.world import World
from models.checks import PreflightCheck
from models.verdict import Verdict
from tests.servers.postgres import Postgres, running_postgres

# Some of it packs well and some does not, as in most databases.
ROWS = 2_300_000
SHAPE = (
    "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz NOT NULL, customer text NOT NULL, note text NOT NULL)"
)
FILL = (
    "INSERT INTO orders SELECT n, now() - n * interval '1 s', md5(n::text) || md5((n * 7)::text), "
    "repeat(md5((n * 13)::text), 9) FROM generate_series(1, 2300000) n"
)
GOAL_MIB = 64.0


class _Peak:
    """The highest resident memory of this process while it is watched."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = threading.Event()
        self.idle = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __enter__(self) -> "_Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


async def backup(world: World) -> list[Row]:
    """In this process, which does what the worker does: its memory is then that of the backup alone."""
    with running_postgres("-c", "max_wal_size=4GB") as postgres:
        name = f"BENCH_{secrets.token_hex(4).upper()}"
        os.environ[name] = await asyncio.to_thread(postgres.make, "orders", SHAPE, FILL)
        gib = await asyncio.to_thread(_size, postgres)
        spec = world.spec(
            "1.0.0", preflight={"backup": {"database": {"secret": f"env:{name}"}, "programs": str(postgres.programs)}}
        )
        await load("backup")
        await check_backup(PreflightCheck(spec=spec, planning=True), world.home)
        with _Peak() as memory:
            began = time.monotonic()
            made = await check_backup(PreflightCheck(spec=spec), world.home)
            seconds = time.monotonic() - began
    assert made.verdict is Verdict.PASS, made.reason
    assert made.evidence["rows"] == ROWS
    added = (memory.peak - memory.idle) / 2**20
    return [
        make_row("database that is backed up", "GiB", [gib]),
        make_row("backup and its proof", "s", [seconds]),
        make_row("  its file", "MiB", [made.evidence["bytes"] / 2**20]),
        make_row("  added to the worker's memory", "MiB", [added], p95=GOAL_MIB),
    ]


def _size(postgres: Postgres) -> float:
    ((size,),) = postgres.rows("orders", "SELECT pg_database_size('orders')::bigint")
    return int(str(size)) / 2**30
