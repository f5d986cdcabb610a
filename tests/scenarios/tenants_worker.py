"""A worker of `tenants`."""

from tenants import make_runtime

from boundary import Settings

broker = make_runtime(Settings()).worker()
