"""Profiles: which faults strike together."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from internals.database.commit_points import Boundary
from tests.chaos import attending, doorbells, failpoints, gateway, hanging, partner_server
from tests.chaos.calling import OUTLIVED
from tests.chaos.faults import KILLED_IN_HOP, REDIS_HUNG
from tests.chaos.operating import CANCELLED
from tests.chaos.proxy import COMMIT_CUT, Every
from tests.chaos.subjects import TOURS, TRIPS, Subject
from tests.chaos.worker_faults import EXHAUSTED, SKEWED

#: A start that is asked for twice, by whoever did not hear the answer.
START_REPEATED = "start_repeated"

#: In every profile: the outside world is never quite right, and people change their minds.
ALWAYS = frozenset({gateway.ANSWER_LOST, gateway.BUSY, START_REPEATED, CANCELLED})

_KILLS = frozenset({"worker_killed", KILLED_IN_HOP})
_WORKERS = _KILLS | frozenset({"worker_paused", "rolling_restart", SKEWED, EXHAUSTED})
_REDIS = frozenset(
    {
        "redis_flushed",
        "redis_killed",
        "redis_full",
        "redis_delayed",
        "redis_reset",
        "redis_blackholed",
    }
)
_POSTGRES = _KILLS | frozenset(
    {
        "postgres_stopped_immediate",
        "backend_terminated",
        "disk_full",
        "postgres_delayed",
        "postgres_reset",
        "postgres_blackholed",
    }
)
_MESSAGES = frozenset(
    {*doorbells.RATES, "message_repeated", "reply_repeated", "delivery_reordered"}
)
MIGRATION_FAULTS = tuple(failpoints.name(kind, Boundary.MIGRATE) for kind in failpoints.KINDS)
_COMMIT = frozenset({COMMIT_CUT, *failpoints.rates(), *MIGRATION_FAULTS})
MIGRATION_FREEZES = tuple(failpoints.name(kind, Boundary.MIGRATE) for kind in failpoints.FREEZES)
_FROZEN = frozenset(
    {
        *failpoints.rates(failpoints.FREEZES),
        *MIGRATION_FREEZES,
        *hanging.RATES,
        *hanging.CALL_RATES,
        REDIS_HUNG,
    }
)

_PARTNERS = frozenset(
    {
        *partner_server.FAULTS,
        *attending.ACTS,
        attending.DEADLINE,
        OUTLIVED,
        "worker_killed",
        "worker_paused",
    }
)

#: Bounds of the framework that a run would otherwise have to outlast by minutes.  A handler may wait
#: for a lock of somebody who is frozen, so it has longer than that.
_SHORT_BOUNDS = {"SAGA_FROZEN_AFTER": "2", "SAGA_HANDLER_LIMIT": "9", "SAGA_BATCH_LIMIT": "4"}

#: Seconds between two strikes of the proxy.
_NETWORK: Mapping[str, Every] = {
    "redis_delayed": (0.5, 2),
    "redis_reset": (0.5, 2),
    "redis_blackholed": (3, 8),
    "postgres_delayed": (0.3, 1),
    "postgres_reset": (0.5, 2),
    "postgres_blackholed": (3, 8),
    COMMIT_CUT: (0.05, 0.3),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """What strikes in one run."""

    name: str
    #: All of them have to strike, or the run proves nothing.
    faults: frozenset[str]
    #: Each strikes so many times more rarely: with everything at once nothing would ever be done.
    calm: float = 1.0
    #: What is booked in it.
    subject: Subject = TRIPS
    #: Trips that are under way at once, at most.
    under_way: int = 400
    #: The product's settings in it, as environment variables.
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def freezes(self) -> bool:
        """Whether processes are frozen in it."""
        return self.faults >= _FROZEN

    @property
    def worker_freezes(self) -> frozenset[str]:
        """The freezes of those that work in it."""
        return frozenset(f for f in self.faults if f.startswith("freeze_")) - {*MIGRATION_FREEZES}

    @property
    def attended(self) -> bool:
        """Whether somebody lets stuck sagas go on in it."""
        return self.faults >= frozenset(attending.ACTS)

    def apart(self) -> "Profile":
        """The same for partners with a database of their own, whose commits are struck too."""
        own = frozenset(failpoints.rates_apart()) if self.faults >= _COMMIT else frozenset()
        if self.freezes:
            own |= failpoints.rates_apart(failpoints.FREEZES).keys()
        return replace(self, faults=self.faults | own)

    @property
    def network(self) -> dict[str, Every]:
        """The proxy's faults and when they strike."""
        return {
            fault: (low * self.calm, high * self.calm)
            for fault, (low, high) in _NETWORK.items()
            if fault in self.faults
        }

    @property
    def failpoints(self) -> dict[str, float]:
        """The workers' failpoints and how often each strikes."""
        kinds = (*failpoints.KINDS, *failpoints.FREEZES)
        known = failpoints.rates(kinds) | failpoints.rates_apart(kinds)
        return {f: rate / self.calm for f, rate in known.items() if f in self.faults}

    @property
    def hangs(self) -> dict[str, float]:
        """The ways in which handlers hang and how often each does."""
        known = {**hanging.RATES, **hanging.CALL_RATES}
        return {f: rate for f, rate in known.items() if f in self.faults}

    @property
    def doorbells(self) -> dict[str, float]:
        """The doorbells' faults and how often each strikes."""
        return {f: rate for f, rate in doorbells.RATES.items() if f in self.faults}


_CALM = 2.5

PROFILES: Mapping[str, Profile] = {
    name: Profile(
        name,
        faults | ALWAYS,
        calm=_CALM if name in ("all", "partners") else 1.0,
        subject=TOURS if name == "partners" else TRIPS,
        # Whoever waits for a turn in a long queue looks as if somebody frozen held it up.
        under_way=100 if name == "frozen" else 400,
        environment=_SHORT_BOUNDS if name == "frozen" else {},
    )
    for name, faults in {
        "workers": _WORKERS,
        "redis": _REDIS,
        "postgres": _POSTGRES,
        "messages": _MESSAGES,
        "commit": _COMMIT,
        "frozen": _FROZEN,
        "partners": _PARTNERS,
        "all": _WORKERS | _REDIS | _POSTGRES | _MESSAGES | _COMMIT,
    }.items()
}
