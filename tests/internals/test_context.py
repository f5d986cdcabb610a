"""Declarations: what cannot work is refused while it is written, in one sentence."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work
from saga import (
    Category,
    Command,
    DefinitionError,
    Done,
    Envelope,
    Event,
    Message,
    Retry,
    Saga,
    UndeclaredEmission,
    Wait,
)
from saga.retry import DEFAULT_RETRY


class Paint(Command, kind="shed.paint"):
    pass


class Plant(Command, kind="garden.plant"):
    pass


class Painted(Event, kind="shed.painted"):
    pass


class Family(Command):
    """Declares no kind: only its subclasses are messages."""


def function(_: Any, work: Work) -> None:
    """Any handler."""


class TestName:
    @pytest.mark.parametrize("name", ["", "Shed", "tool shed", "shed.tools", "1st", "shed-2", None])
    def test_it_is_a_lower_case_word(self, name: Any) -> None:
        with pytest.raises(DefinitionError, match="must be a lower-case word such as 'flights'"):
            Context(name)

    def test_saga_is_the_framework_s_own(self) -> None:
        with pytest.raises(DefinitionError, match="the name is the framework's own"):
            Context("saga")


class TestHandles:
    @pytest.mark.parametrize("command", [Painted, Command, Family, Done, Message, Paint(), "x"])
    def test_it_takes_a_command_class_with_a_kind(self, command: Any) -> None:
        with pytest.raises(DefinitionError, match=r"handles\(\) takes a Command class"):
            Context("shed").handles(command)

    def test_a_command_of_another_context_would_never_arrive(self) -> None:
        with pytest.raises(DefinitionError, match=r"'garden\.plant' goes to the context 'garden'"):
            Context("shed").handles(Plant)

    def test_a_command_has_one_handler(self) -> None:
        shed = Context("shed")
        shed.handles(Paint)(function)
        with pytest.raises(DefinitionError, match="has a handler already, 'function'"):
            shed.handles(Paint)(function)

    def test_the_function_stays_what_it_was(self) -> None:
        shed = Context("shed")
        assert shed.handles(Paint)(function) is function
        assert shed.handlers["shed.paint"].function is function

    def test_what_is_declared_is_kept(self) -> None:
        shed = Context("shed")
        retry = Retry(attempts=2)
        shed.handles(Paint, emits=(Painted, Plant), retry=retry)(function)
        handler = shed.handlers["shed.paint"]
        assert (handler.message, handler.emits, handler.retry) == (Paint, (Painted, Plant), retry)

    def test_without_a_policy_it_gets_the_usual_one(self) -> None:
        shed = Context("shed")
        shed.handles(Paint)(function)
        assert shed.handlers["shed.paint"].retry is DEFAULT_RETRY


class TestReactsTo:
    @pytest.mark.parametrize("event", [Paint, Event, Message, Done, Painted(), None])
    def test_it_takes_an_event_class_with_a_kind(self, event: Any) -> None:
        with pytest.raises(DefinitionError, match=r"reacts_to\(\) takes an Event class"):
            Context("garden").reacts_to(event)

    def test_any_context_may_react_and_subscribes_by_it(self) -> None:
        garden = Context("garden")
        garden.reacts_to(Painted)(function)
        garden.handles(Plant)(function)
        assert garden.subscriptions == (("shed.painted", None),)

    def test_one_reaction_a_context(self) -> None:
        garden = Context("garden")
        garden.reacts_to(Painted)(function)
        with pytest.raises(DefinitionError, match="has a handler already"):
            garden.reacts_to(Painted)(function)


@pytest.mark.parametrize("emitted", [Done, Message, "shed.painted", Painted()])
def test_emits_lists_command_and_event_classes(emitted: Any) -> None:
    shed = Context("shed")
    with pytest.raises(DefinitionError, match="emits of 'function' must"):
        shed.handles(Paint, emits=(emitted,))(function)
    assert shed.handlers == {}


def test_a_class_that_declares_no_kind_cannot_be_emitted() -> None:
    with pytest.raises(DefinitionError, match="emits of 'function'"):
        Context("shed").handles(Paint, emits=(Family,))(function)


def test_one_class_that_is_no_tuple_is_refused_in_words() -> None:
    with pytest.raises(DefinitionError, match="emits of 'function'"):
        Context("shed").handles(Paint, emits=Painted)(function)  # type: ignore[arg-type]


class Tag(BaseModel):
    number: str
    notes: dict[str, int] = {}


class Tagged(Event, kind="shed.tagged"):
    tag: Tag
    perhaps: Tag | None = None
    several: tuple[Tag, ...] = ()
    anything: Any = None
    words: str = ""


class TestOrderedBy:
    @pytest.mark.parametrize(
        "path",
        [
            "words",
            "tag",
            "tag.number",
            "perhaps.number",
            "tag.notes.a",
            "anything.of.it",
            "several.0",
        ],
    )
    def test_a_field_of_the_event_or_within_it(self, path: str) -> None:
        shed = Context("shed")
        shed.reacts_to(Tagged, ordered_by=path)(function)
        assert shed.subscriptions == (("shed.tagged", path),)

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "typo",
            "tag.typo",
            "perhaps.typo",
            "words.typo",
            "tag.number.typo",
            "several.number",
            "tag.",
            ".tag",
            "tag..number",
        ],
    )
    def test_what_is_no_field_orders_nothing_and_is_refused(self, path: str) -> None:
        with pytest.raises(DefinitionError, match=f"has no field '{path}' to be ordered by"):
            Context("shed").reacts_to(Tagged, ordered_by=path)


class TestOptions:
    @pytest.mark.parametrize("retry", [3, None, "3", Retry])
    def test_retry_is_a_policy(self, retry: Any) -> None:
        with pytest.raises(DefinitionError, match="retry of 'function' must be a Retry, such as"):
            Context("shed").handles(Paint, retry=retry)(function)

    @pytest.mark.parametrize("lease", [timedelta(0), timedelta(seconds=-5), 5, None])
    def test_a_lease_is_longer_than_nothing(self, lease: Any) -> None:
        with pytest.raises(
            DefinitionError, match="lease of 'function' must be a positive timedelta"
        ):
            Context("shed").reacts_to(Painted, external=True, lease=lease)(function)

    @pytest.mark.parametrize("handler", [None, "function", 7])
    def test_a_handler_can_be_called(self, handler: Any) -> None:
        with pytest.raises(DefinitionError, match="must be a function"):
            Context("shed").handles(Paint)(handler)


class PaintedToo(Event, kind="shed.painted"):
    """The same kind, by mistake."""


class TestKinds:
    def test_two_classes_of_one_kind_are_refused(self) -> None:
        with pytest.raises(DefinitionError, match=r"uses two classes of kind 'shed\.painted'"):
            Context("shed").handles(Paint, emits=(Painted, PaintedToo))(function)

    def test_also_of_two_handlers(self) -> None:
        shed = Context("shed")
        shed.handles(Paint, emits=(Painted,))(function)
        with pytest.raises(DefinitionError, match=r"uses two classes of kind 'shed\.painted'"):
            shed.reacts_to(PaintedToo)(function)

    def test_and_by_a_saga(self) -> None:
        with pytest.raises(DefinitionError, match="Saga 'job' uses two classes of kind"):
            Saga(
                "job",
                Tag,
                steps=(Wait("one", until=Painted), Wait("other", until=PaintedToo)),
            )

    def test_a_class_that_a_reload_defined_anew_is_the_same(self) -> None:
        def again() -> type[Event]:
            class Moved(Event, kind="shed.moved"):
                pass

            return Moved

        Context("shed").handles(Paint, emits=(again(), again()))(function)


class Weighed(Event, kind="shed.weighed"):
    order: str


class WeighedByANewerRelease(Event, kind="shed.weighed"):
    order: str
    grams: int = 0


class WeighedElsewhere(Event, kind="shed.weighed"):
    parcel: str


class TestApplication:
    """What one context sends, another one or a saga reads."""

    @staticmethod
    def runtime(made: type[Event], read: type[Event], *, by_saga: bool) -> Runtime:
        shed, garden = Context("shed"), Context("garden")
        shed.handles(Paint, emits=(made,))(function)
        if by_saga:
            return Runtime(
                sagas=[Saga("job", Tag, steps=(Wait("one", until=read),))], contexts=[shed]
            )
        garden.reacts_to(read)(function)
        return Runtime(contexts=[shed, garden])

    @pytest.mark.parametrize("by_saga", [False, True])
    def test_a_class_of_its_own_may_lack_what_it_does_not_need(self, by_saga: bool) -> None:
        self.runtime(Weighed, WeighedByANewerRelease, by_saga=by_saga)
        self.runtime(WeighedByANewerRelease, Weighed, by_saga=by_saga)

    @pytest.mark.parametrize("by_saga", [False, True])
    def test_one_that_can_never_be_read_is_refused(self, by_saga: bool) -> None:
        with pytest.raises(DefinitionError, match=r"kind 'shed\.weighed' has two classes: context"):
            self.runtime(Weighed, WeighedElsewhere, by_saga=by_saga)


@pytest.mark.parametrize("what", [Paint(), Family(), Event(), Done(), "x", None, Painted])
def test_only_an_event_is_published(what: Any) -> None:
    with pytest.raises(TypeError, match=r"publish\(\)"):
        Runtime().publish(None, what)
    work = Work(
        Envelope(id=UUID(int=1), kind="x.y", category=Category.EVENT, payload="{}"),
        consumer="shed",
        emits=(Paint, Painted),
    )
    with pytest.raises((TypeError, UndeclaredEmission)):
        work.publish(what)
