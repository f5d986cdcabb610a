"""`manage.py check` tells what is wrong with the settings, and the way out."""

from typing import Any

import pytest


def problems(**changes: Any) -> list[tuple[str, str, str]]:
    from django.conf import settings
    from django.test import override_settings

    from boundary.django.checks import check_database, check_definitions, check_settings

    saga = changes.pop("SAGA", None)
    given = {**settings.SAGA, **changes} if saga is None else saga
    with override_settings(SAGA=given):
        found = [*check_settings(), *check_database(), *check_definitions()]
    return [(error.id, error.msg, error.hint) for error in found]


def test_a_sound_project_has_none(project: None) -> None:
    from django.core.management import call_command

    assert problems() == []
    call_command("check", verbosity=0)


@pytest.mark.parametrize(
    ("changes", "id", "message", "hint"),
    [
        ({"SAGA": 5}, "saga.E001", "SAGA must be a dict, not int.", "REDIS_URL"),
        ({"BACH": 5}, "saga.E002", "unknown key 'BACH'", "Did you mean 'BATCH'?"),
        ({"xyz": 5}, "saga.E002", "unknown key 'xyz'", "It knows DATABASE, REDIS_URL"),
        ({"BATCH": 0}, "saga.E003", "SAGA['BATCH'] is wrong.", "greater than or equal to 1"),
        ({"GRACE": "x"}, "saga.E003", "SAGA['GRACE'] is wrong.", "give seconds, such as 2.5"),
        ({"REDIS_URL": "http://x"}, "saga.E003", "SAGA['REDIS_URL'] is", "redis://:password"),
        ({"SCHEMA": "No Good"}, "saga.E003", "SAGA['SCHEMA'] is wrong.", "identifier"),
        ({"REDIS_URL": None}, "saga.E004", "SAGA has no REDIS_URL.", "Valkey"),
        ({"SAGA": {}}, "saga.E004", "SAGA has no REDIS_URL.", "Valkey"),
        ({"DATABASE": "x"}, "saga.E005", "'x', which DATABASES does not have", "'default', 'mi"),
    ],
)
def test_what_is_wrong_is_told_with_the_way_out(
    project: None, changes: dict[str, Any], id: str, message: str, hint: str
) -> None:
    [(found, said, way)] = problems(**changes)
    assert found == id
    assert message in said
    assert hint in way


def test_a_value_is_not_repeated(project: None) -> None:
    [(_, said, way)] = problems(REDIS_URL="http://:hidden@host")
    assert "hidden" not in said + way


def test_another_database_than_postgres_is_refused(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    monkeypatch.setattr(connections["other"], "vendor", "sqlite")
    [(id, said, way)] = problems(DATABASE="other")
    assert (id, said) == (
        "saga.E006",
        "Sagas are kept in Postgres, and the database 'other' is django.db.backends.postgresql.",
    )
    assert "SAGA['DATABASE']" in way


def test_a_user_called_as_the_schema_is_warned_of(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    monkeypatch.setitem(connections.settings["default"], "USER", "saga")
    assert problems() == []
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", {})
    [(id, _, way)] = problems()
    assert id == "saga.W001"
    assert "search_path=public" in way


def test_psycopg_2_is_refused(project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db.backends.postgresql import psycopg_any

    monkeypatch.setattr(psycopg_any, "is_psycopg3", False)
    [(id, _, way)] = problems()
    assert id == "saga.E007"
    assert way.startswith("pip install 'psycopg[binary]")


def test_definitions_that_collide_are_told(project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ledger.contexts

    from internals import Context

    monkeypatch.setattr(ledger.contexts, "another", Context("ledger"), raising=False)
    [(id, said, _)] = problems()
    assert (id, said) == (
        "saga.E008",
        "Sagas or contexts collide: two contexts are called 'ledger'.",
    )


def test_sagas_and_contexts_are_found_in_every_app(project: None) -> None:
    from boundary.django import runtime

    assert sorted(runtime()._wiring.sagas) == ["ask", "keep"]
    assert [context.name for context in runtime()._wiring.contexts] == ["ledger", "gossip"]


def test_the_environment_has_no_say(project: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from boundary.django.conf import read_settings

    monkeypatch.setenv("SAGA_SCHEMA", "elsewhere")
    monkeypatch.setenv("SAGA_BATCH", "7")
    assert (read_settings().db_schema, read_settings().batch) == ("saga", 64)


def test_the_runtime_follows_the_settings_of_a_test(project: None) -> None:
    from django.conf import settings
    from django.test import override_settings

    from boundary.django import runtime

    before = runtime()
    assert runtime() is before
    with override_settings(SAGA={**settings.SAGA, "BATCH": 5}):
        assert runtime().settings.batch == 5
    assert runtime().settings.batch == 64


def test_the_global_broker_is_the_hosts(project: None) -> None:
    import dramatiq

    from boundary.django import runtime

    assert dramatiq.get_broker() is not runtime()._wiring.broker
    assert "django_dramatiq" in str(dramatiq.get_broker().middleware[0].__class__.__module__)
