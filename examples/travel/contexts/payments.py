"""Payments: charges cards and keeps the books, in double entry, so that money cannot vanish."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    MetaData,
    Table,
    Text,
    Uuid,
    insert,
)

from examples.travel.contexts.schema import SCHEMA
from examples.travel.messages import ChargeCard, PaymentCharged, PaymentDeclined
from examples.travel.payment_cards import refusal
from internals import Context, Work

#: The account that travellers pay to.
AGENCY = "agency"

metadata = MetaData(schema=SCHEMA)

#: Two rows are one payment: what leaves the traveller's account arrives at the agency's.  No
#: account's balance is stored: it would be one row that all payments wait for.
ledger = Table(
    "payments_ledger",
    metadata,
    Column("trip_id", Uuid, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("amount_cents", BigInteger, CheckConstraint("amount_cents <> 0"), nullable=False),
    Column("card", Text, nullable=False),
    CheckConstraint(f"(account = '{AGENCY}') = (amount_cents > 0)"),
)
# A trip is paid once, whoever pays.
Index(
    "payments_ledger_paid_once",
    ledger.c.trip_id,
    unique=True,
    postgresql_where=ledger.c.account != AGENCY,
)

payments = Context("payments")

_BOOK = insert(ledger)


@payments.handles(ChargeCard, emits=(PaymentCharged, PaymentDeclined))
def charge(command: ChargeCard, work: Work) -> None:
    """Charge the card, or say why not."""
    reason = refusal(command.card, command.amount_cents)
    if reason is not None:
        work.publish(PaymentDeclined(trip_id=command.trip_id, reason=reason))
        return
    line = {"trip_id": command.trip_id, "card": f"…{command.card[-4:]}"}
    work.connection.execute(
        _BOOK,
        [
            {**line, "account": command.traveller, "amount_cents": -command.amount_cents},
            {**line, "account": AGENCY, "amount_cents": command.amount_cents},
        ],
    )
    work.publish(
        PaymentCharged(
            trip_id=command.trip_id,
            traveller=command.traveller,
            amount_cents=command.amount_cents,
        )
    )
