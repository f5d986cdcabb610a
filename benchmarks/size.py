"""Size: whether a database full of finished and waiting sagas is slower than an empty one.

    python -m benchmarks.size [--finished N] [--waiting N] [--sagas N] [--json]

The same sagas are run through one process's hops, without doorbells, in an empty database and then
in a full one, nothing else at work: sagas a second, the CPU of Python and of Postgres a saga, and how
long each of some takes that are run one by one.  A finished saga has seven messages with their
deliveries; a waiting one has a deadline that is not due.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence

import psycopg

from benchmarks.measuring import percentile, postgres_seconds
from benchmarks.peers.peer import database_url
from benchmarks.servers import own_schema
from benchmarks.workload import ORDER, Order, build_runtime
from boundary import Runtime
from internals.ids import uuid7

#: Messages of a finished saga: its start, three commands and their answers.
_MESSAGES = 7

_FINISHED = """
WITH n AS MATERIALIZED (SELECT gen_random_uuid() AS id FROM generate_series(1, %(count)s)),
sagas AS (
    INSERT INTO saga (id, name, version, key, status, direction, data, steps, course, consumed,
                      finished_at)
    SELECT id, 'order', 1, id::text, 'completed', 'forward',
           json_build_object('order_id', id, 'refused', false)::jsonb,
           '{"first": {"phase": "done", "generation": 1, "position": 2}}', '{}', 4, now()
    FROM n
), m AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, n.id AS saga_id
    FROM n CROSS JOIN generate_series(1, %(messages)s)
), sent AS (
    INSERT INTO outbox (id, kind, category, payload, saga_id, saga, causation_id, root_id,
                        recipient, awaits)
    SELECT id, 'first.do', 'command', json_build_object('order_id', saga_id)::jsonb, saga_id,
           'order', saga_id, id, 'first', '{saga.done}'
    FROM m
)
INSERT INTO inbox (message_id, consumer, saga_id, state, outcome, due_at, ring_at, done_at)
SELECT id, 'first', saga_id, 'done', 'handled', now(), now(), now() FROM m
"""

_WAITING = """
WITH n AS MATERIALIZED (SELECT gen_random_uuid() AS id FROM generate_series(1, %(count)s)),
sagas AS (
    INSERT INTO saga (id, name, version, status, direction, data, steps, course, consumed)
    SELECT id, 'order', 1, 'running', 'forward',
           json_build_object('order_id', id, 'refused', false)::jsonb,
           '{"first": {"phase": "commanded", "generation": 1}}', '{}', 1
    FROM n
), sent AS (
    INSERT INTO outbox (id, kind, category, payload, saga_id, saga, root_id, recipient, awaits)
    SELECT id, 'saga.timed_out', 'timeout', '{}', id, 'order', id, 'saga.order', '{}' FROM n
)
INSERT INTO inbox (message_id, consumer, saga_id, due_at, ring_at)
SELECT id, 'saga.order', id, now() + interval '30 days', now() + interval '30 days' FROM n
"""

#: Rows of one statement.
_PORTION = 50_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _parser().parse_args(arguments)
    with own_schema() as settings, psycopg.connect(database_url(settings), autocommit=True) as c:
        runtime = build_runtime(settings)
        try:
            _run(runtime, c, options.sagas // 4 or 1)  # so that statements are prepared
            empty = _run(runtime, c, options.sagas)
            _fill(c, _FINISHED, options.finished)
            _fill(c, _WAITING, options.waiting)
            c.execute("VACUUM (ANALYZE) saga, outbox, inbox")
            runtime.engine.dispose()
            _run(runtime, c, options.sagas // 4 or 1)
            full = _run(runtime, c, options.sagas)
        finally:
            runtime.close()
    found = {"finished": options.finished, "waiting": options.waiting, "empty": empty, "full": full}
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    for name, figures in (("empty", empty), ("full", full)):
        said = ", ".join(f"{figure} {value:,.3f}" for figure, value in figures.items())
        sys.stdout.write(f"{name}: {said}\n")


def _run(
    runtime: Runtime, connection: psycopg.Connection[tuple[object, ...]], count: int
) -> dict[str, float]:
    orders = [Order(order_id=uuid7()) for _ in range(count)]
    with runtime.engine.begin() as started:
        runtime.start_many(started, ORDER, orders)
    postgres, python = postgres_seconds(connection), time.thread_time()
    began = time.perf_counter()
    while sum(runtime.answer(consumer) for consumer in runtime._wiring.consumers):
        pass
    seconds = time.perf_counter() - began
    found = {
        "sagas_per_second": round(count / seconds, 1),
        "python_cpu_ms": round((time.thread_time() - python) / count * 1000, 3),
        "postgres_cpu_ms": round((postgres_seconds(connection) - postgres) / count * 1000, 3),
    }
    alone = [_one(runtime) for _ in range(max(1, count // 10))]
    return found | {
        f"p{share}_ms": round(percentile(alone, share / 100) * 1000, 2) for share in (50, 99)
    }


def _one(runtime: Runtime) -> float:
    """Run one saga; returns the seconds from before its start to its end."""
    began = time.perf_counter()
    with runtime.engine.begin() as started:
        runtime.start(started, ORDER, Order(order_id=uuid7()))
    runtime.answer("first", follow=True)
    return time.perf_counter() - began


def _fill(connection: psycopg.Connection[tuple[object, ...]], statement: str, count: int) -> None:
    for begin in range(0, count, _PORTION):
        portion = min(_PORTION, count - begin)
        connection.execute(statement.encode(), {"count": portion, "messages": _MESSAGES})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.size", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--finished", type=int, default=1_000_000, help="sagas that are over")
    parser.add_argument("--waiting", type=int, default=100_000, help="sagas that wait")
    parser.add_argument("--sagas", type=int, default=2000, help="sagas that are measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
