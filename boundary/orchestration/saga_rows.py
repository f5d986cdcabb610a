"""Saga rows: a saga's state as it is stored, and back."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from internals.database.errors import describe
from internals.database.unit_of_work import Row
from internals.store.json_rows import Raw, Value, records
from saga.definition import Saga
from saga.errors import PayloadError
from saga.json_text import compact, dump_json, first_problem, read_exactly, read_json
from saga.state import Direction, Early, Phase, SagaState, Status, StepState
from saga.unknown_fields import Unknown

D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class StoredSaga:
    """The columns of a saga that a claim returns, in their order."""

    version: int
    status: str
    direction: str
    data: str
    steps: str
    course: str
    consumed: int

    @classmethod
    def from_row(cls, row: Row) -> "StoredSaga | None":
        """Read the columns; None where the row was not there or is held by someone else."""
        return None if row[0] is None else cls(*row)

    def state(self, saga: Saga[D], id: UUID) -> SagaState[D]:
        """Return the state; raises `PayloadError` where what is stored does not fit `saga`.

        Fields of the data that its class lacks are kept aside, and stored again.
        """
        data, unknown = self._data(saga)
        try:
            state = SagaState(
                id=id,
                data=data,
                status=Status(self.status),
                direction=Direction(self.direction),
                steps={n: _step_from_json(step) for n, step in json.loads(self.steps).items()},
                consumed=self.consumed,
                unknown=unknown,
                **_course_from_json(json.loads(self.course)),
            )
        except Exception as error:  # written by another release, in whatever shape
            raise PayloadError(
                f"the stored state of {saga.name} is not known here: {describe(error)}"
            ) from error
        self._check_steps(saga, state)
        return state

    def _data(self, saga: Saga[D]) -> tuple[D, Unknown | None]:
        try:
            try:
                return read_exactly(saga.data, self.data), None
            except ValidationError:
                data = read_json(saga.data, self.data)
            written = json.loads(dump_json(data, "the saga's data"))
            return data, Unknown(json.loads(self.data), written)
        except Exception as error:  # also what a validator of the model's own raised
            why = type(error).__name__
            if isinstance(error, ValidationError):
                why = first_problem(error)
            raise PayloadError(
                f"the stored data does not fit version {saga.version} of {saga.name} here: {why}"
            ) from error

    def _check_steps(self, saga: Saga[D], state: SagaState[D]) -> None:
        known = {step.name for step in saga}
        stored = (*state.steps, *state.generations, *filter(None, [state.rewind_to]))
        if missing := [name for name in stored if name not in known]:
            raise PayloadError(
                f"version {saga.version} of {saga.name} here has no step {missing[0]!r}, which the "
                "saga has begun; give the changed definition a new version"
            )


def saving(name: str, states: Iterable[tuple[SagaState[Any], str]]) -> dict[str, object]:
    """Return what the statements take that save sagas of this name.

    Each state comes with its data as `data_to_json` wrote it.
    """
    sagas = records({"name": name, **saga_record(state, data)} for state, data in states)
    return {"saga": name, "sagas": sagas}


def saga_record(state: SagaState[Any], data: str) -> dict[str, Value]:
    """Return a state as a record: its data is as `data_to_json` wrote it."""
    return {
        "id": state.id,
        "status": state.status.value,
        "direction": state.direction.value,
        "data": Raw(data),
        "steps": Raw(steps_to_json(state)),
        "course": Raw(json.dumps(_course_to_json(state))),
        "consumed": state.consumed,
        "reason": state.reason,
        "final": state.status.final,
    }


def data_to_json(state: SagaState[Any]) -> str:
    """Return a saga's data as stored, with what another release stored with it.

    Raises `PayloadError` if it cannot be stored, and `UnreadableMessage` if that would be lost.
    """
    text = dump_json(state.data, "the saga's data")
    if state.unknown is None:
        return text
    return compact(state.unknown.put_back(json.loads(text)))


def steps_to_json(state: SagaState[Any]) -> str:
    """Return the step states as stored: only what is set."""
    return json.dumps({name: _step_to_json(step) for name, step in state.steps.items()})


def _step_to_json(step: StepState) -> dict[str, Any]:
    stored: dict[str, Any] = {"phase": step.phase.value, "generation": step.generation}
    for name in (
        "position",
        "rejection",
        "fault",
        "overdue",
        "doubt",
        "again",
        "undo_intent",
        "context",
    ):
        value = getattr(step, name)
        if value:
            stored[name] = value
    if step.intent != 1:
        stored["intent"] = step.intent
    for name in ("parked", "failures"):
        if ids := getattr(step, name):
            stored[name] = [str(id) for id in ids]
    return stored


def _step_from_json(stored: dict[str, Any]) -> StepState:
    return StepState(
        **{
            **stored,
            "phase": Phase(stored["phase"]),
            "parked": tuple(UUID(id) for id in stored.get("parked", [])),
            "failures": tuple(UUID(id) for id in stored.get("failures", [])),
        }
    )


def _course_to_json(state: SagaState[Any]) -> dict[str, Any]:
    """What a saga's state holds besides its own columns; empty for one that goes well."""
    stored: dict[str, Any] = {}
    for name in ("cancelled", "generations", "intents", "rewind_to", "depth"):
        value = getattr(state, name)
        if value:
            stored[name] = value
    if state.early:
        stored["early"] = [(str(e.id), e.kind, e.payload) for e in state.early]
    if state.faults:
        stored["faults"] = {str(id): error for id, error in state.faults.items()}
    return stored


def _course_from_json(stored: dict[str, Any]) -> dict[str, Any]:
    faults = {UUID(id): error for id, error in stored.get("faults", {}).items()}
    early = tuple(Early(UUID(id), kind, payload) for id, kind, payload in stored.get("early", []))
    return {**stored, "faults": faults, "early": early}
