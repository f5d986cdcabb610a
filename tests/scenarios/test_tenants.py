"""Two tenants and row level security, under load: nobody sees what is another's."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from boundary import Settings
from tests.scenarios import tenants
from tests.scenarios.running_application import House
from tests.scenarios.tenants import LOOK, Look

SAGAS = 120


class Bank(House):
    application = tenants
    worker = "tenants_worker"


@pytest.fixture
def bank(
    empty_settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Bank]:
    made = Bank(empty_settings, start_group, eventually)
    yield made
    tenants.drop_role(made.runtime.engine, made.settings)
    made.close()
    made.runtime.engine.dispose()


def test_each_sees_its_own_accounts_and_one_without_a_tenant_none(bank: Bank) -> None:
    whose = (*tenants.TENANTS, None)
    looks = [Look(number=n, tenant=whose[n % 3]) for n in range(SAGAS)]
    bank.start(LOOK, *looks)  # all at once, so that workers find batches
    bank.start_worker(threads=4)
    bank.wait_until_over()
    assert bank.statuses() == {"completed": SAGAS}
    assert bank.count("inbox", "attempts > 0") == 0
    seen = bank.query("SELECT number, tenant, owners FROM seen")
    assert len(seen) == 2 * SAGAS
    strays = [row for row in seen if row[2] != ([row[1]] if row[1] else [])]
    assert strays == []
    bank.check_history()
