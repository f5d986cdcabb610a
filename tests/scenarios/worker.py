"""What `dramatiq tests.scenarios.worker:broker` runs: the whole shop, relay included."""

from boundary import Settings
from tests.scenarios.app import make_runtime

broker = make_runtime(Settings()).worker()
