"""Alembic migrations of the framework's own tables, in their own schema."""
