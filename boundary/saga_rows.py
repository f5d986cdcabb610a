"""Saga rows: a saga's state as it is stored, and back."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from internals.failures import describe
from internals.records import Raw, Value, records
from internals.unit_of_work import Row
from saga.definition import Saga
from saga.errors import PayloadError
from saga.json_text import dump_json, first_problem
from saga.state import Direction, Phase, SagaState, Status, StepState

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
        """Return the state; raises `PayloadError` if the stored data no longer fits."""
        try:
            data = saga.data.model_validate_json(self.data)
        except ValidationError as error:
            raise PayloadError(
                f"the stored data does not fit version {saga.version} of {saga.name} here: "
                f"{first_problem(error)}"
            ) from error
        except Exception as error:  # a validator of the model's own raised
            raise PayloadError(
                f"the stored data does not fit version {saga.version} of {saga.name} here: "
                f"{type(error).__name__}"
            ) from error
        try:
            return SagaState(
                id=id,
                data=data,
                status=Status(self.status),
                direction=Direction(self.direction),
                steps={n: _step_from_json(step) for n, step in json.loads(self.steps).items()},
                consumed=self.consumed,
                **_course_from_json(json.loads(self.course)),
            )
        except Exception as error:  # written by another release, in whatever shape
            raise PayloadError(
                f"the stored state of {saga.name} is not known here: {describe(error)}"
            ) from error


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
    """Return a saga's data as stored; raises `PayloadError` if it cannot be."""
    return dump_json(state.data, "the saga's data")


def steps_to_json(state: SagaState[Any]) -> str:
    """Return the step states as stored: only what is set."""
    return json.dumps({name: _step_to_json(step) for name, step in state.steps.items()})


def _step_to_json(step: StepState) -> dict[str, Any]:
    stored: dict[str, Any] = {"phase": step.phase.value, "generation": step.generation}
    for name in ("position", "rejection", "fault", "overdue", "doubt", "again"):
        value = getattr(step, name)
        if value:
            stored[name] = value
    if step.parked:
        stored["parked"] = [str(id) for id in step.parked]
    return stored


def _step_from_json(stored: dict[str, Any]) -> StepState:
    parked = stored.get("parked", [])
    return StepState(
        **{
            **stored,
            "phase": Phase(stored["phase"]),
            "parked": tuple(UUID(id) for id in ([parked] if isinstance(parked, str) else parked)),
        }
    )


def _course_to_json(state: SagaState[Any]) -> dict[str, Any]:
    """What a saga's state holds besides its own columns; empty for one that goes well."""
    stored: dict[str, Any] = {}
    for name in ("cancelled", "generations", "rewind_to", "depth"):
        value = getattr(state, name)
        if value:
            stored[name] = value
    if state.early:
        stored["early"] = {
            kind: [(str(id), payload) for id, payload in kept] for kind, kept in state.early.items()
        }
    if state.faults:
        stored["faults"] = {str(id): error for id, error in state.faults.items()}
    return stored


def _course_from_json(stored: dict[str, Any]) -> dict[str, Any]:
    faults = {UUID(id): error for id, error in stored.get("faults", {}).items()}
    early = {kind: _early_from_json(kept) for kind, kept in stored.get("early", {}).items()}
    return {**stored, "faults": faults, "early": early}


def _early_from_json(kept: str | list[tuple[str, str]]) -> tuple[tuple[UUID, str], ...]:
    if isinstance(kept, str):  # a former release kept the last one only, without its id
        return ((UUID(int=0), kept),)
    return tuple((UUID(id), payload) for id, payload in kept)
