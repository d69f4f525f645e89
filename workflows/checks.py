"""Asking a check: it always has a verdict, also when it could not be asked."""

from typing import TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.activity_stubs import Signature
from models.verdict import CheckResult, Verdict
from workflows.failures import describe
from workflows.options import ActivityOptions
from workflows.platform_client import execute

In = TypeVar("In", bound=BaseModel)


async def ask(signature: Signature[In, CheckResult], question: In, policy: ActivityOptions, name: str) -> CheckResult:
    """Asks one check. One that cannot be asked has the verdict `error`."""
    began = workflow.now()
    try:
        answer = await execute(signature, question, policy, name)
    except ActivityError as error:
        answer = CheckResult(name=name, verdict=Verdict.ERROR, reason=describe(error))
    seconds = answer.seconds or (workflow.now() - began).total_seconds()
    return answer.model_copy(update={"name": name, "seconds": round(seconds, 3)})
