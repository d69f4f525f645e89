"""A secret reaches the process that needs it, and nothing else."""

import secrets
from pathlib import Path

import pytest

from models.errors import NotReadyError, SecretUnresolvedError
from models.secrets import Secret
from tests.harness.target import Target


@pytest.fixture
def secret(tmp_path: Path) -> tuple[str, Path]:
    value = f"very-{secrets.token_hex(8)}-secret"
    path = tmp_path / "password"
    path.write_text(value)
    return value, path


async def test_a_secret_reaches_its_process_and_nothing_else(target: Target, secret: tuple[str, Path]) -> None:
    value, path = secret
    told = {"APP_TOLD": Secret(secret=f"file:{path}")}
    revision = await target.live("1.0.0", instances=1, environment=told)

    assert (await target.ask()).json()["told"] == value
    assert value not in target.ground.command_lines()
    assert value not in (await target.inspect(revision)).model_dump_json()
    assert value not in (await target.snapshot()).model_dump_json()
    assert target.ground.exposing(target.service, value) == []


async def test_a_secret_in_the_last_words_of_a_program_is_taken_out(target: Target, secret: tuple[str, Path]) -> None:
    value, path = secret
    crash = target.release("1.0.0") / "app.py"
    revision = target.revision(
        "1.0.0", environment={"APP_PRINT": Secret(secret=f"file:{path}"), "APP_CRASH_IF": str(crash)}
    )
    with pytest.raises(NotReadyError, match="told to crash") as failed:
        await target.stage(revision, instances=1)
    assert value not in str(failed.value)
    assert "***" in str(failed.value)


async def test_a_secret_that_is_not_there_is_named(target: Target, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    revision = target.revision("1.0.0", environment={"APP_TOLD": Secret(secret=f"file:{missing}")})
    with pytest.raises(SecretUnresolvedError, match=f"file:{missing}"):
        await target.stage(revision, instances=1)


async def test_a_rollback_does_not_need_a_secret_that_is_gone(target: Target, secret: tuple[str, Path]) -> None:
    value, path = secret
    old = await target.live("1.0.0", instances=1, environment={"APP_TOLD": Secret(secret=f"file:{path}")})
    before = await target.snapshot()
    await target.replaced(old)
    path.unlink()

    await target.restore(before)

    assert (await target.ask()).json()["told"] == value
