"""Functions: whether what somebody declares can be called, and runs when it is called.

A function that is `async def` or has a `yield` returns at once, and its body has not run: what it
was to do would count as done.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from saga.errors import DefinitionError

#: A plain function that wraps a coroutine function and calls one of these runs it.
_RUNNERS = frozenset({"run", "run_until_complete", "run_coroutine_threadsafe", "async_to_sync"})


def check_function(function: object, of: str, *arguments: str) -> None:
    """Raise `DefinitionError` for what is no plain function of so many positional arguments.

    Args:
        function: What is declared: a function, a method, a partial or another callable object.
        of: What it is declared for, to begin a sentence with.
        arguments: What it is called with, for the sentence.
    """
    if not callable(function):
        raise DefinitionError(f"{of} must be a function")
    for part in _parts(function):
        if sort := _unfinished(part):
            raise DefinitionError(
                f"{of} is {sort}, whose body would never run; declare a plain function, which may "
                "run a coroutine itself, with asyncio.run() say"
            )
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # some builtin functions do not tell
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise DefinitionError(
            f"{of} is called with {_listed(arguments)}, and takes {signature}: {error}"
        ) from error


def check_returned(value: object, of: str) -> None:
    """Raise `TypeError` for an awaitable or a generator: the function's body has not run.

    Args:
        value: What the function returned.
        of: The function, to begin a sentence with.
    """
    if inspect.isawaitable(value):
        sort = "an awaitable"
    elif inspect.isgenerator(value) or inspect.isasyncgen(value):
        sort = "a generator"
    else:
        return
    # Closed, a coroutine that was never awaited is not warned of besides.
    for end in ("close", "cancel"):
        if callable(call := getattr(value, end, None)):
            call()
            break
    raise TypeError(
        f"{of} returned {sort}, {type(value).__name__}, whose body has not run; it must be a plain "
        "function that runs it itself"
    )


def _parts(function: Any) -> Iterator[Any]:
    """The function and what it would call: of a partial, a wrapper, a method, an object."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        yield function
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, staticmethod | classmethod) or inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            code = getattr(function, "__code__", None)
            if code is not None and _RUNNERS.intersection(code.co_names):
                return
            function = function.__wrapped__
        elif isinstance(function, type) or inspect.isroutine(function):
            return
        else:
            function = getattr(type(function), "__call__", None)  # noqa: B004 - it is called so


def _unfinished(function: Any) -> str | None:
    if inspect.iscoroutinefunction(function):
        return "`async def`"
    if inspect.isasyncgenfunction(function):
        return "an asynchronous generator"
    return "a generator (it has a `yield`)" if inspect.isgeneratorfunction(function) else None


def _listed(arguments: tuple[str, ...]) -> str:
    *others, last = arguments
    return f"{', '.join(others)} and {last}" if others else last


def name_of(function: Callable[..., Any] | object) -> str:
    """Return what to call a function in a sentence."""
    if isinstance(function, partial):
        return f"a partial of {name_of(function.func)}"
    return getattr(function, "__name__", None) or type(function).__name__
