"""A Redis that is there and is of no use: sagas go on, and nobody waits for it.

The worker runs in this process, so that its relay and its threads are the real ones.
"""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import dramatiq
import psycopg
import pytest
import redis
from pydantic import BaseModel, SecretStr

import boundary.doorbell.redis_broker
from boundary import Runtime, Settings
from boundary.embedded import EmbeddedServers
from boundary.embedded.host import Account
from boundary.embedded.valkey import _WHEEL
from boundary.operations.doctor.doorbells import _NEEDED, check_redis
from boundary.operations.doctor.finding import Finding, Verdict, Words
from internals import Context, Work
from saga import Command, Saga, Step
from tests.conftest import wait_until

#: Seconds that three steps may take where each waits for nothing; the machine may be busy.
SOON = 20.0


class Load(BaseModel):
    number: int


class Lift(Command, kind="crane.lift"):
    number: int


class Haul(Command, kind="train.haul"):
    number: int


crane, train = Context("crane"), Context("train")


@crane.handles(Lift)
def lift(command: Lift, work: Work) -> None: ...


@train.handles(Haul)
def haul(command: Haul, work: Work) -> None: ...


FREIGHT = Saga(
    "freight",
    Load,
    key=lambda load: str(load.number),
    steps=(
        Step("lift", lambda load: Lift(number=load.number)),
        Step("haul", lambda load: Haul(number=load.number)),
        Step("lower", lambda load: Lift(number=load.number)),
    ),
)

Make = Callable[..., "Yard"]


class Yard:
    """A host that starts sagas, and a worker, on one Redis.

    Args:
        make: Makes runtimes.
        outside: A connection that sees what is committed.
    """

    def __init__(self, make: Callable[[], Runtime], outside: psycopg.Connection[Any]) -> None:
        self.host, self.runtime = make(), make()
        self.worker = dramatiq.Worker(self.runtime.worker(), worker_timeout=50, worker_threads=2)
        self._outside = outside
        self._numbers = iter(range(1000))
        self.worker.start()

    def start(self) -> None:
        with self.host.engine.begin() as connection:
            self.host.start(connection, FREIGHT, Load(number=next(self._numbers)))

    def done(self) -> bool:
        rows = self._outside.execute("SELECT DISTINCT status FROM saga").fetchall()
        return rows == [("completed",)]


