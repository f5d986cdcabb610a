"""A worker of `tenants`."""

from boundary import Settings
from tests.scenarios.tenants import make_runtime

broker = make_runtime(Settings()).worker()
