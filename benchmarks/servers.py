"""Servers: the configured or embedded ones, with a schema and worker processes of one run's own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import redis
from sqlalchemy import Engine, create_engine, make_url, text

from benchmarks.workload import metadata
from boundary import Settings
from boundary.migration import migrate
from boundary.runtime.servers import Servers

#: By this name our sessions are told from those of others in the same database.
APPLICATION = "saga-benchmark"

_ROOT = Path(__file__).parents[1]

#: Seconds that a worker may take to finish what it is doing when it is told to stop.
_PATIENCE = 20.0

_NOTHING_MORE: Mapping[str, str] = {}


@contextmanager
def own_schema(where: Settings | None = None) -> Iterator[Settings]:
    """Make a migrated schema and a Redis namespace; both are dropped at the end.

    They are on these servers, or else on the configured or embedded ones.
    """
    servers = Servers(where or Settings())
    name = f"saga_benchmark_{uuid4().hex[:12]}"
    url = make_url(servers.database_url).update_query_dict({"application_name": APPLICATION})
    settings = Settings(
        database_url=url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        db_schema=name,
        namespace=name,
    )
    engine = create_engine(url, execution_options={"schema_translate_map": {None: name}})
    try:
        migrate(engine, name)
        with engine.begin() as connection:
            metadata.create_all(connection)
        engine.dispose()
        yield settings
    finally:
        _drop(engine, servers.redis_url, name)
        engine.dispose()
        servers.stop()


@contextmanager
def worker(
    settings: Settings,
    processes: int,
    threads: int,
    hosts: Sequence[str] = (),
    module: str = "benchmarks.worker",
    environment: Mapping[str, str] = _NOTHING_MORE,
) -> Iterator["Worker"]:
    """Start a `dramatiq` command on this schema; it is stopped, as a deploy does it, at the end.

    With `hosts`, which are network namespaces, one is started in each.  The environment is what its
    program finds beside the settings.
    """
    command = [sys.executable, "-m", "dramatiq", module]
    command += ["--processes", str(processes), "--threads", str(threads)]
    with tempfile.TemporaryFile() as log:
        started = Worker()
        try:
            for within in [["ip", "netns", "exec", host] for host in hosts] or [[]]:
                started.start(
                    [*within, *command],
                    cwd=_ROOT,
                    env={**os.environ, **_environment(settings), **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            yield started
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise
        finally:
            started.stop()


class Worker:
    """A running `dramatiq` command, or one on each host."""

    def __init__(self) -> None:
        self._commands: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], **how: Any) -> None:
        """Start one; takes what `Popen` takes."""
        self._commands.append(subprocess.Popen(command, **how))  # noqa: S603 - our own command

    @property
    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(command.pid) for command in self._commands]

    def wait_for(self, condition: Callable[[], object], *, every: float, seconds: float) -> None:
        """Return when the condition holds; raises RuntimeError if the worker ends before, or later
        than in so many seconds.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            for command in self._commands:
                if command.poll() is not None:
                    raise RuntimeError(f"the worker ended with status {command.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the worker is not done within {seconds:.0f} s")
            time.sleep(every)

    def stop(self) -> None:
        """Ask it to stop and wait until it has; its connections are closed then."""
        for command in self._commands:
            command.terminate()
        for command in self._commands:
            try:
                command.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                command.kill()
                command.wait()


def _environment(settings: Settings) -> dict[str, str]:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    return {
        "SAGA_DATABASE_URL": settings.database_url.get_secret_value(),
        "SAGA_REDIS_URL": settings.redis_url.get_secret_value(),
        "SAGA_SCHEMA": settings.db_schema,
        "SAGA_NAMESPACE": settings.namespace,
        "SAGA_DATABASES": json.dumps(
            {name: url.get_secret_value() for name, url in settings.databases.items()}
        ),
    }


def _drop(engine: Engine, redis_url: str, name: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{name}:*", count=1000):
            client.delete(key)
