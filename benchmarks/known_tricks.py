"""Known tricks: what is there for speed alone, and how a benchmark does without each."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from benchmarks.switches import (
    HOT,
    Switch,
    always_careful,
    any_batch,
    each_thread_answers,
    forgotten_statements,
    hot_rows,
    many_doorbells,
    no_chaining,
    no_second_look,
    one_after_another,
    plain_savepoints,
    setting,
    stock_broker,
    through_sqlalchemy,
    together,
)
from benchmarks.workload import ORDER, PATIENT_ORDER, REORDER, Order
from saga import Saga


@dataclass(frozen=True, slots=True)
class Trick:
    """Something that is there for speed alone."""

    #: What it saves, in a line.
    what: str
    #: Where it is.
    where: str
    #: Does without it.
    off: Switch
    #: What is the same with it and without: the load that it is for.
    load: str = ""
    under: Switch = nullcontext
    sagas: Sequence[Saga[Order]] = (ORDER,)
    #: Whether the third step refuses.
    refused: bool = False


TRICKS: Mapping[str, Trick] = {
    "batches": Trick(
        "up to 64 deliveries in a transaction",
        "internals/hop",
        setting("SAGA_BATCH", "1"),
    ),
    "no savepoint": Trick(
        "a batch has none until a handler raises",
        "internals/hop/batched_run.py, undone_runs.py",
        always_careful,
    ),
    "chained savepoints": Trick(
        "a handler's savepoint releases the last one's, in one round trip",
        "internals/database/unit_of_work.py",
        plain_savepoints,
        load="each handler has a savepoint",
        under=always_careful,
    ),
    "kept statements": Trick(
        "savepoints go past psycopg's cursor, which forgets what is prepared when it sees a rollback",
        "internals/database/driver.py",
        forgotten_statements,
        load="each handler has a savepoint, and the third step of each saga refuses",
        under=always_careful,
        refused=True,
    ),
    "batch lock": Trick(
        "one batch of a context at a time",
        "internals/store/sql/hop.py, internals/hop/__init__.py",
        any_batch,
    ),
    "batch lock, hot rows": Trick(
        "one batch of a context at a time",
        "internals/store/sql/hop.py, internals/hop/__init__.py",
        any_batch,
        load=f"handlers update {HOT} rows of a context",
        under=hot_rows,
    ),
    "coalescing": Trick(
        "one thread of a process answers a consumer",
        "internals/hop/coalescing.py",
        each_thread_answers,
    ),
    "coalescing and batch lock": Trick(
        "both",
        "as above",
        together(each_thread_answers, any_batch),
    ),
    "colocation": Trick(
        "a saga consumes what is sent to it in the sender's transaction",
        "internals/hop/colocation.py, batch_writer.py, boundary/orchestration/orchestrator.py",
        setting("SAGA_COLOCATE", "off"),
    ),
    "second look, two sagas": Trick(
        "other sagas that got something consume it in the sender's transaction too",
        "internals/hop/__init__.py",
        no_second_look,
        load="two kinds of sagas share the contexts",
        sagas=(ORDER, REORDER),
    ),
    "second look, settled": Trick(
        "a saga consumes the end of all that follows from a step in the last one's transaction",
        "internals/hop/__init__.py",
        no_second_look,
        load="steps that end when all is settled",
        sagas=(PATIENT_ORDER,),
    ),
    "chaining": Trick(
        "a thread follows what it sent to the next consumer of its process without a doorbell",
        "boundary/runtime/worker_loop.py",
        no_chaining,
    ),
    "colocation and chaining": Trick(
        "both",
        "as above",
        together(setting("SAGA_COLOCATE", "off"), no_chaining),
    ),
    "one statement": Trick(
        "a hop settles, saves and sends in one statement",
        "internals/store/sql/hop.py",
        one_after_another,
    ),
    "driver's cursor": Trick(
        "the framework's statements go past SQLAlchemy",
        "internals/database/unit_of_work.py",
        through_sqlalchemy,
    ),
    "prepared statements": Trick(
        "Postgres plans a hop's statements once (a pooler may need it off)",
        "internals/database/engines.py",
        setting("SAGA_PREPARED_STATEMENTS", "off"),
    ),
    "own broker": Trick(
        "consumers of doorbells wait in a blocking pop",
        "boundary/doorbell/redis_broker.py, listener.py",
        stock_broker,
    ),
    "few doorbells": Trick(
        "no more than eight doorbells wait for a consumer",
        "boundary/doorbell/redis_broker.py",
        many_doorbells,
    ),
}
