"""What operators do, for every surface: the command line and dashboards show what these return.

What reads takes a unit of work and the schema of the framework's tables, reads within the caller's
transaction and changes nothing.  What acts takes the application's Runtime and commits
each act by itself, with its audit.  Nothing here writes a log.
"""

from boundary.operations.actions import (
    Signalled,
    act_on_saga,
    drop_parked,
    retry_parked,
    signal_saga,
)
from boundary.operations.bulk import (
    Done,
    Refusal,
    Report,
    Target,
    do_next,
    look_at_deliveries,
    look_at_sagas,
    watch_canaries,
)
from boundary.operations.unsubscribe import Unsubscribed, unsubscribe
from boundary.queries.audit import AuditEntry, message_audit, saga_audit
from boundary.queries.blocked_on import StepDetail
from boundary.queries.open_deliveries import Head, OpenDelivery
from boundary.queries.parked import (
    MessageDelivery,
    MessageDetail,
    ParkedFilter,
    ParkedSummary,
    count_parked,
    group_parked,
    list_parked,
    show_message,
)
from boundary.queries.reference import find_saga
from boundary.queries.saga_detail import SagaDetail, show_known_saga, show_saga
from boundary.queries.saga_list import (
    SagaSummary,
    choose_sagas,
    count_sagas,
    list_sagas,
    saga_names,
)

__all__ = [
    # Many sagas
    "list_sagas",
    "choose_sagas",
    "count_sagas",
    "saga_names",
    "SagaSummary",
    # One saga
    "find_saga",
    "show_saga",
    "show_known_saga",
    "SagaDetail",
    "StepDetail",
    "OpenDelivery",
    "Head",
    # Parked deliveries
    "list_parked",
    "count_parked",
    "group_parked",
    "ParkedFilter",
    "ParkedSummary",
    "show_message",
    "MessageDetail",
    "MessageDelivery",
    # Acts, and their audit
    "act_on_saga",
    "signal_saga",
    "Signalled",
    "retry_parked",
    "drop_parked",
    "unsubscribe",
    "Unsubscribed",
    "saga_audit",
    "message_audit",
    "AuditEntry",
    # Acts on many
    "Target",
    "Report",
    "Done",
    "Refusal",
    "do_next",
    "watch_canaries",
    "look_at_sagas",
    "look_at_deliveries",
]
