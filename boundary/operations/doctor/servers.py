"""Servers: whether Postgres is there, new enough and set so that promises hold."""

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from boundary.operations.doctor.finding import Finding, Words, fine, wrong

#: Oldest Postgres that is supported.
_OLDEST_POSTGRES = 15
#: Seconds by which the clocks of this host and of Postgres may differ.
_MOST_SKEW = 2.0

_POSTGRES = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'),
    current_setting('fsync'), current_setting('synchronous_commit'), pg_is_in_recovery()
"""


def check_postgres(connection: Connection, where: str) -> Iterator[Finding]:
    """Look at the server's version, its role and whether a commit survives a crash."""
    major, version, fsync, synchronous, replica = connection.execute(text(_POSTGRES)).one()
    name = f"version {version.split()[0]} at {where}"
    if major < _OLDEST_POSTGRES:
        yield wrong("postgres", name, f"version {_OLDEST_POSTGRES} or newer is needed")
    elif replica:
        yield wrong("postgres", f"{name} is a read-only replica", "give the primary's URL")
    else:
        yield fine("postgres", name)
    if fsync != "on":
        yield wrong(
            "durability",
            "fsync is off: a crash loses messages",
            "set fsync = on in postgresql.conf",
        )
    elif synchronous == "off":
        yield wrong(
            "durability",
            "synchronous_commit is off: a crash loses the last commits",
            "set synchronous_commit = on for this database",
        )
    else:
        yield fine("durability", f"fsync on, synchronous_commit {synchronous}")


def check_clock(connection: Connection) -> Finding:
    """Compare this host's clock with Postgres', which is the one that decides what is due."""
    before = datetime.now(UTC)
    there = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    after = datetime.now(UTC)
    skew = (there - before - (after - before) / 2).total_seconds()
    if abs(skew) > _MOST_SKEW:
        which = "behind" if skew > 0 else "ahead of"
        found = f"this host is {abs(skew):.1f} s {which} Postgres"
        return wrong("clock", found, "let both take the time from NTP")
    return fine("clock", f"{abs(skew) * 1000:.0f} ms from Postgres")


def check_schema(connection: Connection, schema: str, words: Words) -> Finding:
    """Look whether the tables are those that this release works with."""
    # Alembic is slow to import, and no other command that reads needs it.
    from boundary.migration import revisions  # noqa: PLC0415

    current, head, known = revisions(connection, schema)
    migrate = f"run `{words.program} migrate`"
    if current == head:
        return fine("schema", f"{schema!r} is at {current}, the newest")
    if current is None:
        return wrong("schema", f"{schema!r} has no tables", migrate)
    if current not in known:
        found = f"{schema!r} is at {current}, which this release does not know"
        return wrong("schema", found, "install the release that migrated it")
    return wrong("schema", f"{schema!r} is at {current} and {head} is newer", migrate)
