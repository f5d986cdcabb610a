"""Functions: what would not run when it is called is refused where it is declared."""

# ruff: noqa: ARG005, PLW0108 - the names of the arguments are what is tried

import asyncio
import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from boundary.orchestration.start import business_key
from internals import Context
from saga import CAUSAL, Command, DefinitionError, Event, Parallel, Retry, Saga, Step, Wait
from saga.testing import given
from saga.validation.durations import LONGEST
from saga.validation.functions import check_returned


class Order(BaseModel):
    number: str


class Do(Command, kind="jobs.do"):
    order: str


class Answer(Event, kind="people.answer"):
    ok: bool = True


async def coroutine(*_: Any) -> Any: ...


def generator(*_: Any) -> Any:
    yield


async def asynchronous_generator(*_: Any) -> Any:
    yield


class Asynchronous:
    """An object that is called."""

    async def __call__(self, *_: Any) -> Any: ...

    async def method(self, *_: Any) -> Any: ...

    @classmethod
    async def of_class(cls, *_: Any) -> Any: ...

    @staticmethod
    async def static(*_: Any) -> Any: ...


class Generating:
    def __call__(self, *_: Any) -> Any:
        yield


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def run(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return asyncio.run(function(*arguments))

    return wrapper


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    yield


UNFINISHED: dict[str, Any] = {
    "async def": coroutine,
    "generator": generator,
    "async generator": asynchronous_generator,
    "callable object": Asynchronous(),
    "callable object that yields": Generating(),
    "method": Asynchronous().method,
    "class method": Asynchronous.of_class,
    "static method": Asynchronous.static,
    "partial": functools.partial(coroutine),
    "partial of a partial": functools.partial(functools.partial(generator)),
    "partial of an object": functools.partial(Asynchronous()),
    "decorated": decorated(coroutine),
    "decorated twice": decorated(decorated(generator)),
    "decorated by a context manager": nothing()(coroutine),
    "cached": functools.cache(coroutine),
    "partial of a decorated": functools.partial(decorated(coroutine)),
}

DECLARED: dict[str, Callable[[Any], Any]] = {
    "handler": lambda f: Context("jobs").handles(Do)(f),
    "reaction": lambda f: Context("jobs").reacts_to(Answer)(f),
    "undo": lambda f: Context("jobs").handles(Do, undo=f)(lambda message, work: None),
    "action": lambda f: Step("do", f),
    "on_success": lambda f: Step("do", lambda o: None, on_success=f),
    "on_success of a wait": lambda f: Wait("answer", until=Answer, on_success=f),
    "compensation": lambda f: Step("do", lambda o: None, compensation=f),
    "key": lambda f: Saga("job", Order, steps=(Step("do", lambda o: None),), key=f),
}


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
@pytest.mark.parametrize("function", UNFINISHED.values(), ids=UNFINISHED)
def test_a_body_that_would_never_run_is_refused(
    declare: Callable[[Any], Any], function: Any
) -> None:
    with pytest.raises(DefinitionError, match="whose body would never run; declare a plain"):
        declare(function)


@pytest.mark.parametrize("declare", DECLARED.values(), ids=DECLARED)
def test_one_that_runs_a_coroutine_itself_is_a_plain_function(
    declare: Callable[[Any], Any],
) -> None:
    declare(run(coroutine))
    declare(lambda *arguments: asyncio.run(coroutine(*arguments)))
    declare(decorated(lambda *_: None))


@pytest.mark.parametrize("name", DECLARED)
def test_it_takes_the_arguments_that_it_is_called_with(name: str) -> None:
    declare = DECLARED[name]
    two = name in ("handler", "reaction", "undo", "on_success", "on_success of a wait")
    right: list[Any] = [lambda *a: None, lambda a, *b, c=1: None, lambda a, b=1, **k: None]
    wrong: list[Any] = [lambda: None, lambda a, b, c: None, lambda a, *, b: None, lambda **k: None]
    (right if two else wrong).append(lambda a, b: None)
    (wrong if two else right).append(lambda a: None)
    for function in right:
        declare(function)
    for function in wrong:
        with pytest.raises(DefinitionError, match=r"is called with .* and takes"):
            declare(function)


def test_what_does_not_tell_its_arguments_is_taken() -> None:
    Saga("job", Order, steps=(Step("do", lambda o: None),), key=str)


RETURNED: dict[str, Callable[[], Any]] = {
    "coroutine": coroutine,
    "generator": generator,
    "async generator": asynchronous_generator,
}


@pytest.mark.parametrize("make", RETURNED.values(), ids=RETURNED)
class TestReturned:
    """What is declared as a plain function may return one all the same."""

    def test_it_is_an_error_and_closed(self, make: Callable[[], Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(TypeError, match=r"f returned .* whose body has not run"):
                check_returned(make(), "f")

    def test_by_an_action(self, make: Callable[[], Any]) -> None:
        job = Saga("job", Order, steps=(Step("do", lambda o: make()),))
        with pytest.raises(TypeError, match="step 'do' of job returned"):
            given(job, Order(number="1"))

    def test_by_a_compensation(self, make: Callable[[], Any]) -> None:
        do = Step[Order]("do", lambda o: Do(order=o.number), compensation=lambda o: make())
        job = Saga("job", Order, steps=(do, Step("then", lambda o: Do(order=o.number))))
        story = given(job, Order(number="1")).done("do")
        with pytest.raises(TypeError, match="step 'do' of job returned"):
            story.rejected("then", "no")

    def test_by_on_success(self, make: Callable[[], Any]) -> None:
        do = Step[Order]("do", lambda o: Do(order=o.number), on_success=lambda o, e: make())
        story = given(Saga("job", Order, steps=(do,)), Order(number="1"))
        with pytest.raises(TypeError, match="on_success of step 'do' returned"):
            story.done("do")

    def test_by_a_key(self, make: Callable[[], Any]) -> None:
        job = Saga("job", Order, steps=(Step("do", lambda o: None),), key=lambda o: make())
        with pytest.raises(TypeError, match="job: key returned"):
            business_key(job, Order(number="1"), None)


def step(**options: Any) -> Step[Order]:
    return Step("do", lambda o: None, **options)


TIMES: dict[str, Callable[[timedelta], Any]] = {
    "timeout": lambda t: step(timeout=t),
    "timeout in parallel": lambda t: Parallel(step(timeout=t), Step("b", lambda o: None)),
    "timeout of a wait": lambda t: Wait("answer", until=Answer, timeout=t),
    "deadline": lambda t: Saga("job", Order, steps=(step(),), deadline=t),
    "backoff": lambda t: Retry(backoff=t),
    "cap": lambda t: Retry(cap=t),
    "lease": lambda t: Context("jobs").handles(Do, external=True, lease=t)(lambda m, w: None),
}


@pytest.mark.parametrize("declare", TIMES.values(), ids=TIMES)
class TestTimes:
    @pytest.mark.parametrize(
        "far", [timedelta.max, timedelta(days=365 * 18_000), LONGEST + timedelta(seconds=1)]
    )
    def test_one_that_is_meant_as_never_is_refused(
        self, declare: Callable[[timedelta], Any], far: timedelta
    ) -> None:
        with pytest.raises(DefinitionError, match="must be a thousand years at most"):
            declare(far)

    def test_a_thousand_years_are_taken(self, declare: Callable[[timedelta], Any]) -> None:
        declare(timedelta(days=365 * 1000))

    def test_less_than_nothing_is_refused(self, declare: Callable[[timedelta], Any]) -> None:
        with pytest.raises(DefinitionError, match=r"positive timedelta|must not be negative"):
            declare(timedelta(seconds=-5))


def test_a_causal_compensation_is_no_function() -> None:
    assert step(compensation=CAUSAL).compensation is CAUSAL
