"""The whole product and a real database: migrated, approved, rolled back, restored by the command in the report."""

import json
import re
import shlex

from tests.integration.databases.projects import Dbmate
from tests.servers.postgres import PASSWORD, Postgres
from tests.support.product_env import NEW, OLD, ROLLING, ProductEnv, ended, found

MAY_HOLD_SECRETS = ("secrets",)


async def test_a_night_with_a_destructive_migration(living: ProductEnv, postgres: Postgres) -> None:
    way_back = {"kind": "restore", "how": "restore the backup, then deploy the version before"}
    secret = {"secret": "env:NIGHT_DB"}
    service = living.service(
        ROLLING,
        preflight={
            "backup": {"database": secret, "programs": str(postgres.programs)},
            "migrations": {"tool": "dbmate", "database": secret, "way_back": way_back},
        },
    )
    url = postgres.make("night", "CREATE TABLE people (id int PRIMARY KEY, email text)")
    postgres.run("night", "INSERT INTO people SELECT n, 'p' || n FROM generate_series(1, 500) n")
    project = Dbmate(service.folder / "app", postgres.programs)
    project.add("adds", "ALTER TABLE people ADD COLUMN name text")

    # What only adds runs by itself, after a proven backup.
    first = ended(await service.deploy(OLD, NIGHT_DB=url), "deployed", 0)
    assert found(first, "preflight", "backup")["evidence"]["rows"] == 500
    assert "001_adds (additive)" in found(first, "preflight", "migrations")["reason"]
    assert found(first, "deploy", "migrated")["reason"] == "1 of 1 applied: 001_adds"

    # What takes away waits for a person, who is told what it is.
    project.add("drops", "ALTER TABLE people DROP COLUMN email")
    plan = await living.run("plan", str(service.spec), "--version", NEW, NIGHT_DB=url)
    assert "002_drops is destructive" in plan.out
    assert "approval before deploy" in plan.out
    bad = ("platform.environment.APP_NEVER_READY=1", "strategy.deadline=2s")
    waiting = await service.deploy(NEW, *bad, more=("--wait", "15s"), NIGHT_DB=url)
    document = ended(waiting, "awaiting-approval", 12)
    assert "002_drops (destructive)" in document["waiting_for"]
    approved = await living.run("approve", service.subject, "--as", "ann", "--plan", document["plan"]["id"])
    assert approved.code == 0, approved.err

    # The version is bad: the code comes back, the column does not, and the report says how it could.
    watched = ended(await living.run("watch", service.subject, "--json"), "rolled-back", 10)
    (said,) = watched["not_rolled_back"]
    assert said.startswith("database NOT rolled back: 1 of 1 migrations stay: 002_drops (destructive)")
    assert found(watched, "deploy", "backup_as_planned")["verdict"] == "pass"
    (command,) = re.findall(r"`(restore .*)`", said)
    words = shlex.split(command.replace("NAME", "ann").replace("TEXT", "'the column is needed'"))
    restored = await living.run(*words, "--yes", "--json")
    assert restored.code == 0, restored.err
    assert postgres.rows("night", "SELECT count(email)::int FROM people") == [(500,)]
    assert postgres.rows(restored.document["kept"], "SELECT count(*)::int FROM people") == [(500,)]
    listed = await living.run("restore", service.subject, "--json")
    assert len(listed.document["backups"]) == 2

    # Nobody who reads along has learned the password.
    history = (await (await service.handle()).fetch_history()).to_json()
    spoken = [json.dumps(watched), plan.out, restored.out, restored.err, history]
    assert not any(PASSWORD in text or "%5C" in text for text in spoken)
    for path in living.home.rglob("*"):
        if path.is_file() and path.relative_to(living.home).parts[0] not in MAY_HOLD_SECRETS:
            content = path.read_bytes()
            assert PASSWORD.encode() not in content and b"%5Cw0rd" not in content, path
