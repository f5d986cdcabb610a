"""Steps: Step, Wait and Parallel, as values made of pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, get_args

from pydantic import BaseModel
from typing_extensions import TypeVar

from saga.causal import CAUSAL, COUNTED, Causal
from saga.errors import DefinitionError
from saga.messages import Command, Done, Event, Message, Settled
from saga.retry import Retry
from saga.validation.functions import check_function
from saga.validation.step_fields import check_name, check_timeout, require_event

D = TypeVar("D", bound=BaseModel)
#: The message that ends a step well.  Type checkers infer it from `until`, and hold the arguments of
#: `on_success` against it.
E = TypeVar("E", bound=Message, default=Any)

OnFault = Literal["stuck", "compensate"]


#: What the functions of a step are called with.
_ARGUMENTS = {"action": ("data",), "on_success": ("data", "outcome"), "compensation": ("data",)}


class AnyStep(Generic[D]):
    """A `Step`, whatever ends it: steps of one saga share its data, and each has its own outcome."""


class AnyWait(Generic[D]):
    """A `Wait`, whatever ends it."""


@dataclass(frozen=True)
class Step(AnyStep[D], Generic[D, E]):
    """One step: a command to a context, the outcome that ends it, and how it is undone.

    Its functions are pure: they are run again whenever a saga is folded from its messages.

    Args:
        name: Stored with every saga, so it must stay the same when the functions are renamed.
        action: Data to command; None skips the step.
        until: The event that ends the step, from any context further down the choreography, or
            `SETTLED`: the step ends when everything that the command set off is done.  Without it the
            step ends when the command's own handler has committed.
        rejected_by: Events that mean the business said no.
        on_success: Data and outcome to new data; the outcome is the event of `until`, or `Done`.
        compensation: Data to the command that undoes the step; or `CAUSAL`: each handler that ran
            below its command undoes that, the last one first.  None where nothing needs undoing.
        pivot: After this step the saga only goes forward.
        retry: How often the command's handler is tried; overrides the handler's own policy.
        timeout: How long to wait for the outcome.  Then the command is revoked if nobody started it;
            otherwise the step is in doubt, and is compensated too.
        on_fault: What an error that retries did not cure does: the saga is stuck, or compensates.

    Raises:
        DefinitionError: The step cannot work, such as a pivot that is to be undone on a fault.

    Example:
        ```python
        from datetime import timedelta

        from pydantic import BaseModel

        from saga import Command, Event, Step

        class Trip(BaseModel):
            id: str
            seats: tuple[str, ...] = ()

        class Reserve(Command, kind="flights.reserve"):
            trip: str

        class Release(Command, kind="flights.release"):
            trip: str

        class Assigned(Event, kind="seating.assigned"):
            seats: tuple[str, ...]

        def keep_seats(trip: Trip, event: Assigned) -> Trip:
            return trip.model_copy(update={"seats": event.seats})

        flight = Step[Trip, Assigned](
            "flight",
            lambda trip: Reserve(trip=trip.id),
            until=Assigned,
            on_success=keep_seats,
            compensation=lambda trip: Release(trip=trip.id),
            timeout=timedelta(minutes=10),
        )
        ```
    """

    name: str
    action: Callable[[D], Command | None]
    until: type[E] | None = None
    rejected_by: type[Event] | tuple[type[Event], ...] = ()
    on_success: Callable[[D, E], D] | None = None
    compensation: Callable[[D], Command | None] | Literal[Causal.CAUSAL] | None = None
    pivot: bool = False
    retry: Retry | None = None
    timeout: timedelta | None = None
    on_fault: OnFault = "stuck"

    def __post_init__(self) -> None:
        check_name("Step", self.name)
        check_timeout(self.name, self.timeout)
        if self.on_fault not in get_args(OnFault):
            raise DefinitionError(
                f"Step {self.name!r}: on_fault must be 'stuck' or 'compensate', "
                f"not {self.on_fault!r}"
            )
        if self.pivot and self.on_fault == "compensate":
            raise DefinitionError(
                f"Step {self.name!r}: a pivot cannot have on_fault='compensate': whether it "
                "happened is not known, and it cannot be undone"
            )
        for role, arguments in _ARGUMENTS.items():
            function = getattr(self, role)
            if role == "compensation" and function is CAUSAL:
                continue
            if function is not None or role == "action":
                check_function(function, f"Step {self.name!r}: {role}", *arguments)
        if self.until is not None and self.until is not Settled:
            require_event(self.name, "until", self.until)
        for event in self.rejections:
            require_event(self.name, "rejected_by", event)
            if self.until is not None and event.kind == self.until.kind:
                raise DefinitionError(
                    f"Step {self.name!r}: {event.kind} cannot both end and reject the step"
                )
        if self.retry is not None and not isinstance(self.retry, Retry):
            raise DefinitionError(
                f"Step {self.name!r}: retry must be a Retry, such as Retry(attempts=3), "
                f"not {self.retry!r}"
            )

    @cached_property
    def rejections(self) -> tuple[type[Event], ...]:
        """The events of `rejected_by`, always as a tuple."""
        return self.rejected_by if isinstance(self.rejected_by, tuple) else (self.rejected_by,)

    @cached_property
    def outcome(self) -> type[Message]:
        """The message that ends the step well."""
        return Done if self.until is None else self.until

    @cached_property
    def awaits(self) -> tuple[str, ...]:
        """The kinds that the step's command asks to receive."""
        counted = self.compensation is CAUSAL and self.outcome is not Settled
        told = (self.outcome.kind, *(event.kind for event in self.rejections))
        return (*told, COUNTED) if counted else told