@pytest.fixture
def admin(own_valkey: EmbeddedServers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_valkey.redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def yard(settings: Settings, outside: Any) -> Iterator[Make]:
    """Make a yard on the Redis of this URL."""
    with ExitStack() as made:

        def make(url: str) -> Yard:
            def runtime() -> Runtime:
                changes = {"redis_url": SecretStr(url), "grace": 5.0}
                one = Runtime(
                    sagas=[FREIGHT],
                    contexts=[crane, train],
                    settings=settings.model_copy(update=changes),
                )
                made.callback(one.close)
                return one

            found = Yard(runtime, outside)
            made.callback(found.worker.stop)
            return found

        yield make


def fill(admin: redis.Redis) -> Callable[[], object]:
    admin.config_set("maxmemory-policy", "noeviction")
    admin.config_set("maxmemory", "1")
    return lambda: admin.config_set("maxmemory", "0")


def follow_another(admin: redis.Redis) -> Callable[[], object]:
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: admin.execute_command("REPLICAOF", "NO", "ONE")


def pause(admin: redis.Redis) -> Callable[[], object]:
    admin.execute_command("CLIENT", "PAUSE", "600000", "WRITE")
    return lambda: admin.execute_command("CLIENT", "UNPAUSE")


@pytest.mark.parametrize("spoil", [fill, follow_another, pause])
def test_sagas_go_on_while_it_refuses_what_is_written(
    yard: Make, admin: redis.Redis, own_valkey: EmbeddedServers, eventually: Any, spoil: Any
) -> None:
    site = yard(own_valkey.redis_url)
    site.start()
    eventually(site.done, SOON)
    recover = spoil(admin)
    try:
        for _ in range(3):
            site.start()
            eventually(site.done, SOON)
    finally:
        recover()


def test_the_trouble_of_one_list_is_that_of_one_consumer(
    yard: Make, admin: redis.Redis, own_valkey: EmbeddedServers, settings: Settings, eventually: Any
) -> None:
    admin.set(f"{settings.namespace}:doorbell:crane", "not a list")
    site = yard(own_valkey.redis_url)
    broker = site.host._wiring.broker
    assert broker.ring(["crane", "train", "saga.freight"]) == {"crane"}
    assert broker.waiting(["crane", "train"]).keys() == {"train"}  # type: ignore[union-attr]
    for _ in range(3):
        site.start()
        eventually(site.done, SOON)


@pytest.mark.parametrize("denied", ["-@scripting", "-@write", "-@blocking", "-@list"])
def test_a_user_who_may_not_do_all_of_it(
    yard: Make, admin: redis.Redis, own_valkey: EmbeddedServers, eventually: Any, denied: str
) -> None:
    admin.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", denied)
    try:
        site = yard(f"redis://worker:secret@{own_valkey.redis_url.rpartition('@')[2]}")
        site.start()
        eventually(site.done, SOON)
    finally:
        admin.execute_command("ACL", "DELUSER", "worker")


def test_in_a_cluster_each_list_is_rung_by_itself(
    cluster: str, settings: Settings, eventually: Any
) -> None:
    broker = boundary.doorbell.redis_broker.DoorbellBroker(
        url=cluster, namespace=settings.namespace
    )
    names = ["crane", "train", "saga.freight"]
    with closing(broker):
        assert not broker.ring(names)
        assert broker.waiting(names) == dict.fromkeys(names, 1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A node that has all slots of a cluster."""
    program = _WHEEL.runnable(Account.of_servers())["valkey-server"]
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, bus = one.getsockname()[1], two.getsockname()[1]
    options = ["--port", str(port), "--cluster-port", str(bus), "--dir", str(tmp_path)]
    options += ["--cluster-enabled", "yes"]
    with subprocess.Popen([program, *options, "--save", ""], stdout=subprocess.DEVNULL) as node:
        try:
            url = f"redis://127.0.0.1:{port}/0"
            with redis.Redis.from_url(url) as client:
                wait_until(lambda: _answers(client), SOON)
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
                wait_until(lambda: b"cluster_state:ok" in _cluster_info(client), SOON)
            yield url
        finally:
            node.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _cluster_info(client: redis.Redis) -> bytes:
    found = client.execute_command("CLUSTER", "INFO")
    # A dictionary since version 6 of the driver.
    return found if isinstance(found, bytes) else repr(found).replace("': '", ":").encode()


@pytest.fixture
def hung(own_valkey: EmbeddedServers) -> Iterator[Callable[[], None]]:
    """Stop the Valkey as a machine that hangs does: it takes connections, and answers nothing."""
    pid = own_valkey.valkey_pid
    assert pid is not None
    yield lambda: os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGCONT)


def test_nobody_waits_for_one_that_hangs(
    yard: Make,
    admin: redis.Redis,
    own_valkey: EmbeddedServers,
    eventually: Any,
    hung: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boundary.doorbell.redis_broker, "_PAUSE", 1.0)  # so that it is tried often
    site = yard(own_valkey.redis_url)
    site.start()
    eventually(site.done, SOON)
    hung()
    for _ in range(5):
        began = time.monotonic()
        site.start()
        assert time.monotonic() - began < 4.0  # the driver's own patience is five seconds, or none
        eventually(site.done, SOON)
    stopping = threading.Thread(target=site.worker.stop)
    stopping.start()
    stopping.join(SOON)
    assert not stopping.is_alive()


def test_it_is_of_use_again_when_it_has_recovered(
    yard: Make,
    admin: redis.Redis,
    own_valkey: EmbeddedServers,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(boundary.doorbell.redis_broker, "_PAUSE", 0.2)
    site = yard(own_valkey.redis_url)
    broker = site.runtime._wiring.broker
    recover = fill(admin)
    site.start()
    eventually(site.done, SOON)
    eventually(broker.deaf, SOON)
    recover()
    eventually(lambda: not broker.deaf(), SOON)
    site.start()
    eventually(site.done, SOON)
    assert not broker.deaf()


class TestDoctor:
    """It tells what doorbells suffer from, and leaves nothing behind."""

    @pytest.mark.parametrize(("spoil", "said"), [(fill, "maxmemory"), (follow_another, "replica")])
    def test_what_is_refused(
        self, admin: redis.Redis, own_valkey: EmbeddedServers, spoil: Any, said: str
    ) -> None:
        recover = spoil(admin)
        try:
            found = _examined(own_valkey.redis_url)
        finally:
            recover()
        assert (found["redis"].verdict, found["doorbells"].verdict) == (Verdict.FINE, Verdict.WRONG)
        assert said in found["doorbells"].found

    def test_a_user_who_may_not(self, admin: redis.Redis, own_valkey: EmbeddedServers) -> None:
        admin.execute_command(
            "ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "-blpop", "-info"
        )
        try:
            found = _examined(f"redis://worker:secret@{own_valkey.redis_url.rpartition('@')[2]}")
        finally:
            admin.execute_command("ACL", "DELUSER", "worker")
        assert found["redis"].verdict is Verdict.NOTE
        assert "does not answer" not in found["redis"].found
        assert "blpop" in found["doorbells"].found
        assert found["doorbells"].remedy is not None
        assert "+rpush +ltrim +llen +linsert +blpop" in found["doorbells"].remedy

    def test_what_is_needed_is_enough(
        self, admin: redis.Redis, own_valkey: EmbeddedServers
    ) -> None:
        admin.execute_command(
            "ACL", "SETUSER", "worker", "on", ">secret", "~saga:*", "-@all", *_NEEDED.split()
        )
        try:
            url = f"redis://worker:secret@{own_valkey.redis_url.rpartition('@')[2]}"
            with redis.Redis.from_url(url) as client, pytest.raises(redis.ResponseError):
                client.info()
            found = _examined(url)
        finally:
            admin.execute_command("ACL", "DELUSER", "worker")
        assert found["doorbells"].verdict is Verdict.FINE

    def test_keys_that_are_no_lists(self, admin: redis.Redis, own_valkey: EmbeddedServers) -> None:
        admin.set("saga:doorbell:crane", "not a list")
        found = _examined(own_valkey.redis_url)
        assert found["keys"].verdict is Verdict.WRONG
        assert "saga:doorbell:crane" in found["keys"].found
        assert admin.keys() == [b"saga:doorbell:crane"]

    def test_a_cluster(self, cluster: str) -> None:
        assert _examined(cluster)["cluster"].verdict is Verdict.NOTE


def _examined(url: str) -> dict[str, Finding]:
    found = check_redis(url, "saga", ["crane", "train"], Words())
    return {finding.check: finding for finding in found}
