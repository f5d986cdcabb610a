"""The plan: what the processes of one run have to know, in one file of its folder."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from boundary import Settings

#: The plan's file, and the worker's place, in the environment.
PLAN = "CHAOS_PLAN"
PLACE = "CHAOS_PLACE"

#: Postgres schema and Redis namespace of a run; its servers are its own.
SCHEMA = "chaos"

#: How contexts that have a database of their own call it.
PARTNERS = "partners"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, as its workers see it."""

    folder: Path
    seed: int
    #: As the processes under test reach them: through the proxy, if the profile has one.
    database_url: str
    redis_url: str
    gateway_url: str
    partner_url: str
    #: Where the partners' tables are, if not where all others are.
    partners_url: str | None = None
    #: How often a worker's commit meets each failpoint, by its name.
    failpoints: Mapping[str, float] = field(default_factory=dict)
    #: How often a handler hangs in each way, by its name.
    hangs: Mapping[str, float] = field(default_factory=dict)
    #: How often a doorbell meets each fault, by its name.
    doorbells: Mapping[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """The product's settings for this run."""
        return Settings(
            database_url=SecretStr(self.database_url),
            redis_url=SecretStr(self.redis_url),
            databases={} if self.partners_url is None else {PARTNERS: self.partners_url},
            db_schema=SCHEMA,
            namespace=SCHEMA,
        )

    def save(self) -> Path:
        """Write the plan where `load` finds it."""
        path = self.folder / "plan.json"
        path.write_text(json.dumps({**asdict(self), "folder": str(self.folder)}))
        return path

    @classmethod
    def load(cls) -> Self:
        """Read the plan that this process was started with."""
        stored = json.loads(Path(os.environ[PLAN]).read_text())
        return cls(**{**stored, "folder": Path(stored["folder"])})
