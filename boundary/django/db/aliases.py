"""Aliases: which aliases of ``DATABASES`` are ways to one database."""

from django.db import connections

_PLACE = ("HOST", "PORT", "NAME")


def same_place(one: str, other: str) -> bool:
    """Whether two aliases are ways to one database."""

    def place(alias: str) -> list[str]:
        return [str(connections[alias].settings_dict[part]) for part in _PLACE]

    return one == other or (one in connections and place(one) == place(other))
