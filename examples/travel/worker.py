"""The worker: ``dramatiq examples.travel.worker`` runs contexts, orchestrator and relay."""

import dramatiq

from examples.travel.app import build_runtime

broker = build_runtime().worker()
dramatiq.set_broker(broker)
