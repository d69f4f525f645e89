"""Whether a freeze is in force, and until when: decided by clocks on walls, which are turned twice a year."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from activities.check_result import Finding
from models.preflight.freezing import FREEZE, FreezeCheck, FreezeWindow
from models.verdict import CheckResult

# No clock is turned by more; a window that began on the wall may have begun that much earlier or later.
_TURNED = timedelta(hours=3)
_HORIZON = timedelta(days=400)
_MOST_WINDOWS = 400


class NoSuchTimeError(ValueError):
    """A window's time zone or cron expression means nothing."""


@dataclass(frozen=True)
class Frozen:
    """A freeze that is in force; `until` is None where no end is in sight: window follows window."""

    window: FreezeWindow
    until: datetime | None

    def __str__(self) -> str:
        if self.until is None:
            return f"a freeze is in force, and no end of it is in sight: {self.window.reason}"
        local = self.until.astimezone(_zone(self.window))
        same = "" if self.window.timezone == "UTC" else f" ({self.until:%Y-%m-%d %H:%M} UTC)"
        return f"a freeze is in force until {local:%Y-%m-%d %H:%M} {self.window.timezone}{same}: {self.window.reason}"


def check_freeze(check: FreezeCheck) -> CheckResult:
    """Fails while a freeze is in force; is skipped, and says so, where somebody has set it aside."""
    finding = Finding(FREEZE)
    try:
        frozen = in_force(check.windows, check.at)
    except NoSuchTimeError as error:
        return finding.not_asked(str(error))
    if frozen is None:
        return finding.passed(f"none of {len(check.windows)} freeze windows is in force", at=check.at.isoformat())
    evidence = {"until": frozen.until.isoformat() if frozen.until else None, "window": frozen.window.reason}
    if check.broken_by:
        # A result that is skipped carries no evidence: what was set aside, by whom and why, is in the sentence.
        return finding.skipped(f"{frozen}; set aside by {check.broken_by} (break-glass): {check.reason}")
    would = "; deploy would end as frozen; deploy --break-glass REASON needs a second person" if check.planning else ""
    return finding.failed(f"{frozen}{would}", **evidence)


def in_force(windows: Sequence[FreezeWindow], at: datetime) -> Frozen | None:
    """The freeze that is in force, with the end of all that follow one another without a gap.

    Raises:
        NoSuchTimeError: a time zone or a cron expression means nothing.
    """
    first, moment = None, at.astimezone(UTC)
    for _ in range(_MOST_WINDOWS):
        ends = [(end, window) for window in windows if (end := _end(window, moment)) is not None]
        if not ends:
            return Frozen(first, moment) if first else None
        end, window = max(ends, key=lambda each: each[0])
        first, moment = first or window, end
        if moment - at > _HORIZON:
            break
    return Frozen(first, None) if first else None


def check_window(window: FreezeWindow) -> None:
    """Sees that a window's words mean something.

    Raises:
        NoSuchTimeError: they do not; says which.
    """
    _zone(window)
    if window.cron is not None:
        next(_begins(window, datetime(2026, 1, 1)), None)


def _end(window: FreezeWindow, at: datetime) -> datetime | None:
    """When the window that is in force at this moment ends, in UTC; None when none is."""
    zone = _zone(window)
    if window.cron is None:
        begin, end = _earliest(window.wall_begin(), zone), _latest(window.wall_end(), zone)
        return end if begin <= at < end else None
    assert window.lasts is not None  # noqa: S101  the model has seen to it
    wall, turned = at.astimezone(zone).replace(tzinfo=None), _turned_near(at, zone)
    for begins in _begins(window, wall + turned):
        if begins + window.lasts < wall - turned:
            return None
        end = _latest(begins + window.lasts, zone)
        if _earliest(begins, zone) <= at < end:
            return end  # the latest one to have begun is the last one to end
    return None


def _turned_near(at: datetime, zone: ZoneInfo) -> timedelta:
    """How far around this moment one has to look: not at all, where the clock just goes on."""
    around = {(at + side).astimezone(zone).utcoffset() for side in (-_TURNED, _TURNED)}
    return _TURNED if len(around) > 1 else timedelta(0)


def _begins(window: FreezeWindow, before: datetime) -> Iterator[datetime]:
    """The beginnings up to a moment, the latest first, as clocks on the wall show them.

    The expression is read without a time zone: what a turned clock means is decided here, not by how a cron daemon
    makes up for it.
    """
    try:
        # From the next full minute: the library passes over the moment that it begins with.
        yield from CronSim(window.cron or "", before.replace(second=0, microsecond=0) + timedelta(minutes=1), True)
    except CronSimError as error:
        raise NoSuchTimeError(f"cron {window.cron!r} means nothing: {error}") from None


def _zone(window: FreezeWindow) -> ZoneInfo:
    try:
        return ZoneInfo(window.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NoSuchTimeError(f"the time zone {window.timezone} is not known here") from None


def _earliest(wall: datetime, zone: ZoneInfo) -> datetime:
    return min(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def _latest(wall: datetime, zone: ZoneInfo) -> datetime:
    return max(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
