"""A freeze is what clocks on walls show, also in the nights in which they are turned."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from activities.preflight.freezing import NoSuchTimeError, check_freeze, check_window, in_force
from cli.spec.reader import read_spec
from models.errors import SpecError
from models.preflight.freezing import FreezeCheck, FreezeWindow
from models.verdict import Verdict

BERLIN = "Europe/Berlin"
WEEKEND = {"cron": "0 18 * * FRI", "for": "2d14h", "timezone": BERLIN, "reason": "weekend"}


def window(**keys: Any) -> FreezeWindow:
    return FreezeWindow.model_validate({"reason": "quiet", **keys})


def until(at: str, *windows: FreezeWindow) -> str | None:
    """Until when a freeze is in force at this moment of UTC; None when none is."""
    frozen = in_force(windows, datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert frozen is None or frozen.until is not None
    return frozen.until.strftime("%Y-%m-%d %H:%M") if frozen and frozen.until else None


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-12-23 22:59", None),
        ("2026-12-23 23:00", "2026-12-26 23:00"),
        ("2026-12-26 22:59", "2026-12-26 23:00"),
        ("2026-12-26 23:00", None),
    ],
)
def test_a_day_alone_is_the_whole_day_in_its_zone(at: str, end: str | None) -> None:
    assert until(at, window(**{"from": "2026-12-24", "until": "2026-12-26", "timezone": BERLIN})) == end


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-11-20 16:59", None),
        ("2026-11-20 17:00", "2026-11-23 07:00"),
        ("2026-11-23 06:59", "2026-11-23 07:00"),
        ("2026-11-23 07:00", None),
        # The clock is put forward on Sunday: Monday 8 o'clock is an hour earlier, and still Monday 8 o'clock.
        ("2026-03-27 16:59", None),
        ("2026-03-27 17:00", "2026-03-30 06:00"),
        ("2026-03-30 06:00", None),
        # And turned back.
        ("2026-10-23 15:59", None),
        ("2026-10-23 16:00", "2026-10-26 07:00"),
        ("2026-10-26 06:59", "2026-10-26 07:00"),
        ("2026-10-26 07:00", None),
    ],
)
def test_a_weekend_ends_on_monday_at_eight_whatever_the_clock_did(at: str, end: str | None) -> None:
    assert until(at, window(**WEEKEND)) == end


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-03-29 00:29", None),
        ("2026-03-29 00:30", "2026-03-29 01:30"),  # 1:30 of winter, as if the clock had gone on to 2:30
        ("2026-03-29 01:29", "2026-03-29 01:30"),
        ("2026-03-29 01:30", None),  # 3:30 of summer
        ("2026-03-30 00:29", None),
        ("2026-03-30 00:30", "2026-03-30 01:30"),  # the day after: an hour as always
    ],
)
def test_a_time_that_the_clock_never_shows_counts_as_if_it_did(at: str, end: str | None) -> None:
    assert until(at, window(cron="30 2 * * *", **{"for": "1h"}, timezone=BERLIN)) == end


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-10-25 00:29", None),
        ("2026-10-25 00:30", "2026-10-25 01:45"),  # 2:30 of summer
        ("2026-10-25 01:00", "2026-10-25 01:45"),  # 2:00 of winter, between the two
        ("2026-10-25 01:44", "2026-10-25 01:45"),  # 2:44 of winter
        ("2026-10-25 01:45", None),
    ],
)
def test_a_time_that_the_clock_shows_twice_belongs_to_it_both_times(at: str, end: str | None) -> None:
    assert until(at, window(cron="30 2 * * *", **{"for": "15m"}, timezone=BERLIN)) == end
    assert until(at, window(**{"from": "2026-10-25 02:30", "until": "2026-10-25 02:45"}, timezone=BERLIN)) == end


def test_where_the_clock_is_turned_by_half_an_hour_it_is_right_as_well() -> None:
    night = window(cron="0 1 * * *", **{"for": "2h"}, timezone="Australia/Lord_Howe")

    assert until("2026-10-03 14:29", night) is None
    assert (
        until("2026-10-03 14:30", night) == "2026-10-03 16:00"
    )  # 1:00 before, until 3:00 after half an hour is left out
    assert until("2026-10-04 14:00", night) == "2026-10-04 16:00"


def test_windows_that_follow_one_another_have_one_end() -> None:
    days = (
        window(**{"from": "2026-12-24", "until": "2026-12-24"}),
        window(**{"from": "2026-12-25", "until": "2026-12-25"}),
    )

    assert until("2026-12-24 12:00", *days) == "2026-12-26 00:00"


@pytest.mark.parametrize("cron", ["* * * * *", "0 0 * * *"])
def test_a_freeze_without_an_end_says_so(cron: str) -> None:
    frozen = in_force([window(cron=cron, **{"for": "1d"})], datetime(2026, 5, 4, 9, 30, 12, tzinfo=UTC))

    assert frozen is not None and frozen.until is None
    assert "no end of it is in sight" in str(frozen)


def test_it_agrees_with_a_clock_that_is_read_each_quarter_of_an_hour_for_two_years() -> None:
    from zoneinfo import ZoneInfo

    zone, weekend = ZoneInfo(BERLIN), window(**WEEKEND)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    while at.year < 2028:
        wall = at.astimezone(zone)
        shown = (wall.weekday(), wall.hour)
        wanted = shown >= (4, 18) or (wall.weekday() == 0 and wall.hour < 8)
        assert (in_force([weekend], at) is not None) is wanted, wall
        at += timedelta(minutes=15) if wall.weekday() in (4, 0) and wall.month in (3, 10) else timedelta(hours=4)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({}, "either from and until, or cron and for"),
        ({"from": "2026-12-24"}, "either from and until, or cron and for"),
        ({"from": "2026-12-24", "until": "2026-12-26", "cron": "0 0 * * *"}, "either from and until, or cron and for"),
        ({"cron": "0 0 * * *"}, "either from and until, or cron and for"),
        ({"from": "2026-12-24", "until": "2026-12-23"}, "until must be later than from"),
        ({"from": "2026-12-24 18:00", "until": "2026-12-24 18:00"}, "until must be later than from"),
        ({"from": "24.12.2026", "until": "2026-12-26"}, "a moment is written like 2026-12-24"),
        ({"from": "2026-02-30", "until": "2026-12-26"}, "a moment is written like 2026-12-24"),
        ({"from": "2026-12-24T18:00:00+01:00", "until": "2026-12-26"}, "a moment is written like 2026-12-24"),
        ({"from": "2026-12-24", "until": "9999-12-31"}, "a moment is written like 2026-12-24"),
        ({"cron": "0 0 * * * *", "for": "1h"}, "cron has five fields"),
        ({"cron": "@daily", "for": "1h"}, "cron has five fields"),
        ({"cron": "0 0 * * *", "for": "5s"}, "for is at least 1m"),
        ({"cron": "0 0 * * *", "for": "1h", "timezone": "../../etc/passwd"}, "a time zone is written like"),
        ({"cron": "0 0 * * *", "for": "1h", "reason": ""}, "at least 1 character"),
    ],
)
def test_a_window_that_is_none_is_refused_with_a_sentence(keys: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        window(**keys)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"cron": "61 0 * * *"}, "cron '61 0 [*] [*] [*]' means nothing"),
        ({"cron": "0 0 30 2 *"}, "means nothing"),
        ({"timezone": "Europe/Atlantis"}, "the time zone Europe/Atlantis is not known here"),
        ({"timezone": "Europe"}, "the time zone Europe is not known here"),
    ],
)
def test_words_that_mean_nothing_are_refused_by_the_command_line_with_their_line(
    tmp_path: Path, keys: dict[str, str], sentence: str
) -> None:
    made = {"cron": "0 0 * * *", "for": "1h", **keys}
    with pytest.raises(NoSuchTimeError, match=sentence):
        check_window(window(**made))

    spec = tmp_path / "deployment.yaml"
    spec.write_text(
        "service: shop\ntarget: staging\nrelease: {version: '1'}\n"
        "platform: {kind: local, run: ['true'], listen: '127.0.0.1:8080'}\n"
        f"freeze:\n  - {{reason: quiet, cron: '{made['cron']}', for: 1h, timezone: {made.get('timezone', 'UTC')}}}\n"
    )
    with pytest.raises(SpecError, match=rf"deployment.yaml:6: freeze.0: .*{sentence}"):
        read_spec(str(spec), on_this_machine=False)


def test_dates_without_quotes_are_the_text_that_they_look_like(tmp_path: Path) -> None:
    spec = tmp_path / "deployment.yaml"
    spec.write_text(
        "service: shop\ntarget: staging\nrelease: {version: '1'}\n"
        "platform: {kind: local, run: ['true'], listen: '127.0.0.1:8080'}\n"
        "freeze:\n  - {reason: Christmas, from: 2026-12-24 18:00, until: 2026-12-26}\n"
    )

    found = read_spec(str(spec), on_this_machine=False).freeze[0]

    assert found.wall_begin() == datetime(2026, 12, 24, 18)
    assert found.wall_end() == datetime(2026, 12, 27)


def ask(**keys: Any) -> FreezeCheck:
    at = datetime(2026, 12, 24, 12, tzinfo=UTC)
    windows = (window(**{"from": "2026-12-24", "until": "2026-12-26", "timezone": BERLIN, "reason": "Christmas"}),)
    return FreezeCheck(**{"windows": windows, "at": at, **keys})


def test_a_freeze_fails_with_its_end_and_its_reason() -> None:
    found = check_freeze(ask())

    assert found.verdict is Verdict.FAIL
    assert found.reason == (
        "a freeze is in force until 2026-12-27 00:00 Europe/Berlin (2026-12-26 23:00 UTC): Christmas"
    )
    assert found.evidence == {"until": "2026-12-26T23:00:00+00:00", "window": "Christmas"}


def test_a_plan_says_how_a_deploy_would_end_and_what_could_be_done() -> None:
    said = check_freeze(ask(planning=True)).reason

    assert "deploy would end as frozen" in said and "--break-glass" in said


def test_a_freeze_that_is_set_aside_is_skipped_and_says_by_whom_and_why() -> None:
    found = check_freeze(ask(broken_by="ann", reason="payments are down"))

    assert found.verdict is Verdict.SKIPPED
    assert "set aside by ann (break-glass): payments are down" in found.reason


def test_without_a_freeze_in_force_it_passes() -> None:
    assert check_freeze(ask(at=datetime(2026, 12, 23, 12, tzinfo=UTC))).verdict is Verdict.PASS


def test_a_window_that_the_worker_cannot_read_is_an_error_and_no_pass() -> None:
    unknown = window(cron="0 0 * * *", **{"for": "1h"}, timezone="Mars/Olympus")

    found = check_freeze(ask(windows=(unknown,)))

    assert (found.verdict, found.reason) == (Verdict.ERROR, "the time zone Mars/Olympus is not known here")
