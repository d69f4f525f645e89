"""A smoke test that is a program of the user's: exit code 0 within its time is a pass."""

from activities.check_result import Finding, quote
from activities.system.program_runner import CannotRunError, run_program
from home.caller import inherited
from models.arguments import fill_in
from models.checks import SmokeCheck
from models.units import format_duration
from models.verdict import CheckResult


async def run_command(finding: Finding, check: SmokeCheck, command: tuple[str, ...]) -> CheckResult:
    """Runs the test's program in `check.directory`; exit code 0 within the time is a pass.

    It gets BASE_URL, VERSION, SERVICE and TARGET, and of the worker's environment only what programs need to be found
    and to speak the user's language.
    """
    within, name = check.test.expect.within, quote(command[0])
    try:
        given = _environment(check)
        ended = await run_program(
            fill_in(command, given), check.directory, within, inherited(check.service, check.target) | given
        )
    except CannotRunError as error:
        return finding.not_asked(f"{name} could not be run: {error}")
    if ended.code is None:
        return finding.failed(f"{name} did not end within {format_duration(within)}{ended.said}")
    if ended.code < 0:
        return finding.failed(f"{name} was ended by signal {-ended.code}{ended.said}", exit_code=ended.code)
    if ended.code > 0:
        return finding.failed(f"{name} ended with exit code {ended.code}{ended.said}", exit_code=ended.code)
    return finding.passed(f"{name} ended with exit code 0", exit_code=0)


def _environment(check: SmokeCheck) -> dict[str, str]:
    return {
        "BASE_URL": check.base_url,
        "VERSION": check.version,
        "SERVICE": check.service,
        "TARGET": check.target,
    }
