"""Worker: what the processes of ``manage.py saga worker`` make their broker of."""

import django

from boundary.runtime import Runtime


def make() -> Runtime:
    """Set Django up as ``DJANGO_SETTINGS_MODULE`` says, and return the project's runtime."""
    django.setup()
    from boundary.django.project import runtime  # noqa: PLC0415 - only once Django is set up

    return runtime()
