"""The stock of the release before, and nothing else of it."""

from app import make_runtime
from app import stock as goods

from boundary import Settings

broker = make_runtime(Settings(), (goods,)).worker()
