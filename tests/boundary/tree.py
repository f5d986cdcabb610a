"""Causal trees of any shape: a command and the reactions to it, in four contexts, as data.

Each node of a tree is handled by one context, which writes down that it ran and publishes the
node's branches.  What is undone is written down too.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work, no_undo
from saga import CAUSAL, SETTLED, Command, Event, Rejected, Retry, Saga, Step
from saga.retry import DEFAULT_RETRY

NAMES = ("ash", "beech", "cedar", "dogwood")

ONCE = Retry(attempts=1)


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


EVENTS = {name: branched(name) for name in NAMES}

DDL = """
CREATE TABLE ran (id bigint GENERATED ALWAYS AS IDENTITY, tree text, node text, context text);
CREATE TABLE undone (id bigint GENERATED ALWAYS AS IDENTITY, tree text, node text)
"""


class Wood:
    """The contexts and two sagas, on a test's own schema.

    Attributes:
        broken: Names of nodes that fall.
        stubborn: Names of nodes whose undo raises.
    """

    def __init__(self, runtime: Callable[..., Runtime], outside: Any, **options: Any) -> None:
        self.outside = outside
        self.broken: set[str] = set()
        self.stubborn: set[str] = set()
        #: Called with each node as it is handled.
        self.seen: Callable[[Node], None] = lambda _: None
        outside.execute(DDL)
        self.contexts = [self._context(name) for name in NAMES]
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
        self.runtime.subscribe()

    def plant(self, root: Node, *, fell: bool = False) -> UUID:
        """Start a saga over this tree."""
        with self.runtime.engine.begin() as connection:
            return self.runtime.start(connection, self.saga, Tree(root=root, fell=fell))

    def settle(self, names: Sequence[str] = (*NAMES, "saga.wood")) -> None:
        """Answer for all of these consumers until none of them has anything due."""
        while sum([self.runtime.answer(name) for name in names]):
            pass

    def status(self, id: UUID) -> str:
        return str(
            self.outside.execute("SELECT status FROM saga WHERE id = %s", [id]).fetchone()[0]
        )

    def ran(self) -> list[str]:
        """The nodes whose handlers ran, in order."""
        return [n for (n,) in self.outside.execute("SELECT node FROM ran ORDER BY id")]

    def undone(self) -> list[str]:
        """The nodes that were undone, in order."""
        return [n for (n,) in self.outside.execute("SELECT node FROM undone ORDER BY id")]

    def parked(self) -> list[UUID]:
        rows = self.outside.execute("SELECT message_id FROM inbox WHERE state = 'parked'")
        return [id for (id,) in rows]

    def open(self) -> dict[UUID, int]:
        """The counts, by command."""
        return dict(self.outside.execute("SELECT root_id, open FROM settling").fetchall())

    def _context(self, name: str) -> Context:
        context = Context(name)
        emits = tuple(EVENTS.values())

        def grow(message: Any, work: Work) -> None:
            node = message.node
            self.seen(node)
            if node.does == "refuse":
                raise Rejected(f"{node.name} refuses")
            if node.name in self.broken:
                raise RuntimeError(f"{node.name} fell")
            work.execute(
                "INSERT INTO ran (tree, node, context) VALUES (%(tree)s, %(node)s, %(context)s)",
                {"tree": str(work.saga_id), "node": node.name, "context": name},
            )
            for branch in node.branches:
                work.publish(EVENTS[branch.context](node=branch))

        def shrink(message: Any, work: Work) -> None:
            if message.node.name in self.stubborn:
                raise RuntimeError(f"{message.node.name} stands fast")
            work.execute(
                "INSERT INTO undone (tree, node) VALUES (%(tree)s, %(node)s)",
                {"tree": str(work.saga_id), "node": message.node.name},
            )
            if message.node.asks:
                no = Node(name="no", context="dogwood", does="refuse")
                work.publish(EVENTS["dogwood"](node=no))

        undo = no_undo("it is written in stone") if name == "dogwood" else shrink
        context.reacts_to(EVENTS[name], emits=emits, retry=ONCE, undo=undo)(grow)
        if name == "ash":
            context.handles(Plant, emits=emits, retry=ONCE, undo=shrink)(grow)

            @context.handles(Fell, retry=DEFAULT_RETRY)
            def fell(command: Fell, work: Work) -> None:
                raise Rejected("the axe came")

        return context
