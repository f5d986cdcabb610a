"""Doctor: what is wrong with a system, in one line each, and how to fix it."""

from boundary.operations.doctor.diagnosis import diagnose
from boundary.operations.doctor.error_text import database_problem, shown_url
from boundary.operations.doctor.finding import Finding, Verdict, Words

__all__ = [
    "diagnose",
    "Finding",
    "Verdict",
    "Words",
    # How an unreachable server is told of
    "database_problem",
    "shown_url",
]
