"""Sagas in a Flask application: started with its session, handled in its context."""

import contextvars
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from boundary import Settings
from boundary.flask import SagaExtension
from saga import DefinitionError, NoTransaction, Status, UnknownSaga
from tests.boundary.worlds import flask_shop
from tests.boundary.worlds.flask_shop import SALE, Charges, Sale, create_app, db, sagas
from tests.conftest import ROOT, connect, worker_environment

WORLDS = Path(__file__).parent / "worlds"


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """The shop's configuration as the environment of a process."""
    assert settings.database_url is not None
    url = make_url(settings.database_url.get_secret_value())
    url = url.update_query_dict({"options": f"-csearch_path={settings.db_schema}"})
    path = os.pathsep.join([str(WORLDS), str(ROOT)])
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("SAGA_")},
        **worker_environment(settings),
        "SHOP_DATABASE_URI": url.render_as_string(hide_password=False),
        "PYTHONPATH": path,
    }


@pytest.fixture
def app(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    for name, value in environment.items():
        if name.startswith(("SAGA_", "SHOP_")):
            monkeypatch.setenv(name, value)
    flask_shop.runs.clear()
    app = create_app()
    with app.app_context():
        db.create_all()
        yield app
        runtime = sagas.runtime
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
        runtime.close()


def settle() -> None:
    """Let everyone work until nobody has anything due."""
    runtime = sagas.runtime
    while sum(runtime.answer(consumer) for consumer in runtime._wiring.consumers):
        pass


def make_due(outside: psycopg.Connection[Any]) -> None:
    outside.execute("UPDATE inbox SET due_at = now() WHERE state = 'pending'")


def numbers(outside: psycopg.Connection[Any]) -> list[int]:
    return [n for (n,) in outside.execute("SELECT number FROM charge ORDER BY 1").fetchall()]


def statuses(outside: psycopg.Connection[Any]) -> list[str]:
    return [s for (s,) in outside.execute("SELECT status FROM saga ORDER BY started_at").fetchall()]


def test_a_saga_that_a_handler_starts_has_its_message_for_cause(
    app: Flask, outside: psycopg.Connection[Any]
) -> None:
    sagas.start(SALE, Sale(number=1, then="lend"))
    db.session.commit()
    settle()
    [cause] = outside.execute(
        "SELECT cause.kind FROM outbox AS o JOIN outbox AS cause ON cause.id = o.causation_id "
        "WHERE o.kind = 'saga.started'"
    ).fetchall()
    assert cause == ("till.charge",)


def start(_: Any) -> object:
    return sagas.start(SALE, Sale(number=2))


def start_many(_: Any) -> object:
    return sagas.start_many(SALE, [Sale(number=2), Sale(number=3)])


def publish(_: Any) -> object:
    return sagas.publish(flask_shop.Charged(number=1))


def signal(id: Any) -> None:
    sagas.signal(id, flask_shop.Approved())


def cancel(id: Any) -> object:
    return sagas.cancel(id, reason="a mistake", actor="ann")


SENDS = (start, start_many, publish, signal, cancel)


class TestStarting:
    def test_it_begins_with_the_session_s_commit(self, app: Flask, outside: Any) -> None:
        db.session.add(Charges(number=0))
        id = sagas.start(SALE, Sale(number=1), key="S-1")
        assert statuses(outside) == []
        db.session.commit()
        assert statuses(outside) == ["running"]
        assert sagas.start(SALE, Sale(number=1), key="S-1") == id
        db.session.rollback()
        assert numbers(outside) == [0]

    def test_its_id_can_be_asked(self, app: Flask) -> None:
        handle = sagas.start(SALE, Sale(number=1))
        db.session.commit()
        settle()
        assert handle.status() is Status.COMPLETED
        assert sagas.runtime.sagas.get(str(handle)) == handle
        [other] = sagas.start_many(SALE, [Sale(number=2)])
        db.session.rollback()
        with pytest.raises(UnknownSaga):
            other.status()

    def test_a_rollback_takes_it_back(self, app: Flask, outside: Any) -> None:
        sagas.start_many(SALE, [Sale(number=1), Sale(number=2)])
        sagas.publish(flask_shop.Charged(number=1))
        db.session.rollback()
        assert statuses(outside) == []
        assert outside.execute("SELECT count(*) FROM outbox").fetchone() == (0,)

    def test_so_does_that_of_a_savepoint_and_no_more(self, app: Flask, outside: Any) -> None:
        sagas.start(SALE, Sale(number=1))
        savepoint = db.session.begin_nested()
        sagas.start(SALE, Sale(number=2))
        savepoint.rollback()
        db.session.commit()
        assert statuses(outside) == ["running"]

    @pytest.mark.parametrize("send", SENDS, ids=lambda send: send.__name__)
    @pytest.mark.parametrize(
        ("end", "kept"),
        [
            (db.session.commit, True),
            (db.session.rollback, False),
            (db.session.remove, False),
        ],
        ids=["commit", "rollback", "teardown"],
    )
    def test_whatever_is_sent_is_there_as_the_session_s_own_writes_are(
        self, app: Flask, outside: Any, send: Callable[[Any], object], end: Any, kept: bool
    ) -> None:
        id = sagas.start(flask_shop.LOAN, Sale(number=1))
        db.session.commit()
        before = outside.execute("SELECT count(*) FROM outbox").fetchone()
        for nested in (True, False):
            if nested:
                savepoint = db.session.begin_nested()
                send(id)
                savepoint.rollback()
            else:
                db.session.add(Charges(number=7))
                send(id)
        end()
        assert (numbers(outside) == [7]) is kept
        after = outside.execute("SELECT count(*) FROM outbox").fetchone()
        assert (after != before) is kept

    def test_another_session_may_be_given(self, app: Flask, outside: Any) -> None:
        with Session(db.engine) as session, session.begin():
            id = sagas.start(SALE, Sale(number=1), session=session)
            sagas.cancel(id, reason="a mistake", actor="ann", session=session)
        assert statuses(outside) == ["compensating"]

    def test_a_request_that_fails_starts_nothing_and_keeps_no_connection(
        self, app: Flask, outside: Any
    ) -> None:
        @app.post("/sale")
        def sell() -> str:
            sagas.start(SALE, Sale(number=1))
            raise ZeroDivisionError

        db.session.remove()
        # In no context of ours: the request has one of its own then, as on a server.
        answer = contextvars.Context().run(app.test_client().post, "/sale")
        assert answer.status_code == 500
        assert statuses(outside) == []
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


class TestHandlers:
    def test_the_session_s_writes_are_committed_with_the_delivery(
        self, app: Flask, outside: Any
    ) -> None:
        sagas.start_many(SALE, [Sale(number=n) for n in range(5)])
        db.session.commit()
        db.session.remove()
        settle()
        assert numbers(outside) == [0, 1, 2, 3, 4]
        assert set(statuses(outside)) == {"completed"}
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    @pytest.mark.parametrize("then", ["flush and fail once", "commit and fail once"])
    def test_what_fails_after_it_has_written_is_undone_and_done_once(
        self, app: Flask, outside: Any, then: str
    ) -> None:
        sagas.start(SALE, Sale(number=1, then=then))
        db.session.commit()
        settle()
        make_due(outside)
        settle()
        assert numbers(outside) == [1]
        assert flask_shop.runs == {1: 2}
        assert statuses(outside) == ["completed"]

    def test_a_commit_in_it_ends_no_more_than_its_own_savepoint(
        self, app: Flask, outside: Any
    ) -> None:
        sagas.start_many(SALE, [Sale(number=1, then="commit"), Sale(number=2, then="refuse")])
        db.session.commit()
        settle()
        assert numbers(outside) == [1]
        assert sorted(statuses(outside)) == ["compensated", "completed"]

    def test_another_bind_is_refused(self, app: Flask, outside: Any) -> None:
        sagas.start(SALE, Sale(number=1, then="elsewhere"))
        db.session.commit()
        settle()
        (error,) = outside.execute(
            "SELECT last_error FROM inbox WHERE consumer = 'till'"
        ).fetchone()
        assert "cannot write to another bind" in error
        assert numbers(outside) == []


class TestOwnDatabase:
    """A context with a database of its own, which is a bind."""

    @pytest.fixture
    def apart(self, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        monkeypatch.setattr(flask_shop.attic, "database", "other")
        assert elsewhere.database_url is not None
        url = make_url(elsewhere.database_url.get_secret_value())
        url = url.update_query_dict({"options": f"-csearch_path={elsewhere.db_schema}"})
        monkeypatch.setenv("SHOP_OTHER_URI", url.render_as_string(hide_password=False))
        with connect(elsewhere) as connection:
            yield connection

    def test_its_session_writes_there(self, apart: Any, app: Flask, outside: Any) -> None:
        sagas.start(flask_shop.STORAGE, Sale(number=7))
        db.session.commit()
        settle()
        assert statuses(outside) == ["completed"]
        assert apart.execute("SELECT id FROM elsewhere").fetchall() == [(7,)]
        assert outside.execute("SELECT to_regclass('elsewhere')").fetchone() == (None,)

    def test_elsewhere_it_is_refused_as_ever(self, app: Flask, outside: Any) -> None:
        sagas.start(flask_shop.STORAGE, Sale(number=7))
        db.session.commit()
        settle()
        (error,) = outside.execute(
            "SELECT last_error FROM inbox WHERE consumer = 'attic'"
        ).fetchone()
        assert "cannot write to another bind" in error


class TestWiring:
    def test_two_applications_share_nothing(self, app: Flask) -> None:
        other = create_app(SAGA_SCHEMA="other_sagas", SAGA_GRACE=3.0)
        with other.app_context():
            assert sagas.runtime.settings.db_schema == "other_sagas"
            assert sagas.runtime.settings.grace == 3.0
            other_runtime = sagas.runtime
        with app.app_context():
            assert sagas.runtime is not other_runtime
            assert sagas.runtime.settings.db_schema != "other_sagas"
        other_runtime.close()

    def test_without_a_session_it_is_told_what_to_give(self) -> None:
        alone = SagaExtension(app := Flask("alone"), sagas=[SALE])
        with app.app_context(), pytest.raises(NoTransaction, match="session="):
            alone.start(SALE, Sale(number=1))

    def test_an_application_without_it_is_told_so(self) -> None:
        with (
            Flask("bare").app_context(),
            pytest.raises(DefinitionError, match=r"'bare' has no sagas"),
        ):
            _ = sagas.runtime

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({"SAGA_BATCH": "many"}, "SAGA_BATCH: "),
            ({"SAGA_REDIS_URL": "http://x"}, "SAGA_REDIS_URL: give a Redis URL"),
        ],
    )
    def test_a_wrong_setting_is_named(self, config: dict[str, str], words: str) -> None:
        app = Flask("wrong")
        app.config.update(config)
        with pytest.raises(DefinitionError, match=words):
            SagaExtension(app)

    def test_another_database_than_postgres_is_refused_in_words(self) -> None:
        app = Flask("lite")
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        lite = SQLAlchemy(app)
        extension = SagaExtension(app, sagas=[SALE], db=lite)
        with app.app_context(), pytest.raises(DefinitionError, match=r"postgresql\+psycopg://"):
            _ = extension.runtime


