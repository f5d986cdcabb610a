"""The admin shows what stands in the tables, and acts on it with permission and reason."""

import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.boundary.django.senders import Query

EVERY = (
    "view_sagarecord",
    "replay_saga",
    "cancel_saga",
    "skip_saga",
    "see_payload",
    "view_delivery",
    "retry_delivery",
    "drop_delivery",
    "view_act",
)


@pytest.fixture
def login(clean: None) -> Callable[..., Any]:
    """Return a client of a member of the staff who has these permissions."""

    def make(*permissions: str) -> Any:
        from django.contrib.auth.models import Permission, User
        from django.test import Client

        user = User.objects.create_user(f"ann{uuid4().hex[:4]}", is_staff=True)
        found = Permission.objects.filter(content_type__app_label="saga", codename__in=permissions)
        assert {p.codename for p in found} == set(permissions)
        user.user_permissions.set(found)
        client = Client()
        client.force_login(user)
        client.user = user
        return client

    return make


@pytest.fixture
def stuck(clean: None) -> str:
    """A stuck saga; its text would be markup."""
    return place("bug <i>x</i>")


def place(text: str) -> str:
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import start
    from boundary.django.testing import run_due

    with transaction.atomic():
        id = start(KEEP, Text(text=text))
    run_due()
    return str(id)


def page(client: Any, path: str, code: int = 200, **query: str) -> str:
    answer = client.get(f"/admin/saga/{path}", query)
    assert answer.status_code == code, answer
    return str(answer.content.decode())


def parked(outside: Query) -> str:
    [(id,)] = outside("SELECT message_id FROM saga.inbox WHERE state = 'parked'")
    return str(id)


def test_the_list_shows_filters_and_finds(login: Any, stuck: str) -> None:
    client = login(*EVERY)
    place("one")
    listed = page(client, "sagarecord/")
    assert 'saga-status-stuck">stuck<' in listed
    assert 'saga-status-completed">completed<' in listed
    assert "bug &lt;i&gt;x&lt;/i&gt;" in listed
    assert "<i>x</i>" not in listed
    assert "1 result" in page(client, "sagarecord/", status__exact="stuck")
    assert "2 results" in page(client, "sagarecord/", name="keep")
    for term, count in (
        ("one", 1),
        ("keep:one", 1),
        (stuck, 1),
        ("bug*", 1),
        ("on", 0),
        ("ask:one", 0),
        (str(uuid4()), 0),
    ):
        found = page(client, "sagarecord/", q=term)
        assert f"{count} result{'s' * (count != 1)}" in found, term


def test_the_page_shows_every_phase_and_status(login: Any, stuck: str, outside: Query) -> None:
    from saga import Phase, Status

    client = login(*EVERY)
    for phase in Phase:
        outside(
            "UPDATE saga.saga SET steps = json_build_object('settle',"
            " json_build_object('phase', %s::text, 'generation', 1)) RETURNING id",
            phase.value,
        )
        shown = page(client, f"sagarecord/{stuck}/change/")
        assert phase.value in shown or phase.value.replace("_", " ") in shown
    for status in Status:
        outside("UPDATE saga.saga SET status = %s RETURNING id", status.value)
        assert f"saga-status-{status.value}" in page(client, f"sagarecord/{stuck}/change/")
        assert f"saga-status-{status.value}" in page(client, "sagarecord/")


