"""The worker of `benchmarks.ordered`: ``dramatiq benchmarks.ordered_worker``."""

import dramatiq

from benchmarks.ordered import build_runtime
from boundary import Settings

broker = build_runtime(Settings()).worker()
dramatiq.set_broker(broker)