class TestCommand:
    @pytest.fixture
    def flask(self, app: Flask, environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
        def run(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                [sys.executable, "-m", "flask", "--app", "flask_shop", "saga", *arguments],
                env=environment | changes,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )

        return run

    def test_it_is_the_command_line_itself(self, flask: Callable[..., Any]) -> None:
        id = sagas.start(SALE, Sale(number=1), key="S-1")
        db.session.commit()
        (listed,) = json.loads(flask("list", "--json").stdout)
        assert listed["id"] == str(id)
        done = flask("cancel", "S-1", "--reason", "a mistake")
        assert (done.returncode, done.stderr) == (0, "")
        refused = flask("skip", "S-1", "charge", "--reason", "why not")
        assert refused.returncode == 1
        assert refused.stderr.startswith("saga: ")
        assert refused.stderr.count("\n") == 1
        assert "Usage: flask saga" in flask("--help").stdout

    def test_the_doctor_names_ways_out_that_flask_has(self, flask: Callable[..., Any]) -> None:
        remedies = {
            check["check"]: check["remedy"]
            for changes in (
                {"SAGA_SCHEMA": "saga_test_nowhere"},
                {"SAGA_REDIS_URL": "redis://127.0.0.1:1/0"},
                {"SHOP_DATABASE_URI": "postgresql+psycopg://nobody@127.0.0.1:1/x"},
            )
            for check in json.loads(flask("doctor", "--json", **changes).stdout)["checks"]
            if check["verdict"] == "wrong"
        }
        assert remedies["schema"] == "run `flask saga migrate`"
        assert remedies["redis"] == 'see app.config["SAGA_REDIS_URL"]'
        assert remedies["postgres"] == 'see app.config["SQLALCHEMY_DATABASE_URI"]'

    def test_a_worker_that_is_killed_and_the_next_do_all_of_it_once(
        self, app: Flask, environment: dict[str, str], outside: Any, eventually: Any, tmp_path: Path
    ) -> None:
        sagas.start_many(SALE, [Sale(number=n) for n in range(50)])
        db.session.commit()
        for last in (False, True):
            process = subprocess.Popen(
                [sys.executable, "-m", "flask", "--app", "flask_shop:create_app", "saga", "worker",
                 "--processes", "1", "--threads", "2"],
                env=environment,
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            try:
                if last:
                    sagas.start(SALE, Sale(number=50))
                    db.session.commit()
                    eventually(lambda: set(statuses(outside)) == {"completed"}, 60)
                else:
                    eventually(lambda: "completed" in statuses(outside), 60)
            finally:
                os.killpg(process.pid, 9)
                process.wait()
        assert numbers(outside) == list(range(51))
