"""A shop in Flask, as its users write it: made by a factory, configured by the environment."""

import os
from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from boundary.flask import SagaExtension
from internals import Context, Work
from saga import Command, Event, Rejected, Retry, Saga, Step, Wait


class Sale(BaseModel):
    number: int
    then: str = ""


class Charge(Command, kind="till.charge"):
    number: int
    then: str


class Charged(Event, kind="till.charged"):
    number: int


class Stow(Command, kind="attic.stow"):
    number: int


class Approved(Event, kind="desk.approved"):
    pass


SALE = Saga("sale", Sale, (Step("charge", lambda s: Charge(number=s.number, then=s.then)),))
STORAGE = Saga("storage", Sale, (Step("stow", lambda s: Stow(number=s.number)),))
LOAN = Saga("loan", Sale, (Wait("approval", until=Approved),))

db = SQLAlchemy()


class Charges(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "charge"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class Elsewhere(db.Model):  # type: ignore[name-defined,misc]
    __bind_key__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True)


till, attic = Context("till"), Context("attic")
#: How often the handler ran, of each number.
runs: dict[int, int] = {}


@till.handles(Charge, retry=Retry(attempts=3))
def charge(command: Charge, work: Work) -> None:
    runs[command.number] = runs.get(command.number, 0) + 1
    assert current_app.name == __name__
    db.session.add(Charges(number=command.number))
    if command.then == "flush and fail once" and runs[command.number] == 1:
        db.session.flush()
        raise RuntimeError("the till is shut")
    if command.then == "commit and fail once" and runs[command.number] == 1:
        db.session.commit()
        raise RuntimeError("the till is shut")
    if command.then == "commit":
        db.session.commit()
    if command.then == "lend":
        sagas.start(LOAN, Sale(number=command.number))
    if command.then == "elsewhere":
        db.session.add(Elsewhere())
    if command.then == "refuse":
        db.session.flush()
        raise Rejected("no cash")


@attic.handles(Stow)
def stow(command: Stow, work: Work) -> None:
    assert current_app.name == __name__
    db.session.add(Elsewhere(id=command.number))


sagas = SagaExtension(sagas=[SALE, LOAN, STORAGE], contexts=[till, attic], db=db)


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    uri = os.environ.get("SHOP_DATABASE_URI", "")
    binds = {"other": os.environ.get("SHOP_OTHER_URI", uri)}
    app.config.update(SQLALCHEMY_DATABASE_URI=uri, SQLALCHEMY_BINDS=binds, **config)
    db.init_app(app)
    sagas.init_app(app)
    return app
