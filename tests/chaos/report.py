"""The report of one run: for a person, and as one JSON object."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from examples.travel.checks import Check, judge
from tests.chaos.checker import Findings

#: Seconds from the end of the storm within which everything has to be quiet.
DRAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went."""

    profile: str
    trips: int
    seed: int
    seconds: float
    seconds_to_drain: float | None
    #: Faults of the profile, and how often each really struck.
    faults: Mapping[str, int]
    findings: Findings
    #: What the run itself has to say, beside the checker.
    more_checks: tuple[Check, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks."""
        return (*self.findings.checks, *self.more_checks)

    @property
    def ok(self) -> bool:
        """Whether all of them hold."""
        return all(check.ok for check in self.checks)

    @property
    def unfinished(self) -> int:
        """Trips that are neither over nor stuck; those that were never begun are among them."""
        over = ("completed", "compensated", "stuck")
        return self.trips - sum(self.findings.statuses.get(status, 0) for status in over)

    def to_json(self) -> str:
        """Return the one object."""
        statuses = self.findings.statuses
        drain = self.seconds_to_drain
        return json.dumps(
            {
                "profile": self.profile,
                "trips": self.trips,
                "completed": statuses.get("completed", 0),
                "compensated": statuses.get("compensated", 0),
                "stuck": statuses.get("stuck", 0),
                "unfinished": self.unfinished,
                "lost": self.findings.lost,
                "double_effects": self.findings.double_effects,
                "seconds_to_drain": None if drain is None else round(drain, 1),
                "faults": dict(sorted(self.faults.items())),
                "checks": {check.name: check.ok for check in self.checks},
            }
        )

    def to_text(self) -> str:
        """Return the same for a person."""
        statuses = self.findings.statuses
        lines = [
            f"Profile {self.profile}, {self.trips:,} trips, seed {self.seed}: "
            f"{self.seconds:.0f} s in all",
            "",
            *(f"  {status:<20}{count:>10,}" for status, count in sorted(statuses.items())),
            f"  {'unfinished':<20}{self.unfinished:>10,}",
            f"  {'lost':<20}{_with_bound(self.findings.lost, self.trips)}",
            f"  {'double effects':<20}{_with_bound(self.findings.double_effects, self.trips)}",
            f"  {'quiet after':<20}{_seconds(self.seconds_to_drain)}",
            "",
            "Faults that really struck",
            *(f"  {name:<28}{count:>8,}" for name, count in sorted(self.faults.items())),
            "",
            "Checks",
            *(_line(check) for check in self.checks),
        ]
        return "\n".join(lines)


def checks_of_run(
    faults: Mapping[str, int],
    seconds_to_drain: float | None,
    stubborn: int,
    blamed: Iterable[str],
    no_disk: str | None,
) -> tuple[Check, ...]:
    """Judge the run itself: did everything strike, did it end, did it drain in time?"""
    absent = sorted(name for name, count in faults.items() if not count)
    never = f"never struck: {', '.join(absent)}" if absent else ""
    reason = f"; {no_disk}" if no_disk and "disk_full" in absent else ""
    in_time = seconds_to_drain is not None and seconds_to_drain <= DRAIN_SECONDS
    return (
        Check("every_fault_struck", not absent, never + reason),
        Check("drained_in_time", in_time, "" if in_time else f"after {_seconds(seconds_to_drain)}"),
        Check(
            "workers_stop_when_told",
            not stubborn,
            f"{stubborn} had to be killed" if stubborn else "",
        ),
        judge("no_handler_blamed", blamed),
    )


def write(report: Report, *, as_json: bool) -> None:
    """Print the report; with JSON, what went wrong and the bound go to stderr."""
    if not as_json:
        sys.stdout.write(f"{report.to_text()}\n")
        return
    sys.stdout.write(f"{report.to_json()}\n")
    for check in report.checks:
        if not check.ok:
            sys.stderr.write(f"{_line(check)}\n")
    if not report.findings.lost + report.findings.double_effects:
        sys.stderr.write(
            f"none lost and none doubled, with seed {report.seed}: {_bound(report.trips)}\n"
        )


def _line(check: Check) -> str:
    mark = "holds" if check.ok else "FAILS"
    return f"  {mark}  {check.name}{': ' if check.detail else ''}{check.detail}"


def _with_bound(count: int, trips: int) -> str:
    return f"{count:>10,}" if count else f"{0:>10}  ({_bound(trips)})"


def _bound(trips: int) -> str:
    """Zero in n is not never: with 95 % confidence the rate is below 3 in n."""
    return f"0 in {trips:,}, so at most {min(1.0, 3 / trips):.3%} at 95 % confidence"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:>8.1f} s"
