"""The names on the wire: what the command line, the worker and other clients of Temporal call things by."""

from temporalio.common import SearchAttributeKey

TASK_QUEUE = "deployment-specialist"

DEPLOYMENT_WORKFLOW = "deployment"
PLAN_WORKFLOW = "plan"
QUEUE_WORKFLOW = "queue"
BACKUPS_WORKFLOW = "backups"
RESTORE_WORKFLOW = "restore"
NOTIFICATIONS_WORKFLOW = "notifications"

STATUS = "status"
APPROVE = "approve"
REJECT = "reject"
ROLLBACK = "rollback"
HOLD = "hold"
RESUME = "resume"
RESOLVE = "resolve"

ANNOUNCE = "announce"

ENQUEUE = "enqueue"
WITHDRAW = "withdraw"
WAITING = "waiting"

SERVICE_KEY = SearchAttributeKey.for_keyword("DeployService")
TARGET_KEY = SearchAttributeKey.for_keyword("DeployTarget")
VERSION_KEY = SearchAttributeKey.for_keyword("DeployVersion")
STAGE_KEY = SearchAttributeKey.for_keyword("DeployStage")
OUTCOME_KEY = SearchAttributeKey.for_keyword("DeployOutcome")
SEARCH_ATTRIBUTES = (SERVICE_KEY, TARGET_KEY, VERSION_KEY, STAGE_KEY, OUTCOME_KEY)
