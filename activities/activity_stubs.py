"""The activities' names, inputs and outputs: all that a workflow may know of them.

A name is the wire format: it stands in the histories of running deployments and is never changed.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from models.base import WireModel
from models.checks import (
    EndpointCheck,
    Examination,
    MonitoringOrder,
    MonitoringSeen,
    PreflightCheck,
    RouterCheck,
    SentryCheck,
    SmokeCheck,
)
from models.notifications import Announcement, Answered, NotificationsRecord
from models.platforms import Platform
from models.preflight.backup import BackupList, BackupMade, BackupOrder, BackupsQuestion, Restored
from models.preflight.ci import CiQuestion
from models.preflight.freezing import FreezeCheck
from models.preflight.migrations import MigrationsDone, MigrationsFound, PendingMigration
from models.preflight.queueing import ConflictQuestion, Started, StartOrder, Turn, TurnQuestion
from models.release import (
    Capabilities,
    Inspection,
    InspectOrder,
    Order,
    PromoteOrder,
    RestoreOrder,
    Retired,
    RetireOrder,
    ShiftOrder,
    Snapshot,
    Split,
    Staged,
    StageOrder,
)
from models.report import DeploymentReport
from models.spec import DeploymentSpec
from models.verdict import CheckResult
from models.watch import WatchOrder, WatchReport

In = TypeVar("In", bound=BaseModel)
Out = TypeVar("Out", bound=BaseModel)


@dataclass(frozen=True)
class Signature(Generic[In, Out]):
    """One activity: what it is called on the wire, what goes in, what comes out."""

    name: str
    takes: type[In]
    gives: type[Out]


class CapabilitiesQuestion(WireModel):
    """Which platform is meant."""

    platform: Platform


class MigrationOrder(WireModel):
    """Run exactly these migrations, in this order."""

    spec: DeploymentSpec
    expected: tuple[PendingMigration, ...]


class ReportPath(WireModel):
    """Where the report was written."""

    path: str


CAPABILITIES = Signature("capabilities", CapabilitiesQuestion, Capabilities)
EXAMINE = Signature("examine", PreflightCheck, Examination)
SNAPSHOT = Signature("snapshot", Order, Snapshot)
STAGE = Signature("stage", StageOrder, Staged)
SHIFT = Signature("shift", ShiftOrder, Split)
PROMOTE = Signature("promote", PromoteOrder, Snapshot)
RETIRE = Signature("retire", RetireOrder, Retired)
RESTORE = Signature("restore", RestoreOrder, Split)
INSPECT = Signature("inspect", InspectOrder, Inspection)
WATCH = Signature("watch", WatchOrder, WatchReport)

CHECK_ARTIFACTS = Signature("check_artifacts", PreflightCheck, CheckResult)
CHECK_ENVIRONMENT = Signature("check_environment", PreflightCheck, CheckResult)
CHECK_CI = Signature("check_ci", CiQuestion, CheckResult)
CHECK_DISK = Signature("check_disk", PreflightCheck, CheckResult)
CHECK_MEMORY = Signature("check_memory", PreflightCheck, CheckResult)
CHECK_LOAD = Signature("check_load", PreflightCheck, CheckResult)
CHECK_DESCRIPTORS = Signature("check_descriptors", PreflightCheck, CheckResult)
CHECK_ADDRESS = Signature("check_address", PreflightCheck, CheckResult)
CHECK_FREEZE = Signature("check_freeze", FreezeCheck, CheckResult)
CHECK_CONFLICT = Signature("check_conflict", ConflictQuestion, CheckResult)
WAIT_FOR_TURN = Signature("wait_for_turn", TurnQuestion, Turn)
START_DEPLOYMENT = Signature("start_deployment", StartOrder, Started)
CHECK_ENDPOINT = Signature("check_endpoint", EndpointCheck, CheckResult)
RUN_SMOKE_TEST = Signature("run_smoke_test", SmokeCheck, CheckResult)
CHECK_ROUTER_METRICS = Signature("check_router_metrics", RouterCheck, CheckResult)
CHECK_ERROR_TRACKING = Signature("check_error_tracking", SentryCheck, CheckResult)
SET_UP_MONITORING = Signature("set_up_monitoring", MonitoringOrder, MonitoringSeen)
SEE_MONITORING = Signature("see_monitoring", MonitoringOrder, MonitoringSeen)
FOLLOW_INSTANCES = Signature("follow_instances", MonitoringOrder, MonitoringSeen)
UNDO_MONITORING = Signature("undo_monitoring", MonitoringOrder, MonitoringSeen)
MAKE_BACKUP = Signature("make_backup", PreflightCheck, BackupMade)
SEE_BACKUP = Signature("see_backup", PreflightCheck, CheckResult)
LIST_BACKUPS = Signature("list_backups", BackupsQuestion, BackupList)
RESTORE_BACKUP = Signature("restore_backup", BackupOrder, Restored)
LOOK_AT_MIGRATIONS = Signature("look_at_migrations", PreflightCheck, MigrationsFound)
RUN_MIGRATIONS = Signature("run_migrations", MigrationOrder, MigrationsDone)
ANNOUNCE = Signature("announce", Announcement, Answered)
RECORD_NOTIFICATIONS = Signature("record_notifications", NotificationsRecord, ReportPath)
WRITE_REPORT = Signature("write_report", DeploymentReport, ReportPath)
