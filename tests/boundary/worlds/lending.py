"""A library that lends each book once at a time."""

from pydantic import BaseModel

from saga import Command, Saga, Step


class Loan(BaseModel):
    book: str = "Emma"
    reader: str = "Ann"
    days: float = 14
    lend: bool = True


class Lend(Command, kind="desk.lend"):
    book: str


def lend(loan: Loan) -> Lend | None:
    return Lend(book=loan.book) if loan.lend else None


LOAN = Saga(name="loan", data=Loan, key=lambda loan: loan.book, steps=(Step("lend", lend),))


KEYLESS = Saga(name="keyless", data=Loan, steps=(Step("lend", lend),))


EMMA = Loan(book="Emma")


OTHER_EMMA = Loan(book="Emma", reader="Bob")


DUNE = Loan(book="Dune")


NOTHING = (0, 0, 0)


ONE = (1, 2, 2)  # the start and the first command, each with a delivery
