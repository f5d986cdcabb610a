"""The clinic on an engine of its host's that has a single connection, and little patience."""

from boundary import Settings
from tests.scenarios.clinic_sagas import make_runtime
from tests.scenarios.clinic_staff import make_engine

settings = Settings()
broker = make_runtime(
    settings, engine=make_engine(settings, pool_size=1, max_overflow=0, pool_timeout=1.0)
).worker()
