"""The clinic on an engine of its host's, whose transactions fail where they would overwrite."""

from clinic_sagas import make_runtime
from clinic_staff import make_engine

from boundary import Settings

settings = Settings()
broker = make_runtime(
    settings, engine=make_engine(settings, isolation_level="REPEATABLE READ")
).worker()
