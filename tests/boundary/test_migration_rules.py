"""Rules for migrations: a worker of the previous release works on the new schema.

They hold for every migration after the initial one, which made the tables when they were empty.
"""

import ast
from pathlib import Path

import pytest

MIGRATIONS = Path(__file__).parents[2] / "migrations"
INITIAL = "0001_message_store.py"

#: What the code of the previous release may still read or write.
CONTRACTING = {"drop_table", "drop_column", "rename_table"}

#: Files of migrations that drop only what the previous release no longer used.
REVIEWED: frozenset[str] = frozenset()


def violations(source: str) -> list[str]:
    """Return what `upgrade` does that would break or block workers of the previous release."""
    found = []
    module = ast.parse(source)
    atomic = "atomic = False" not in [ast.unparse(statement) for statement in module.body]
    for function in module.body:
        if not isinstance(function, ast.FunctionDef) or function.name != "upgrade":
            continue
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            if atomic and ast.unparse(call.func).endswith("create_index_concurrently"):
                found.append("create_index_concurrently needs atomic = False")
            if not isinstance(call.func, ast.Attribute):
                continue
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            name = call.func.attr
            if name in CONTRACTING or "new_column_name" in given:
                found.append(f"{name} contracts")
            if name == "create_index":  # an invalid one of a deploy that was killed would stay
                found.append("create_index: use create_index_concurrently")
            if name == "add_column":
                column = ast.unparse(call)
                if "nullable=False" in column and "server_default" not in column:
                    found.append("add_column needs a default")
    return found


def test_there_is_one_base_and_one_head() -> None:
    chain = {}
    for path in (MIGRATIONS / "versions").glob("*.py"):
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in ("revision", "down_revision")
        }
        chain[values["revision"]] = values["down_revision"]
    assert [at for at, follows in chain.items() if follows is None] == ["0001"]
    assert len(set(chain) - set(chain.values())) == 1
    assert len(set(chain.values())) == len(chain), "two migrations follow the same one"


def test_later_migrations_only_expand_unless_reviewed() -> None:
    exempt = REVIEWED | {INITIAL}
    later = [p for p in (MIGRATIONS / "versions").glob("*.py") if p.name not in exempt]
    assert {p.name: found for p in later if (found := violations(p.read_text()))} == {}


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ('op.drop_column("inbox", "rings")', ["drop_column contracts"]),
        ('op.alter_column("inbox", "n", new_column_name="m")', ["alter_column contracts"]),
        (
            'op.create_index("i", "outbox", ["kind"], postgresql_concurrently=True)',
            ["create_index: use create_index_concurrently"],
        ),
        (
            'create_index_concurrently("i", "outbox", ["kind"])',
            ["create_index_concurrently needs atomic = False"],
        ),
        (
            'op.add_column("inbox", sa.Column("n", sa.Integer, nullable=False))',
            ["add_column needs a default"],
        ),
        ('op.add_column("inbox", sa.Column("n", sa.Integer))', []),
    ],
)
def test_the_rules_see_a_violation(statement: str, found: list[str]) -> None:
    assert violations(f"def upgrade():\n    {statement}\n") == found
    assert violations(f"def downgrade():\n    {statement}\n") == []


def test_an_index_is_made_outside_a_transaction() -> None:
    call = 'create_index_concurrently("i", "outbox", ["kind"])'
    assert violations(f"atomic = False\ndef upgrade():\n    {call}\n") == []
