"""The JSON that users and pipelines read: the contract's fields first, by the contract's names, then everything else.

The command line prints it and the report file holds it, so both always say the same.
"""

from typing import Any

from models.outcome import EXIT_CODES
from models.report import DeploymentReport


def contract_document(report: DeploymentReport) -> dict[str, Any]:
    """Returns the report as plain JSON values, with the exit code that its outcome has.

    Fields of the contract: outcome, exit_code, workflow_id, run_id, service, target, version, previous_version,
    strategy, stages, failure, report. They are always there; `failure` is null where nothing failed and `report` is
    empty until it is written. The rest of the report follows them.
    """
    everything = report.model_dump(mode="json", by_alias=True)
    contract = {
        "outcome": everything.pop("outcome"),
        "exit_code": EXIT_CODES[report.outcome],
        "workflow_id": everything.pop("workflow_id"),
        "run_id": everything.pop("run_id"),
        "service": everything.pop("service"),
        "target": everything.pop("target"),
        "version": everything.pop("version"),
        "previous_version": everything.pop("previous_version"),
        "strategy": everything.pop("strategy"),
        "stages": everything.pop("stages"),
        "failure": everything.pop("failure"),
        "report": everything.pop("report"),
    }
    return contract | everything
