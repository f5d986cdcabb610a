"""Doctor: what is wrong with a system, in one line each, with the way out."""

from boundary.doctor.diagnosis import diagnose
from boundary.doctor.finding import Finding, Verdict, Words
from boundary.doctor.reaching import database_problem, shown_url

__all__ = [
    "diagnose",
    "Finding",
    "Verdict",
    "Words",
    # How an unreachable server is told of
    "database_problem",
    "shown_url",
]
