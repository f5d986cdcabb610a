"""Doorbells: whether Redis answers, and lets them be rung, counted and heard."""

from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.exceptions import NoPermissionError

from boundary.doorbell.redis_clients import client
from boundary.operations.doctor.error_text import redis_problem, shown_url
from boundary.operations.doctor.finding import Finding, Words, fine, note, wrong

#: Oldest Redis that is supported.
_OLDEST_REDIS = 7
#: Seconds for which Redis is waited for beyond what a worker waits.
_PATIENCE = 4.5
#: Commands that doorbells need.
_NEEDED = "+rpush +ltrim +llen +linsert +blpop"

_SLOWER = "until then workers answer without doorbells, which costs Postgres 20 looks a second each"


def check_redis(
    url: str, namespace: str, consumers: Sequence[str], words: Words
) -> Iterator[Finding]:
    """Look whether doorbells can ring.  Work goes on without Redis, at the relay's pace.

    Args:
        url: Of the server.
        namespace: Prefix of the keys there; one is written and removed.
        consumers: Whose doorbells are looked at.
        words: For the ways out.
    """
    where = shown_url(url)
    try:
        with client(url, blocks=_PATIENCE) as connection:
            info, denied = _info(connection)
            yield _version(info, where, denied)
            if info.get("cluster_enabled") or info.get("redis_mode") == "cluster":
                yield note(
                    "cluster",
                    f"{where} is a node of a cluster: doorbells whose keys are on others do not ring",
                    "give a server of its own, or put the namespace in braces and give the node "
                    "that has it",
                )
            yield _writing(connection, namespace)
            yield from _lists(connection, namespace, consumers)
            if info:
                yield _eviction(info)
    except (redis.RedisError, OSError, ValueError) as error:
        found = f"{where} does not answer: {redis_problem(error)}"
        yield wrong("redis", found, f"see {words.redis}")


def _info(connection: redis.Redis) -> tuple[dict[str, Any], str | None]:
    """Return what the server says of itself, or why it does not."""
    try:
        return dict(connection.info()), None
    except NoPermissionError as error:
        return {}, redis_problem(error)


def _version(info: dict[str, Any], where: str, denied: str | None) -> Finding:
    if not info:
        found = f"{where} answers, and does not report its version: {denied}"
        return note("redis", found, "allow the user +info, to have version and memory checked")
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    name = f"{product} {version} at {where}"
    if int(version.split(".", maxsplit=1)[0]) < _OLDEST_REDIS:
        return wrong("redis", name, f"version {_OLDEST_REDIS} or newer is needed")
    return fine("redis", name)


def _writing(connection: redis.Redis, namespace: str) -> Finding:
    """Ring, count, hear and so remove a doorbell of nobody's."""
    key = f"{namespace}:doorbell:doctor"
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.rpush(key, b"")
        pipeline.ltrim(key, 0, 0)
        pipeline.llen(key)
        pipeline.linsert(key, "BEFORE", "nothing", "")
        pipeline.blpop([key], timeout=1)
        answers = pipeline.execute(raise_on_error=False)
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    if not refused:
        return fine("doorbells", f"rung and heard under {namespace}:doorbell:")
    if isinstance(answers[-1], Exception) and not isinstance(answers[0], Exception):
        connection.expire(key, 1)  # it could not be heard
    for error in refused:
        if isinstance(error, NoPermissionError):
            found = f"the user may not do what doorbells need: {redis_problem(error)}"
            remedy = f"allow it ~{namespace}:* {_NEEDED}; {_SLOWER}"
            return wrong("doorbells", found, remedy)
    found = f"Redis answers and refuses what is written: {redis_problem(refused[0])}"
    return wrong("doorbells", found, f"let it take writes again; {_SLOWER}")


def _lists(connection: redis.Redis, namespace: str, consumers: Sequence[str]) -> Iterator[Finding]:
    keys = [f"{namespace}:doorbell:{consumer}" for consumer in consumers]
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.llen(key)
        answers = pipeline.execute(raise_on_error=False) if keys else []
    others = [k for k, a in zip(keys, answers, strict=True) if "WRONGTYPE" in str(a)]
    if others:
        found = f"no lists of doorbells: {', '.join(others)}"
        yield wrong(
            "keys", found, "somebody else wrote them: delete them, or use a namespace of your own"
        )


def _eviction(info: dict[str, Any]) -> Finding:
    policy = info.get("maxmemory_policy", "unknown")
    if info.get("maxmemory") and policy != "noeviction":
        found = f"keys are dropped when memory is full ({policy}): doorbells then come late"
        return note("eviction", found, "set maxmemory-policy noeviction")
    return fine("eviction", f"maxmemory-policy {policy}")
