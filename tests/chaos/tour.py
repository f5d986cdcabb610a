"""The saga of the profile `partners`: what partners do stands between a car and a voucher."""

from datetime import timedelta

from internals import Context, Work
from saga import CAUSAL, Command, Parallel, Retry, Saga, Step
from tests.chaos.booking import cancel_car, charge, issue_documents, keep_receipt, rent_car
from tests.chaos.breaking import Broken, meet
from tests.chaos.calling import DepositDeclined, Deposited, Insure, PayDeposit, RefundDeposit
from tests.chaos.ledger import do, undo
from tests.chaos.messages import (
    Charged,
    ChargeDeclined,
    DocumentsIssued,
    Order,
    Outcome,
)
from tests.chaos.trips import Trip

#: Seconds until a deposit that was not confirmed is given up.
_DEADLINE = timedelta(seconds=6)

vouchers = Context("vouchers")


class IssueVoucher(Order, kind="vouchers.issue"):
    refuse: bool
    mended: bool


class RevokeVoucher(Order, kind="vouchers.revoke"): ...


class VoucherIssued(Outcome, kind="vouchers.issued"): ...


class VoucherRefused(Outcome, kind="vouchers.refused"): ...


@vouchers.handles(IssueVoucher, emits=(VoucherIssued, VoucherRefused), retry=Retry(never=(Broken,)))
def issue(command: IssueVoucher, work: Work) -> None:
    if command.refuse:
        work.publish(VoucherRefused(trip_id=command.trip_id, reason="sold out"))
        return
    do(work, command.trip_id, "voucher", command.traveller, command.cents)
    meet("voucher", command.trip_id, mended=command.mended)
    work.publish(VoucherIssued(trip_id=command.trip_id))


@vouchers.handles(RevokeVoucher)
def revoke(command: RevokeVoucher, work: Work) -> None:
    undo(work, command.trip_id, "voucher", command.traveller, command.cents)


def prices(trip: Trip) -> dict[str, int]:
    """Return the steps of a completed tour, with the cents that each costs."""
    car = {"car": trip.price("car")} if trip.wants_car else {}
    return {
        **car,
        "deposit": 2 * trip.share_cents,
        "insurance": trip.share_cents,
        "voucher": 3 * trip.share_cents,
        "payment": trip.price("payment"),
        "documents": 0,
        "miles": 0,
    }


def pay_deposit(trip: Trip) -> Command:
    return PayDeposit(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=prices(trip)["deposit"],
        refuse=trip.refused_by == "hotel",
        mended=trip.mended,
    )


def refund_deposit(trip: Trip) -> Command:
    return RefundDeposit(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=prices(trip)["deposit"],
        mended=trip.mended,
    )


def insure(trip: Trip) -> Command:
    return Insure(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=prices(trip)["insurance"],
        mended=trip.mended,
    )


def issue_voucher(trip: Trip) -> Command:
    return IssueVoucher(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=prices(trip)["voucher"],
        refuse=trip.refused_by in ("flight", "seating", "room"),
        mended=trip.mended,
    )


def revoke_voucher(trip: Trip) -> Command:
    return RevokeVoucher(
        trip_id=trip.trip_id, traveller=trip.traveller, cents=prices(trip)["voucher"]
    )


CHAOS_TOUR = Saga(
    name="chaos_tour",
    data=Trip,
    key=lambda trip: trip.reference,
    steps=(
        Step("car", rent_car, compensation=cancel_car),
        Parallel(
            Step(
                "deposit",
                pay_deposit,
                until=Deposited,
                rejected_by=DepositDeclined,
                timeout=_DEADLINE,
                compensation=refund_deposit,
            ),
            Step("insurance", insure, compensation=CAUSAL),
        ),
        Step(
            "voucher",
            issue_voucher,
            until=VoucherIssued,
            rejected_by=VoucherRefused,
            compensation=revoke_voucher,
        ),
        Step(
            "payment",
            charge,
            until=Charged,
            rejected_by=ChargeDeclined,
            on_success=keep_receipt,
            pivot=True,
        ),
        Step("documents", issue_documents, until=DocumentsIssued),
    ),
)
