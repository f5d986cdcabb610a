"""The application: trips are sold on a page, and a saga books a seat and a room, or neither."""

import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from flask import Flask, abort, redirect, render_template, request, url_for
from flask_sqlalchemy import SQLAlchemy
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.wrappers import Response

from boundary.flask import SagaExtension
from internals import Context, Work
from saga import Command, Rejected, Retry, Saga, Step

db = SQLAlchemy()

#: Destinations, with the seats and rooms that are left; in Boston it snows.
_LEFT = {"Miami": (120, 40), "Chicago": (80, 3), "Boston": (60, 0)}


class Destination(db.Model):  # type: ignore[name-defined]
    __tablename__ = "destination"
    name: Mapped[str] = mapped_column(primary_key=True)
    seats: Mapped[int]
    rooms: Mapped[int]


class Trip(db.Model):  # type: ignore[name-defined]
    __tablename__ = "trip"
    number: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str]
    ticket: Mapped[str | None]


class Journey(BaseModel):
    """What the saga knows."""

    trip: str
    destination: str


class ReserveSeat(Command, kind="flights.reserve"):
    destination: str


class ReleaseSeat(Command, kind="flights.release"):
    destination: str


class ReserveRoom(Command, kind="hotels.reserve"):
    destination: str


class ReleaseRoom(Command, kind="hotels.release"):
    destination: str


class PrintTicket(Command, kind="documents.print"):
    trip: str


flights, hotels, documents = Context("flights"), Context("hotels"), Context("documents")


@flights.handles(ReserveSeat)
def reserve_seat(command: ReserveSeat, work: Work) -> None:
    _take("seats", command.destination)


@flights.handles(ReleaseSeat)
def release_seat(command: ReleaseSeat, work: Work) -> None:
    _locked(command.destination).seats += 1


@hotels.handles(ReserveRoom)
def reserve_room(command: ReserveRoom, work: Work) -> None:
    _take("rooms", command.destination)


@hotels.handles(ReleaseRoom)
def release_room(command: ReleaseRoom, work: Work) -> None:
    _locked(command.destination).rooms += 1


@documents.handles(PrintTicket, retry=Retry(attempts=1))
def print_ticket(command: PrintTicket, work: Work) -> None:
    if Path(os.environ.get("TRAVEL_BUG", "the-printer-has-a-bug")).exists():
        raise ZeroDivisionError("pages / printers")
    db.session.get_one(Trip, command.trip).ticket = f"ETKT {command.trip}"


TRIP = Saga(
    "trip",
    Journey,
    key=lambda journey: journey.trip,
    steps=(
        Step(
            "flight",
            lambda j: ReserveSeat(destination=j.destination),
            compensation=lambda j: ReleaseSeat(destination=j.destination),
        ),
        Step(
            "hotel",
            lambda j: ReserveRoom(destination=j.destination),
            compensation=lambda j: ReleaseRoom(destination=j.destination),
        ),
        Step("tickets", lambda j: PrintTicket(trip=j.trip)),
    ),
)

sagas = SagaExtension(sagas=[TRIP], contexts=[flights, hotels, documents], db=db)


def create_app() -> Flask:
    """Make the application; its configuration is in ``FLASK_…`` and ``SAGA_…`` variables."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    db.init_app(app)
    sagas.init_app(app)
    app.cli.command("init")(init)
    app.add_url_rule("/", view_func=index)
    app.add_url_rule("/trips", view_func=book, methods=["POST"])
    app.add_url_rule("/trips/<number>", view_func=show)
    app.add_url_rule("/trips/<number>/status", view_func=status)
    return app


def init() -> None:
    """Make the tables, and sagas' own."""
    sagas.runtime.migrate()
    db.create_all()
    for name, (seats, rooms) in _LEFT.items():
        db.session.merge(Destination(name=name, seats=seats, rooms=rooms))
    db.session.commit()


def index() -> str:
    """The page on which a trip is booked."""
    return render_template("index.html", destinations=list(_LEFT))


def book() -> Response:
    """Start a trip's saga together with the trip itself."""
    return redirect(url_for("show", number=place(request.form["destination"])))


def place(destination: str) -> str:
    """Commit a trip and its saga and return the trip's number."""
    if destination not in _LEFT:
        abort(404)
    number = f"T-{uuid4().hex[:8].upper()}"
    db.session.add(Trip(number=number, destination=destination))
    sagas.start(TRIP, Journey(trip=number, destination=destination))
    db.session.commit()  # both, or neither
    return number


def show(number: str) -> str:
    """The page that watches a trip to its end."""
    return render_template("trip.html", trip=db.get_or_404(Trip, number))


def status(number: str) -> dict[str, Any]:
    """Where a trip stands, for that page."""
    trip = db.get_or_404(Trip, number)
    schema = sagas.runtime.settings.db_schema
    found = db.session.execute(
        text(f"SELECT status, reason, steps FROM {schema}.saga WHERE key = :key"),
        {"key": number},
    ).one()
    steps = {name: step["phase"] for name, step in found.steps.items()}
    return {"status": found.status, "reason": found.reason, "steps": steps, "ticket": trip.ticket}


def _take(what: str, destination: str) -> None:
    row = _locked(destination)
    if getattr(row, what) < 1:
        raise Rejected(f"no {what} left in {destination}")
    setattr(row, what, getattr(row, what) - 1)


def _locked(destination: str) -> Any:
    return db.session.get_one(Destination, destination, with_for_update=True)
