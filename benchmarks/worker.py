"""The worker of the benchmarks: ``dramatiq benchmarks.worker`` runs contexts, saga and relay."""

import dramatiq

from benchmarks.workload import build_runtime
from boundary import Settings

broker = build_runtime(Settings()).worker()
dramatiq.set_broker(broker)
