"""The Django app: finds sagas and contexts, and declares the checks."""

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules

#: Modules of each app in which sagas and contexts are looked for.
MODULES = ("sagas", "contexts")


class SagaConfig(AppConfig):
    """``boundary.django``, under the label ``saga``."""

    name = "boundary.django"
    label = "saga"
    verbose_name = "Sagas"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from boundary.django import checks as checking  # noqa: PLC0415 - Django is ready by now
        from boundary.django import project  # noqa: PLC0415 - Django is ready by now

        checks.register(checking.check_settings)
        checks.register(checking.check_database)
        checks.register(checking.check_definitions)
        setting_changed.connect(project.forget, dispatch_uid="saga.forget")
        post_migrate.connect(project.subscribe, sender=self, dispatch_uid="saga.subscribe")
        autodiscover_modules(*MODULES)
