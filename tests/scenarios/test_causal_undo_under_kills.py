"""Parades are got ready at any depth, and undone, while workers die and messages come again."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any
from uuid import UUID

import pytest
import redis

from boundary import Settings
from boundary.queries.saga_detail import show_saga
from internals.database.unit_of_work import joined
from internals.store.message_columns import SELECTED, from_row
from internals.store.outbox import Outbox
from tests.scenarios import causal_undo_app
from tests.scenarios.causal_undo_app import CARNIVAL, CONTEXTS, EARLY, STAYS, Parade
from tests.scenarios.running_application import House

#: Whoever died three times with its worker runs under a lease of half a minute.
pytestmark = pytest.mark.timeout(300)

#: One to which the cook says no, while its choir sings.
LATE = 2
#: Those of `NEXT` have begun when the photographers come, and nothing of them is painted.
FIRST, NEXT, LATER = range(3, 29), range(29, 41), range(41, 61)
EVERY = (LATE, *FIRST, *NEXT, *LATER)
SAYS_NO = ("", "city", "cook")

#: All that is done for a parade, but for photos, of which only those are taken that were asked for.
ALL = {
    *("built", "painted left", "painted right", "sign left", "sign right"),
    *("engaged", "escorted", "sang", "printed", "fed"),
}

_SENT = f"""
SELECT {SELECTED}
FROM outbox AS o
WHERE o.kind NOT IN ('saga.started', 'saga.revoked')  -- what a saga tells itself
ORDER BY o.seq DESC
"""

#: What a context has to do yet, and whether that is to undo something.
_OPEN = "state = 'pending' AND consumer NOT LIKE 'saga.%%' AND consumer <> 'city'"
_IS_ORDER = (
    "EXISTS (SELECT FROM outbox WHERE outbox.id = inbox.message_id AND outbox.kind = 'saga.undo')"
)
_IS_PHOTO = "act LIKE 'photo%%'"


class Carnival(House):
    """The carnival of `causal_undo_app`."""

    application = causal_undo_app
    worker = "causal_undo_worker"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        early = causal_undo_app.make_runtime(self.settings, EARLY)
        early.subscribe()
        early.close()
        self._rng = random.Random(1)
        assert self.settings.redis_url is not None
        self._redis = redis.Redis.from_url(self.settings.redis_url.get_secret_value())
        self._crew: list[Any] = []
        #: Kills that struck while something was going forward, and being undone.
        self.forward = self.backward = 0

    def close(self) -> None:
        self._redis.close()
        super().close()

    def announce(self, *numbers: int) -> None:
        self.start(
            CARNIVAL,
            *(Parade(number=n, troupe=f"troupe {n % 5}", refuses=SAYS_NO[n % 3]) for n in numbers),
        )

    # Workers

    def serve(self, *names: str) -> None:
        """Start one more worker that serves these contexts."""
        served = " ".join(names)
        worker = self.start_worker(
            processes=1, SAGA_BATCH="4", CARNIVAL_SERVES=served, SAGA_GRACE="0.5"
        )
        self._crew.append(worker)

    def kill_all(self) -> None:
        while self._crew:
            self.kill_oldest()

    def kill_oldest(self) -> None:
        """Kill a worker; what it left shows what it was killed in the midst of."""
        self._crew.pop(0).kill()
        self.forward += bool(self.count("inbox", f"{_OPEN} AND {_IS_ORDER} IS FALSE"))
        self.backward += bool(self.count("inbox", f"{_OPEN} AND {_IS_ORDER}"))

    # Messages

    def repeat(self, share: float) -> None:
        """Send messages once more that were sent before, and ring for everybody."""
        rows = self.query(_SENT)
        chosen = self._rng.sample(rows, int(len(rows) * share))
        messages = [from_row(row) for row in chosen]
        outbox = Outbox(self.runtime._wiring.statements, grace=1.0)
        with self.runtime.engine.begin() as connection:
            outbox.send(joined(connection), messages)
        for name in ("saga.carnival", *(context.name for context in CONTEXTS)):
            key = f"{self.settings.namespace}:doorbell:{name}"
            self._redis.rpush(key, b"", *self._redis.lrange(key, 0, -1))


@pytest.fixture
def ours(
    empty_settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Carnival]:
    opened = Carnival(empty_settings, start_group, eventually)
    yield opened
    opened.close()


def test_each_effect_is_there_once_or_undone_once(ours: Carnival) -> None:
    early = [context.name for context in EARLY]
    silent = [name for name in early if name != "city"]

    # The city does not answer yet, so nothing is over but what the cook refuses.
    ours.serve(*silent)
    ours.serve(*silent)
    _undo_while_the_choir_sings(ours)
    ours.announce(*FIRST)
    ours.wait_until(lambda: ours.count("did") >= 20, "some to be done")
    ours.kill_oldest()
    ours.repeat(0.2)
    ours.serve(*silent)
    ours.wait_until(lambda: ours.count("did") >= 60, "more to be done")
    ours.kill_all()
    ours.announce(*NEXT)
    for _ in range(2):
        ours.serve(*silent, "photos")
    for photos in (2, 6):
        ours.wait_until(lambda n=photos: ours.count("did", _IS_PHOTO) >= n, f"{photos} photos")  # type: ignore[misc]
        ours.kill_oldest()
        ours.repeat(0.2)
        ours.serve(*silent, "photos")
    ours.kill_all()

    # The city answers, and says no to a third of all, while others are being got ready.
    ours.announce(*LATER)
    everybody = [*early, "photos"]
    ours.serve(*everybody)
    ours.serve(*everybody)
    undone = ours.count("undid")
    for more in (10, 40, 70, 100):
        ours.wait_until(lambda n=undone + more: ours.count("undid") >= n, f"{more} to be undone")  # type: ignore[misc]
        ours.kill_oldest()
        ours.repeat(0.2)
        ours.serve(*everybody)
    ours.wait_until_over(180)
    assert ours.forward >= 3
    assert ours.backward >= 3

    ours.repeat(1.0)
    ours.wait_until_over(180)
    _check(ours)


def _undo_while_the_choir_sings(ours: Carnival) -> None:
    """What is done already is undone, and the song when it is over."""
    ours.query("INSERT INTO hold (number) VALUES (%s)", LATE)
    ours.announce(LATE)
    ours.wait_until(lambda: ours.count("hold", "holding"), "the choir to sing")
    ours.wait_until(lambda: ours.count("undid", "act = 'engaged'"), "the band to be sent home")
    assert ours.under_way() == 1
    ours.query("DELETE FROM hold")
    ours.wait_until(lambda: ours.count("undid", "act = 'sang'"), "the song to be taken back")


def _check(ours: Carnival) -> None:
    assert ours.count("inbox", "state = 'parked'") == 0
    assert ours.count("settling", "open <> 0") == 0
    assert ours.count("failed") > 0
    ours.check_history()
    did, undid = _acts(ours, "did"), _acts(ours, "undid")
    ids = {
        int(key): (id, status) for key, id, status in ours.query("SELECT key, id, status FROM saga")
    }
    for number in EVERY:
        id, status = ids[number]
        done, undone = did[number], undid[number]
        assert len(done) == len(set(done)), f"done twice: {done}"
        assert len(undone) == len(set(undone)), f"undone twice: {undone}"
        if SAYS_NO[number % 3]:
            assert status == "compensated"
            _check_undone(ours, id, number, set(done), set(undone))
        else:
            assert status == "completed"
            assert set(done) == ALL | _photos_asked_for(ours, id)
            assert undone == []
            # All of it had been done when the next step began.
            assert ours.query("SELECT seen FROM permit WHERE number = %s", number) == [(len(done),)]
    assert ours.count("permit") == sum(not SAYS_NO[n % 3] for n in EVERY)
    _check_wall(ours)
    _check_order_of_undoing(ours)
    _check_order_of_troupes(ours)
    _check_that_the_photographers_were_waited_for(ours)


def _acts(ours: Carnival, table: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for number, act in ours.query(f"SELECT number, act FROM {table} ORDER BY id"):
        found[number].append(act)
    return found


def _photos_asked_for(ours: Carnival, id: UUID) -> set[str]:
    """Photos are taken of what was painted once there was somebody to take them."""
    rows = ours.query(
        "SELECT payload ->> 'side' FROM outbox JOIN inbox ON id = message_id "
        "WHERE consumer = 'photos' AND kind = 'paint.painted' AND outbox.saga_id = %s",
        id,
    )
    return {f"photo {side}" for (side,) in rows}


def _check_undone(ours: Carnival, id: UUID, number: int, done: set[str], undone: set[str]) -> None:
    """All that was done is undone, but for what stands, and that is told."""
    # Who acts outside may have done so and died before it could be written down.
    outside = {f"sign {side}" for side in ("left", "right")}
    called = _calls(ours, number, "up")
    assert undone - outside == done - outside - {"printed"}
    assert done & outside <= called <= undone & outside == _calls(ours, number, "down")
    if SAYS_NO[number % 3] == "city":
        assert done >= ALL
    with ours.runtime.engine.begin() as connection:
        told = show_saga(joined(connection), ours.settings.db_schema, id).standing
    stands = [("press", "bands.engaged", STAYS)] if "printed" in done else []
    assert [(each.consumer, each.kind, each.why) for each in told] == stands


def _calls(ours: Carnival, number: int, what: str) -> set[str]:
    rows = ours.query(
        "SELECT call FROM wall WHERE number = %s AND call LIKE %s", number, f"{what} %"
    )
    return {f"sign {call.removeprefix(what).strip()}" for (call,) in rows}


def _check_wall(ours: Carnival) -> None:
    """However often it was called, each call had the same key as before, and no other call has."""
    assert (
        ours.query(
            "SELECT number, call FROM wall GROUP BY 1, 2 HAVING count(DISTINCT key) > 1 "
            "UNION ALL SELECT NULL, key FROM wall GROUP BY key HAVING count(DISTINCT (number, call)) > 1"
        )
        == []
    )


def _check_order_of_undoing(ours: Carnival) -> None:
    """One step after the other, and in each the last to be done first: branches before causes."""
    undone = {order: place for place, order in ours.query("SELECT id, order_id FROM undid")}
    orders = ours.query(
        """SELECT u.id, u.root_id, u.saga_id, u.causation_id, m.id, u.recipient,
                  m.causation_id, m.sender
           FROM outbox AS u JOIN outbox AS m ON m.id = (u.payload ->> 'message_id')::uuid
           WHERE u.kind = 'saga.undo' ORDER BY u.seq"""
    )
    compared = 0
    for _, each in groupby(sorted(orders, key=lambda row: row[1]), key=lambda row: row[1]):
        of_root = list(each)
        # A reaction that comes late orders its own undo, when others are undone already.
        first = [row for row in of_root if row[3] == of_root[0][3]]
        places = [undone[order] for order, *_ in first if order in undone]
        assert places == sorted(places, reverse=True)
        by_delivery = {(row[4], row[5]): row[0] for row in first}
        for order, *_, cause, sender in first:
            above = by_delivery.get((cause, sender))
            if order in undone and above in undone:
                compared += 1
                assert undone[order] < undone[above]
    assert compared >= len(FIRST)
    roots: dict[UUID, list[UUID]] = defaultdict(list)
    placed = [row for row in orders if row[0] in undone]  # what stands has no place
    for _, root, saga, *_ in sorted(placed, key=lambda row: undone[row[0]]):
        roots[saga].append(root)
    for saga, of_saga in roots.items():
        steps = [root for root, _ in groupby(of_saga)]
        assert len(steps) == len(set(steps)), f"the steps of {saga} are mixed up"


def _check_order_of_troupes(ours: Carnival) -> None:
    """The parades of a troupe were escorted in the order in which that was called for."""
    rows = ours.query(
        "SELECT payload ->> 'troupe', seq FROM did JOIN outbox ON outbox.id = message_id "
        "WHERE act = 'escorted' ORDER BY did.id"
    )
    troupes: dict[str, list[int]] = defaultdict(list)
    for troupe, seq in rows:
        troupes[troupe].append(seq)
    assert len(troupes) == 5
    for seqs in troupes.values():
        assert seqs == sorted(seqs)


def _check_that_the_photographers_were_waited_for(ours: Carnival) -> None:
    """These had begun before there was one, and went on when the photos were taken."""
    assert ours.query(
        "SELECT bool_and(started_at < recorded_at) FROM saga, subscription "
        "WHERE consumer = 'photos' AND key::int = ANY (%s)",
        list(NEXT),
    ) == [(True,)]
    photos = ours.count("did", f"{_IS_PHOTO} AND number IN (SELECT number FROM permit)")
    assert photos >= 2 * sum(not SAYS_NO[n % 3] for n in (*NEXT, *LATER))
