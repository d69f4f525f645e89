"""Says in one sentence how a deployment ended, or where it stands."""

from models.messages import Kind
from models.outcome import Outcome
from models.report import DeploymentReport


def say_outcome(report: DeploymentReport) -> str:
    """Returns one sentence that says how the deployment ended, or where it stands."""
    what, where = f"{report.service} {report.version}", report.target
    before = report.previous_version
    match report.outcome:
        case Outcome.DEPLOYED:
            return f"{what} is live on {where}."
        case Outcome.ROLLED_BACK if report.kind is Kind.ROLLBACK:
            return f"{report.service} on {where} was rolled back on request and serves the earlier release, verified."
        case Outcome.ROLLED_BACK if before:
            return f"{what} was rolled back on {where}: {before} serves, verified."
        case Outcome.ROLLED_BACK:
            return f"{what} was taken off {where} again: it was the first deployment, and nothing of it is left."
        case Outcome.ROLLBACK_FAILED:
            return f"A person is needed: rolling back {what} on {where} failed."
        case Outcome.AWAITING_APPROVAL:
            return f"{what} waits for an approval on {where}."
        case Outcome.REJECTED:
            return f"{what} was not approved for {where}; what served before still does."
        case Outcome.FROZEN:
            return f"{what} was not deployed to {where}: a freeze is in force."
        case Outcome.PREFLIGHT_FAILED:
            return f"{what} was not deployed to {where}: a check failed before anything was changed."
        case Outcome.HELD:
            return f"{what} is held on {where} until a person decides."
        case Outcome.QUEUED:
            return f"{what} waits for its turn on {where}."
        case Outcome.RUNNING:
            return f"{what} is being deployed to {where}."
