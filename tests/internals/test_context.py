"""Declarations: what cannot work is refused while it is written, in one sentence."""

from typing import Any

import pytest

from internals import Context, Work
from saga import Command, DefinitionError, Done, Event, Message, Retry
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
