"""The quality gates: rules over the verdicts of the stages. Only `pass` opens a gate; `skipped` does where nothing was
asked for, and then says so. `inconclusive` and `error` never do.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from models.outcome import FailureType
from models.preflight.freezing import FREEZE
from models.verdict import CheckResult, Stage, StageResult, Verdict, combine

VALIDATION = ("running", "healthy", "reachable", "version")
HEALTH = ("endpoint_health", "endpoint_ready", "endpoint_live", "endpoint_metrics")
SMOKE_PREFIX = "smoke_"
ERROR_TRACKING = "error_tracking"


def opens(verdict: Verdict) -> bool:
    """Whether a gate lets the deployment go on with this verdict."""
    return verdict in (Verdict.PASS, Verdict.SKIPPED)


@dataclass(frozen=True)
class Gate:
    """One rule: the checks of a stage that it looks at."""

    name: str
    stage: Stage
    looks_at: Callable[[str], bool]


GATES = (
    Gate("gate_deployment_successful", Stage.DEPLOY, lambda _: True),
    Gate("gate_validated", Stage.VERIFY, lambda name: name in VALIDATION),
    Gate("gate_smoke_tests_pass", Stage.VERIFY, lambda name: name.startswith(SMOKE_PREFIX)),
    Gate("gate_health_checks_pass", Stage.VERIFY, lambda name: name in HEALTH),
    Gate("gate_monitoring_configured", Stage.OBSERVE, lambda name: name != ERROR_TRACKING),
    Gate("gate_error_tracking_configured", Stage.OBSERVE, lambda name: name == ERROR_TRACKING),
    Gate("gate_rollback_plan_tested", Stage.REHEARSE, lambda _: True),
)


def ask_gates(stages: Sequence[StageResult]) -> list[CheckResult]:
    """Asks each gate over the stages that have run. Without any check a gate is inconclusive."""
    by_stage = {result.stage: result for result in stages}
    answers = []
    for gate in GATES:
        result = by_stage.get(gate.stage)
        checks = [check for check in (result.checks if result else ()) if gate.looks_at(check.name)]
        verdict = combine(check.verdict for check in checks)
        closed = [check.name for check in checks if not opens(check.verdict)]
        skipped = [check.reason for check in checks if check.verdict is Verdict.SKIPPED]
        if closed:
            reason = f"closed by {', '.join(closed)}"
        elif verdict is Verdict.SKIPPED:
            reason = "; ".join(dict.fromkeys(skipped))
        else:
            reason = f"{len(checks)} checks" if checks else "nothing was asked"
        answers.append(CheckResult(name=gate.name, verdict=verdict, reason=reason, evidence={"checks": len(checks)}))
    return answers


def demand(answers: Sequence[CheckResult], required: Collection[str]) -> list[CheckResult]:
    """The same answers, where a gate that is demanded and was skipped is closed: a demand is not met by silence."""
    return [
        answer.model_copy(update={"verdict": Verdict.FAIL, "reason": f"the task demands it, and: {answer.reason}"})
        if answer.name in required and answer.verdict is Verdict.SKIPPED
        else answer
        for answer in answers
    ]


# What tasks call them, besides their names.
_CALLED = {
    "deployment": "gate_deployment_successful",
    "validation": "gate_validated",
    "smoke": "gate_smoke_tests_pass",
    "health": "gate_health_checks_pass",
    "monitoring": "gate_monitoring_configured",
    "rollback": "gate_rollback_plan_tested",
}


def find_gate(called: str) -> str | None:
    """The name of the gate that a task means; None where there is no such gate."""
    word = called.strip().lower().replace("-", "_").replace(" ", "_")
    names = {gate.name for gate in GATES}
    if f"gate_{word}" in names or word in names:
        return word if word in names else f"gate_{word}"
    short = word.removesuffix("_tests").removesuffix("_checks").removesuffix("_tests_pass").removesuffix("_plan")
    return _CALLED.get(short, "gate_error_tracking_configured" if short == "error_tracking" else None)


_OF_STAGE = {
    Stage.PREFLIGHT: FailureType.PREFLIGHT,
    Stage.DEPLOY: FailureType.DEPLOYMENT,
    Stage.VERIFY: FailureType.VALIDATION,
    Stage.OBSERVE: FailureType.MONITORING,
    Stage.REHEARSE: FailureType.REHEARSAL,
    Stage.CLOSE: FailureType.DEPLOYMENT,
}


def failure_type(stage: Stage, checks: Sequence[CheckResult] = ()) -> FailureType:
    """The kind of failure of a stage, from its first check that closes a gate, in the order of the spec's table."""
    closed = [check.name for check in checks if not opens(check.verdict)]
    if any(check.name == FREEZE and check.verdict is Verdict.FAIL for check in checks):
        return FailureType.FROZEN
    if stage is Stage.VERIFY and closed and not any(name in VALIDATION for name in closed):
        return FailureType.SMOKE if any(name.startswith(SMOKE_PREFIX) for name in closed) else FailureType.HEALTH
    if stage is Stage.OBSERVE and closed == [ERROR_TRACKING]:
        return FailureType.ERROR_TRACKING
    return _OF_STAGE[stage]