@dataclass(frozen=True)
class Wait(AnyWait[D], Generic[D, E]):
    """A step that waits for an outside message: a person or a partner answers.

    `Runtime.signal` and ``saga signal`` send one.  A message that comes early is kept.

    Args:
        name: Stored with every saga, so it must stay the same.
        until: The event that ends it well.
        rejected_by: Events that mean no; so does the timeout.
        on_success: Data and event to new data.
        timeout: How long to wait; for ever if not given.

    Raises:
        DefinitionError: It cannot work.

    Example:
        ```python
        from datetime import timedelta

        from pydantic import BaseModel

        from saga import Event, Wait

        class Loan(BaseModel):
            cents: int

        class Approved(Event, kind="desk.approved"):
            by: str

        class Declined(Event, kind="desk.declined"):
            by: str

        approval = Wait[Loan](
            "approval", until=Approved, rejected_by=Declined, timeout=timedelta(days=3)
        )
        ```
    """

    name: str
    until: type[E]
    rejected_by: type[Event] | tuple[type[Event], ...] = ()
    on_success: Callable[[D, E], D] | None = None
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        check_name("Wait", self.name)
        check_timeout(self.name, self.timeout)
        require_event(self.name, "until", self.until)
        for event in self.rejections:
            require_event(self.name, "rejected_by", event)
            if event.kind == self.until.kind:
                raise DefinitionError(
                    f"Wait {self.name!r}: {event.kind} cannot both end and reject the step"
                )
        if self.on_success is not None:
            check_function(self.on_success, f"Wait {self.name!r}: on_success", "data", "event")

    @cached_property
    def rejections(self) -> tuple[type[Event], ...]:
        """The events of `rejected_by`, always as a tuple."""
        return self.rejected_by if isinstance(self.rejected_by, tuple) else (self.rejected_by,)

    @cached_property
    def awaits(self) -> tuple[str, ...]:
        """The kinds that it takes."""
        return (self.until.kind, *(event.kind for event in self.rejections))

    @property
    def outcome(self) -> type[Message]:
        """The message that ends it well."""
        return self.until

    # What every step has, and a wait has not.
    pivot: ClassVar[bool] = False
    compensation: ClassVar[None] = None


@dataclass(frozen=True, init=False)
class Parallel(Generic[D]):
    """Steps that are commanded together; the saga goes on when the outcome of each is known.

    Args:
        *steps: Two steps or more, none of them a pivot; kept as the tuple `steps`.

    Raises:
        DefinitionError: One of them is no step that can run beside others.

    Example:
        ```python
        from pydantic import BaseModel

        from saga import Command, Parallel, Step

        class Trip(BaseModel):
            id: str

        class Book(Command, kind="hotels.book"):
            trip: str

        class Rent(Command, kind="cars.rent"):
            trip: str

        stay = Parallel(
            Step[Trip]("hotel", lambda trip: Book(trip=trip.id)),
            Step[Trip]("car", lambda trip: Rent(trip=trip.id)),
        )
        assert [step.name for step in stay.steps] == ["hotel", "car"]
        ```
    """

    steps: tuple[Step[D], ...]

    def __init__(self, *steps: AnyStep[D]) -> None:
        if len(steps) < 2:
            raise DefinitionError("Parallel: give it two steps or more")
        for step in steps:
            if not isinstance(step, Step):
                raise DefinitionError(f"Parallel: {step!r} is not a Step")
            if step.pivot:
                raise DefinitionError(
                    f"Step {step.name!r}: a pivot cannot run in parallel with other steps; "
                    "make it a step of its own"
                )
        object.__setattr__(self, "steps", steps)
