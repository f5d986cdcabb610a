"""The app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The shop."""

    name = "examples.django_shop.shop"
    default_auto_field = "django.db.models.BigAutoField"
