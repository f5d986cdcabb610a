"""What operators do, for every surface: the command line and dashboards show what these return.

Each function takes a SQLAlchemy connection and the schema of the framework's tables, reads
within the caller's transaction and changes nothing.  Nothing here writes a log.
"""

from boundary.operator.listing import SagaSummary, count_sagas, list_sagas
from boundary.operator.reference import find_saga
from boundary.operator.showing import SagaDetail, show_saga
from boundary.operator.waiting import OpenDelivery, StepDetail

__all__ = [
    # Many sagas
    "list_sagas",
    "count_sagas",
    "SagaSummary",
    # One saga
    "find_saga",
    "show_saga",
    "SagaDetail",
    "StepDetail",
    "OpenDelivery",
]
