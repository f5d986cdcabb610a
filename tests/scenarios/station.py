"""A station: trains leave, a board that was put up late shows them, and a stream tells others."""

from sqlalchemy import Column, Engine, Identity, Integer, MetaData, Table, Text, insert
from sqlalchemy.schema import CreateTable

from boundary import Runtime, Settings
from boundary.bridges import OutgoingBridge, RedisStream
from internals import Context, Work
from saga import Event

shown = Table(
    "shown",
    MetaData(schema="station"),
    Column("id", Integer, Identity(), primary_key=True),
    Column("train", Text, nullable=False),
    Column("stop", Integer, nullable=False),
)


class Left(Event, kind="trains.left"):
    """A train has left the so-manieth stop of its way."""

    train: str
    stop: int


board = Context("board")


@board.reacts_to(Left, ordered_by="train")
def show(event: Left, work: Work) -> None:
    work.connection.execute(insert(shown).values(**event.model_dump()))


def stream_of(settings: Settings) -> RedisStream:
    """Return the stream that others read."""
    assert settings.redis_url is not None
    return RedisStream(f"{settings.namespace}:left", settings.redis_url.get_secret_value())


def make_runtime(settings: Settings, contexts: tuple[Context, ...] = (board,)) -> Runtime:
    """Wire the station; its table is in the framework's schema, which the test drops."""
    out = OutgoingBridge("out", stream_of(settings), events={Left: "train"})
    return Runtime(
        contexts=[out, *contexts],
        settings=settings,
        execution_options={"schema_translate_map": {"station": settings.db_schema}},
    )


def create_tables(engine: Engine, settings: Settings) -> None:
    """Make the board's table."""
    places = {"station": settings.db_schema}
    with engine.execution_options(schema_translate_map=places).begin() as connection:
        connection.execute(CreateTable(shown))
