from saga import Command, Event


class Write(Command, kind="ledger.write"):
    text: str


class Undo(Command, kind="ledger.undo"):
    text: str


class Settle(Command, kind="ledger.settle"):
    text: str


class Noted(Event, kind="ledger.noted"):
    text: str


class Approved(Event, kind="desk.approved"):
    by: str
