"""Origin: who an event from outside is, and under which id it is kept here.

Ids of this system's own messages can be computed, so an outside id is never one of them: what comes
in is kept under an id that the bridge, the source and the id there make, and those are kept beside it.
"""

import json
from dataclasses import dataclass
from uuid import UUID, uuid5

from boundary.bridges.cloud_event import CloudEvent, Unreadable

#: Ids that bridges make are all in this namespace, each bridge's in one of its own.
_NAMESPACE = UUID("8f0f6f0e-6a43-5d0f-9a3c-2f8a4f6f3b1d")

#: Characters that a source, or an id, may have.
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event was published first, as far as it says so."""

    #: The incoming bridge that took it in.
    bridge: str
    source: str
    id: str

    @classmethod
    def of(cls, bridge: str, event: CloudEvent) -> "Origin":
        """Return what an event says; one that was passed on says whose it was before.

        Raises `Unreadable` for a source, or an id, of more than a thousand characters.
        """
        told = event.attributes
        source, id = told.get("originsource"), told.get("originid")
        if not (source and id):
            source, id = told["source"], told["id"]
        if max(len(source), len(id)) > _LONGEST:
            raise Unreadable(f"its source, or its id, has more than {_LONGEST:,} characters")
        return cls(bridge, source, id)

    @property
    def message_id(self) -> UUID:
        """The id under which the event is kept here."""
        return uuid5(uuid5(_NAMESPACE, self.bridge), json.dumps([self.source, self.id]))

    def to_json(self) -> str:
        """Return it as JSON text, in plain ASCII."""
        return json.dumps({"bridge": self.bridge, "source": self.source, "id": self.id})

    @classmethod
    def from_json(cls, text: str) -> "Origin":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))
