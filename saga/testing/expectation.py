"""Expectation: the commands that a story expects, compared with those that were sent."""

import json
from collections.abc import Sequence
from typing import NoReturn

from saga.envelope import Envelope
from saga.messages import Command

Expected = Command | type[Command]

#: pytest then shows the line of the story that failed, and not this file.
__tracebackhide__ = True


def differences(expected: Sequence[Expected], sent: Sequence[Envelope]) -> list[str]:
    """Return what is other than expected, missing or too much; empty if nothing is."""
    surplus, missing, lines = list(sent), [], []
    for want in sorted(expected, key=lambda want: isinstance(want, type)):  # the exact ones first
        if match := next((order for order in surplus if not _unlike(want, order)), None):
            surplus.remove(match)
        else:
            missing.append(want)
    for want in missing:
        if near := next((order for order in surplus if order.kind == want.kind), None):
            surplus.remove(near)
        lines += _unlike(want, near)
    return lines + [f"sent, not expected: {order.kind} {order.payload}" for order in surplus]


def _unlike(want: Expected, order: Envelope | None) -> list[str]:
    text = want.to_json() if isinstance(want, Command) else ""
    if order is None or order.kind != want.kind:
        return [f"not sent: {want.kind} {text}".rstrip()]
    got, wanted = json.loads(order.payload), json.loads(text or order.payload)
    names = [name for name in {**wanted, **got} if got.get(name) != wanted.get(name)]
    return [f"{want.kind}: {n} is {got.get(n)!r}, not {wanted.get(n)!r}" for n in names]


def fail(text: str) -> NoReturn:
    """Raise that the story is not as expected."""
    raise AssertionError(text)
