"""Payments: the context that acts outside the database, on the gateway's HTTP server.

No transaction is open during the call.  A worker that is cut after it leaves its lease to run out,
and the call is repeated under the same idempotency key.
"""

import http.client
import json
import os
from datetime import timedelta
from urllib.parse import urlsplit

from internals import Context, Work
from saga import Retry
from tests.chaos.hanging import meet_outside
from tests.chaos.ledger import do
from tests.chaos.messages import Charge, Charged, ChargeDeclined

#: The gateway's address, in the environment.
GATEWAY = "CHAOS_GATEWAY"

_PATIENCE = 5.0

#: The gateway is out of order by design, so it is tried often; all other handlers have the
#: framework's own policy, since nothing that strikes them is a failure of theirs.
_RETRY = Retry(attempts=30, backoff=timedelta(milliseconds=100), cap=timedelta(seconds=2))

#: Longer than a call may take; a storm takes many workers in the midst of theirs.
_LEASE = timedelta(seconds=10)

payments = Context("payments")


class GatewayError(Exception):
    """The gateway gave no answer, or not the one that was hoped for."""


@payments.handles(
    Charge, emits=(Charged, ChargeDeclined), retry=_RETRY, external=True, lease=_LEASE
)
def charge(command: Charge, work: Work) -> None:
    """Charge at the gateway, and keep the books."""
    accepted = _call_gateway(
        {
            "key": work.idempotency_key,
            "trip": str(command.trip_id),
            "cents": command.cents,
            "refuse": command.refuse,
        }
    )
    meet_outside(work)
    work.begin()
    if not accepted:
        work.publish(ChargeDeclined(trip_id=command.trip_id, reason="the card is refused"))
        return
    do(work, command.trip_id, "payment", command.traveller, command.cents)
    work.publish(Charged(trip_id=command.trip_id, receipt=work.idempotency_key))


def _call_gateway(order: dict[str, object]) -> bool:
    address = urlsplit(os.environ[GATEWAY])
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=_PATIENCE)
    try:
        connection.request("POST", "/charge", json.dumps(order))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise GatewayError(f"no answer: {type(error).__name__}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise GatewayError(f"it answered {response.status}")
    return bool(json.loads(body)["accepted"])
