"""Undone runs: what raised in a run that was undone with its batch, so that it is not run again."""

import threading
from collections.abc import Mapping, Sequence
from uuid import UUID

from internals.hop.outcome import Outcome
from internals.store.delivery import Delivery


class UndoneRuns:
    """The outcomes of one consumer's undone runs, those of each thread apart."""

    def __init__(self) -> None:
        self._here = threading.local()

    @property
    def known(self) -> Mapping[tuple[UUID, int], Outcome]:
        """What was known when this thread's last batch was written."""
        known: Mapping[tuple[UUID, int], Outcome] = self._here.known
        return known

    @known.setter
    def known(self, outcomes: Mapping[tuple[UUID, int], Outcome]) -> None:
        self._here.known = outcomes

    def remember(self, outcomes: Mapping[tuple[UUID, int], Outcome]) -> None:
        """Keep what raised in a run that is undone for the next run of this thread."""
        self._here.outcomes = {**self._here.__dict__.get("outcomes", {}), **outcomes}

    def take(self, claimed: Sequence[Delivery]) -> dict[tuple[UUID, int], Outcome]:
        """Return what raised in this thread's last run, if that was undone.

        What was not claimed this time is remembered for the next.
        """
        outcomes: dict[tuple[UUID, int], Outcome] = self._here.__dict__.pop("outcomes", {})
        if outcomes:
            here = {(delivery.message.id, delivery.attempts) for delivery in claimed}
            left = {run: outcome for run, outcome in outcomes.items() if run not in here}
            if left:
                self._here.outcomes = left
        return outcomes
