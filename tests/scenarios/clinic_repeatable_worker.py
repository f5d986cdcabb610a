"""The clinic on an engine of its host's, whose transactions fail where they would overwrite."""

from boundary import Settings
from tests.scenarios.clinic_sagas import make_runtime
from tests.scenarios.clinic_staff import make_engine

settings = Settings()
broker = make_runtime(
    settings, engine=make_engine(settings, isolation_level="REPEATABLE READ")
).worker()
