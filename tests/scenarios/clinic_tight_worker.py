"""The clinic on an engine of its host's that has a single connection, and little patience."""

from clinic_sagas import make_runtime
from clinic_staff import make_engine

from boundary import Settings

settings = Settings()
broker = make_runtime(
    settings, engine=make_engine(settings, pool_size=1, max_overflow=0, pool_timeout=1.0)
).worker()
