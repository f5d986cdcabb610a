"""Saga, Step and Parallel: a process as a value made of pure functions.

Everything that can be wrong with a definition is found when it is constructed, with one
sentence that names the saga, the step and the way out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from saga.validation.kinds import check_kinds
from saga.validation.step_fields import NAME, check_name, check_timeout, require_event

D = TypeVar("D", bound=BaseModel)
#: The message that ends a step well.  Type checkers infer it from `until`, and hold the arguments of
#: `on_success` against it.
E = TypeVar("E", bound=Message, default=Any)

OnFault = Literal["stuck", "compensate"]
OnCompensationFault = Literal["stop", "go_on"]


#: What the functions of a step are called with.
_ARGUMENTS = {"action": ("data",), "on_success": ("data", "outcome"), "compensation": ("data",)}


class AnyStep(Generic[D]):
    """A `Step`, whatever ends it: steps of one saga share its data, and each has its own outcome."""


class AnyWait(Generic[D]):
    """A `Wait`, whatever ends it."""


@dataclass(frozen=True)
class Step(AnyStep[D], Generic[D, E]):
    """One step: a command to a context, the outcome that ends it, and how it is undone."""

    #: Stored with every saga, so it must stay the same when the functions are renamed.
    name: str
    #: Data to command; None skips the step.
    action: Callable[[D], Command | None]
    #: The event that ends the step, from any context further down the choreography, or `SETTLED`:
    #: the step ends when everything that the command set off is done.  Without it the step ends
    #: when the command's own handler has committed.
    until: type[E] | None = None
    #: Events that mean the business said no.
    rejected_by: type[Event] | tuple[type[Event], ...] = ()
    #: Data and outcome to new data; the outcome is the event of `until`, or `Done`.
    on_success: Callable[[D, E], D] | None = None
    #: Data to the command that undoes the step; or `CAUSAL`: each handler that ran below its command
    #: undoes that, the last one first.  None where nothing needs undoing.
    compensation: Callable[[D], Command | None] | Literal[Causal.CAUSAL] | None = None
    #: After this step the saga only goes forward.
    pivot: bool = False
    #: How often the command's handler is tried; overrides the handler's own policy.
    retry: Retry | None = None
    #: How long to wait for the outcome.  Then the command is taken back if nobody started it;
    #: otherwise the step is in doubt, and is compensated too.
    timeout: timedelta | None = None
    #: What an error that retries did not cure does: the saga is stuck, or compensates.
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
        """The kinds that the step's command asks to be told of."""
        counted = self.compensation is CAUSAL and self.outcome is not Settled
        told = (self.outcome.kind, *(event.kind for event in self.rejections))
        return (*told, COUNTED) if counted else told


@dataclass(frozen=True)
class Wait(AnyWait[D], Generic[D, E]):
    """A step that waits for an outside message: a person or a partner answers.

    `Runtime.signal` and ``saga signal`` send one.  A message that comes early is kept.
    """

    name: str
    #: The event that ends it well.
    until: type[E]
    #: Events that mean no; so does the timeout.
    rejected_by: type[Event] | tuple[type[Event], ...] = ()
    #: Data and event to new data.
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
    """Steps that are commanded together; the saga goes on when all of them are known."""

    steps: tuple[AnyStep[D], ...]

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


@dataclass(frozen=True)
class Saga(Generic[D]):
    """A process at the boundary: all of it is done, or all of it is undone."""

    #: Stored and part of a queue's name; must stay the same for good.
    name: str
    #: The saga's data: a pydantic model, frozen by convention; steps make new values of it.
    data: type[D]
    steps: tuple[AnyStep[D] | AnyWait[D] | Parallel[D], ...]
    #: Raise it whenever the steps change; running sagas keep the version they began with.
    version: int = 1
    #: Data to business key: one saga for each key.
    key: Callable[[D], str] | None = None
    #: How long the saga may take up to its pivot; then it compensates.
    deadline: timedelta | None = None
    #: Whether the other compensations stop or go on when one failed; stuck it is either way.
    on_compensation_fault: OnCompensationFault = "stop"
    #: Groups of steps: a plain step alone, parallel ones together.
    groups: tuple[tuple[Step[D] | Wait[D], ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise DefinitionError(
                f"Saga {self.name!r}: a saga's name must be a lower-case word such as 'book_trip'"
            )
        if not (isinstance(self.data, type) and issubclass(self.data, BaseModel)):
            raise DefinitionError(f"Saga {self.name!r}: data must be a pydantic model class")
        if not isinstance(self.version, int) or self.version < 1:
            raise DefinitionError(f"Saga {self.name!r}: version must be 1 or more")
        if not isinstance(self.steps, tuple) or not self.steps:
            raise DefinitionError(f"Saga {self.name!r}: steps must be a tuple of one step or more")
        for step in self.steps:
            if not isinstance(step, Step | Wait | Parallel):
                raise DefinitionError(
                    f"Saga {self.name!r}: {step!r} is neither Step nor Wait nor Parallel"
                )
        check_timeout(self.name, self.deadline)
        if self.on_compensation_fault not in get_args(OnCompensationFault):
            raise DefinitionError(
                f"Saga {self.name!r}: on_compensation_fault must be 'stop' or 'go_on', "
                f"not {self.on_compensation_fault!r}"
            )
        if self.key is not None and not callable(self.key):
            raise DefinitionError(
                f"Saga {self.name!r}: key must be a function of the data, or None"
            )
        if self.key is not None:
            check_function(self.key, f"Saga {self.name!r}: key", "data")
        groups = tuple(s.steps if isinstance(s, Parallel) else (s,) for s in self.steps)
        object.__setattr__(self, "groups", groups)
        self._check_names()
        self._check_pivot()
        check_kinds(self.events, f"Saga {self.name!r}")

    def __iter__(self) -> Iterator[Step[D] | Wait[D]]:
        """Iterate over all steps in order, those of parallel groups one after the other."""
        return (step for group in self.groups for step in group)

    @property
    def events(self) -> Iterator[type[Message]]:
        """The events that its steps await."""
        return (event for step in self for event in (step.until, *step.rejections) if event)

    def step(self, name: str) -> Step[D] | Wait[D]:
        """Return the step of this name; raises KeyError."""
        return self._by_name[name]

    @cached_property
    def pivot(self) -> str | None:
        """The name of the pivot step, if there is one."""
        return next((step.name for step in self if step.pivot), None)

    @cached_property
    def _by_name(self) -> dict[str, Step[D] | Wait[D]]:
        return {step.name: step for step in self}

    def _check_names(self) -> None:
        seen: set[str] = set()
        for step in self:
            if step.name in seen:
                raise DefinitionError(
                    f"Saga {self.name!r}: two steps are called {step.name!r}; "
                    "stored state names steps, so each needs its own name"
                )
            seen.add(step.name)

    def _check_pivot(self) -> None:
        passed: str | None = None
        for step in self:
            if step.pivot and passed is not None:
                raise DefinitionError(
                    f"Saga {self.name!r}: steps {passed!r} and {step.name!r} are both marked "
                    "pivot; a saga has at most one"
                )
            if step.pivot:
                passed = step.name
            if passed is not None and step.compensation is not None:
                raise DefinitionError(
                    f"Saga {self.name!r}: step {step.name!r} has a compensation but stands at or "
                    f"after the pivot {passed!r}, from where the saga only goes forward"
                )