def test_the_list_stays_fast(login: Any, stuck: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from boundary.django.admin import SagaAdmin
    from boundary.django.admin import filters as browsing

    assert SagaAdmin.list_max_show_all < browsing.MOST, "a capped count must not look like few"
    monkeypatch.setattr(browsing, "MOST", 2)
    for limit in ("list_per_page", "list_max_show_all"):
        monkeypatch.setattr(SagaAdmin, limit, 1)
    for text in ("a", "b", "c"):
        place(text)
    client = login(*EVERY)
    with CaptureQueriesContext(connection) as seen:
        listed = page(client, "sagarecord/")
    assert "2 sagas" in listed
    asked = [query["sql"] for query in seen if '"saga"."saga"' in query["sql"]]
    assert all("LIMIT" in sql for sql in asked), asked


def test_the_page_of_a_saga(login: Any, stuck: str) -> None:
    shown = page(login(*EVERY), f"sagarecord/{stuck}/change/")
    assert 'saga-status-stuck">stuck<' in shown
    assert "step settle" in shown
    assert "ledger.settle" in shown
    assert "a bug &lt;b&gt;in&lt;/b&gt; the ledger" in shown
    assert "<b>in</b>" not in shown
    assert '<rect class="bar bar-parked"' in shown
    assert "└─ " in shown
    assert "1234" in shown
    for act in ("replay", "skip", "cancel"):
        assert f"/admin/saga/sagarecord/{stuck}/act/{act}/" in shown
    page(login(*EVERY), f"sagarecord/{uuid4()}/change/", 404)
    page(login(*EVERY), "sagarecord/x/change/", 404)


def test_a_payload_is_masked_without_the_permission(login: Any, stuck: str, outside: Query) -> None:
    client = login("view_sagarecord", "view_delivery", "replay_saga")
    for path in (f"sagarecord/{stuck}/change/", f"delivery/{parked(outside)}/change/"):
        shown = page(client, path)
        assert "it takes the permission saga.see_payload" in shown
        assert "1234" not in shown
    assert "Corrected data" not in page(client, f"sagarecord/{stuck}/act/replay/")
    assert "Corrected data" in page(login(*EVERY), f"sagarecord/{stuck}/act/replay/")


def test_a_replay_is_done_with_a_reason_and_audited(
    login: Any, stuck: str, outside: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login(*EVERY)
    path = f"/admin/saga/sagarecord/{stuck}/act/replay/"
    assert "This field is required" in client.post(path, {"reason": "  "}).content.decode()
    tried = client.post(path, {"reason": "mended", "preview": "1"}).content.decode()
    assert "It would be replayed: stuck → running; sends ledger.settle" in tried
    assert outside("SELECT status FROM saga.saga") == [("stuck",)]
    done = client.post(path, {"reason": "mended"}, follow=True).content.decode()
    assert "replayed: stuck → running" in done
    audit = outside("SELECT actor, act, reason FROM saga.audit")
    assert audit == [(client.user.get_username(), "replayed", "mended")]
    again = client.post(path, {"reason": "mended"}, follow=True).content.decode()
    assert "Refused: saga" in again
    assert "only a stuck saga can be replayed" in again
    assert "mended" in page(client, "act/")


def test_who_knows_that_the_failed_call_had_no_effect_says_so(
    login: Any, stuck: str, outside: Query
) -> None:
    client = login(*EVERY)
    path = f"/admin/saga/sagarecord/{stuck}/act/replay/"
    assert "The failed call had no effect" in page(client, f"sagarecord/{stuck}/act/replay/")
    said = {"reason": "asked them", "no_effect": "on"}
    assert (
        "with a new idempotency key" in client.post(path, said | {"preview": "1"}).content.decode()
    )
    client.post(path, said)
    assert outside("SELECT detail ->> 'no_effect' FROM saga.audit") == [("true",)]


def test_data_is_corrected_by_a_replay(login: Any, stuck: str, outside: Query) -> None:
    client = login(*EVERY)
    path = f"/admin/saga/sagarecord/{stuck}/act/replay/"
    wrong = client.post(path, {"reason": "r", "data": "[1]"}).content.decode()
    assert "Give an object of the fields" in wrong
    client.post(path, {"reason": "r", "data": '{"secret": "77"}', "from_step": "write"})
    assert outside("SELECT data->>'secret' FROM saga.saga") == [("77",)]


def test_a_step_is_skipped_and_a_saga_cancelled(login: Any, stuck: str, outside: Query) -> None:
    from boundary.django.testing import run_due

    client = login(*EVERY)
    client.post(
        f"/admin/saga/sagarecord/{stuck}/act/skip/", {"reason": "by hand", "step": "settle"}
    )
    run_due()
    assert outside("SELECT status FROM saga.saga") == [("completed",)]
    done = client.post(f"/admin/saga/sagarecord/{stuck}/act/cancel/", {"reason": "x"}, follow=True)
    assert "Refused" in done.content.decode()


def test_many_are_replayed_at_once(login: Any, stuck: str, outside: Query) -> None:
    other, fine = place("bug 2"), place("fine")
    client = login(*EVERY)
    chosen = {"action": "replay_selected", "_selected_action": [stuck, other, fine]}
    asked = client.post("/admin/saga/sagarecord/", chosen).content.decode()
    assert "Replay 3 sagas" in asked
    assert outside("SELECT count(*) FROM saga.audit") == [(0,)]
    done = client.post(
        "/admin/saga/sagarecord/", {**chosen, "confirmed": "yes", "reason": "all"}, follow=True
    ).content.decode()
    assert done.count("replayed: stuck → running") == 2
    assert done.count("Refused") == 1
    assert outside("SELECT count(*) FROM saga.audit WHERE reason = 'all'") == [(2,)]


def test_parked_deliveries_are_retried_and_dropped(login: Any, stuck: str, outside: Query) -> None:
    client = login(*EVERY)
    id = parked(outside)
    listed = page(client, "delivery/")
    assert "ledger.settle" in listed
    assert f"/admin/saga/sagarecord/{stuck}/change/" in listed
    for term, count in ((id, 1), (stuck, 1), ("ledger.settle", 1), ("x", 0)):
        found = page(client, "delivery/", q=term)
        assert f"{count} result{'s' * (count != 1)}" in found, term
    shown = page(client, f"delivery/{id}/change/")
    assert "a bug &lt;b&gt;in&lt;/b&gt; the ledger" in shown
    done = client.post(f"/admin/saga/delivery/{id}/act/retry/", {"reason": "again"}, follow=True)
    assert "is retried" in done.content.decode()
    assert outside("SELECT act, reason FROM saga.audit") == [("parked retry", "again")]
    from boundary.django.testing import run_due

    run_due()
    chosen = {"action": "drop_selected", "_selected_action": [id]}
    assert "Drop 1 message" in client.post("/admin/saga/delivery/", chosen).content.decode()
    client.post("/admin/saga/delivery/", {**chosen, "confirmed": "yes", "reason": "given up"})
    assert outside("SELECT state FROM saga.inbox WHERE message_id = %s", id) == [("revoked",)]


@pytest.mark.parametrize(("act", "state"), [("retry", "pending"), ("drop", "revoked")])
@pytest.mark.parametrize("chosen", ["row", "across"])
def test_a_message_that_is_parked_twice_is_acted_on_in_the_row_that_is_selected(
    login: Any, stuck: str, outside: Query, act: str, state: str, chosen: str
) -> None:
    client = login(*EVERY)
    id = parked(outside)
    outside(
        "INSERT INTO saga.inbox (message_id, consumer, state, outcome, due_at, ring_at, done_at) "
        "SELECT message_id, 'post', state, outcome, due_at, ring_at, done_at FROM saga.inbox "
        "WHERE state = 'parked' RETURNING 1"
    )
    listed = page(client, "delivery/")
    rows = re.findall(r'name="_selected_action" value="([^"]*)"', listed)
    assert sorted(rows) == [f"{id}:ledger", f"{id}:post"]
    assert 'id="action-toggle"' in listed
    # "across" is all that the filter on the right leaves, whatever is ticked.
    picked: Any = {"row": {"_selected_action": [f"{id}:post"]}, "across": {"select_across": "1"}}[
        chosen
    ]
    where = "/admin/saga/delivery/" + ("?consumer=post" if chosen == "across" else "")
    ticked = {"_selected_action": rows, "action": f"{act}_selected"} | picked
    asked = client.post(where, ticked).content.decode()
    assert f"{act.capitalize()} 1 message" in asked
    assert f"{id}</code> at post</li>" in asked
    assert "at ledger" not in asked
    kept = re.findall(r'name="_selected_action" value="([^"]*)"', asked)
    assert kept == [f"{id}:post"]
    sure = {"action": f"{act}_selected", "_selected_action": kept, "confirmed": "yes"}
    done = client.post(where, {**sure, "reason": "why"}, follow=True).content.decode()
    assert f"Message {id} at post is " in done
    states = outside("SELECT consumer, state FROM saga.inbox WHERE message_id = %s", id)
    assert dict(states) == {"ledger": "parked", "post": state}


@pytest.mark.parametrize("act", ["replay", "skip", "cancel"])
def test_each_act_has_its_permission(login: Any, stuck: str, outside: Query, act: str) -> None:
    client = login(*(name for name in EVERY if name != f"{act}_saga"))
    path = f"/admin/saga/sagarecord/{stuck}/act/{act}/"
    assert path not in page(client, f"sagarecord/{stuck}/change/")
    assert client.get(path).status_code == 403
    assert client.post(path, {"reason": "r", "step": "settle"}).status_code == 403
    chosen = {"action": f"{act}_selected", "_selected_action": [stuck], "confirmed": "1"}
    client.post("/admin/saga/sagarecord/", {**chosen, "reason": "r"})
    assert outside("SELECT count(*) FROM saga.audit") == [(0,)]


@pytest.mark.parametrize("act", ["retry", "drop"])
def test_each_act_on_messages_has_its_permission(
    login: Any, stuck: str, outside: Query, act: str
) -> None:
    client = login(*(name for name in EVERY if name != f"{act}_delivery"))
    id = parked(outside)
    path = f"/admin/saga/delivery/{id}/act/{act}/"
    assert path not in page(client, f"delivery/{id}/change/")
    assert client.post(path, {"reason": "r"}).status_code == 403
    chosen = {"action": f"{act}_selected", "_selected_action": [id], "confirmed": "1"}
    client.post("/admin/saga/delivery/", {**chosen, "reason": "r"})
    assert outside("SELECT count(*) FROM saga.audit") == [(0,)]


def test_without_permission_nothing_is_seen(login: Any, stuck: str, outside: Query) -> None:
    client = login()
    for path in (
        "sagarecord/",
        f"sagarecord/{stuck}/change/",
        f"sagarecord/{stuck}/act/replay/",
        "delivery/",
        f"delivery/{parked(outside)}/change/",
        "act/",
    ):
        page(client, path, 403)


def test_nobody_adds_changes_or_deletes(clean: None, stuck: str) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    page(client, "sagarecord/add/", 403)
    assert (
        client.post(f"/admin/saga/sagarecord/{stuck}/delete/", {"post": "yes"}).status_code == 403
    )
    assert "delete_selected" not in page(client, "sagarecord/")


def test_an_act_in_a_request_that_is_a_transaction(
    login: Any, stuck: str, outside: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    client = login(*EVERY)
    path = f"/admin/saga/sagarecord/{stuck}/act/replay/"
    tried = client.post(path, {"reason": "mended", "preview": "1"}).content.decode()
    assert "It would be replayed" in tried
    client.post(path, {"reason": "mended"})
    assert outside("SELECT reason FROM saga.audit") == [("mended",)]
