"""Session: what ``manage.py saga`` works with: the project, on its own connections."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from django.db import connections, transaction

from boundary.cli.session import Desk
from boundary.django.conf import database_alias
from boundary.django.project import ProjectRuntime, runtime
from internals.database.unit_of_work import UnitOfWork

#: What a worker process imports; it sets Django up first.
WORKER_APP = "boundary.django.worker:make"


class ProjectDesk(Desk):
    """The desk of a Django project."""

    program = "manage.py saga"
    redis_setting = 'SAGA["REDIS_URL"]'

    def __init__(self) -> None:
        super().__init__(WORKER_APP)

    @property
    def acting_program(self) -> str:
        return self.program

    @property
    def database_setting(self) -> str:  # type: ignore[override]
        return f"DATABASES[{database_alias()!r}]"

    @cached_property
    def runtime(self) -> ProjectRuntime:
        return runtime()

    @contextmanager
    def reading(self) -> Iterator[UnitOfWork]:
        with self.database_errors(), self.runtime.django.reading() as unit:
            yield unit

    @contextmanager
    def writing(self) -> Iterator[str]:
        alias = self.runtime.django.alias
        with self.database_errors(), transaction.atomic(using=alias):
            yield alias

    def close(self) -> None:
        """Leave connections to Django, which closes them with the command."""
        if not connections[database_alias()].in_atomic_block:
            connections[database_alias()].close()
