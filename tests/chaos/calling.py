"""Bank and insurers: contexts that act with the partner's HTTP server, and can undo it.

One is undone by a compensation, the other by its own undo.  Their leases are shorter than a call
may take, and so are the deadlines of their steps.
"""

import http.client
import json
import os
import random
import time
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from internals import Context, Work
from saga import Retry
from tests.chaos.breaking import Broken, meet
from tests.chaos.charging import GatewayError
from tests.chaos.ledger import do, stands, undo
from tests.chaos.messages import Order, Outcome
from tests.chaos.plan import PLAN
from tests.chaos.tally import Tally

#: The partner's address, in the environment.
PARTNER = "CHAOS_PARTNER"

#: A call that took longer than its handler's lease.
OUTLIVED = "call_outlived_its_lease"

LEASE = timedelta(seconds=1)

#: Seconds that a caller waits for an answer, at random between these.
_PATIENCE = (2.0, 10.0)

_RETRY = Retry(
    attempts=30, backoff=timedelta(milliseconds=100), cap=timedelta(seconds=2), never=(Broken,)
)

bank = Context("bank")
insurers = Context("insurers")


class PartnerError(GatewayError):
    """The partner gave no answer."""


class PartnerOrder(Order):
    """What the partner is ordered by: refusing is decided beforehand."""

    refuse: bool = False
    #: Whether an operator has corrected the trip's data.
    mended: bool = False


class PayDeposit(PartnerOrder, kind="bank.deposit"): ...


class RefundDeposit(PartnerOrder, kind="bank.refund"): ...


class Deposited(Outcome, kind="bank.deposited"): ...


class DepositDeclined(Outcome, kind="bank.declined"): ...


class Insure(PartnerOrder, kind="insurers.insure"): ...


@bank.handles(
    PayDeposit, emits=(Deposited, DepositDeclined), retry=_RETRY, external=True, lease=LEASE
)
def pay_deposit(command: PayDeposit, work: Work) -> None:
    accepted = _call("do", "deposit", command, work)
    meet("deposit", command.trip_id, mended=command.mended)
    work.begin()
    if not accepted:
        work.publish(DepositDeclined(trip_id=command.trip_id, reason="the bank said no"))
        return
    do(work, command.trip_id, "deposit", command.traveller, command.cents)
    work.publish(Deposited(trip_id=command.trip_id))


@bank.handles(RefundDeposit, retry=_RETRY, external=True, lease=LEASE)
def refund_deposit(command: RefundDeposit, work: Work) -> None:
    _call("undo", "deposit", command, work)
    meet("refund", command.trip_id, mended=command.mended)
    work.begin()
    if stands(work, command.trip_id, "deposit"):
        undo(work, command.trip_id, "deposit", command.traveller, command.cents)


def uninsure(command: Insure, work: Work) -> None:
    _call("undo", "insurance", command, work)
    meet("uninsure", command.trip_id, mended=command.mended)
    work.begin()
    if stands(work, command.trip_id, "insurance"):
        undo(work, command.trip_id, "insurance", command.traveller, command.cents)


@insurers.handles(Insure, retry=_RETRY, external=True, lease=LEASE, undo=uninsure)
def insure(command: Insure, work: Work) -> None:
    _call("do", "insurance", command, work)
    meet("insure", command.trip_id, mended=command.mended)
    work.begin()
    do(work, command.trip_id, "insurance", command.traveller, command.cents)


def _call(op: str, step: str, command: PartnerOrder, work: Work) -> bool:
    order = {
        "key": work.idempotency_key,
        "op": op,
        "trip": str(command.trip_id),
        "step": step,
        "cents": command.cents,
        "undoes": work.undoes,
        "refuse": command.refuse,
    }
    address = urlsplit(os.environ[PARTNER])
    began = time.monotonic()
    connection = http.client.HTTPConnection(
        str(address.hostname), address.port, timeout=random.uniform(*_PATIENCE)
    )
    try:
        connection.request("POST", "/", json.dumps(order))
        body = connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        raise PartnerError(f"no answer: {type(error).__name__}") from None
    finally:
        connection.close()
        if time.monotonic() - began > LEASE.total_seconds():
            Tally(Path(os.environ[PLAN]).parent).struck(OUTLIVED)
    return bool(json.loads(body)["accepted"])
