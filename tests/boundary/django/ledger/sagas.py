from datetime import timedelta

from ledger.words import Approved, Settle, Undo, Write
from pydantic import BaseModel

from saga import Saga, Step, Wait


class Text(BaseModel):
    text: str
    secret: str = "1234"


KEEP = Saga(
    name="keep",
    data=Text,
    key=lambda data: data.text,
    deadline=timedelta(days=2),
    steps=(
        Step(
            "write",
            lambda data: Write(text=data.text),
            compensation=lambda data: Undo(text=data.text),
        ),
        Step("settle", lambda data: Settle(text=data.text)),
    ),
)

ASK = Saga(
    name="ask",
    data=Text,
    steps=(
        Step(
            "write",
            lambda data: Write(text=data.text),
            compensation=lambda data: Undo(text=data.text),
        ),
        Wait("approval", until=Approved, timeout=timedelta(days=1)),
    ),
)
