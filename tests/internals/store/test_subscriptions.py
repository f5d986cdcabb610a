"""Subscriptions are data: recorded when a worker boots, and kept when it is gone."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from internals import Context, Work
from saga import Command, Event


class Rang(Event, kind="tower.rang"):
    pass


class Fell(Event, kind="tower.fell"):
    pass


class Ring(Command, kind="tower.ring"):
    pass


def context(name: str, *events: type[Event]) -> Context:
    made = Context(name)
    for event in events:
        made.reacts_to(event)(_ignore)
    return made


def _ignore(_: Any, work: Work) -> None:
    """A reaction of which only the subscription counts."""


def recorded(store: Any) -> list[tuple[str, str]]:
    rows = store.rows("SELECT kind, consumer FROM subscription ORDER BY kind, consumer")
    return [(row["kind"], row["consumer"]) for row in rows]


def test_each_reaction_is_one_row(store: Any) -> None:
    store.subscribe(context("town", Rang, Fell), context("choir", Rang))
    assert recorded(store) == [
        ("tower.fell", "town"),
        ("tower.rang", "choir"),
        ("tower.rang", "town"),
    ]


def test_commands_are_routed_by_name_and_not_subscribed_to(store: Any) -> None:
    tower = Context("tower")
    tower.handles(Ring)(_ignore)
    store.subscribe(tower)
    assert recorded(store) == []


def test_repeating_it_changes_nothing(store: Any) -> None:
    store.subscribe(context("town", Rang))
    before = store.rows("SELECT * FROM subscription")
    store.subscribe(context("town", Rang))
    assert store.rows("SELECT * FROM subscription") == before


def test_a_worker_that_knows_less_takes_nothing_away(store: Any) -> None:
    store.subscribe(context("town", Rang, Fell))
    store.subscribe(context("town", Rang))
    assert recorded(store) == [("tower.fell", "town"), ("tower.rang", "town")]


def test_workers_that_boot_at_once_do_not_collide(store: Any) -> None:
    # In opposite orders, as two releases may list their contexts.
    contexts = [context(f"c{n}", Rang, Fell) for n in range(50)]
    orders = [contexts, contexts[::-1]] * 4
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda order: store.subscribe(*order), orders))
    assert len(recorded(store)) == 100
