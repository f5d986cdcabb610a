"""The stock of the release before, and nothing else of it."""

from boundary import Settings
from tests.scenarios.app import make_runtime
from tests.scenarios.app import stock as goods

broker = make_runtime(Settings(), (goods,)).worker()
