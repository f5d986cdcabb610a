"""The shop's worker where payments have a database of their own, told in the environment."""

import app
from app import make_runtime

from boundary import Settings

app.payments.database = "bank"

broker = make_runtime(Settings()).worker()
