"""The worker of `benchmarks.tricks`: ``dramatiq benchmarks.tricks_worker`` does without a trick, or with it."""

import os
from contextlib import ExitStack

import dramatiq

from benchmarks.known_tricks import TRICKS
from benchmarks.tricks import OFF, TRICK
from benchmarks.workload import build_runtime
from boundary import Settings

trick = TRICKS[os.environ[TRICK]]
# For as long as the process lives.
patches = ExitStack()
patches.enter_context(trick.under())
if os.environ.get(OFF):
    patches.enter_context(trick.off())

broker = build_runtime(Settings(), trick.sagas).worker()
dramatiq.set_broker(broker)
