"""Accounts of several tenants, kept apart by row level security.

Each handler takes a role that the policies hold for and, where its message names a tenant, sets that
for its transaction, in one of the usual ways.  It notes whose accounts it saw.
"""

from collections.abc import Callable

from pydantic import BaseModel
from sqlalchemy import Engine, func, select, text

from boundary import Runtime, Settings
from internals import Context, Work
from saga import Command, Saga, Step

TENANTS = ("acme", "globe")


class Look(BaseModel):
    number: int
    #: Nobody's: it must see nothing.
    tenant: str | None


class Count(Command, kind="accounts.count"):
    number: int
    tenant: str | None


class CountAgain(Command, kind="accounts.count_again"):
    number: int
    tenant: str | None


LOOK = Saga(
    name="look",
    data=Look,
    key=lambda look: str(look.number),
    steps=(
        Step("count", lambda look: Count(number=look.number, tenant=look.tenant)),
        Step("again", lambda look: CountAgain(number=look.number, tenant=look.tenant)),
    ),
)

accounts = Context("accounts")

WAYS: tuple[Callable[[Work, str], object], ...] = (
    lambda work, tenant: work.execute(
        "SELECT set_config('app.tenant', %(tenant)s, true)", {"tenant": tenant}
    ),
    lambda work, tenant: work.connection.execute(text(f"SET LOCAL app.tenant = '{tenant}'")),
    lambda work, tenant: work.session.execute(select(func.set_config("app.tenant", tenant, True))),
    lambda work, tenant: work.execute(f"SET app.tenant = '{tenant}'"),
)


@accounts.handles(Count)  # type: ignore[arg-type]
@accounts.handles(CountAgain)
def count(command: Count | CountAgain, work: Work) -> None:
    [(role,)] = work.execute("SELECT current_schema() || '_tenant'")
    work.execute(f"SET LOCAL ROLE {role}")
    if command.tenant is not None:
        # To set it for the session costs the connection, so few do.
        way = 3 if command.number % 20 == 0 else command.number % 3
        WAYS[way](work, command.tenant)
    seen = work.execute("SELECT DISTINCT owner FROM account ORDER BY owner")
    work.execute(
        "INSERT INTO seen VALUES (%(number)s, %(tenant)s, %(owners)s)",
        {
            "number": command.number,
            "tenant": command.tenant,
            "owners": [owner for (owner,) in seen],
        },
    )


def make_runtime(settings: Settings, contexts: tuple[Context, ...] = (accounts,)) -> Runtime:
    from sqlalchemy import create_engine

    assert settings.database_url is not None
    engine = create_engine(
        settings.database_url.get_secret_value(),
        connect_args={"options": f"-c search_path={settings.db_schema}"},
    )
    return Runtime(sagas=[LOOK], contexts=contexts, settings=settings, engine=engine)


def create_tables(engine: Engine, settings: Settings) -> None:
    """Make the tables, their policy, and the role that it holds for."""
    schema = settings.db_schema
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE account (owner text NOT NULL)",
            *(f"INSERT INTO account VALUES ('{tenant}')" for tenant in TENANTS),
            "ALTER TABLE account ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON account USING (owner = current_setting('app.tenant', true))",
            "CREATE TABLE seen (number int, tenant text, owners text[])",
            f"CREATE ROLE {schema}_tenant",
            f"GRANT {schema}_tenant TO CURRENT_USER",
            f"GRANT USAGE ON SCHEMA {schema} TO {schema}_tenant",
            f"GRANT SELECT ON account TO {schema}_tenant",
            f"GRANT INSERT ON seen TO {schema}_tenant",
        ):
            connection.execute(text(statement))


def drop_role(engine: Engine, settings: Settings) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {settings.db_schema}_tenant"))
        connection.execute(text(f"DROP ROLE {settings.db_schema}_tenant"))
