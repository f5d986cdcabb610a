"""What `dramatiq tests.scenarios.clinic_worker:broker` runs: the clinic, or the part of it that a test names."""

import os

from boundary import Settings
from tests.scenarios.clinic import CONTEXTS
from tests.scenarios.clinic_sagas import make_runtime

#: Names of contexts; what is sent to the others waits.
served = os.environ.get("CLINIC_SERVES", "").split()

broker = make_runtime(
    Settings(), tuple(c for c in CONTEXTS if not served or c.name in served)
).worker()
