"""For every other CI: a program of the user's that knows whether the revision has passed."""

import asyncio

from activities.check_result import quote
from activities.preflight.ci_runs import CannotTellError, Run, RunState
from activities.secrets.resolver import resolve
from activities.system.program_runner import CannotRunError, run_program
from home.caller import inherited
from models.arguments import fill_in
from models.errors import SecretUnresolvedError
from models.preflight.ci import CiQuestion, CommandCi
from models.secrets import Secret
from models.units import format_duration


async def ask_command(ci: CommandCi, question: CiQuestion) -> Run:
    """Runs the program once; 0 is a pass, 1 a fail, `pending` codes are not known yet.

    Raises:
        CannotTellError: it could not be run, or ended in another way.
    """
    name = quote(ci.run[0])
    try:
        own = {
            key: await asyncio.to_thread(resolve, value.secret) if isinstance(value, Secret) else value
            for key, value in ci.environment.items()
        }
        callers = inherited(question.service, question.target)
        given = {
            "REVISION": question.revision,
            "VERSION": question.version,
            "SERVICE": question.service,
            "TARGET": question.target,
        }
        ended = await run_program(fill_in(ci.run, given), question.directory, ci.within, callers | own | given)
    except SecretUnresolvedError as error:
        raise CannotTellError(f"preflight.ci.environment: {error}") from None
    except CannotRunError as error:
        raise CannotTellError(f"{name} could not be run: {error}") from None
    if ended.code is None:
        raise CannotTellError(f"{name} did not end within {format_duration(ci.within)}{ended.said}")
    said = f"exit code {ended.code}{ended.said}"
    if ended.code == 0:
        return Run(name, RunState.PASSED, said)
    if ended.code == 1:
        return Run(name, RunState.FAILED, said)
    if ended.code in ci.pending:
        return Run(name, RunState.PENDING, said)
    how = f"was ended by signal {-ended.code}" if ended.code < 0 else f"ended with exit code {ended.code}"
    raise CannotTellError(f"{name} {how}, which says neither yes nor no{ended.said}")
