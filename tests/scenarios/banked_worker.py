"""The shop's worker where payments have a database of their own, told in the environment."""

from boundary import Settings
from tests.scenarios import app
from tests.scenarios.app import make_runtime

app.payments.database = "bank"

broker = make_runtime(Settings()).worker()
