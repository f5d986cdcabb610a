"""Causal trees of any shape: a command and the reactions to it, in some contexts, as data.

Each node of a tree is handled by one context, which writes down that it ran and publishes the
node's branches.  What is undone is written down too.

`cedar` may have a database of its own, `dogwood` undoes nothing, `elm` acts outside the database, and
`fir`, which reacts to what `beech` does, subscribes late if at all.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work, no_undo
from saga import CAUSAL, SETTLED, Command, Event, Rejected, Retry, Saga, Step
from saga.retry import DEFAULT_RETRY

#: The contexts of nodes.
NAMES = ("ash", "beech", "cedar", "dogwood", "elm")
#: All that are to be answered for.
CONSUMERS = (*NAMES, "fir", "saga.wood")

ONCE = Retry(attempts=1)
#: Workers that die are no reason to give up, what falls is.
PATIENT = Retry(attempts=10_000, never=(RuntimeError,))


class Node(BaseModel):
    """One reaction, and what follows from it."""

    name: str
    context: str = NAMES[0]
    #: What it does: "grow", "fall" (raises until it is mended), or "refuse".
    does: str = "grow"
    #: Its undo asks dogwood, which refuses.
    asks: bool = False
    branches: tuple["Node", ...] = ()

    def walk(self) -> Iterator["Node"]:
        """This node and all below it."""
        yield self
        for branch in self.branches:
            yield from branch.walk()


class Tree(BaseModel):
    """A saga that plants a tree and then may have it felled."""

    root: Node
    fell: bool = False


class Plant(Command, kind="ash.plant"):
    node: Node


class Fell(Command, kind="ash.fell"):
    pass


def branched(context: str) -> type[Event]:
    """The event to which a context reacts."""

    class Branched(Event, kind=f"{context}.branched"):
        node: Node

    return Branched


EVENTS: dict[str, Any] = {name: branched(name) for name in NAMES}

_AT = "at timestamptz NOT NULL DEFAULT clock_timestamp()"
DDL = f"""
CREATE TABLE ran ({_AT}, tree text, node text, context text);
CREATE TABLE undone ({_AT}, tree text, node text)
"""


class Wood:
    """The contexts and a saga, on a test's own schema.

    Args:
        runtime: Makes the runtime.
        outside: A connection that sees what is committed.
        apart: The same to the database of `cedar`, if it has one of its own.
        apart_engine: And its engine.
        options: For the runtime.

    Attributes:
        broken: Names of nodes that fall.
        stubborn: Names of nodes whose undo raises.
    """

    def __init__(
        self,
        runtime: Callable[..., Runtime],
        outside: Any,
        apart: Any = None,
        apart_engine: Any = None,
        **options: Any,
    ) -> None:
        self.outside = outside
        self.apart = apart
        self.broken: set[str] = set()
        self.stubborn: set[str] = set()
        #: Called with each node as it is handled.
        self.seen: Callable[[Node], None] = lambda _: None
        outside.execute(DDL)
        if apart is not None:
            apart.execute(DDL)
            options["databases"] = {"cedars": apart_engine}
        self.contexts = [*(self._context(name) for name in NAMES), self._fir()]
        self.saga = Saga(
            "wood",
            Tree,
            steps=(
                Step(
                    "plant",
                    lambda tree: Plant(node=tree.root),
                    until=SETTLED,
                    compensation=CAUSAL,
                ),
                Step("fell", lambda tree: Fell() if tree.fell else None),
            ),
        )
        self.runtime = runtime([self.saga], self.contexts, **options)
        self.runtime._administration.subscribe_once()
        self.leave()

    def leave(self) -> None:
        """Nobody tells fir anything any more."""
        self.outside.execute("DELETE FROM subscription WHERE consumer = 'fir'")

    def join(self) -> None:
        """Fir hears from now on."""
        self.runtime.subscribe()

    def plant(self, root: Node, *, fell: bool = False) -> UUID:
        """Start a saga over this tree."""
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(connection, self.saga, Tree(root=root, fell=fell))

    def settle(self, names: Sequence[str] = CONSUMERS) -> None:
        """Answer for all of these consumers until none of them has anything due."""
        while sum([self.runtime.answer(name) for name in names]) or self.lapse():
            pass

    def lapse(self) -> int:
        """Let the leases of workers that died end, as that of a forwarder; returns how many there were."""
        return int(
            self.outside.execute(
                "UPDATE inbox SET due_at = now(), ring_at = now() WHERE state = 'pending' "
                "AND lease IS NOT NULL AND due_at > now()"
            ).rowcount
        )

    def status(self, id: UUID) -> str:
        return str(
            self.outside.execute("SELECT status FROM saga WHERE id = %s", [id]).fetchone()[0]
        )

    def ran(self) -> list[str]:
        """The nodes whose handlers ran, in order."""
        return self.nodes("ran")

    def undone(self) -> list[str]:
        """The nodes that were undone, in order."""
        return self.nodes("undone")

    def parked(self) -> list[UUID]:
        rows = self.outside.execute("SELECT message_id FROM inbox WHERE state = 'parked'")
        return [id for (id,) in rows]

    def open(self) -> dict[UUID, int]:
        """The counts, by command."""
        return dict(self.outside.execute("SELECT root_id, open FROM settling").fetchall())

    def still_open(self) -> str:
        """Say in a few lines what is not over; for an example that does not end."""
        found = [
            ("sagas", "SELECT status, count(*) FROM saga WHERE finished_at IS NULL GROUP BY 1"),
            (
                "deliveries",
                "SELECT o.kind, i.consumer, i.state, i.wait_reason, count(*) FROM inbox i "
                "JOIN outbox o ON o.id = i.message_id WHERE i.state IN ('pending', 'parked') "
                "GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT 12",
            ),
            ("counts", "SELECT root_id, open FROM settling WHERE open <> 0 LIMIT 12"),
        ]
        lines = []
        # On connections of their own: those of the example are where it hangs.
        for one in self._connections:
            with psycopg.connect(one.info.dsn, password=one.info.password) as other:
                for what, query in found:
                    rows = other.execute(query).fetchall()
                    lines.append(f"{what} open: {'; '.join(map(str, rows)) or 'none'}")
        return "\n".join(lines)

    def nodes(self, table: str, id: UUID | None = None) -> list[str]:
        """What a table of one tree or of all holds, in both databases, in the order of writing."""
        query = f"SELECT at, node FROM {table} WHERE %(id)s::text IS NULL OR tree = %(id)s"
        asked = {"id": None if id is None else str(id)}
        rows = [row for one in self._connections for row in one.execute(query, asked)]
        return [node for _, node in sorted(rows)]

    def forget(self) -> None:
        """Empty the tables, so that one example costs no more than another."""
        for one in self._connections:
            one.execute("TRUNCATE ran, undone, saga, outbox, inbox, settling")

    def shuffle(self) -> None:
        """Let what is due come in another order."""
        for one in self._connections:
            one.execute(
                "UPDATE inbox SET due_at = now() - random() * interval '1 hour' "
                "WHERE state = 'pending' AND due_at <= now()"
            )

    @property
    def _connections(self) -> list[Any]:
        return [self.outside] if self.apart is None else [self.outside, self.apart]

    def _context(self, name: str) -> Context:
        alone = name == "cedar" and self.apart is not None
        context = Context(name, database="cedars" if alone else None)
        emits = tuple(EVENTS.values())

        def grow(message: Any, work: Work) -> None:
            node = message.node
            self.seen(node)
            if node.does == "refuse":
                raise Rejected(f"{node.name} refuses")
            if node.name in self.broken:
                raise RuntimeError(f"{node.name} fell")
            work.begin()
            work.execute(
                "INSERT INTO ran (tree, node, context) VALUES (%(tree)s, %(node)s, %(context)s)",
                {"tree": str(work.saga_id), "node": node.name, "context": name},
            )
            for branch in node.branches:
                work.publish(EVENTS[branch.context](node=branch))

        def shrink(message: Any, work: Work) -> None:
            if message.node.name in self.stubborn:
                raise RuntimeError(f"{message.node.name} stands fast")
            work.begin()
            work.execute(
                "INSERT INTO undone (tree, node) VALUES (%(tree)s, %(node)s)",
                {"tree": str(work.saga_id), "node": message.node.name},
            )
            if message.node.asks:
                no = Node(name="no", context="dogwood", does="refuse")
                work.publish(EVENTS["dogwood"](node=no))

        undo = no_undo("it is written in stone") if name == "dogwood" else shrink
        outside = name == "elm"
        retry = PATIENT if outside else ONCE
        react = context.reacts_to(
            EVENTS[name], emits=emits, retry=retry, undo=undo, external=outside
        )
        react(grow)
        if name == "ash":
            context.handles(Plant, emits=emits, retry=ONCE, undo=shrink)(grow)

            @context.handles(Fell, retry=DEFAULT_RETRY)
            def fell(command: Fell, work: Work) -> None:
                raise Rejected("the axe came")

        return context

    def _fir(self) -> Context:
        context = Context("fir")

        def stand_by(message: Any, work: Work) -> None:
            work.execute(
                "INSERT INTO ran (tree, node, context) VALUES (%(tree)s, %(node)s, 'fir')",
                {"tree": str(work.saga_id), "node": beside(message.node.name)},
            )

        def stand_down(message: Any, work: Work) -> None:
            work.execute(
                "INSERT INTO undone (tree, node) VALUES (%(tree)s, %(node)s)",
                {"tree": str(work.saga_id), "node": beside(message.node.name)},
            )

        context.reacts_to(EVENTS["beech"], undo=stand_down)(stand_by)
        return context


def beside(name: str) -> str:
    """What fir writes down of a node of beech."""
    return f"{name} beside"
