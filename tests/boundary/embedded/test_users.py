"""Processes that share embedded servers: the last one stops them, whoever was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import boundary.embedded.process
import boundary.embedded.servers
from boundary.embedded import EmbeddedServers, EmbeddedServersError
from tests.boundary.embedded.inspection import await_ready, connect, eventually, leave, lock, row


def test_the_last_of_two_processes_stops_the_servers(
    place: Path, users: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = place / "s"
    first, second = users(folder, "both"), users(folder, "both")  # both start at the same time
    await_ready(first)
    await_ready(second)
    servers = EmbeddedServers(folder)
    pids = (servers.postgres_pid, servers.valkey_pid)
    assert None not in pids

    leave(first)
    assert (servers.postgres_pid, servers.valkey_pid) == pids
    leave(second)
    assert (servers.postgres_pid, servers.valkey_pid) == (None, None)
    assert "database system is shut down" in (folder / "postgres.log").read_text()
    assert (folder / "postgres.log").read_text().count("ready to accept connections") == 1


def test_servers_orphaned_by_a_killed_user_are_joined_and_then_stopped(
    folder: Path, users: Callable[..., subprocess.Popen[str]]
) -> None:
    user = users(folder, "both")
    await_ready(user)
    user.kill()
    user.wait()

    servers = EmbeddedServers(folder, durable=False)
    orphans = (servers.postgres_pid, servers.valkey_pid)
    assert None not in orphans
    servers.start()
    assert (servers.postgres_pid, servers.valkey_pid) == orphans
    with connect(servers) as connection:
        assert row(connection, "SELECT 1") == (1,)
    servers.stop()
    assert (servers.postgres_pid, servers.valkey_pid) == (None, None)


def test_a_start_racing_stops_always_ends_with_servers_that_answer(
    folder: Path, users: Callable[..., subprocess.Popen[str]]
) -> None:
    servers = EmbeddedServers(folder, durable=False, valkey=False)
    for _ in range(3):
        servers.start()
        user = users(servers.directory)
        eventually(lambda user=user: user.poll() is None and servers.postgres_pid is not None)  # type: ignore[misc]
        servers.stop()  # while the other one is on its way in
        await_ready(user)
        servers.start()
        with connect(servers) as connection:
            assert row(connection, "SELECT 1") == (1,)
        leave(user)
        assert servers.postgres_pid is not None
        servers.stop()
        assert servers.postgres_pid is None


def test_starts_and_stops_take_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary.embedded.servers, "_START_LOCK_SECONDS", 0.1)
    servers = EmbeddedServers(folder, durable=False)
    with lock(folder / "start.lock"):
        with pytest.raises(EmbeddedServersError, match="has been starting or stopping"):
            servers.start()
        assert (servers.postgres_pid, servers.valkey_pid) == (None, None)
    with servers, lock(folder / "start.lock"):
        with pytest.raises(EmbeddedServersError, match="has been starting or stopping"):
            servers.stop()
        assert None not in (servers.postgres_pid, servers.valkey_pid)
    assert (servers.postgres_pid, servers.valkey_pid) == (None, None)


def test_no_server_is_launched_beside_the_last_processes_of_a_killed_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        EmbeddedServers(folder, durable=False, valkey=False),  # stays in: nobody is the last out
        EmbeddedServers(folder, durable=False, valkey=False) as servers,
        connect(servers) as connection,
    ):
        backend, postmaster = connection.info.backend_pid, servers.postgres_pid
        assert postmaster is not None
        os.kill(backend, signal.SIGSTOP)
        try:
            os.kill(postmaster, signal.SIGKILL)
            monkeypatch.setattr(boundary.embedded.process, "READY_SECONDS", 0.1)
            with pytest.raises(EmbeddedServersError, match=r"earlier postgres .* do not end"):
                servers.start()
            assert servers.postgres_pid is None
            monkeypatch.undo()
        finally:
            os.kill(backend, signal.SIGCONT)
        servers.start()
        with connect(servers) as fresh:
            assert row(fresh, "SELECT 1") == (1,)


def test_a_fork_keeps_the_servers_in_use(folder: Path) -> None:
    servers = EmbeddedServers(folder, durable=False, valkey=False)
    servers.start()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a test runner may have threads
        fork = os.fork()
    if fork == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    servers.stop()
    assert servers.postgres_pid is not None
    os.close(writing)
    os.close(reading)
    os.waitpid(fork, 0)
    servers.start()
    servers.stop()
    assert servers.postgres_pid is None
