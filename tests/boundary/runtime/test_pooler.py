"""A pooler in transaction mode between: the real PgBouncer, which knows no prepared statements."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy import make_url, text

from boundary import Runtime, Settings
from boundary.embedded.process import _free_port
from boundary.operations.doctor import Finding, Verdict, diagnose
from internals import Context, Work
from internals.database.driver import control
from saga import Command, Event, Saga, Step
from tests.pgbouncer import NoPgBouncer, program

#: Server connections, of which several clients at a time are given one after the other.
SERVERS = 3
THREADS = 6
SAGAS = 20


class Parcel(BaseModel):
    n: int


class Weigh(Command, kind="scales.weigh"):
    n: int


class Weighed(Event, kind="scales.weighed"):
    n: int


PARCEL = Saga("parcel", Parcel, (Step("weigh", lambda p: Weigh(n=p.n)),), key=lambda p: str(p.n))


def contexts() -> list[Context]:
    scales, ledger = Context("scales"), Context("ledger")

    @scales.handles(Weigh, emits=(Weighed,))
    def weigh(command: Weigh, work: Work) -> None:
        work.connection.execute(text("SELECT 1"))
        work.publish(Weighed(n=command.n))

    @ledger.reacts_to(Weighed, ordered_by="n")
    def write(event: Weighed, work: Work) -> None: ...

    return [scales, ledger]


@pytest.fixture(scope="module")
def pooled_url(connection_url: str) -> Iterator[str]:
    """The URL of a PgBouncer before the tests' Postgres."""
    try:
        binary, environment = program()
    except NoPgBouncer as error:
        pytest.fail(str(error))
    there = make_url(connection_url)
    folder = Path(tempfile.mkdtemp(prefix="saga-test-", dir="/tmp"))
    folder.chmod(0o755)
    # It refuses to run as root, and whoever else it is run as may not see the environment.
    shutil.copy(binary, folder / "pgbouncer")
    libraries = folder / "lib"
    libraries.mkdir()
    for path in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        for library in Path(path).glob("*.so*") if path else ():
            shutil.copy(library, libraries)
    port = _free_port()
    server = f"host={there.host} port={there.port} user={there.username} password={there.password}"
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\npooled = {server} dbname={there.database}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {SERVERS}\n"
    )
    root = os.geteuid() == 0
    process = subprocess.Popen(
        [folder / "pgbouncer", folder / "pgbouncer.ini"],
        env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
        user="nobody" if root else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, b"")
        told = next((line for line in lines if b"listening" in line or b"FATAL" in line), b"")
        assert b"listening" in told, told.decode()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield f"postgresql+psycopg://{there.username}@127.0.0.1:{port}/pooled"
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()
        shutil.rmtree(folder)


@pytest.fixture
def pooled(settings: Settings, pooled_url: str) -> Iterator[Callable[..., Runtime]]:
    """Make a runtime that reaches this test's schema through the pooler."""
    made: list[Runtime] = []

    def make(**changes: Any) -> Runtime:
        changed = settings.model_copy(update={"database_url": SecretStr(pooled_url), **changes})
        made.append(Runtime(sagas=[PARCEL], contexts=contexts(), settings=changed))
        return made[-1]

    yield make
    for runtime in made:
        runtime.close()


def test_all_goes_well_without_prepared_statements(
    pooled: Callable[..., Runtime], outside: Any
) -> None:
    runtimes = [pooled(prepared_statements=False) for _ in range(2)]
    runtimes[0].subscribe()
    errors: list[Exception] = []

    def work(runtime: Runtime, first: int) -> None:
        try:
            for n in range(first, first + SAGAS):
                with runtime.engine.begin() as connection:
                    runtime.start(connection, PARCEL, Parcel(n=n))
                for consumer in runtime._wiring.consumers:
                    runtime.answer(consumer, follow=True)
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(runtimes[i % 2], i * SAGAS)) for i in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    while any(runtimes[0].answer(consumer) for consumer in runtimes[0]._wiring.consumers):
        pass
    assert outside.execute("SELECT status, count(*) FROM saga GROUP BY 1").fetchall() == [
        ("completed", THREADS * SAGAS)
    ]
    [(open_,)] = outside.execute("SELECT count(*) FROM inbox WHERE state <> 'done'").fetchall()
    assert open_ == 0


def test_its_transactions_are_bounded_and_others_sessions_are_left_as_they_were(
    pooled: Callable[..., Runtime],
) -> None:
    runtime = pooled(prepared_statements=False)
    sql = (
        "SELECT current_setting('lock_timeout'), "
        "current_setting('idle_in_transaction_session_timeout')"
    )
    opened = runtime._wiring.database.open()
    assert opened.unit.run(sql, {}) == [("61s", "1min")]
    opened.commit()
    with runtime.engine.connect() as one, runtime.engine.connect() as other:
        for connection in (one, other):
            assert connection.execute(text(sql)).one() == ("0", "0")


def test_statements_that_are_mixed_up_are_told_of_and_the_hop_is_run_again(
    pooled: Callable[..., Runtime], caplog: pytest.LogCaptureFixture
) -> None:
    one = pooled()
    one.subscribe()
    for n in range(8):  # as often as makes the driver prepare
        with one.engine.begin() as connection:
            one.start(connection, PARCEL, Parcel(n=n))
        one.answer("scales")
    with one.engine.begin() as connection:
        one.start(connection, PARCEL, Parcel(n=8))
    with one.engine.connect() as connection:
        # The session is another one now, and nobody told the driver.
        driver: Any = connection.connection.driver_connection
        control(driver, b"DEALLOCATE ALL")
    assert one.answer("scales") == 1
    assert "set SAGA_PREPARED_STATEMENTS=off" in caplog.text


@pytest.mark.parametrize(("prepared", "verdict"), [(True, Verdict.NOTE), (False, Verdict.FINE)])
def test_doctor_sees_it(pooled: Callable[..., Runtime], prepared: bool, verdict: Verdict) -> None:
    runtime = pooled(prepared_statements=prepared)
    found: dict[str, Finding] = {f.check: f for f in diagnose(runtime, application=False)}
    assert found["pooler"].verdict is verdict
    assert ("SAGA_PREPARED_STATEMENTS=off" in str(found["pooler"].remedy)) == prepared
