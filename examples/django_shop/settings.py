"""Settings of the shop: its own embedded servers, unless the environment names others."""

import os
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from boundary.django.embedded import embedded_servers

HERE = Path(__file__).resolve().parent

SECRET_KEY = "not a secret: this shop sells nothing"  # noqa: S105
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "examples.django_shop.urls"
STATIC_URL = "static/"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "boundary.django",
    "examples.django_shop.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

if "SHOP_DATABASE_URL" in os.environ:
    _url = make_url(os.environ["SHOP_DATABASE_URL"])
    _database: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.database,
        "USER": _url.username,
        "PASSWORD": _url.password,
        "HOST": _url.host,
        "PORT": _url.port,
        "CONN_MAX_AGE": 60,
        "OPTIONS": {"options": "-c search_path=public"},
    }
    _redis_url = os.environ["SHOP_REDIS_URL"]
else:
    _database, _redis_url = embedded_servers()

DATABASES = {"default": {**_database, "ATOMIC_REQUESTS": True}}
SAGA = {
    "REDIS_URL": _redis_url,
    "NAMESPACE": os.environ.get("SHOP_NAMESPACE", "shop"),
}

#: While this file is there, the till has a bug; removing it stands for deploying the fix.
SHOP_BUG = Path(os.environ.get("SHOP_BUG", HERE / "the-till-has-a-bug"))
