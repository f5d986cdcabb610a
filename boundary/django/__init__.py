"""Sagas in a Django project: ``INSTALLED_APPS += ["boundary.django"]``.

Sagas and contexts are found in each app's ``sagas.py`` and ``contexts.py``.  What is sent is
written on Django's own connection, in the `transaction.atomic()` that the caller is in.
"""

from boundary.django.api import cancel, publish, signal, start, start_many
from boundary.django.project import runtime

__all__ = [
    # In your own transaction
    "start",
    "start_many",
    "publish",
    "signal",
    "cancel",
    # The project's sagas and contexts, on its servers
    "runtime",
]
